"""The rows of the family `convolution`."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from fastnn.function import Argument, Function
from fastnn.oracle import numpy64
from fastnn.sliding import padding_per_axis, per_axis
from fastnn.table.activations import OPS
from fastnn.table.gradients import GRADIENTS, RETURNED, SAVED

AXES = {1: "length", 2: "height, width"}  # the spatial axes

_CHUNK = 256  # terms that the native kernels sum up between two roundings of a total

# ---- oracles ----


class Sums:
    """A convolution in the type of its arguments, tap by tap: (images, groups, channels, *spatial) arrays."""

    def __init__(self, x: Any, weight: Any, stride: Any, padding: Any, dilation: Any, groups: int) -> None:
        axes = x.ndim - 2
        self.axes, self.groups = axes, groups
        self.x_shape, self.weight_shape = x.shape, weight.shape
        kernel = weight.shape[2:]
        self.stride = per_axis("convolution", "stride", stride, axes)
        self.dilation = per_axis("convolution", "dilation", dilation, axes)
        self.padding = padding_per_axis("convolution", padding, x.shape[2:], kernel, self.stride, self.dilation)
        padded = [length + sum(pair) for length, pair in zip(x.shape[2:], self.padding, strict=True)]
        extents = [(size - 1) * spread + 1 for size, spread in zip(kernel, self.dilation, strict=True)]
        self.sizes = tuple((p - e) // s + 1 for p, e, s in zip(padded, extents, self.stride, strict=True))
        self.grouped = (x.shape[0], groups, x.shape[1] // groups)
        self.padded = (*self.grouped, *padded)
        # [group, *tap, output, channel]
        outputs = weight.reshape(groups, weight.shape[0] // groups, *weight.shape[1:])
        self.weight: Any = np.moveaxis(outputs, (1, 2), (-2, -1))

    def windows(self, padded: Any) -> Iterable[tuple[tuple[int, ...], Any]]:
        """For every tap the elements that the positions see: a view of (images, groups, channels, *positions)."""
        for tap in np.ndindex(*self.weight_shape[2:]):
            reach = zip(tap, self.dilation, self.stride, self.sizes, strict=True)
            cut = [slice(k * spread, k * spread + (size - 1) * step + 1, step) for k, spread, step, size in reach]
            yield tap, padded[(slice(None), slice(None), slice(None), *cut)]

    def pad(self, x: Any) -> Any:
        """x with zeros around."""
        return np.pad(x.reshape(*self.grouped, *self.x_shape[2:]), ((0, 0),) * 3 + self.padding)

    def flat(self, array: Any) -> Any:
        """The positions on one axis."""
        return array.reshape(*array.shape[:3], math.prod(self.sizes))

    def forward(self, x: Any) -> Any:
        """The convolution of x."""
        total = np.zeros((self.x_shape[0], self.groups, self.weight.shape[-2], math.prod(self.sizes)), x.dtype)
        for tap, window in self.windows(self.pad(x)):
            total += self.weight[(slice(None), *tap)] @ self.flat(window)
        return total.reshape(self.x_shape[0], self.weight_shape[0], *self.sizes)

    def input_gradient(self, dy: Any) -> Any:
        """The gradient by x."""
        flat = self.flat(dy.reshape(self.x_shape[0], self.groups, self.weight.shape[-2], *self.sizes))
        total = np.zeros(self.padded, dy.dtype)
        for tap, window in self.windows(total):
            terms = np.swapaxes(self.weight[(slice(None), *tap)], -1, -2) @ flat
            window += terms.reshape(window.shape)
        inside = [slice(pair[0], pair[0] + n) for pair, n in zip(self.padding, self.x_shape[2:], strict=True)]
        return total[(slice(None), slice(None), slice(None), *inside)].reshape(self.x_shape)

    def weight_gradient(self, dy: Any, x: Any) -> Any:
        """The gradient by the weights."""
        flat = self.flat(dy.reshape(self.x_shape[0], self.groups, self.weight.shape[-2], *self.sizes))
        total: Any = np.zeros(self.weight.shape, dy.dtype)
        for tap, window in self.windows(self.pad(x)):
            terms = flat @ np.swapaxes(self.flat(window), -1, -2)
            total[(slice(None), *tap)] = terms.sum(0)
        return np.moveaxis(total, (-2, -1), (1, 2)).reshape(self.weight_shape)


def _by_channel(bias: Any, axes: int) -> Any:
    return np.reshape(bias, (-1, *(1,) * axes))


def activated(z: Any, activation: Any, derivative: bool = False) -> Any:
    """`activation` of z, or its derivative in terms of what it saves; in the type of z."""
    if activation is None:
        return np.ones_like(z) if derivative else z
    name, *params = activation if isinstance(activation, tuple) else (activation,)
    op = OPS[name]
    defaults = [param.default for param in op.params[len(params) :]]
    return (op.gradient if derivative else op.forward)(numpy64, z, *params, *defaults)


def _forward(
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    activation: Any = None,
    *,
    z: Any = None,
) -> Any:
    z = Sums(x, weight, stride, padding, dilation, groups).forward(x)
    return activated(z if bias is None else z + _by_channel(bias, x.ndim - 2), activation)


def _backward(
    dy: Any,
    x: Any,
    weight: Any,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    saved: Any = None,
    activation: Any = None,
    *,
    need_dx: bool = True,
    need_dweight: bool = True,
    need_dbias: bool = True,
    accumulate: bool = False,
    dx: Any = None,
    dweight: Any = None,
    dbias: Any = None,
    dz: Any = None,
) -> tuple[Any, ...]:
    inner = dy if activation is None else dy * activated(saved, activation, derivative=True)
    sums = Sums(x, weight, stride, padding, dilation, groups)
    old_dweight, old_dbias = (dweight, dbias) if accumulate else (0, 0)
    return (
        sums.input_gradient(inner) if need_dx else None,
        sums.weight_gradient(inner, x) + old_dweight if need_dweight else None,
        inner.sum(axis=(0, *range(2, dy.ndim))) + old_dbias if need_dbias else None,
    )


# ---- the promise ----


def _roundings(channels: int, taps: int) -> float:
    """How many roundings a product goes through: those of its chunk, those of the chunks, its own, the bias."""
    chunk = max(1, _CHUNK // taps)
    return min(channels, chunk) * taps + math.ceil(channels / chunk) + 3


def _scale(
    result: Any, x: Any, weight: Any, bias: Any = None, activation: Any = None, z: Any = None, **options: Any
) -> Any:
    magnitude = _forward(abs(x), abs(weight), None if bias is None else abs(bias), **options)
    scale = magnitude * _roundings(weight.shape[1], math.prod(weight.shape[2:]))
    return scale if activation is None else np.maximum(scale, 4 * abs(result))


def _backward_scale(
    results: tuple[Any, ...], dy: Any, x: Any, weight: Any, saved: Any = None, activation: Any = None, **options: Any
) -> tuple[Any, ...]:
    inner = dy if activation is None else dy * activated(saved, activation, derivative=True)
    for name in ("dweight", "dbias"):
        options[name] = None if options.get(name) is None else abs(options[name])
    dx, dweight, dbias = _backward(abs(inner), abs(x), abs(weight), **options)
    positions = dy.size // max(1, dy.shape[1])
    groups, more = options.get("groups", 1), 3 if activation is None else 8  # of those, dz makes five
    return (
        None if dx is None else dx * (_roundings(weight.shape[0] // groups, math.prod(weight.shape[2:])) + more - 3),
        None if dweight is None else dweight * (positions + more),
        None if dbias is None else dbias * (positions / 16 + more + 3),
    )


def _gradients(name: str) -> Callable[..., dict[str, Any]]:
    def gradients(dys: tuple[Any, ...], **arguments: Any) -> dict[str, Any]:
        fnn = importlib.import_module("fastnn")
        (dy,) = dys
        activation, z = arguments.get("activation"), arguments.pop("z", None)
        if activation is not None:
            chosen = activation[0] if isinstance(activation, tuple) else activation
            z = np.empty_like(dy)
            arguments["saved"] = OPS[chosen].saved_for_backward(z, getattr(fnn, name)(z=z, **arguments))
        bias = arguments.pop("bias", None)
        dx, dweight, dbias = getattr(fnn, f"{name}_backward")(dy, **arguments)
        return {"x": dx, "weight": dweight} | ({} if bias is None else {"bias": dbias})

    return gradients


# ---- examples ----


def _examples(axes: int) -> Callable[[np.random.Generator], Iterable[dict[str, Any]]]:
    """Shapes (images, channels, outputs, sizes, kernel) and options; one axis takes the last of each."""

    def last(value: Any) -> Any:
        return value[2 - axes :] if isinstance(value, tuple) and len(value) == 2 else value

    def examples(rng: np.random.Generator) -> Iterable[dict[str, Any]]:
        cases: list[tuple[tuple[int, int, int], tuple[int, int], tuple[int, int], bool, dict[str, Any]]] = [
            ((2, 3, 7), (9, 21), (3, 3), True, {"padding": 1, "activation": "silu"}),
            ((1, 4, 9), (8, 19), (3, 3), False, {"stride": 2, "padding": (1, 1)}),
            ((2, 4, 6), (11, 37), (2, 3), True, {"stride": (3, 2), "dilation": (2, 2), "groups": 2, "padding": "same"}),
            ((1, 5, 5), (7, 18), (3, 3), True, {"padding": 1, "groups": 5, "activation": ("leaky_relu", 0.2)}),
            ((3, 33, 19), (3, 4), (1, 1), False, {"stride": 1, "padding": "valid"}),
            ((1, 1, 1), (1, 1), (1, 1), True, {}),
            ((2, 37, 26), (4, 5), (3, 3), False, {"padding": ((2, 0), (0, 1))}),
        ]
        for (images, channels, outputs), sizes, kernel, biased, options in cases:
            x = rng.standard_normal((images, channels, *last(sizes)))
            weight = rng.standard_normal((outputs, channels // options.get("groups", 1), *last(kernel)))
            arguments = {
                "x": x,
                "weight": weight,
                **{key: last(value) if key != "activation" else value for key, value in options.items()},
            }
            if biased:
                arguments["bias"] = rng.standard_normal(outputs)
            if biased == ("activation" in options):
                arguments["z"] = np.zeros(_forward(**arguments).shape)
            yield arguments

    return examples


def _backward_examples(axes: int) -> Callable[[np.random.Generator], Iterable[dict[str, Any]]]:
    def examples(rng: np.random.Generator) -> Iterable[dict[str, Any]]:
        for index, arguments in enumerate(_examples(axes)(rng)):
            for name in ("activation", "bias", "z"):
                arguments.pop(name, None)
            shape, weight = _forward(**arguments).shape, arguments["weight"].shape
            saved = rng.uniform(-0.9, 0.9, shape)
            more: list[dict[str, Any]] = [
                {"saved": saved, "activation": "relu"},
                {"need_dweight": False, "dx": np.zeros(arguments["x"].shape)},
                {
                    "saved": saved,
                    "activation": ("leaky_relu", 0.2),
                    "dz": np.zeros(shape),
                    "accumulate": True,
                    "dweight": rng.standard_normal(weight),
                    "dbias": rng.standard_normal(weight[0]),
                },
                {"need_dx": False, "accumulate": True, "dweight": np.ones(weight), "need_dbias": False},
                {"saved": saved, "activation": "tanh", "need_dbias": False},
            ]
            yield {"dy": rng.standard_normal(shape), **arguments, **more[index % len(more)]}

    return examples


# ---- rows ----

_STRIDE = Argument(name="stride", doc="steps between neighbouring results: an int, or one per axis, at least 1")
_PADDING = Argument(
    name="padding",
    doc="zeros around x: an int, one int or one pair (before, after) per axis, 'valid' for none, or 'same' for "
    "ceil(length / stride) results along each axis, an odd zero going behind",
)
_DILATION = Argument(name="dilation", doc="steps between neighbouring elements of the kernel, as stride")
_GROUPS = Argument(
    name="groups",
    doc="into how many groups channels are cut, each convolved by itself; as many as there are channels: depthwise",
)
_ACTIVATION = Argument(
    name="activation",
    doc="applied to the result while it is in the cache: None, a name such as 'relu', or a tuple of a name and its "
    "parameters such as ('leaky_relu', 0.1)",
)
_SOURCE = "LeCun et al. (1998), Gradient-based learning applied to document recognition"
_MEMORY = (
    "Works on tiles: up to 3 MiB of scratch memory a thread, kept for the next call, and no im2col matrix. Arrays "
    "that are not C-contiguous are copied once."
)
_ZEROS = "Padding is zeros that take part in the sums: an infinite weight on the border gives NaN."
_BITS = (
    "The same bits from every number of threads, and from every instruction set with fused multiply-adds; no BLAS is "
    "involved."
)


def _array(name: str, doc: str) -> Argument:
    return Argument(name=name, doc=doc, role="array")


def _rows(axes: int) -> tuple[Function, Function]:
    name, spatial = f"conv{axes}d", AXES[axes]
    index = ("i", "i, j")[axes - 1]
    at = ", ".join(f"{i} stride + {k} dilation - padding" for i, k in zip("ij"[:axes], "kl"[:axes], strict=True))
    tap = ", ".join("kl"[:axes])
    x = _array("x", f"the input, (N, C, {spatial})")
    weight = _array("weight", f"the kernels, (O, C / groups, {spatial}), of x's dtype")
    options = (_STRIDE, _PADDING, _DILATION, _GROUPS)
    forward = Function(
        name=name,
        family="convolution",
        title=f"{'One' if axes == 1 else 'Two'}-dimensional convolution, with bias and activation",
        formula=f"y[n, o, {index}] = activation(bias[o] + sum over c, {tap} of weight[o, c, {tap}] x[n, c, {at}])",
        arguments=(
            x,
            weight,
            Argument(name="bias", doc="added to each output channel, (O,), or None", role="parameter"),
            *options,
            _ACTIVATION,
            _array(
                "z",
                "an array of y's shape and dtype that receives the value before the activation, in place: what "
                "the backward pass wants to see for an activation whose derivative is a function of its input",
            ),
            Argument(name="out", doc="where the result goes: memory apart from the arguments"),
        ),
        returns=(Argument(name="y", doc=f"(N, O, {spatial}), of x's dtype"),),
        source=_SOURCE,
        notes=(
            "This is a cross-correlation, as everywhere in the field: the kernel is not turned over.",
            "The unit of the error is that of b (|bias| + sum |weight x|), where b counts the roundings on the way of "
            f"a product: {_CHUNK} or one channel's taps, whichever is more, one for each such part, and three.",
            _BITS,
            _ZEROS,
            _MEMORY,
        ),
        oracle=_forward,
        examples=_examples(axes),
        ulp=1.0,
        scale=_scale,
        gradients=_gradients(name),
        bytes="reads x, weight and bias once, writes y once",
        operations="2 C / groups * taps an element of y, 1 with a bias, and the activation's",
    )
    backward = Function(
        name=f"{name}_backward",
        family="convolution",
        title=f"Gradients of {name}",
        formula=f"dz = dy activation'(z); dx = dz convolved with the turned kernels; dweight[o, c, {tap}] = sum over "
        f"n, {index} of dz[n, o, {index}] x[n, c, {at}]; dbias[o] = sum over n, {index} of dz[n, o, {index}]",
        arguments=(
            _array("dy", "gradient of the loss by y, of y's shape and x's dtype"),
            x,
            weight,
            *options,
            *SAVED,
            *GRADIENTS,
        ),
        returns=RETURNED,
        source=_SOURCE,
        notes=(
            "The unit of dx's error is as for the forward pass; that of dweight is of sum |dz x| times the number of "
            "terms and three, the worst case; dbias is summed in double. An activation counts as five roundings more.",
            _BITS,
            _ZEROS,
            _MEMORY + " dweight takes up to 4 MiB more, likewise kept, for partial sums that threads share out; with "
            "accumulate, as much as dweight if that is more.",
            "With an activation dz is an array of dy's shape, float32 beside the 16-bit formats, of which float32 "
            "copies are made then. With dz, dx, dweight and dbias given nothing else is allocated.",
        ),
        oracle=_backward,
        examples=_backward_examples(axes),
        ulp=1.0,
        scale=_backward_scale,
        gradient_of=name,
        bytes="reads dy three times, x and weight once, writes dx, dweight and dbias once; with an activation dy and "
        "saved once more, and writes dz",
        operations="4 C / groups * taps and 1 an element of dy, and those of the activation's derivative",
    )
    return forward, backward


ROWS: tuple[Function, ...] = (*_rows(2), *_rows(1))
