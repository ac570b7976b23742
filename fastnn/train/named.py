"""Optimisers and schedules by name, for commands, searches and other settings that are text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fastnn.nn.parameter import Parameter
from fastnn.optim import SGD, Adam, AdamW, Optimizer, RMSprop
from fastnn.optim import lr_scheduler as schedules

__all__ = ["OPTIMIZERS", "SCHEDULES", "check_name", "optimizer", "schedule"]

OPTIMIZERS = ("sgd", "adam", "adamw", "rmsprop")
SCHEDULES = ("cosine", "linear", "step", "constant")


def optimizer(
    name: str, parameters: Iterable[Parameter], lr: float, momentum: float = 0.9, weight_decay: float = 0.0
) -> Optimizer:
    """An optimiser by name; "sgd" has Nesterov momentum where there is momentum. Adam's keeps its own betas."""
    if name == "sgd":
        return SGD(parameters, lr=lr, momentum=momentum, weight_decay=weight_decay, nesterov=momentum > 0)
    if name == "rmsprop":
        return RMSprop(parameters, lr=lr, weight_decay=weight_decay)
    check_name("optimizer", name, OPTIMIZERS)
    kind = Adam if name == "adam" else AdamW
    return kind(parameters, lr=lr, weight_decay=weight_decay)


def schedule(name: str, optimizer: Optimizer, steps: int, warmup: int = 0) -> schedules.LRScheduler | None:
    """A schedule over `steps` steps, the first `warmup` of which raise the rate: pass it with `schedule="step"`.

    "cosine": down to 0 along a half wave; "linear": down to 0; "step": a tenth after half of the steps, a hundredth
    after three quarters (He 2015); "constant". None where there is nothing to schedule.
    """
    check_name("schedule", name, SCHEDULES)
    rise = max(0, min(warmup, steps - 1))
    rest = max(1, steps - rise)
    after: schedules.LRScheduler
    if name == "cosine":
        after = schedules.CosineAnnealingLR(optimizer, rest)
    elif name == "linear":
        after = schedules.LinearLR(optimizer, 1.0, 0.0, rest)
    elif name == "step":
        after = schedules.MultiStepLR(optimizer, [max(1, rest // 2), max(2, 3 * rest // 4)])
    else:
        return schedules.WarmupLR(optimizer, rise) if rise else None
    return schedules.WarmupLR(optimizer, rise, after) if rise else after


def check_name(what: str, name: str, known: Sequence[str]) -> None:
    """ValueError where a name is none of those known."""
    if name not in known:
        raise ValueError(f"{what} is {name!r}; expected one of {', '.join(known)}")
