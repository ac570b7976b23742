"""RMSprop."""

from __future__ import annotations

from typing import Any

from fastnn.arguments import flag, parameter_dtype, real_number
from fastnn.arrays import zeros
from fastnn.functions.optimizers import rmsprop_step
from fastnn.optim.optimizer import Array, Group, Optimizer, Params


class RMSprop(Optimizer):
    """Steps divided by the root of a running mean of the squared gradient.

        g = grad + weight_decay param;  square_avg = alpha square_avg + (1 - alpha) g^2
        param = param - lr g / (sqrt(square_avg) + eps)

    centered: the variance of the gradient in place of its mean square; momentum: a velocity of such steps. Arguments
    and defaults are those of `torch.optim.RMSprop`. ValueError for an option out of range. Source: see
    `fnn.rmsprop_step`.
    """

    def __init__(
        self,
        params: Params,
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        options = {"lr": lr, "alpha": alpha, "eps": eps, "weight_decay": weight_decay, "momentum": momentum}
        super().__init__(params, options | {"centered": centered, "maximize": maximize})

    def _check(self, options: Group) -> None:
        for name in ("lr", "eps", "weight_decay", "momentum"):
            real_number("RMSprop", name, options[name], low=0.0)
        real_number("RMSprop", "alpha", options["alpha"], low=0.0, below=1.0)
        for name in ("centered", "maximize"):
            flag("RMSprop", name, options[name])

    def _update(self, data: Array, grad: Array, state: dict[str, Any], options: Group) -> None:
        wanted = {"square_avg": True, "grad_avg": options["centered"], "momentum_buffer": options["momentum"] != 0}
        for name, needed in wanted.items():
            if needed and name not in state:
                state[name] = zeros(data, data.shape, parameter_dtype(data.dtype))
        state["step"] = state.get("step", 0) + 1
        rmsprop_step(
            data,
            grad,
            state["square_avg"],
            options["lr"],
            options["alpha"],
            options["eps"],
            options["weight_decay"],
            options["momentum"],
            grad_avg=state["grad_avg"] if options["centered"] else None,
            velocity=state["momentum_buffer"] if options["momentum"] != 0 else None,
            maximize=options["maximize"],
        )
