"""Layers that normalise or choose along an axis: softmax, maxout, gated linear units."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from fastnn.arguments import whole_number
from fastnn.functions.gating import glu, glu_backward, maxout, maxout_backward, swiglu, swiglu_backward
from fastnn.functions.softmax import log_softmax, log_softmax_backward, softmax, softmax_backward
from fastnn.nn.checks import Array, check_gradient, count, floating
from fastnn.nn.module import Module


class _Softmax(Module):
    """softmax or log-softmax along `dim`."""

    _forward: ClassVar[Callable[..., Any]]
    _backward: ClassVar[Callable[..., Any]]
    dx_is_scratch = True

    def __init__(self, dim: int = -1) -> None:
        self.dim = whole_number(type(self).__name__, "dim", dim)

    def forward(self, x: Any) -> Any:
        x = floating(type(self).__name__, x)
        y = type(self)._forward(x, self.dim, out=self.result("y", x.shape, x.dtype))
        self.save(y)
        return y

    def backward(self, dy: Any) -> Any:
        (y,) = self.saved
        check_gradient(type(self).__name__, dy, y.shape, y.dtype)
        return type(self)._backward(dy, y, self.dim, out=self.gradient(dy))

    def extra_repr(self) -> str:
        return f"dim={self.dim}"


class Softmax(_Softmax):
    """y = e^x / sum of e^x along `dim`, of x's shape and dtype. CrossEntropyLoss takes logits, without it."""

    _forward = staticmethod(softmax)
    _backward = staticmethod(softmax_backward)


class LogSoftmax(_Softmax):
    """y = x - log of the sum of e^x along `dim`, of x's shape and dtype."""

    _forward = staticmethod(log_softmax)
    _backward = staticmethod(log_softmax_backward)


class _Gate(Module):
    """A layer whose result has a part of x's length along an axis."""

    _forward: ClassVar[Callable[..., Any]]
    _backward: ClassVar[Callable[..., Any]]
    dx_is_scratch = True
    y_is_scratch = True

    def _arguments(self) -> tuple[int, ...]:
        """What functions take beside x."""
        raise NotImplementedError

    def _part(self) -> tuple[int, int]:
        """The axis, and by what its length is divided."""
        raise NotImplementedError

    def _y_shape(self, x: Array) -> tuple[int, ...]:
        axis, pieces = self._part()
        title = type(self).__name__
        if not -x.ndim <= axis < x.ndim:
            raise ValueError(f"{title}: x has shape {x.shape}; expected an axis {axis}")
        length = x.shape[axis]
        if length % pieces:
            raise ValueError(
                f"{title}: x has shape {x.shape}; expected a multiple of {pieces} along axis {axis}, got {length}"
            )
        shape = list(x.shape)
        shape[axis] = length // pieces
        return tuple(shape)

    def forward(self, x: Any) -> Any:
        x = floating(type(self).__name__, x)
        shape = self._y_shape(x)
        y = type(self)._forward(x, *self._arguments(), out=self.result("y", shape, x.dtype))
        self.save(x)
        return y

    def backward(self, dy: Any) -> Any:
        (x,) = self.saved
        check_gradient(type(self).__name__, dy, self._y_shape(x), x.dtype)
        return type(self)._backward(dy, x, *self._arguments(), out=self.workspace("dx", x.shape, x.dtype))


class Maxout(_Gate):
    """The largest of `pieces` neighbours along `axis`: after a linear layer of `pieces` times the units, maxout units.

    x (N, pieces units, ...), y (N, units, ...). Source: Goodfellow et al. (2013), Maxout networks.
    """

    _forward = staticmethod(maxout)
    _backward = staticmethod(maxout_backward)

    def __init__(self, pieces: int, axis: int = 1) -> None:
        self.pieces, self.axis = count("Maxout", "pieces", pieces), whole_number("Maxout", "axis", axis)

    def _arguments(self) -> tuple[int, ...]:
        return self.pieces, self.axis

    def _part(self) -> tuple[int, int]:
        return self.axis, self.pieces

    def extra_repr(self) -> str:
        return f"pieces={self.pieces}, axis={self.axis}"


class GLU(_Gate):
    """y = a sigmoid(b), a and b being the halves of x along `dim`. Source: Dauphin et al. (2017)."""

    _forward = staticmethod(glu)
    _backward = staticmethod(glu_backward)

    def __init__(self, dim: int = -1) -> None:
        self.dim = whole_number(type(self).__name__, "dim", dim)

    def _arguments(self) -> tuple[int, ...]:
        return (self.dim,)

    def _part(self) -> tuple[int, int]:
        return self.dim, 2

    def extra_repr(self) -> str:
        return f"dim={self.dim}"


class SwiGLU(GLU):
    """y = silu(a) b, a and b being the halves of x along `dim`: the gate comes first. Source: Shazeer (2020)."""

    _forward = staticmethod(swiglu)
    _backward = staticmethod(swiglu_backward)
