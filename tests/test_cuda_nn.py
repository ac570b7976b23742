"""Models on a device: moved there and back, layers beside their twins, losses, optimisers, files, sessions."""

from __future__ import annotations

import copy
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import emulator.cupy.record as record
import numpy as np
import pytest

import fastnn as fnn
from fastnn import arrays, nn
from fastnn.devices import checked_device, on_host, place

Make = Callable[[], nn.Module]


def _convolutions() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16, 3)
    )


def _residual() -> nn.Module:
    body = nn.Sequential(nn.Conv2d(4, 8, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(8))
    return nn.Sequential(
        nn.Residual(nn.Conv2d(4, 4, 3, padding=1), None, "relu"), nn.Residual(body, nn.PadShortcut(8, 2))
    )


LAYERS: dict[str, tuple[Make, tuple[int, ...]]] = {
    "mlp": (lambda: nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 3)), (6, 5)),
    "convolutions": (_convolutions, (4, 3, 6, 6)),
    "residual": (_residual, (3, 4, 6, 6)),
    "norms": (lambda: nn.Sequential(nn.LayerNorm(8), nn.RMSNorm(8), nn.PReLU(8)), (6, 8)),
    "conv1d": (lambda: nn.Conv1d(3, 4, 3), (2, 3, 9)),
    "instances": (
        lambda: nn.Sequential(nn.GroupNorm(2, 4), nn.InstanceNorm2d(4, affine=True, track_running_stats=True)),
        (3, 4, 5, 5),
    ),
    "pools": (lambda: nn.Sequential(nn.AvgPool2d(2), nn.AdaptiveAvgPool2d(2), nn.GlobalAvgPool()), (2, 3, 8, 8)),
    "fractional": (lambda: nn.FractionalMaxPool2d(output_size=3), (2, 3, 7, 7)),
    "gates": (lambda: nn.Sequential(nn.Maxout(2), nn.SwiGLU(), nn.GLU(), nn.Softmax(1)), (3, 16)),
    "drop_connect": (lambda: nn.DropConnect(nn.Linear(5, 4), 0.4), (3, 5)),
    "dropouts": (
        lambda: nn.Sequential(nn.Dropout2d(0.3), nn.AlphaDropout(0.3), nn.StochasticDepth(0.2, "batch")),
        (3, 5, 4, 4),
    ),
}


def close(got: Any, expected: Any, tolerance: float = 2e-4) -> None:
    np.testing.assert_allclose(arrays.host(got), expected, rtol=tolerance, atol=tolerance / 10)


def twins(make: Make) -> tuple[nn.Module, nn.Module]:
    """The same model in main memory and on the device."""
    fnn.manual_seed(7)
    model = make()
    return model, copy.deepcopy(model).to("cuda")


@pytest.mark.parametrize("name", LAYERS)
def test_layers(device: Any, name: str) -> None:
    """Some steps of training, and evaluation: outputs, gradients, weights and statistics are the CPU's."""
    make, shape = LAYERS[name]
    ours, theirs = twins(make)
    rng = np.random.default_rng(0)
    optimizers = [
        fnn.optim.SGD(each.parameters(), lr=0.01, momentum=0.9) for each in (ours, theirs) if [*each.parameters()]
    ]
    for _ in range(2):
        x = rng.standard_normal(shape).astype(np.float32)
        y, there = ours(x), theirs(device.asarray(x))
        assert isinstance(there, device.ndarray)
        close(there, y)
        dy = rng.standard_normal(y.shape).astype(np.float32)
        ours.zero_grad()
        theirs.zero_grad()
        close(theirs.backward(device.asarray(dy)), ours.backward(dy))
        for optimizer in optimizers:
            optimizer.step()
    for key, value in ours.state_dict().items():
        close(theirs.state_dict()[key], value)
    close(theirs.eval()(device.asarray(x)), ours.eval()(x))


@pytest.mark.parametrize(
    ("loss", "target"),
    [
        (nn.CrossEntropyLoss(np.array([1, 2, 3], np.float32), label_smoothing=0.1), np.array([0, 2, 1, -100])),
        (nn.HingeLoss(), np.array([0, 2, 1, 1])),
        (nn.MSELoss(), np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3)),
        (nn.BCEWithLogitsLoss(pos_weight=np.array([2], np.float32)), np.eye(4, 3, dtype=np.float32)),
        (nn.CrossEntropyLoss(reduction="none"), np.array([0, 2, 1, 1])),
    ],
)
def test_losses(device: Any, loss: Any, target: Any) -> None:
    """The number is read, the gradient stays there; weights of classes follow."""
    x, twin = np.random.default_rng(1).standard_normal((4, 3)).astype(np.float32), copy.deepcopy(loss)
    value = loss(x, target)
    there = twin(device.asarray(x), device.asarray(target))
    close(there, value)
    none = loss.reduction == "none"
    assert isinstance(there, device.ndarray if none else float)
    dy = np.arange(4, dtype=np.float32) if none else None
    close(twin.backward(None if dy is None else device.asarray(dy)), loss.backward(dy))


def test_a_step_waits_for_the_loss_only(cupy: Any) -> None:
    model, loss = twins(_convolutions)[1], nn.CrossEntropyLoss()
    optimizer = fnn.optim.Adam(model.parameters())
    x, labels = cupy.asarray(np.ones((4, 3, 6, 6), np.float32)), cupy.asarray(np.array([0, 1, 2, 0]))
    for _ in range(2):
        with record.recording() as seen:
            value = loss(model(x), labels)
            optimizer.zero_grad()
            model.backward(loss.backward())
            fnn.optim.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
    assert isinstance(value, float) and seen.to_host == ["float"] and not seen.waits and not seen.from_host


# ---- moving ----


def test_there_and_back(device: Any) -> None:
    """Parameters, statistics and the optimiser's state move; counts that Python reads stay."""
    model = twins(_convolutions)[0]
    optimizer = fnn.optim.Adam(model.parameters())
    x = np.random.default_rng(0).standard_normal((4, 3, 6, 6)).astype(np.float32)

    def step(x: Any) -> Any:
        y = model(x)
        model.backward(y)
        optimizer.step()
        return y

    step(x)
    other, rest = copy.deepcopy((model, optimizer)), step(x)
    model, optimizer = other
    assert model.to("cuda") is model and place(model) == 0
    assert all(isinstance(each.data, device.ndarray) for each in model.parameters())
    assert isinstance(model[1].running_mean, device.ndarray)
    assert isinstance(model[1].num_batches_tracked, np.ndarray)
    close(step(device.asarray(x)), rest)
    assert isinstance(optimizer.state[model[0].weight]["exp_avg"], device.ndarray)
    model.to("cpu")
    assert place(model) is None and isinstance(step(x), np.ndarray)
    assert model.to("cuda", np.float64)[0].weight.dtype == np.float64 and place(model) == 0
    assert place(model.to(np.float32)) == 0 and place(model.to(device="cpu")) is None


def test_devices_by_number(cupy: Any) -> None:
    layer = nn.Linear(3, 2).to("cuda:1")
    assert place(layer) == 1 and place(layer.to(cupy.cuda.Device(0))) == 0
    layer.to("cuda:1")
    with cupy.cuda.Device(1):
        assert layer(cupy.zeros((2, 3), np.float32)).device.id == 1
        assert place(layer.to("cuda")) == 1
    assert layer.load_state_dict(nn.Linear(3, 2).state_dict()).missing_keys == []
    assert place(layer) == 1


def test_wrong_devices(device: Any) -> None:
    layer = nn.Linear(3, 2)
    for given, kind, message in [
        ("gpu", TypeError, "'gpu' is neither a dtype nor a device"),
        ("cuda:x", ValueError, "device is 'cuda:x'; expected 'cpu', 'cuda', or 'cuda:' and a number"),
        ("cuda:99", ValueError, "device is 'cuda:99'; there are"),
        (np.int32, TypeError, "dtype is int32; expected a floating-point dtype"),
    ]:
        with pytest.raises(kind, match=message):
            layer.to(given)
    with pytest.raises(TypeError, match="expected a dtype, a device, or both"):
        layer.to()
    with pytest.raises(TypeError, match="device is 3 of type int"):
        layer.to(device=3)


def test_mixed_places(device: Any) -> None:
    x = np.zeros((2, 3), np.float32)
    there = nn.Sequential(nn.Linear(3, 2)).to("cuda")
    with pytest.raises(TypeError, match=r"Linear: x is a NumPy array .* on a device; expected cupy.asarray\(x\)"):
        there(x)
    with pytest.raises(TypeError, match=r"Linear: x is a CuPy array .* in main memory; expected cupy.asnumpy\(x\)"):
        nn.Linear(3, 2)(device.asarray(x))
    with pytest.raises(TypeError, match="x is a NumPy array and gamma is a CuPy array"):
        nn.BatchNorm1d(3).to("cuda")(x)
    there(device.asarray(x))
    with pytest.raises(TypeError, match="dy is a NumPy array"):
        there.backward(x[:, :2])
    with pytest.raises(TypeError, match="labels is a NumPy array and logits is a CuPy array"):
        nn.CrossEntropyLoss()(device.asarray(x), np.array([0, 1]))
    with pytest.raises(TypeError, match="grad and data"):
        there[0].weight.grad = np.zeros((2, 3), np.float32)


def test_a_layer_without_parameters_follows_its_input(device: Any) -> None:
    layer, x = nn.Sequential(nn.ReLU(), nn.Dropout(0.5)), np.ones((3, 4), np.float32)
    for _ in range(2):
        assert isinstance(layer(x), np.ndarray) and isinstance(layer.backward(x), np.ndarray)
        assert isinstance(layer(device.asarray(x)), device.ndarray)
        assert isinstance(layer.backward(device.asarray(x)), device.ndarray)


def test_without_cupy(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is missing is said, and how to get it; nothing has changed."""
    monkeypatch.setitem(sys.modules, "cupy", None)
    layer = nn.Linear(3, 2)
    with pytest.raises(ImportError, match=r"Linear.to: device 'cuda' needs cupy: pip install \"fastnn\[cuda\]\""):
        layer.to("cuda")
    assert isinstance(layer(np.zeros((2, 3), np.float32)), np.ndarray)
    assert checked_device("f", "cpu") is None and on_host(layer) is layer


def test_without_a_gpu(cupy: Any) -> None:
    with record.running(devices=0), pytest.raises(RuntimeError, match="'cuda' needs a GPU, and CuPy finds none: cuda"):
        nn.Linear(3, 2).to("cuda")


# ---- what reads a model ----


def test_state(device: Any, tmp_path: Path) -> None:
    """State is NumPy's wherever the model is, and goes back to where that is; files, copies and pickles too."""
    model = twins(_convolutions)[1]
    state = model.state_dict()
    assert all(type(value) is np.ndarray for value in state.values())
    other = _convolutions().to("cuda")
    other.load_state_dict(state)
    optimizer = fnn.optim.Adam(other.parameters())
    x = device.asarray(np.ones((4, 3, 6, 6), np.float32))
    other.backward(other(x))
    optimizer.step()
    saved = optimizer.state_dict()
    assert type(saved["state"][0]["exp_avg"]) is np.ndarray
    optimizer.load_state_dict(saved)
    assert isinstance(optimizer.state[other[0].weight]["exp_avg"], device.ndarray)
    pytest.importorskip("safetensors")
    nn.save(other, tmp_path / "model.safetensors")
    nn.load(model, tmp_path / "model.safetensors")
    for key, value in other.state_dict().items():
        np.testing.assert_array_equal(model.state_dict()[key], value)
    again = pickle.loads(pickle.dumps(model))
    assert place(again) == 0 and place(copy.deepcopy(model)) == 0


def test_sessions_summaries_and_checks(device: Any) -> None:
    """A session is the CPU's and copies the weights; a summary and gradcheck run where the model is."""
    model = twins(_convolutions)[1].eval()
    x = np.random.default_rng(3).standard_normal((2, 3, 6, 6)).astype(np.float32)
    close(fnn.compile(model, (3, 6, 6))(x), arrays.host(model(device.asarray(x))))
    assert place(model) == 0
    assert nn.summary(model, (3, 6, 6)).parameters == nn.summary(_convolutions(), (3, 6, 6)).parameters
    assert fnn.gradcheck(nn.Linear(3, 2).to("cuda"), x[0, 0, :4, :3])


def test_initialisation_and_averages(device: Any) -> None:
    ours, theirs = twins(lambda: nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5)))
    for each in (ours, theirs):
        fnn.init.orthogonal_(each[0].weight, rng=np.random.default_rng(0))
        fnn.init.constant_(each[0].bias, 0.5)
    np.testing.assert_array_equal(arrays.host(theirs[0].weight.data), ours[0].weight.data)
    x = np.random.default_rng(0).standard_normal((2, 4)).astype(np.float32)
    expected, got = nn.monte_carlo(ours, x, 5), nn.monte_carlo(theirs, device.asarray(x), 5)
    assert isinstance(got.mean, device.ndarray)
    close(got.mean, expected.mean)
    close(got.std, expected.std)


def test_penalties(device: Any) -> None:
    ours, theirs = twins(_convolutions)
    for penalty in (fnn.regularizers.L2(0.1), fnn.regularizers.L1(0.1), fnn.regularizers.ElasticNet(0.3, 0.1)):
        total = penalty.penalty(theirs.parameters())
        assert type(total) is float and total == pytest.approx(penalty.penalty(ours.parameters()), rel=1e-5)
        assert penalty.value(theirs.parameters()) == pytest.approx(total, rel=1e-6)
    close(theirs[0].weight.grad, ours[0].weight.grad)
