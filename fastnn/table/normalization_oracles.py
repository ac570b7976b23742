"""Normalisation in float64: what the oracles, magnitudes, gradients and examples of all norms share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from fastnn.oracle import numpy64
from fastnn.table.activations import OPS

Example = dict[str, Any]
Tuple = tuple[Any, ...]

# ---- oracles: statistics over some axes, kept as axes of length 1 ----


def moments(x: Any, axes: tuple[int, ...]) -> Tuple:
    """mean, x - mean and the biased variance; what the mean lost in rounding is added to the difference."""
    mean = x.mean(axis=axes, keepdims=True)
    d = x - mean
    rest = d.mean(axis=axes, keepdims=True)
    rest = np.where(np.isfinite(rest), rest, 0)
    d = d - rest
    return mean + rest, d, (d * d).mean(axis=axes, keepdims=True)


def activate(activation: Any, z: Any) -> Any:
    if activation is None:
        return z
    op, params = _op(activation)
    return op.forward(numpy64, z, *params)


def activation_gradient(activation: Any, z: Any, dy: Any) -> Any:
    if activation is None:
        return dy
    op, params = _op(activation)
    return dy * op.gradient(numpy64, op.saved_for_backward(z, op.forward(numpy64, z, *params)), *params)


def _op(activation: Any) -> Tuple:
    name, *given = activation if isinstance(activation, tuple) else (activation,)
    op = OPS[name]
    return op, [*given, *op.parameters_default[len(given) :]]


def gradient(dy: Any, d: Any, inv_std: Any, gamma: Any, axes: tuple[int, ...], centred: bool = True) -> Tuple:
    """dx and the magnitude of its terms, of y = d inv_std gamma + beta."""
    g, xhat = dy * gamma, d * inv_std
    mean_g = g.mean(axis=axes, keepdims=True) if centred else 0
    mean_gx = (g * xhat).mean(axis=axes, keepdims=True)
    size = abs(g) + (abs(xhat) + 1) * (abs(g) * (abs(xhat) + 1)).mean(axis=axes, keepdims=True)
    if centred:
        size = size + abs(g).mean(axis=axes, keepdims=True)
    return inv_std * (g - mean_g - xhat * mean_gx), inv_std * size


def or_else(value: Any, otherwise: float, like: Any) -> Any:
    return np.full_like(like, otherwise) if value is None else value


def parameter_gradients(gamma: Any, results: Tuple, given: Tuple, accumulate: bool) -> Tuple:
    """dx and the gradients of gamma and beta: none without gamma, with those `given` added if they accumulate."""
    dx, *sums = results
    if gamma is None:
        return dx, *[None] * len(sums)
    if accumulate:
        sums = [new + old for new, old in zip(sums, given, strict=True)]
    return dx, *sums


def magnitudes(given: Tuple) -> Tuple:
    return tuple(None if value is None else abs(value) for value in given)


def named(arguments: Example, results: Tuple) -> dict[str, Any]:
    """Gradients by name, of the arguments that have one."""
    pairs = zip(("x", "gamma", "beta"), results, strict=False)
    return {name: value for name, value in pairs if value is not None and arguments.get(name) is not None}


# ---- examples ----


def random_parameters(rng: np.random.Generator, shape: tuple[int, ...]) -> Example:
    return {"gamma": rng.uniform(0.5, 2, shape) * rng.choice([-1, 1], shape), "beta": rng.standard_normal(shape)}


def with_gradient(
    rng: np.random.Generator,
    examples: Iterable[Example],
    forward: Callable[..., Tuple],
    statistics: Sequence[str] = ("mean", "inv_std"),
    more: Sequence[str] = (),
    gradients: Sequence[str] = ("dgamma", "dbeta"),
) -> Iterator[Example]:
    """The arguments of backward: those of forward, dy, the statistics, and now and then memory for the gradients."""
    for index, example in enumerate(examples):
        _, *found = forward(**example)
        kept = {name: example[name] for name in ("x", "groups", "gamma", "axis", *more) if name in example}
        known = dict(zip(statistics, found, strict=True))
        made = {"dy": rng.standard_normal(example["x"].shape), "gamma": None, **kept, **known}
        if made["gamma"] is not None and index < 2:
            made |= {name: rng.standard_normal(made["gamma"].shape) for name in gradients}
            made |= {"accumulate": True} if index == 0 else {}
        yield made


def with_memory(example: Example, shape: tuple[int, ...], *names: str) -> Example:
    """The same example with memory for the statistics."""
    return example | {name: np.zeros(shape) for name in names or ("mean", "inv_std")}
