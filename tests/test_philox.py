"""Philox4x32-10: the vectors of its authors, and the same numbers from everything that draws them."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from layouts import num_threads
from loop_runs import HOST, TESTS, Unavailable, build
from nvrtc import PACKAGES, Nvrtc, find
from rows import RUNS, using

import fastnn as fnn
from fastnn import cli, generator, randomness

ONES = 2**64 - 1
# Counter, key and result of https://github.com/DEShawResearch/random123, tests/kat_vectors: zeros, ones, digits of pi.
KNOWN = {
    "zeros": (0, 0, 0, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    "ones": (ONES, ONES, ONES, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    "pi": (
        0x85A308D3_243F6A88,
        0x03707344_13198A2E,
        0x299F31D0_A4093822,
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
}
every_run = pytest.mark.parametrize("run", RUNS)


@every_run
@pytest.mark.parametrize("known", KNOWN)
def test_known_answers(run: str, known: str) -> None:
    first, offset, seed, words = KNOWN[known]
    with using(run):
        assert tuple(fnn.philox(1, seed=seed, offset=offset, first=first)[0].tolist()) == words


@every_run
def test_any_number_of_blocks_from_anywhere(run: str) -> None:
    """Whole vectors and less, several at a time, and where a number's low word overflows into the high one."""
    with using(run):
        for first in (0, 5, 2**32 - 70, 2**32 - 3, 2**40 - 33, 2**64 - 100):
            for blocks in (0, 1, 2, 3, 7, 8, 9, 31, 32, 33, 63, 64, 65, 130):
                words = fnn.philox(blocks, seed=3, offset=ONES, first=first)
                assert words.shape == (blocks, 4) and words.dtype == np.uint32
                np.testing.assert_array_equal(words, generator.blocks(first, blocks, 3, ONES))


def scalar(number: int, seed: int, offset: int) -> list[int]:
    """The authors' description, one block at a time, in Python's integers."""
    c, k = [number % 2**32, number >> 32, offset % 2**32, offset >> 32], [seed % 2**32, seed >> 32]
    for _ in range(10):
        p, q = c[0] * 0xD2511F53, c[2] * 0xCD9E8D57
        c = [(q >> 32) ^ c[1] ^ k[0], q % 2**32, (p >> 32) ^ c[3] ^ k[1], p % 2**32]
        k = [(k[0] + 0x9E3779B9) % 2**32, (k[1] + 0xBB67AE85) % 2**32]
    return c


def test_generator_is_what_its_authors_describe() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        number, seed, offset = (int(word) for word in rng.integers(0, 2**64, 3, np.uint64))
        assert generator.blocks(number, 1, seed, offset)[0].tolist() == scalar(number, seed, offset)


def test_halves_are_the_words_in_memory() -> None:
    words = fnn.philox(20, seed=1, offset=2)
    halves = words.astype("<u4").view("<u2").ravel()
    for first in range(20):
        np.testing.assert_array_equal(generator.halves(first, 100, 1, 2), halves[first : first + 100])


@every_run
def test_threads_draw_the_same(run: str) -> None:
    with using(run):
        expected = fnn.philox(300_000, seed=9)
        for threads in (1, 2, 3):
            with num_threads(threads):
                np.testing.assert_array_equal(fnn.philox(300_000, seed=9), expected)
                mask = fnn.dropout_mask(1_000_003, 0.25, seed=9)
                np.testing.assert_array_equal(mask, expected.view("<u2").ravel()[: mask.size] >= 2**14)


@pytest.mark.parametrize("isa", ["scalar", "v2", "v3", "v4", "neon"])
def test_runs_of_elements(isa: str, tmp_path: Path) -> None:
    """What other kernels fuse: runs of every length from any element on, in ranges that begin where they are wanted."""
    if isa in HOST and isa not in ("scalar", "neon", *RUNS):
        pytest.skip(f"this CPU cannot run {isa}")
    try:
        command = build(isa, tmp_path, [TESTS / "neon/philox.cpp"])
    except Unavailable as reason:
        pytest.skip(str(reason))
    rng = np.random.default_rng(1)
    lengths = [*range(1, 140), 511, 512, 513, 575, 576, 577, 1023, 1024, 1500, 5000]
    requests = [
        (
            *(int(word) for word in rng.integers(0, 2**64, 2, np.uint64)),
            int(rng.integers(2**36)),
            n,
            int(rng.integers(64)),
        )
        for n in lengths
    ]
    requests += [(1, 2, 2**35 - first, 700, head) for first in (1, 8, 13, 300) for head in (0, 3)]
    text = "\n".join(" ".join(map(str, request)) for request in requests)
    drawn = subprocess.run(command, input=text.encode(), capture_output=True, check=True).stdout
    expected = [generator.halves(first, n, seed, offset) for seed, offset, first, n, _ in requests]
    np.testing.assert_array_equal(np.frombuffer(drawn, "<u2"), np.concatenate(expected))


def test_compiles_as_device_code() -> None:
    path = find()
    if path is None:
        pytest.skip(f"needs {PACKAGES[0]} (pip install {PACKAGES[0]})")
    compiler = Nvrtc(path)
    options = [
        f"--gpu-architecture=sm_{compiler.architectures()[-1]}",
        f"--include-path={TESTS.parent}/kernels/include",
    ]
    ptx, log, _ = compiler.compile((TESTS / "cuda/philox_probe.cu").read_text(), [*options, "--std=c++17"], [])
    assert "warning" not in log
    # Two products in each of ten rounds; nothing is kept in memory or computed in 64 bits.
    assert ptx.count("mul.hi.u32") == 20 and ptx.count("mul.lo.s64") == 0 and ".local" not in ptx


# ---- statistical tests ----


def test_randomness_command(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    written = tmp_path / "outcome.json"
    assert cli.main(["randomness", "--draws", "1000000", "--seed", "5", "--json", str(written)]) == 0
    lines = capsys.readouterr().out.splitlines()
    count = randomness.tests_of(randomness.RATES)
    assert len(lines) == count + 1 and lines[-1].startswith(f"All {count} tests passed")
    assert len(json.loads(written.read_text())["tests"]) == count
    assert cli.main(["randomness", "--draws", "5"]) == 2
    assert "draws is 5" in capsys.readouterr().err


FLAWS = {
    "rate": lambda mask: mask | (np.arange(mask.size).reshape(mask.shape) % 100 == 0),
    "neighbours": lambda mask: np.where(np.arange(mask.shape[1]) % 8 == 7, np.roll(mask, 1, axis=1), mask),
    "columns": lambda mask: np.where(np.arange(len(mask))[:, None] % 20 == 0, np.roll(mask, 1, axis=0), mask),
    "runs": lambda mask: np.sort(mask.reshape(-1, 2), axis=1).reshape(mask.shape),
}


@pytest.mark.parametrize("flaw", FLAWS)
def test_flaws_are_found(flaw: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    perfect = randomness._mask
    monkeypatch.setattr(randomness, "_mask", lambda *args: FLAWS[flaw](perfect(*args)))
    assert cli.main(["randomness", "--draws", "1000000"]) == 1
    out = capsys.readouterr().out
    assert "NOT RANDOM" in out and "tests failed: this generator is not random" in out


def test_committed_outcome() -> None:
    outcome = json.loads((TESTS.parent / "bench/results/randomness.json").read_text())
    assert outcome["header"]["draws"] >= 10**8
    assert len(outcome["tests"]) == randomness.tests_of(randomness.RATES)
    assert max(abs(test["z"]) for test in outcome["tests"]) <= randomness.bound(len(outcome["tests"]))
