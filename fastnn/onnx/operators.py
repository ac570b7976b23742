"""ONNX's operators over NumPy arrays, for inference: activations, norms, pools, convolutions by fastnn's functions.

Each takes the node and its inputs, None for one that is left out, and returns its result, or a tuple of them. What is
written here is the difference between the operator's specification and the function.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import fastnn
from fastnn.nn.memory import Array
from fastnn.onnx.arrays import ARRAYS, affordable
from fastnn.onnx.reading import Node
from fastnn.sliding import padding_per_axis

Operator = Callable[..., Any]
fnn: Any = fastnn  # whose functions are made from the table


# Activations


def _prelu(n: Node, x: Array, slope: Array) -> Any:
    return fnn.prelu(x, slope.reshape((1,) * (x.ndim - slope.ndim) + slope.shape))


def _selu(n: Node, x: Array) -> Any:
    if not n.attributes:
        return fnn.selu(x)
    alpha, gamma = n.get("alpha", 1.67326319217681884765625), n.get("gamma", 1.05070102214813232421875)
    return x.dtype.type(gamma) * fnn.elu(x, alpha)


def _hard_sigmoid(n: Node, x: Array) -> Any:
    kind, alpha, beta = x.dtype.type, n.get("alpha", 0.2), n.get("beta", 0.5)
    if np.float32(alpha) == np.float32(1 / 6) and beta == 0.5:
        return fnn.hardsigmoid(x)
    return np.clip(kind(alpha) * x + kind(beta), kind(0), kind(1))


def _clip(n: Node, x: Array, low: Array | None = None, high: Array | None = None) -> Any:
    x = x if low is None else np.maximum(x, low.reshape(()))
    return x if high is None else np.minimum(x, high.reshape(()))


def _gelu(n: Node, x: Array) -> Any:
    return fnn.gelu_tanh(x) if n.get("approximate") == "tanh" else fnn.gelu(x)


# Normalisation and dropout


def _batch_norm(n: Node, x: Array, scale: Array, bias: Array, mean: Array, var: Array) -> Any:
    if n.get("training_mode", 0):
        raise ValueError("training_mode is 1; expected 0, for inference")
    wide = [array.astype(_wide(x), copy=False) for array in (scale, bias, mean, var)]
    return fnn.batch_norm_infer(x, *wide, n.get("epsilon", 1e-5))


def _wide(x: Array) -> np.dtype[Any]:
    """The dtype of parameters beside x."""
    return np.dtype(np.float32) if x.dtype.itemsize == 2 else x.dtype


def _layer_norm(n: Node, x: Array, scale: Array, bias: Array | None = None) -> Any:
    axis = _axis(n.get("axis", -1), x)
    shape = x.shape[axis:]
    affine = (None if each is None else np.broadcast_to(each, shape).astype(_wide(x)) for each in (scale, bias))
    y, mean, inv_std = fnn.layer_norm(x, *affine, axis=axis, eps=n.get("epsilon", 1e-5))
    kept = x.shape[:axis] + (1,) * (x.ndim - axis)
    return y, mean.reshape(kept), inv_std.reshape(kept)


def _rms_norm(n: Node, x: Array, scale: Array) -> Any:
    axis = _axis(n.get("axis", -1), x)
    return fnn.rms_norm(
        x, np.broadcast_to(scale, x.shape[axis:]).astype(_wide(x)), axis=axis, eps=n.get("epsilon", 1e-5)
    )[0]


def _group_norm(n: Node, x: Array, scale: Array, bias: Array) -> Any:
    groups, wide = n.get("num_groups"), _wide(x)
    if n.opset < 21:  # scale and bias were those of groups
        scale, bias = (each.repeat(x.shape[1] // groups) for each in (scale, bias))
    return fnn.group_norm(x, groups, scale.astype(wide), bias.astype(wide), n.get("epsilon", 1e-5))[0]


def _instance_norm(n: Node, x: Array, scale: Array, bias: Array) -> Any:
    return fnn.instance_norm(x, scale.astype(_wide(x)), bias.astype(_wide(x)), n.get("epsilon", 1e-5))[0]


def _dropout(n: Node, x: Array, ratio: Array | None = None, training: Array | None = None) -> Any:
    if training is not None and training and (ratio is None or ratio != 0):
        raise ValueError("training_mode is true; expected false, for inference")
    return x, np.ones(x.shape if len(n.outputs) > 1 else (), np.bool_)


# Pools, convolutions, products


def _axis(axis: int, x: Array) -> int:
    """An axis as a number from 0 on."""
    if not -x.ndim <= axis < x.ndim:
        raise ValueError(f"axis is {axis} for an input of shape {x.shape}")
    return axis % x.ndim


def windows(n: Node, x: Array, kernel: Sequence[int]) -> dict[str, Any]:
    """Stride, padding and dilation: one value for each spatial axis."""
    space = x.ndim - 2
    if space not in (1, 2, 3) or len(kernel) != space:
        raise ValueError(f"has an input of shape {x.shape}; expected (N, C, *spatial), spatial as the kernel {kernel}")
    stride, dilation = n.get("strides", [1] * space), n.get("dilations", [1] * space)
    auto, pads = n.get("auto_pad", "NOTSET"), n.get("pads", [0] * 2 * space)
    if len(stride) != space or len(dilation) != space or len(pads) != 2 * space:
        raise ValueError(f"has strides {stride}, dilations {dilation} and pads {pads}; expected {space} axes")
    padding = tuple(zip(pads[:space], pads[space:], strict=True))
    if auto == "VALID":
        padding = ((0, 0),) * space
    elif auto != "NOTSET":
        pairs = padding_per_axis(n.op, "same", x.shape[2:], kernel, stride, dilation)
        padding = pairs if auto == "SAME_UPPER" else tuple(pair[::-1] for pair in pairs)
    lengths = [length + sum(pair) for length, pair in zip(x.shape[2:], padding, strict=True)]
    affordable((*x.shape[:2], *lengths), x)
    return {"stride": tuple(stride), "padding": padding, "dilation": tuple(dilation)}


def _max_pool(n: Node, x: Array) -> Any:
    kernel = tuple(n.get("kernel_shape"))
    options: dict[str, Any] = windows(n, x, kernel)
    pool = getattr(fnn, f"max_pool{len(kernel)}d")
    options["ceil_mode"] = bool(n.get("ceil_mode", 0))
    z = x.astype(np.float32) if x.dtype.kind in "iu" else x  # of 8 bits, which float32 holds
    if len(n.outputs) < 2:
        return pool(z, kernel, **options).astype(x.dtype, copy=False)
    y, indices = pool(z, kernel, **options, return_indices=True)
    # fastnn counts within the plane, the operator over the whole tensor, and in Fortran order if storage_order is 1
    plane = x.shape[2:]
    if n.get("storage_order", 0):
        indices = np.ravel_multi_index(np.unravel_index(indices, plane)[::-1], plane[::-1])
    planes = np.arange(x.shape[0] * x.shape[1]).reshape(x.shape[:2] + (1,) * len(plane))
    return y.astype(x.dtype, copy=False), indices + planes * math.prod(plane)


def _average_pool(n: Node, x: Array) -> Any:
    kernel = tuple(n.get("kernel_shape"))
    options: dict[str, Any] = windows(n, x, kernel)
    dilation = options.pop("dilation")
    if any(step > 1 for step in dilation):
        options["dilation"] = dilation
    options |= {"ceil_mode": bool(n.get("ceil_mode", 0)), "count_include_pad": bool(n.get("count_include_pad", 0))}
    return getattr(fnn, f"avg_pool{len(kernel)}d")(x, kernel, **options)


def _global_pool(n: Node, x: Array) -> Any:
    if x.ndim < 3:
        raise ValueError(f"has an input of shape {x.shape}; expected (N, C, *spatial)")
    shape = x.shape[:2] + (1,) * (x.ndim - 2)
    if n.op == "GlobalMaxPool":
        return np.max(x, axis=tuple(range(2, x.ndim)), keepdims=True)
    return fnn.global_avg_pool(x).reshape(shape)


def _conv(n: Node, x: Array, weight: Array, bias: Array | None = None) -> Any:
    if weight.ndim not in (3, 4):
        raise ValueError(f"has a weight of shape {weight.shape}; expected a convolution over one or two axes")
    function = fnn.conv1d if weight.ndim == 3 else fnn.conv2d
    return function(x, weight, bias, **windows(n, x, weight.shape[2:]), groups=n.get("group", 1))


def _gemm(n: Node, left: Array, right: Array, addend: Array | None = None) -> Any:
    left = left.T if n.get("transA", 0) else left
    weight, alpha, beta = right if n.get("transB", 0) else right.T, n.get("alpha", 1.0), n.get("beta", 1.0)
    weight = weight if alpha == 1 else weight * weight.dtype.type(alpha)
    if addend is None:
        return fnn.linear(left, weight)
    addend = addend if beta == 1 else addend * addend.dtype.type(beta)
    if addend.ndim == 2 and addend.shape[0] > 1:
        return fnn.linear(left, weight) + addend
    return fnn.linear(left, weight, np.broadcast_to(addend.reshape(-1), (len(weight),)))


OPERATORS: dict[str, Operator] = {
    **ARRAYS,
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_norm,
    "Celu": lambda n, x: fnn.celu(x, n.get("alpha", 1.0)),
    "Clip": _clip,
    "Conv": _conv,
    "Cos": lambda n, x: fnn.cos(x),
    "Dropout": _dropout,
    "Elu": lambda n, x: fnn.elu(x, n.get("alpha", 1.0)),
    "Gelu": _gelu,
    "Gemm": _gemm,
    "GlobalAveragePool": _global_pool,
    "GlobalMaxPool": _global_pool,
    "GroupNormalization": _group_norm,
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": lambda n, x: fnn.hardswish(x),
    "InstanceNormalization": _instance_norm,
    "LayerNormalization": _layer_norm,
    "LeakyRelu": lambda n, x: fnn.leaky_relu(x, n.get("alpha", 0.01)),
    "LogSoftmax": lambda n, x: fnn.log_softmax(x, axis=n.get("axis", -1)),
    "MaxPool": _max_pool,
    "Mish": lambda n, x: fnn.mish(x),
    "PRelu": _prelu,
    "RMSNormalization": _rms_norm,
    "Relu": lambda n, x: fnn.relu(x) if x.dtype.kind == "f" else np.maximum(x, x.dtype.type(0)),
    "Selu": _selu,
    "Sigmoid": lambda n, x: fnn.sigmoid(x),
    "Sin": lambda n, x: fnn.sin(x),
    "Softmax": lambda n, x: fnn.softmax(x, axis=n.get("axis", -1)),
    "Softplus": lambda n, x: fnn.softplus(x),
    "Softsign": lambda n, x: fnn.softsign(x),
    "SwiGLU": lambda n, a, b: fnn.swish(a, n.get("alpha", 1.0)) * b,
    "Swish": lambda n, x: fnn.swish(x, n.get("alpha", 1.0)),
    "Tanh": lambda n, x: fnn.tanh(x),
}
