"""JAX's pooling: reductions over windows; backward of averages is their vector-Jacobian product."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ...problems.base import Buffers
from ...timing import Run
from ..base import Factory
from ..numpy_.pooling import regions
from .library import compiled, gradient, jax, jnp

Pool = Callable[[Any], Any]


def _windows(b: Buffers, dims: int, reduce: Any, start: float) -> Pool:
    kernel = b.kernel_size
    step, pad = b.get("stride") or kernel, b.get("padding", 0)
    window, strides = (1, 1, *(kernel,) * dims), (1, 1, *(step,) * dims)
    padding = ((0, 0), (0, 0), *((pad, pad),) * dims)

    def pool(x: Any) -> Any:
        return jax.lax.reduce_window(x, np.asarray(start, x.dtype), reduce, window, strides, padding)

    return pool


def _maximum(b: Buffers) -> Pool:
    return _windows(b, b.x.ndim - 2, jax.lax.max, -math.inf)


def _average(b: Buffers) -> Pool:
    total = _windows(b, b.x.ndim - 2, jax.lax.add, 0)
    return lambda x: total(x) * b.kernel_size ** (2.0 - x.ndim)


def _adaptive(size: int) -> Pool:
    """One product an axis with the matrix that averages regions."""

    def pool(x: Any) -> Any:
        for axis in range(2, x.ndim):
            matrix = jnp.asarray(regions(x.shape[axis], size), x.dtype)
            x = jnp.moveaxis(jnp.tensordot(x, matrix, (axis, 1)), -1, axis)
        return x

    return pool


def _whole(x: Any) -> Any:
    return jnp.mean(x, tuple(range(2, x.ndim)))


def forward(pool: Callable[[Buffers], Pool]) -> Factory:
    return lambda b: compiled(pool(b), b.x)


def _slope(pool: Pool, b: Buffers) -> Run:
    return compiled(lambda dy, x: gradient(pool, dy, x)[0], b.dy, b.x)


def backward(pool: Callable[[Buffers], Pool]) -> Factory:
    return lambda b: _slope(pool(b), b)


def maximum_backward(b: Buffers) -> Run:
    """A scattering by the indices that everybody gets, which is far quicker than the gradient of the reduction."""
    planes, size = math.prod(b.x_shape[:2]), math.prod(b.x_shape[2:])
    place = (b.indices.reshape(planes, -1) + size * jnp.arange(planes)[:, None]).ravel()

    def scatter(dy: Any, place: Any) -> Any:
        return jnp.zeros(planes * size, dy.dtype).at[place].add(dy.ravel()).reshape(b.x_shape)

    return compiled(scatter, b.dy, place)


def whole_backward(b: Buffers) -> Run:
    spread = (*b.dy.shape, *(1,) * (len(b.x_shape) - 2))
    share = math.prod(b.x_shape[2:])
    return compiled(lambda dy: jnp.broadcast_to((dy / share).reshape(spread), b.x_shape), b.dy)


FACTORIES: dict[str, Factory] = {
    "global_avg_pool": lambda b: compiled(_whole, b.x),
    "global_avg_pool_backward": whole_backward,
    "fractional_max_pool2d_backward": maximum_backward,
}
for _dims in "123":
    FACTORIES |= {
        f"max_pool{_dims}d": forward(_maximum),
        f"max_pool{_dims}d_backward": maximum_backward,
        f"avg_pool{_dims}d": forward(_average),
        f"avg_pool{_dims}d_backward": backward(_average),
        f"adaptive_avg_pool{_dims}d": forward(lambda b: _adaptive(b.output_size)),
        f"adaptive_avg_pool{_dims}d_backward": backward(lambda b: _adaptive(b.dy.shape[-1])),
    }
