"""Schedules of the learning rate: how `lr` of every group of an optimiser follows the number of steps or epochs.

Every schedule is a formula of that number and of the rates that the optimiser began with, so that it can be asked for
any epoch (`schedule.at(epoch)`), and goes on exactly where a saved state left it. It overwrites the "lr" of the groups.
Names, arguments and values are those of `torch.optim.lr_scheduler`; "epoch" means whatever the schedule is stepped by.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from fastnn.arguments import real_number, whole_number
from fastnn.optim.optimizer import Optimizer
from fastnn.optim.plateau import ReduceLROnPlateau

__all__ = [
    "CosineAnnealingLR",
    "ExponentialLR",
    "LRScheduler",
    "LambdaLR",
    "LinearLR",
    "MultiStepLR",
    "ReduceLROnPlateau",
    "SequentialLR",
    "StepLR",
    "WarmupLR",
]


class LRScheduler:
    """The base of the schedules: a subclass says in `factor` what the rate is multiplied with.

    A schedule sets the rates of epoch 0 when it is made, and those of the next epoch at each `step()`. `last_epoch`
    other than -1 begins there; the groups must then have an "initial_lr".
    """

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1) -> None:
        title = type(self).__name__
        if not isinstance(optimizer, Optimizer):
            raise TypeError(
                f"{title}: optimizer is of type {type(optimizer).__name__}; expected an fnn.optim.Optimizer"
            )
        self.optimizer = optimizer
        self.last_epoch = whole_number(title, "last_epoch", last_epoch)
        if self.last_epoch < -1:
            raise ValueError(f"{title}: last_epoch is {last_epoch}; expected -1 or more")
        for group in optimizer.param_groups:
            if self.last_epoch == -1:
                group.setdefault("initial_lr", group["lr"])
            elif "initial_lr" not in group:
                raise ValueError(f"{title}: last_epoch is {last_epoch}, but a group of params has no 'initial_lr'")
        self.base_lrs = [float(group["initial_lr"]) for group in optimizer.param_groups]
        self.step()

    def factor(self, epoch: int) -> float:
        """What the initial rates are multiplied with."""
        raise NotImplementedError

    def at(self, epoch: int) -> list[float]:
        """The rate of each group at `epoch`."""
        factor = self.factor(epoch)
        return [base * factor for base in self.base_lrs]

    def step(self) -> None:
        """Go on to the next epoch."""
        self.last_epoch += 1
        self._apply()

    def _apply(self) -> None:
        for group, lr in zip(self.optimizer.param_groups, self.at(self.last_epoch), strict=True):
            group["lr"] = lr

    def get_last_lr(self) -> list[float]:
        """The rate of each group as it is."""
        return [group["lr"] for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """Where the schedule is; its formula is not saved."""
        return {"last_epoch": self.last_epoch, "base_lrs": list(self.base_lrs)}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from a saved state, of a schedule made with the same arguments; sets the rates."""
        title = f"{type(self).__name__}.load_state_dict"
        for name in ("last_epoch", "base_lrs"):
            if name not in state_dict:
                raise ValueError(f"{title}: state_dict has no {name!r}")
        base_lrs = [float(lr) for lr in state_dict["base_lrs"]]
        if len(base_lrs) != len(self.base_lrs):
            raise ValueError(
                f"{title}: base_lrs is of length {len(base_lrs)}; expected {len(self.base_lrs)}, one a group"
            )
        self.base_lrs, self.last_epoch = base_lrs, int(state_dict["last_epoch"])
        self._apply()


def _positive(title: str, name: str, value: Any) -> int:
    number = whole_number(title, name, value)
    if number < 1:
        raise ValueError(f"{title}: {name} is {number}; expected 1 or more")
    return number


class StepLR(LRScheduler):
    """lr = base gamma^floor(epoch / step_size)."""

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1, last_epoch: int = -1) -> None:
        self.step_size = _positive("StepLR", "step_size", step_size)
        self.gamma = real_number("StepLR", "gamma", gamma, low=0.0)
        super().__init__(optimizer, last_epoch)

    def factor(self, epoch: int) -> float:
        return self.gamma ** (epoch // self.step_size)


class MultiStepLR(LRScheduler):
    """lr = base gamma^(number of milestones reached)."""

    def __init__(
        self, optimizer: Optimizer, milestones: Iterable[int], gamma: float = 0.1, last_epoch: int = -1
    ) -> None:
        self.milestones = sorted(whole_number("MultiStepLR", "milestones", epoch) for epoch in milestones)
        self.gamma = real_number("MultiStepLR", "gamma", gamma, low=0.0)
        super().__init__(optimizer, last_epoch)

    def factor(self, epoch: int) -> float:
        return self.gamma ** bisect_right(self.milestones, epoch)


class ExponentialLR(LRScheduler):
    """lr = base gamma^epoch."""

    def __init__(self, optimizer: Optimizer, gamma: float, last_epoch: int = -1) -> None:
        self.gamma = real_number("ExponentialLR", "gamma", gamma, low=0.0)
        super().__init__(optimizer, last_epoch)

    def factor(self, epoch: int) -> float:
        return self.gamma**epoch


class CosineAnnealingLR(LRScheduler):
    """lr = eta_min + (base - eta_min) (1 + cos(pi epoch / T_max)) / 2.

    Down to eta_min at T_max and, as in PyTorch, up again after it. Source: Loshchilov and Hutter (2017), SGDR.
    """

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0, last_epoch: int = -1) -> None:
        self.T_max = _positive("CosineAnnealingLR", "T_max", T_max)
        self.eta_min = real_number("CosineAnnealingLR", "eta_min", eta_min, low=0.0)
        super().__init__(optimizer, last_epoch)

    def factor(self, epoch: int) -> float:
        return (1 + math.cos(math.pi * epoch / self.T_max)) / 2

    def at(self, epoch: int) -> list[float]:
        factor = self.factor(epoch)
        return [self.eta_min + (base - self.eta_min) * factor for base in self.base_lrs]


class LinearLR(LRScheduler):
    """lr = base (start_factor + (end_factor - start_factor) min(epoch, total_iters) / total_iters)."""

    def __init__(
        self,
        optimizer: Optimizer,
        start_factor: float = 1.0 / 3,
        end_factor: float = 1.0,
        total_iters: int = 5,
        last_epoch: int = -1,
    ) -> None:
        self.start_factor = real_number("LinearLR", "start_factor", start_factor, above=0.0, high=1.0)
        self.end_factor = real_number("LinearLR", "end_factor", end_factor, low=0.0, high=1.0)
        self.total_iters = _positive("LinearLR", "total_iters", total_iters)
        super().__init__(optimizer, last_epoch)

    def factor(self, epoch: int) -> float:
        if epoch >= self.total_iters:
            return self.end_factor
        return self.start_factor + (self.end_factor - self.start_factor) * epoch / self.total_iters


class LambdaLR(LRScheduler):
    """lr = base lr_lambda(epoch), with one function for all groups or a list of one for each."""

    def __init__(
        self,
        optimizer: Optimizer,
        lr_lambda: Callable[[int], float] | Sequence[Callable[[int], float]],
        last_epoch: int = -1,
    ) -> None:
        groups = len(optimizer.param_groups) if isinstance(optimizer, Optimizer) else 0
        self.lr_lambdas = [lr_lambda] * groups if callable(lr_lambda) else list(lr_lambda)
        if len(self.lr_lambdas) != groups:
            raise ValueError(
                f"LambdaLR: lr_lambda has {len(self.lr_lambdas)} functions; expected {groups}, one a group"
            )
        super().__init__(optimizer, last_epoch)

    def at(self, epoch: int) -> list[float]:
        return [base * function(epoch) for base, function in zip(self.base_lrs, self.lr_lambdas, strict=True)]


class SequentialLR(LRScheduler):
    """One schedule after the other: each begins, at its epoch 0, where its milestone is reached.

    `schedulers` are made over the same optimiser; `milestones` are one fewer, and increase.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        schedulers: Sequence[LRScheduler],
        milestones: Sequence[int],
        last_epoch: int = -1,
    ) -> None:
        self.schedulers = list(schedulers)
        self.milestones = [whole_number("SequentialLR", "milestones", epoch) for epoch in milestones]
        for k, schedule in enumerate(self.schedulers):
            if not isinstance(schedule, LRScheduler):
                raise TypeError(
                    f"SequentialLR: schedulers[{k}] is of type {type(schedule).__name__}; "
                    "expected a schedule that is a formula of the epoch"
                )
            if schedule.optimizer is not optimizer:
                raise ValueError(f"SequentialLR: schedulers[{k}] is over another optimizer; expected the same one")
        if len(self.milestones) != len(self.schedulers) - 1:
            raise ValueError(
                f"SequentialLR: milestones is of length {len(self.milestones)}; expected {len(self.schedulers) - 1}, "
                "one fewer than schedulers"
            )
        if any(a >= b for a, b in zip(self.milestones, self.milestones[1:], strict=False)):
            raise ValueError(f"SequentialLR: milestones is {self.milestones}; expected increasing numbers")
        super().__init__(optimizer, last_epoch)

    def at(self, epoch: int) -> list[float]:
        index = bisect_right(self.milestones, epoch)
        return self.schedulers[index].at(epoch - (self.milestones[index - 1] if index else 0))

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"schedulers": [schedule.state_dict() for schedule in self.schedulers]}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        states = state_dict.get("schedulers", ())
        if len(states) != len(self.schedulers):
            raise ValueError(
                f"{type(self).__name__}.load_state_dict: schedulers is of length {len(states)}; "
                f"expected {len(self.schedulers)}"
            )
        for schedule, state in zip(self.schedulers, states, strict=True):
            schedule.load_state_dict(state)
        super().load_state_dict(state_dict)


class WarmupLR(SequentialLR):
    """Warm-up: lr rises in equal steps, base (epoch + 1) / (warmup + 1), and reaches base at `warmup`.

    From there on it follows `after`, whose epoch 0 that is; without `after` it stays. Source: Goyal et al. (2017),
    Accurate, Large Minibatch SGD: Training ImageNet in 1 Hour.
    """

    def __init__(
        self, optimizer: Optimizer, warmup: int, after: LRScheduler | None = None, last_epoch: int = -1
    ) -> None:
        number = _positive("WarmupLR", "warmup", warmup)
        rise = LinearLR(optimizer, 1 / (number + 1), 1.0, number)
        super().__init__(
            optimizer, [rise] if after is None else [rise, after], [] if after is None else [number], last_epoch
        )
