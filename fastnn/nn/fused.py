"""What layers that apply an activation to their own result need to know about it."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn import functional
from fastnn.nn.memory import Array
from fastnn.nn.module import Module
from fastnn.table import OPS

Fused = str | tuple[Any, ...] | None

_SAME_SIGNS = {"relu", "relu6", "hardtanh"}  # whose derivative depends on comparisons that y answers as x does


def saves_output(activation: Fused) -> bool:
    """Can backward take y for the activation's input, with the same bits? Then the input need not be kept.

    Of no activation there is nothing to keep either.
    """
    if activation is None:
        return True
    name, *params = (activation,) if isinstance(activation, str) else activation
    if name == "leaky_relu":  # y > 0 where x > 0 and nowhere else, and NaN only where x is, if the slope is positive
        return not params or params[0] > 0
    return name in _SAME_SIGNS or OPS[name].saves == "output"


def is_run(followers: tuple[Module, ...]) -> bool:
    """What may share a pass behind a layer: an activation, and behind relu a dropout.

    Dropout writes over relu's result: what it drops is 0, where relu's derivative is 0 too, so that backward needs
    neither the mask nor relu's result.
    """
    if not followers or followers[0].fused_as is None:
        return False
    return len(followers) == 1 or (len(followers) == 2 and followers[0].fused_as == "relu" and followers[1].drops_over)


def drop(followers: tuple[Module, ...], y: Array) -> float:
    """Do the dropout among the followers, if there is one; the number by which what it keeps has been multiplied."""
    return followers[1].drop_over(y) if len(followers) > 1 else 1.0


def before_dropout(module: Module, dy: Array, scale: float) -> Array:
    """The gradient by relu's result where it was kept; relu's derivative sees to the rest."""
    if scale == 1.0:
        return dy
    dz: Array = np.multiply(dy, dy.dtype.type(scale), out=module.gradient(dy, "dz"))
    vars(module)["dy_is_scratch"] = True
    return dz


def before_activation(module: Module, dy: Array, saved: Array, activation: Fused) -> Array:
    """The gradient by what the activation got, for layers whose function does no better in a pass of its own."""
    if activation is None:
        return dy
    name, *params = (activation,) if isinstance(activation, str) else activation
    dz = module.gradient(dy, "dz")
    getattr(functional, f"{name}_backward")(dy, saved, *params, out=dz)
    vars(module)["dy_is_scratch"] = True
    return dz
