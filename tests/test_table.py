"""The op table: complete rows, and formulas that agree with arbitrary precision."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest

from fastnn.docstrings import backward_doc, forward_doc
from fastnn.op import Op, Param
from fastnn.oracle import mp, numpy64, to_float64
from fastnn.table import OPS

every_op = pytest.mark.parametrize("op", OPS.values(), ids=OPS)

# float32 certification needs about 1e-10. Where an argument of exp is itself rounded (x^2 / 2 of gelu, beta x of swish,
# x / alpha of celu), it costs up to 745 units of 1.1e-16; the double of that is allowed.
TOLERANCE = 2e-13

# The derivative where it jumps: the conventions of the table, with default parameters.
KINKS = {
    "relu": {0.0: 0.0},
    "leaky_relu": {0.0: 0.01},
    "prelu": {0.0: 0.25},
    "elu": {0.0: 1.0},
    "selu": {0.0: 1.0507009873554805 * 1.6732632423543773},
    "celu": {0.0: 1.0},
    "relu6": {0.0: 0.0, 6.0: 0.0},
    "hardtanh": {-1.0: 0.0, 1.0: 0.0},
    "hardsigmoid": {-3.0: 0.0, 3.0: 0.0},
    "hardswish": {-3.0: 0.0, 3.0: 1.0},
}

# The derivative at infinity: limits, not NaN. Ops that save their output have it at the output's limits.
LIMITS = {name: (0.0, 1.0) for name in ("relu", "elu", "parametric_elu", "celu", "gelu", "gelu_tanh", "silu", "swish")}
LIMITS |= {name: (0.0, 1.0) for name in ("softplus", "mish", "hardswish")}
LIMITS |= {name: (0.0, 0.0) for name in ("sigmoid", "tanh", "hardsigmoid", "hardtanh", "relu6", "softsign")}
LIMITS |= {
    "leaky_relu": (0.01, 1.0),
    "prelu": (0.25, 1.0),
    "selu": (0.0, 1.0507009873554805),
    "log_sigmoid": (1.0, 0.0),
}


def dense_sample() -> np.ndarray:
    """Every magnitude of float64, both tails, and the middle densely."""
    magnitudes = np.concatenate([np.geomspace(1e-300, 1e300, 241), np.linspace(0, 40, 161), np.linspace(40, 760, 181)])
    return np.concatenate([magnitudes, -magnitudes])


def saved_sample(op: Op) -> np.ndarray:
    """What backward may be given."""
    x = dense_sample()
    return x[(x >= op.saved_range[0]) & (x <= op.saved_range[1])] if op.saves == "output" else x


@every_op
def test_row_is_complete(op: Op) -> None:
    assert op.name.isidentifier() and op.name == op.name.lower()
    for text in (op.title, op.formula, op.derivative, op.source, *(param.doc for param in op.params)):
        assert text and text.isascii() and text == text.strip()
    assert "(19" in op.source or "(20" in op.source, "the source names its year"
    assert {x for x, _ in op.special} == {math.inf, -math.inf, 0.0}
    assert sum(math.copysign(1, x) < 0 and x == 0 for x, _ in op.special) == 1, "-0.0 is there too"
    assert op.forward_ops > 0 and op.backward_ops > 0
    assert op.forward_ulp <= 2 and op.backward_ulp <= 4
    assert len({param.name for param in op.params}) == len(op.params)


@every_op
def test_special_values(op: Op) -> None:
    for x, expected in op.special:
        y = float(op.forward(numpy64, x, *op.parameters_default))
        np.testing.assert_allclose(y, expected, rtol=1e-15, atol=0)
        if not math.isnan(expected):
            assert math.copysign(1, y) == math.copysign(1, expected), (x, y)


@every_op
def test_nan_stays_nan(op: Op) -> None:
    params = op.parameters_default
    for formula in (op.forward, op.gradient, op.param_gradient):
        if formula is not None:
            assert math.isnan(formula(numpy64, math.nan, *params))
            assert np.isnan(to_float64(formula(mp(), math.nan, *params)))


@pytest.mark.filterwarnings("error")
@every_op
def test_no_warnings(op: Op) -> None:
    x = np.array([math.inf, -math.inf, math.nan, 1e308, -1e308, 5e-324, 0.0])
    for params in op.parameter_sets:
        op.forward(numpy64, x, *params)
        op.gradient(numpy64, x, *params)


@every_op
def test_float64_agrees_with_arbitrary_precision(op: Op) -> None:
    m = mp()
    for params in op.parameter_sets:
        exact_params = [m.number(value) for value in params]
        cases = [(op.forward, dense_sample()), (op.gradient, saved_sample(op))]
        if op.param_gradient is not None:
            cases.append((op.param_gradient, saved_sample(op)))
        for formula, x in cases:
            exact = to_float64(formula(m, x, *exact_params))
            got = formula(numpy64, x, *params)
            normal = (np.abs(exact) > 1e-300) & np.isfinite(exact)
            np.testing.assert_allclose(got[normal], exact[normal], rtol=TOLERANCE, atol=0)
            np.testing.assert_allclose(got[~normal], exact[~normal], rtol=0, atol=1e-300)


def differentiated(m: Any, formula: Any, at: Any) -> float:
    return float(m.context.diff(formula, at))


@every_op
def test_gradient_is_the_derivative(op: Op) -> None:
    m = mp()
    rng = np.random.default_rng(1)
    xs = np.concatenate([rng.uniform(-8, 8, 40), rng.uniform(-60, 60, 10)])
    for params in op.parameter_sets:
        exact_params = [m.number(value) for value in params]
        for x in xs:
            at = m.number(float(x))
            expected = differentiated(m, lambda t, p=exact_params: op.forward(m, t, *p), at)
            saved = op.saved_for_backward(at, op.forward(m, at, *exact_params))
            got = float(op.gradient(m, saved, *exact_params))
            assert got == pytest.approx(expected, rel=1e-12, abs=1e-30), (params, x)


@pytest.mark.parametrize("op", [op for op in OPS.values() if op.param_gradient is not None], ids=lambda op: op.name)
def test_parameter_gradient_is_the_derivative(op: Op) -> None:
    m = mp()
    assert op.param_gradient is not None
    for (alpha,) in op.parameter_sets:
        for x in np.random.default_rng(2).uniform(-9, 9, 30):
            at = m.number(float(x))
            expected = differentiated(m, lambda t, at=at: op.forward(m, at, t), m.number(alpha))
            assert float(op.param_gradient(m, at, alpha)) == pytest.approx(expected, rel=1e-12, abs=1e-30)


@pytest.mark.parametrize("name", KINKS)
def test_derivative_at_kinks(name: str) -> None:
    op = OPS[name]
    for x, expected in KINKS[name].items():
        assert op.gradient(numpy64, x, *op.parameters_default) == pytest.approx(expected, rel=1e-15)


@pytest.mark.parametrize("name", LIMITS)
def test_derivative_at_infinity(name: str) -> None:
    op = OPS[name]
    for x, expected in zip((-math.inf, math.inf), LIMITS[name], strict=True):
        saved = op.saved_for_backward(x, op.forward(numpy64, x, *op.parameters_default))
        assert op.gradient(numpy64, saved, *op.parameters_default) == pytest.approx(expected, rel=1e-15, abs=0)


@pytest.mark.parametrize("op", [op for op in OPS.values() if op.zeros], ids=lambda op: op.name)
def test_zeros_of_the_derivative(op: Op) -> None:
    for params in op.parameter_sets:
        scale = 1.0 if op.scale is None else op.scale(*params)
        for zero in op.zeros:
            x = zero / scale
            below, above = (op.gradient(numpy64, value, *params) for value in (x - 1e-12, x + 1e-12))
            assert below * above < 0
            assert op.near_zero(np.array([x]), params).all()
            assert not op.near_zero(np.array([x + 2 * op.near / scale, x - 2 * op.near / scale]), params).any()


@every_op
def test_saved_range(op: Op) -> None:
    if op.saves == "input":
        assert op.saved_range == (-math.inf, math.inf)
        return
    for params in op.parameter_sets:
        y = op.forward(numpy64, np.concatenate([dense_sample(), [math.inf, -math.inf]]), *params)
        assert (y.min(), y.max()) == op.saved_range


@every_op
def test_parameters(op: Op) -> None:
    for param in op.params:
        assert param.values and all(param.accepts(value) for value in param.values)
        assert not any(param.accepts(value) for value in (math.nan, math.inf, -math.inf, *param.excluded))
    if op.rising:
        assert all(list(params) == sorted(params) for params in op.parameter_sets)
    assert op.parameter_sets[0] == op.parameters_default


def test_signature() -> None:
    assert OPS["elu"].signature() == "x, alpha=1.0, *, out=None"
    assert OPS["prelu"].signature("dy", "saved") == "dy, saved, alpha, *, out=None"


@every_op
def test_docstrings(op: Op) -> None:
    for text in (forward_doc(op), backward_doc(op)):
        assert max(map(len, text.splitlines())) <= 120
        for section in ("Parameters", "Returns", "Raises", "Notes", "Examples"):
            assert f"\n{section}\n{'-' * len(section)}\n" in text
        for param in op.params:
            assert f"\n{param.name}\n" in text
            assert param.default is None or f"default {param.default:g}" in text
    assert f"y = {op.formula}" in forward_doc(op)
    assert f"dy/dx = {op.derivative}" in backward_doc(op)
    assert op.learned is None or f"\nd{op.params[op.learned].name}\n" in backward_doc(op)


def test_broken_rows_are_refused() -> None:
    row = {field.name: getattr(OPS["elu"], field.name) for field in fields(Op)}
    for change in (
        {"saves": "both"},
        {"params": (Param(name="alpha", doc="required, without an example"),)},
        {"params": (Param(name="alpha", doc="learned, without a gradient", learned=True, default=1.0),)},
        {"params": (Param(name="alpha", doc="default out of range", default=1.0, high=0.5),)},
        {"zeros": (1.0,)},
    ):
        with pytest.raises(ValueError, match="elu"):
            Op(**{**row, **change})
    assert replace(OPS["elu"], name="other").name == "other"
