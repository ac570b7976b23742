"""`fastnn randomness`: statistical tests of the masks of dropout and of the bits behind them.

Philox4x32-10 has passed far harder ones (Salmon et al. 2011, TestU01); these are to show that fastnn's numbering of its
bits - which half of which word of which block an element gets - has left it so. Every statistic has a known
distribution for a perfect generator, and is turned into a standard normal z. With S = sum (b_i - q) (b_j - q) over n
pairs of elements at some distance, S / (sqrt(n) q (1 - q)) is one.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from fastnn.generator import keep_probability

Mask = npt.NDArray[np.bool_]

DRAWS = 10**8
COLUMNS = 10_000  # masks are looked at as matrices of so many columns
_ROWS = 1000  # of them at a time
RATES = (0.1, 0.5, 0.9)
ALONG_ROWS, ALONG_COLUMNS = (1, 2, 3, 4, 7, 8, 9, 16, 64, 512), (1, 2, 8)
FALSE_ALARM = 1e-4  # the probability that a perfect generator fails any of the tests


@dataclass(frozen=True, slots=True)
class Outcome:
    """One test: what was counted, and how many standard deviations it is from what was expected."""

    name: str
    p: float | None
    count: float
    expected: float
    z: float

    def sentence(self, limit: float) -> str:
        """The outcome in words."""
        what = self.name if self.p is None else f"p = {self.p:g}: {self.name}"
        verdict = "as random" if abs(self.z) <= limit else f"NOT RANDOM: beyond {limit:.1f} standard deviations"
        return (
            f"{what}: {self.count:,.0f}, expected {self.expected:,.0f} ({self.z:+.2f} standard deviations), {verdict}"
        )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("--draws", type=int, default=DRAWS, help=f"16-bit numbers for each test (default {DRAWS:,})")
    parser.add_argument("--seed", type=int, default=1, help="seed of the stream that is tested (default 1)")
    parser.add_argument("--offset", type=int, default=0, help="its offset (default 0)")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the outcomes as JSON")


def main(args: argparse.Namespace) -> int:
    """Run the command; the exit status is 1 if a test fails."""
    if args.draws < COLUMNS * max(ALONG_COLUMNS) * 10:
        raise ValueError(f"draws is {args.draws}; expected at least {COLUMNS * max(ALONG_COLUMNS) * 10}")
    outcomes: list[Outcome] = []
    limit = bound(tests_of(RATES))
    for outcome in run(args.draws, args.seed, args.offset):
        outcomes.append(outcome)
        print(outcome.sentence(limit), flush=True)
    failed = [outcome for outcome in outcomes if abs(outcome.z) > limit]
    worst = max(outcomes, key=lambda outcome: abs(outcome.z))
    if failed:
        print(f"{len(failed)} of {len(outcomes)} tests failed: this generator is not random.")
    else:
        print(
            f"All {len(outcomes)} tests passed; the largest deviation is {worst.z:+.2f}. "
            f"A perfect generator fails one in {1 / FALSE_ALARM:,.0f} such runs."
        )
    if args.json is not None:
        save(args.json, args, outcomes, limit)
    return 1 if failed else 0


def save(path: Path, args: argparse.Namespace, outcomes: Iterable[Outcome], limit: float) -> None:
    """Write the outcomes as JSON."""
    from fastnn import __version__, backend

    header: dict[str, Any] = {
        "fastnn": __version__,
        "backend": backend(),
        "generator": "philox4x32-10",
        "draws": args.draws,
        "seed": args.seed,
        "offset": args.offset,
        "limit": round(limit, 4),
    }
    records = [
        {**asdict(outcome), "z": round(outcome.z, 4), "expected": round(outcome.expected, 2)} for outcome in outcomes
    ]
    lines = ",\n".join("  " + json.dumps(record) for record in records)
    path.write_text(f'{{"header": {json.dumps(header)},\n "tests": [\n{lines}\n]}}\n', encoding="utf-8")


def tests_of(rates: Iterable[float]) -> int:
    """How many outcomes `run` has."""
    return 2 + len(list(rates)) * (1 + len(ALONG_ROWS) + len(ALONG_COLUMNS) + 2 + 2)


def bound(tests: int) -> float:
    """The largest |z| of so many tests that is no alarm."""
    return NormalDist().inv_cdf(1 - FALSE_ALARM / (2 * tests))


def run(draws: int, seed: int, offset: int) -> Iterator[Outcome]:
    """All tests, on `draws` draws each, rounded down to whole rows."""
    rows = draws // COLUMNS
    yield from bits(rows, seed, offset)
    for p in RATES:
        yield from masks(rows, p, seed, offset)


def bits(rows: int, seed: int, offset: int) -> Iterator[Outcome]:
    """Are the 16-bit numbers, and pairs of their upper bytes, evenly distributed?"""
    fastnn = _fastnn()
    singles, pairs = np.zeros(1 << 16, np.int64), np.zeros(1 << 16, np.int64)
    for first, count in _pieces(rows):
        words = fastnn.philox(count * COLUMNS // 8, seed=seed, offset=offset, first=first * COLUMNS // 8)
        halves = words.view("<u2").ravel()
        singles += np.bincount(halves, minlength=singles.size)
        upper = (halves >> 8).reshape(-1, 2).astype(np.int64)
        pairs += np.bincount(upper[:, 0] << 8 | upper[:, 1], minlength=pairs.size)
    for name, counts in (("chi-square of the 16-bit numbers", singles), ("chi-square of pairs of upper bytes", pairs)):
        yield _chi_square(name, None, counts, np.full(counts.size, counts.sum() / counts.size))


def masks(rows: int, p: float, seed: int, offset: int) -> Iterator[Outcome]:
    """Rate, independence along rows and columns and between streams, runs."""
    q = keep_probability(p)
    kept, runs, lengths = 0, 0, np.zeros(0, np.int64)
    distances = [(0, lag) for lag in ALONG_ROWS] + [(lag, 0) for lag in ALONG_COLUMNS]
    pairs = dict.fromkeys(distances, Pairs())
    streams = {"offset + 1": Pairs(), "seed + 1": Pairs()}
    changes = 0
    for first, count in _pieces(rows):
        mask = _mask(first, count, p, seed, offset)
        kept += int(np.count_nonzero(mask))
        for down, right in distances:
            pairs[down, right] += Pairs.of(mask[down:, right:], mask[: count - down, : COLUMNS - right])
        streams["offset + 1"] += Pairs.of(mask, _mask(first, count, p, seed, (offset + 1) % 2**64))
        streams["seed + 1"] += Pairs.of(mask, _mask(first, count, p, (seed + 1) % 2**64, offset))
        flat = mask.ravel()
        ends = np.flatnonzero(flat[1:] != flat[:-1])
        runs, changes = runs + ends.size, changes + flat.size - 1
        whole = np.diff(ends)[int(flat[ends[0] + 1]) ^ 1 :: 2]  # runs of kept elements that lie within the piece
        found = np.bincount(whole)
        lengths = np.pad(lengths, (0, max(0, found.size - lengths.size)))
        lengths[: found.size] += found
    n = rows * COLUMNS
    yield Outcome("kept", p, kept, n * q, (kept - n * q) / math.sqrt(n * q * (1 - q)))
    for (down, right), total in pairs.items():
        name = f"kept together, {right} apart in a row" if right else f"kept together, {down} apart in a column"
        yield total.outcome(name, p, q)
    for name, total in streams.items():
        yield total.outcome(f"kept together in the streams of seed and offset and of {name}", p, q)
    # A change has probability 2 q (1 - q); neighbouring ones are correlated: Var = n c (1 - c) + 2 n (c / 2 - c^2).
    change = 2 * q * (1 - q)
    spread = change * (1 - change) + 2 * (change / 2 - change * change)
    yield Outcome("changes", p, runs, changes * change, (runs - changes * change) / math.sqrt(changes * spread))
    yield _run_lengths(lengths, p, q)


@dataclass(frozen=True, slots=True)
class Pairs:
    """Pairs of elements at some distance: how many, both kept, and kept on either side."""

    n: int = 0
    both: int = 0
    either: int = 0

    @staticmethod
    def of(a: Mask, b: Mask) -> Pairs:
        return Pairs(a.size, int(np.count_nonzero(a & b)), int(np.count_nonzero(a)) + int(np.count_nonzero(b)))

    def __add__(self, other: Pairs) -> Pairs:
        return Pairs(self.n + other.n, self.both + other.both, self.either + other.either)

    def outcome(self, name: str, p: float, q: float) -> Outcome:
        """Are they kept independently of each other, whatever the rate?"""
        expected = q * self.either - self.n * q * q
        return Outcome(name, p, self.both, expected, (self.both - expected) / (math.sqrt(self.n) * q * (1 - q)))


def _run_lengths(lengths: npt.NDArray[np.int64], p: float, q: float) -> Outcome:
    """Chi-square of the lengths of runs of kept elements, which are geometric; long ones are counted together."""
    total = int(lengths.sum())
    last = max(2, int(math.log(50 / total) / math.log(q)))
    expected = total * q ** np.arange(last) * (1 - q)
    counts = np.pad(lengths[1:], (0, max(0, last - lengths.size + 1)))
    expected[-1], tail = total * q ** (last - 1), int(counts[last - 1 :].sum())
    return _chi_square("chi-square of the lengths of runs", p, np.append(counts[: last - 1], tail), expected)


def _chi_square(name: str, p: float | None, counts: Any, expected: Any) -> Outcome:
    """Normal by the cube root of Wilson and Hilferty."""
    freedom = counts.size - 1
    statistic = float(((counts - expected) ** 2 / expected).sum())
    part = 2 / (9 * freedom)
    return Outcome(name, p, statistic, freedom, ((statistic / freedom) ** (1 / 3) - (1 - part)) / math.sqrt(part))


def _pieces(rows: int) -> Iterator[tuple[int, int]]:
    """(first row, how many) of pieces that fit the memory."""
    for first in range(0, rows, _ROWS):
        yield first, min(_ROWS, rows - first)


def _mask(first: int, count: int, p: float, seed: int, offset: int) -> Mask:
    mask: Mask = _fastnn().dropout_mask((count, COLUMNS), p, seed=seed, offset=offset, start=first * COLUMNS)
    return mask


def _fastnn() -> Any:
    return sys.modules["fastnn"]
