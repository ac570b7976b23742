"""Ranges of hyper-parameters: where a search looks."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol, SupportsIndex

from fastnn.optional import need

EDGE = 0.05  # a best value within this share of the range, in its own scale, lies at the edge


class Range(Protocol):
    """What a hyper-parameter may be."""

    def distribution(self) -> Any:
        """As Optuna has it."""

    def points(self, count: int) -> list[Any]:
        """`count` values evenly spread in the range's own scale, both ends among them; fewer where there are fewer."""

    def edge(self, value: Any) -> str:
        """ "lower" or "upper" where the value lies at that end of the range, else nothing."""

    def around(self, value: Any, shrink: float) -> Range:
        """A range `shrink` times as wide about a value."""

    def __contains__(self, value: object) -> bool: ...

    def __str__(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Float:
    """Real numbers from low to high, uniform in themselves or in their logarithm."""

    low: float
    high: float
    log: bool = False

    def __contains__(self, value: object) -> bool:
        return isinstance(value, (int, float)) and self.low <= value <= self.high

    def distribution(self) -> Any:
        return need("optuna", "fastnn.train.search", "search").distributions.FloatDistribution(
            self.low, self.high, log=self.log
        )

    def _place(self, value: float) -> float:
        """0 at the lower end, 1 at the upper."""
        low, high, at = map(math.log, (self.low, self.high, value)) if self.log else (self.low, self.high, value)
        return (at - low) / (high - low)

    def _value(self, place: float) -> float:
        if self.log:
            return math.exp(math.log(self.low) + place * math.log(self.high / self.low))
        return self.low + place * (self.high - self.low)

    def points(self, count: int) -> list[Any]:
        if count == 1:
            return [self._value(0.5)]
        inner = [self._value(place / (count - 1)) for place in range(1, count - 1)]
        return [self.low, *inner, self.high]

    def edge(self, value: Any) -> str:
        place = self._place(value)
        return "lower" if place <= EDGE else "upper" if place >= 1 - EDGE else ""

    def around(self, value: Any, shrink: float) -> Float:
        """Past the old ends in log scale; within them otherwise, where they are often limits, as 0 of a probability."""
        low, high = (self._value(self._place(value) + way * shrink / 2) for way in (-1, 1))
        if self.log:
            return Float(low, high, True)
        return Float(max(low, self.low), min(high, self.high))

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g}"


@dataclass(frozen=True, slots=True)
class Integer:
    """Whole numbers from low to high, both among them, uniform in themselves or in their logarithm."""

    low: int
    high: int
    log: bool = False

    def __contains__(self, value: object) -> bool:
        return isinstance(value, int) and self.low <= value <= self.high

    def distribution(self) -> Any:
        return need("optuna", "fastnn.train.search", "search").distributions.IntDistribution(
            self.low, self.high, log=self.log
        )

    def points(self, count: int) -> list[Any]:
        spread = Float(self.low, self.high, self.log).points(count)
        return sorted({round(value) for value in spread})

    def edge(self, value: Any) -> str:
        return "lower" if value == self.low else "upper" if value == self.high else ""

    def around(self, value: Any, shrink: float) -> Integer:
        wanted = Float(self.low, self.high, self.log).around(value, shrink)
        low = max(math.floor(wanted.low), 1 if self.log else self.low)
        high = math.ceil(wanted.high) if self.log else min(math.ceil(wanted.high), self.high)
        return Integer(low, max(high, low + 1), self.log)

    def __str__(self) -> str:
        return f"{self.low} to {self.high}"


@dataclass(frozen=True, slots=True)
class Choice:
    """One of some values: None, bools, numbers or strings."""

    values: tuple[Any, ...]

    def __contains__(self, value: object) -> bool:
        return value in self.values

    def distribution(self) -> Any:
        return need("optuna", "fastnn.train.search", "search").distributions.CategoricalDistribution(self.values)

    def points(self, count: int) -> list[Any]:
        return list(self.values)

    def edge(self, value: Any) -> str:
        return ""

    def around(self, value: Any, shrink: float) -> Choice:
        return Choice((value,))

    def __str__(self) -> str:
        return " or ".join(map(repr, self.values))


def loguniform(low: float, high: float) -> Float:
    """Numbers whose logarithm is uniform: for learning rates and weight decay, where factors matter. 0 < low < high."""
    return _checked("loguniform", low, high, log=True)


def uniform(low: float, high: float) -> Float:
    """Uniform numbers, low < high: for rates of dropout, or momentum."""
    return _checked("uniform", low, high, log=False)


def _checked(title: str, low: float, high: float, log: bool) -> Float:
    for name, value in (("low", low), ("high", high)):
        if isinstance(value, (bool, str)) or not isinstance(value, (int, float)):
            raise TypeError(f"{title}: {name} is {value!r}; expected a number")
    if not (math.isfinite(low) and math.isfinite(high) and low < high and (low > 0 or not log)):
        wanted = "0 < low < high" if log else "low < high"
        raise ValueError(f"{title}: got low={low}, high={high}; expected finite numbers, {wanted}")
    return Float(float(low), float(high), log)


def integer(low: SupportsIndex, high: SupportsIndex, *, log: bool = False) -> Integer:
    """Whole numbers from low to high, both among them; `log`: uniform in the logarithm, as for widths."""
    for name, value in (("low", low), ("high", high)):
        if isinstance(value, bool) or not hasattr(value, "__index__"):
            raise TypeError(f"integer: {name} is {value!r}; expected an integer")
    first, last = operator.index(low), operator.index(high)
    if not (first < last and (first > 0 or not log)):
        wanted = "0 < low < high" if log else "low < high"
        raise ValueError(f"integer: got low={low}, high={high}; expected {wanted}")
    return Integer(first, last, log)


def choice(values: Sequence[Any]) -> Choice:
    """One of `values`: None, bools, numbers or strings, such as names of optimisers."""
    if isinstance(values, str) or not len(values):
        raise ValueError(f"choice: got {values!r}; expected a sequence of values")
    for value in values:
        if not isinstance(value, (type(None), bool, int, float, str)):
            raise TypeError(f"choice: {value!r} is a {type(value).__name__}; expected None, bools, numbers or strings")
    if len(set(values)) < len(values):
        raise ValueError(f"choice: got {values!r}, in which some are equal; expected different values")
    return Choice(tuple(values))


def checked_space(space: Mapping[str, Any]) -> dict[str, Any]:
    """The space as a dictionary; TypeError or ValueError where it is none."""
    if not isinstance(space, Mapping):
        raise TypeError(f"search: space is a {type(space).__name__}; expected a dictionary of names and ranges")
    if not space:
        raise ValueError("search: space is empty; expected at least one range")
    for name, each in space.items():
        if not isinstance(name, str) or not isinstance(each, (Float, Integer, Choice)):
            raise TypeError(
                f"search: space[{name!r}] is {each!r}; expected a range such as loguniform(1e-5, 1e-1), "
                "uniform(0, 0.5), integer(1, 8) or choice(['sgd', 'adam'])"
            )
    return dict(space)


def described(space: Mapping[str, Any]) -> dict[str, Any]:
    """The space as data for JSON."""
    return {
        name: {"kind": type(each).__name__} | {key: _listed(item) for key, item in asdict(each).items()}
        for name, each in space.items()
    }


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def grid(space: Mapping[str, Any], trials: int) -> list[dict[str, Any]]:
    """A grid of at most `trials` points, but with all choices: one more value a range in turn, while it fits."""
    counts = dict.fromkeys(space, 1)
    sizes = {name: len(each.points(1)) for name, each in space.items()}
    growing = [name for name, each in space.items() if not isinstance(each, Choice)]
    while growing:
        for name in tuple(growing):
            count = counts[name] + 1
            size = len(space[name].points(count))
            if size <= sizes[name] and size < count or math.prod((sizes | {name: size}).values()) > trials:
                growing.remove(name)
            else:
                counts[name], sizes[name] = count, size
    points: list[dict[str, Any]] = [{}]
    for name, each in space.items():
        points = [point | {name: value} for point in points for value in each.points(counts[name])]
    return points
