"""ONNX's operators that compute with and rearrange arrays as NumPy does; none makes far more of what it is given."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastnn.nn.memory import Array
from fastnn.onnx.reading import Node

_FREE = 2**28  # elements that any file may ask for
_GROWTH = 100  # times the elements of the inputs, beyond that


def affordable(shape: Sequence[int], *inputs: Array) -> None:
    """ValueError for a result of this shape where few numbers would become very many."""
    if (count := math.prod(shape)) > max(_FREE, _GROWTH * sum(array.size for array in inputs)):
        raise ValueError(
            f"would make an array of shape {tuple(shape)}, {count} elements; expected at most 2^28, or 100 of one"
        )


def _broadcast(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of two arrays, or of many in turn."""

    def operator(n: Node, *inputs: Array) -> Array:
        y = inputs[0]
        for x in inputs[1:]:
            affordable(np.broadcast_shapes(y.shape, x.shape), y, x)
            y = function(y, x)
        return y

    return operator


def _divide(a: Array, b: Array) -> Array:
    """Integers are rounded towards 0."""
    if a.dtype.kind not in "iu":
        return np.asarray(np.divide(a, b))
    quotient = np.floor_divide(a, b)
    if a.dtype.kind == "i":
        quotient = quotient + ((quotient < 0) & (quotient * b != a)).astype(a.dtype)
    return np.asarray(quotient)


def _matmul(n: Node, a: Array, b: Array) -> Array:
    rows, columns = a.shape[-2:-1], b.shape[-1:] if b.ndim > 1 else ()
    affordable((*np.broadcast_shapes(a.shape[:-2], b.shape[:-2]), *rows, *columns), a, b)
    return np.asarray(np.matmul(a, b))


def _axes(n: Node, axes: Array | None) -> tuple[int, ...] | None:
    """Axes, from an input or, in older versions of operators, an attribute."""
    found = n.get("axes") if axes is None else axes.reshape(-1).tolist()
    return None if found is None else tuple(found)


def _reduce(n: Node, x: Array, axes: Array | None = None) -> Array:
    along = _axes(n, axes)
    if not along:
        if n.get("noop_with_empty_axes", 0):
            return x
        along = None
    keep = bool(n.get("keepdims", 1))
    if n.op == "ReduceMean":
        return np.asarray(np.mean(x, along, keepdims=keep, dtype=x.dtype))
    lowest: Any = -np.inf if x.dtype.kind == "f" else False if x.dtype.kind == "b" else np.iinfo(x.dtype).min
    return np.asarray(np.max(x, along, keepdims=keep, initial=lowest))


def _constant(n: Node) -> Array:
    for name, kind in (("float", np.float32), ("floats", np.float32), ("int", np.int64), ("ints", np.int64)):
        if f"value_{name}" in n.attributes:
            return np.array(n.attributes[f"value_{name}"], kind)
    found = n.get("value")
    if not isinstance(found, np.ndarray):
        raise ValueError("is a constant without numbers; expected value, value_float(s) or value_int(s)")
    return found


def _reshape(n: Node, x: Array, shape: Array) -> Array:
    lengths = shape.reshape(-1).tolist()
    if not n.get("allowzero", 0):
        lengths = [x.shape[axis] if length == 0 else length for axis, length in enumerate(lengths)]
    return x.reshape(lengths)


def _flatten(n: Node, x: Array) -> Array:
    axis = n.get("axis", 1)
    if not -x.ndim <= axis <= x.ndim:
        raise ValueError(f"axis is {axis} for an input of shape {x.shape}")
    axis += x.ndim if axis < 0 else 0
    return x.reshape(math.prod(x.shape[:axis]), math.prod(x.shape[axis:]))


def _squeeze(n: Node, x: Array, axes: Array | None = None) -> Array:
    return np.squeeze(x, _axes(n, axes))


def _unsqueeze(n: Node, x: Array, axes: Array) -> Array:
    return np.expand_dims(x, _axes(n, axes) or ())


def _shape(n: Node, x: Array) -> Array:
    return np.array(x.shape[n.get("start", 0) : n.get("end")], np.int64)


def _slice(
    n: Node, x: Array, starts: Array, ends: Array, axes: Array | None = None, steps: Array | None = None
) -> Array:
    along = range(len(starts)) if axes is None else axes.tolist()
    by = [1] * len(starts) if steps is None else steps.tolist()
    index = [slice(None)] * x.ndim
    for axis, start, end, step in zip(along, starts.tolist(), ends.tolist(), by, strict=True):
        length = x.shape[axis]
        backwards = step < 0 and end < -length  # before the first element, which a slice of Python calls None
        index[axis] = slice(start, None if backwards else end, step)
    return x[tuple(index)]


def _split(n: Node, x: Array, sizes: Array | None = None) -> tuple[Array, ...]:
    axis, parts = n.get("axis", 0), len(n.outputs)
    length = x.shape[axis]
    each = -(-length // parts)
    lengths = [each] * (parts - 1) + [length - each * (parts - 1)] if sizes is None else sizes.tolist()
    if len(lengths) != parts or sum(lengths) != length or min(lengths) < 0:
        raise ValueError(f"splits {length} elements into {lengths}; expected {parts} lengths of that sum")
    return tuple(np.split(x, np.cumsum(lengths)[:-1], axis))


def _pad(n: Node, x: Array, pads: Array, value: Array | None = None, axes: Array | None = None) -> Array:
    along = list(range(x.ndim)) if axes is None else [axis % x.ndim for axis in axes.tolist()]
    numbers = pads.tolist()
    if len(numbers) != 2 * len(along):
        raise ValueError(f"pads are {numbers} for an input of shape {x.shape}; expected two for each axis")
    pairs, index = [(0, 0)] * x.ndim, [slice(None)] * x.ndim
    for axis, before, after in zip(along, numbers, numbers[len(along) :], strict=False):
        pairs[axis] = max(before, 0), max(after, 0)
        index[axis] = slice(max(-before, 0), x.shape[axis] - max(-after, 0))  # negative ones take away
    affordable([length + sum(pair) for length, pair in zip(x.shape, pairs, strict=True)], x)
    mode = n.get("mode", "constant")
    options = {} if mode != "constant" or value is None else {"constant_values": value.reshape(())}
    return np.pad(x[tuple(index)], pairs, mode, **options)


def _gather(n: Node, x: Array, indices: Array) -> Array:
    axis = n.get("axis", 0)
    affordable((*indices.shape, x.size // max(1, x.shape[axis])), x, indices)
    return np.take(x, indices, axis)


ARRAYS: dict[str, Callable[..., Any]] = {
    "Abs": lambda n, x: np.abs(x),
    "Add": _broadcast(np.add),
    "Concat": lambda n, *inputs: np.concatenate(inputs, n.get("axis")),
    "Constant": _constant,
    "Div": _broadcast(_divide),
    "Exp": lambda n, x: np.exp(x),
    "Flatten": _flatten,
    "Gather": _gather,
    "Identity": lambda n, x: x,
    "Log": lambda n, x: np.log(x),
    "MatMul": _matmul,
    "Max": _broadcast(np.maximum),
    "Min": _broadcast(np.minimum),
    "Mul": _broadcast(np.multiply),
    "Neg": lambda n, x: np.negative(x),
    "Pad": _pad,
    "Pow": _broadcast(lambda x, y: np.power(x, y).astype(x.dtype, copy=False)),
    "ReduceMax": _reduce,
    "ReduceMean": _reduce,
    "Reshape": _reshape,
    "Shape": _shape,
    "Slice": _slice,
    "Split": _split,
    "Sqrt": lambda n, x: np.sqrt(x),
    "Squeeze": _squeeze,
    "Sub": _broadcast(np.subtract),
    "Transpose": lambda n, x: np.transpose(x, n.get("perm")),
    "Unsqueeze": _unsqueeze,
}
