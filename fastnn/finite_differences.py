"""`fnn.gradcheck`: is `backward` the derivative of `forward`? Finite differences say."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fastnn import devices
from fastnn.arguments import real_number, whole_number
from fastnn.arrays import host, is_array, place_of
from fastnn.nn.module import Module
from fastnn.nn.random_layers import random_state, set_random_state

__all__ = ["GradientError", "gradcheck"]

Array = npt.NDArray[Any]
_SMALLER_STEP = 1 / 16  # for what lies beside a kink


class GradientError(AssertionError):
    """A gradient that finite differences contradict; the message says which, where, and both numbers."""


def gradcheck(
    layer: Module,
    x: npt.ArrayLike,
    *arguments: Any,
    eps: float = 1e-6,
    rtol: float = 1e-5,
    atol: float = 1e-7,
    seed: int = 0,
    samples: int | None = 200,
) -> bool:
    """True if the gradients by x and by every parameter are those of central differences; else GradientError.

        fnn.gradcheck(fnn.nn.Linear(3, 4), np.random.randn(5, 3))
        fnn.gradcheck(fnn.nn.CrossEntropyLoss(), logits, labels)

    A copy of the layer, in float64, is checked in the mode that the layer is in; the layer stays as it is. With
    f = sum(dy y) for a dy of normal numbers drawn by `seed`, the gradient g of an element v must satisfy

        |g - (f(v + h) - f(v - h)) / 2h| <= atol + rtol |g|,   h = eps max(1, |v|).

    Where it does not, a step of h / 16 may, as it must beside a kink (relu near 0, a maximum of two near equals).
    Before every evaluation masks and running statistics are set back. Of arrays of more than `samples` elements so many
    are drawn and checked; None checks all. Further arguments, such as a loss's labels, are passed behind x.

    Checked as well: that y and the gradients have the shapes and the dtype they must have, that neither x nor dy is
    written over (but with `inplace=True`), that a second backward pass adds to the gradients, that frozen parameters
    get none, that the same x gives the same y.

    Finite differences with h = 1e-6 in float64 are right to about 1e-9 of the largest terms of f.
    """
    title = "gradcheck"
    if not isinstance(layer, Module):
        raise TypeError(
            f"{title}: layer is a {type(layer).__name__}; expected a module: a class derived from fnn.nn.Module"
        )
    eps = real_number(title, "eps", eps, above=0.0)
    rtol, atol = real_number(title, "rtol", rtol, low=0.0), real_number(title, "atol", atol, low=0.0)
    count = None if samples is None else whole_number(title, "samples", samples)
    values = np.array(host(x))
    if values.dtype.kind in "biucOSUmM":
        raise TypeError(f"{title}: x has dtype {values.dtype}; expected floating-point numbers")
    where = devices.place(layer)
    where = place_of([x, *arguments]) if where is None else where
    run = _Run(layer, values.astype(np.float64), arguments, np.random.default_rng(seed), where)
    analytic = run.gradients()
    for name, values in run.arrays():
        found = analytic[name]
        if found is not None:
            _compare(run, name, values, found, eps, (rtol, atol), count)
    return True


class _Run:
    """The copy under test, its input, and the weights dy of the sum that is differentiated."""

    def __init__(
        self, layer: Module, x: Array, arguments: tuple[Any, ...], rng: np.random.Generator, where: int | None
    ) -> None:
        self.layer = copy.deepcopy(layer).to(np.float64)
        self.moved = devices.mover(where)
        self.layer.needs_input_grad = True
        self.name, self.x, self.arguments, self.rng = type(layer).__name__, x, arguments, rng
        self.inplace = any(getattr(module, "inplace", False) for module in self.layer.modules())
        self.random = random_state(self.layer)
        self.buffers = {name: buffer.copy() for name, buffer in self.layer.named_buffers()}
        y = np.array(host(self.result()))
        self.scalar = y.ndim == 0  # a loss
        self.dy = np.ones(()) if self.scalar else rng.standard_normal(y.shape)
        if y.dtype != np.float64:
            raise GradientError(
                f"{self.name}.forward makes {y.dtype} of float64, and finite differences need float64: a constant or "
                "a workspace of another dtype takes part; use x.dtype"
            )
        if not np.array_equal(y, host(self.result()), equal_nan=True):
            raise GradientError(
                f"{self.name}.forward gives another result for the same x. A random layer needs a `seed` and the "
                "number of its `calls` as attributes (derive it from fnn.nn.RandomLayer), other state is for buffers"
            )
        if not np.isfinite(y).all():
            raise GradientError(f"{self.name}.forward gives {_first_odd(y)}; choose an x for which all is finite")

    def result(self) -> Any:
        """`forward` from the state at the beginning."""
        set_random_state(self.layer, self.random)
        for name, buffer in self.layer.named_buffers():
            if name in self.buffers:
                buffer[...] = self.buffers[name]
        self.given = self.moved(self.x.copy())
        y = self.layer(self.given, *self.arguments)
        self.check_input()
        return y

    def check_input(self) -> None:
        if not self.inplace and not np.array_equal(host(self.given), self.x, equal_nan=True):
            raise GradientError(f"{self.name} writes over its input x, which belongs to the caller")

    def arrays(self) -> Iterator[tuple[str, Array]]:
        """What is differentiated by, under the names of `gradients`."""
        yield "x", self.x
        for name, parameter in self.layer.named_parameters():
            yield name, parameter.data

    def gradients(self) -> dict[str, Array | None]:
        """What `backward` says, once its manners have been checked."""
        self.layer.zero_grad()
        self.result()
        dx = self.backward()
        self.check_input()
        if dx is None:
            raise GradientError(f"{self.name}.backward returns None; expected dx, of shape {self.x.shape}")
        found: dict[str, Array | None] = {"x": _like(f"{self.name}.backward: dx", dx, self.x)}
        for name, parameter in self.layer.named_parameters():
            if not parameter.requires_grad:
                if parameter.grad is not None:
                    raise GradientError(f"{name} has requires_grad=False and got a gradient; expected none")
                found[name] = None
            elif parameter.grad is None:
                raise GradientError(
                    f"{name} got no gradient: {self.name}.backward has to call add_grad or claim_grad of each parameter"
                )
            else:
                found[name] = _like(f"the gradient of {name}", parameter.grad, parameter.data)
        self.result()
        self.backward()
        for name, parameter in self.layer.named_parameters():
            once, twice = found[name], parameter.grad
            if once is not None and not (
                twice is not None and np.allclose(host(twice), 2 * once, rtol=1e-7, atol=1e-9)
            ):
                raise GradientError(f"{name}: a second backward pass has to add to the gradient; it replaced it")
        return found

    def backward(self) -> Any:
        if self.scalar and _takes_nothing(self.layer.backward):
            return self.layer.backward()  # type: ignore[call-arg]
        dy = self.moved(self.dy.copy())
        dx = self.layer.backward(dy)
        if not self.inplace and not np.array_equal(host(dy), self.dy):
            raise GradientError(f"{self.name}.backward writes over dy, which belongs to the caller")
        return dx

    def slope(self, values: Array, index: tuple[Any, ...], step: float) -> float:
        """The central difference of f by one element."""
        old = values[index]
        sides, places = [], []
        for place in (old + step, old - step):
            values[index] = place
            places.append(float(values[index]))
            sides.append(np.array(host(self.result())))
        values[index] = old
        return float(np.sum((sides[0] - sides[1]) * self.dy)) / (places[0] - places[1])


def _takes_nothing(function: Callable[..., Any]) -> bool:
    try:
        inspect.signature(function).bind()
    except TypeError:
        return False
    return True


def _like(what: str, gradient: Any, values: Array) -> Array:
    if not is_array(gradient) or gradient.shape != values.shape:
        raise GradientError(f"{what} has shape {np.shape(gradient)}; expected {values.shape}")
    if gradient.dtype != np.float64:
        raise GradientError(f"{what} has dtype {gradient.dtype}; expected float64, that of the input")
    return np.array(host(gradient))


@dataclass
class _Wrong:
    index: tuple[int, ...]
    said: float
    measured: float
    allowed: float


def _compare(
    run: _Run,
    name: str,
    values: Array,
    gradient: Array,
    eps: float,
    tolerance: tuple[float, float],
    samples: int | None,
) -> None:
    """GradientError if the gradient of an array is not what differences say."""
    places = np.arange(values.size)
    if samples is not None and values.size > samples:
        places = np.sort(run.rng.choice(values.size, samples, replace=False))
    pairs: list[tuple[float, float]] = []
    wrong: list[_Wrong] = []
    for place in places:
        index = tuple(int(part) for part in np.unravel_index(place, values.shape))
        said, step = float(gradient[index]), eps * max(1.0, abs(float(values[index])))
        allowed = tolerance[1] + tolerance[0] * abs(said)
        measured = run.slope(values, index, step)
        if not abs(said - measured) <= allowed:
            closer = run.slope(values, index, step * _SMALLER_STEP)
            if not abs(said - closer) <= allowed + tolerance[1] / _SMALLER_STEP:
                wrong.append(_Wrong(index, said, measured, allowed))
        pairs.append((said, measured))
    if not wrong:
        return
    worst = max(wrong, key=lambda each: _size(each.said - each.measured))
    what = f"gradient of {name}" if name != "x" else "gradient by x"
    place_text = f"[{', '.join(map(str, worst.index))}]" if worst.index else ""
    raise GradientError(
        f"{run.name}.backward: the {what}{place_text} is {worst.said:.9g}, and finite differences say "
        f"{worst.measured:.9g} (allowed difference {worst.allowed:.1g}). {len(wrong)} of {len(pairs)} elements checked "
        f"are wrong, this one most{_pattern(pairs)}"
    )


def _size(difference: float) -> float:
    return abs(difference) if np.isfinite(difference) else np.inf


def _pattern(pairs: list[tuple[float, float]]) -> str:
    """What all elements have in common, where it gives the mistake away."""
    said, measured = np.array(pairs).T
    if not said.any():
        return "; all are 0: does backward fill it?"
    large = np.abs(measured) > 1e-3 * np.abs(measured).max()
    ratios = said[large] / measured[large]
    if len(ratios) > 1 and np.isfinite(ratios).all() and np.ptp(ratios) < 1e-4 * abs(ratios[0]) and ratios[0] != 0:
        return f"; every one is {ratios.mean():.6g} times what it should be"
    return ""


def _first_odd(y: Array) -> str:
    return f"{y[~np.isfinite(y)].flat[0]} in y"
