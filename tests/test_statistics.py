"""What a training loop watches: dead units, saturation, statistics of activations, size of updates."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from layouts import DTYPES, active, assert_same_bits, num_threads

import fastnn as fnn
from fastnn.kernels.cpu import runtime
from fastnn.table import OPS

pytestmark = pytest.mark.filterwarnings("error")
Array = npt.NDArray[Any]
FUSED = [isa for isa in runtime.isas() if isa != "v2"]
every_dtype = pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
rng = np.random.default_rng(4)


def every_way(call: Any) -> list[Any]:
    """The results on every instruction set with a fused multiply-add and for several numbers of threads."""
    results = []
    for isa in FUSED:
        for threads in (1, 2):
            with active(isa), num_threads(threads):
                results.append(call())
    return results


# ---- dead units ----


@every_dtype
@pytest.mark.parametrize(
    ("shape", "axis"), [((1000, 130), 1), ((3, 700), 1), ((40, 6, 700), 1), ((5, 6, 7, 8), -2), ((9, 3), 0), ((17,), 0)]
)
def test_dead_units(shape: tuple[int, ...], axis: int, dtype: np.dtype[Any]) -> None:
    y = np.maximum(rng.standard_normal(shape), 0).astype(dtype)
    np.moveaxis(y, axis, 0)[::3] = 0
    np.moveaxis(y, axis, 0)[1::3] -= dtype.type(5)
    others = tuple(k for k in range(y.ndim) if k != axis % y.ndim)
    for dead, inactive in every_way(lambda: fnn.dead_units(y, axis=axis)):
        assert dead.dtype == bool and dead.shape == (shape[axis],)
        np.testing.assert_array_equal(dead, np.all(y <= 0, axis=others))
        share = np.mean(y <= 0, axis=others)
        np.testing.assert_array_equal(inactive, share.astype(np.float64 if dtype == np.float64 else np.float32))


def test_nan_is_not_dead() -> None:
    y = np.zeros((4, 3), np.float32)
    y[2, 1] = np.nan
    dead, inactive = fnn.dead_units(y)
    assert dead.tolist() == [True, False, True] and inactive.tolist() == [1, 0.75, 1]


def test_dead_units_of_nothing() -> None:
    with pytest.raises(ValueError, match=r"dead_units: y has shape \(0, 3\), no sample"):
        fnn.dead_units(np.zeros((0, 3)))
    for axis in (2, -3):
        with pytest.raises(ValueError, match=r"dead_units: axis is .*y has shape"):
            fnn.dead_units(np.zeros((2, 3)), axis=axis)
    with pytest.raises(TypeError, match="dead_units: axis is 1.0"):
        fnn.dead_units(np.zeros((2, 3)), axis=1.0)  # type: ignore[arg-type]
    dead, inactive = fnn.dead_units(np.zeros((2, 0)))
    assert dead.shape == inactive.shape == (0,)


# ---- saturation ----


@pytest.mark.parametrize(
    ("activation", "limits"),
    [
        ("sigmoid", (0, 1)),
        ("tanh", (-1, 1)),
        ("softsign", (-1, 1)),
        ("hardsigmoid", (0, 1)),
        (("hardtanh", -2.0, 0.5), (-2, 0.5)),
        ("relu6", (0, 6)),
        ("relu", (0, None)),
        (("elu", 0.5), (-0.5, None)),
        ("selu", (-1.7580993408473766, None)),
        ("log_sigmoid", (None, 0)),
        ("gelu", (0, None)),
    ],
    ids=str,
)
@every_dtype
def test_saturation(activation: Any, limits: tuple[float | None, float | None], dtype: np.dtype[Any]) -> None:
    y = rng.uniform(-2.5, 6.5, 3000).astype(dtype)
    for margin in (0.0, 0.01, 0.3):
        expected = [
            0.0 if limit is None else np.mean(np.abs(y.astype(np.float64) - limit) <= margin) for limit in limits
        ]
        for low, high in every_way(lambda m=margin: fnn.saturation(y, activation, margin=m)):
            assert low == pytest.approx(expected[0], rel=1e-6) and high == pytest.approx(expected[1], rel=1e-6)


def test_saturation_at_the_edge_of_the_margin() -> None:
    """What counts does not depend on how the bound rounds: 0.99 in float32 is less than 1 - 0.01."""
    y = np.array([0.99, np.nextafter(np.float32(0.99), np.float32(1)), 1.0, 1.01], np.float32)
    exact = np.mean(np.abs(y.astype(np.float64) - 1) <= 0.01)
    assert fnn.saturation(y, "sigmoid", margin=0.01)[1] == exact
    assert fnn.saturation(np.array([np.nan, 1.0]), "tanh") == (0, 0.5)


@pytest.mark.parametrize("activation", [op.name for op in OPS.values() if op.name in ("leaky_relu", "sin", "cos")])
def test_activations_without_limits(activation: str) -> None:
    with pytest.raises(ValueError, match=f"saturation: activation '{activation}' has no limits"):
        fnn.saturation(np.zeros(3), activation)
    assert fnn.activation_statistics(np.zeros(3), activation)[-2:] == (0, 0)


def test_saturation_of_what() -> None:
    with pytest.raises(TypeError, match="saturation: activation is None"):
        fnn.saturation(np.zeros(3), None)
    with pytest.raises(ValueError, match="saturation: margin is -1"):
        fnn.saturation(np.zeros(3), "tanh", margin=-1)
    with pytest.raises(ValueError, match=r"saturation: y has shape \(0,\)"):
        fnn.saturation(np.zeros(0), "tanh")


# ---- statistics ----


@every_dtype
@pytest.mark.parametrize("n", [1, 2, 15, 16, 17, 2047, 2048, 2049, 100_003])
def test_statistics(n: int, dtype: np.dtype[Any]) -> None:
    y = (3 * rng.standard_normal(n) + 0.5).astype(dtype)
    wide = y.astype(np.float64)
    expected = [wide.mean(), wide.std(), wide.min(), wide.max(), np.mean(wide <= 0), 0.0, 0.0]
    results = every_way(lambda: fnn.activation_statistics(y))
    for got in results:
        assert got == results[0]
    np.testing.assert_allclose(results[0], expected, rtol=1e-6 if dtype != np.float64 else 1e-12, atol=1e-12)
    assert results[0].mean == results[0][0] and results[0].high == results[0][-1]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_spread_beside_a_large_mean(dtype: str) -> None:
    mean, std = (1e4, 1e-2) if dtype == "float32" else (1e8, 1e-4)
    y = (mean + std * rng.standard_normal(100_000)).astype(dtype)
    y[0] = 0  # no element may serve as the origin
    wide = y.astype(np.longdouble)
    exact = np.sqrt(np.mean((wide - wide.mean()) ** 2))
    got = fnn.activation_statistics(y)
    assert got.std == pytest.approx(float(exact), rel=1e-6) and got.mean == pytest.approx(float(wide.mean()), rel=1e-7)
    got = fnn.activation_statistics(y[1:])
    assert got.std == pytest.approx(float(np.std(y[1:].astype(np.longdouble))), rel=1e-6)


def test_nan_and_infinity() -> None:
    y = np.ones(5000, np.float32)
    y[4000] = np.nan
    got = fnn.activation_statistics(y)
    assert all(math.isnan(value) for value in got[:4]) and got.inactive == 0
    y[4000] = -np.inf
    got = fnn.activation_statistics(y)
    assert got.mean == -np.inf and math.isnan(got.std) and got.minimum == -np.inf and got.maximum == 1
    assert got.inactive == np.float32(1 / 5000)


# ---- updates ----


@every_dtype
def test_update_ratio(dtype: np.dtype[Any]) -> None:
    param, update = rng.standard_normal(70_001).astype(dtype), (1e-3 * rng.standard_normal(70_001)).astype(dtype)
    exact = np.linalg.norm(update.astype(np.float64)) / np.linalg.norm(param.astype(np.float64))
    results = every_way(lambda: fnn.update_ratio(param, update))
    for got in results:
        assert_same_bits(got, results[0])
    assert float(results[0]) == pytest.approx(exact, rel=1e-6)


def test_update_ratio_of_nothing() -> None:
    assert fnn.update_ratio(np.zeros(3), np.ones(3)) == np.inf
    assert math.isnan(fnn.update_ratio(np.zeros(3), np.zeros(3)))
    with pytest.raises(ValueError, match=r"update_ratio: update has shape \(2,\); expected param's, \(3,\)"):
        fnn.update_ratio(np.zeros(3), np.zeros(2))
    with pytest.raises(ValueError, match="update_ratio: param has shape"):
        fnn.update_ratio(np.zeros(0), np.zeros(0))
