"""Monte-Carlo dropout: the average of a network's output over the masks of its random layers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, SupportsIndex

import numpy as np

from fastnn.arguments import whole_number
from fastnn.arrays import on_device
from fastnn.nn.changes import CHANGES
from fastnn.nn.memory import Array
from fastnn.nn.module import Module, no_grad
from fastnn.nn.random_layers import random_layers, random_state, set_random_state


class MonteCarlo(NamedTuple):
    """Mean and standard deviation of an output over masks, in its shape and dtype."""

    mean: Array
    std: Array


def monte_carlo(
    model: Module, x: Any, samples: SupportsIndex = 100, *, function: Callable[[Array], Array] | None = None
) -> MonteCarlo:
    """Average `model(x)` over `samples` masks: dropout and its kin are active, everything else evaluates.

    The mean approximates the average over all networks that dropout has trained at once, the standard deviation
    (with samples - 1) says how far they disagree. `function`, such as `fnn.softmax`, is applied to each output first.

    The model is left as it was, modes and masks included, so the same call gives the same numbers; other masks come
    with another `set_random_state`. Sums are float64. ValueError if there is no random layer, or fewer than 2 samples.

    Source: Gal and Ghahramani (2016), Dropout as a Bayesian Approximation, ICML.
    """
    count = whole_number("monte_carlo", "samples", samples)
    if count < 2:
        raise ValueError(f"monte_carlo: samples is {count}; expected 2 or more")
    if not any(True for _ in random_layers(model)):
        raise ValueError(
            f"monte_carlo: the {type(model).__name__} has no random layers; every sample would be the same"
        )
    total: Any = 0.0
    squares: Any = 0.0
    with _masks_only(model), no_grad():
        for number in range(1, count + 1):
            y = model(x) if function is None else function(model(x))
            value = y.astype(np.float64) if on_device(y) else np.asarray(y, np.float64)
            step = value - total  # Welford: no difference of large sums
            total = total + step / number
            squares = squares + step * (value - total)
    return MonteCarlo(total.astype(y.dtype), np.sqrt(squares / (count - 1)).astype(y.dtype))


@contextmanager
def _masks_only(model: Module) -> Iterator[None]:
    """Random layers in training mode, the others in evaluation mode; afterwards all is as before."""
    modes = [(module, module.training) for module in model.modules()]
    state = random_state(model)
    try:
        model.eval()
        _set_modes((layer, True) for _, layer in random_layers(model))
        yield
    finally:
        _set_modes(modes)
        set_random_state(model, state)


def _set_modes(modes: Any) -> None:
    for module, training in modes:
        vars(module)["training"] = training
    CHANGES.count += 1
