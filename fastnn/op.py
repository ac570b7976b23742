"""What one row of the op table consists of: `Op` and its parameters, `Param`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Formula = Callable[..., Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Param:
    """One parameter of an activation."""

    name: str
    doc: str
    default: float | None = None  # None: required
    learned: bool = False  # array-valued; its gradient comes back beside dx
    low: float = -math.inf
    high: float = math.inf
    excluded: tuple[float, ...] = ()
    examples: tuple[float, ...] = ()  # values that tests, benchmarks and certificates use, beside the default

    @property
    def values(self) -> tuple[float, ...]:
        """The default, where there is one, then the examples."""
        return self.examples if self.default is None else (self.default, *self.examples)

    def accepts(self, value: float) -> bool:
        """Is `value` finite and in range?"""
        return math.isfinite(value) and self.low <= value <= self.high and value not in self.excluded

    @property
    def range(self) -> str:
        """The valid range in words."""
        bounds = []
        if self.low != -math.inf:
            bounds.append(f"{'above' if self.low in self.excluded else 'at least'} {self.low:g}")
        if self.high != math.inf:
            bounds.append(f"{'below' if self.high in self.excluded else 'at most'} {self.high:g}")
        bounds += [f"not {value:g}" for value in self.excluded if self.low < value < self.high]
        return ", ".join(["finite", *bounds]) if bounds else "any finite number"


@dataclass(frozen=True, slots=True, kw_only=True)
class Op:
    """One activation: everything that tests, documentation, benchmarks and layers need to know about it.

    `forward`, `gradient` and `param_gradient` are the oracles: textbook formulas over a namespace `m` of elementary
    functions (see `fastnn.oracle`), so that one writing serves float64 arrays and arbitrary precision. `gradient` is
    dy/dx in terms of what is saved; backward is `dy * gradient` in IEEE arithmetic, so an infinite `dy` on a zero
    gradient is NaN. NaN in gives NaN out, which this class sees to, so that formulas need not mention it.
    """

    name: str
    title: str
    params: tuple[Param, ...] = ()
    formula: str
    derivative: str
    source: str
    saves: str  # "input" or "output": what backward receives as `saved`
    special: tuple[tuple[float, float], ...]  # (x, y) with default parameters, the sign of zero included
    forward: Formula
    gradient: Formula
    param_gradient: Formula | None = None  # dy/dparam for the learned parameter
    forward_ulp: float = 2.0
    backward_ulp: float = 4.0
    zeros: tuple[float, ...] = ()  # where the derivative crosses zero: within `near` of them the promise is absolute
    near: float = 0.0
    scale: Callable[..., float] | None = None  # zeros and near are in units of scale(*params) * x; None: of x
    saved_range: tuple[float, float] = (-math.inf, math.inf)  # what `saved` can be
    rising: bool = False  # the parameters must not fall from one to the next
    forward_ops: int
    backward_ops: int
    transcendental: bool

    def __post_init__(self) -> None:
        """Check the row and give its formulas the NaN rule."""
        if self.saves not in ("input", "output"):
            raise ValueError(f"{self.name}: saves is {self.saves!r}, expected 'input' or 'output'")
        learned = sum(param.learned for param in self.params)
        if learned > 1 or (learned == 1) != (self.param_gradient is not None):
            raise ValueError(f"{self.name}: param_gradient goes with exactly one learned parameter")
        if any(not param.accepts(value) for param in self.params for value in param.values):
            raise ValueError(f"{self.name}: a default or an example is outside its parameter's range")
        if any(not param.values for param in self.params):
            raise ValueError(f"{self.name}: a required parameter needs examples")
        if bool(self.zeros) != (self.near > 0):
            raise ValueError(f"{self.name}: zeros and near go together")
        for field in ("forward", "gradient", "param_gradient"):
            if (formula := getattr(self, field)) is not None:
                object.__setattr__(self, field, _with_nan_rule(formula))

    @property
    def parameters_default(self) -> tuple[float, ...]:
        """One valid value per parameter: its default, or the first example of a required one."""
        return tuple(param.values[0] for param in self.params)

    @property
    def parameter_sets(self) -> tuple[tuple[float, ...], ...]:
        """The parameter values under which the op is tested: the defaults, then the examples in step."""
        columns = [param.values for param in self.params]
        rows = max(map(len, columns), default=1)
        return tuple(tuple(values[min(row, len(values) - 1)] for values in columns) for row in range(rows))

    @property
    def learned(self) -> int | None:
        """The index of the learned parameter among the parameters, or None."""
        return next((index for index, param in enumerate(self.params) if param.learned), None)

    def signature(self, *arrays: str) -> str:
        """The argument list of the public function: of forward, or with ("dy", "saved") of backward."""
        params = [param.name if param.default is None else f"{param.name}={param.default}" for param in self.params]
        return ", ".join([*(arrays or ("x",)), *params, "*", "out=None"])

    def saved_for_backward(self, x: Any, y: Any) -> Any:
        """What backward wants to see: `x` or `y`."""
        return x if self.saves == "input" else y

    def near_zero(self, saved: Any, params: Sequence[float] = ()) -> Any:
        """Where the derivative is so near to its own zero that its error is bounded absolutely (a boolean array)."""
        close = np.zeros(np.shape(saved), bool)
        with np.errstate(all="ignore"):
            scaled = saved if self.scale is None else saved * self.scale(*params)
            for zero in self.zeros:
                close |= np.abs(scaled - zero) <= self.near
        return close


def _with_nan_rule(formula: Formula) -> Formula:
    """The formula with floating-point warnings silenced and NaN wherever its first argument is NaN."""

    def evaluate(m: Any, x: Any, *params: Any) -> Any:
        with np.errstate(all="ignore"):
            x = m.array(x)
            return m.where(x == x, formula(m, x, *params), m.nan)

    evaluate.__doc__ = formula.__doc__
    return evaluate
