"""Stochastic gradient descent."""

from __future__ import annotations

from typing import Any

from fastnn.arguments import flag, parameter_dtype, real_number
from fastnn.arrays import zeros
from fastnn.functions.optimizers import sgd_step
from fastnn.optim.optimizer import Array, Group, Optimizer, Params


class SGD(Optimizer):
    """Gradient descent with momentum.

        g = grad + weight_decay param
        velocity = momentum velocity + (1 - dampening) g        (g itself in the first step)
        param = param - lr (g + momentum velocity  if nesterov else  velocity)

    Arguments and defaults are those of `torch.optim.SGD`: lr 1e-3, momentum and weight_decay 0. ValueError for an
    option out of range, and for nesterov without momentum or with dampening. Source: see `fnn.sgd_step`.
    """

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        options = {"lr": lr, "momentum": momentum, "dampening": dampening, "weight_decay": weight_decay}
        super().__init__(params, options | {"nesterov": nesterov, "maximize": maximize})

    def _check(self, options: Group) -> None:
        for name in ("lr", "momentum", "weight_decay"):
            real_number("SGD", name, options[name], low=0.0)
        real_number("SGD", "dampening", options["dampening"])
        flag("SGD", "maximize", options["maximize"])
        if flag("SGD", "nesterov", options["nesterov"]) and (options["momentum"] == 0 or options["dampening"] != 0):
            raise ValueError(
                "SGD: nesterov needs momentum and no dampening; "
                f"got momentum={options['momentum']:g} and dampening={options['dampening']:g}"
            )

    def _update(self, data: Array, grad: Array, state: dict[str, Any], options: Group) -> None:
        velocity, first = None, False
        if options["momentum"] != 0:
            velocity = state.get("momentum_buffer")
            if velocity is None:
                first, velocity = True, zeros(data, data.shape, parameter_dtype(data.dtype))
                state["momentum_buffer"] = velocity
        sgd_step(
            data,
            grad,
            velocity,
            options["lr"],
            options["momentum"],
            options["dampening"],
            options["weight_decay"],
            options["nesterov"],
            first=first,
            maximize=options["maximize"],
        )
