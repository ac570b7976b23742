"""The generated coefficients are those of the program that fits them, and are as good as it says."""

from __future__ import annotations

import importlib.util
import sys
from fractions import Fraction
from pathlib import Path
from types import ModuleType

import pytest

pytest.importorskip("mpmath")
from mpmath import mp, mpf  # type: ignore[import-untyped]  # noqa: E402

KERNELS = Path(__file__).resolve().parents[1] / "kernels"


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"fitted_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module


coeffs = load(KERNELS / "coeffs.py")
written = load(KERNELS / "jit" / "coefficients.py")
DTYPES = {"float": "float32", "double": "float64"}
CASES = [(fit, scalar) for fit in coeffs.FITS for scalar in fit.terms]


def test_generated_files_are_current() -> None:
    stale = [path.name for path in coeffs.stale(coeffs.tables())]
    assert not stale, f"run kernels/coeffs.py --write: {stale}"


@pytest.mark.parametrize(("fit", "scalar"), CASES, ids=[f"{fit.name}-{scalar}" for fit, scalar in CASES])
def test_fit_keeps_its_promise(fit, scalar) -> None:  # type: ignore[no-untyped-def]
    values = getattr(written, DTYPES[scalar])[fit.name]
    assert len(values) == fit.terms[scalar]
    with mp.workprec(coeffs.PRECISION):
        error = coeffs.error_of(fit, [mpf(float(v)) for v in values], 701)
        assert error < mpf(2) ** -fit.bits[scalar]
        assert error > mpf(2) ** -(fit.bits[scalar] + 1), "better than promised: raise the promise"


@pytest.mark.parametrize("scalar", DTYPES)
def test_pieces_add_up(scalar: str) -> None:
    constants = getattr(written, f"constants_{DTYPES[scalar]}")
    bits = coeffs.BITS[scalar]
    with mp.workprec(coeffs.PRECISION):
        for constant in coeffs.CONSTANTS:
            if isinstance(constant.value, dict):
                assert float(constants[constant.name]) == constant.value[scalar]
                continue
            names = list(coeffs.pieces(constant, scalar))
            total = sum(mpf(float(constants[name])) for name in names)
            head = constant.head_bits[scalar] if constant.head_bits else bits
            kept = constant.cuts[scalar][-1] + bits if constant.cuts else head + bits if constant.parts == 2 else bits
            assert abs(total - constant.value()) <= mpf(2) ** -kept * constant.value(), constant.name


def significant_bits(x: float) -> int:
    numerator = abs(Fraction(x).numerator)
    return (numerator // (numerator & -numerator)).bit_length()


@pytest.mark.parametrize(("scalar", "exponents"), [("float", 2 * 127), ("double", 2 * 1023)])
def test_products_with_the_head_of_ln2_are_exact(scalar: str, exponents: int) -> None:
    head = float(getattr(written, f"constants_{DTYPES[scalar]}")["ln2_hi"])
    assert significant_bits(head) + exponents.bit_length() <= coeffs.BITS[scalar]


def test_exchange_finds_the_best_quadratic_for_a_cubic() -> None:
    # x^3 - 3 x / 4 is a quarter of Chebyshev's polynomial: no other remainder is as small on [-1, 1]
    with mp.workprec(coeffs.PRECISION):
        points = [mp.cos(mp.pi * i / 600) for i in range(601)][::-1]
        grid = coeffs.Samples(points, [x**3 for x in points], [mpf(1)] * len(points))
        found = coeffs.exchange(grid, [], 3)
        assert max(abs(a - b) for a, b in zip(found, [0, mpf(3) / 4, 0], strict=True)) < 1e-9


def test_rounding_is_made_good_by_later_coefficients() -> None:
    fit = next(fit for fit in coeffs.FITS if fit.name == "exp_tail")
    with mp.workprec(coeffs.PRECISION):
        best = coeffs.exchange(coeffs.sample(fit, 121), [], fit.terms["float"])
        at_once = [coeffs.rounded(c, coeffs.BITS["float"]) for c in best]
        in_turn = coeffs.solve(fit, "float").coefficients
        assert coeffs.error_of(fit, in_turn, 701) <= coeffs.error_of(fit, at_once, 701)


def test_literals_read_back() -> None:
    assert coeffs.literal(0.5, "double") == "0.5"
    assert coeffs.literal(3.0, "float") == "3.0f"
    assert float(coeffs.literal(0.1, "double")) == 0.1
