"""What quantized steps have in common: their checks, files being untrusted, and how they are done once.

A step's function checks everything, and then does what its kernel does, for one call.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from fastnn.dispatch import implementation
from fastnn.infer.graph import Array, Shape, Step
from fastnn.infer.steps.kind import Call, Constants, Function, Kind, Room

U8, I32, F32 = np.dtype(np.uint8), np.dtype(np.int32), np.dtype(np.float32)
MOST = 1 << 28  # elements of a padded image: offsets are int32


class Place(Protocol):
    """Where a step is done: see `Site`."""

    @property
    def step(self) -> Step: ...
    @property
    def constants(self) -> Constants: ...
    @property
    def batch(self) -> int: ...
    @property
    def packed(self) -> Constants: ...
    @property
    def rooms(self) -> list[Array]: ...
    def x(self, number: int = 0, shape: Shape | None = None) -> Any: ...
    def y(self, shape: Shape | None = None) -> Any: ...


class _Once:
    """A place of given arrays."""

    def __init__(self, step: Step, constants: Constants, xs: tuple[Array, ...], y: Array, rooms: list[Array]) -> None:
        self.step, self.constants, self.batch, self.rooms = step, constants, len(xs[0]), rooms
        self.packed: Constants = {}
        self._xs, self._y = xs, y

    def x(self, number: int = 0, shape: Shape | None = None) -> Any:
        return self._xs[number] if shape is None else self._xs[number].reshape(shape)

    def y(self, shape: Shape | None = None) -> Any:
        return self._y if shape is None else self._y.reshape(shape)


def _no_room(step: Step, wide: np.dtype[Any]) -> list[Room]:
    return []


def kind(
    check: Callable[[Step, Constants], None],
    kernel: Callable[[Place], Call | list[Call]],
    needs: Callable[[Step, np.dtype[Any]], list[Room]] = _no_room,
    *,
    takes: int = 1,
    in_place: bool = False,
) -> Kind:
    """The row of a step that takes so many inputs: `check` refuses what does not fit, `kernel` is as in `Kind`."""

    def function(step: Step, c: Constants) -> Function:
        if len(step.inputs_as) != takes:
            raise ValueError(f"a step {step.op!r} takes {takes} inputs; got {len(step.inputs_as)}")
        check(step, c)
        dtype = np.dtype(step.dtype or np.float32)

        def call(*arrays: Array) -> Array:
            xs, rest = arrays[:takes], arrays[takes:]
            y = rest[0] if rest else np.empty((len(xs[0]), *step.shape), dtype)
            rooms = [np.empty((len(xs[0]), *shape), each) for shape, each in needs(step, F32)]
            made = kernel(_Once(step, c, xs, y, rooms))
            for run, arguments in made if isinstance(made, list) else [made]:
                run(*arguments)
            return y

        return call

    return Kind(function, kernel, needs, in_place=in_place)


# ---- checks ----


def byte(step: Step, *names: str) -> list[int]:
    """Options that are numbers of a uint8."""
    found = [step.options[name] for name in names]
    for name, number in zip(names, found, strict=True):
        if type(number) is not int or not 0 <= number <= 255:
            raise ValueError(f"{step.op}: {name} is {number!r}; expected an int from 0 to 255")
    return found


def scale(step: Step, name: str) -> float:
    """An option that is a positive float32."""
    number = step.options[name]
    if type(number) is not float or not 0 < number < math.inf or not 0 < np.float32(number) < np.inf:
        raise ValueError(f"{step.op}: {name} is {number!r}; expected a positive float32")
    return number


def result(step: Step, shape: Shape, dtype: str | None = "uint8") -> None:
    """Check what the step says of its result; a shape that is not yet known is set."""
    if step.dtype != dtype:
        raise ValueError(f"{step.op}: the result has dtype {step.dtype}; expected {dtype}")
    if step.shape and step.shape != shape:
        raise ValueError(f"{step.op}: the result has shape {step.shape}; expected {shape}")
    step.shape = shape


def finish(step: Step) -> None:
    """Check what sums become bytes with."""
    low, high = byte(step, "zero", "low", "high")[1:]
    if low > high:
        raise ValueError(f"{step.op}: low is {low} and high {high}; expected no empty range")


def constant(step: Step, c: Constants, role: str, dtype: Any, shape: Shape) -> Array:
    """A constant of that dtype and shape."""
    array = c[role]
    if array.dtype != dtype or array.shape != shape:
        raise ValueError(
            f"{step.op}: {role} is {array.dtype} of shape {array.shape}; expected {dtype} of shape {shape}"
        )
    return array


def multiplier(step: Step, c: Constants, outputs: int) -> None:
    """Check the factors of sums, one for each output."""
    found = constant(step, c, "multiplier", F32, (outputs,))
    if not (np.isfinite(found).all() and (found > 0).all()):
        raise ValueError(
            f"{step.op}: multiplier reaches from {found.min()} to {found.max()}; expected positive numbers"
        )


def sums_fit(weight: Array, bias: Array) -> bool:
    """Can no sum of products with bytes, added to its bias, leave int32? weight (O, ...), bias (O,)."""
    rows = weight.reshape(len(weight), -1).astype(np.int64)
    most = bias + 255 * np.maximum(rows, 0).sum(1)
    least = bias + 255 * np.minimum(rows, 0).sum(1)
    return bool((most < 1 << 31).all() and (least >= -(1 << 31)).all())


def check_sums(step: Step, c: Constants) -> None:
    """Check weights and bias for sums that always fit."""
    weight = c["weight"]
    if weight.dtype != np.int8 or weight.ndim < 2 or 0 in weight.shape:
        raise ValueError(
            f"{step.op}: weight is {weight.dtype} of shape {weight.shape}; expected int8, (outputs, inputs)"
        )
    if not sums_fit(weight, constant(step, c, "bias", I32, (len(weight),)).astype(np.int64)):
        raise ValueError(f"{step.op}: bias and {weight[0].size} products with bytes may leave int32")


def call(name: str, arrays: list[Any], shapes: tuple[Shape, ...], *given: Any) -> Call:
    """A function of the backend's on arrays, inputs and then the result, of these shapes; they may still be to come."""
    kernels = implementation("quantized")
    if hasattr(kernels, "Prepared"):
        return kernels.Prepared(name, shapes, given), arrays
    return getattr(kernels, name), [*arrays, *given]


def product(
    arrays: list[Any],
    shapes: tuple[Shape, Shape],
    dtype: np.dtype[Any],
    starts: Array | None,
    segments: Array,
    weight: Array,
    bias: Array,
    multiplier: Array | None,
    column: int,
    finish: tuple[int, int, int],
) -> Call:
    """The product of rows and weights: see `matmul`; x (B, size), y (B, rows, columns) of that dtype."""
    kernels = implementation("quantized")
    if hasattr(kernels, "PackedInt8"):
        made = kernels.PackedInt8(
            weight, bias, multiplier, dtype, *shapes[0], starts, segments, shapes[1][-1], column, *finish
        )
        return made, arrays
    x, y = arrays
    return kernels.matmul, [x, starts, segments, weight, bias, multiplier, y, column, *finish]


def three_bytes(step: Step) -> tuple[int, int, int]:
    """What kernels take to make bytes, beside multipliers."""
    return step.options["zero"], step.options["low"], step.options["high"]
