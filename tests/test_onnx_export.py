"""Networks as ONNX files: what ONNX Runtime makes of them, and what comes back."""

from __future__ import annotations

import importlib.util
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason="exports are made with the package onnx")

import onnx
from onnx.reference import ReferenceEvaluator

import fastnn as fnn
from fastnn import nn
from fastnn.nn.activations import LAYERS
from fastnn.onnx.converters import CONVERTERS

Array = Any


def settled(model: nn.Module) -> nn.Module:
    """In evaluation mode, with running statistics and parameters that are not those of the beginning."""
    rng = np.random.default_rng(1)
    for array in model.state_dict().values():
        if array.dtype.kind == "f" and array.ndim < 2:
            array += rng.uniform(0.1, 0.5, array.shape).astype(array.dtype)
    return model.eval()


def answers(path: Path, x: Array) -> Array:
    """What ONNX Runtime computes; where it is not installed, onnx's own evaluator."""
    if importlib.util.find_spec("onnxruntime") is None:
        return ReferenceEvaluator(str(path)).run(None, {"input": x})[0]
    runtime = importlib.import_module("onnxruntime")
    options = runtime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, 1
    return runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"]).run(None, {"input": x})[0]


def check(model: nn.Module, shape: tuple[int, ...], path: Path, tolerance: float = 2e-5, **options: Any) -> nn.Module:
    """The file answers as the model does, in ONNX Runtime and loaded again; what was loaded."""
    settled(model)
    fnn.onnx.export(model, path, shape, **options)
    batch = options.get("batch", 3)
    x = np.random.default_rng(0).normal(size=(batch if isinstance(batch, int) else 3, *shape)).astype(np.float32)
    wanted = model(x)
    for got in (answers(path, x), (again := fnn.onnx.load(path))(x)):
        assert got.shape == wanted.shape and got.dtype == wanted.dtype
        np.testing.assert_allclose(got, wanted, rtol=tolerance, atol=tolerance * max(1.0, float(np.abs(wanted).max())))
    return again


ZOO = [(name, {}) for name in fnn.models.names()] + [
    ("lenet5", {"activation": "tanh", "pool": "avg"}),
    ("alexnet4", {"batch_norm": False, "input_shape": (3, 29, 34)}),
    ("resnet8", {"shortcut": "identity", "dropout": 0.5, "activation": "prelu"}),
]


@pytest.mark.parametrize(("name", "options"), ZOO, ids=[f"{name}-{len(options)}" for name, options in ZOO])
def test_the_zoo(name: str, options: dict[str, Any], tmp_path: Path) -> None:
    fnn.manual_seed(0)
    model = fnn.models.create(name, **options)
    shape = options.get("input_shape", fnn.models.input_shape(name))
    again = check(model, shape, tmp_path / "m.onnx")
    plain = options.get("shortcut") != "identity"  # which is no layer of one node
    assert isinstance(again, nn.Sequential) is plain
    assert {key for key in model.state_dict() if "tracked" not in key} == {
        key for key in again.state_dict() if "tracked" not in key and "constant" not in key
    }
    x = np.random.default_rng(2).normal(size=(2, *shape)).astype(np.float32)
    assert not plain or np.array_equal(again(x), model(x))  # the same layers


LAYER_CASES: dict[str, tuple[Any, tuple[int, ...]]] = {
    "linear of sequences": (lambda: nn.Linear(6, 4), (5, 6)),
    "linear without bias": (lambda: nn.Linear(6, 4, bias=False), (2, 5, 6)),
    "conv1d": (lambda: nn.Conv1d(4, 6, 3, stride=2, padding=1, dilation=2, groups=2), (4, 20)),
    "conv2d same": (lambda: nn.Conv2d(3, 4, (2, 3), padding="same"), (3, 9, 8)),
    "conv2d depthwise": (lambda: nn.Conv2d(4, 8, 3, groups=4, padding=(1, 0), bias=False), (4, 9, 8)),
    "batch norm of vectors": (lambda: nn.BatchNorm1d(6, eps=1e-3), (6,)),
    "batch norm of sequences": (lambda: nn.BatchNorm1d(6, affine=False), (6, 5)),
    "batch norm of volumes": (lambda: nn.BatchNorm3d(2), (2, 3, 4, 5)),
    "batch norm by the batch": (lambda: nn.BatchNorm2d(4, track_running_stats=False), (4, 5, 5)),
    "instance norm": (lambda: nn.InstanceNorm2d(4), (4, 5, 6)),
    "instance norm 1d": (lambda: nn.InstanceNorm1d(4, affine=True), (4, 9)),
    "tracked instance norm": (lambda: nn.InstanceNorm2d(4, affine=True, track_running_stats=True), (4, 5, 6)),
    "group norm": (lambda: nn.GroupNorm(2, 6), (6, 5, 4)),
    "group norm plain": (lambda: nn.GroupNorm(3, 6, affine=False), (6,)),
    "layer norm": (lambda: nn.LayerNorm(6), (5, 6)),
    "layer norm of two axes": (lambda: nn.LayerNorm((5, 6), bias=False), (2, 5, 6)),
    "rms norm": (lambda: nn.RMSNorm(6), (5, 6)),
    "rms norm of two axes": (lambda: nn.RMSNorm((5, 6), eps=1e-3, elementwise_affine=False), (2, 5, 6)),
    "max pool": (lambda: nn.MaxPool2d(3, stride=2, padding=1, dilation=2), (2, 11, 10)),
    "max pool ceil": (lambda: nn.MaxPool2d(2, ceil_mode=True), (2, 5, 7)),
    "max pool sparse": (lambda: nn.MaxPool1d(2, stride=5, ceil_mode=True), (2, 13)),
    "max pool 3d": (lambda: nn.MaxPool3d(2), (2, 5, 4, 6)),
    "average pool": (lambda: nn.AvgPool2d(3, stride=2, padding=1), (2, 11, 10)),
    "average pool without padding": (lambda: nn.AvgPool2d(3, 2, 1, count_include_pad=False), (2, 11, 10)),
    "average pool ceil": (lambda: nn.AvgPool2d(3, stride=2, ceil_mode=True), (2, 10, 8)),
    "average pool ceil and padding": (lambda: nn.AvgPool2d(3, 2, 1, ceil_mode=True), (2, 10, 9)),
    "average pool all": (lambda: nn.AvgPool2d(3, 2, 1, ceil_mode=True, count_include_pad=False), (2, 10, 9)),
    "average pool 1d": (lambda: nn.AvgPool1d(4, 3, 2, ceil_mode=True), (2, 12)),
    "average pool 3d": (lambda: nn.AvgPool3d(2, padding=1), (2, 4, 5, 6)),
    "adaptive to one": (lambda: nn.AdaptiveAvgPool1d(1), (2, 7)),
    "adaptive even": (lambda: nn.AdaptiveAvgPool2d((3, None)), (2, 6, 5)),
    "adaptive uneven": (lambda: nn.AdaptiveAvgPool2d((3, 4)), (2, 7, 9)),
    "adaptive uneven 3d": (lambda: nn.AdaptiveAvgPool3d((3, 2, 4)), (2, 7, 5, 9)),
    "global average": (lambda: nn.GlobalAvgPool(), (4, 5, 6)),
    "flatten": (lambda: nn.Flatten(), (4, 5, 6)),
    "flatten the middle": (lambda: nn.Flatten(1, 2), (4, 5, 6)),
    "flatten the end": (lambda: nn.Flatten(2), (4, 5, 6)),
    "flatten all": (lambda: nn.Flatten(0, 1), (4, 5)),
    "pad shortcut": (lambda: nn.PadShortcut(7, 2), (4, 5, 6)),
    "softmax": (lambda: nn.Softmax(1), (4, 5)),
    "log softmax": (lambda: nn.LogSoftmax(), (4, 5)),
    "maxout": (lambda: nn.Maxout(3), (12, 5)),
    "maxout at the end": (lambda: nn.Maxout(2, axis=-1), (12, 6)),
    "glu": (lambda: nn.GLU(1), (6, 5)),
    "swiglu": (lambda: nn.SwiGLU(), (5, 6)),
    "identity": (lambda: nn.Identity(), (5,)),
    "vanilla dropout": (lambda: nn.Dropout(0.3, mode="vanilla"), (5,)),
    "dropped connections": (lambda: nn.DropConnect(nn.Linear(6, 4)), (6,)),
    "no layers": (lambda: nn.Sequential(nn.AlphaDropout(), nn.Dropout2d(), nn.StochasticDepth(0.5, "row")), (2, 3, 4)),
    "softplus beta": (lambda: nn.Softplus(3.0), (5,)),
    "slopes of channels": (lambda: nn.PReLU(5), (5, 7, 6)),
    "slopes of elements": (lambda: nn.PReLU((5, 7, 6)), (5, 7, 6)),
    "residual": (lambda: nn.Residual(nn.Linear(6, 6), activation=("elu", 0.7)), (6,)),
}


@pytest.mark.parametrize("case", LAYER_CASES)
def test_layers(case: str, tmp_path: Path) -> None:
    make, shape = LAYER_CASES[case]
    check(make(), shape, tmp_path / "m.onnx")


@pytest.mark.parametrize("name", sorted(LAYERS))
def test_every_activation(name: str, tmp_path: Path) -> None:
    given = (name, 1.7) if name == "swish" else (name, 0.7) if name in ("celu", "elu", "leaky_relu") else name
    check(nn.Sequential(fnn.nn.activation_layer(given)), (40, 5), tmp_path / "m.onnx")


def test_every_layer_is_written_or_refused(tmp_path: Path) -> None:
    layers = {each for each in vars(nn).values() if isinstance(each, type) and issubclass(each, nn.Module)}
    refused = {layer.__name__ for layer in layers - set(CONVERTERS)}
    assert refused == {
        *("Module", "Activation", "RandomLayer"),  # classes to derive from
        *("BCEWithLogitsLoss", "CrossEntropyLoss", "HingeLoss", "MSELoss", "FractionalMaxPool2d"),
    }
    model = nn.Sequential(nn.ReLU(), nn.FractionalMaxPool2d(output_size=3))
    with pytest.raises(ValueError, match=r"export: 1 is a FractionalMaxPool2d, which has no ONNX form"):
        fnn.onnx.export(model, tmp_path / "m.onnx", (2, 8, 8))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("opset", [22, 24, 26])
def test_newer_opsets(opset: int, tmp_path: Path) -> None:
    parts = nn.Conv2d(2, 4, 3), nn.GroupNorm(2, 4), nn.GELU(), nn.AvgPool2d(2), nn.Mish(), nn.GLU(1)
    check(nn.Sequential(*parts), (2, 8, 8), tmp_path / "m.onnx", opset=opset)
    assert onnx.load(tmp_path / "m.onnx").opset_import[0].version == opset


def test_a_fixed_batch(tmp_path: Path) -> None:
    check(nn.Linear(4, 3), (4,), tmp_path / "m.onnx", batch=7)
    graph = check(nn.Swish(1.5), (4,), tmp_path / "r.onnx", batch=7)
    with pytest.raises(ValueError, match=r"r.onnx: input has shape \(2, 4\); expected \(7, 4\)"):
        graph(np.zeros((2, 4), np.float32))


@pytest.mark.parametrize("dtype", [np.float64, np.float16])
def test_other_dtypes(dtype: Any, tmp_path: Path) -> None:
    model = settled(nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 3))).to(dtype)
    fnn.onnx.export(model, tmp_path / "m.onnx", 6)
    x = np.random.default_rng(0).normal(size=(3, 6)).astype(dtype)
    for got in (answers(tmp_path / "m.onnx", x), fnn.onnx.load(tmp_path / "m.onnx")(x)):
        assert got.dtype == dtype
        np.testing.assert_allclose(got, model(x), rtol=0, atol=1e-12 if dtype == np.float64 else 1e-2)


def test_names_and_modes(tmp_path: Path) -> None:
    """A name that is that of the graph's input; the model stays as it was, in training mode."""
    model = nn.Sequential(OrderedDict(input=nn.Linear(4, 4), last=nn.Sequential(nn.ReLU(), nn.Linear(4, 2))))
    model.train()
    fnn.onnx.export(model, str(tmp_path / "m.onnx"), (4,), batch="samples")
    assert model.training and model[1].training
    graph = onnx.load(tmp_path / "m.onnx").graph
    assert [each.name for each in (*graph.input, *graph.output)] == ["input", "output"]
    assert {tensor.name for tensor in graph.initializer} == set(model.state_dict())
    assert graph.output[0].type.tensor_type.shape.dim[0].dim_param == "samples"
    again = fnn.onnx.load(tmp_path / "m.onnx")
    assert [name for name, _ in again.named_modules()] == ["", "input", "last", "last.0", "last.1"]


def test_wrong_arguments(tmp_path: Path) -> None:
    path, model = tmp_path / "m.onnx", nn.Linear(4, 2)
    with pytest.raises(TypeError, match="model is a dict; expected a module"):
        fnn.onnx.export({}, path, 4)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="opset is 9; expected 21 to 26"):
        fnn.onnx.export(model, path, 4, opset=9)
    with pytest.raises(ValueError, match="expected lengths of at least 1"):
        fnn.onnx.export(model, path, 4, batch=0)
    with pytest.raises(ValueError, match=r"Linear: x has shape \(2, 5\)"):
        fnn.onnx.export(model, path, 5)
    with pytest.raises(ValueError, match="returns indices"):
        fnn.onnx.export(nn.MaxPool1d(2, return_indices=True), path, (2, 4))
    with pytest.raises(ValueError, match="not allowed in float64"):
        fnn.onnx.export(nn.Sequential(nn.Linear(4, 2), nn.CELU()).to(np.float64), path, 4)
    assert not path.exists()
