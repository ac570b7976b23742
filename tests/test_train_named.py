"""Optimisers and schedules by name."""

from __future__ import annotations

import numpy as np
import pytest

import fastnn as fnn
from fastnn.train import named


def rates(name: str, steps: int, warmup: int = 0) -> list[float]:
    optimizer = named.optimizer("sgd", [fnn.nn.Parameter(np.zeros(3, np.float32))], 0.5)
    schedule = named.schedule(name, optimizer, steps, warmup)
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        if schedule is not None:
            schedule.step()
    return found


@pytest.mark.parametrize("name", named.SCHEDULES)
def test_schedules_rise_to_the_rate_and_fall_from_it(name: str) -> None:
    found = rates(name, 40, 10)
    assert found[:10] == pytest.approx([0.5 * (k + 1) / 11 for k in range(10)])
    assert found[10] == pytest.approx(0.5) and found[10:] == sorted(found[10:], reverse=True)
    last = {"cosine": 0.5 * (1 + np.cos(np.pi * 29 / 30)) / 2, "linear": 0.5 / 30, "step": 0.005, "constant": 0.5}[name]
    assert found[-1] == pytest.approx(last)
    assert rates(name, 3, 99)[-1] == pytest.approx(0.5), "the warm-up is no longer than the run"
    assert rates(name, 1) == [0.5]


@pytest.mark.parametrize("name", named.OPTIMIZERS)
def test_optimizers_take_a_step_down(name: str) -> None:
    parameter = fnn.nn.Parameter(np.ones(3, np.float32))
    optimizer = named.optimizer(name, [parameter], 0.01, weight_decay=0.1)
    assert type(optimizer).__name__.lower() == name and optimizer.param_groups[0]["weight_decay"] == 0.1
    parameter.add_grad(np.ones(3, np.float32))
    optimizer.step()
    assert (parameter.data < 1).all()


def test_unknown_names_are_named() -> None:
    with pytest.raises(ValueError, match="optimizer is 'lion'; expected one of sgd, adam, adamw, rmsprop"):
        named.optimizer("lion", [fnn.nn.Parameter(np.zeros(3))], 0.1)
    with pytest.raises(ValueError, match="schedule is 'wave'; expected one of cosine, linear, step, constant"):
        rates("wave", 3)
