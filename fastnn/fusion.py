"""The argument `activation=` of functions that apply an activation to what they compute, while it is in the cache."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np

from fastnn.arguments import checked_parameters
from fastnn.op import Op
from fastnn.table.activations import OPS

Activation = str | tuple[Any, ...] | None  # what callers pass: a name, or a name and its parameters


class Fused(NamedTuple):
    """A checked activation: its name and one number for each of its parameters."""

    name: str
    params: tuple[float, ...]

    @property
    def op(self) -> Op:
        """Its row."""
        return OPS[self.name]


def fused(title: str, activation: Activation, dtype: np.dtype[Any]) -> Fused | None:
    """The activation that `activation` stands for beside arrays of `dtype`, None for none; TypeError or ValueError."""
    if activation is None:
        return None
    name, *given = activation if isinstance(activation, tuple) and activation else (activation,)
    if not isinstance(name, str):
        raise TypeError(
            f"{title}: activation is {activation!r}; expected None, the name of an activation, "
            "or a tuple of its name and its parameters"
        )
    if name not in OPS:
        raise ValueError(f"{title}: there is no activation {name!r}; expected one of {', '.join(OPS)}")
    op = OPS[name]
    if len(given) > len(op.params):
        raise ValueError(f"{title}: activation {name!r} has {len(op.params)} parameters; got {len(given)}")
    values = [*given, *(param.default for param in op.params[len(given) :])]
    missing = [param.name for param, value in zip(op.params, values, strict=True) if value is None]
    if missing:
        raise ValueError(
            f"{title}: activation {name!r} needs {' and '.join(missing)}; expected a tuple such as "
            f"{(name, *op.parameters_default)!r}"
        )
    checked = checked_parameters(op, dtype, (), values, title)
    if any(value.size != 1 for value in checked):
        raise ValueError(f"{title}: activation {name!r} takes one number for each parameter here, no arrays")
    return Fused(name, tuple(value.item() for value in checked))


@functools.lru_cache(maxsize=256)
def _hashed(activation: Activation, dtype: np.dtype[Any]) -> Fused | None:
    return fused("", activation, dtype)


def known(activation: Activation, dtype: Any) -> Fused | None:
    """The checked activation, kept from call to call; None for what is not hashable, or no dtype that has kernels."""
    try:
        return _hashed(activation, dtype) if isinstance(dtype, np.dtype) and dtype.itemsize <= 8 else None
    except (TypeError, ValueError):
        return None
