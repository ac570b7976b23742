"""Linear layers: products by cuBLAS, the rest by the kernels of linear.cu."""

from __future__ import annotations

from typing import Any

from fastnn.fusion import Fused
from fastnn.kernels.cuda import channels
from fastnn.kernels.cuda.compiler import Family, compute_dtype, cupy, launch, launch_elements, launch_rows
from fastnn.kernels.cuda.fused import LAYERS, NONE, cxx, numbers
from fastnn.kernels.cuda.gemm import multiply

Array = Any

FAMILY = Family("linear", f"finish_rows<{{T}}, {NONE}>", "store_product<{T}>", "bias_sums<{T}>", "bias_totals<{V}>")


def forward(x: Array, weight: Array, bias: Array | None, activation: Fused | None, y: Array, z: Array | None) -> None:
    """y = activation(z), z = x weight^T + bias. x, y and z have two axes; bias, activation and z may be None."""
    if y.size == 0:
        return
    wide = compute_dtype(y.dtype)
    product = y if y.dtype == wide else cupy().empty(y.shape, wide)
    multiply(x, weight.T, product)
    if bias is None and activation is None and z is None and product is y:
        return
    family = FAMILY if activation is None else LAYERS
    kernel = family.kernel(f"finish_rows<{{T}}, {cxx(activation)}>", y.dtype)
    shape = (y.size, y.shape[1])
    launch_elements(kernel, y.size, wide.itemsize, product, bias, y, z, *shape, *numbers(activation, y.dtype))


def backward(
    dy: Array,
    x: Array,
    weight: Array,
    saved: Array | None,
    activation: Fused | None,
    dz: Array | None,
    dx: Array | None,
    dweight: Array | None,
    dbias: Array | None,
    accumulate: bool,
) -> None:
    """The gradients that are not None. dweight and dbias are added to where `accumulate`; dz is scratch, or None."""
    if activation is not None:
        incoming, dtype = dy, dy.dtype
        dy = cupy().empty(dy.shape, compute_dtype(dtype)) if dz is None else dz
        kernel = LAYERS.kernel(f"slopes<{{T}}, {cxx(activation)}>", dtype)
        launch_elements(kernel, dy.size, dy.itemsize, incoming, saved, dy, dy.size, *numbers(activation, dtype))
    if dx is not None:
        _store(dy, weight, dx, False)
    if dweight is not None:
        _store(dy.T, x, dweight, accumulate)
    if dbias is not None:
        sum_channels(FAMILY, dy.reshape(*dy.shape, 1), dbias, accumulate)


def _store(a: Array, b: Array, to: Array, accumulate: bool) -> None:
    """to = a b, or to += a b."""
    if to.size == 0:
        return
    wide = compute_dtype(to.dtype)
    if to.dtype == wide and not accumulate:
        multiply(a, b, to)
        return
    product = cupy().empty(to.shape, wide)
    multiply(a, b, product)
    kernel = FAMILY.kernel("store_product<{T}>", to.dtype)
    launch_elements(kernel, to.size, wide.itemsize, product, to, to.size, int(accumulate))


def sum_channels(family: Family, dy: Array, sums: Array, accumulate: bool) -> None:
    """The sums of dy (outer, channels, inner) by channel, rounded once; the family has the kernels of bias.cuh."""
    outer, count, inner = dy.shape
    if dy.size == 0:
        if not accumulate:
            sums.fill(0)
        return
    splits = channels.shares(outer, count, inner)
    shape = (outer, count, inner, splits)
    partial = channels.partial_sums(1, count, inner, splits)
    launch(family.kernel("bias_sums<{T}>", dy.dtype), channels.tasks(count, inner, splits), dy, partial, *shape)
    kernel = family.kernel("bias_totals<{V}>", dy.dtype)
    launch_rows(kernel, count, partial, sums, *shape, int(accumulate), threads=64)
