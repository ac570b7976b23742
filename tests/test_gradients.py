"""The backward functions against differences of the forward functions, in float64, for every example of every row."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import pytest
from rows import ROWS, Array, Example, as_tuple, call, cast, examples, mapped

from fastnn.function import Function

DIFFERENTIABLE = [row for row in ROWS if row.gradients is not None]
every_example = pytest.mark.parametrize(
    ("row", "index"),
    [
        pytest.param(row, index, id=f"{row.name}-{index}")
        for row in DIFFERENTIABLE
        for index in range(len(examples(row)))
    ],
)
STEP = 2.0**-14  # of inputs about 1: the error of the extrapolated difference and that of rounding are then alike
TOLERANCE = 2e-8  # of the sum of the magnitudes of the terms
DIRECTIONS = 3


def loss(row: Function, arguments: Example, dys: tuple[Any, ...]) -> float:
    """The results, weighed with dys and summed."""
    results = call(row, arguments)[: len(row.returns)]
    terms = (
        np.sum(dy * result, dtype=np.longdouble) for dy, result in zip(dys, results, strict=True) if dy is not None
    )
    return float(sum(terms))


def differentiable(row: Function) -> list[Function]:
    return [row for row in ROWS if row.gradient_of == row.name]


def weights(row: Function, arguments: Example, rng: np.random.Generator) -> tuple[Any, ...]:
    """A gradient for each result that is passed on: the first; the others are what backward is given."""
    first = np.asarray(call(row, arguments)[0])
    return (rng.uniform(0.5, 2, first.shape) * rng.choice([-1, 1], first.shape), *(None for _ in row.returns[1:]))


def moved(arguments: Example, name: str, direction: Array, step: float) -> Example:
    return {**arguments, name: arguments[name] + step * direction}


@every_example
def test_gradient_is_the_difference(row: Function, index: int) -> None:
    arguments = cast(row, examples(row)[index], np.float64)
    rng = np.random.default_rng(zlib.crc32(f"{row.name} {index}".encode()))
    dys = weights(row, arguments, rng)
    assert row.gradients is not None
    gradients = row.gradients(dys, **{name: mapped(value, np.copy) for name, value in arguments.items()})
    floats = {name for name, value in arguments.items() if isinstance(value, np.ndarray) and value.dtype.kind == "f"}
    assert gradients and set(gradients) <= floats
    for name, gradient in gradients.items():
        value = arguments[name]
        assert gradient.shape == value.shape and gradient.dtype == value.dtype, name
        for _ in range(DIRECTIONS):
            direction = rng.uniform(0.5, 1, value.shape) * rng.choice([-1, 1], value.shape)
            slopes = []
            for step in (STEP, STEP / 2):
                ahead, behind = (loss(row, moved(arguments, name, direction, s), dys) for s in (step, -step))
                slopes.append((ahead - behind) / (2 * step))
            expected = (4 * slopes[1] - slopes[0]) / 3
            size = float(np.sum(np.abs(gradient * direction))) + float(np.sum(np.abs(as_tuple(dys)[0])))
            assert abs(float(np.sum(gradient * direction)) - expected) <= TOLERANCE * size, (name, expected)
