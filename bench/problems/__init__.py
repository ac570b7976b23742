"""What is measured: every public function of the table, in a few shapes that mean something.

A family of functions is one module here, with a list of `Spec`s; a rival has a module of the same name with the best
way that library has of computing each.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable

from fastnn.table import FUNCTIONS, OPS

from . import activations
from .activations import SIZES
from .base import DTYPES, PASSES, Problem, check_choice
from .functions import Spec

FUNCTION_FAMILIES = (
    "normalization",
    "dropout",
    "augmentation",
    "pooling",
    "softmax",
    "gating",
    "losses",
    "regularizers",
    "linear",
    "convolution",
    "optimizers",
    "statistics",
)
FAMILIES = (activations.FAMILY, *FUNCTION_FAMILIES)


def specs(families: Iterable[str] = FUNCTION_FAMILIES) -> list[Spec]:
    """Everything that is measured of these families, activations aside."""
    return [
        spec
        for family in families
        if family != activations.FAMILY
        for spec in importlib.import_module(f".{family}", __package__).SPECS
    ]


def names() -> tuple[str, ...]:
    """What `--ops` takes."""
    return (*OPS, *(spec.function for spec in specs()))


def make_problems(
    ops: Iterable[str] | None = None,
    directions: Iterable[str] = PASSES,
    dtypes: Iterable[str] = ("float32",),
    sizes: Iterable[int] = SIZES,
    families: Iterable[str] | None = None,
    mandatory: bool = False,
) -> list[Problem]:
    """Every cell asked for; ValueError if a name or a size is wrong.

    `sizes` are the activations' numbers of elements; `mandatory`: of the other functions only what has a target. An op
    stands for its backward pass as well.
    """
    wanted = None if ops is None else set(check_choice("op", ops, names()))
    ways = check_choice("pass", directions, PASSES)
    kinds = check_choice("dtype", dtypes, DTYPES)
    chosen = FAMILIES if families is None else check_choice("family", families, FAMILIES)
    counts = tuple(dict.fromkeys(sizes))
    if not counts or any(size < 1 for size in counts):
        raise ValueError(f"sizes must be positive numbers of elements, got {counts}")
    found: list[Problem] = []
    for kind in kinds:
        if activations.FAMILY in chosen:
            found += activations.problems([op for op in OPS if wanted is None or op in wanted], ways, kind, counts)
        for spec in specs(chosen):
            named = {spec.function} if spec.row is None else {spec.function, spec.row.gradient_of}
            if (wanted is None or named & wanted) and set(spec.direction.split("+")) <= set(ways):
                found += [one for one in spec.problems(kind) if one.main or not mandatory]
    if not found:
        raise ValueError("nothing to measure: no function is in all that was chosen")
    return found


def uncovered(suite: Iterable[Problem]) -> list[str]:
    """Functions of the table, with their direction, that are not in the suite."""
    there = {problem.function for problem in suite}
    wanted = [name if way == "forward" else f"{name}_backward" for name in OPS for way in PASSES]
    return [name for name in (*wanted, *FUNCTIONS) if name not in there]
