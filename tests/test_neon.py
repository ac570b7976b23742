"""The same bits from every instruction set with an FMA unit.

That is NEON (in an emulator), AVX2, AVX-512, and one number at a time, as CUDA computes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import ml_dtypes
import numpy as np
import pytest
from loop_runs import FORMATS, HOST, Array, Case, Unavailable, build, cases, run

import fastnn as fnn
from fastnn.kernels.cpu import runtime
from fastnn.table import OPS

REFERENCE = "scalar"
COMPARED = ("neon", "v3", "v4")
DTYPES = {name: getattr(ml_dtypes if name == "bfloat16" else np, name) for name in FORMATS}
SUFFIXES = {"forward": "", "backward": "_backward", "parameter_gradient": "_parameter_gradient"}
Results = Callable[[str, str], list[Array]]


@cache
def requests(name: str) -> list[Case]:
    return list(cases(OPS[name]))


@pytest.fixture(scope="session")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """The results of an instruction set for an op; skips the test where they cannot be had."""
    folder = tmp_path_factory.mktemp("drivers")

    def attempt(isa: str) -> list[str] | Unavailable:
        if isa in HOST and isa != REFERENCE and isa not in runtime.isas():
            return Unavailable(f"this CPU cannot run {isa}")
        try:
            return build(isa, folder)
        except Unavailable as reason:
            return reason

    with ThreadPoolExecutor(2) as pool:
        built = dict(zip((REFERENCE, *COMPARED), pool.map(attempt, (REFERENCE, *COMPARED)), strict=True))

    @cache
    def of(isa: str, name: str) -> list[Array]:
        command = built[isa]
        if isinstance(command, Unavailable):
            pytest.skip(str(command))
        return run(command, requests(name))

    return of


def assert_same(case: Case, got: Array, expected: Array) -> None:
    """The same bits; one NaN is as good as another."""
    nan = FORMATS[case.dtype].nan
    different = np.flatnonzero((got != expected) & ~(nan(got) & nan(expected)))
    if different.size:
        i = different[0]
        of = ", ".join(f"{a[i]:#x}" for a in case.arrays)
        pytest.fail(f"{case}: {different.size} differ, element {i} of {of}: {got[i]:#x}, expected {expected[i]:#x}")


@pytest.mark.parametrize("name", OPS)
@pytest.mark.parametrize("isa", COMPARED)
def test_same_bits(isa: str, name: str, results: Results) -> None:
    for case, got, expected in zip(requests(name), results(isa, name), results(REFERENCE, name), strict=True):
        assert_same(case, got, expected)


@pytest.fixture
def isa_restored() -> Iterator[None]:
    before = runtime.isa()
    yield
    runtime.set_isa(before)


@pytest.mark.usefixtures("isa_restored")
@pytest.mark.parametrize("name", OPS)
@pytest.mark.parametrize("isa", [isa for isa in runtime.isas() if isa in COMPARED])
def test_the_module_agrees(isa: str, name: str, results: Results) -> None:
    """So that what is certified of the installed kernels holds for the others."""
    expected = results(REFERENCE, name)
    runtime.set_isa(isa)
    with np.errstate(all="ignore"):
        for case, reference in zip(requests(name), expected, strict=True):
            ufunc = getattr(fnn.ufuncs, name + SUFFIXES[case.direction])
            assert_same(case, ufunc(*case.values(DTYPES[case.dtype])).view(reference.dtype), reference)
