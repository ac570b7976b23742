"""The networks of depthwise separable convolutions."""

from __future__ import annotations

from typing import Any

from fastnn.models.plain import sequence
from fastnn.models.plan import Part, Plan

_BLOCKS = ((2, 1), (4, 2), (4, 1), (8, 2), (8, 1))  # output channels, in units of `width`, and stride


def mobilenet(plan: Plan, *, width: int = 32) -> Any:
    """MobileNet (Howard 2017) made small, for CIFAR: a 3x3 convolution of 32 channels, five depthwise separable blocks.

    A block is a depthwise 3x3 convolution, which filters each channel, and a 1x1 convolution, which mixes them, batch
    norm and the activation after either. 64, 128, 128, 256 and 256 channels on maps of the full, half and quarter side;
    then the average over the map and one linear layer. 136,778 parameters with batch norm; `width` scales the
    channels. `activation="relu6"` is that of MobileNets for fixed-point numbers.
    """
    channels, _, _ = plan.image(8)
    if not isinstance(width, int) or width < 1:
        raise ValueError(f"width is {width!r}; expected the number of channels of the first convolution, such as 32")
    parts: list[Part] = plan.conv("", channels, width, 3, 1)
    inputs = width
    for number, (times, stride) in enumerate(_BLOCKS, start=1):
        outputs = times * width
        depthwise = plan.conv(1, inputs, inputs, 3, 1, stride, groups=inputs)
        parts.append((f"block{number}", sequence(plan, [*depthwise, *plan.conv(2, inputs, outputs, 1, 0)])))
        inputs = outputs
    parts += [("pool", plan.nn.AdaptiveAvgPool2d(1)), ("flatten", plan.nn.Flatten()), *plan.drop()]
    return sequence(plan, [*parts, ("fc", plan.nn.Linear(inputs, plan.classes))])
