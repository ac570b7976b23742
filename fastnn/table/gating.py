"""The rows of the family `gating`: functions whose result has a part of the input's channels."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from fastnn.function import Argument, Function


def _sigmoid(x: Any) -> tuple[Any, Any]:
    """sigmoid(x) and sigmoid(-x)."""
    e = np.exp(-np.abs(x))
    high, low = 1 / (1 + e), e / (1 + e)
    return np.where(x >= 0, high, low), np.where(x >= 0, low, high)


def _bounded(x: Any) -> Any:
    """x where sigmoid(x) is not 0, so that silu(-inf) is 0."""
    return np.clip(x, -1e5, None)


def _halves(x: Any, axis: int) -> tuple[Any, Any]:
    a, b = np.split(x, 2, axis=axis)
    return a, b


def _glu(x: Any, axis: int = -1) -> Any:
    a, b = _halves(x, axis)
    return a * _sigmoid(b)[0]


def _glu_backward(dy: Any, x: Any, axis: int = -1) -> Any:
    a, b = _halves(x, axis)
    s, t = _sigmoid(b)
    return np.concatenate([dy * s, dy * a * s * t], axis=axis)


def _swiglu(x: Any, axis: int = -1) -> Any:
    a, b = _halves(x, axis)
    return _bounded(a) * _sigmoid(a)[0] * b


def _swiglu_backward(dy: Any, x: Any, axis: int = -1) -> Any:
    a, b = _halves(x, axis)
    s, t = _sigmoid(a)
    slope = s + np.clip(a, -1e5, 1e5) * s * t
    return np.concatenate([dy * b * slope, dy * _bounded(a) * s], axis=axis)


def _swiglu_backward_scale(dx: Any, dy: Any, x: Any, axis: int = -1) -> Any:
    """Both terms of silu's derivative count: near -1.28 they cancel."""
    a, b = _halves(x, axis)
    s, t = _sigmoid(a)
    return np.concatenate([np.abs(dy * b) * (s + np.abs(a) * s * t), np.abs(dy * a * s)], axis=axis)


def _grouped(x: Any, pieces: int, axis: int) -> tuple[Any, int]:
    axis %= x.ndim
    shape = (*x.shape[:axis], x.shape[axis] // pieces, pieces, *x.shape[axis + 1 :])
    return x.reshape(shape), axis + 1


def _maxout(x: Any, pieces: int, axis: int = 1) -> Any:
    grouped, along = _grouped(x, pieces, axis)
    return np.max(grouped, axis=along)


def _maxout_backward(dy: Any, x: Any, pieces: int, axis: int = 1) -> Any:
    grouped, along = _grouped(x, pieces, axis)
    dx = np.zeros_like(grouped)
    if x.size:
        first = np.expand_dims(np.argmax(grouped, axis=along), along)  # the first of equals, the first NaN
        np.put_along_axis(dx, first, np.expand_dims(dy, along), along)
    return dx.reshape(x.shape)


def _half_examples(backward: bool) -> Callable[[np.random.Generator], Iterable[dict[str, Any]]]:
    shapes: tuple[tuple[tuple[int, ...], int], ...] = (
        ((4, 10), -1),
        ((3, 1000), 1),
        ((2, 6, 5, 7), 1),
        ((8, 3), 0),
        ((2,), 0),
        ((1, 4, 1), 1),
        ((0, 4), 1),
    )

    def examples(rng: np.random.Generator) -> Iterable[dict[str, Any]]:
        for index, (shape, axis) in enumerate(shapes):
            x = rng.standard_normal(shape) * (1, 3)[index % 2]
            half = tuple(n // 2 if k == axis % len(shape) else n for k, n in enumerate(shape))
            yield {**({"dy": rng.standard_normal(half)} if backward else {}), "x": x, "axis": axis}

    return examples


def _maxout_examples(backward: bool) -> Callable[[np.random.Generator], Iterable[dict[str, Any]]]:
    cases: tuple[tuple[tuple[int, ...], int, int], ...] = (
        ((5, 12), 2, 1),
        ((5, 12), 3, 1),
        ((70, 12), 4, -1),
        ((3, 35), 5, 1),
        ((2, 6, 5, 7), 3, 1),
        ((2, 6, 3), 2, 1),
        ((6, 3), 6, 0),
        ((4, 3), 1, 1),
        ((0, 4), 2, 1),
    )

    def examples(rng: np.random.Generator) -> Iterable[dict[str, Any]]:
        for shape, pieces, axis in cases:
            x = rng.permutation(np.arange(float(np.prod(shape)))).reshape(shape) / 8 - 10
            less = tuple(n // pieces if k == axis % len(shape) else n for k, n in enumerate(shape))
            yield {**({"dy": rng.standard_normal(less)} if backward else {}), "x": x, "pieces": pieces, "axis": axis}

    return examples


def _gradients(name: str) -> Callable[..., dict[str, Any]]:
    def gradients(dys: tuple[Any, ...], **given: Any) -> dict[str, Any]:
        return {"x": getattr(importlib.import_module("fastnn"), f"{name}_backward")(dys[0], **given)}

    return gradients


_DY = Argument(name="dy", doc="gradient of the loss by y, of y's shape", role="array")
_DX = Argument(name="dx", doc="array of x's shape and dtype")
_Y = Argument(name="y", doc="array of x's dtype, and of its shape but for the axis")
_OUT = Argument(name="out", doc="where y goes: memory apart from x")
_OUT_BACKWARD = Argument(name="out", doc="where dx goes: x itself, or memory apart from dy and x")
_PAIRED = Argument(name="x", doc="array of at least one axis, of an even length along `axis`", role="array")
_AXIS = Argument(name="axis", doc="the axis that is halved, from -x.ndim to x.ndim - 1")
_COPIED = "No memory beyond the result, unless an array or out is not C-contiguous: then one contiguous copy of it."
_GOODFELLOW = "Goodfellow et al. (2013), Maxout networks"
_DAUPHIN = "Dauphin et al. (2017), Language modeling with gated convolutional networks"
_SHAZEER = "Shazeer (2020), GLU variants improve transformer"
_GROUPS = Argument(
    name="x",
    doc="array whose length along `axis` is a multiple of `pieces`: the pieces of one unit are neighbours",
    role="array",
)
_PIECES = Argument(name="pieces", doc="how many linear pieces each unit chooses from, from 1 up")
_MAXOUT_AXIS = Argument(name="axis", doc="the axis of the pieces: 1 in (N, C) and (N, C, *spatial)")
_LAYOUT = (
    "Unit u chooses from channels u pieces to u pieces + pieces - 1, as x.view(N, C // pieces, pieces, ...).max(2) in "
    "torch."
)

ROWS: tuple[Function, ...] = (
    Function(
        name="maxout",
        family="gating",
        title="Maxout: the largest of some linear pieces",
        formula="y[n, u] = max of x[n, u pieces + k] for k from 0 to pieces - 1",
        arguments=(_GROUPS, _PIECES, _MAXOUT_AXIS, _OUT),
        returns=(_Y,),
        source=_GOODFELLOW,
        notes=(_LAYOUT, "NaN in a piece gives NaN.", _COPIED),
        oracle=_maxout,
        examples=_maxout_examples(False),
        ulp=0,
        gradients=_gradients("maxout"),
        bytes="x is read once, y written once",
        operations="2 for each element of x",
    ),
    Function(
        name="maxout_backward",
        family="gating",
        title="Gradient of maxout",
        formula="dx = dy at the first of the largest pieces, 0 at the others",
        arguments=(_DY, _GROUPS, _PIECES, _MAXOUT_AXIS, _OUT_BACKWARD),
        returns=(_DX,),
        source=_GOODFELLOW,
        notes=(_LAYOUT, "Where pieces are NaN, the first of them gets the gradient.", _COPIED),
        oracle=_maxout_backward,
        examples=_maxout_examples(True),
        ulp=0,
        gradient_of="maxout",
        bytes="dy and x are read once, dx written once",
        operations="5 for each element of x",
    ),
    Function(
        name="glu",
        family="gating",
        title="Gated linear unit",
        formula="y = a sigmoid(b), where a and b are the first and the second half of x along axis",
        arguments=(_PAIRED, _AXIS, _OUT),
        returns=(_Y,),
        source=_DAUPHIN,
        notes=("Halves as in torch.nn.functional.glu.", _COPIED),
        oracle=_glu,
        examples=_half_examples(False),
        ulp=3,
        gradients=_gradients("glu"),
        bytes="x is read once, y written once",
        operations="25 for each element of y",
    ),
    Function(
        name="glu_backward",
        family="gating",
        title="Gradient of glu",
        formula="da = dy sigmoid(b), db = dy a sigmoid(b) sigmoid(-b)",
        arguments=(_DY, _PAIRED, _AXIS, _OUT_BACKWARD),
        returns=(_DX,),
        source=_DAUPHIN,
        notes=(_COPIED,),
        oracle=_glu_backward,
        examples=_half_examples(True),
        ulp=4,
        gradient_of="glu",
        bytes="dy and x are read once, dx written once",
        operations="35 for each element of y",
    ),
    Function(
        name="swiglu",
        family="gating",
        title="Gated linear unit whose gate is silu",
        formula="y = silu(a) b, where a and b are the first and the second half of x along axis",
        arguments=(_PAIRED, _AXIS, _OUT),
        returns=(_Y,),
        source=_SHAZEER,
        notes=(
            "The gate comes FIRST, as in Llama's gate_proj and up_proj side by side; in glu it comes second.",
            _COPIED,
        ),
        oracle=_swiglu,
        examples=_half_examples(False),
        ulp=4,
        gradients=_gradients("swiglu"),
        bytes="x is read once, y written once",
        operations="25 for each element of y",
    ),
    Function(
        name="swiglu_backward",
        family="gating",
        title="Gradient of swiglu",
        formula="da = dy b silu'(a), db = dy silu(a)",
        arguments=(_DY, _PAIRED, _AXIS, _OUT_BACKWARD),
        returns=(_DX,),
        source=_SHAZEER,
        notes=("The error of da is counted in the ulp of |dy b| (sigmoid(a) + |a| sigmoid(a) sigmoid(-a)).", _COPIED),
        oracle=_swiglu_backward,
        examples=_half_examples(True),
        ulp=4,
        scale=_swiglu_backward_scale,
        gradient_of="swiglu",
        bytes="dy and x are read once, dx written once",
        operations="40 for each element of y",
    ),
)
