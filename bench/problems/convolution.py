"""Convolutions of 64 channels on 32 x 32 pixels: 3 x 3, 1 x 1, depthwise; a first layer; one image."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from .functions import Arguments, Build, Maker, Spec

FAMILY = "convolution"
# label -> shape of x, shape of weight, options
LAYERS: dict[str, tuple[tuple[int, ...], tuple[int, ...], Arguments]] = {
    "64->64 3x3, 32x32, batch 32": ((32, 64, 32, 32), (64, 64, 3, 3), {"padding": 1}),
    "64->64 1x1, 32x32, batch 32": ((32, 64, 32, 32), (64, 64, 1, 1), {}),
    "64 depthwise 3x3, 32x32, batch 32": ((32, 64, 32, 32), (64, 1, 3, 3), {"padding": 1, "groups": 64}),
    "64->128 3x3 stride 2, 32x32, batch 32": ((32, 64, 32, 32), (128, 64, 3, 3), {"padding": 1, "stride": 2}),
    "3->32 3x3, 32x32, batch 32": ((32, 3, 32, 32), (32, 3, 3, 3), {"padding": 1}),
    "64->64 3x3, 32x32, batch 1": ((1, 64, 32, 32), (64, 64, 3, 3), {"padding": 1}),
    "64->64 1x1, 32x32, batch 1": ((1, 64, 32, 32), (64, 64, 1, 1), {}),
    "64 depthwise 3x3, 32x32, batch 1": ((1, 64, 32, 32), (64, 1, 3, 3), {"padding": 1, "groups": 64}),
}
TRAINED = tuple(LAYERS)[:3]
LINES: dict[str, tuple[tuple[int, ...], tuple[int, ...], Arguments]] = {
    "64->64 3, 1024, batch 32": ((32, 64, 1024), (64, 64, 3), {"padding": 1}),
    "64->64 3, 1024, batch 1": ((1, 64, 1024), (64, 64, 3), {"padding": 1}),
}
ODD = ((2, 6, 7, 9), (4, 3, 3, 3), {"padding": 1, "stride": 2, "groups": 2})
ODD_LINE = ((2, 6, 9), (4, 3, 3), {"padding": 1, "stride": 2, "groups": 2})


def forward(x: tuple[int, ...], weight: tuple[int, ...], options: Arguments) -> Build:
    return lambda make: {
        "x": make.normal(*x),
        "weight": make.normal(*weight, std=math.prod(weight[1:]) ** -0.5),
        "bias": make.parameter(weight[0]),
        **options,
    }


def pixels(size: int, kernel: int, options: Arguments) -> int:
    """Along one axis of the result."""
    return (size + 2 * int(options.get("padding", 0)) - kernel) // int(options.get("stride", 1)) + 1


def backward(x: tuple[int, ...], weight: tuple[int, ...], options: Arguments) -> Build:
    def build(make: Maker) -> Arguments:
        made = forward(x, weight, options)(make)
        made.pop("bias")
        out = tuple(pixels(size, kernel, options) for size, kernel in zip(x[2:], weight[2:], strict=True))
        memory = {"dx": make.normal(*x), "dweight": make.normal(*weight), "dbias": make.parameter(weight[0])}
        return {"dy": make.normal(x[0], weight[0], *out), **made, **memory}

    return build


def flops(passes: int) -> Callable[[Arguments], int]:
    def count(a: Arguments) -> int:
        x, weight = a["x"].shape, a["weight"].shape
        out = math.prod(pixels(size, kernel, a) for size, kernel in zip(x[2:], weight[2:], strict=True))
        return int(2 * passes * x[0] * out * a["weight"].size)

    return count


def _fused(build: Callable[..., Build], *layer: Any) -> Build:
    x, weight, options = layer
    return build(x, weight, options | {"activation": "relu"})


SPECS = (
    Spec(
        function="conv2d",
        family=FAMILY,
        shapes={label: forward(*layer) for label, layer in LAYERS.items()}
        | {f"{next(iter(LAYERS))}, relu": _fused(forward, *next(iter(LAYERS.values())))},
        judged=forward(*ODD),
        mandatory=3,
        flops=flops(1),
    ),
    Spec(
        function="conv2d_backward",
        family=FAMILY,
        shapes={label: backward(*LAYERS[label]) for label in TRAINED},
        judged=backward(*ODD),
        outputs=("dx", "dweight", "dbias"),
        flops=flops(2),
    ),
    Spec(
        function="conv1d",
        family=FAMILY,
        shapes={label: forward(*layer) for label, layer in LINES.items()},
        judged=forward(*ODD_LINE),
        flops=flops(1),
    ),
    Spec(
        function="conv1d_backward",
        family=FAMILY,
        shapes={label: backward(*layer) for label, layer in LINES.items()},
        judged=backward(*ODD_LINE),
        outputs=("dx", "dweight", "dbias"),
        flops=flops(2),
    ),
)
