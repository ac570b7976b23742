"""The training loop: what it computes, records, calls and leaves as it was."""

from __future__ import annotations

import io
import math
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from train_nets import TRAIN, VALIDATION, mlp, weights

import fastnn as fnn
from fastnn import data, nn, optim, train

LR = optim.lr_scheduler


def fit(model: nn.Module, **options: Any) -> train.History:
    return train.fit(model, TRAIN, **{"epochs": 2, "batch_size": 32, "progress": False, **options})


def test_it_learns_and_records() -> None:
    model = mlp(2, 32, 32, 3)
    history = fit(model, validation=VALIDATION, optimizer=optim.Adam(model.parameters(), 1e-2), epochs=15)
    assert len(history) == 15
    steps, epochs = history.steps, history.epochs
    assert len(steps["loss"]) == 15 * 15 == epochs["last_step"][-1]
    assert epochs["validation_accuracy"][-1] > 0.9 and epochs["accuracy"][-1] > 0.9
    assert epochs["samples"][0] == 480 and np.all(epochs["seconds"] > 0)
    first = steps["loss"][:15] @ np.array([32.0] * 15) / 480
    assert epochs["loss"][0] == pytest.approx(first, rel=1e-12)
    found = train.evaluate(model, VALIDATION, batch_size=32)
    assert found == (epochs["validation_loss"][-1], epochs["validation_accuracy"][-1], 120)
    assert history.stopped is None and not history.diverged
    assert [finding.kind for finding in history.findings] == ["loss_falls"]
    assert "15 epochs, 225 steps" in repr(history) and "validation_accuracy=" in repr(history)


def test_it_is_the_plain_loop() -> None:
    """By hand: forward, loss, backward, penalty, clipping, step."""
    model, other = mlp(2, 16, 3), mlp(2, 16, 3)
    loader = data.Loader(TRAIN, 32, seed=3)
    options = {"lr": 0.1, "momentum": 0.9}
    penalty = fnn.regularizers.L2(1e-3)
    history = train.fit(
        model, loader, optimizer=optim.SGD(model.parameters(), **options), epochs=2, regularizer=penalty,
        clip_grad_norm=0.5, progress=False,
    )  # fmt: skip
    optimizer, criterion = optim.SGD(other.parameters(), **options), nn.CrossEntropyLoss()
    losses, norms = [], []
    for epoch in range(2):
        for x, y in loader.batches(epoch):
            losses.append(criterion(other(x), y))
            optimizer.zero_grad()
            other.backward(criterion.backward())
            penalty.penalty(other.parameters())
            norms.append(float(optim.clip_grad_norm_(other.parameters(), 0.5)))
            optimizer.step()
    np.testing.assert_array_equal(history.steps["loss"], losses)
    np.testing.assert_array_equal(history.steps["grad_norm"], norms)
    assert weights(model) == weights(other)
    assert history.steps["penalty"][0] > 0 and loader.epoch == 2


def test_losses_are_those_of_torch() -> None:
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    model = mlp(2, 32, 32, 3, act=nn.Tanh)
    other = torch.nn.Sequential(
        torch.nn.Linear(2, 32), torch.nn.Tanh(), torch.nn.Linear(32, 32), torch.nn.Tanh(), torch.nn.Linear(32, 3)
    )
    other.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in model.state_dict().items()})
    own, theirs = (
        kind.SGD(net.parameters(), lr=0.2, momentum=0.9) for kind, net in ((optim, model), (torch.optim, other))
    )
    schedule, reference = (
        kind.CosineAnnealingLR(each, 100) for kind, each in ((LR, own), (torch.optim.lr_scheduler, theirs))
    )
    loader = data.Loader(TRAIN, 24, seed=1)
    history = train.fit(model, loader, optimizer=own, scheduler=schedule, schedule="step", epochs=5, progress=False)
    losses = []
    for epoch in range(5):
        for x, y in loader.batches(epoch):
            loss = torch.nn.functional.cross_entropy(other(torch.from_numpy(x)), torch.from_numpy(y))
            theirs.zero_grad()
            loss.backward()
            theirs.step()
            reference.step()
            losses.append(loss.item())
    assert len(losses) == 100
    np.testing.assert_allclose(history.steps["loss"], losses, rtol=2e-4)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_one_seed_and_any_number_of_threads_give_the_same_bits(dropout: float) -> None:
    seen = set()
    for threads, prefetch in ((1, 2), (2, 2), (2, 0)):
        fnn.set_num_threads(threads)
        model = mlp(2, 128, 128, 3, dropout=dropout)
        loader = data.Loader(TRAIN, 160, seed=0, prefetch=prefetch)
        history = train.fit(model, loader, epochs=3, progress=False)
        seen.add((weights(model), history.steps["loss"].tobytes()))
    assert len(seen) == 1


def test_the_seed_orders_the_samples() -> None:
    losses = [fit(mlp(2, 8, 3), seed=seed).steps["loss"] for seed in (0, 0, 1)]
    np.testing.assert_array_equal(losses[0], losses[1])
    assert not np.array_equal(losses[0], losses[2])


def test_a_second_run_goes_on_where_the_loader_is() -> None:
    whole, halves = mlp(2, 16, 3, dropout=0.2), mlp(2, 16, 3, dropout=0.2)
    train.fit(whole, data.Loader(TRAIN, 32), optimizer=optim.SGD(whole.parameters(), 0.1), epochs=4, progress=False)
    loader, optimizer = data.Loader(TRAIN, 32), optim.SGD(halves.parameters(), 0.1)
    for _ in range(2):
        train.fit(halves, loader, optimizer=optimizer, epochs=2, progress=False)
    assert weights(whole) == weights(halves)


def test_schedules_by_epoch_and_by_step() -> None:
    model = mlp(2, 8, 3)
    optimizer = optim.SGD(model.parameters(), 0.1)
    history = fit(model, optimizer=optimizer, scheduler=LR.ExponentialLR(optimizer, 0.5), epochs=3)
    np.testing.assert_allclose(history.steps["lr"], np.repeat([0.1, 0.05, 0.025], 15))
    optimizer = optim.SGD(model.parameters(), 0.1)
    history = fit(model, optimizer=optimizer, scheduler=LR.LinearLR(optimizer, 0.5, total_iters=10), schedule="step")
    np.testing.assert_allclose(history.steps["lr"][:11], np.linspace(0.05, 0.1, 11))
    optimizer = optim.SGD(model.parameters(), 1e-9)
    plateau = LR.ReduceLROnPlateau(optimizer, patience=0, threshold=0.1, eps=0)
    history = fit(model, validation=VALIDATION, optimizer=optimizer, scheduler=plateau, epochs=4)
    np.testing.assert_allclose(history.epochs["lr"], [1e-9, 1e-9, 1e-10, 1e-11])


class Marks(train.Callback):
    def __init__(self) -> None:
        self.seen: list[str] = []

    def on_train_begin(self, trainer: train.Trainer) -> None:
        self.seen.append("train")

    def on_epoch_begin(self, trainer: train.Trainer) -> None:
        self.seen.append(f"epoch {trainer.epoch}")

    def on_batch_begin(self, trainer: train.Trainer) -> None:
        self.seen.append(f"({trainer.step}")

    def on_batch_end(self, trainer: train.Trainer) -> None:
        self.seen.append(f"{trainer.step})")
        assert trainer.loss == trainer.history.steps["loss"][-1]

    def on_epoch_end(self, trainer: train.Trainer) -> None:
        self.seen.append(f"end {trainer.epoch}")
        assert len(trainer.history) == trainer.epoch + 1

    def on_train_end(self, trainer: train.Trainer) -> None:
        self.seen.append("over")


def test_callbacks_are_called_in_order() -> None:
    marks = Marks()
    fit(mlp(2, 3), batch_size=240, callbacks=[marks])
    assert marks.seen == [
        "train",
        "epoch 0",
        "(0",
        "1)",
        "(1",
        "2)",
        "end 0",
        "epoch 1",
        "(2",
        "3)",
        "(3",
        "4)",
        "end 1",
        "over",
    ]


def test_a_callback_can_stop_the_run() -> None:
    class Stop(train.Callback):
        def on_batch_end(self, trainer: train.Trainer) -> None:
            if trainer.step == 20:
                trainer.stop("Enough.")

    history = fit(mlp(2, 3), callbacks=[Stop()], epochs=5)
    assert history.stopped == "Enough." and not history.diverged
    assert len(history.steps["loss"]) == 20 and len(history) == 1


@pytest.mark.parametrize("metric", [None, "validation_accuracy"])
def test_early_stopping_restores_the_best(metric: str | None) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((200, 20), np.float32), rng.integers(0, 3, 200)
    model = mlp(20, 128, 3)
    kept: dict[int, bytes] = {}

    class Keep(train.Callback):
        def on_epoch_end(self, trainer: train.Trainer) -> None:
            kept[trainer.epoch] = weights(trainer.model)

    stopper = train.EarlyStopping(3, metric=metric)
    history = train.fit(
        model, (x[:100], y[:100]), validation=(x[100:], y[100:]), batch_size=20, epochs=60, early_stopping=stopper,
        callbacks=[Keep()], progress=False,
    )  # fmt: skip
    column = history.epochs[metric or "validation_loss"]
    best = int(np.argmax(column) if metric else np.argmin(column))
    assert history.best_epoch == best and len(history) == best + 4 < 60
    assert weights(model) == kept[best] != kept[len(history) - 1]
    assert history.stopped is not None and f"since epoch {best + 1}, that is for 3 epochs" in history.stopped


def test_early_stopping_wants_more_than_min_delta() -> None:
    model = mlp(2, 3)
    start = weights(model)
    history = fit(
        model, optimizer=optim.SGD(model.parameters(), 1e-4), epochs=9,
        early_stopping=train.EarlyStopping(2, min_delta=0.1, restore_best=False),
    )  # fmt: skip
    assert len(history) == 3 and history.best_epoch == 0 and weights(model) != start
    with pytest.raises(ValueError, match="metric is 'f1'; expected one of loss, accuracy"):
        fit(model, early_stopping=train.EarlyStopping(metric="f1"))


def test_modes_are_what_they_were() -> None:
    model = mlp(2, 8, 3, dropout=0.5)
    model[1].eval()
    seen = []
    model[0].register_forward_hook(lambda module, x, y: seen.append(module.training))
    fit(model, validation=VALIDATION, epochs=1)
    assert [module.training for module in model] == [True, False, True, True]
    assert model.needs_input_grad and True in seen and False in seen
    model.eval()
    train.predict(model, VALIDATION.x)
    assert not any(module.training for module in model.modules())


def test_a_run_that_is_interrupted_leaves_no_hooks() -> None:
    class Interrupt(train.Callback):
        def on_batch_begin(self, trainer: train.Trainer) -> None:
            if trainer.step == 4:
                raise KeyboardInterrupt

    model = mlp(2, 8, 3).eval()
    with pytest.raises(KeyboardInterrupt):
        fit(model, monitor=2, callbacks=[Interrupt()])
    assert not any(module.hooked or module.training for module in model.modules()) and model.needs_input_grad


def test_predictions_are_those_of_evaluation_mode() -> None:
    model = mlp(2, 8, 3, dropout=0.5)
    calls = nn.random_state(model)
    predicted = train.predict(model, VALIDATION.x, batch_size=50)
    assert nn.random_state(model) == calls
    model.eval()
    np.testing.assert_allclose(predicted, model(VALIDATION.x), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(train.predict(model, VALIDATION, batch_size=50), predicted)
    assert train.evaluate(model, VALIDATION).accuracy == np.mean(predicted.argmax(1) == VALIDATION.y)
    with pytest.raises(ValueError, match=r"x has shape \(0, 2\); expected one sample"):
        train.predict(model, np.zeros((0, 2), np.float32))
    with pytest.raises(ValueError, match="x is a loader that shuffles"):
        train.predict(model, data.Loader(VALIDATION, 50))
    with pytest.raises(TypeError, match="model is of type NoneType"):
        train.predict(None, VALIDATION)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="batch_size is 0"):
        train.evaluate(model, VALIDATION, batch_size=0)


def test_images_as_bytes_are_scaled_as_in_training() -> None:
    model = mlp(4, 3)
    raw = np.random.default_rng(0).integers(0, 256, (10, 4), np.uint8)
    np.testing.assert_array_equal(train.predict(model, raw), train.predict(model, (raw / 255).astype(np.float32)))


def test_regression_has_no_accuracy_and_soft_labels_have_one() -> None:
    x = TRAIN.x
    model = mlp(2, 16, 1)
    history = train.fit(model, (x, np.sin(x[:, :1])), loss=nn.MSELoss(), epochs=3, progress=False)
    assert np.isnan(history.epochs["accuracy"]).all() and history.epochs["loss"][-1] < history.epochs["loss"][0]
    soft = np.eye(3, dtype=np.float32)[TRAIN.y]
    same = [train.fit(mlp(2, 16, 3), (x, y), epochs=3, progress=False).epochs for y in (TRAIN.y, soft)]
    np.testing.assert_array_equal(same[0]["accuracy"], same[1]["accuracy"])


def test_the_monitor_changes_no_bit() -> None:
    results = []
    for monitor in (False, 1, 7, None, train.Monitor(2)):
        model = mlp(2, 16, 16, 3, dropout=0.2)
        history = fit(model, monitor=monitor, validation=VALIDATION)
        results.append((weights(model), history.steps["loss"].tobytes()))
        looks = {False: 0, 1: 30, 7: 5, None: 30}.get(monitor, 15) if not isinstance(monitor, train.Monitor) else 15
        assert [len(columns["step"]) for columns in history.layers.values()] == [looks] * (7 if looks else 0)
        assert not any(module.hooked for module in model.modules())
    assert len(set(results)) == 1


def test_a_step_allocates_nothing_of_the_size_of_the_network() -> None:
    model = mlp(2, 256, 256, 3)
    trainer = train.Trainer(model, TRAIN, epochs=3, batch_size=96, monitor=False, progress=False)
    peaks: list[int] = []

    class Measure(train.Callback):
        def on_batch_begin(self, trainer: train.Trainer) -> None:
            if trainer.step >= 6:
                tracemalloc.start()

        def on_batch_end(self, trainer: train.Trainer) -> None:
            if tracemalloc.is_tracing():
                peaks.append(tracemalloc.get_traced_memory()[1])
                tracemalloc.stop()

    trainer.callbacks = [Measure()]
    trainer.run()
    assert peaks and max(peaks) < 32 * 1024, peaks  # an activation has 96 x 256 x 4 bytes, a weight 256 x 256 x 4


def test_history_survives_json_with_every_bit(tmp_path: Path) -> None:
    history = fit(mlp(2, 8, 3), validation=VALIDATION)
    history.record_step({"loss": math.inf, "new": 1 / 3})
    text = history.to_json(tmp_path / "history.json")
    for source in (text, tmp_path / "history.json", str(tmp_path / "history.json")):
        again = train.History.from_json(source)
        for name in ("steps", "epochs"):
            for key, column in getattr(history, name).items():
                np.testing.assert_array_equal(getattr(again, name)[key], column)
        assert again.layers.keys() == history.layers.keys() and again.findings == history.findings
    assert np.isnan(history.steps["new"][:-1]).all() and math.isnan(history.steps["lr"][-1])
    with pytest.raises(ValueError, match="no history as JSON"):
        train.History.from_json("{}x")
    with pytest.raises(ValueError, match="version is 9"):
        train.History.from_json('{"version": 9}')


def test_the_plot_is_an_image(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    history = fit(mlp(2, 8, 3), validation=VALIDATION)
    path = history.plot(tmp_path / "history.png", "Spirals")
    assert path.read_bytes()[:4] == b"\x89PNG"
    regression = train.fit(mlp(2, 1), (TRAIN.x, TRAIN.x[:, :1]), loss=nn.MSELoss(), epochs=1, progress=False)
    assert regression.plot(tmp_path / "loss.svg").stat().st_size > 1000
    with pytest.raises(ValueError, match="no steps to draw"):
        train.History().plot(tmp_path / "none.png")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_shows_a_line_for_each_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tqdm")
    shown = Terminal()
    monkeypatch.setattr(sys, "stderr", shown)
    fit(mlp(2, 8, 3), validation=VALIDATION, progress=True)
    lines = shown.getvalue().replace("\r", "\n").splitlines()
    (line,) = (line for line in lines if line.startswith("epoch 2/2  "))
    for word in ("training loss", "accuracy", "validation loss", "lr 0.001", "samples/s"):
        assert word in line
    assert any("left" in line and "samples/s" in line for line in lines)


def test_no_terminal_no_bar(capfd: pytest.CaptureFixture[str]) -> None:
    fit(mlp(2, 8, 3), progress=True)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"epochs": 0}, ValueError, "fit: epochs is 0; expected 1 or more"),
        ({"batch_size": 2.5}, TypeError, "fit: batch_size is 2.5"),
        ({"loss": "mse"}, TypeError, "fit: loss is of type str"),
        ({"loss": nn.CrossEntropyLoss(reduction="sum")}, ValueError, "fit: loss has reduction='sum'; expected 'mean'"),
        ({"optimizer": "sgd"}, TypeError, "fit: optimizer is of type str"),
        ({"scheduler": 3}, TypeError, "fit: scheduler is of type int"),
        ({"schedule": "batch"}, ValueError, "schedule is 'batch'; expected 'epoch' or 'step'"),
        ({"regularizer": 1e-4}, TypeError, "fit: regularizer is of type float"),
        ({"clip_grad_norm": 0}, ValueError, "fit: clip_grad_norm is 0"),
        ({"callbacks": [print]}, TypeError, "fit: callbacks is of type builtin"),
        ({"callbacks": 3}, TypeError, "fit: callbacks is of type int; expected a sequence"),
        ({"checkpoint": 3}, TypeError, "Checkpoints: folder is of type int; expected a path"),
        ({"early_stopping": 0}, ValueError, "fit: early_stopping is 0"),
        ({"monitor": -1}, ValueError, "fit: monitor is -1"),
        ({"divergence": 1.0}, ValueError, "fit: divergence is 1.0"),
        ({"validation": 3}, TypeError, "int"),
    ],
)
def test_arguments_are_checked(options: dict[str, Any], kind: type[Exception], message: str) -> None:
    model = mlp(2, 3)
    before = weights(model)
    with pytest.raises(kind, match=message):
        fit(model, **options)
    assert weights(model) == before


def test_a_schedule_must_be_over_the_optimizer() -> None:
    model = mlp(2, 3)
    with pytest.raises(ValueError, match="over another optimizer"):
        fit(model, scheduler=LR.StepLR(optim.SGD(model.parameters()), 1))
    with pytest.raises(ValueError, match="optimizer has none of the model's parameters"):
        fit(model, optimizer=optim.SGD(mlp(2, 3).parameters()))
    with pytest.raises(TypeError, match="model is of type int"):
        fit(3)  # type: ignore[arg-type]


def test_yes_or_no_has_an_accuracy() -> None:
    y = (TRAIN.y == 0).astype(np.float32)[:, None]
    model = mlp(2, 16, 1)
    history = train.fit(model, (TRAIN.x, y), loss=nn.BCEWithLogitsLoss(), epochs=3, progress=False)
    found = train.evaluate(model, (TRAIN.x, y), nn.BCEWithLogitsLoss())
    assert found.accuracy == np.mean((train.predict(model, TRAIN.x) > 0) == (y > 0.5))
    assert 0.3 < history.epochs["accuracy"][-1] <= 1


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_other_dtypes_train(dtype: str) -> None:
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes")
    model = mlp(2, 32, 3, act=nn.Tanh).to(dtype)
    optimizer = optim.SGD(model.parameters(), 0.3, momentum=0.9)
    history = fit(model, optimizer=optimizer, validation=VALIDATION, epochs=4, clip_grad_norm=1.0, monitor=5)
    assert history.epochs["loss"][-1] < 0.8 * history.steps["loss"][0]
    assert str(model[0].weight.dtype) == dtype
    assert train.predict(model, VALIDATION.x).dtype == model[0].weight.dtype


def test_early_stopping_begins_anew_with_each_run() -> None:
    stopper = train.EarlyStopping(1, min_delta=10.0)
    for validation in (VALIDATION, None):
        history = fit(mlp(2, 3), early_stopping=stopper, epochs=5, validation=validation)
        assert len(history) == 2 and history.best_epoch == 0


class Pair(nn.Module):
    """A layer that returns no array."""

    def forward(self, x: Any) -> Any:
        return x, x

    def backward(self, dy: Any) -> Any:
        return dy[0] + dy[1]


class Sum(nn.Module):
    def forward(self, x: Any) -> Any:
        return x[0] + x[1]

    def backward(self, dy: Any) -> Any:
        return dy, dy


def test_layers_that_pass_other_things_than_arrays() -> None:
    fnn.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 8), Pair(), Sum(), nn.Linear(8, 3))
    assert list(fit(model, monitor=1).layers) == ["0 Linear", "2 Sum", "3 Linear"]


def test_a_last_batch_of_one_is_left_out_for_a_batch_norm_of_rows() -> None:
    x, y = TRAIN.x[:33], TRAIN.y[:33]
    for layer, samples in ((nn.BatchNorm1d(2), 32), (nn.LayerNorm(2), 33)):
        model = nn.Sequential(layer, nn.Linear(2, 3))
        history = train.fit(model, (x, y), epochs=1, batch_size=32, progress=False)
        assert history.epochs["samples"].tolist() == [samples]
