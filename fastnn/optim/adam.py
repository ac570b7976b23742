"""Adam and AdamW."""

from __future__ import annotations

from typing import Any

from fastnn.arguments import flag, parameter_dtype, real_number
from fastnn.arrays import zeros
from fastnn.functions.optimizers import adam_step, adamw_step
from fastnn.optim.optimizer import Array, Group, Optimizer, Params


class Adam(Optimizer):
    """Running means of gradient and squared gradient, corrected for their start at zero.

        g = grad + weight_decay param
        m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) g^2
        param = param - lr m / (1 - b1^step) / (sqrt(v / (1 - b2^step)) + eps)

    amsgrad: the largest v so far in place of v. Arguments and defaults are those of `torch.optim.Adam`: lr 1e-3,
    betas (0.9, 0.999). TypeError or ValueError for options that are not valid. Source: see `fnn.adam_step`.
    """

    _step = staticmethod(adam_step)

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        options = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, options | {"amsgrad": amsgrad, "maximize": maximize})

    def _check(self, options: Group) -> None:
        title, betas = type(self).__name__, options["betas"]
        for name in ("lr", "eps", "weight_decay"):
            real_number(title, name, options[name], low=0.0)
        if not isinstance(betas, (tuple, list)) or len(betas) != 2:
            raise TypeError(f"{title}: betas is {betas!r}; expected two numbers")
        for k, beta in enumerate(betas):
            real_number(title, f"betas[{k}]", beta, low=0.0, below=1.0)
        for name in ("amsgrad", "maximize"):
            flag(title, name, options[name])

    def _update(self, data: Array, grad: Array, state: dict[str, Any], options: Group) -> None:
        wanted = {"exp_avg": True, "exp_avg_sq": True, "max_exp_avg_sq": options["amsgrad"]}
        for name, needed in wanted.items():
            if needed and name not in state:
                state[name] = zeros(data, data.shape, parameter_dtype(data.dtype))
        state["step"] = state.get("step", 0) + 1
        self._step(
            data,
            grad,
            state["exp_avg"],
            state["exp_avg_sq"],
            state["step"],
            options["lr"],
            options["betas"],
            options["eps"],
            options["weight_decay"],
            max_exp_avg_sq=state["max_exp_avg_sq"] if options["amsgrad"] else None,
            maximize=options["maximize"],
        )


class AdamW(Adam):
    """Adam with weight decay apart from the gradient: param = param (1 - lr weight_decay), then Adam's step.

    Arguments and defaults are those of `torch.optim.AdamW`: weight_decay 0.01. Source: see `fnn.adamw_step`.
    """

    _step = staticmethod(adamw_step)

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, maximize=maximize)
