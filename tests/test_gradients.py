"""The backward functions against differences of the forward functions, in float64, for every example of every row."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import pytest
from rows import ROWS, Array, Example, call, cast, examples, mapped

from fastnn.function import Function

pytestmark = pytest.mark.filterwarnings("error")
every_example = pytest.mark.parametrize(
    ("row", "index"),
    [
        pytest.param(row, index, id=f"{row.name}-{index}")
        for row in ROWS
        if row.gradients is not None
        for index in range(len(examples(row)))
    ],
)
# The largest with which the difference and the gradient agree counts: a step must be short beside the distance to the
# next kink, and long beside what rounding makes of the arguments.
STEPS = [2.0**-k for k in (10, 14, 18, 22)]
TOLERANCE = 1e-7  # of the sum of the magnitudes of the terms
DIRECTIONS = 3


def weights(row: Function, arguments: Example, rng: np.random.Generator) -> tuple[Any, ...]:
    """A gradient of the first result; the others are statistics and the like, which nothing is passed back through."""
    first = np.asarray(call(row, arguments)[0])
    return np.asarray(rng.uniform(0.5, 2, first.shape) * rng.choice([-1, 1], first.shape)), *[None] * (
        len(row.returns) - 1
    )


def slope(row: Function, arguments: Example, name: str, direction: Array, dy: Array, step: float) -> float:
    """The derivative of sum(dy * result) along a direction of one argument, by central differences extrapolated."""

    def difference(step: float) -> float:
        ahead, behind = (
            np.asarray(call(row, {**arguments, name: arguments[name] + side * step * direction})[0], np.longdouble)
            for side in (1, -1)
        )
        return float(np.sum(dy * (ahead - behind)) / (2 * step))

    return (4 * difference(step / 2) - difference(step)) / 3


@every_example
def test_gradient_is_the_difference(row: Function, index: int) -> None:
    arguments = cast(row, examples(row)[index], np.float64)
    rng = np.random.default_rng(zlib.crc32(f"{row.name} {index}".encode()))
    dys = weights(row, arguments, rng)
    assert row.gradients is not None
    gradients = row.gradients(dys, **{name: mapped(value, np.copy) for name, value in arguments.items()})
    assert any(gradient is not None for gradient in gradients.values())
    for name, gradient in gradients.items():
        value = arguments.get(name)
        assert (gradient is None) == (value is None), name
        if gradient is None:
            continue
        assert gradient.shape == value.shape and gradient.dtype == np.float64, name
        for _ in range(DIRECTIONS):
            direction = rng.integers(4, 9, value.shape) / 8 * rng.choice([-1, 1], value.shape)
            expected = float(np.sum(gradient * direction))
            bound = TOLERANCE * (float(np.sum(np.abs(gradient * direction))) + float(np.sum(np.abs(dys[0]))))
            found = []
            for step in STEPS:
                found.append(slope(row, arguments, name, np.asarray(direction), dys[0], step))
                if abs(found[-1] - expected) <= bound:
                    break
            else:
                pytest.fail(f"{name}: {expected}, by differences {found}, which may differ by {bound}")
