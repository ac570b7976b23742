"""The training loop on a device: the CPU's losses, one number read a step, checkpoints, the command line."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import emulator.cupy.record as record
import numpy as np
import pytest

import fastnn as fnn
from fastnn import cli, nn
from fastnn.devices import place

RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((48, 1, 12, 12)).astype(np.float32), RNG.integers(0, 4, 48)


def lenet() -> nn.Module:
    """Like LeNet-5, with a batch norm and dropout."""
    fnn.manual_seed(5)
    return nn.Sequential(
        *(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Dropout(0.2)),
        *(nn.Linear(100, 16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 4)),
    )


def mlp() -> nn.Module:
    fnn.manual_seed(6)
    return nn.Sequential(nn.Flatten(), nn.Linear(144, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 4))


def fit(model: nn.Module, epochs: int = 2, **options: Any) -> Any:
    optimizer = fnn.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    return fnn.train.fit(model, (X, Y), optimizer=optimizer, epochs=epochs, batch_size=16, progress=False, **options)


@pytest.mark.parametrize("make", [lenet, mlp])
def test_losses_are_the_cpus(device: Any, make: Any) -> None:
    """With a monitor, a penalty, clipping, validation and early stopping: the same run within rounding."""
    runs, ends = [], []
    for name in ("cpu", "cuda"):
        model = make().to(name)
        penalty = fnn.regularizers.L2(1e-4)
        options = {"monitor": 3, "regularizer": penalty, "clip_grad_norm": 1.0, "early_stopping": 5}
        runs.append(fit(model, validation=(X[:20], Y[:20]), **options))
        ends.append((fnn.train.evaluate(model, (X, Y)), fnn.train.predict(model, X)))
    ours, theirs = runs
    for table, other in ((ours.steps, theirs.steps), (ours.epochs, theirs.epochs)):
        for column in table.keys() - {"seconds"}:
            np.testing.assert_allclose(other[column], table[column], rtol=1e-3, err_msg=column)
    for name, columns in ours.layers.items():
        for column, values in columns.items():
            np.testing.assert_allclose(theirs.layers[name][column], values, rtol=2e-2, atol=1e-4, err_msg=column)
    assert type(ends[1][1]) is np.ndarray and ends[1][0].accuracy == ends[0][0].accuracy
    np.testing.assert_allclose(ends[1][1], ends[0][1], rtol=1e-2, atol=1e-3)


def test_one_number_is_read_a_step(cupy: Any) -> None:
    """The loss; accuracies are added up there. A batch goes to the device in two copies, x and labels."""
    model = mlp().to("cuda")
    with record.recording() as seen:
        fit(model, 4, monitor=False)
    steps = 4 * 3
    assert seen.to_host.count("float") == steps + 4  # and the share of right answers at the end of each epoch
    assert not seen.waits
    assert set(seen.to_host) == {"float", "get"} and seen.to_host.count("get") == 2  # norms of the weights, at first
    assert seen.from_host.count("asarray") == 2 * steps


def test_checkpoints(device: Any, tmp_path: Path) -> None:
    """A run that was interrupted goes on with the same bits, on the device."""

    class Stop(fnn.train.Callback):
        def on_batch_end(self, trainer: Any) -> None:
            if trainer.step == 4:
                trainer.stop("the power went")

    fit(lenet().to("cuda"), callbacks=[Stop()], checkpoint=fnn.train.Checkpoints(tmp_path, steps=1), monitor=False)
    again = lenet().to("cuda")
    resumed = fit(again, callbacks=[Stop()], checkpoint=fnn.train.Checkpoints(tmp_path, steps=1), monitor=False)
    whole = lenet().to("cuda")
    expected = fit(whole, monitor=False)
    np.testing.assert_array_equal(resumed.steps["loss"], expected.steps["loss"])
    for key, value in whole.state_dict().items():
        np.testing.assert_array_equal(again.state_dict()[key], value)
    onto_the_cpu = lenet()
    onto_the_cpu.load_state_dict(whole.state_dict())
    assert place(onto_the_cpu) is None


def test_what_goes_wrong_is_explained(device: Any) -> None:
    bad = X.copy()
    bad[3] = np.nan
    optimizer = fnn.optim.SGD
    for data, message in (((bad, Y), "It began in the data: the inputs of sample"),):
        model = mlp().to("cuda")
        with pytest.warns(fnn.train.TrainingWarning, match=message):
            fnn.train.fit(model, data, optimizer=optimizer(model.parameters()), epochs=1, batch_size=16, progress=False)
    with pytest.raises(ValueError, match=r"labels at \(\d+,\) is \d; expected a class from 0 to 3"):
        fnn.train.fit(mlp().to("cuda"), (X, Y + 2), epochs=1, batch_size=16, progress=False)


def test_data_stay_in_main_memory(device: Any) -> None:
    """Data sets, sessions and functions of one's own say so of CuPy arrays."""
    x = device.asarray(X)
    model = mlp().to("cuda")
    with pytest.raises(TypeError, match=r"ArrayDataset: x is a CuPy array; .* cupy.asnumpy\(x\)"):
        fnn.train.evaluate(model, (x, Y))
    with pytest.raises(TypeError, match="session: x is a CuPy array"):
        fnn.compile(model, (1, 12, 12))(x)
    pytest.importorskip("numba")

    @fnn.activation
    def square(x: Any) -> Any:
        return x * x

    @square.derivative
    def square(x: Any) -> Any:
        return 2 * x

    with pytest.raises(TypeError, match="is a CuPy array"):
        square(x)
    with pytest.raises(TypeError, match="is a CuPy array"):
        square.backward(x, x)


def test_sanity_check(device: Any) -> None:
    report = fnn.train.sanity_check(mlp().to("cuda"), (X, Y), samples=8, steps=15)
    assert report["gradients"].passed and report["initial loss"].passed is not None


def test_another_device(cupy: Any) -> None:
    """It is the current one while the loop runs, and not afterwards."""
    model = mlp().to("cuda:1")
    fit(model, 1, validation=(X, Y), early_stopping=1)
    assert place(model) == 1 and cupy.cuda.runtime.getDevice() == 0


def test_views_of_images(device: Any) -> None:
    model = lenet().to("cuda")
    expected = fnn.data.average_over(lenet(), X[:4])
    np.testing.assert_allclose(fnn.data.average_over(model, X[:4]), expected, rtol=1e-4)


def test_command_line(cupy: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("safetensors")
    command = ["train", "--data", "clouds", "--epochs", "1", "--option", "hidden=4", "--device", "cuda:1", "--out"]
    assert cli.main([*command, str(tmp_path)]) == 0
    assert "device cuda:1" in capsys.readouterr().out
    assert cli.main(["evaluate", str(tmp_path), "--device", "cuda"]) == 0
    with record.running(devices=0):
        assert cli.main([*command, str(tmp_path)]) == 2
    assert "--device cuda:1: " in capsys.readouterr().err


def test_the_program_of_the_readme(cupy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("safetensors")
    monkeypatch.chdir(tmp_path)
    text = (Path(__file__).resolve().parents[1] / "README.md").read_text(encoding="utf-8")
    (program,) = re.findall(r"```py\n(.*?)```", text, re.DOTALL)
    images, labels = RNG.standard_normal((8, 1, 28, 28)).astype(np.float32), RNG.integers(0, 10, 8)
    names: dict[str, Any] = {"fnn": fnn, "x": images[0], "images": images, "labels": labels}
    exec(program, names)
    assert isinstance(names["y"], cupy.ndarray) and names["scores"].shape == (8, 10)
    assert (tmp_path / "lenet5.safetensors").stat().st_size > 10_000
