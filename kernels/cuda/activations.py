"""The activations for CuPy arrays: `forward` and `backward` by name, as in the other backends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastnn.broadcast import aligned_shape, split_shape
from fastnn.kernels.cuda.compiler import (
    Family,
    blocks_for,
    compute_dtype,
    contiguous,
    cupy,
    launch,
    launch_elements,
    most_blocks,
    scalar,
)
from fastnn.kernels.cuda.layout import TooManyDimensions, layout
from fastnn.op import Op
from fastnn.table import OPS

__all__ = ["FAMILY", "backward", "forward"]

Array = Any

_ONE = np.dtype([("values", np.uint64), ("inner", np.int64), ("count", np.int64)])  # `varying` of activations.cu
_RUN = 4096  # elements of an array that one number serves are summed up in runs of this length
_SHORT = 32  # runs below this length are summed up column by column


def _expression(kernel: str, op: Op) -> str:
    parameters = ", {V}" * len(op.params)
    return f"{kernel}<{{T}}, fastnn::activation::{op.name}{parameters}>"


def _gradient(kernel: str, op: Op) -> str:
    return f"parameter_gradient_{kernel}<{{T}}, fastnn::activation::{op.name}>"


_ALWAYS = ("forward", "backward", "forward_strided", "backward_strided")
FAMILY = Family(
    "activations",
    *(_expression(kernel, op) for op in OPS.values() for kernel in _ALWAYS),
    *(
        _expression(kernel, op)
        for op in OPS.values()
        if op.params
        for kernel in ("forward_varying", "backward_varying")
    ),
    *(_gradient(kernel, op) for op in OPS.values() if op.learned is not None for kernel in ("runs", "columns")),
    "sum_parts<{V}>",
    separately=True,
)


def forward(name: str, x: Array, *params: Any, out: Array | None = None) -> Array:
    """Evaluate the activation `name` at `x`; parameters are numbers, or arrays on the device."""
    return _evaluate("forward", OPS[name], (x,), params, out)


def backward(name: str, dy: Array, saved: Array, *params: Any, out: Array | None = None) -> Array | tuple[Array, Array]:
    """dx from dy, or (dx, dparam) where the op has a learned parameter; `out` receives dx."""
    op = OPS[name]
    if op.learned is None:
        return _evaluate("backward", op, (dy, saved), params, out)
    dparam = _parameter_gradient(op, dy, saved, params[op.learned])  # first, for `out` may be one of the operands
    return _evaluate("backward", op, (dy, saved), params, out), dparam


def _evaluate(kernel: str, op: Op, inputs: tuple[Array, ...], params: Sequence[Any], out: Array | None) -> Array:
    like = inputs[-1]
    result = cupy().empty_like(like) if out is None else out
    if any([_is_on_device(param) for param in params]):
        return _varying(kernel, op, inputs, params, result)
    numbers = [scalar(param, like.dtype) for param in params]
    try:
        places = layout(result, *inputs)
    except TooManyDimensions:
        result[...] = _evaluate(kernel, op, tuple(map(contiguous, inputs)), params, None).reshape(result.shape)
        return result
    if places is None:
        found = FAMILY.kernel(_expression(kernel, op), like.dtype)
        packs = 3 - len(inputs)
        launch_elements(found, like.size, like.itemsize, result, *inputs, like.size, *numbers, packs=packs)
    else:
        found = FAMILY.kernel(_expression(f"{kernel}_strided", op), like.dtype)
        launch(found, blocks_for(like.size), result, *inputs, places, *numbers)
    return result


def _is_on_device(param: Any) -> bool:
    return isinstance(param, cupy().ndarray)


def _varying(kernel: str, op: Op, inputs: tuple[Array, ...], params: Sequence[Any], result: Array) -> Array:
    """Parameters of more than one value: the arrays lie without gaps, a copy of them if need be."""
    like = inputs[-1]
    into = result if result.flags.c_contiguous else cupy().empty(like.shape, like.dtype)
    values = [_values(op, k, like, param) for k, param in enumerate(params)]
    found = FAMILY.kernel(_expression(f"{kernel}_varying", op), like.dtype)
    operands = [contiguous(each) for each in inputs]
    launch_elements(found, like.size, like.itemsize, into, *operands, like.size, *(each for each, _ in values))
    if into is not result:
        result[...] = into
    return result


def _values(op: Op, which: int, like: Array, param: Any) -> tuple[Any, Array]:
    """The argument `varying` for a parameter of `like`, and the array that it points into."""
    dtype, shape = compute_dtype(like.dtype), like.shape
    array = param.astype(dtype, copy=False) if _is_on_device(param) else cupy().full((), param, dtype)
    wanted = aligned_shape(shape, array.shape) if which == op.learned else array.shape
    split = split_shape(shape, wanted)
    if split is None:
        array, split = cupy().broadcast_to(array.reshape(wanted), shape), (1, like.size, 1)
    array = contiguous(array)
    return np.array((array.data.ptr, max(split[2], 1), max(split[1], 1)), _ONE), array


def _parameter_gradient(op: Op, dy: Array, x: Array, param: Any) -> Array:
    """What each value of the learned parameter's contributes, summed up in double and rounded once."""
    module, dtype = cupy(), compute_dtype(x.dtype)
    dy, x = contiguous(dy), contiguous(x)
    shape = param.shape if _is_on_device(param) else ()
    aligned = aligned_shape(x.shape, shape)
    split = split_shape(x.shape, aligned)
    if split is None:  # sums over axes on both sides of others: element by element first
        each = _parameter_gradient(
            op, dy, x, module.broadcast_to(module.asarray(param, dtype).reshape(aligned), x.shape)
        )
        padded = (1,) * (x.ndim - len(aligned)) + aligned
        axes = tuple([axis for axis, length in enumerate(padded) if length == 1])
        return each.sum(axis=axes, dtype=np.float64).astype(dtype).reshape(shape)
    outer, channels, inner = split
    total = module.empty(channels, dtype)
    values, kept = _values(op, op.learned or 0, x, param)
    if channels == 1:
        outer, inner = max(-(-x.size // _RUN), 1), _RUN
    wanted = max(most_blocks() // max(channels, 1), 1)  # parts, so that all multiprocessors have work
    if inner < _SHORT:
        parts, columns = max(min(wanted * 16, outer // 64), 1), channels * inner
        partial = module.empty(parts * columns, np.float64)
        found = FAMILY.kernel(_gradient("columns", op), x.dtype)
        launch(found, blocks_for(parts * columns), partial, dy, x, values, outer, columns, parts)
    else:
        parts, inner_parts = max(min(wanted, outer // 8), 1), 1
        partial = module.empty(parts * channels, np.float64)
        found = FAMILY.kernel(_gradient("runs", op), x.dtype)
        blocks = min(parts * channels, most_blocks())
        launch(found, blocks, partial, dy, x, values, x.size, outer, channels, inner, parts)
        inner = inner_parts
    launch(FAMILY.kernel("sum_parts<{V}>", x.dtype), blocks_for(channels), total, partial, parts, channels, inner)
    return total.reshape(shape)
