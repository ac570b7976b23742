"""A graph that is a chain, of residual blocks too, as layers."""

from __future__ import annotations

import re
from collections import Counter, OrderedDict
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from fastnn import nn
from fastnn.nn.memory import Array
from fastnn.nn.module import Module
from fastnn.onnx.reading import Contents, Node

_WIDEST = 64  # padding
_DEEPEST = 20  # residual blocks in each other
_EMPTY = nn.Sequential()
Made = tuple[Module, dict[str, Array]]  # a layer, and its state

_PLAIN: dict[str, tuple[type[Module], dict[str, tuple[str, Any]]]] = {  # the layer, its arguments from attributes
    "Celu": (nn.CELU, {"alpha": ("alpha", 1.0)}),
    "Cos": (nn.Cos, {}),
    "Elu": (nn.ELU, {"alpha": ("alpha", 1.0)}),
    "Gelu": (nn.GELU, {"approximate": ("approximate", "none")}),
    "HardSwish": (nn.Hardswish, {}),
    "LeakyRelu": (nn.LeakyReLU, {"negative_slope": ("alpha", 0.01)}),
    "LogSoftmax": (nn.LogSoftmax, {"dim": ("axis", -1)}),
    "Mish": (nn.Mish, {}),
    "Relu": (nn.ReLU, {}),
    "Sigmoid": (nn.Sigmoid, {}),
    "Sin": (nn.Sin, {}),
    "Softmax": (nn.Softmax, {"dim": ("axis", -1)}),
    "Softplus": (nn.Softplus, {}),
    "Softsign": (nn.Softsign, {}),
    "Swish": (nn.Swish, {"beta": ("alpha", 1.0)}),
    "Tanh": (nn.Tanh, {}),
}


@dataclass(slots=True)
class _Run:
    """Layers one after the other, from a value on."""

    origin: str
    rank: int
    parts: OrderedDict[str, Module] = field(default_factory=OrderedDict)
    depth: int = 0  # of residual blocks in each other


def as_layers(contents: Contents) -> nn.Sequential | None:
    """A Sequential that does what the graph does; None for a graph with a node that is no layer, or other branches.

    Branches are the two ways of a residual block, which Add joins, and x sigmoid(x).
    """
    if len(contents.inputs) != 1 or len(contents.outputs) != 1:
        return None
    value, dtype, shape = contents.inputs[0]
    if shape is None or dtype.kind in "biu":
        return None
    uses = Counter(name for node in contents.nodes for name in node.inputs)
    uses.update(contents.outputs)
    runs = {value: _Run(value, len(shape))}
    for node in contents.nodes:
        node = _data_first(node, contents.arrays)
        if any(node.outputs[1:]) or not node.inputs or node.inputs[0] not in runs:
            return None
        branches = [_taken(runs, name, uses[name]) for name in node.inputs if name in runs]
        run = branches[0] if len(branches) == 1 else _joined(node, branches, runs, uses)
        if run is None or (len(branches) == 1 and not _extended(run, node, contents.arrays)):
            return None
        runs[node.outputs[0]] = run
    run = runs.get(contents.outputs[0])
    return _sequential(run.parts) if run is not None and run.origin == value and run.parts else None


def _data_first(node: Node, arrays: dict[str, Array]) -> Node:
    """A sum with its constant second."""
    turned = node.op == "Add" and len(node.inputs) == 2 and node.inputs[0] in arrays
    return replace(node, inputs=node.inputs[::-1]) if turned else node


def _taken(runs: dict[str, _Run], name: str, uses: int) -> _Run:
    """The layers that make a value; where others use it too, a branch that begins there."""
    return runs.pop(name) if uses == 1 else _Run(name, runs[name].rank)


def _extended(run: _Run, node: Node, arrays: dict[str, Array]) -> bool:
    """Add the layer of a node; False if there is none."""
    if any(name and name not in arrays for name in node.inputs[1:]):
        return False
    if node.op in ("Identity", "Dropout"):
        return True
    constants = [arrays[name] if name else None for name in node.inputs[1:]]
    if node.op == "Add" and _biased(run, constants):
        return True
    layer = layer_of(node, run.rank, constants)
    if layer is None:
        return False
    run.rank = 2 if node.op in ("Gemm", "Flatten") else run.rank
    name, last = _name(node, bool(layer.state_dict()), run.parts), next(reversed(run.parts), "")
    if name == f"{last}.activation" and isinstance(block := run.parts[last], nn.Residual):
        block.activation = layer
    else:
        run.parts[name] = layer
    return True


def _biased(run: _Run, constants: list[Array | None]) -> bool:
    """Give a linear layer, of MatMul, the bias that an Add after it is."""
    name, addend = next(reversed(run.parts), ""), constants[0]
    layer = run.parts.get(name)
    if not isinstance(layer, nn.Linear) or layer.bias is not None or addend is None:
        return False
    weight = layer.weight.data
    if addend.dtype != weight.dtype or addend.shape not in ((len(weight),), (1, len(weight))):
        return False
    made = nn.Linear(weight.shape[1], len(weight), dtype=weight.dtype)
    made.load_state_dict(_state(weight, addend.reshape(-1)))
    run.parts[name] = made
    return True


def _joined(node: Node, branches: list[_Run], runs: dict[str, _Run], uses: Counter[str]) -> _Run | None:
    """The layers up to where two branches began, and what they are together."""
    origin = branches[0].origin
    if len(branches) != 2 or len(node.inputs) != 2 or branches[1].origin != origin or uses[origin] != 2:
        return None
    body, side = branches if branches[0].parts else branches[::-1]
    outer, depth = runs.pop(origin, None), 1 + max(body.depth, side.depth)
    if outer is None or not body.parts or depth > _DEEPEST or body.rank != side.rank:
        return None
    name = _name(node, False, outer.parts)
    if node.op == "Add":
        shortcut = _way(side.parts, f"{name}.shortcut") if side.parts else None
        outer.parts[name] = nn.Residual(_way(body.parts, f"{name}.body"), shortcut)
    elif node.op == "Mul" and not side.parts and [type(each) for each in body.parts.values()] == [nn.Sigmoid]:
        outer.parts[name] = nn.SiLU()
    else:
        return None
    outer.rank, outer.depth = body.rank, max(outer.depth, depth)
    return outer


def _way(parts: OrderedDict[str, Module], path: str) -> Module:
    """One way of a residual block; the path of the way is taken off its layers' names."""
    if list(parts) == [path]:
        return parts[path]
    short = OrderedDict((name.removeprefix(f"{path}."), module) for name, module in parts.items())
    return _sequential(short if len(short) == len(parts) and all(map(_fits, short)) else parts)


def _sequential(parts: OrderedDict[str, Module]) -> nn.Sequential:
    """The layers, one Sequential inside another where names have dots; numbered where such names are out of order."""
    groups: list[tuple[str, OrderedDict[str, Module]]] = []
    for name, module in parts.items():
        head, _, rest = name.partition(".")
        if not groups or groups[-1][0] != head:
            groups.append((head, OrderedDict()))
        groups[-1][1][rest] = module
    if len(dict(groups)) < len(groups) or any("" in inner and len(inner) > 1 for _, inner in groups):
        return nn.Sequential(*parts.values())
    return nn.Sequential(OrderedDict((head, inner.get("") or _sequential(inner)) for head, inner in groups))


def _fits(name: str) -> bool:
    """Whether this can be a module's path: parts between dots that are no attributes of a Sequential."""
    parts = name.split(".")
    return len(parts) <= _DEEPEST and all(
        re.fullmatch(r"[A-Za-z0-9]\w*", part) and not hasattr(_EMPTY, part) for part in parts
    )


def _name(node: Node, learns: bool, taken: OrderedDict[str, Module]) -> str:
    """What the layer is called: as its weight in the file, else as the node, if that will do."""
    weight = node.inputs[1] if learns else ""
    name = weight.removesuffix(".weight") if weight.endswith(".weight") else node.name
    if not _fits(name) or name in taken:
        path = next(reversed(taken), "").rpartition(".")
        name = f"{path[0]}{path[1]}{node.op.lower()}{len(taken)}"
        while name in taken:
            name += "_"
    return name


def layer_of(node: Node, rank: int, constants: list[Array | None]) -> Module | None:
    """The layer that does what one node does to an input of `rank` axes; None if there is none."""
    if node.op in _PLAIN:
        kind, arguments = _PLAIN[node.op]
        return kind(**{name: node.get(*source) for name, source in arguments.items()})
    make = _MAKERS.get(node.op)
    found: Module | Made | None = None if make is None else make(node, rank, constants)
    if not isinstance(found, tuple):
        return found
    layer, state = found
    keys = layer.load_state_dict(state, strict=False)
    return None if keys.unexpected_keys or set(keys.missing_keys) - {"num_batches_tracked"} else layer


def _state(*arrays: Array | None) -> dict[str, Array]:
    names = ("weight", "bias", "running_mean", "running_var")
    return {name: array for name, array in zip(names, arrays, strict=False) if array is not None}


def _gemm(node: Node, rank: int, constants: list[Array | None]) -> Made | None:
    right, addend = (*constants, None)[:2]
    if right is None or right.ndim != 2 or node.get("transA", 0) or {node.get("alpha", 1), node.get("beta", 1)} != {1}:
        return None
    weight = right if node.get("transB", 0) else right.T
    if addend is not None and addend.size != len(weight) or addend is not None and addend.shape[-1:] != (len(weight),):
        return None
    bias = None if addend is None else addend.reshape(-1)
    return nn.Linear(weight.shape[1], len(weight), bias is not None, weight.dtype), _state(weight, bias)


def _matmul(node: Node, rank: int, constants: list[Array | None]) -> Made | None:
    right = constants[0]
    if right is None or right.ndim != 2 or rank < 2:
        return None
    return nn.Linear(len(right), right.shape[1], False, right.dtype), _state(np.ascontiguousarray(right.T))


def _sliding(node: Node, dims: int) -> tuple[Any, Any, Any] | None:
    """Stride, pairs of padding and dilation; None for what a graph, which checks the sizes of results, is to run."""
    pads = node.get("pads", [0] * 2 * dims)
    auto = node.get("auto_pad", "NOTSET")
    if auto not in ("NOTSET", "VALID") or len(pads) != 2 * dims or max(pads, default=0) > _WIDEST:
        return None
    pads = [0] * 2 * dims if auto == "VALID" else pads
    stride, dilation = node.get("strides", [1] * dims), node.get("dilations", [1] * dims)
    padding = [(a, b) for a, b in zip(pads[:dims], pads[dims:], strict=True)]
    return (tuple(stride), tuple(padding), tuple(dilation)) if len(stride) == len(dilation) == dims else None


def _conv(node: Node, rank: int, constants: list[Array | None]) -> Made | None:
    weight, bias = (*constants, None)[:2]
    sliding = _sliding(node, rank - 2)
    if weight is None or weight.ndim != rank or rank not in (3, 4) or sliding is None:
        return None
    stride, padding, dilation = sliding
    if any(before != after for before, after in padding):
        return None
    groups, kind = node.get("group", 1), nn.Conv1d if rank == 3 else nn.Conv2d
    channels, kernel = (weight.shape[1] * groups, len(weight)), weight.shape[2:]
    padding = tuple(before for before, _ in padding)
    layer = kind(*channels, kernel, stride, padding, dilation, groups, bias is not None, dtype=weight.dtype)
    return layer, _state(weight, bias)


def _pool(node: Node, rank: int, constants: list[Array | None]) -> Module | None:
    dims, sliding = rank - 2, _sliding(node, rank - 2)
    if dims not in (1, 2, 3) or sliding is None:
        return None
    (stride, padding, dilation), kernel, ceil = sliding, tuple(node.get("kernel_shape")), bool(node.get("ceil_mode", 0))
    given: dict[str, Any] = {"stride": stride, "padding": padding, "ceil_mode": ceil}
    if node.op == "MaxPool":
        kind = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)[dims - 1]
        made: Module = kind(kernel, dilation=dilation, **given)
        return made
    if set(dilation) != {1}:
        return None
    average = (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)[dims - 1]
    return average(kernel, count_include_pad=bool(node.get("count_include_pad", 0)), **given)


def _global_average(node: Node, rank: int, constants: list[Array | None]) -> Module | None:
    kinds = (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)
    return kinds[rank - 3](1) if rank in (3, 4, 5) else None


def _flatten(node: Node, rank: int, constants: list[Array | None]) -> Module | None:
    return nn.Flatten() if node.get("axis", 1) == 1 and rank > 1 else None


def _batch_norm(node: Node, rank: int, constants: list[Array | None]) -> Made | None:
    kinds: dict[int, Any] = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}
    if rank not in kinds or node.get("training_mode", 0):
        return None
    return _norm(kinds[rank], constants, lambda size: (size,), node)


def _norm(kind: Any, constants: list[Array | None], arguments: Any, node: Node) -> Made | None:
    weight = constants[0]
    if weight is None or weight.ndim != 1:
        return None
    bias = len(constants) > 1 and constants[1] is not None
    layer = kind(*arguments(len(weight)), eps=node.get("epsilon", 1e-5), dtype=weight.dtype, bias=bias)
    return layer, _state(*constants)


def _group_norm(node: Node, rank: int, constants: list[Array | None]) -> Made | None:
    return None if node.opset < 21 else _norm(nn.GroupNorm, constants, lambda n: (node.get("num_groups"), n), node)


def _layer_norm(node: Node, rank: int, constants: list[Array | None]) -> Made | None:
    if node.get("axis", -1) not in (-1, rank - 1):
        return None
    return _norm(nn.LayerNorm, constants, lambda size: (size,), node)


def _clip(node: Node, rank: int, constants: list[Array | None]) -> Module | None:
    low, high = (None if each is None or each.size != 1 else each.item() for each in (*constants, None, None)[:2])
    if low is None or high is None or not low < high:
        return None
    return nn.ReLU6() if (low, high) == (0, 6) else nn.Hardtanh(low, high)


def _hard_sigmoid(node: Node, rank: int, constants: list[Array | None]) -> Module | None:
    given = np.float32(node.get("alpha", 0.2)), node.get("beta", 0.5)
    return nn.Hardsigmoid() if given == (np.float32(1 / 6), 0.5) else None


def _selu(node: Node, rank: int, constants: list[Array | None]) -> Module | None:
    return None if node.attributes else nn.SELU()


def _prelu(node: Node, rank: int, constants: list[Array | None]) -> Made | None:
    """One slope, or one of each channel: (C, 1, 1) beside (N, C, H, W)."""
    slope = constants[0]
    if slope is None or (slope.size != 1 and (slope.ndim != rank - 1 or slope.size != len(slope))):
        return None
    return nn.PReLU(slope.size, dtype=slope.dtype), _state(slope.reshape(-1))


_MAKERS: dict[str, Any] = {
    "AveragePool": _pool,
    "BatchNormalization": _batch_norm,
    "Clip": _clip,
    "Conv": _conv,
    "Flatten": _flatten,
    "Gemm": _gemm,
    "GlobalAveragePool": _global_average,
    "GroupNormalization": _group_norm,
    "HardSigmoid": _hard_sigmoid,
    "LayerNormalization": _layer_norm,
    "MatMul": _matmul,
    "MaxPool": _pool,
    "PRelu": _prelu,
    "Selu": _selu,
}
