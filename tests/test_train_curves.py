"""Readings of the loss curve and of the gap, each on runs that have the illness and on runs that have not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from train_nets import mlp

from fastnn import data, nn, optim, train
from fastnn.train.curves import read_gap, read_loss

TRAIN, VALIDATION = data.spirals(900, classes=3, noise=0.2, rng=0).split(0.2)


def findings(
    model: nn.Module, optimizer: optim.Optimizer, epochs: int = 20, sets: Any = (TRAIN, VALIDATION)
) -> list[train.Finding]:
    history = train.fit(
        model, sets[0], validation=sets[1], optimizer=optimizer, epochs=epochs, batch_size=32, progress=False
    )
    return history.findings


def kinds(*args: Any) -> list[str]:
    return [finding.kind for finding in findings(*args)]


@pytest.mark.parametrize("seed", range(3))
def test_a_healthy_run_is_called_so(seed: int) -> None:
    for optimizer in (lambda p: optim.Adam(p, 3e-3), lambda p: optim.SGD(p, 0.1, momentum=0.9)):
        model = mlp(2, 64, 64, 3, seed=seed)
        assert kinds(model, optimizer(model.parameters())) == ["loss_falls"]


@pytest.mark.parametrize("seed", range(3))
def test_a_learning_rate_that_is_too_low(seed: int) -> None:
    model = mlp(2, 64, 64, 3, seed=seed)
    assert "lr_too_low" in kinds(model, optim.Adam(model.parameters(), 6e-5))
    model = mlp(2, 64, 64, 3, seed=seed)
    assert "loss_flat" in kinds(model, optim.SGD(model.parameters(), 1e-5))


@pytest.mark.parametrize(("lr", "momentum", "seed"), [(0.7, 0.9, 2), (2.0, 0.0, 1)])
def test_a_learning_rate_that_is_too_high(lr: float, momentum: float, seed: int) -> None:
    model = mlp(2, 64, 64, 3, seed=seed)
    found = kinds(model, optim.SGD(model.parameters(), lr, momentum=momentum))
    assert {"lr_too_high", "dead_units"} <= set(found)


@pytest.mark.parametrize(("lr", "momentum", "seed"), [(0.5, 0.9, 1), (0.7, 0.9, 1)])
def test_a_run_that_breaks_down(lr: float, momentum: float, seed: int) -> None:
    """How it does, rising or standing still, hangs on last bits, which differ between BLAS libraries."""
    model = mlp(2, 64, 64, 3, seed=seed)
    found = {finding.kind: str(finding) for finding in findings(model, optim.SGD(model.parameters(), lr, momentum))}
    assert "dead_units" in found and "lower learning rate" in found["dead_units"]
    assert found.keys() & {"lr_too_high", "loss_rises", "plateau", "loss_flat"} and "loss_falls" not in found


@pytest.mark.parametrize("seed", range(3))
def test_a_bad_initialisation(seed: int) -> None:
    model = mlp(2, 64, 64, 64, 3, act=nn.Tanh, std=0.02, seed=seed)
    assert "plateau_then_drop" in kinds(model, optim.SGD(model.parameters(), 0.1, momentum=0.9), 30)


@pytest.mark.parametrize("seed", range(3))
def test_a_model_that_overfits(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((400, 20), np.float32), rng.integers(0, 3, 400)
    model = mlp(20, 64, 64, 3, seed=seed)
    found = kinds(model, optim.Adam(model.parameters(), 3e-3), 25, ((x[:200], y[:200]), (x[200:], y[200:])))
    assert "overfitting" in found


@pytest.mark.parametrize("seed", range(3))
def test_a_model_that_is_too_small(seed: int) -> None:
    model = mlp(2, 3, seed=seed)
    found = kinds(model, optim.Adam(model.parameters(), 1e-2), 40)
    assert {"underfitting", "plateau"} & set(found), found


def test_shapes_of_curves() -> None:
    """What the readings mean, on curves drawn by hand with a little noise."""
    rng = np.random.default_rng(0)
    t = np.linspace(0, 1, 600)

    def kind(curve: Any, ratio: float | None = None) -> str | None:
        found = read_loss(curve + 0.02 * rng.standard_normal(len(t)), ratio)
        return None if found is None else found.kind

    assert kind(2.3 * np.exp(-8 * t) + 0.05) == "loss_falls"
    assert kind(2.3 - 0.4 * t) == "lr_too_low"
    assert kind(1.0 + 1.3 * np.exp(-3 * t)) == "unfinished"
    assert kind(0 * t + 2.3) == "loss_flat"
    assert kind(1.0 + 1.3 * np.exp(-40 * t)) == "lr_too_high"
    assert kind(1.0 + 1.3 * np.exp(-40 * t), 5e-4) == "plateau"
    assert kind(2.3 / (1 + np.exp(30 * (t - 0.5)))) == "plateau_then_drop"
    assert kind(0.5 + 1.8 * np.exp(-20 * t) + 2 * np.clip(t - 0.6, 0, None) * 3) == "loss_rises"
    assert read_loss(np.ones(10)) is None and read_loss(np.full(100, np.nan)) is None


def test_gaps() -> None:
    def kind(loss: Any, other: Any, accuracy: Any, validation: Any) -> str | None:
        columns = {"loss": loss, "validation_loss": other, "accuracy": accuracy, "validation_accuracy": validation}
        found = read_gap({name: np.asarray(column, float) for name, column in columns.items()})
        return None if found is None else found.kind

    t = np.linspace(0, 1, 12)
    fall = np.exp(-3 * t)
    assert kind(fall, fall + 0.02, 1 - fall / 3, 1 - fall / 3 - 0.01) is None
    assert kind(fall, 0.6 + (t - 0.3) ** 2, 1 - fall / 3, 0.7 + 0 * t) == "overfitting"
    assert kind(0.8 + 0.2 * fall**4, 0.8 + 0.2 * fall**4, 0.7 + 0 * t, 0.7 + 0 * t) == "underfitting"
    nothing = np.full(12, np.nan)
    assert kind(fall, 0.6 + (t - 0.3) ** 2, nothing, nothing) == "overfitting"
    assert read_gap({"loss": fall}) is None
