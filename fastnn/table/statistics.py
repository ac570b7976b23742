"""The rows of the family `statistics`: what a training loop watches of activations and updates."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from fastnn.function import Argument, Function
from fastnn.oracle import numpy64
from fastnn.table.activations import OPS

Array = npt.NDArray[Any]

_Y = Argument(name="y", role="array", doc="activations, an array with one element or more")
_MARGIN = Argument(name="margin", doc="how near to a limit counts as saturated: a distance, at least 0")
_NAN = "NaN is neither dead nor saturated; it makes mean, std, minimum and maximum NaN."
_NUMBERS = (
    "The numbers are NumPy scalars: float64 beside float64, else float32. They are summed in double, in an order that "
    "depends on the shape alone."
)


def limits(name: str, params: tuple[float, ...]) -> tuple[float, float]:
    """What an activation tends to at -infinity and at +infinity: infinite, or NaN, where it has no limit."""
    low, high = OPS[name].forward(numpy64, np.array([-np.inf, np.inf]), *params)
    return float(low), float(high)


def _limits_of(activation: Any) -> tuple[float, float]:
    if activation is None:
        return -np.inf, np.inf
    name, *given = activation if isinstance(activation, tuple) else (activation,)
    defaults = [float(param.default or 0.0) for param in OPS[name].params[len(given) :]]
    return limits(name, (*given, *defaults))


def _near(y: Array, activation: Any, margin: float) -> tuple[Any, Any]:
    found = []
    for limit in _limits_of(activation):
        near = np.abs(y - limit) <= margin if np.isfinite(limit) else np.zeros(y.shape, bool)
        found.append(np.count_nonzero(near) / y.dtype.type(y.size))
    return found[0], found[1]


def _dead(y: Array, *, axis: int = 1) -> tuple[Array, Array]:
    others = tuple(k for k in range(y.ndim) if k != axis % y.ndim)
    inactive = np.count_nonzero(y <= 0, axis=others)
    count = y.size // y.shape[axis]
    return inactive == count, inactive / y.dtype.type(count)


def _dead_examples(rng: np.random.Generator) -> Iterator[dict[str, Any]]:
    y = np.maximum(rng.standard_normal((5, 70)), 0.0)
    y[:, ::3] = 0.0
    yield {"y": y, "axis": 1}
    yield {"y": np.maximum(rng.standard_normal((2, 3, 4, 5)) - 1.5, 0.0)}
    yield {"y": rng.standard_normal((3, 2, 33)) - 2.0, "axis": -1}
    yield {"y": rng.standard_normal((4, 1, 17)) - 2.0, "axis": 0}
    yield {"y": np.zeros(1), "axis": 0}


def _saturation(y: Array, activation: Any, *, margin: float = 0.01) -> tuple[Any, Any]:
    return _near(y, activation, margin)


def _saturation_examples(rng: np.random.Generator) -> Iterator[dict[str, Any]]:
    yield {"y": np.tanh(3 * rng.standard_normal((7, 70))), "activation": "tanh"}
    yield {"y": 1 / (1 + np.exp(-5 * rng.standard_normal((3, 33)))), "activation": "sigmoid", "margin": 0.05}
    yield {"y": np.clip(rng.standard_normal(100), -2, 0.5), "activation": ("hardtanh", -2.0, 0.5), "margin": 0.0}
    yield {"y": np.expm1(-np.abs(rng.standard_normal((2, 3, 5)))), "activation": ("elu", 0.7), "margin": 0.125}


def _statistics(y: Array, activation: Any = None, *, margin: float = 0.01) -> tuple[Any, ...]:
    inactive = np.count_nonzero(y <= 0) / y.dtype.type(y.size)
    return np.mean(y), np.std(y), np.min(y), np.max(y), inactive, *_near(y, activation, margin)


def _statistics_scale(results: Any, y: Array, activation: Any = None, *, margin: float = 0.01) -> tuple[Any, ...]:
    return np.mean(np.abs(y)), *results[1:]


def _statistics_examples(rng: np.random.Generator) -> Iterator[dict[str, Any]]:
    yield {"y": np.tanh(3 * rng.standard_normal((7, 70))), "activation": "tanh", "margin": 0.02}
    yield {"y": np.maximum(rng.standard_normal((3, 1, 33)), 0.0), "activation": "relu"}
    yield {"y": rng.standard_normal(1)}
    yield {"y": 0.25 * rng.standard_normal(2500) + 3.0}


def _ratio(param: Array, update: Array) -> Any:
    return np.sqrt(np.sum(update**2)) / np.sqrt(np.sum(param**2))


def _ratio_examples(rng: np.random.Generator) -> Iterator[dict[str, Any]]:
    yield {"param": rng.standard_normal((7, 5)), "update": 1e-3 * rng.standard_normal((7, 5))}
    yield {"param": rng.standard_normal(100), "update": 1e-3 * rng.standard_normal(100)}
    yield {"param": rng.standard_normal(1), "update": rng.standard_normal(1)}


ROWS: tuple[Function, ...] = (
    Function(
        name="dead_units",
        family="statistics",
        title="Units that are inactive for every sample of a batch",
        formula="inactive[c] = share of the y in channel c with y <= 0;  dead[c] = inactive[c] == 1",
        arguments=(
            Argument(
                name="y", role="array", doc="activations, of shape (N, C) or (N, C, *spatial), after a ReLU or the like"
            ),
            Argument(name="axis", doc="the axis of the units, or channels; all others hold samples"),
        ),
        returns=(
            Argument(name="dead", doc="a bool for each unit; its mean is the share of dead units"),
            Argument(
                name="inactive", role="parameter", doc="for each unit the share of samples for which it is inactive"
            ),
        ),
        source="Lu, Shin, Su and Karniadakis (2020), Dying ReLU and Initialization: Theory and Numerical Examples, "
        "Communications in Computational Physics 28",
        notes=("A ReLU's output is never negative: <= 0 is then 0.", "NaN does not count as inactive."),
        oracle=_dead,
        examples=_dead_examples,
        ulp=(0.0, 0.5),
        bytes="reads y once",
        operations="2 an element",
    ),
    Function(
        name="saturation",
        family="statistics",
        title="Share of activations at the limits of the activation, where its gradient vanishes",
        formula="low = share of the y with |y - f(-inf)| <= margin;  high = share of those with |y - f(inf)| <= margin",
        arguments=(
            _Y,
            Argument(
                name="activation",
                doc="the name of the activation f that y came from, or a tuple of its name and its parameters: "
                "'sigmoid' has the limits 0 and 1, 'tanh' -1 and 1, 'relu' 0 alone, ('hardtanh', -2, 2) -2 and 2",
            ),
            _MARGIN,
        ),
        returns=(
            Argument(name="low", role="parameter", doc="share at the lower limit; 0 where there is none"),
            Argument(name="high", role="parameter", doc="share at the upper limit; 0 where there is none"),
        ),
        source="Glorot and Bengio (2010), Understanding the difficulty of training deep feedforward neural networks, "
        "AISTATS",
        notes=(_NUMBERS, _NAN, "ValueError for an activation without limits, such as leaky_relu or sin."),
        oracle=_saturation,
        examples=_saturation_examples,
        ulp=0.5,
        bytes="reads y once",
        operations="about 16 an element",
    ),
    Function(
        name="activation_statistics",
        family="statistics",
        title="Mean, spread, range and shares of inactive and saturated elements of activations, in one pass",
        formula="mean = sum y / n;  std = sqrt(sum (y - mean)^2 / n);  shares as of dead_units and saturation",
        arguments=(
            _Y,
            Argument(
                name="activation",
                doc="the name of the activation that y came from, or a tuple of its name and its parameters; None: "
                "unknown",
            ),
            _MARGIN,
        ),
        returns=(
            Argument(name="mean", role="parameter", doc="mean of all elements"),
            Argument(name="std", role="parameter", doc="their standard deviation, over n as np.std has it"),
            Argument(name="minimum", role="parameter", doc="the smallest"),
            Argument(name="maximum", role="parameter", doc="the largest"),
            Argument(name="inactive", role="parameter", doc="share of elements <= 0"),
            Argument(
                name="low", role="parameter", doc="share at the lower limit of the activation; 0 where there is none"
            ),
            Argument(
                name="high", role="parameter", doc="share at the upper limit of the activation; 0 where there is none"
            ),
        ),
        source="Glorot and Bengio (2010), Understanding the difficulty of training deep feedforward neural networks, "
        "AISTATS; Chan, Golub and LeVeque (1983), Algorithms for Computing the Sample Variance, The American "
        "Statistician 37, for the variance",
        notes=(
            "The results come as a named tuple.",
            _NUMBERS,
            _NAN,
            "The variance is summed about the mean of each block of 2048 elements, and blocks are merged: no digits "
            "are lost where the mean is large beside the spread.",
        ),
        oracle=_statistics,
        examples=_statistics_examples,
        ulp=(1.0, 2.0, 0.0, 0.0, 0.5, 0.5, 0.5),
        scale=_statistics_scale,
        bytes="reads y once",
        operations="about 16 an element",
    ),
    Function(
        name="update_ratio",
        family="statistics",
        title="Norm of an update over the norm of what it updates: about 0.001 in a healthy training",
        formula="ratio = sqrt(sum update^2) / sqrt(sum param^2)",
        arguments=(
            Argument(name="param", role="array", doc="the parameters"),
            Argument(name="update", role="array", doc="what is added to them, of the same shape"),
        ),
        returns=(
            Argument(name="ratio", role="parameter", doc="the ratio; infinite, or NaN for 0 / 0, where param is all 0"),
        ),
        source="Karpathy (2015), CS231n: Convolutional Neural Networks for Visual Recognition, course notes",
        notes=(
            _NUMBERS,
            "The sign of the update does not matter: lr times the gradient will do.",
        ),
        oracle=_ratio,
        examples=_ratio_examples,
        ulp=3.0,
        bytes="reads param and update once",
        operations="2 for each of their elements",
    ),
)
