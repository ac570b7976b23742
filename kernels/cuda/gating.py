"""maxout, glu and swiglu over x (outer, parts, inner). Source: gating.cu."""

from __future__ import annotations

from typing import Any

from fastnn.kernels.cuda.compiler import Family, launch_elements

Array = Any

FAMILY = Family(
    "gating",
    *(f"gate_{which}<{{T}}, fastnn::{op}>" for which in ("forward", "backward") for op in ("glu", "swiglu")),
    "maxout_forward<{T}>",
    "maxout_backward<{T}>",
)


def _gate(which: str, op: str, like: Array, *arrays: Array) -> None:
    kernel = FAMILY.kernel(f"gate_{which}<{{T}}, fastnn::{op}>", like.dtype)
    launch_elements(kernel, like.size, like.itemsize, *arrays, *like.shape)


def maxout(x: Array, out: Array) -> None:
    """Write the largest along axis 1 of `x`, (outer, pieces, inner), to `out`, (outer, inner)."""
    launch_elements(FAMILY.kernel("maxout_forward<{T}>", x.dtype), out.size, out.itemsize, x, out, *x.shape)


def maxout_backward(dy: Array, x: Array, out: Array) -> None:
    """Write `dy` to the place of the first of the largest, and 0 elsewhere."""
    launch_elements(FAMILY.kernel("maxout_backward<{T}>", x.dtype), dy.size, dy.itemsize, dy, x, out, *x.shape)


def glu(x: Array, out: Array) -> None:
    """a sigmoid(b) of the halves a, b of `x`, (outer, 2, inner)."""
    _gate("forward", "glu", out, x, out)


def glu_backward(dy: Array, x: Array, out: Array) -> None:
    """Write the gradient of glu."""
    _gate("backward", "glu", dy, dy, x, out)


def swiglu(x: Array, out: Array) -> None:
    """silu(a) b of the halves a, b of `x`, (outer, 2, inner)."""
    _gate("forward", "swiglu", out, x, out)


def swiglu_backward(dy: Array, x: Array, out: Array) -> None:
    """Write the gradient of swiglu."""
    _gate("backward", "swiglu", dy, dy, x, out)
