"""Regularisers: the weights of a wide layer and of a narrow one."""

from __future__ import annotations

from typing import Any

from .functions import Arguments, Build, Maker, Spec, over

FAMILY = "regularizers"
SIZES = ((1_000_000,), (65_536,))
STRENGTH, BETA = 1e-4, 0.5
PENALTIES: dict[str, Arguments] = {
    "l2": {"strength": STRENGTH},
    "l1": {"strength": STRENGTH},
    "elastic_net": {"beta": BETA, "strength": STRENGTH},
}


def penalty(n: int, grad: bool, options: Arguments) -> Build:
    def build(make: Maker) -> Arguments:
        slope: dict[str, Any] = {"grad": make.normal(n)} if grad else {}
        return {"w": make.normal(n), **slope, **options}

    return build


SPECS = tuple(
    Spec(
        function=f"{name}{'_and_grad' * grad}",
        family=FAMILY,
        shapes=over(lambda n, grad=grad, options=options: penalty(n, grad, options), *SIZES),
        judged=penalty(1003, grad, options),
    )
    for name, options in PENALTIES.items()
    for grad in (False, True)
)
