"""Sessions of ONNX files: every graph of supported operators that treats samples one by one, beside ONNX Runtime."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason="loading needs the package onnx")

from onnx import TensorProto, helper, numpy_helper, shape_inference

import fastnn as fnn
from fastnn import nn
from fastnn.infer.steps.arrays import OPERATORS as AS_THEY_ARE

RNG = np.random.default_rng(0)


def array(*shape: int) -> Any:
    return RNG.uniform(0.5, 1.5, shape).astype(np.float32)


def whole(*numbers: int) -> Any:
    return np.array(numbers, np.int64)


def file_of(nodes: list[Any], arrays: dict[str, Any], x: tuple[Any, ...], folder: Path, opset: int = 21) -> Path:
    """A file of a graph from x to y; nodes are (operator, inputs, output, attributes)."""
    made = [helper.make_node(op, inputs.split(","), out.split(","), **rest) for op, inputs, out, rest in nodes]
    graph = helper.make_graph(
        made,
        "test",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in arrays.items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    proto = shape_inference.infer_shapes(proto, data_prop=True)
    if not proto.graph.output[0].type.tensor_type.HasField("shape"):
        proto.graph.output[0].type.CopyFrom(helper.make_tensor_type_proto(TensorProto.FLOAT, [None, None]))
    path = folder / "m.onnx"
    path.write_bytes(proto.SerializeToString())
    return path


def check(path: Path, shape: tuple[int, ...], folder: Path, batches: tuple[int, ...] = (1, 3)) -> fnn.infer.Session:
    """The session of a file answers as the loaded file does, and as ONNX Runtime if that is there; saved, too."""
    model = fnn.onnx.load(path)
    session = fnn.compile(model)
    session.save(folder / "session")
    again = fnn.load(folder / "session")
    for batch in batches:
        x = array(batch, *shape)
        wanted, got = model(x), session(x)
        assert got.shape == wanted.shape and got.dtype == wanted.dtype
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-5 * float(np.abs(wanted).max()))
        assert (again(x) == got).all()
        try:
            import onnxruntime
        except ImportError:
            continue
        options = onnxruntime.SessionOptions()
        options.log_severity_level, options.intra_op_num_threads = 4, 1
        runtime = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        np.testing.assert_allclose(got, runtime.run(None, {"x": x})[0], rtol=1e-4, atol=1e-4 * np.abs(wanted).max())
    return session


W, B, K = array(4, 3), array(4), array(6, 2, 3, 3)
IMAGE = (2, 6, 5)
Nodes = list[tuple[str, str, str, dict[str, Any]]]
GRAPHS: dict[str, tuple[Nodes, dict[str, Any], tuple[int, ...], list[str]]] = {
    # A name: nodes, arrays, the shape of a sample, the steps of the session
    "MatMul and Add": (
        [("MatMul", "x,w", "h", {}), ("Add", "h,b", "z", {}), ("Relu", "z", "y", {})],
        {"w": W.T, "b": B},
        (3,),
        ["linear"],
    ),
    "the sum turned round": (
        [("MatMul", "x,w", "h", {}), ("Add", "b,h", "y", {})],
        {"w": W.T, "b": B},
        (3,),
        ["linear"],
    ),
    "MatMul of rows": ([("MatMul", "x,w", "h", {}), ("Add", "h,b", "y", {})], {"w": W.T, "b": B}, (5, 3), ["linear"]),
    "asymmetric padding": (
        [("Conv", "x,k", "h", {"pads": [0, 1, 2, 0], "strides": [2, 1]}), ("Relu", "h", "y", {})],
        {"k": K},
        IMAGE,
        ["conv"],
    ),
    "padding by TensorFlow": (
        [("Conv", "x,k", "y", {"auto_pad": "SAME_UPPER", "strides": [2, 2]})],
        {"k": K},
        IMAGE,
        ["conv"],
    ),
    "grouped, dilated": (
        [("Conv", "x,k,b", "y", {"group": 2, "dilations": [2, 1], "pads": [1, 0, 2, 1]})],
        {"k": array(4, 1, 3, 3), "b": B},
        IMAGE,
        ["conv"],
    ),
    "a shortcut of zeros": (
        [
            ("Conv", "x,k", "a", {"pads": [1, 1, 1, 1], "strides": [2, 2]}),
            ("Slice", "x,s,e,axes,steps", "c", {}),
            ("Pad", "c,p", "d", {}),
            ("Add", "a,d", "z", {}),
            ("Relu", "z", "y", {}),
        ],
        {
            **{"k": K, "s": whole(0, 0), "e": whole(2**31, 2**31), "axes": whole(2, 3), "steps": whole(2, 2)},
            "p": whole(0, 0, 0, 0, 0, 4, 0, 0),
        },
        IMAGE,
        ["conv", "Slice", "Pad", "add", "activation"],
    ),
    "scale and shift of channels, folded": (
        [
            ("Conv", "x,k", "a", {}),
            ("Mul", "a,scale", "b", {}),
            ("Sub", "b,shift", "c", {}),
            ("Div", "c,two", "d", {}),
            ("Add", "one,d", "e", {}),
            ("Relu", "e", "y", {}),
        ],
        {
            **{"k": K, "scale": array(6, 1, 1), "shift": array(1, 6, 1, 1)},
            **{"two": np.float32(2), "one": np.ones(1, np.float32)},
        },
        IMAGE,
        ["conv"],
    ),
    "standardised input": (
        [("Sub", "x,mean", "a", {}), ("Div", "a,std", "b", {}), ("Conv", "b,k", "y", {})],
        {"mean": array(2, 1, 1), "std": array(2, 1, 1), "k": K},
        IMAGE,
        ["batch_norm", "conv"],  # the second is in the convolution's weights
    ),
    "a mean image": ([("Sub", "x,m", "y", {})], {"m": array(*IMAGE)}, IMAGE, ["Sub"]),
    "one less": ([("Sub", "one,x", "y", {})], {"one": np.float32(1)}, (3,), ["batch_norm"]),
    "one over": ([("Div", "one,x", "y", {})], {"one": np.float32(1)}, (3,), ["Div"]),
    "hard swish by hand": (
        [
            ("Add", "x,three", "a", {}),
            ("Clip", "a,zero,six", "b", {}),
            ("Mul", "x,b", "c", {}),
            ("Div", "c,six", "y", {}),
        ],
        {"three": np.float32(3), "zero": np.float32(0), "six": np.float32(6)},
        IMAGE,
        ["batch_norm", "Mul", "batch_norm"],
    ),
    "squeeze and excite": (
        [
            ("GlobalAveragePool", "x", "a", {}),
            ("Conv", "a,k", "b", {}),
            ("Sigmoid", "b", "c", {}),
            ("Mul", "x,c", "y", {}),
        ],
        {"k": array(2, 2, 1, 1)},
        IMAGE,
        ["adaptive_avg_pool", "conv", "Mul"],
    ),
    "flattened by its own shape": (
        [
            ("Shape", "x", "s", {}),
            ("Gather", "s,zero", "n", {}),
            ("Unsqueeze", "n,zeros", "m", {}),
            ("Concat", "m,rest", "to", {"axis": 0}),
            ("Reshape", "x,to", "h", {}),
            ("Gemm", "h,w", "y", {"transB": 1, "alpha": 0.5}),
        ],
        {"zero": np.int64(0), "zeros": whole(0), "rest": whole(-1), "w": array(3, 60)},
        IMAGE,
        ["Gemm"],
    ),
    "channels shuffled": (
        [("Reshape", "x,a", "b", {}), ("Transpose", "b", "c", {"perm": [0, 2, 1, 3, 4]}), ("Reshape", "c,d", "y", {})],
        {"a": whole(0, 2, 2, 3, 5), "d": whole(-1, 4, 3, 5)},
        (4, 3, 5),
        ["Transpose"],
    ),
    "split and joined": (
        [
            ("Split", "x,l", "a,b,c", {"axis": 1}),
            ("Exp", "a", "d", {}),
            ("Max", "d,c,d", "e", {}),
            ("Concat", "e,b,x", "y", {"axis": 1}),
        ],
        {"l": whole(2, 1, 2)},
        (5, 2),
        ["Slice", "Slice", "Slice", "Exp", "Max", "Concat"],
    ),
    "attention of one head": (
        [
            ("MatMul", "x,q", "a", {}),
            ("MatMul", "x,k", "b", {}),
            ("Transpose", "b", "c", {"perm": [0, 2, 1]}),
            ("MatMul", "a,c", "d", {}),
            ("Div", "d,root", "e", {}),
            ("Softmax", "e", "f", {}),
            ("MatMul", "f,x", "y", {}),
        ],
        {"q": array(4, 6), "k": array(4, 6), "root": np.float32(6**0.5)},
        (5, 4),
        ["linear", "linear", "Transpose", "MatMul", "batch_norm", "softmax", "MatMul"],
    ),
    "a norm by hand": (
        [
            ("ReduceMean", "x,last", "m", {}),
            ("Sub", "x,m", "d", {}),
            ("Pow", "d,two", "q", {}),
            ("ReduceMean", "q,last", "v", {}),
            ("Add", "v,eps", "w", {}),
            ("Sqrt", "w", "s", {}),
            ("Div", "d,s", "y", {}),
        ],
        {"last": whole(-1), "two": np.float32(2), "eps": np.float32(1e-5)},
        (3, 4),
        ["ReduceMean", "Sub", "Pow", "ReduceMean", "batch_norm", "Sqrt", "Div"],
    ),
    "nothing": ([("Identity", "x", "y", {})], {}, (3,), ["copy"]),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_graphs(name: str, tmp_path: Path) -> None:
    nodes, arrays, shape, steps = GRAPHS[name]
    session = check(file_of(nodes, arrays, ("N", *shape), tmp_path), shape, tmp_path)
    assert [step.op for step in session._graph.steps] == steps
    assert len(session.describe().splitlines()) >= len(steps) + 2  # turning layouts over is steps too


def test_a_file_of_one_batch(tmp_path: Path) -> None:
    """Whose shapes say so: the session takes any."""
    nodes = [("Reshape", "x,to", "h", {}), ("Gemm", "h,w", "y", {"transB": 1})]
    path = file_of(nodes, {"to": whole(1, 60), "w": array(4, 60)}, (1, 60), tmp_path)
    model = fnn.onnx.load(path)
    session, x = fnn.compile(model), array(3, 60)
    np.testing.assert_allclose(session(x), np.concatenate([model(x[k : k + 1]) for k in range(3)]), rtol=1e-5)


def test_networks_exported_and_loaded(tmp_path: Path) -> None:
    """The zoo's, shortcuts without parameters included, with the same answers as the model's own session."""
    for name, options in (("resnet8", {"shortcut": "identity"}), ("mobilenet", {}), ("lenet5", {"activation": "mish"})):
        model, shape = fnn.models.create(name, **options).eval(), fnn.models.input_shape(name)
        fnn.onnx.export(model, tmp_path / "m.onnx", shape)
        loaded = fnn.onnx.load(tmp_path / "m.onnx")
        assert loaded.input_shape == shape
        session, x = fnn.compile(loaded), array(2, *shape)
        np.testing.assert_allclose(session(x), model(x), rtol=1e-4, atol=1e-5)
        own = fnn.compile(model, shape)
        assert len(session._graph.steps) <= len(own._graph.steps) + 2 * (name == "resnet8")


def test_torch_export_compiles(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    layers = torch.nn.Conv2d(2, 6, 3, stride=2), torch.nn.BatchNorm2d(6), torch.nn.Hardswish(), torch.nn.Flatten()
    net = torch.nn.Sequential(*layers, torch.nn.Linear(24, 5), torch.nn.Softplus()).eval()
    x = torch.randn(2, *IMAGE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(net, (x,), tmp_path / "m.onnx", dynamo=False, input_names=["x"], dynamic_axes={"x": {0: "N"}})
    session = check(tmp_path / "m.onnx", IMAGE, tmp_path)
    np.testing.assert_allclose(session(x.numpy()), net(x).detach().numpy(), rtol=1e-4, atol=1e-5)


def test_every_operator_that_is_no_layer_has_a_step() -> None:
    elsewhere = {"Constant", "Dropout", "Flatten", "Identity", "Reshape", "Shape", "Split", "Squeeze", "Unsqueeze"}
    assert set(AS_THEY_ARE) <= set(fnn.onnx.OPERATORS) - elsewhere


REFUSED: dict[str, tuple[Nodes, dict[str, Any], tuple[Any, ...], str]] = {
    "a mean over samples": (
        [("Relu", "x", "h", {}), ("ReduceMean", "h,a", "y", {})],
        {"a": whole(0)},
        ("N", 3),
        r"the node of 'y' \(ReduceMean\): mixes samples",
    ),
    "samples last": ([("Transpose", "x", "y", {"perm": [1, 0]})], {}, ("N", 3), r"\(Transpose\): mixes samples"),
    "samples among the features": ([("Reshape", "x,s", "y", {})], {"s": whole(-1)}, ("N", 3), r"\(Reshape\): mixes"),
    "the number of samples": (
        [("Shape", "x", "s", {}), ("Gather", "s,zero", "n", {}), ("Gather", "x,n", "y", {"axis": 1})],
        {"zero": np.int64(0)},
        ("N", 30),
        "uses 'n', which depends on the number of samples",
    ),
    "softmax over samples": ([("Softmax", "x", "y", {"axis": 0})], {}, ("N", 3), "mixes samples"),
    "a product that does not fit": ([("MatMul", "x,w", "y", {})], {"w": array(4, 2)}, ("N", 3), r"MatMul|Linear"),
    "no input": ([("Identity", "c", "y", {})], {"c": array(2, 3)}, ("N", 3), "does not depend on its input"),
    "a length unknown": ([("Relu", "x", "y", {})], {}, ("N", "M"), "input_shape is None"),
    "samples without an element": (
        [("Slice", "x,s,s,a", "y", {})],
        {"s": whole(2), "a": whole(1)},
        ("N", 3),
        r"\(Slice\) makes samples of shape \(0,\)",
    ),
    "two results": (
        [("MaxPool", "x", "y,i", {"kernel_shape": [2]}), ("Gather", "i,z", "j", {})],
        {"z": np.int64(0)},
        ("N", 2, 4),
        "makes y, i; a step",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_compile_is_named(name: str, tmp_path: Path) -> None:
    nodes, arrays, x, message = REFUSED[name]
    model = fnn.onnx.load(file_of(nodes, arrays, x, tmp_path))
    with pytest.raises((ValueError, TypeError), match=message) as caught:
        fnn.compile(model)
    assert str(caught.value).startswith("compile: ")


def test_layers_of_files_train_still(tmp_path: Path) -> None:
    nodes, arrays, shape, _ = GRAPHS["MatMul and Add"]
    model = fnn.onnx.load(file_of(nodes, arrays, ("N", *shape), tmp_path))
    assert isinstance(model, nn.Sequential) and [type(layer) for layer in model] == [nn.Linear, nn.ReLU]
    np.testing.assert_array_equal(model[0].bias.data, B)
    with pytest.raises(TypeError, match="compile: input_shape is None"):
        fnn.compile(nn.Linear(3, 2))
