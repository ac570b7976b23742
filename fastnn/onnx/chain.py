"""A graph that is a chain, as layers."""

from __future__ import annotations

import re
from collections import OrderedDict
from typing import Any

import numpy as np

from fastnn import nn
from fastnn.nn.memory import Array
from fastnn.nn.module import Module
from fastnn.onnx.reading import Contents, Node

_WIDEST = 64  # padding
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


def as_layers(contents: Contents) -> nn.Sequential | None:
    """A Sequential that does what the graph does; None if the graph is no chain, or has a node that is no layer."""
    if len(contents.inputs) != 1 or len(contents.outputs) != 1:
        return None
    value, dtype, shape = contents.inputs[0]
    if shape is None or dtype.kind in "biu":
        return None
    known, rank = dict(contents.arrays), len(shape)
    parts: OrderedDict[str, Module] = OrderedDict()
    for node in contents.nodes:
        if not node.inputs or node.inputs[0] != value or any(node.outputs[1:]):
            return None
        if any(name and name not in known for name in node.inputs[1:]):
            return None
        constants = [known[name] if name else None for name in node.inputs[1:]]
        value = node.outputs[0]
        if node.op in ("Identity", "Dropout"):
            continue
        found = _layer(node, rank, constants)
        if found is None:
            return None
        layer, state = found
        missing = layer.load_state_dict(state, strict=False)
        if missing.unexpected_keys or set(missing.missing_keys) - {"num_batches_tracked"}:
            return None
        rank = 2 if node.op in ("Gemm", "Flatten") else rank
        parts[_name(node, bool(state), parts)] = layer
    return nn.Sequential(parts) if value == contents.outputs[0] and parts else None


def _name(node: Node, learns: bool, taken: OrderedDict[str, Module]) -> str:
    """What the layer is called: as its weight in the file, else as the node, if that is fit for a module's name."""
    weight = node.inputs[1] if learns else ""
    name = weight.removesuffix(".weight") if weight.endswith(".weight") else node.name
    fit = re.fullmatch(r"[A-Za-z0-9]\w*(\.\w+)*", name) and not hasattr(nn.Sequential, name) and name != "training"
    return name if fit and name not in taken else _free(str(len(taken)), taken)


def _free(name: str, taken: OrderedDict[str, Module]) -> str:
    return name if name not in taken else _free(f"{name}_", taken)


def _layer(node: Node, rank: int, constants: list[Array | None]) -> Made | None:
    """The layer of one node whose input has `rank` axes."""
    if node.op in _PLAIN:
        kind, arguments = _PLAIN[node.op]
        return kind(**{name: node.get(*source) for name, source in arguments.items()}), {}
    make = _MAKERS.get(node.op)
    found = None if make is None else make(node, rank, constants)
    return found if found is None or isinstance(found, tuple) else (found, {})


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
    "MaxPool": _pool,
    "PRelu": _prelu,
    "Selu": _selu,
}
