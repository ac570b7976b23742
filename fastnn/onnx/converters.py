"""What each layer is in ONNX's operators."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastnn import nn
from fastnn.functions.dropout import dropout_infer
from fastnn.nn.memory import Array
from fastnn.nn.module import Module
from fastnn.onnx.writer import Writer
from fastnn.sliding import padding_per_axis
from fastnn.windows import adaptive, pairs, windows

Convert = Callable[[Writer, Any, str, Array], str]
CONVERTERS: dict[type[Module], Convert] = {}


def _writes(*kinds: type[Module]) -> Callable[[Convert], Convert]:
    """The function writes layers of these classes: writer, layer, name of its input, a sample of that."""

    def note(convert: Convert) -> Convert:
        CONVERTERS.update(dict.fromkeys(kinds, convert))
        return convert

    return note


# Containers, and what does nothing in evaluation


@_writes(nn.Sequential)
def _sequential(w: Writer, m: nn.Sequential, x: str, sample: Array) -> str:
    for name, module in m.named_children():
        x, sample = w.child(module, name, x, sample)
    return x


@_writes(nn.Residual)
def _residual(w: Writer, m: nn.Residual, x: str, sample: Array) -> str:
    body, y = w.child(m.body, "body", x, sample)
    side = x if m.shortcut is None else w.child(m.shortcut, "shortcut", x, sample)[0]
    total = w.node("Add", body, side)
    return total if m.activation is None else w.child(m.activation, "activation", total, y)[0]


@_writes(nn.DropConnect)
def _drop_connect(w: Writer, m: nn.DropConnect, x: str, sample: Array) -> str:
    return w.child(m.layer, "layer", x, sample)[0]


@_writes(nn.Identity, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.StochasticDepth)
def _nothing(w: Writer, m: Module, x: str, sample: Array) -> str:
    return x


@_writes(nn.Dropout)
def _dropout(w: Writer, m: nn.Dropout, x: str, sample: Array) -> str:
    if m.mode == "inverted":
        return x
    return w.node("Mul", x, w.constant(dropout_infer(np.ones((), w.dtype), m.p, mode=m.mode)))


# Linear layers and convolutions


@_writes(nn.Linear)
def _linear(w: Writer, m: nn.Linear, x: str, sample: Array) -> str:
    weight = w.state("weight", m.weight)
    bias = [] if m.bias is None else [w.state("bias", m.bias)]
    if sample.ndim == 2:
        return w.node("Gemm", x, weight, *bias, transB=1)
    y = w.node("MatMul", x, w.node("Transpose", weight, perm=[1, 0]))
    return w.node("Add", y, *bias) if bias else y


@_writes(nn.Conv1d, nn.Conv2d)
def _conv(w: Writer, m: Any, x: str, sample: Array) -> str:
    sizes = sample.shape[2:], m.kernel_size, m.stride, m.dilation
    padding = padding_per_axis(type(m).__name__, m.padding, *sizes)
    parameters = [w.state("weight", m.weight)] + ([] if m.bias is None else [w.state("bias", m.bias)])
    return w.node(
        "Conv",
        x,
        *parameters,
        kernel_shape=m.kernel_size,
        strides=m.stride,
        pads=[before for before, _ in padding] + [after for _, after in padding],
        dilations=m.dilation,
        group=m.groups,
    )


# Normalisation


def _affine(w: Writer, m: Any, shape: tuple[int, ...]) -> tuple[str, str]:
    """Scale and shift; 1 and 0 where the layer has none."""
    return w.state("weight", m.weight, np.ones(shape)), w.state("bias", m.bias, np.zeros(shape))


@_writes(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.InstanceNorm1d, nn.InstanceNorm2d)
def _channel_norm(w: Writer, m: Any, x: str, sample: Array) -> str:
    affine = _affine(w, m, (m.num_features,))
    if m.running_mean is not None:
        statistics = w.state("running_mean", m.running_mean), w.state("running_var", m.running_var)
        return w.node("BatchNormalization", x, *affine, *statistics, epsilon=m.eps)
    if isinstance(m, (nn.InstanceNorm1d, nn.InstanceNorm2d)):
        return w.node("InstanceNormalization", x, *affine, epsilon=m.eps)
    centred = w.node("Sub", x, _mean(w, x, sample, channels=True))  # without running statistics: those of the batch
    y = w.node("Div", centred, _root(w, centred, sample, m.eps, channels=True))
    shape = w.whole(-1, *(1,) * (sample.ndim - 2))
    gamma, beta = (w.node("Reshape", each, shape) for each in affine)
    return w.node("Add", w.node("Mul", y, gamma), beta)


def _mean(w: Writer, x: str, sample: Array, channels: bool = False, last: int = 1) -> str:
    """The mean over all but the channels, or over the last axes."""
    axes = [0, *range(2, sample.ndim)] if channels else range(-last, 0)
    return w.node("ReduceMean", x, w.whole(*axes), keepdims=1)


def _root(w: Writer, x: str, sample: Array, eps: float, channels: bool = False, last: int = 1) -> str:
    """sqrt(mean(x^2) + eps)."""
    return w.node("Sqrt", w.node("Add", _mean(w, w.node("Mul", x, x), sample, channels, last), w.constant(eps)))


@_writes(nn.GroupNorm)
def _group_norm(w: Writer, m: nn.GroupNorm, x: str, sample: Array) -> str:
    affine = _affine(w, m, (m.num_channels,))
    return w.node("GroupNormalization", x, *affine, num_groups=m.num_groups, epsilon=m.eps)


@_writes(nn.LayerNorm)
def _layer_norm(w: Writer, m: nn.LayerNorm, x: str, sample: Array) -> str:
    affine = _affine(w, m, m.normalized_shape)
    return w.node("LayerNormalization", x, *affine, axis=-len(m.normalized_shape), epsilon=m.eps)


@_writes(nn.RMSNorm)
def _rms_norm(w: Writer, m: nn.RMSNorm, x: str, sample: Array) -> str:
    eps = float(np.finfo(sample.dtype).eps) if m.eps is None else m.eps
    y = w.node("Div", x, _root(w, x, sample, eps, last=len(m.normalized_shape)))
    return y if m.weight is None else w.node("Mul", y, w.state("weight", m.weight))


# Pools and shapes


@_writes(nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)
def _pool(w: Writer, m: Any, x: str, sample: Array) -> str:
    """ceil_mode becomes padding behind, so that no runtime's idea of it matters."""
    title, average = type(m).__name__, isinstance(m, (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d))
    if not average and m.return_indices:
        raise ValueError(f"export: {w.path or 'the model'} is a {title} that returns indices; expected one result")
    given = m.kernel_size, m.stride, m.padding, m.dilation, m.ceil_mode
    axes = windows(title, sample.shape[2:], *given, padding_counts=m.count_include_pad)
    before = [axis.before for axis in axes]
    needed = [max(0, (a.out - 1) * a.stride + (a.kernel - 1) * a.dilation + 1 - a.inputs - a.before) for a in axes]
    attributes: dict[str, Any] = {} if average else {"dilations": [axis.dilation for axis in axes]}
    if m.count_include_pad and any(map(any, pairs(title, "padding", m.padding, m.dims))):
        if any(more > axis.after for more, axis in zip(needed, axes, strict=True)):
            # padding counts, and what a window has beyond it does not
            after = [axis.after for axis in axes]
            x = w.node("Pad", x, w.whole(0, 0, *before, 0, 0, *after))
            needed = [max(0, more - axis.after) for more, axis in zip(needed, axes, strict=True)]
            before = [0] * len(axes)
        else:
            attributes["count_include_pad"] = 1
    return w.node(
        "AveragePool" if average else "MaxPool",
        x,
        kernel_shape=[axis.kernel for axis in axes],
        strides=[axis.stride for axis in axes],
        pads=before + needed,
        **attributes,
    )


@_writes(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)
def _adaptive(w: Writer, m: Any, x: str, sample: Array) -> str:
    """Regions of one size are a pool; others, axis by axis, a product with a matrix that averages."""
    lengths, wanted = sample.shape[2:], m(sample).shape[2:]
    if set(wanted) == {1}:
        return w.node("GlobalAveragePool", x)
    if not any(length % out for length, out in zip(lengths, wanted, strict=True)):
        size = [length // out for length, out in zip(lengths, wanted, strict=True)]
        return w.node("AveragePool", x, kernel_shape=size, strides=size)
    begins, ends = adaptive(lengths, wanted)
    axes = range(sample.ndim)
    for axis, length, begin, end in zip(axes[2:], lengths, begins[-m.dims :], ends[-m.dims :], strict=True):
        place = np.arange(length)[:, None]
        inside = (begin <= place) & (place < end)
        order = [other for other in axes if other != axis]
        turned = w.node("Transpose", x, perm=[*order, axis])
        back = [*axes[:axis], sample.ndim - 1, *axes[axis:-1]]
        x = w.node("Transpose", w.node("MatMul", turned, w.constant(inside / inside.sum(0))), perm=back)
    return x


@_writes(nn.GlobalAvgPool)
def _global_average(w: Writer, m: Module, x: str, sample: Array) -> str:
    return w.node("Flatten", w.node("GlobalAveragePool", x), axis=1)


@_writes(nn.Flatten)
def _flatten(w: Writer, m: nn.Flatten, x: str, sample: Array) -> str:
    first, last = (axis + sample.ndim if axis < 0 else axis for axis in (m.start_dim, m.end_dim))
    if first == 1 and last == sample.ndim - 1:
        return w.node("Flatten", x, axis=1)
    return w.node("Reshape", x, w.whole(*(0,) * min(first, 1), *sample.shape[1:first], -1, *sample.shape[last + 1 :]))


@_writes(nn.PadShortcut)
def _pad_shortcut(w: Writer, m: nn.PadShortcut, x: str, sample: Array) -> str:
    if m.stride > 1:
        bounds = w.whole(0, 0), w.whole(*sample.shape[2:])
        x = w.node("Slice", x, *bounds, w.whole(2, 3), w.whole(m.stride, m.stride))
    return w.node("Pad", x, w.whole(0, 0, 0, 0, 0, m.out_channels - sample.shape[1], 0, 0))


# Softmax and gates


@_writes(nn.Softmax, nn.LogSoftmax)
def _softmax(w: Writer, m: Any, x: str, sample: Array) -> str:
    return w.node(type(m).__name__, x, axis=m.dim)


@_writes(nn.Maxout)
def _maxout(w: Writer, m: nn.Maxout, x: str, sample: Array) -> str:
    axis = m.axis % sample.ndim
    shape = [0 if axis else -1, *sample.shape[1:]]
    shape[axis : axis + 1] = [-1 if axis == 0 else sample.shape[axis] // m.pieces, m.pieces]
    return w.node("ReduceMax", w.node("Reshape", x, w.whole(*shape)), w.whole(axis + 1), keepdims=0)


@_writes(nn.GLU, nn.SwiGLU)
def _gate(w: Writer, m: nn.GLU, x: str, sample: Array) -> str:
    a, b = w.nodes_of("Split", 2, x, axis=m.dim, num_outputs=2)
    if isinstance(m, nn.SwiGLU):
        return w.node("Mul", w.node("Mul", a, w.node("Sigmoid", a)), b)
    return w.node("Mul", a, w.node("Sigmoid", b))


# Activations

_PLAIN: dict[type[Module], tuple[str, dict[str, Any]]] = {  # the operator, its attributes or where they come from
    nn.ReLU: ("Relu", {}),
    nn.LeakyReLU: ("LeakyRelu", {"alpha": "negative_slope"}),
    nn.ELU: ("Elu", {"alpha": "alpha"}),
    nn.SELU: ("Selu", {}),
    nn.CELU: ("Celu", {"alpha": "alpha"}),
    nn.GELU: ("Gelu", {"approximate": "approximate"}),
    nn.Mish: ("Mish", {}),
    nn.Sigmoid: ("Sigmoid", {}),
    nn.Tanh: ("Tanh", {}),
    nn.Hardsigmoid: ("HardSigmoid", {"alpha": 1 / 6}),
    nn.Hardswish: ("HardSwish", {}),
    nn.Softsign: ("Softsign", {}),
    nn.Sin: ("Sin", {}),
    nn.Cos: ("Cos", {}),
}


@_writes(*_PLAIN)
def _plain(w: Writer, m: Module, x: str, sample: Array) -> str:
    op, attributes = next(_PLAIN[kind] for kind in type(m).__mro__ if kind in _PLAIN)
    found = {name: getattr(m, value) if isinstance(value, str) else value for name, value in attributes.items()}
    return w.node(op, x, **found)


@_writes(nn.Hardtanh, nn.ReLU6)
def _clip(w: Writer, m: Any, x: str, sample: Array) -> str:
    low, high = (0, 6) if isinstance(m, nn.ReLU6) else (m.min_val, m.max_val)
    return w.node("Clip", x, w.constant(low), w.constant(high))


@_writes(nn.SiLU, nn.Swish)
def _swish(w: Writer, m: Any, x: str, sample: Array) -> str:
    scaled = x if isinstance(m, nn.SiLU) else w.node("Mul", x, w.constant(m.beta))
    return w.node("Mul", x, w.node("Sigmoid", scaled))


@_writes(nn.Softplus)
def _softplus(w: Writer, m: nn.Softplus, x: str, sample: Array) -> str:
    if m.beta == 1:
        return w.node("Softplus", x)
    beta = w.constant(m.beta)
    return w.node("Div", w.node("Softplus", w.node("Mul", x, beta)), beta)


@_writes(nn.LogSigmoid)
def _log_sigmoid(w: Writer, m: Module, x: str, sample: Array) -> str:
    return w.node("Neg", w.node("Softplus", w.node("Neg", x)))


def _slope(w: Writer, m: Any, sample: Array) -> str:
    """The learned parameter, with axes of length 1 behind one of each channel."""
    weight: Array = m.weight.data
    return w.state("weight", weight.reshape(-1, *(1,) * max(0, sample.ndim - 2)) if weight.ndim == 1 else weight)


@_writes(nn.PReLU)
def _prelu(w: Writer, m: nn.PReLU, x: str, sample: Array) -> str:
    return w.node("PRelu", x, _slope(w, m, sample))


@_writes(nn.ParametricELU)
def _parametric_elu(w: Writer, m: nn.ParametricELU, x: str, sample: Array) -> str:
    below = w.node("Elu", w.node("Min", x, w.constant(0)))
    return w.node("Add", w.node("Relu", x), w.node("Mul", _slope(w, m, sample), below))
