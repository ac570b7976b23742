"""The residual networks for CIFAR."""

from __future__ import annotations

from typing import Any

from fastnn.models.plain import sequence
from fastnn.models.plan import Part, Plan


def resnet(plan: Plan, *, blocks: int, shortcut: str = "projection", zero_init_residual: bool = False) -> Any:
    """The residual networks for CIFAR of He, Zhang, Ren, Sun 2015: 6 n + 2 layers for n `blocks` a stage.

    A 3x3 convolution of 16 channels; stages of 16, 32 and 64 channels on maps of the full, half and quarter side, each
    of n blocks of two 3x3 convolutions beside a shortcut; the average over the map; one linear layer. Where the shape
    changes, `shortcut` is "projection", a 1x1 convolution (option B), or "identity": every other pixel, new channels
    zero, no parameters (option A). `zero_init_residual` starts each block as the identity, its last scale
    (or, without batch norm, weight) being 0 (Goyal 2017).
    """
    channels, _, _ = plan.image(4)
    if shortcut not in ("projection", "identity"):
        raise ValueError(f"shortcut is {shortcut!r}; expected 'projection' or 'identity'")
    parts: list[Part] = plan.conv("", channels, 16, 3, 1)
    inputs = 16
    for stage, outputs in enumerate((16, 32, 64), start=1):
        for block in range(blocks):
            stride = 2 if stage > 1 and block == 0 else 1
            made = _block(plan, inputs, outputs, stride, shortcut, zero_init_residual)
            parts.append((f"stage{stage}_{block + 1}", made))
            inputs = outputs
    parts += [("pool", plan.nn.AdaptiveAvgPool2d(1)), ("flatten", plan.nn.Flatten()), *plan.drop()]
    return sequence(plan, [*parts, ("fc", plan.nn.Linear(inputs, plan.classes))])


def _block(plan: Plan, inputs: int, outputs: int, stride: int, shortcut: str, zero: bool) -> Any:
    second = plan.conv(2, outputs, outputs, 3, 1, act=False)
    if zero:
        last = second[-1][1]
        last.weight.data[...] = 0
        last.bias.data[...] = 0
    body = sequence(plan, [*plan.conv(1, inputs, outputs, 3, 1, stride), *second])
    side: Any = None
    if inputs != outputs or stride != 1:
        if shortcut == "identity":
            side = plan.nn.PadShortcut(outputs, stride)
        else:
            side = sequence(plan, plan.conv("", inputs, outputs, 1, 0, stride, act=False))
    return plan.nn.Residual(body, side, plan.act("")[1])
