"""Claim C1: "on a CPU, for one array of about a million elements, ReLU is about 3 times faster than sigmoid".

Every library is measured in both functions, side by side, beside a plain copy of the array, which no function that
reads one array and writes another can beat. All sentences are made from the figures of the run.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from ..problems.activations import Case, Pool
from ..problems.base import Array
from ..rivals.base import Rival
from ..timing import Run, Task, Timing, measure

SIZE = 1_000_000
FLOOR = "np.copyto"
TEXTBOOK = "numpy, textbook"
RELU, SIGMOID = "relu", "sigmoid"
LECTURE = 3.0
ABOUT = (2.0, 4.5)  # what passes for "about 3 times"
SLOW = 1.5  # times a copy: a ReLU that takes longer is a slow one
GONE = 1.25  # a difference below this is not worth choosing an activation for


def textbook(x: Array) -> dict[str, Run]:
    """What the lecture's reader would type: a new array for every step."""
    return {RELU: lambda: np.maximum(x, 0), SIGMOID: lambda: 1 / (1 + np.exp(-x))}


def tasks(contenders: Iterable[Rival], pool: Pool) -> dict[tuple[str, str], Task]:
    """Everything to be timed, by library and function, the floor first."""
    cases = {name: Case(name, "forward", pool.dtype, pool.size) for name in (RELU, SIGMOID)}
    made: dict[tuple[str, str], Task] = {(FLOOR, FLOOR): Task(lambda: np.copyto(pool.out, pool.x))}
    for name, call in textbook(pool.x).items():
        made[TEXTBOOK, name] = Task(call)
    for rival in contenders:
        for name, case in cases.items():
            task = rival.task(case, pool.buffers(case))
            if task is not None:
                made[rival.label, name] = task
    return made


def run(contenders: Iterable[Rival], *, size: int = SIZE, budget: float = 10.0, settle: bool = False) -> dict[str, Any]:
    by = measure(tasks(contenders, Pool("float32", size)), budget=budget, settle=settle)
    floor = by.pop((FLOOR, FLOOR))
    libraries = [who for who, what in by if what == SIGMOID]
    result = {"size": size, "floor": floor.as_dict(), "rows": [_row(who, by) for who in libraries]}
    return result | {"verdict": verdict(result)}


def _row(who: str, by: Mapping[tuple[str, str], Timing]) -> dict[str, Any]:
    sigmoid = by[who, SIGMOID]
    # SciPy has no ReLU of its own: its users take NumPy's
    own = (who, RELU) in by
    relu = by[who, RELU] if own else by["numpy", RELU] if ("numpy", RELU) in by else by[TEXTBOOK, RELU]
    return {
        "library": who,
        "relu": relu.as_dict(),
        "sigmoid": sigmoid.as_dict(),
        "relu_is_numpys": not own,
        "ratio": sigmoid.median / relu.median,
    }


def _names(rows: list[dict[str, Any]]) -> str:
    parts = [f"{row['library']} ({row['ratio']:.1f})" for row in sorted(rows, key=lambda row: -row["ratio"])]
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]


def verdict(result: dict[str, Any]) -> list[str]:
    """Plain sentences: does the lecture's factor hold, for whom, and what is left of it when exp is done well."""
    rows, floor = result["rows"], result["floor"]["median_s"]
    low, high = ABOUT
    groups = {
        "more": [row for row in rows if row["ratio"] > high],
        "about": [row for row in rows if low <= row["ratio"] <= high],
        "less": [row for row in rows if GONE <= row["ratio"] < low],
        "gone": [row for row in rows if row["ratio"] < GONE],
    }
    book = next(row for row in rows if row["library"] == TEXTBOOK)
    if low <= book["ratio"] <= high:
        answer = "holds on this machine"
    elif book["ratio"] > high:
        answer = "understates the difference on this machine"
    else:
        answer = "does not hold on this machine"
    said = [
        f'The lecture\'s "ReLU is about {LECTURE:g} times faster than sigmoid" {answer} for textbook NumPy: '
        f"sigmoid takes {book['ratio']:.1f} times as long as ReLU "
        f"({1e6 * book['sigmoid']['median_s']:,.0f} against {1e6 * book['relu']['median_s']:,.0f} microseconds)."
    ]
    quickest = min(rows, key=lambda row: float(row["relu"]["median_s"]))
    if quickest is not book and book["relu"]["median_s"] > SLOW * floor:
        said.append(
            f"That ReLU is itself no fast one, it takes {book['relu']['median_s'] / floor:.1f} times as long as a copy "
            f"of the array: beside the quickest ReLU measured, that of {quickest['library']}, textbook sigmoid takes "
            f"{book['sigmoid']['median_s'] / quickest['relu']['median_s']:.1f} times as long."
        )
    if groups["about"]:
        said.append(f"About {LECTURE:g} times ({low:g} to {high:g}) is what one finds with {_names(groups['about'])}.")
    if groups["more"]:
        said.append(f"The difference is larger with {_names(groups['more'])}.")
    if groups["less"]:
        said.append(f"It is smaller with {_names(groups['less'])}.")
    lame = [row for row in groups["gone"] if row["relu"]["median_s"] > SLOW * floor]
    fine = [row for row in groups["gone"] if row not in lame]
    if fine:
        said.append(f"It has all but gone with {_names(fine)}.")
    if lame:
        said.append(f"There is none with {_names(lame)}, but only because ReLU is slow there too.")
    return said + _when_exp_is_done_well(rows, floor)


def _when_exp_is_done_well(rows: list[dict[str, Any]], floor: float) -> list[str]:
    best = min(rows, key=lambda row: float(row["sigmoid"]["median_s"]))
    book = next(row for row in rows if row["library"] == TEXTBOOK)
    if best is book:
        return ["No library here computes sigmoid faster than textbook NumPy does."]
    sigmoid, relu = best["sigmoid"]["median_s"], best["relu"]["median_s"]
    gain = book["sigmoid"]["median_s"] / sigmoid
    said = [
        f"When exp is done well, here by {best['library']}, sigmoid takes {1e6 * sigmoid:,.0f} microseconds, "
        f"{gain:.1f} times less than textbook NumPy and {sigmoid / relu:.1f} times its own ReLU. "
        f"Copying the array takes {1e6 * floor:,.0f}, so {1e6 * max(sigmoid - floor, 0):,.0f} microseconds "
        f"({max(1 - floor / sigmoid, 0):.0%} of sigmoid) are arithmetic that memory traffic does not hide."
    ]
    if relu <= SLOW * floor:
        said.append(
            f"Its ReLU runs at {floor / relu:.0%} of the speed of that copy: ReLU's lead is that of moving memory over "
            "computing exp, and no faster ReLU can widen it."
        )
    return said
