"""maxout, glu and swiglu, compiled by Numba: the functions of kernels/cpu/gating.pyx.

See include/gating.hpp for the formulas. The 16-bit formats are widened and rounded by NumPy, piece by piece.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from fastnn.kernels.jit.exp import exp_parts
from fastnn.kernels.jit.intrinsics import constant, fmadd, formula, nearest, scale, select, vmax, vmin
from fastnn.kernels.jit.parallel import run_ranges
from fastnn.kernels.jit.rows import OPTIONS

Array = npt.NDArray[Any]
_PIECE = 1 << 15  # elements of the 16-bit formats that are widened at a time


@formula
def _gate(x: Any) -> tuple[Any, Any, Any]:
    """(z, e, k) with e^-|x| = e 2^k, e normal, and z = x bounded below."""
    V = type(x)
    low = V(2.0) * constant(x, "exp_low")
    t, n, _ = exp_parts(vmax(low, -abs(x)))
    bounded = vmax(V(2.0) - constant(x, "bias"), n)
    return vmax(low, x), scale(V(1.0) + t, bounded), n - bounded


@formula
def _with_power(x: Any, k: Any) -> Any:
    V = type(x)
    half = nearest(k * V(0.5))
    return scale(scale(x, half), k - half)


@formula
def _sigmoid(x: Any, e: Any, k: Any) -> tuple[Any, Any]:
    V = type(x)
    above = x >= V(0.0)
    return select(above, V(1.0), e) / (V(1.0) + e), select(above, V(0.0), k)


@formula
def _square(e: Any) -> Any:
    V = type(e)
    return fmadd(e, e + V(2.0), V(1.0))


@formula
def _glu_of(a: Any, b: Any) -> Any:
    _, e, k = _gate(b)
    s, power = _sigmoid(b, e, k)
    return _with_power(a * s, power)


@formula
def _glu_slopes(dy: Any, a: Any, b: Any) -> tuple[Any, Any]:
    _, e, k = _gate(b)
    s, power = _sigmoid(b, e, k)
    return _with_power(dy * s, power), _with_power(dy * (e / _square(e)) * a, k)


@formula
def _swiglu_of(a: Any, b: Any) -> Any:
    z, e, k = _gate(a)
    s, power = _sigmoid(a, e, k)
    return _with_power(z * s * b, power)


@formula
def _swiglu_slopes(dy: Any, a: Any, b: Any) -> tuple[Any, Any]:
    V = type(a)
    z, e, k = _gate(a)
    s, power = _sigmoid(a, e, k)
    sum = V(1.0) + vmin(V(-2.0) * constant(a, "exp_low"), z)
    slope = select(a >= V(0.0), fmadd(e, sum, V(1.0)), fmadd(e, e, e * sum)) / _square(e)
    return _with_power(dy * slope * b, power), _with_power(z * s * dy, power)


@njit(**OPTIONS)
def _forward(x: Any, y: Any, first: bool) -> None:
    for outer in range(x.shape[0]):
        a, b, out = x[outer, 0], x[outer, 1], y[outer]
        if first:
            for i in range(out.size):
                out[i] = _swiglu_of(a[i], b[i])
        else:
            for i in range(out.size):
                out[i] = _glu_of(a[i], b[i])


@njit(**OPTIONS)
def _backward(dy: Any, x: Any, dx: Any, first: bool) -> None:
    for outer in range(x.shape[0]):
        incoming, a, b, da, db = dy[outer], x[outer, 0], x[outer, 1], dx[outer, 0], dx[outer, 1]
        if first:
            for i in range(incoming.size):
                da[i], db[i] = _swiglu_slopes(incoming[i], a[i], b[i])
        else:
            for i in range(incoming.size):
                da[i], db[i] = _glu_slopes(incoming[i], a[i], b[i])


@njit(**OPTIONS)
def _largest(x: Any, y: Any) -> None:
    for outer in range(x.shape[0]):
        for i in range(x.shape[2]):
            best = x[outer, 0, i]
            for piece in range(1, x.shape[1]):
                v = x[outer, piece, i]
                if v > best or (v != v and best == best):
                    best = v
            y[outer, i] = best


@njit(**OPTIONS)
def _largest_backward(dy: Any, x: Any, dx: Any) -> None:
    for outer in range(x.shape[0]):
        for i in range(x.shape[2]):
            best, index = x[outer, 0, i], 0
            for piece in range(1, x.shape[1]):
                v = x[outer, piece, i]
                if v > best or (v != v and best == best):
                    best, index = v, piece
            for piece in range(x.shape[1]):
                dx[outer, piece, i] = 0
            dx[outer, index, i] = dy[outer, i]


def maxout(x: Array, out: Array) -> None:
    """Write the largest along axis 1 of `x`, (outer, pieces, inner), to `out`, (outer, inner)."""
    _each(_largest, out, x)


def maxout_backward(dy: Array, x: Array, out: Array) -> None:
    """Write `dy` to the place of the first of the largest, and 0 elsewhere."""
    _each(_largest_backward, out, dy, x)


def glu(x: Array, out: Array) -> None:
    """a sigmoid(b) of the halves a, b of `x`, (outer, 2, inner)."""
    _each(lambda a, b: _forward(a, b, False), out, x)


def glu_backward(dy: Array, x: Array, out: Array) -> None:
    """Write the gradient of glu."""
    _each(lambda a, b, c: _backward(a, b, c, False), out, dy, x)


def swiglu(x: Array, out: Array) -> None:
    """silu(a) b of the halves a, b of `x`, (outer, 2, inner)."""
    _each(lambda a, b: _forward(a, b, True), out, x)


def swiglu_backward(dy: Array, x: Array, out: Array) -> None:
    """Write the gradient of swiglu."""
    _each(lambda a, b, c: _backward(a, b, c, True), out, dy, x)


def _each(loop: Callable[..., None], out: Array, *arrays: Array) -> None:
    """Call loop(*arrays, out) for shares of the first axis, on several threads."""
    rows = out.shape[0]
    if out.size == 0:
        return
    each = out.size // rows

    def share(begin: int, end: int) -> None:
        first, last = -(-begin // each), -(-end // each)
        step = last - first if out.itemsize > 2 else max(1, _PIECE // each)
        for at in range(first, last, max(step, 1)):
            part = slice(at, min(last, at + step))
            if out.itemsize > 2:
                loop(*(array[part] for array in arrays), out[part])
                continue
            result = np.empty(out[part].shape, np.float32)
            loop(*(array[part].astype(np.float32) for array in arrays), result)
            with np.errstate(all="ignore"):
                out[part] = result

    run_ranges(out.size, share)
