"""Linear layers: those of a 784-256-128-10 network at batch 1, 16 and 256, and a square one."""

from __future__ import annotations

from typing import Any

from .functions import Arguments, Build, Maker, Spec

FAMILY = "linear"
Layer = tuple[int, int, int]  # batch, inputs, outputs
LAYERS: tuple[Layer, ...] = (
    (256, 784, 256),
    (16, 784, 256),
    (1, 784, 256),
    (256, 256, 128),
    (256, 128, 10),
    (256, 1024, 1024),
)


def forward(batch: int, inputs: int, outputs: int, **options: Any) -> Build:
    return lambda make: {
        "x": make.normal(batch, inputs),
        "weight": make.normal(outputs, inputs, std=inputs**-0.5),
        "bias": make.parameter(outputs),
        **options,
    }


def backward(batch: int, inputs: int, outputs: int) -> Build:
    def build(make: Maker) -> Arguments:
        return {
            "dy": make.normal(batch, outputs),
            "x": make.normal(batch, inputs),
            "weight": make.normal(outputs, inputs, std=inputs**-0.5),
            "dx": make.normal(batch, inputs),
            "dweight": make.normal(outputs, inputs),
            "dbias": make.parameter(outputs),
        }

    return build


def _label(layer: Layer, text: str = "") -> str:
    batch, inputs, outputs = layer
    return f"{inputs}->{outputs}{text}, batch {batch}"


def flops(passes: int) -> Any:
    return lambda a: 2 * passes * a["x"].shape[0] * a["weight"].size


SPECS = (
    Spec(
        function="linear",
        family=FAMILY,
        shapes={_label(layer, " relu"): forward(*layer, activation="relu") for layer in LAYERS},
        judged=forward(5, 37, 11, activation="relu"),
        mandatory=1,
        flops=flops(1),
    ),
    Spec(
        function="linear_backward",
        family=FAMILY,
        shapes={_label(layer): backward(*layer) for layer in (LAYERS[0], LAYERS[1], LAYERS[-1])},
        judged=backward(5, 37, 11),
        outputs=("dx", "dweight", "dbias"),
        flops=flops(2),
    ),
)
