"""Schedules of the learning rate: PyTorch's values, state, chaining."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fastnn.nn import Parameter
from fastnn.optim import SGD, lr_scheduler

Make = Callable[[Any, Any], Any]


def optimizer() -> SGD:
    a, b = Parameter(np.ones(2)), Parameter(np.ones(2))
    return SGD([{"params": [a]}, {"params": [b], "lr": 0.03}], lr=0.1)


def sequence(lrs: Any, opt: Any) -> Any:
    parts = [lrs.LinearLR(opt, 0.1, total_iters=4), lrs.CosineAnnealingLR(opt, 6), lrs.StepLR(opt, 2)]
    return lrs.SequentialLR(opt, parts, [4, 10])


SCHEDULES: dict[str, Make] = {
    "StepLR": lambda lrs, opt: lrs.StepLR(opt, 3, 0.5),
    "MultiStepLR": lambda lrs, opt: lrs.MultiStepLR(opt, [2, 5, 11]),
    "ExponentialLR": lambda lrs, opt: lrs.ExponentialLR(opt, 0.9),
    "CosineAnnealingLR": lambda lrs, opt: lrs.CosineAnnealingLR(opt, 8, 0.001),
    "LinearLR": lambda lrs, opt: lrs.LinearLR(opt, 0.25, 0.75, 6),
    "LinearLR-defaults": lambda lrs, opt: lrs.LinearLR(opt),
    "LambdaLR": lambda lrs, opt: lrs.LambdaLR(opt, lambda epoch: 1 / (1 + epoch)),
    "LambdaLR-list": lambda lrs, opt: lrs.LambdaLR(opt, [lambda epoch: 0.9**epoch, lambda epoch: 1.0]),
    "SequentialLR": sequence,
}


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.filterwarnings("ignore:Detected call of:UserWarning")
@pytest.mark.filterwarnings("ignore:The epoch parameter:UserWarning")
def test_values_are_those_of_torch(name: str) -> None:
    torch = pytest.importorskip("torch")
    own = optimizer()
    a, b = torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.ones(2))
    theirs = torch.optim.SGD([{"params": [a]}, {"params": [b], "lr": 0.03}], lr=0.1)
    schedule, reference = SCHEDULES[name](lr_scheduler, own), SCHEDULES[name](torch.optim.lr_scheduler, theirs)
    for epoch in range(20):
        np.testing.assert_allclose(schedule.get_last_lr(), reference.get_last_lr(), rtol=1e-9, atol=1e-12)
        assert schedule.at(epoch) == schedule.get_last_lr() == [group["lr"] for group in own.param_groups]
        theirs.step()
        schedule.step()
        reference.step()


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_saved_schedule_goes_on_exactly(name: str) -> None:
    whole = SCHEDULES[name](lr_scheduler, optimizer())
    half = SCHEDULES[name](lr_scheduler, optimizer())
    for _ in range(5):
        whole.step()
        half.step()
    again = SCHEDULES[name](lr_scheduler, optimizer())
    again.load_state_dict(half.state_dict())
    for _ in range(6):
        assert again.get_last_lr() == whole.get_last_lr()
        whole.step()
        again.step()


def test_warm_up_then_another_schedule() -> None:
    opt = optimizer()
    schedule = lr_scheduler.WarmupLR(opt, 4, after=lr_scheduler.CosineAnnealingLR(opt, 10))
    seen = []
    for _ in range(16):
        seen.append(opt.param_groups[0]["lr"])
        schedule.step()
    np.testing.assert_allclose(seen[:5], [0.02, 0.04, 0.06, 0.08, 0.1])
    np.testing.assert_allclose(seen[5:15], [0.05 * (1 + np.cos(np.pi * k / 10)) for k in range(1, 11)], atol=1e-15)
    alone = optimizer()
    flat = lr_scheduler.WarmupLR(alone, 2)
    for _ in range(9):
        flat.step()
    assert flat.get_last_lr() == [0.1, 0.03]


@pytest.mark.parametrize("options", [{}, {"mode": "max", "threshold_mode": "abs", "cooldown": 2, "min_lr": 0.004}])
@pytest.mark.parametrize("sign", [1, -1])
def test_plateaus_are_seen_where_torch_sees_them(options: dict[str, Any], sign: int) -> None:
    torch = pytest.importorskip("torch")
    own, theirs = optimizer(), torch.optim.SGD([torch.nn.Parameter(torch.ones(2))], lr=0.1)
    schedule = lr_scheduler.ReduceLROnPlateau(own, factor=0.5, patience=2, **options)
    reference = torch.optim.lr_scheduler.ReduceLROnPlateau(theirs, factor=0.5, patience=2, **options)
    rng = np.random.default_rng(3)
    for epoch, noise in enumerate(rng.standard_normal(60)):
        metric = sign * (1 / (1 + epoch) + 0.05 * noise)
        schedule.step(metric)
        reference.step(metric)
        assert schedule.get_last_lr()[0] == pytest.approx(theirs.param_groups[0]["lr"])
        if epoch == 30:
            state = schedule.state_dict()
            schedule = lr_scheduler.ReduceLROnPlateau(own, factor=0.5, patience=2, **options)
            schedule.load_state_dict(state)
    assert own.param_groups[0]["lr"] < 0.1


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (lambda o: lr_scheduler.StepLR(o, 0), ValueError, "StepLR: step_size is 0; expected 1 or more"),
        (lambda o: lr_scheduler.StepLR(3, 1), TypeError, "optimizer is of type int"),
        (lambda o: lr_scheduler.StepLR(o, 1, last_epoch=4), ValueError, "no 'initial_lr'"),
        (lambda o: lr_scheduler.LinearLR(o, 0.0), ValueError, "LinearLR: start_factor is 0.0"),
        (lambda o: lr_scheduler.LambdaLR(o, [abs]), ValueError, "1 functions; expected 2"),
        (lambda o: lr_scheduler.SequentialLR(o, [lr_scheduler.StepLR(o, 1)], [3]), ValueError, "expected 0, one fewer"),
        (lambda o: lr_scheduler.SequentialLR(o, [o], []), TypeError, r"schedulers\[0\] is of type SGD"),
        (lambda o: lr_scheduler.ReduceLROnPlateau(o, "least"), ValueError, "mode is 'least'"),
        (lambda o: lr_scheduler.WarmupLR(o, 0), ValueError, "WarmupLR: warmup is 0"),
        (
            lambda o: lr_scheduler.StepLR(o, 1).load_state_dict({"last_epoch": 1, "base_lrs": [1]}),
            ValueError,
            "base_lrs is of length 1; expected 2",
        ),
    ],
)
def test_arguments_are_checked(make: Callable[[Any], Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        make(optimizer())
