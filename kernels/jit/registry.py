"""The list of ops that the formulas of activations.py are entered into."""

from __future__ import annotations

from dataclasses import dataclass
from types import FunctionType
from typing import Any

from fastnn.kernels.jit.intrinsics import Formula, formula


@dataclass(frozen=True, slots=True)
class Activation:
    """The compiled formulas of one op."""

    name: str
    forward: Formula
    backward: Formula
    parameter_gradient: Formula | None
    argument: Formula | None  # what `near` is about; None: x itself
    reach: str  # the constant up to which the argument is near


ACTIVATIONS: dict[str, Activation] = {}
CUSTOM: dict[str, Activation] = {}  # users' own, see custom.py


def block(name: str) -> Activation:
    """The formulas of an op of the table, or of a user's."""
    return ACTIVATIONS[name] if name in ACTIVATIONS else CUSTOM[name]


def activation(block: Any) -> Activation:
    """Compile the formulas of a block and enter it into the list."""
    compiled = {}
    for direction in ("forward", "backward", "parameter_gradient", "argument"):
        function = getattr(block, direction, None)
        compiled[direction] = formula(function) if isinstance(function, FunctionType) else function
    ACTIVATIONS[block.__name__] = Activation(block.__name__, reach=getattr(block, "reach", "exp_near"), **compiled)
    return ACTIVATIONS[block.__name__]
