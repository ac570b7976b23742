"""Losses: `loss(x, target)` is a number, `loss.backward()` the gradient by x, in memory that is used again."""

from __future__ import annotations

import math
from collections.abc import Callable
from sys import modules
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from fastnn.arrays import beside, host, namespace, on_device, together
from fastnn.functions import losses as functions
from fastnn.functions.losses import REDUCTIONS
from fastnn.nn.checks import Array, floating
from fastnn.nn.module import Module


class Loss(Module):
    """A loss of PyTorch's name and arguments. Under `no_grad` only the number is computed.

    reduction: "mean", "sum", or "none" for an array with one number for each position; `backward` then takes the
    gradient by that array. With the others it may take a number by which the gradient is multiplied.
    """

    _value: ClassVar[Callable[..., Any]]
    _both: ClassVar[Callable[..., Any]]
    reduction: str

    def _options(self) -> dict[str, Any]:
        return {"reduction": self.reduction}

    def _set_reduction(self, reduction: str) -> None:
        if reduction not in REDUCTIONS:
            raise ValueError(
                f"{type(self).__name__}: reduction is {reduction!r}; expected one of {', '.join(map(repr, REDUCTIONS))}"
            )
        self.reduction = reduction

    def __call__(self, x: Any, target: Any) -> Any:  # type: ignore[override]
        """`forward`, then the hooks, which get (x, target) for x."""
        if type(x) is not self._kind:
            self.settle(x)
        value = self.forward(x, target)
        for hook in tuple(self._forward_hooks.values()):
            hook(self, (x, target), value)
        return value

    def settle(self, x: Any) -> None:
        """Weights of classes go where x is."""
        super().settle(x)
        for name, buffer in self._buffers.items():
            if buffer is not None and on_device(buffer) is not on_device(x):
                setattr(self, name, beside(x, host(buffer)))

    def forward(self, x: Any, target: Any) -> Any:  # type: ignore[override]
        x = floating(type(self).__name__, x)
        if not self.saving:
            value = type(self)._value(x, target, **self._options())
            self.save()
        else:
            out = self.workspace("dx", x.shape, x.dtype)
            value, dx = type(self)._both(x, target, **self._options(), out=out)
            self.save(dx, self.reduction)
        return value if self.reduction == "none" else self._read(value, x, target)

    def _read(self, value: Any, x: Array, target: Any) -> float:
        """The number, for which a device is waited for: there it may say what functions do not read back."""
        number = float(value)
        if math.isnan(number) and on_device(x):
            self._explain(x, target)
        return number

    def _explain(self, x: Array, target: Any) -> None:
        """ValueError if NaN came from a label that is no class."""

    def backward(self, dy: Any = None) -> Any:
        """The gradient by x, times dy."""
        dx, reduction = self.saved
        if reduction == "none":
            return np.multiply(dx, self._spread(dy, dx), out=self.workspace("scaled", dx.shape, dx.dtype))
        if dy is None:
            return dx
        return np.multiply(dx, dx.dtype.type(dy), out=self.workspace("scaled", dx.shape, dx.dtype))

    def _spread(self, dy: Any, dx: Array) -> Array:
        """dy for each element of dx."""
        if dy is None:
            raise TypeError(
                f"{type(self).__name__}.backward: dy is None; expected an array: there is one loss per position"
            )
        if "cupy" in modules:
            together(f"{type(self).__name__}.backward", dy=dy, x=dx)
        return namespace(dx).asarray(dy, dx.dtype)  # type: ignore[no-any-return]

    def extra_repr(self) -> str:
        return f"reduction={self.reduction!r}"


def _check_classes(title: str, labels: Any, classes: int, ignored: int | None) -> None:
    """ValueError for the first label that is no class."""
    array = host(labels)
    if array.dtype.kind not in "iu":
        return
    bad = (array < 0) | (array >= classes)
    if ignored is not None:
        bad &= array != ignored
    if bad.any():
        where = tuple(map(int, np.argwhere(bad)[0]))
        raise ValueError(f"{title}: labels at {where} is {array[where]}; expected a class from 0 to {classes - 1}")


def _weights(values: Any) -> Array | None:
    return None if values is None else values if on_device(values) else np.asarray(values)


def _along_classes(dy: Array) -> Array:
    return dy[:, None] if dy.ndim else dy


class CrossEntropyLoss(Loss):
    """Softmax cross-entropy of logits (N, C) or (N, C, *positions): the mean of -log softmax(x)[label].

    target: integer labels (N, *positions), or probabilities of x's shape. weight: one number per class. Labels equal to
    ignore_index count nothing. label_smoothing in [0, 1] mixes targets with the uniform distribution.
    """

    _value = staticmethod(functions.cross_entropy)
    _both = staticmethod(functions.cross_entropy_and_grad)

    def __init__(
        self,
        weight: npt.ArrayLike | None = None,
        *,
        ignore_index: int = -100,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> None:
        self._set_reduction(reduction)
        self.register_buffer("weight", _weights(weight))
        self.ignore_index, self.label_smoothing = ignore_index, label_smoothing

    weight: Array | None

    def _options(self) -> dict[str, Any]:
        return {
            "weight": self.weight,
            "ignore_index": self.ignore_index,
            "label_smoothing": self.label_smoothing,
            "reduction": self.reduction,
        }

    def _spread(self, dy: Any, dx: Array) -> Array:
        return _along_classes(super()._spread(dy, dx))

    def _explain(self, x: Array, target: Any) -> None:
        _check_classes("CrossEntropyLoss", target, x.shape[1], self.ignore_index)


class HingeLoss(Loss):
    """Multiclass hinge loss (SVM): the mean of sum over j != label of max(0, x[j] - x[label] + margin).

    x (N, C) or (N, C, *positions), target integer labels (N, *positions). PyTorch's MultiMarginLoss divides by C too.
    """

    _value = staticmethod(functions.hinge_loss)
    _both = staticmethod(functions.hinge_loss_and_grad)

    def __init__(self, margin: float = 1.0, *, reduction: str = "mean") -> None:
        self._set_reduction(reduction)
        self.margin = margin

    def _options(self) -> dict[str, Any]:
        return {"margin": self.margin, "reduction": self.reduction}

    def _spread(self, dy: Any, dx: Array) -> Array:
        return _along_classes(super()._spread(dy, dx))

    def _explain(self, x: Array, target: Any) -> None:
        _check_classes("HingeLoss", target, x.shape[1], None)


class MSELoss(Loss):
    """The mean of (x - target)^2, x and target of one shape."""

    _value = staticmethod(functions.squared_error)
    _both = staticmethod(functions.squared_error_and_grad)

    def __init__(self, *, reduction: str = "mean") -> None:
        self._set_reduction(reduction)


class BCEWithLogitsLoss(Loss):
    """Binary cross-entropy of sigmoid(x) and target, numbers in [0, 1] of x's shape.

    weight multiplies each loss, pos_weight its part for target 1; both broadcast to x's shape.
    """

    _value = staticmethod(functions.binary_cross_entropy_with_logits)
    _both = staticmethod(functions.binary_cross_entropy_with_logits_and_grad)

    def __init__(
        self,
        weight: npt.ArrayLike | None = None,
        *,
        reduction: str = "mean",
        pos_weight: npt.ArrayLike | None = None,
    ) -> None:
        self._set_reduction(reduction)
        self.register_buffer("weight", _weights(weight))
        self.register_buffer("pos_weight", _weights(pos_weight))

    weight: Array | None
    pos_weight: Array | None

    def _options(self) -> dict[str, Any]:
        return {"weight": self.weight, "pos_weight": self.pos_weight, "reduction": self.reduction}
