"""Checks before a run, and what is said of a run that went wrong: on models and data that truly have the illness."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from train_nets import TRAIN, mlp, weights

import fastnn as fnn
from fastnn import data, nn, optim, train

RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((400, 8), np.float32), RNG.integers(0, 10, 400)


def test_a_sound_model_passes() -> None:
    report = train.sanity_check(mlp(8, 64, 64, 10), (X, Y))
    assert report.ok and str(report).endswith("All is as it should be.")
    assert [check.name for check in report.checks] == [
        "initial loss", "regularisation", "gradients", "overfits a tiny set", "small learning rate",
    ]  # fmt: skip
    numbers = report.numbers
    assert numbers["expected_loss"] == math.log(10) and abs(numbers["initial_loss"] - 2.303) < 0.1
    assert numbers["penalty"] > 0 and numbers["overfit_loss"] < 0.05 and numbers["overfit_accuracy"] == 1
    assert abs(numbers["small_rate_change"]) < 1e-3
    assert "-ln(1/10) = 2.303" in report["initial loss"].message
    with pytest.raises(KeyError, match="the checks are initial loss"):
        report["other"]


def test_networks_with_norms_and_dropout_pass() -> None:
    fnn.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Dropout(0.5), nn.Linear(64, 10))
    report = train.sanity_check(model, data.Loader((X, Y), 64), regularizer=fnn.regularizers.ElasticNet(0.5, 1e-3))
    assert report.ok, report
    assert "ElasticNet(beta=0.5" in report["regularisation"].message


def test_nothing_is_changed() -> None:
    fnn.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 10))
    model[1].eval()
    optimizer = optim.Adam(model.parameters())
    train.fit(model, (X, Y), optimizer=optimizer, epochs=1, progress=False)
    loader = data.Loader((X, Y), 64)
    loader.epoch = 3

    def everything() -> tuple[Any, ...]:
        state = [value.tobytes() for values in optimizer.state.values() for value in values.values() if np.ndim(value)]
        grads = [None if each.grad is None else each.grad.tobytes() for each in model.parameters()]
        generator = str(fnn.random.default_rng().bit_generator.state) + str(np.random.get_state()[1].sum())
        modes = [module.training for module in model.modules()]
        return weights(model), state, grads, generator, modes, nn.random_state(model), loader.epoch, model[0].hooked

    before = everything()
    train.sanity_check(model, loader, steps=20)
    assert everything() == before


def failed(report: train.SanityReport) -> list[str]:
    return [check.name for check in report.checks if check.passed is False]


def test_large_initial_weights_are_seen() -> None:
    report = train.sanity_check(mlp(8, 64, 64, 10, std=1.0), (X, Y), steps=50)
    assert "initial loss" in failed(report)
    assert "smaller initial weights in the last layer" in report["initial loss"].advice
    assert "FAIL  initial loss" in str(report)


def test_a_trained_model_is_told_from_a_new_one() -> None:
    model = mlp(8, 64, 10)
    easy = X[:, : 10 - 2].argmax(1)
    train.fit(model, (X, easy), epochs=60, optimizer=optim.Adam(model.parameters(), 1e-2), progress=False)
    report = train.sanity_check(model, (X, easy), steps=50)
    assert failed(report) == ["initial loss"] and "is it trained" in report["initial loss"].advice


def test_zeros_and_dead_networks_do_not_learn() -> None:
    report = train.sanity_check(mlp(8, 32, 32, 10, std=0.0), (X, Y), steps=60)
    assert failed(report) == ["regularisation", "gradients", "overfits a tiny set"]
    assert "there are no weights" in report["regularisation"].message
    dead = mlp(8, 32, 32, 10)
    dead[2].bias.data[...] = -100
    report = train.sanity_check(dead, (X, Y), steps=60)
    assert failed(report) == ["gradients", "overfits a tiny set"]
    assert "dead" in report["gradients"].advice and "0.weight" in report["gradients"].message


class Forgetful(nn.Module):
    """A layer whose backward leaves its parameter without a gradient."""

    def __init__(self) -> None:
        self.scale = nn.Parameter(np.ones(8, np.float32))

    def forward(self, x: Any) -> Any:
        self.save(x)
        return x * self.scale.data

    def backward(self, dy: Any) -> Any:
        return dy * self.scale.data


def test_a_forgotten_gradient_is_seen() -> None:
    report = train.sanity_check(nn.Sequential(Forgetful(), *mlp(8, 32, 10)), (X, Y))
    assert failed(report) == ["gradients"] and "0.scale got none" in report["gradients"].message


class Backwards(nn.Linear):
    """A linear layer whose gradients have the wrong sign."""

    def backward(self, dy: Any) -> Any:
        return super().backward(-dy)


def test_a_wrong_gradient_keeps_it_from_overfitting() -> None:
    fnn.manual_seed(0)
    model = nn.Sequential(Backwards(8, 32), nn.ReLU(), Backwards(32, 10))
    report = train.sanity_check(model, (X, Y))
    assert failed(report) == ["overfits a tiny set"] and "gradcheck" in report["overfits a tiny set"].advice


def test_soft_labels_are_overfitted_to_their_entropy() -> None:
    soft = 0.7 * np.eye(10, dtype=np.float32)[Y] + 0.03
    for labels, loss in ((soft, None), (Y, nn.CrossEntropyLoss(label_smoothing=0.3))):
        report = train.sanity_check(mlp(8, 64, 10), (X, labels), loss=loss)
        assert report.ok, report


def test_other_losses() -> None:
    hinge = train.sanity_check(mlp(8, 64, 10), (X, Y), loss=nn.HingeLoss())
    assert hinge["initial loss"].passed and hinge.numbers["expected_loss"] == 9
    target = X[:, :1] * 2
    squares = train.sanity_check(mlp(8, 64, 1), (X, target), loss=nn.MSELoss(), steps=1000)
    assert squares["initial loss"].passed is None and squares.ok, squares
    with pytest.raises(ValueError, match="sanity_check: samples is 0"):
        train.sanity_check(mlp(8, 10), (X, Y), samples=0)


# Runs that go wrong


def stopped(model: nn.Module, x: Any = X, y: Any = Y, **options: Any) -> train.History:
    given = {"epochs": 5, "batch_size": 50, "progress": False, **options}
    with pytest.warns(train.TrainingWarning):
        history = train.fit(model, (x, y), **given)
    assert history.diverged and history.stopped and history.findings[0].advice
    assert history.findings[0].message == history.stopped
    return history


def test_a_learning_rate_far_too_high_stops_the_run() -> None:
    model = mlp(8, 64, 10)
    history = stopped(model, optimizer=optim.SGD(model.parameters(), 1e3))
    assert history.findings[0].kind in ("diverged", "nonfinite")
    assert "learning rate ten times lower" in history.findings[0].advice
    assert len(history.steps["loss"]) < 10


def test_a_rise_to_three_times_the_start_stops_the_run() -> None:
    model = mlp(2, 64, 64, 3, act=nn.Tanh)
    history = stopped(model, TRAIN.x, TRAIN.y, optimizer=optim.SGD(model.parameters(), 2.0))
    finding = history.findings[0]
    assert finding.kind == "diverged" and "more than 3 times the 1.09" in finding.message
    assert "that have grown the most are" in finding.message
    assert history.steps["loss"][-1] > 3.3
    model = mlp(2, 64, 64, 3, act=nn.Tanh)
    optimizer = optim.SGD(model.parameters(), 2.0)
    later = train.fit(model, TRAIN, optimizer=optimizer, epochs=2, divergence=math.inf, progress=False)
    assert not later.diverged and len(later) == 2


def test_a_fine_tuned_model_may_begin_near_zero() -> None:
    """Three times nearly nothing is no divergence."""
    model = mlp(8, 64, 10)
    easy = X[:, :8].argmax(1)
    optimizer = optim.Adam(model.parameters(), 1e-2)
    train.fit(model, (X, easy), optimizer=optimizer, epochs=80, progress=False)
    assert train.evaluate(model, (X, easy)).loss < 0.05
    noisy = X + RNG.standard_normal(X.shape).astype(np.float32)
    sets = np.concatenate([X[:128], noisy]), np.concatenate([easy[:128], easy])
    loader = data.Loader(sets, 32, shuffle=False)  # it begins with what it knows
    history = train.fit(model, loader, optimizer=optim.SGD(model.parameters(), 1e-4), epochs=1, progress=False)
    losses = history.steps["loss"]
    assert losses[0] < 0.1 and losses.max() > 10 * losses[0] and not history.diverged


def test_nan_in_the_data_is_found_there() -> None:
    bad = X.copy()
    bad[137, 3] = np.nan
    history = stopped(mlp(8, 16, 10), data.Loader((bad, Y), 50, shuffle=False).dataset.x, Y)
    finding = history.findings[0]
    assert finding.kind == "nonfinite" and "It began in the data: the inputs of sample" in finding.message
    assert "preprocessing" in finding.advice and len(history.steps["loss"]) <= 8


class Exponential(nn.Module):
    """y = e^(10 x): overflows."""

    def forward(self, x: Any) -> Any:
        with np.errstate(over="ignore"):
            y = np.exp(10 * x)
        self.save(y)
        return y

    def backward(self, dy: Any) -> Any:
        (y,) = self.saved
        with np.errstate(all="ignore"):
            return 10 * dy * y


def test_the_layer_that_overflows_is_named() -> None:
    fnn.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.Dropout(0.2), Exponential(), nn.Linear(16, 10))
    history = stopped(model, 40 * X)
    assert "The loss of step 1 is" in history.findings[0].message
    assert "It began in layer 2 Exponential, the first to give infinity" in history.findings[0].message
    assert "its input, of magnitude" in history.findings[0].message


class Explosive(nn.Identity):
    """A layer whose backward, at the third step, is infinite."""

    def __init__(self) -> None:
        self.steps = 0

    def backward(self, dy: Any) -> Any:
        self.steps += 1
        return dy * np.float32(np.inf) if self.steps == 3 else dy


@pytest.mark.parametrize("clip", [None, 1.0])
def test_the_gradient_where_it_began_is_named(clip: float | None) -> None:
    fnn.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 16), Explosive(), nn.Linear(16, 10))
    with np.errstate(all="ignore"):
        history = stopped(model, clip_grad_norm=clip)
    message = history.findings[0].message
    assert "It began in the gradients" in message and "that of 2.bias was first" in message
    if clip:
        assert message.startswith("The gradients of step 3 are not finite") and "of this step" in message
        assert all(np.isfinite(array).all() for array in model.state_dict().values())  # before anything was spoilt
    else:
        assert message.startswith("The loss of step 4 is nan") and "of the step before" in message


def test_weights_that_overflow_are_named() -> None:
    model = mlp(8, 16, 10)
    history = stopped(model, optimizer=optim.SGD(model.parameters(), 3e38), divergence=math.inf, x=100 * X)
    assert "It began with the weights: the update of the step before made" in history.findings[0].message


def test_a_loss_that_overflows_by_itself() -> None:
    history = stopped(mlp(8, 1), 1e25 * X, X[:, :1], loss=nn.MSELoss())
    assert "It began in the loss: the model's outputs are finite" in history.findings[0].message


def test_a_model_that_went_wrong_is_no_checkpoint(tmp_path: Any) -> None:
    model = mlp(8, 64, 10)
    loader = data.Loader((X, Y), 50)

    class Spoil(train.Callback):
        def on_epoch_begin(self, trainer: train.Trainer) -> None:
            if trainer.epoch == 2:
                trainer.optimizer.param_groups[0]["lr"] = 1e8

    optimizer = optim.SGD(model.parameters(), 0.1)
    with pytest.warns(train.TrainingWarning):
        history = train.fit(
            model, loader, optimizer=optimizer, checkpoint=tmp_path, callbacks=[Spoil()], progress=False
        )
    found = train.Checkpoints(tmp_path).load()
    assert history.diverged and found is not None
    assert found[1]["position"]["epoch"] == 2
    assert all(np.abs(array).max() < 100 for array in found[0].values())


# Layers


def kinds(history: train.History) -> list[str]:
    return [finding.kind for finding in history.findings]


def healthy(model: nn.Module, **options: Any) -> train.History:
    optimizer = options.pop("optimizer", None) or optim.Adam(model.parameters(), 3e-3)
    return train.fit(
        model, TRAIN, **{"epochs": 10, "batch_size": 32, "progress": False, "optimizer": optimizer, **options}
    )


def test_the_monitor_sees_what_is_there() -> None:
    model = mlp(2, 32, 3, act=nn.Tanh)
    seen: dict[str, list[Any]] = {"y": [], "dy": [], "w": []}
    model[1].register_forward_hook(lambda module, x, y: seen["y"].append(y.copy()))
    model[1].register_backward_hook(lambda module, dx, dy: seen["dy"].append(dy.copy()))

    class Weights(train.Callback):
        def on_batch_begin(self, trainer: train.Trainer) -> None:
            seen["w"].append(model[0].weight.data.copy())

    history = healthy(model, epochs=1, monitor=5, callbacks=[Weights()])
    layers = history.layers
    assert list(layers) == ["0 Linear", "1 Tanh", "2 Linear"]
    np.testing.assert_array_equal(layers["1 Tanh"]["step"], [1, 6, 11])
    tanh, linear = layers["1 Tanh"], layers["0 Linear"]
    for row, step in enumerate((0, 5, 10)):
        assert tanh["mean"][row] == pytest.approx(seen["y"][step].mean(), abs=1e-6)
        assert tanh["std"][row] == pytest.approx(seen["y"][step].std(), rel=1e-5)
        assert tanh["gradient_std"][row] == pytest.approx(seen["dy"][step].std(), rel=1e-4)
        assert tanh["saturated"][row] == pytest.approx((abs(seen["y"][step]) > 0.95).mean(), abs=1e-6)
        moved = np.linalg.norm(seen["w"][step + 1] - seen["w"][step]) / np.linalg.norm(seen["w"][step + 1])
        assert linear["update_ratio"][row] == pytest.approx(moved, rel=1e-3)
    assert "update_ratio" not in tanh and "saturated" not in linear


def test_dead_units_are_seen() -> None:
    model = mlp(2, 32, 32, 3)
    model[2].bias.data[:24] = -100  # three quarters never speak
    history = healthy(model)
    assert kinds(history)[0] == "dead_units" and "of the units of layer 3 ReLU are dead" in str(history.findings[0])
    np.testing.assert_array_equal(history.layers["3 ReLU"]["silent"] >= 0.75, True)
    np.testing.assert_array_equal(history.layers["3 ReLU"]["dead"][:2], 0)  # so soon nobody can tell
    assert "dead_units" not in kinds(healthy(mlp(2, 32, 32, 3)))


def test_a_high_learning_rate_kills_units() -> None:
    model = mlp(2, 64, 64, 3)
    history = healthy(model, optimizer=optim.SGD(model.parameters(), 1.0, momentum=0.9))
    assert "dead_units" in kinds(history)


def test_saturation_is_seen() -> None:
    model = mlp(2, 64, 64, 3, act=nn.Tanh, std=2.0)
    history = healthy(model)
    assert "saturated" in kinds(history) and "initial_loss_high" in kinds(history)
    assert "saturated" not in kinds(healthy(mlp(2, 64, 64, 3, act=nn.Tanh)))


def test_vanishing_signals_are_seen() -> None:
    sigmoids = mlp(2, *[32] * 8, 3, act=nn.Sigmoid)
    assert "gradients_vanish" in kinds(healthy(sigmoids, epochs=3))
    small = mlp(2, *[32] * 6, 3, act=nn.Tanh, std=0.01)
    assert {"activations_vanish", "gradients_vanish"} <= set(kinds(healthy(small, epochs=3)))


def test_sizes_of_updates_are_judged() -> None:
    fast, slow = mlp(2, 64, 64, 3, act=nn.Tanh), mlp(2, 32, 32, 3)
    found = kinds(healthy(fast, optimizer=optim.SGD(fast.parameters(), 1.5), divergence=math.inf))
    assert "updates_large" in found
    found = kinds(healthy(slow, optimizer=optim.SGD(slow.parameters(), 1e-5)))
    assert "updates_small" in found
    assert not {"updates_large", "updates_small"} & set(kinds(healthy(mlp(2, 32, 32, 3))))


class Overflowing(nn.Module):
    """A module made of others that overflows itself."""

    def __init__(self) -> None:
        self.inner = nn.Linear(8, 8)

    def forward(self, x: Any) -> Any:
        with np.errstate(over="ignore"):
            return self.inner(x) * np.float32(1e38) * np.float32(1e3)

    def backward(self, dy: Any) -> Any:
        return self.inner.backward(dy)


def test_a_module_around_others_is_named_where_they_are_sound() -> None:
    fnn.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 8), Overflowing(), nn.Linear(8, 10))
    message = stopped(model).findings[0].message
    assert "It began in layer 1 Overflowing, the first to give infinity" in message


def test_squares_may_begin_near_zero_too() -> None:
    """A regression that begins with the right answers."""
    x = np.concatenate([np.zeros((50, 8), np.float32), X])
    y = np.concatenate([np.zeros((50, 1), np.float32), X[:, :1]])
    loader = data.Loader((x, y), 50, shuffle=False)
    model = mlp(8, 1, std=0.01)
    history = train.fit(model, loader, loss=nn.MSELoss(), epochs=1, progress=False)
    assert history.steps["loss"][0] == 0 and not history.diverged
    loader = data.Loader((x[45:], y[45:]), 50, shuffle=False)
    history = train.fit(mlp(8, 1, std=0.01), loader, loss=nn.MSELoss(), progress=False)
    assert not history.diverged
