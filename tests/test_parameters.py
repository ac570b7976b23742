"""Parameters of every kind and shape, and the gradient of those that are learned."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from layouts import (
    BACKENDS,
    DTYPES,
    LAYOUTS,
    Pass,
    assert_same_bits,
    num_threads,
    using,
)

import fastnn as fnn
from fastnn.oracle import numpy64
from fastnn.table import OPS

pytestmark = pytest.mark.filterwarnings("error")
rng = np.random.default_rng(7)
every_dtype = pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
learned = [op for op in OPS.values() if op.learned is not None]
every_learned = pytest.mark.parametrize("op", learned, ids=[op.name for op in learned])


@pytest.mark.parametrize("op", [op for op in OPS.values() if op.params], ids=lambda op: op.name)
@every_dtype
def test_parameters_of_every_kind(op: Any, dtype: np.dtype[Any]) -> None:
    run = Pass(op, "forward")
    (x,) = run.inputs(dtype)
    x = x[-60:]
    values = op.parameter_sets[-1]
    kinds: list[Any] = [
        float,
        np.float64,
        np.float32,
        np.longdouble,
        np.array,
        lambda v: np.array([v]),
        lambda v: [v],
        np.dtype(">f8").type,
    ]
    with num_threads(1):
        for strided in (False, True):
            array = np.repeat(x, 2)[::2] if strided else x
            for kind in kinds:
                params = [kind(value) for value in values]
                rounded = [float(np.asarray(p).reshape(())) for p in params]
                got = run.function(array, *params)
                assert_same_bits(got, run.function(x, *rounded))
            names = {param.name: value for param, value in zip(op.params, values, strict=True)}
            assert_same_bits(run.function(array, **names), run.function(x, *values))
            elementwise = [np.full(60, value) for value in values]
            assert_same_bits(run.function(array, *elementwise), run.function(x, *values))
    whole = [2 if k else 1 for k in range(len(values))]
    assert_same_bits(run.function(x, *whole), run.function(x, *map(float, whole)))


def alpha_shapes(shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Every kind of shape that a learned parameter may have beside an input of `shape`."""
    kinds = [(), (1,), shape, (1,) * len(shape)]
    if len(shape) >= 2:
        kinds += [
            (shape[1],),
            (1, shape[1], *(1,) * (len(shape) - 2)),
            (shape[0], *(1,) * (len(shape) - 1)),
            (shape[-1],),
        ]
    if len(shape) >= 3:
        kinds += [(shape[1], *(1,) * (len(shape) - 2)), (shape[0], 1, *shape[2:]), shape[1:]]
    return list(dict.fromkeys(kinds))


SHAPES = [(40,), (6, 7), (5, 6, 4), (3, 4, 5, 6), (2, 1500), (700, 3), (0, 3), (3, 0, 2)]


@every_learned
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_learned_parameter_of_every_shape(op: Any, shape: tuple[int, ...]) -> None:
    """Values against one call an alpha, the gradient against sums in float64."""
    forward, backward = getattr(fnn, op.name), getattr(fnn, f"{op.name}_backward")
    for dtype in DTYPES.values():
        x, dy = (rng.standard_normal(shape).astype(dtype) for _ in range(2))
        single = np.float64 if dtype == np.float64 else np.float32
        for alpha_shape in alpha_shapes(shape):
            alpha = rng.uniform(0.1, 2, alpha_shape).astype(single)
            per_channel = len(shape) > 1 and alpha_shape == (shape[1],)
            aligned = alpha.reshape(-1, *(1,) * (len(shape) - 2)) if per_channel else alpha
            if np.ndim(aligned) > len(shape):
                aligned = aligned.reshape(())
            full = np.broadcast_to(aligned, shape).astype(np.float64)
            wide_x, wide_dy = x.astype(np.float64), dy.astype(np.float64)
            exact = np.asarray(wide_dy * op.param_gradient(numpy64, wide_x, full))
            axes = tuple(
                k
                for k in range(len(shape))
                if np.shape(aligned)[::-1][len(shape) - 1 - k : len(shape) - k] in ((), (1,))
            )
            sums, sizes = exact.sum(axis=axes), np.abs(exact).sum(axis=axes)
            for backend in BACKENDS:
                if backend == "numba" and dtype != np.float32:
                    continue
                with using(backend):
                    y = forward(x, alpha)
                    dx, dalpha = backward(dy, x, alpha)
                    out = np.empty_like(x)
                    dx_out, dalpha_out = backward(dy, x, alpha, out=out)
                assert y.shape == dx.shape == shape and y.dtype == dx.dtype == dtype
                assert dx_out is out
                assert_same_bits(dx_out, dx)
                assert_same_bits(dalpha_out, dalpha)
                assert dalpha.shape == alpha_shape and dalpha.dtype == single
                error = np.abs(dalpha.reshape(np.shape(sums)).astype(np.float64) - sums)
                assert np.all(error <= np.finfo(single).eps * 4 * sizes), (backend, dtype, alpha_shape)
            with num_threads(1):
                for index in list(np.ndindex(shape))[:: max(1, x.size // 50)]:
                    assert_same_bits(forward(x, alpha)[index], forward(x[index], float(full[index])))


@every_learned
def test_gradient_of_a_learned_parameter_is_deterministic(op: Any) -> None:
    """Large enough for threads, in every layout: the bits do not change."""
    backward = getattr(fnn, f"{op.name}_backward")
    shape = (48, 16, 30, 20)
    for dtype in (np.float32, np.float64):
        x, dy = (rng.standard_normal(shape).astype(dtype) for _ in range(2))
        for alpha_shape in [(), (16,), (48, 1, 1, 1), (20,), (16, 30, 20), shape]:
            alpha = rng.uniform(0.1, 2, alpha_shape).astype(dtype)
            with num_threads(1):
                expected = backward(dy, x, alpha)
            for threads in (2, 3):
                with num_threads(threads):
                    for _ in range(2):
                        for got, wanted in zip(backward(dy, x, alpha), expected, strict=True):
                            assert_same_bits(got, wanted)
            if alpha_shape in [(), (16,)]:
                for layout in ("every second", "Fortran order", "misaligned"):
                    fitted = [LAYOUTS[layout](value.reshape(48, 16, 600)) for value in (dy, x)]
                    assert_same_bits(backward(*fitted, alpha)[1], expected[1])


@every_learned
def test_gradient_of_a_learned_parameter_with_infinities(op: Any) -> None:
    backward = getattr(fnn, f"{op.name}_backward")
    x = np.float32([[-1, -2], [-3, np.nan]])
    for backend in BACKENDS:
        with using(backend):
            _, dalpha = backward(np.ones_like(x), x, np.float32([0.5, 0.5]))
            assert np.isfinite(dalpha[0]) and np.isnan(dalpha[1])
            _, dalpha = backward(np.full_like(x, np.inf), np.minimum(x, -1), 0.5)
            assert dalpha.shape == ()


def test_nan_in_a_learned_parameter_propagates() -> None:
    """Arrays of learned parameters are not checked: a network that has diverged shows it."""
    y = fnn.prelu(np.full((2, 2), -1, np.float32), np.float32([np.nan, 1]))
    assert_same_bits(y, np.float32([[np.nan, -1], [np.nan, -1]]))
