"""ONNX operators as calls of fastnn: what the node tests that the onnx package ships are run with.

`run(node, inputs)` evaluates one node. Inputs and attributes mean what the operator's specification says; what is
written here is the difference between that and fastnn's arguments.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

import fastnn as fnn

Array = npt.NDArray[Any]
Attributes = dict[str, Any]
Operator = Callable[..., Any]  # attributes, then inputs; None for an input that is left out


def run(node: onnx.NodeProto, inputs: list[Array]) -> list[Array]:
    """The outputs that the node names."""
    attributes = {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}
    attributes = {name: value.decode() if isinstance(value, bytes) else value for name, value in attributes.items()}
    given = iter(inputs)
    operands = [next(given) if name else None for name in node.input]
    results = OPERATORS[node.op_type](attributes, *operands)
    results = results if isinstance(results, tuple) else (results,)
    return [result for result, name in zip(results, node.output, strict=False) if name]


# ---- activations ----


def prelu(_: Attributes, x: Array, slope: Array) -> Array:
    return fnn.prelu(x, slope.reshape((1,) * (x.ndim - slope.ndim) + slope.shape))


def selu(a: Attributes, x: Array) -> Array:
    if not a:
        return fnn.selu(x)
    return np.float32(a["gamma"]) * fnn.elu(x, a["alpha"])


def hard_sigmoid(a: Attributes, x: Array) -> Array:
    alpha, beta = a.get("alpha", 0.2), a.get("beta", 0.5)  # fastnn's is PyTorch's, with a slope of 1/6
    return fnn.hardsigmoid((np.float32(alpha) * x + np.float32(beta - 0.5)) * 6)


def clip(_: Attributes, x: Array, low: Array | None = None, high: Array | None = None) -> Array:
    info = np.finfo(x.dtype)
    return fnn.hardtanh(x, info.min if low is None else low, info.max if high is None else high)


def gelu(a: Attributes, x: Array) -> Array:
    return fnn.gelu_tanh(x) if a.get("approximate") == "tanh" else fnn.gelu(x)


def swiglu(_: Attributes, a: Array, b: Array) -> Array:
    return fnn.swiglu(np.concatenate([a, b], axis=-1))


# ---- normalisation ----


def batch_norm(a: Attributes, x: Array, scale: Array, bias: Array, mean: Array, var: Array) -> Any:
    eps, keep = a.get("epsilon", 1e-5), a.get("momentum", 0.9)
    if not a.get("training_mode", 0):
        return fnn.batch_norm_infer(x, scale, bias, mean, var, eps)
    momentum, count = 1 - keep, x.size // x.shape[1]
    new_mean, new_var = mean.copy(), var.copy()
    y = fnn.batch_norm_train(x, scale, bias, new_mean, new_var, momentum, eps)[0]
    # fastnn's running variance is made of the unbiased variance of the batch, the operator's of the biased one.
    unbiased = (new_var - keep * var) / momentum
    return y, new_mean, keep * var + momentum * unbiased * (count - 1) / count


def layer_norm(a: Attributes, x: Array, scale: Array, bias: Array | None = None) -> Any:
    axis = a.get("axis", -1) % x.ndim
    y, mean, inv_std = fnn.layer_norm(x, scale, bias, axis=axis, eps=a.get("epsilon", 1e-5))
    kept = x.shape[:axis] + (1,) * (x.ndim - axis)
    return y, mean.reshape(kept), inv_std.reshape(kept)


def group_norm(a: Attributes, x: Array, scale: Array, bias: Array) -> Array:
    return fnn.group_norm(x, a["num_groups"], scale, bias, a.get("epsilon", 1e-5))[0]


def instance_norm(a: Attributes, x: Array, scale: Array, bias: Array) -> Array:
    return fnn.instance_norm(x, scale, bias, a.get("epsilon", 1e-5))[0]


def rms_norm(a: Attributes, x: Array, scale: Array) -> Array:
    return fnn.rms_norm(x, scale, axis=a.get("axis", -1), eps=a.get("epsilon", 1e-5))[0]


# ---- dropout, softmax, losses ----


def dropout(a: Attributes, x: Array, ratio: Array | None = None, training: Array | None = None) -> Any:
    p = a.get("ratio", 0.5) if ratio is None else float(ratio)
    seed = a.get("seed", 0)
    if training is None or not training:
        return fnn.dropout_infer(x, p), fnn.dropout_mask(x.shape, 0.0, seed=seed)
    return fnn.dropout(x, p, seed=seed), fnn.dropout_mask(x.shape, p, seed=seed)


def cross_entropy(a: Attributes, scores: Array, labels: Array, weight: Array | None = None) -> Any:
    options = {"ignore_index": a["ignore_index"]} if "ignore_index" in a else {}
    loss = fnn.cross_entropy(scores, labels, weight=weight, reduction=a.get("reduction", "mean"), **options)
    return loss, fnn.log_softmax(scores, axis=1)


# ---- pooling and convolution ----


def windows(a: Attributes, x: Array, kernel: tuple[int, ...]) -> dict[str, Any]:
    """Stride, padding and dilation: one value for each spatial axis."""
    space = len(kernel)
    stride = tuple(a.get("strides", (1,) * space))
    dilation = tuple(a.get("dilations", (1,) * space))
    pads = a.get("pads", (0,) * (2 * space))
    padding = tuple(zip(pads[:space], pads[space:], strict=True))
    auto = a.get("auto_pad", "NOTSET")
    if auto.startswith("SAME"):
        totals = [
            max(0, (math.ceil(length / step) - 1) * step + (size - 1) * apart + 1 - length)
            for length, step, size, apart in zip(x.shape[2:], stride, kernel, dilation, strict=True)
        ]
        pairs = [(total // 2, total - total // 2) for total in totals]
        padding = tuple(pair if auto == "SAME_UPPER" else pair[::-1] for pair in pairs)
    return {"stride": stride, "padding": padding, "dilation": dilation}


def max_pool(a: Attributes, x: Array) -> Any:
    kernel = tuple(a["kernel_shape"])
    pool = getattr(fnn, f"max_pool{len(kernel)}d")
    ceil_mode = bool(a.get("ceil_mode", 0))
    y, indices = pool(x, kernel, **windows(a, x, kernel), ceil_mode=ceil_mode, return_indices=True)
    # fastnn counts within the plane, the operator over the whole tensor, and in Fortran order if storage_order is 1
    plane = x.shape[2:]
    if a.get("storage_order", 0):
        indices = np.ravel_multi_index(np.unravel_index(indices, plane)[::-1], plane[::-1])
    planes = np.arange(x.shape[0] * x.shape[1]).reshape(x.shape[:2] + (1,) * len(plane))
    return y, indices + planes * math.prod(plane)


def average_pool(a: Attributes, x: Array) -> Array:
    kernel = tuple(a["kernel_shape"])
    pool = getattr(fnn, f"avg_pool{len(kernel)}d")
    options = {"ceil_mode": bool(a.get("ceil_mode", 0)), "count_include_pad": bool(a.get("count_include_pad", 0))}
    return pool(x, kernel, **windows(a, x, kernel), **options)


def global_max_pool(_: Attributes, x: Array) -> Array:
    return getattr(fnn, f"max_pool{x.ndim - 2}d")(x, x.shape[2:])


def global_average_pool(_: Attributes, x: Array) -> Array:
    return fnn.global_avg_pool(x).reshape(x.shape[:2] + (1,) * (x.ndim - 2))


def conv(a: Attributes, x: Array, weight: Array, bias: Array | None = None) -> Array:
    return fnn.conv2d(x, weight, bias, **windows(a, x, weight.shape[2:]), groups=a.get("group", 1))


def gemm(a: Attributes, left: Array, right: Array, addend: Array | None = None) -> Array:
    left = left.T if a.get("transA", 0) else left
    weight = right if a.get("transB", 0) else right.T
    weight = np.float32(a.get("alpha", 1.0)) * weight
    if addend is None:
        return fnn.linear(left, weight)
    addend = np.float32(a.get("beta", 1.0)) * addend
    if addend.ndim == 2 and addend.shape[0] > 1:
        return fnn.linear(left, weight) + addend
    return fnn.linear(left, weight, np.broadcast_to(addend.reshape(-1), (len(weight),)))


OPERATORS: dict[str, Operator] = {
    "AveragePool": average_pool,
    "BatchNormalization": batch_norm,
    "Celu": lambda a, x: fnn.celu(x, a.get("alpha", 1.0)),
    "Clip": clip,
    "Conv": conv,
    "Cos": lambda a, x: fnn.cos(x),
    "Dropout": dropout,
    "Elu": lambda a, x: fnn.elu(x, a.get("alpha", 1.0)),
    "Gelu": gelu,
    "Gemm": gemm,
    "GlobalAveragePool": global_average_pool,
    "GlobalMaxPool": global_max_pool,
    "GroupNormalization": group_norm,
    "HardSigmoid": hard_sigmoid,
    "HardSwish": lambda a, x: fnn.hardswish(x),
    "InstanceNormalization": instance_norm,
    "LayerNormalization": layer_norm,
    "LeakyRelu": lambda a, x: fnn.leaky_relu(x, a.get("alpha", 0.01)),
    "LogSoftmax": lambda a, x: fnn.log_softmax(x, axis=a.get("axis", -1)),
    "MaxPool": max_pool,
    "Mish": lambda a, x: fnn.mish(x),
    "PRelu": prelu,
    "RMSNormalization": rms_norm,
    "Relu": lambda a, x: fnn.relu(x),
    "Selu": selu,
    "Sigmoid": lambda a, x: fnn.sigmoid(x),
    "Sin": lambda a, x: fnn.sin(x),
    "Softmax": lambda a, x: fnn.softmax(x, axis=a.get("axis", -1)),
    "SoftmaxCrossEntropyLoss": cross_entropy,
    "Softplus": lambda a, x: fnn.softplus(x),
    "Softsign": lambda a, x: fnn.softsign(x),
    "SwiGLU": swiglu,
    "Swish": lambda a, x: fnn.swish(x, a.get("alpha", 1.0)),
    "Tanh": lambda a, x: fnn.tanh(x),
}
