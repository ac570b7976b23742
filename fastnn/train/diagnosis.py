"""Where a run went wrong: the first layer, gradient or weight that is no longer a finite number."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from fastnn.arrays import host, is_array
from fastnn.nn.module import Module
from fastnn.nn.random_layers import random_state, set_random_state

Array = npt.NDArray[Any]

LOWER = "Try a learning rate ten times lower, a warm-up, or clip_grad_norm=1."
INPUT = "Look at the data and its preprocessing: a division by a standard deviation of 0, for example."
UNKNOWN = "Look at how that layer computes, and try a smaller initialisation or a lower learning rate."


def first_nonfinite(model: Module, x: Array, y: Array, logits: Array) -> tuple[str, str]:
    """Where it began, for a batch whose loss is not finite, and what to try.

    To be asked before the batch's own backward pass: the gradients are then those of the step before, which made the
    weights what they are. The model is not changed: the batch is run through a copy.
    """
    for name, array in (("inputs", x), ("labels", y)):
        bad = _bad_samples(array)
        if bad is not None:
            return f"It began in the data: the {name} of sample {bad} of this batch hold NaN or infinity.", INPUT
    gradients = nonfinite_gradient(model)
    if gradients:
        return gradients.replace("this step", "the step before"), LOWER
    for name, parameter in model.named_parameters():
        if not np.isfinite(parameter.data).all():
            return f"It began with the weights: the update of the step before made {name} overflow.", LOWER
    found = _forward(model, x)
    if found is not None:
        return found
    if np.isfinite(logits).all():
        largest = float(np.abs(host(logits)).max(initial=0))
        return f"It began in the loss: the model's outputs are finite, the largest of magnitude {largest:.3g}.", LOWER
    return "Where it began is not to be seen: run again, the batch gives finite numbers.", UNKNOWN


def nonfinite_gradient(model: Module) -> str:
    """Which gradient is not finite, of those the one nearest to the loss: there it began. "" if all are."""
    for name, parameter in reversed(list(model.named_parameters())):
        if parameter.grad is not None and not np.isfinite(parameter.grad).all():
            return f"It began in the gradients: on the way back from the loss of this step that of {name} was first."
    return ""


def grown(model: Module, norms: dict[str, float]) -> str:
    """The weights that have grown the most since their norms were `norms`."""
    now = weight_norms(model)
    ratios = {name: now[name] / norms[name] for name in now if norms.get(name, 0.0) > 0}
    if not ratios:
        return ""
    name = max(ratios, key=lambda each: ratios[each])
    return f"The weights that have grown the most are {name}, to {ratios[name]:.3g} times their norm at the start."


def weight_norms(model: Module) -> dict[str, float]:
    """The norm of every weight of two dimensions or more."""
    return {
        name: float(np.linalg.norm(host(parameter.data).astype(np.float64, copy=False)))
        for name, parameter in model.named_parameters()
        if parameter.data.ndim > 1
    }


def named(model: Module) -> Iterator[tuple[str, Module]]:
    """All modules, under names such as "2 ReLU"."""
    return ((f"{name} {type(module).__name__}".strip(), module) for name, module in model.named_modules())


def leaves(model: Module) -> Iterator[tuple[str, Module]]:
    """The modules that are made of no others."""
    return ((name, module) for name, module in named(model) if next(module.children(), None) is None)


def _bad_samples(array: Any) -> int | None:
    """The first sample that holds a number that is not finite."""
    values = host(array)
    if values.dtype.kind in "biu" or np.isfinite(values).all():
        return None
    return int(np.flatnonzero(~np.isfinite(values).reshape(len(values), -1).all(1))[0])


def _forward(model: Module, x: Array) -> tuple[str, str] | None:
    """The first layer whose output is not finite, when the batch is run once more: the innermost, for its hook is
    called before those of the modules around it."""
    twin = copy.deepcopy(model)
    set_random_state(twin, {name: (seed, max(calls - 1, 0)) for name, (seed, calls) in random_state(model).items()})
    found: list[tuple[str, str]] = []

    def look(name: str, module: Module, x: Any, y: Any) -> None:
        x = x if is_array(x) else np.zeros(0)
        if found or not is_array(y) or np.isfinite(y).all():
            return
        kind = "NaN" if np.isnan(y).any() else "infinity"
        sizes = [f"its input, of magnitude {_largest(x):.3g} at most, was finite" if np.isfinite(x).all() else ""]
        weights = [_largest(parameter.data) for parameter in module._parameters.values() if parameter is not None]
        sizes += [f"its largest weight is {max(weights):.3g}"] if weights else []
        detail = ", ".join(filter(None, sizes))
        sentence = f"It began in layer {name}, the first to give {kind}" + (f": {detail}." if detail else ".")
        found.append((sentence, LOWER if weights or _largest(x) > 1e3 else UNKNOWN))

    with _hooks(twin, look), np.errstate(all="ignore"):
        twin(x)
    return found[0] if found else None


@contextmanager
def _hooks(model: Module, look: Any) -> Iterator[None]:
    handles = [
        module.register_forward_hook(lambda module, x, y, name=name: look(name, module, x, y))  # type: ignore[misc]
        for name, module in named(model)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _largest(array: Any) -> float:
    values = np.abs(host(array, np.float64))
    return float(values.max(initial=0)) if values.size else math.nan
