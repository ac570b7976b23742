"""ONNX files of others: chains and graphs, and files that are damaged or mean harm."""

from __future__ import annotations

import os
import tracemalloc
import warnings
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason="loading needs the package onnx")

from onnx import TensorProto, helper, numpy_helper

import fastnn as fnn
from fastnn import nn

RNG = np.random.default_rng(0)
WEIGHT, BIAS = RNG.normal(size=(4, 3)).astype(np.float32), RNG.normal(size=4).astype(np.float32)


def model(
    nodes: list[Any] | None = None,
    arrays: dict[str, Any] | None = None,
    x: tuple[Any, ...] = ("N", 3),
    rank: int = 2,
    opset: int = 17,
) -> Any:
    """A graph from x to y; a linear layer and relu unless told otherwise."""
    if nodes is None:
        nodes = [
            helper.make_node("Gemm", ["x", "fc.weight", "fc.bias"], ["h"], transB=1),
            helper.make_node("Relu", ["h"], ["y"], "act"),
        ]
        arrays = {"fc.weight": WEIGHT, "fc.bias": BIAS} | (arrays or {})
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * rank)],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in (arrays or {}).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def node(op: str, *inputs: str, **attributes: Any) -> Any:
    return helper.make_node(op, inputs, ["y"], "it", **attributes)


def written(proto: Any, folder: Path) -> Path:
    path = folder / "m.onnx"
    path.write_bytes(proto.SerializeToString())
    return path


X = RNG.normal(size=(5, 3)).astype(np.float32)


def test_a_chain_is_layers_that_train(tmp_path: Path) -> None:
    made = fnn.onnx.load(written(model(), tmp_path))
    assert isinstance(made, nn.Sequential) and [*dict(made.named_children())] == ["fc", "act"]
    assert not made.training and np.array_equal(made(X), nn.Sequential(made[0])(X).clip(0))
    made.train()
    dy = np.ones_like(made(X))
    assert made.backward(dy).shape == X.shape and made[0].weight.grad is not None


def test_a_graph_runs_its_nodes(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "W"], ["h"]),
        helper.make_node("Tanh", ["h"], ["s"]),
        helper.make_node("Mul", ["h", "s"], ["g"]),
        helper.make_node("Reshape", ["g", "forward"], ["y"]),
    ]
    arrays = {"W": WEIGHT.T, "forward": np.array([-1, 2, 2])}  # a name that is a method's too
    made = fnn.onnx.load(written(model(nodes, arrays, rank=3), tmp_path))
    assert not isinstance(made, nn.Sequential) and callable(made.forward)
    h = X @ WEIGHT.T
    assert set(made.state_dict()) == {"W", "forward"} and [*dict(made.named_parameters())] == ["W"]
    np.testing.assert_allclose(made(X), (h * np.tanh(h)).reshape(-1, 2, 2), rtol=1e-5)
    with pytest.raises(TypeError, match=r"m.onnx: x has dtype float64; expected float32"):
        made(X.astype(np.float64))
    with pytest.raises(ValueError, match=r"m.onnx: x has shape \(5, 4\); expected \(any, 3\)"):
        made(np.zeros((5, 4), np.float32))
    with pytest.raises(ValueError, match="got 2 inputs; expected 1: x"):
        made((X, X))


@pytest.mark.parametrize("name", ["steps", "inputs", "title", "input_shape", "training", "_parameters"])
def test_names_of_initializers_do_no_harm(name: str, tmp_path: Path) -> None:
    nodes = [helper.make_node("MatMul", ["x", "W"], ["h"]), helper.make_node("Reshape", ["h", name], ["y"])]
    made = fnn.onnx.load(written(model(nodes, {"W": WEIGHT.T, name: np.array([-1, 2, 2])}, rank=3), tmp_path))
    assert made.state_dict()[name].tolist() == [-1, 2, 2] and made(X).shape == (5, 2, 2)


def test_branches_are_layers_where_they_can_be(tmp_path: Path) -> None:
    block = nn.Residual(nn.Sequential(nn.Linear(4, 4), nn.Residual(nn.Tanh(), nn.Linear(4, 4)), nn.SiLU()), nn.ELU())
    net = nn.Sequential(nn.Linear(3, 4), block, nn.SiLU()).eval()
    fnn.onnx.export(net, tmp_path / "m.onnx", 3)
    made = fnn.onnx.load(tmp_path / "m.onnx")
    assert isinstance(made, nn.Sequential) and [type(layer) for layer in made] == [nn.Linear, nn.Residual, nn.SiLU]
    assert set(made.state_dict()) == set(net.state_dict()) and np.array_equal(made(X), net(X))
    for op, first, second in (("Add", "x", "x"), ("Mul", "a", "x"), ("Add", "a", "b"), ("Sub", "x", "a")):
        nodes = [
            helper.make_node("Tanh", ["x"], ["a"]),
            helper.make_node("Sigmoid", ["a"], ["b"]),
            helper.make_node(op, [first, second], ["y"]),
        ]
        a = np.tanh(X)
        values = {"x": X, "a": a, "b": 1 / (1 + np.exp(-a))}
        wanted = getattr(np, {"Add": "add", "Mul": "multiply", "Sub": "subtract"}[op])(values[first], values[second])
        np.testing.assert_allclose(fnn.onnx.load(written(model(nodes), tmp_path))(X), wanted, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", ["forward", "training", "keeps_input", "_modules", "fc", "", "a b", "fc.weight\n"])
def test_names_of_layers_do_no_harm(name: str, tmp_path: Path) -> None:
    proto = model()
    proto.graph.node[1].name = name
    made = fnn.onnx.load(written(proto, tmp_path))
    assert callable(made.forward) and [*dict(made.named_children())] == ["fc", "relu1"] and made(X).shape == (5, 4)


def test_deep_nesting_and_many_nodes(tmp_path: Path) -> None:
    """Neither recursion nor time runs out."""
    nodes, value = [], "x"
    for number in range(3000):
        nodes.append(helper.make_node("Tanh", [value], [value := f"v{number}"]))
    for number in reversed(range(-1, 2999)):
        nodes.append(helper.make_node("Add", [value, "x" if number < 0 else f"v{number}"], [value := f"s{number}"]))
    nodes[-1].output[0] = "y"
    assert fnn.onnx.load(written(model(nodes), tmp_path))(X).shape == X.shape


def test_torch_export_loads(tmp_path: Path) -> None:
    """The older exporter, which needs no further package."""
    torch = pytest.importorskip("torch")
    convolutions = torch.nn.Conv2d(1, 4, 3, padding=1), torch.nn.ReLU(), torch.nn.Conv2d(4, 4, 3), torch.nn.SiLU()
    parts = {"features": torch.nn.Sequential(*convolutions, torch.nn.MaxPool2d(2)), "flat": torch.nn.Flatten()}
    net = torch.nn.Sequential(OrderedDict(parts, fc=torch.nn.Linear(36, 5), soft=torch.nn.Softmax(1))).eval()
    x = torch.randn(2, 1, 8, 8)
    path = tmp_path / "torch.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(net, (x,), path, dynamo=False, input_names=["x"], dynamic_axes={"x": {0: "N"}})
    made = fnn.onnx.load(path)
    assert isinstance(made, nn.Sequential)
    assert set(made.state_dict()) == set(net.state_dict())
    np.testing.assert_allclose(made(x.numpy()), net(x).detach().numpy(), rtol=1e-5, atol=1e-6)


# Files that mean harm


def huge(proto: Any) -> None:
    proto.graph.initializer[0].dims[:] = [2**40, 2**20]


def negative(proto: Any) -> None:
    proto.graph.initializer[0].dims[:] = [-4, -3]


def few_numbers(proto: Any) -> None:
    tensor = proto.graph.initializer[1]
    tensor.ClearField("raw_data")
    tensor.float_data[:] = [1.0, 2.0]


def strange_type(proto: Any) -> None:
    proto.graph.initializer[0].data_type = 99


def texts(proto: Any) -> None:
    proto.graph.initializer[0].data_type = TensorProto.STRING


def integers(proto: Any) -> None:
    proto.graph.initializer[1].CopyFrom(numpy_helper.from_array(np.arange(4), "fc.bias"))


def twice(proto: Any) -> None:
    proto.graph.initializer.append(proto.graph.initializer[0])


def made_twice(proto: Any) -> None:
    proto.graph.node[0].output[0] = proto.graph.node[1].input[0] = "y"


def shadowed(proto: Any) -> None:
    proto.graph.node[0].output[0] = "x"


def cycle(proto: Any) -> None:
    proto.graph.node[0].input[0] = "y"


def nothing_makes(proto: Any) -> None:
    proto.graph.node[1].input[0] = "missing"


def no_such_output(proto: Any) -> None:
    proto.graph.output[0].name = "missing"


def foreign(proto: Any) -> None:
    proto.graph.node[1].domain, proto.graph.node[1].op_type = "com.microsoft", "FusedGelu"


def unknown(proto: Any) -> None:
    proto.graph.node[1].op_type = "Loop"


def old(proto: Any) -> None:
    proto.opset_import[0].version = 7


def no_opset(proto: Any) -> None:
    del proto.opset_import[:]


def wrong_attribute(proto: Any) -> None:
    proto.graph.node[0].attribute[0].CopyFrom(helper.make_attribute("transB", "yes"))


def other_attribute(proto: Any) -> None:
    proto.graph.node[1].attribute.append(helper.make_attribute("colour", 3))


def no_tensor(proto: Any) -> None:
    proto.graph.input[0].type.CopyFrom(helper.make_sequence_type_proto(proto.graph.input[0].type))


def sparse(proto: Any) -> None:
    proto.graph.sparse_initializer.add()


def empty(proto: Any) -> None:
    proto.Clear()


HARM: dict[Callable[[Any], None], str] = {
    huge: r"tensor 'fc.weight' of float32 and shape \(1099511627776, 1048576\) with 48 bytes; expected 46",
    negative: r"tensor 'fc.weight' of shape \(-4, -3\)",
    few_numbers: r"tensor 'fc.bias' of shape \(4,\) with 2 numbers; expected 4",
    strange_type: "tensor 'fc.weight' of data type 99",
    texts: "tensor 'fc.weight' of data type 8",
    integers: r"\(Gemm\) that uses 'fc.bias', a tensor\(int64\); expected tensor\(float\)",
    twice: "two initializers 'fc.weight'",
    made_twice: "makes the value 'y' twice",
    shadowed: "makes the value 'x' twice",
    cycle: r"\(Gemm\) that uses 'y', which comes later, or from a cycle",
    nothing_makes: r"'act' \(Relu\) that uses 'missing', which nothing makes",
    no_such_output: "output 'missing', which nothing makes",
    foreign: "uses the operator com.microsoft.FusedGelu; expected some of Abs, Add",
    unknown: "uses the operator Loop; expected",
    old: "uses opset 7; expected 13 to 28",
    no_opset: "uses opset of no version",
    wrong_attribute: "not valid ONNX: (?s:.)*transB",
    other_attribute: "not valid ONNX: (?s:.)*colour",
    no_tensor: "input 'x', which is no tensor",
    sparse: "sparse initializers",
    empty: "holds no graph",
}


@pytest.mark.parametrize("harm", HARM, ids=lambda harm: harm.__name__)
def test_harm_is_named(harm: Callable[[Any], None], tmp_path: Path) -> None:
    proto = model()
    harm(proto)
    path = written(proto, tmp_path)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=HARM[harm]) as caught:
            fnn.onnx.load(path)
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()
    assert str(caught.value).startswith(str(path))


def sized(*lengths: int) -> Any:
    return np.array(lengths, np.int64)


IMAGE = ("N", 1, 8, 8)
ONE = np.ones((1, 1, 1, 1), np.float32)
BOMBS = {  # what only shows when it runs, and what it says
    "pad": (node("Pad", "x", "p"), {"p": sized(0, 0, 0, 0, 0, 0, 2**30, 2**30)}, "expected at most"),
    "pad overflow": (node("Pad", "x", "p"), {"p": sized(0, 0, 0, 0, 2**62, 0, 2**62, 2**62)}, "expected at most"),
    "convolution": (node("Conv", "x", "w", pads=[2**30] * 4), {"w": ONE}, "expected at most|padded"),
    "pool": (node("MaxPool", "x", kernel_shape=[2**30] * 2, pads=[2**29] * 4), {}, "expected at most|window"),
    "sum": (node("Add", "x", "w"), {"w": np.ones((1, 200000, 1, 1), np.float32)}, "expected at most"),
    "reshape": (node("Reshape", "x", "s"), {"s": sized(2**40, 2**40)}, "reshape"),
    "gather": (node("Gather", "x", "i"), {"i": sized(10**9)}, "bounds"),
    "axis": (node("LayerNormalization", "x", "w", axis=2**31), {"w": np.ones(8, np.float32)}, "axis is 2147483648"),
    "slice axis": (node("Slice", "x", "a", "b", "i"), {"a": sized(0), "b": sized(1), "i": sized(99)}, "range"),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_bombs_do_not_go_off(bomb: str, tmp_path: Path) -> None:
    nodes, arrays, message = BOMBS[bomb]
    path = written(model([nodes], arrays, IMAGE, 4), tmp_path)
    x = np.zeros((100, 1, 8, 8), np.float32)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=message):
            fnn.onnx.load(path)(x)
        assert tracemalloc.get_traced_memory()[1] < 40_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", ["strides", "dilations", "kernel_shape", "group"])
@pytest.mark.parametrize("value", [0, -1, 2**31])
def test_sizes_of_windows(name: str, value: int, tmp_path: Path) -> None:
    made = node("Conv", "x", "w", **{name: value if name == "group" else [value, 1]})
    with pytest.raises(ValueError, match=rf"'it' \(Conv\) with {name} .*{value}.*; expected at least 1"):
        fnn.onnx.load(written(model([made], {"w": ONE}, IMAGE, 4), tmp_path))


def external(folder: Path, location: str, **entries: str) -> Path:
    proto = model()
    tensor = proto.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **entries}.items():
        tensor.external_data.add(key=key, value=value)
    return written(proto, folder)


def test_external_data(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    (folder / "below").mkdir(parents=True)
    (folder / "below" / "data").write_bytes(bytes(16) + WEIGHT.tobytes())
    made = fnn.onnx.load(external(folder, "below/data", offset="16", length="48"))
    assert np.array_equal(made.state_dict()["fc.weight"], WEIGHT)
    for entries in ({"offset": "17"}, {"offset": "-1"}, {"length": "47"}, {"length": str(2**60)}, {"offset": "a"}, {}):
        path = external(folder, "below/data", **entries)
        if entries:
            with pytest.raises(ValueError, match="tensor 'fc.weight'"):
                fnn.onnx.load(path)
        else:  # from the beginning, as long as the shape says
            assert fnn.onnx.load(path).state_dict()["fc.weight"][0, 0] == 0


@pytest.mark.parametrize("place", ["../secret", "/etc/hostname", "link", "missing", "", ".", "a\0b"])
def test_external_data_elsewhere(place: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "secret").write_bytes(WEIGHT.tobytes())
    os.symlink(tmp_path / "secret", folder / "link")
    with pytest.raises(ValueError, match=r"m.onnx: has the tensor 'fc.weight' in .*(folder|no file there)"):
        fnn.onnx.load(external(folder, place))


def loads_or_says(path: Path, data: bytes) -> bool:
    """A damaged file loads, for not all damage can be seen, or is a ValueError that names it."""
    path.write_bytes(data)
    try:
        fnn.onnx.load(path)
    except ValueError as error:
        assert str(error).startswith(str(path))
        return False
    return True


def test_truncated_files(tmp_path: Path) -> None:
    fnn.onnx.export(fnn.models.create("resnet8", input_shape=(3, 8, 8)), tmp_path / "whole", (3, 8, 8))
    whole = (tmp_path / "whole").read_bytes()
    assert loads_or_says(tmp_path / "whole", whole)
    for end in [*range(0, 64), *range(64, len(whole), len(whole) // 60)]:
        assert not loads_or_says(tmp_path / "cut", whole[:end])


def test_damaged_files(tmp_path: Path) -> None:
    """Bytes changed at random, in a file of few weights, so that the structure is hit."""
    parts = nn.Conv2d(1, 2, 3, padding=1), nn.BatchNorm2d(2), nn.ReLU(), nn.AvgPool2d(2, ceil_mode=True)
    fnn.onnx.export(nn.Sequential(*parts, nn.Residual(nn.GroupNorm(1, 2)), nn.Maxout(2)), tmp_path / "w", (1, 5, 5))
    whole, rng = np.frombuffer((tmp_path / "w").read_bytes(), np.uint8), np.random.default_rng(0)
    outcomes = []
    for _ in range(600):
        data = whole.copy()
        data[rng.integers(len(data), size=rng.integers(1, 4))] = rng.choice([0, 1, 127, 128, 255, rng.integers(256)])
        outcomes.append(loads_or_says(tmp_path / "m", data.tobytes()))
    assert 0 < sum(outcomes) < 600


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        fnn.onnx.load(tmp_path / "missing.onnx")
