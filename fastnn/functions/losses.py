"""The public functions of the family `losses`."""

from __future__ import annotations

import math
from sys import modules
from typing import Any, NamedTuple, SupportsFloat, SupportsIndex

import numpy as np
import numpy.typing as npt

from fastnn.arguments import (
    Array,
    check_apart,
    check_out,
    checked_axis,
    parameter_dtype,
    plain,
    real_array,
    real_number,
    receiver,
    stored,
    whole_number,
)
from fastnn.arrays import beside, empty, namespace, on_device, together
from fastnn.dispatch import implementation
from fastnn.function import public
from fastnn.functions.softmax import split
from fastnn.table.losses import ROWS

__all__ = [row.name for row in ROWS]

_ROW = {row.name: row for row in ROWS}
REDUCTIONS = ("mean", "sum", "none")
_LARGE = float(np.finfo(np.float32).max)
_NEVER = -(2**63)  # a label that is never a class
Loss = Any  # a NumPy scalar, on a device an array of no axes there; with reduction "none" an array


def _check_reduction(title: str, reduction: object) -> None:
    expected = f"expected one of {', '.join(map(repr, REDUCTIONS))}"
    if not isinstance(reduction, str):
        raise TypeError(f"{title}: reduction is {reduction!r} of type {type(reduction).__name__}; {expected}")
    if reduction not in REDUCTIONS:
        raise ValueError(f"{title}: reduction is {reduction!r}; {expected}")


class _Scores(NamedTuple):
    """Checked scores as (outer, classes, inner), with what belongs to them."""

    title: str
    name: str
    array: Array
    axis: int
    split: tuple[int, int, int]

    @property
    def positions(self) -> tuple[int, ...]:
        return self.array.shape[: self.axis] + self.array.shape[self.axis + 1 :]

    def kernel_view(self) -> Array:
        return plain(self.array).reshape(self.split)

    def labels(self, labels: Array) -> Array:
        """Integer labels as int64 (outer, inner)."""
        if labels.shape != self.positions:
            raise ValueError(
                f"{self.title}: labels has shape {labels.shape}; expected {self.positions}, one for each position "
                f"of {self.name}, whose shape is {self.array.shape} with classes along axis {self.axis}"
            )
        if labels.dtype == np.uint64:
            labels = namespace(labels).minimum(labels, np.uint64(2**63 - 1))
        return plain(labels.astype(np.int64, copy=False)).reshape(self.split[0], self.split[2])

    def weigh(self, labels: Array, given: Array, ignored: int | None, weight: Array | None) -> Any:
        """How much the labels count; ValueError for the first that is no class.

        On a device nothing is read back: the number stays there, and a label that is no class makes its loss NaN.
        """
        each = None if weight is None else weight.astype(np.float64)
        bad, counted = implementation("losses", labels).check_labels(labels, self.split[1], ignored, each)
        if on_device(labels):
            return counted
        if bad >= 0:
            where = tuple(map(int, np.unravel_index(bad, self.positions)))
            raise ValueError(
                f"{self.title}: labels at {where} is {given[where]}; expected a class from 0 to {self.split[1] - 1}"
                + ("" if ignored is None else f", or ignore_index {ignored}")
            )
        return float(counted)


def _scores(title: str, name: str, value: object, axis: object) -> _Scores:
    array = real_array(title, name, value)
    index = checked_axis(title, axis, name, array.ndim)
    return _Scores(title, name, array, index, split(array.shape, index))


def _integer_labels(title: str, labels: object) -> Array:
    found: Any = real_array(title, "labels", labels) if not _is_integer(labels) else labels
    array: Array = found if on_device(found) else np.asarray(found)
    if array.dtype.kind not in "iu":
        raise TypeError(f"{title}: labels has dtype {array.dtype}; expected integers")
    return array


def _is_integer(labels: object) -> bool:
    """Are these labels, or lists of them, whole numbers?"""
    try:
        array: Any = labels if on_device(labels) else np.asarray(labels)
    except (TypeError, ValueError):
        return False
    return array.dtype.kind in "iu" and array.dtype.isnative


def _nothing(losses: Array | None) -> Any:
    """The sum of losses where there are no classes, or no positions."""
    if losses is not None:
        losses[...] = 0
    return 0.0


def _made(title: str, wanted: bool, out: Array | None, **inputs: Array | None) -> Array | None:
    """Where the gradient by the first of the inputs goes, if it is wanted."""
    like = next(iter(inputs.values()))
    if not wanted or like is None:
        return None
    check_out(title, out, like.shape, like.dtype, {})
    check_apart(title, out, inputs)
    return receiver(out, like.shape, like.dtype, like)


class _Output:
    """What becomes of losses and gradient, and the scale of the latter."""

    def __init__(
        self, array: Array, positions: tuple[int, ...], reduction: str, counted: Any, gradient: Array | None
    ) -> None:
        self.single, self.like = parameter_dtype(array.dtype), array
        self.divisor = counted if reduction == "mean" else 1.0
        if on_device(self.divisor):
            self.divisor = namespace(array).where(counted > 0, counted, 1.0)
        elif not self.divisor > 0:
            self.divisor = 1.0
        self.scale = 1.0 / self.divisor
        self.positions, self.none = positions, reduction == "none"
        self.gradient = gradient

    def results(self, total: Any, losses: Array | None, out: Array | None) -> tuple[Loss, Array | None]:
        return self.loss(total, losses), None if self.gradient is None else stored(self.gradient, out)

    def loss(self, total: Any, losses: Array | None) -> Loss:
        if losses is not None:
            return losses.reshape(self.positions).astype(self.single, copy=False)
        value = total / self.divisor
        if on_device(self.like):
            return beside(self.like, value).astype(self.single)
        if abs(value) > _LARGE:  # infinity in float32 is the right result, and no reason to warn
            with np.errstate(over="ignore"):
                return self.single.type(value)
        return self.single.type(value)


def _cross_entropy(
    title: str,
    wanted: bool,
    logits: object,
    labels: object,
    axis: object,
    weight: object,
    ignore_index: object,
    label_smoothing: object,
    reduction: str,
    out: Array | None = None,
) -> tuple[Loss, Array | None]:
    _check_reduction(title, reduction)
    if "cupy" in modules:
        together(title, logits=logits, labels=labels, weight=weight, out=out)
    scores = _scores(title, "logits", logits, axis)
    smoothing = real_number(title, "label_smoothing", label_smoothing, low=0, high=1)
    ignored = _label_number(title, ignore_index)
    each = None if weight is None else _class_weight(title, weight, scores)
    whole = targets = None
    if _is_integer(labels):
        given: Any = labels if on_device(labels) else np.asarray(labels)
        whole = scores.labels(given)
        counted = scores.weigh(whole, given, ignored, each)
    else:
        soft = real_array(title, "labels", labels)
        if soft.shape != scores.array.shape:
            raise ValueError(
                f"{title}: labels has shape {soft.shape} and dtype {soft.dtype}; expected integers of shape "
                f"{scores.positions}, or soft labels of the shape of logits, {scores.array.shape}"
            )
        with np.errstate(all="ignore"):
            targets = plain(soft.astype(scores.array.dtype, copy=False)).reshape(scores.split)
        counted = float(math.prod(scores.positions))
    made = _made(title, wanted, out, logits=scores.array, labels=whole if targets is None else targets, weight=each)
    output = _Output(scores.array, scores.positions, reduction, counted, made)
    shape = (scores.split[0], scores.split[2])
    losses = empty(scores.array, shape, np.float64) if output.none else None
    gradient = None if made is None else made.reshape(scores.split)
    if scores.array.size:
        total = implementation("losses", scores.array).cross_entropy(
            scores.kernel_view(), whole, targets, each, ignored, smoothing, output.scale, gradient, losses
        )
    else:
        total = _nothing(losses)
    return output.results(total, losses, out)


def _label_number(title: str, ignore_index: object) -> int:
    number = whole_number(title, "ignore_index", ignore_index)
    if not -(2**63) <= number < 2**63:
        raise ValueError(f"{title}: ignore_index is {number}; expected an int of 64 bits")
    return number


def _class_weight(title: str, weight: object, scores: _Scores) -> Array:
    array = plain(real_array(title, "weight", weight)).astype(parameter_dtype(scores.array.dtype), copy=False)
    if array.shape != (scores.split[1],):
        raise ValueError(
            f"{title}: weight has shape {array.shape}; expected ({scores.split[1]},), one number for each class"
        )
    if on_device(array):  # whose numbers are not read back
        return array
    wrong = np.flatnonzero(~(np.isfinite(array) & (array >= 0)))
    if wrong.size:
        raise ValueError(f"{title}: weight[{wrong[0]}] is {array[wrong[0]]}; expected finite numbers from 0 up")
    return array


def _hinge(
    title: str,
    wanted: bool,
    scores: object,
    labels: object,
    axis: object,
    margin: object,
    reduction: str,
    out: Array | None = None,
) -> tuple[Loss, Array | None]:
    _check_reduction(title, reduction)
    if "cupy" in modules:
        together(title, scores=scores, labels=labels, out=out)
    checked = _scores(title, "scores", scores, axis)
    width = real_number(title, "margin", margin, low=0)
    given = _integer_labels(title, labels)
    whole = checked.labels(given)
    counted = checked.weigh(whole, given, None, None)
    made = _made(title, wanted, out, scores=checked.array, labels=whole)
    output = _Output(checked.array, checked.positions, reduction, counted, made)
    shape = (checked.split[0], checked.split[2])
    losses = empty(checked.array, shape, np.float64) if output.none else None
    gradient = None if made is None else made.reshape(checked.split)
    if checked.array.size:
        total = implementation("losses", checked.array).hinge_loss(
            checked.kernel_view(), whole, _NEVER, width, output.scale, gradient, losses
        )
    else:
        total = _nothing(losses)
    return output.results(total, losses, out)


def _pair(title: str, name: str, value: object, target: object) -> tuple[Array, Array]:
    """Two arrays of one shape; the second in the dtype of the first."""
    x, t = real_array(title, name, value), real_array(title, "target", target)
    if x.shape != t.shape:
        raise ValueError(f"{title}: {name} has shape {x.shape} and target has shape {t.shape}; expected the same shape")
    with np.errstate(all="ignore"):
        return plain(x), plain(t.astype(x.dtype, copy=False))


def _squared_error(
    title: str, wanted: bool, x: object, target: object, reduction: str, out: Array | None = None
) -> tuple[Loss, Array | None]:
    _check_reduction(title, reduction)
    if "cupy" in modules:
        together(title, x=x, target=target, out=out)
    values, targets = _pair(title, "x", x, target)
    made = _made(title, wanted, out, x=values, target=targets)
    output = _Output(values, values.shape, reduction, float(values.size), made)
    losses = empty(values, values.shape, output.single) if output.none else None
    total = implementation("losses", values).squared_error(values, targets, output.scale, made, losses)
    return output.results(total, losses, out)


def _element_weight(title: str, name: str, value: object, x: Array) -> Array | None:
    """None, one number, or an array like x."""
    if value is None:
        return None
    array = real_array(title, name, value).astype(parameter_dtype(x.dtype), copy=False)
    try:
        fits = np.broadcast_shapes(array.shape, x.shape) == x.shape
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(
            f"{title}: {name} has shape {array.shape}; expected a shape that broadcasts to that of logits, {x.shape}"
        )
    return plain(array) if array.ndim == 0 else plain(namespace(array).broadcast_to(array, x.shape))


def _binary(
    title: str,
    wanted: bool,
    logits: object,
    target: object,
    weight: object,
    pos_weight: object,
    reduction: str,
    out: Array | None = None,
) -> tuple[Loss, Array | None]:
    _check_reduction(title, reduction)
    if "cupy" in modules:
        together(title, logits=logits, target=target, weight=weight, pos_weight=pos_weight, out=out)
    x, t = _pair(title, "logits", logits, target)
    each, positive = (
        _element_weight(title, name, value, x) for name, value in (("weight", weight), ("pos_weight", pos_weight))
    )
    made = _made(title, wanted, out, logits=x, target=t, weight=each, pos_weight=positive)
    output = _Output(x, x.shape, reduction, float(x.size), made)
    losses = empty(x, x.shape, output.single) if output.none else None
    total = implementation("losses", x).binary_cross_entropy(x, t, each, positive, output.scale, made, losses)
    return output.results(total, losses, out)


def _both(results: tuple[Loss, Array | None]) -> tuple[Loss, Array]:
    loss, gradient = results
    assert gradient is not None
    return loss, gradient


@public(_ROW["cross_entropy"])
def cross_entropy(
    logits: npt.ArrayLike,
    labels: npt.ArrayLike,
    *,
    axis: SupportsIndex = 1,
    weight: npt.ArrayLike | None = None,
    ignore_index: SupportsIndex = -100,
    label_smoothing: SupportsFloat = 0.0,
    reduction: str = "mean",
) -> Loss:
    options = (axis, weight, ignore_index, label_smoothing, reduction)
    return _cross_entropy("cross_entropy", False, logits, labels, *options)[0]


@public(_ROW["cross_entropy_and_grad"])
def cross_entropy_and_grad(
    logits: npt.ArrayLike,
    labels: npt.ArrayLike,
    *,
    axis: SupportsIndex = 1,
    weight: npt.ArrayLike | None = None,
    ignore_index: SupportsIndex = -100,
    label_smoothing: SupportsFloat = 0.0,
    reduction: str = "mean",
    out: Array | None = None,
) -> tuple[Loss, Array]:
    options = (axis, weight, ignore_index, label_smoothing, reduction, out)
    return _both(_cross_entropy("cross_entropy_and_grad", True, logits, labels, *options))


@public(_ROW["hinge_loss"])
def hinge_loss(
    scores: npt.ArrayLike,
    labels: npt.ArrayLike,
    *,
    axis: SupportsIndex = 1,
    margin: SupportsFloat = 1.0,
    reduction: str = "mean",
) -> Loss:
    return _hinge("hinge_loss", False, scores, labels, axis, margin, reduction)[0]


@public(_ROW["hinge_loss_and_grad"])
def hinge_loss_and_grad(
    scores: npt.ArrayLike,
    labels: npt.ArrayLike,
    *,
    axis: SupportsIndex = 1,
    margin: SupportsFloat = 1.0,
    reduction: str = "mean",
    out: Array | None = None,
) -> tuple[Loss, Array]:
    return _both(_hinge("hinge_loss_and_grad", True, scores, labels, axis, margin, reduction, out))


@public(_ROW["squared_error"])
def squared_error(x: npt.ArrayLike, target: npt.ArrayLike, *, reduction: str = "mean") -> Loss:
    return _squared_error("squared_error", False, x, target, reduction)[0]


@public(_ROW["squared_error_and_grad"])
def squared_error_and_grad(
    x: npt.ArrayLike, target: npt.ArrayLike, *, reduction: str = "mean", out: Array | None = None
) -> tuple[Loss, Array]:
    return _both(_squared_error("squared_error_and_grad", True, x, target, reduction, out))


@public(_ROW["binary_cross_entropy_with_logits"])
def binary_cross_entropy_with_logits(
    logits: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    weight: npt.ArrayLike | None = None,
    pos_weight: npt.ArrayLike | None = None,
    reduction: str = "mean",
) -> Loss:
    options = (weight, pos_weight, reduction)
    return _binary("binary_cross_entropy_with_logits", False, logits, target, *options)[0]


@public(_ROW["binary_cross_entropy_with_logits_and_grad"])
def binary_cross_entropy_with_logits_and_grad(
    logits: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    weight: npt.ArrayLike | None = None,
    pos_weight: npt.ArrayLike | None = None,
    reduction: str = "mean",
    out: Array | None = None,
) -> tuple[Loss, Array]:
    options = (weight, pos_weight, reduction, out)
    return _both(_binary("binary_cross_entropy_with_logits_and_grad", True, logits, target, *options))
