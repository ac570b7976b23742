"""The rows of the family `softmax`.

The oracles keep what subtracting the maximum rounds off, and the maximum itself out of the sum, so that they are
accurate in float64 too: where an exponential is tiny, and where the maximum dominates.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from fastnn.function import Argument, Function


def total(x: Any) -> Any:
    """The sum along the last axis, in pairs whatever the layout."""
    return np.sum(np.ascontiguousarray(x), axis=-1, keepdims=True)


def exponentials(x: Any) -> tuple[Any, Any, Any, Any]:
    """Along the last axis: x - max, what that is short of, e^(x - max), and log of its sum."""
    with np.errstate(all="ignore"):
        top = np.max(x, axis=-1, keepdims=True) if x.shape[-1] else np.zeros((*x.shape[:-1], 1), x.dtype)
        d = x - top
        b = d - x
        lost = (x - (d - b)) - (top + b)
        lost = np.where(np.isfinite(lost), lost, 0)
        e = np.exp(d)
        e = e + e * lost
        ties = np.sum(x == top, axis=-1, keepdims=True)
        log = np.log1p(total(np.where(x == top, 0, e)) + np.maximum(ties - 1, 0))
        log = np.where(np.isfinite(top), log, np.nan)
    return d, lost, e, log


def _last(axis: int, *arrays: Any) -> tuple[Any, ...]:
    return tuple(np.moveaxis(array, axis, -1) for array in arrays)


def _softmax(x: Any, axis: int = -1) -> Any:
    (x,) = _last(axis, x)
    _, _, e, _ = exponentials(x)
    with np.errstate(all="ignore"):
        return np.moveaxis(e / total(e), -1, axis)


def _log_softmax(x: Any, axis: int = -1) -> Any:
    (x,) = _last(axis, x)
    d, lost, _, log = exponentials(x)
    return np.moveaxis(d - (log - lost), -1, axis)


def _softmax_backward(dy: Any, y: Any, axis: int = -1) -> Any:
    dy, y = _last(axis, dy, y)
    return np.moveaxis(y * (dy - total(dy * y)), -1, axis)


def _softmax_backward_scale(dx: Any, dy: Any, y: Any, axis: int = -1) -> Any:
    dy, y = _last(axis, np.abs(dy), np.abs(y))
    return np.moveaxis(y * (dy + total(dy * y)), -1, axis)


def _log_softmax_backward(dy: Any, y: Any, axis: int = -1) -> Any:
    dy, y = _last(axis, dy, y)
    return np.moveaxis(dy - np.exp(y) * total(dy), -1, axis)


def _log_softmax_backward_scale(dx: Any, dy: Any, y: Any, axis: int = -1) -> Any:
    dy, y = _last(axis, np.abs(dy), y)
    return np.moveaxis(dy + np.exp(y) * total(dy), -1, axis)


_SHAPES: tuple[tuple[tuple[int, ...], int], ...] = (
    ((5, 10), -1),
    ((3, 1000), 1),
    ((2, 7, 5, 9), 1),
    ((4, 33, 2), 1),
    ((1, 600, 3), 1),
    ((40, 3), 0),
    ((1,), 0),
    ((3, 1), -1),
    ((2, 0), -1),
    ((0, 4), -1),
)


def _examples(rng: np.random.Generator) -> Iterable[dict[str, Any]]:
    for index, (shape, axis) in enumerate(_SHAPES):
        yield {"x": rng.standard_normal(shape) * (1, 4, 20)[index % 3], "axis": axis}


def _backward_examples(forward: Callable[..., Any]) -> Callable[[np.random.Generator], Iterable[dict[str, Any]]]:
    def examples(rng: np.random.Generator) -> Iterable[dict[str, Any]]:
        for example in _examples(rng):
            axis = example.get("axis", -1)
            y = forward(example["x"], axis)
            yield {"dy": rng.standard_normal(y.shape), "y": y, "axis": axis}

    return examples


def _gradients(name: str) -> Callable[..., dict[str, Any]]:
    def gradients(dys: tuple[Any, ...], x: Any, axis: int = -1) -> dict[str, Any]:
        fastnn = importlib.import_module("fastnn")
        y = getattr(fastnn, name)(x, axis)
        return {"x": getattr(fastnn, f"{name}_backward")(dys[0], y, axis)}

    return gradients


_X = Argument(name="x", doc="array of at least one axis", role="array")
_AXIS = Argument(name="axis", doc="the axis whose elements are classes, from -x.ndim to x.ndim - 1")
_DY = Argument(name="dy", doc="gradient of the loss by y, of y's shape", role="array")
_DX = Argument(name="dx", doc="array of y's shape and dtype")
_OUT = Argument(name="out", doc="where the result goes, the input itself included")
_OUT_BACKWARD = Argument(name="out", doc="where dx goes, dy or y included")
_COPIED = "No memory beyond the result, unless an array or out is not C-contiguous: then one contiguous copy of it."
_VALUES = (
    "No logits overflow. A logit of -inf has probability 0; where all are -inf, one is +inf or one is NaN, everything "
    "along that axis is NaN."
)
_SOURCE = "Bridle (1990), Probabilistic interpretation of feedforward classification network outputs"

ROWS: tuple[Function, ...] = (
    Function(
        name="softmax",
        family="softmax",
        title="Softmax: probabilities from logits",
        formula="y = e^x / sum of e^x along axis",
        arguments=(_X, _AXIS, _OUT),
        returns=(Argument(name="y", doc="array of x's shape and dtype"),),
        source=_SOURCE,
        notes=(_VALUES, _COPIED),
        oracle=_softmax,
        examples=_examples,
        ulp=4,
        gradients=_gradients("softmax"),
        bytes="x is read once from memory, y written once, where a row fits the caches",
        operations="24 an element",
    ),
    Function(
        name="softmax_backward",
        family="softmax",
        title="Gradient of softmax, from its output",
        formula="dx = y (dy - sum of dy y along axis)",
        arguments=(_DY, Argument(name="y", doc="what softmax returned", role="array"), _AXIS, _OUT_BACKWARD),
        returns=(_DX,),
        source=_SOURCE,
        notes=("The sum is one of exact products in double precision.", _COPIED),
        oracle=_softmax_backward,
        examples=_backward_examples(_softmax),
        ulp=2,
        scale=_softmax_backward_scale,
        gradient_of="softmax",
        bytes="dy and y are read once from memory, dx written once",
        operations="5 an element",
    ),
    Function(
        name="log_softmax",
        family="softmax",
        title="Logarithm of softmax",
        formula="y = x - log(sum of e^x along axis)",
        arguments=(_X, _AXIS, _OUT),
        returns=(Argument(name="y", doc="array of x's shape and dtype"),),
        source=_SOURCE,
        notes=(
            "No logits overflow, and the logarithm of a probability next to 1 is as accurate as any other. A logit of "
            "-inf gives -inf; where all are -inf, one is +inf or one is NaN, everything along that axis is NaN.",
            _COPIED,
        ),
        oracle=_log_softmax,
        examples=_examples,
        ulp=4,
        gradients=_gradients("log_softmax"),
        bytes="x is read once from memory, y written once, where a row fits the caches",
        operations="27 an element",
    ),
    Function(
        name="log_softmax_backward",
        family="softmax",
        title="Gradient of log_softmax, from its output",
        formula="dx = dy - e^y (sum of dy along axis)",
        arguments=(_DY, Argument(name="y", doc="what log_softmax returned", role="array"), _AXIS, _OUT_BACKWARD),
        returns=(_DX,),
        source=_SOURCE,
        notes=("The sum is taken in double precision.", _COPIED),
        oracle=_log_softmax_backward,
        examples=_backward_examples(_log_softmax),
        ulp=3,
        scale=_log_softmax_backward_scale,
        gradient_of="log_softmax",
        bytes="dy and y are read once from memory, dx written once",
        operations="18 an element",
    ),
)
