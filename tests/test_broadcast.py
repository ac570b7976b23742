"""How a learned parameter meets the input's shape."""

from __future__ import annotations

import numpy as np
import pytest

from fastnn.broadcast import align_parameter, aligned_shape, reduce_to


@pytest.mark.parametrize(
    ("x_shape", "alpha_shape", "expected"),
    [
        ((4, 5), (), ()),
        ((4, 5), (1,), ()),
        ((5,), (1, 1, 1), ()),
        ((), (1,), ()),
        ((4, 5), (5,), (5,)),
        ((4, 5, 6), (5,), (5, 1)),
        ((4, 5, 6, 7), (5,), (5, 1, 1)),
        ((4, 5, 5), (5,), (5, 1)),  # axis 1 goes before the last axis
        ((4, 5, 6), (6,), (6,)),
        ((7,), (7,), (7,)),
        ((4, 5, 6), (4, 1, 6), (4, 1, 6)),
        ((4, 5, 6), (4, 5, 6), (4, 5, 6)),
        ((4, 0, 6), (0,), (0, 1)),
        ((0, 5), (5,), (5,)),
    ],
)
def test_alignment(x_shape: tuple[int, ...], alpha_shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    assert aligned_shape(x_shape, alpha_shape) == expected
    alpha = np.arange(float(np.prod(alpha_shape))).reshape(alpha_shape)
    view = align_parameter(x_shape, alpha)
    assert view.base is not None or view is alpha
    assert np.broadcast_shapes(view.shape, x_shape) == x_shape
    gradient = np.random.default_rng(0).standard_normal(x_shape)
    reduced = reduce_to(gradient, alpha_shape)
    assert reduced.shape == alpha_shape and reduced.dtype == gradient.dtype
    # The gradient of sum(weights * broadcast(alpha)) by alpha: linear, so that it can be read off unit vectors.
    for index in np.ndindex(alpha_shape):
        unit = np.zeros(alpha_shape)
        unit[index] = 1.0
        assert reduced[index] == pytest.approx(float(np.sum(gradient * align_parameter(x_shape, unit))))


@pytest.mark.parametrize(
    ("x_shape", "alpha_shape"), [((4, 5), (4,)), ((4,), (4, 4)), ((1, 5), (3, 5)), ((4, 5, 6), (5, 5, 6)), ((), (2,))]
)
def test_what_does_not_fit(x_shape: tuple[int, ...], alpha_shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="alpha"):
        aligned_shape(x_shape, alpha_shape)


def test_sums_in_float64() -> None:
    gradient = np.full((1 << 20,), 0.1, np.float32)
    assert reduce_to(gradient, ()) == np.float32(np.float64(np.float32(0.1)) * (1 << 20))
