"""The public functions of the family `dropout`."""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Sequence
from sys import modules
from typing import Any, ParamSpec, SupportsIndex, TypeVar

import numpy as np
import numpy.typing as npt

from fastnn.arguments import Array, check_out, checked_word, plain, real_array, receiver, stored
from fastnn.arrays import together
from fastnn.dispatch import implementation, new_memory
from fastnn.function import public
from fastnn.generator import GRID
from fastnn.generator import threshold as threshold_of
from fastnn.kernels.cpu import dropout as native
from fastnn.table.dropout import ALPHA_PRIME, ROWS

__all__ = [row.name for row in ROWS]

_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")
_ROW = {row.name: row for row in ROWS}
MODES = ("inverted", "vanilla")
_NUMBERS = (int, float, np.integer, np.floating)


def explained(function: Callable[_Parameters, _Result]) -> Callable[_Parameters, _Result]:
    """Answer two common mistakes: the keyword keep_prob, and no seed."""
    name = function.__name__
    seeded = "seed" in (function.__kwdefaults__ or {}) or "seed" in function.__code__.co_varnames

    @functools.wraps(function)
    def call(*args: _Parameters.args, **kwargs: _Parameters.kwargs) -> _Result:
        if "keep_prob" in kwargs:
            raise TypeError(
                f"{name}: there is no keep_prob; p is the probability of DROPPING an element: "
                f"expected p = 1 - keep_prob, here p={_complement(kwargs['keep_prob'])}"
            )
        if seeded and "seed" not in kwargs:
            raise TypeError(
                f"{name}: seed is missing; expected an int from 0 to 2^64 - 1, as a keyword. The mask is a function of "
                "seed and offset: backward takes the same two, and another step another offset"
            )
        return function(*args, **kwargs)

    return call


def _complement(keep: object) -> str:
    return f"{1 - keep:g}" if isinstance(keep, (int, float)) else "1 - keep_prob"


def checked_threshold(title: str, p: object) -> int:
    """What 16 random bits must reach, for the probability `p` of dropping."""
    if type(p) is not float and (isinstance(p, (bool, np.bool_)) or not isinstance(p, _NUMBERS)):
        raise TypeError(
            f"{title}: p is {p!r} of type {type(p).__name__}; expected a number, the probability of dropping"
        )
    if not 0 <= p <= 1:
        raise ValueError(f"{title}: p is {p!r}; expected the probability of dropping, a number from 0 to 1")
    return threshold_of(float(p))


def _check_mode(title: str, mode: object) -> None:
    if not isinstance(mode, str):
        raise TypeError(f"{title}: mode is {mode!r} of type {type(mode).__name__}; expected one of {_quoted(MODES)}")
    if mode not in MODES:
        raise ValueError(f"{title}: mode is {mode!r}; expected one of {_quoted(MODES)}")


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names))


class _Call:
    """One call: checked arguments, a contiguous input and where to compute the result."""

    def __init__(
        self,
        title: str,
        name: str,
        x: object,
        p: object,
        seed: object,
        offset: object,
        start: object,
        out: Array | None,
        *,
        axes: int = 0,
    ) -> None:
        self.threshold = checked_threshold(title, p)
        self.seed, self.offset = checked_word(title, "seed", seed), checked_word(title, "offset", offset)
        self.first = checked_word(title, "start", start, 63)
        if "cupy" in modules:
            together(title, **{name: x, "out": out})
        array = real_array(title, name, x)
        if array.ndim < axes:
            wanted = "(N, C, *spatial)" if axes == 2 else "(N, ...)"
            raise ValueError(f"{title}: {name} has shape {array.shape}; expected {wanted}")
        check_out(title, out, array.shape, array.dtype, {name: array})
        self.x, self.out = plain(array), out
        self.y = receiver(out, array.shape, array.dtype, array)
        self.kernels = implementation("dropout", array)

    def without_draw(self) -> bool:
        """Where everything is kept, or nothing, say so and fill the result."""
        if self.threshold == 0:
            self.y[...] = self.x
        elif self.threshold == GRID:
            self.y[...] = 0
        return self.threshold in (0, GRID)

    def result(self) -> Array:
        return stored(self.y, self.out)


def _scale(threshold: int, mode: str) -> float:
    return 1.0 if mode == "vanilla" else GRID / (GRID - threshold)


def _at_once(x: Any, axes: int, mode: str, p: Any, *options: Any) -> Array | None:
    """The result where the native kernels can take the arguments as they are, without a look at what may be wrong."""
    if type(p) is not float or not 0 <= p <= 1 or type(mode) is not str or implementation("dropout", x) is not native:
        return None
    if mode not in MODES:
        return None
    bound = threshold_of(p)
    return None if bound in (0, GRID) else native._short(x, axes, bound, _scale(bound, mode), *options)


def _elements(title: str, name: str, x: object, mode: str, *options: Any) -> Array:
    result = _at_once(x, 0, mode, *options)
    if result is not None:
        return result
    _check_mode(title, mode)
    call = _Call(title, name, x, *options)
    if not call.without_draw():
        scale = _scale(call.threshold, mode)
        call.kernels.scaled(call.x, call.y, call.first, call.threshold, scale, call.seed, call.offset)
    return call.result()


def _units(title: str, name: str, x: object, axes: int, mode: str, *options: Any) -> Array:
    result = _at_once(x, axes, mode, *options)
    if result is not None:
        return result
    _check_mode(title, mode)
    call = _Call(title, name, x, *options, axes=axes)
    if not call.without_draw():
        scale, inner = _scale(call.threshold, mode), math.prod(call.x.shape[axes:])
        call.kernels.units(call.x, call.y, inner, call.first, call.threshold, scale, call.seed, call.offset)
    return call.result()


@explained
@public(_ROW["dropout"])
def dropout(
    x: npt.ArrayLike,
    p: float = 0.5,
    *,
    seed: SupportsIndex,
    offset: SupportsIndex = 0,
    mode: str = "inverted",
    start: SupportsIndex = 0,
    out: Array | None = None,
) -> Array:
    return _elements("dropout", "x", x, mode, p, seed, offset, start, out)


@explained
@public(_ROW["dropout_backward"])
def dropout_backward(
    dy: npt.ArrayLike,
    p: float,
    *,
    seed: SupportsIndex,
    offset: SupportsIndex = 0,
    mode: str = "inverted",
    start: SupportsIndex = 0,
    out: Array | None = None,
) -> Array:
    return _elements("dropout_backward", "dy", dy, mode, p, seed, offset, start, out)


@explained
@public(_ROW["dropout_infer"])
def dropout_infer(x: npt.ArrayLike, p: float = 0.5, *, mode: str = "inverted", out: Array | None = None) -> Array:
    _check_mode("dropout_infer", mode)
    call = _Call("dropout_infer", "x", x, p, 0, 0, 0, out)
    if mode == "inverted" or call.threshold == 0:
        call.y[...] = call.x
    else:
        call.kernels.times(call.x, call.y, 1 - call.threshold / GRID)
    return call.result()


@explained
@public(_ROW["dropout_mask"])
def dropout_mask(
    shape: SupportsIndex | Sequence[SupportsIndex],
    p: float,
    *,
    seed: SupportsIndex,
    offset: SupportsIndex = 0,
    start: SupportsIndex = 0,
) -> npt.NDArray[np.bool_]:
    title = "dropout_mask"
    lengths = _shape(title, shape)
    threshold = checked_threshold(title, p)
    key, stream = checked_word(title, "seed", seed), checked_word(title, "offset", offset)
    first = checked_word(title, "start", start, 63)
    kept = new_memory(lengths, np.bool_)
    if threshold in (0, GRID):
        kept.fill(threshold == 0)
    else:
        implementation("dropout", kept).mask(kept, first, threshold, key, stream)
    return kept


def _shape(title: str, shape: Any) -> tuple[int, ...]:
    expected = "expected an int, or a tuple of ints, of at least 0"
    try:
        lengths = [operator.index(length) for length in (shape if isinstance(shape, (tuple, list)) else (shape,))]
    except TypeError:
        raise TypeError(f"{title}: shape is {shape!r} of type {type(shape).__name__}; {expected}") from None
    if min(lengths, default=0) < 0 or math.prod(max(length, 1) for length in lengths) >= 2**63:
        raise ValueError(f"{title}: shape is {shape!r}; {expected}, and less than 2^63 elements")
    return tuple(lengths)


@explained
@public(_ROW["spatial_dropout"])
def spatial_dropout(
    x: npt.ArrayLike,
    p: float = 0.5,
    *,
    seed: SupportsIndex,
    offset: SupportsIndex = 0,
    mode: str = "inverted",
    start: SupportsIndex = 0,
    out: Array | None = None,
) -> Array:
    return _units("spatial_dropout", "x", x, 2, mode, p, seed, offset, start, out)


@explained
@public(_ROW["spatial_dropout_backward"])
def spatial_dropout_backward(
    dy: npt.ArrayLike,
    p: float,
    *,
    seed: SupportsIndex,
    offset: SupportsIndex = 0,
    mode: str = "inverted",
    start: SupportsIndex = 0,
    out: Array | None = None,
) -> Array:
    return _units("spatial_dropout_backward", "dy", dy, 2, mode, p, seed, offset, start, out)


@explained
@public(_ROW["stochastic_depth"])
def stochastic_depth(
    x: npt.ArrayLike,
    p: float = 0.5,
    *,
    seed: SupportsIndex,
    offset: SupportsIndex = 0,
    mode: str = "inverted",
    start: SupportsIndex = 0,
    out: Array | None = None,
) -> Array:
    return _units("stochastic_depth", "x", x, 1, mode, p, seed, offset, start, out)


@explained
@public(_ROW["stochastic_depth_backward"])
def stochastic_depth_backward(
    dy: npt.ArrayLike,
    p: float,
    *,
    seed: SupportsIndex,
    offset: SupportsIndex = 0,
    mode: str = "inverted",
    start: SupportsIndex = 0,
    out: Array | None = None,
) -> Array:
    return _units("stochastic_depth_backward", "dy", dy, 1, mode, p, seed, offset, start, out)


@explained
@public(_ROW["drop_connect"])
def drop_connect(
    weight: npt.ArrayLike,
    p: float = 0.5,
    *,
    seed: SupportsIndex,
    offset: SupportsIndex = 0,
    mode: str = "inverted",
    start: SupportsIndex = 0,
    out: Array | None = None,
) -> Array:
    return _elements("drop_connect", "weight", weight, mode, p, seed, offset, start, out)


@explained
@public(_ROW["drop_connect_backward"])
def drop_connect_backward(
    dy: npt.ArrayLike,
    p: float,
    *,
    seed: SupportsIndex,
    offset: SupportsIndex = 0,
    mode: str = "inverted",
    start: SupportsIndex = 0,
    out: Array | None = None,
) -> Array:
    return _elements("drop_connect_backward", "dy", dy, mode, p, seed, offset, start, out)


def _affine(threshold: int) -> tuple[float, float]:
    """a and b of alpha dropout."""
    q = 1 - threshold / GRID
    a = 1 / math.sqrt(q + ALPHA_PRIME * ALPHA_PRIME * q * (1 - q))
    return a, -a * (1 - q) * ALPHA_PRIME


@explained
@public(_ROW["alpha_dropout"])
def alpha_dropout(
    x: npt.ArrayLike,
    p: float = 0.5,
    *,
    seed: SupportsIndex,
    offset: SupportsIndex = 0,
    start: SupportsIndex = 0,
    out: Array | None = None,
) -> Array:
    call = _Call("alpha_dropout", "x", x, p, seed, offset, start, out)
    if not call.without_draw():
        a, b = _affine(call.threshold)
        call.kernels.affine(
            call.x, call.y, call.first, call.threshold, a, b, a * ALPHA_PRIME + b, call.seed, call.offset
        )
    return call.result()


@explained
@public(_ROW["alpha_dropout_backward"])
def alpha_dropout_backward(
    dy: npt.ArrayLike,
    p: float,
    *,
    seed: SupportsIndex,
    offset: SupportsIndex = 0,
    start: SupportsIndex = 0,
    out: Array | None = None,
) -> Array:
    call = _Call("alpha_dropout_backward", "dy", dy, p, seed, offset, start, out)
    if not call.without_draw():
        scale = _affine(call.threshold)[0]
        call.kernels.scaled(call.x, call.y, call.first, call.threshold, scale, call.seed, call.offset)
    return call.result()


@explained
@public(_ROW["philox"])
def philox(
    blocks: SupportsIndex, *, seed: SupportsIndex, offset: SupportsIndex = 0, first: SupportsIndex = 0
) -> npt.NDArray[np.uint32]:
    title = "philox"
    count = checked_word(title, "blocks", blocks, 59)
    numbers = [checked_word(title, *each) for each in (("first", first), ("seed", seed), ("offset", offset))]
    words = new_memory((count, 4), np.uint32)
    implementation("dropout", words).philox(words, *numbers)
    return words
