"""Networks that are one layer after the other: mlp, lenet5, alexnet4, vgg-small."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from fastnn.models.plan import Part, Plan


def sequence(plan: Plan, parts: Sequence[Part]) -> Any:
    """The parts one after the other under their names."""
    return plan.nn.Sequential(OrderedDict(parts))


def mlp(plan: Plan, *, hidden: Sequence[int] | int = (256, 128)) -> Any:
    """Fully connected: for each of `hidden` a linear layer, batch norm, the activation, dropout; then the classes.

    784-256-128-10 by default: 235,530 parameters (235,146 without batch norm). Batch norm precedes the activation
    (Ioffe and Szegedy 2015), dropout follows it (Srivastava 2014).
    """
    hidden = (hidden,) if isinstance(hidden, int) else hidden
    given = hidden if isinstance(hidden, Sequence) and not isinstance(hidden, (str, bytes)) else (None,)
    if not all(isinstance(width, int) and width > 0 for width in given):
        raise ValueError(f"hidden is {hidden!r}; expected widths of hidden layers such as (256, 128)")
    widths = [math.prod(plan.input_shape), *hidden]
    parts: list[Part] = [("flatten", plan.nn.Flatten())] if len(plan.input_shape) > 1 else []
    for place, (inputs, outputs) in enumerate(zip(widths, widths[1:], strict=False), start=1):
        parts += [*plan.linear(place, inputs, outputs), *plan.drop(place)]
    return sequence(plan, [*parts, (f"fc{len(widths)}", plan.nn.Linear(widths[-1], plan.classes))])


def lenet5(plan: Plan, *, pool: str = "max") -> Any:
    """LeNet-5 (LeCun, Bottou, Bengio, Haffner 1998): 5x5 convolutions of 6 and 16 channels, linear layers of 120, 84.

    Images of 28x28 are padded by 2, as the 32x32 of the paper were; others are not. 61,706 parameters. The paper
    has `activation="tanh", pool="avg"`; C3 here sees all channels of S2, and the output is a linear layer.
    """
    channels, height, width = plan.image(20)
    padding = 2 if (height, width) == (28, 28) else 0
    pools = {"max": plan.nn.MaxPool2d, "avg": plan.nn.AvgPool2d}
    if pool not in pools:
        raise ValueError(f"pool is {pool!r}; expected 'max' or 'avg'")
    size = math.prod(((edge + 2 * padding - 4) // 2 - 4) // 2 for edge in (height, width))
    parts = [
        *plan.conv(1, channels, 6, 5, padding),
        ("pool1", pools[pool](2)),
        *plan.conv(2, 6, 16, 5, 0),
        ("pool2", pools[pool](2)),
        ("flatten", plan.nn.Flatten()),
        *plan.linear(3, 16 * size, 120),
        *plan.drop(3),
        *plan.linear(4, 120, 84),
        *plan.drop(4),
        ("fc5", plan.nn.Linear(84, plan.classes)),
    ]
    return sequence(plan, parts)


def alexnet4(plan: Plan) -> Any:
    """The four-layer CIFAR-10 network of AlexNet's figure 1 (Krizhevsky 2012), as in cuda-convnet's layers-80sec.

    Three 5x5 convolutions of 32, 32 and 64 channels, each with a 3x3 pool of stride 2 (max, average, average), and one
    linear layer. 89,706 parameters with batch norm; the original has none: `batch_norm=False`, 89,578.
    """
    channels, height, width = plan.image(12)

    def pooled(place: int, kind: Any) -> Part:  # ceil_mode: the last window may stand out, as it did there
        return f"pool{place}", kind(3, stride=2, ceil_mode=True)

    size = (height // 8) * (width // 8)
    parts = [
        *plan.conv(1, channels, 32, 5, 2),
        pooled(1, plan.nn.MaxPool2d),
        *plan.conv(2, 32, 32, 5, 2),
        pooled(2, plan.nn.AvgPool2d),
        *plan.conv(3, 32, 64, 5, 2),
        pooled(3, plan.nn.AvgPool2d),
        ("flatten", plan.nn.Flatten()),
        *plan.drop(),
        ("fc4", plan.nn.Linear(64 * size, plan.classes)),
    ]
    return sequence(plan, parts)


def vgg_small(plan: Plan, *, width: int = 32) -> Any:
    """A small VGG (Simonyan and Zisserman 2014): pairs of 3x3 convolutions of 32, 64 and 128 channels, 2x2 max pools.

    Then linear layers of 128 and of the classes. 551,146 parameters with batch norm; `width` scales the channels.
    """
    channels, height, width_in = plan.image(8)
    if not isinstance(width, int) or width < 1:
        raise ValueError(f"width is {width!r}; expected the number of channels of the first convolutions, such as 32")
    parts: list[Part] = []
    for stage, outputs in enumerate((width, 2 * width, 4 * width), start=1):
        parts += plan.conv(f"{stage}_1", channels, outputs, 3, 1)
        parts += plan.conv(f"{stage}_2", outputs, outputs, 3, 1)
        parts.append((f"pool{stage}", plan.nn.MaxPool2d(2)))
        channels = outputs
    size = (height // 8) * (width_in // 8)
    parts += [("flatten", plan.nn.Flatten()), *plan.linear(4, channels * size, 128), *plan.drop()]
    return sequence(plan, [*parts, ("fc5", plan.nn.Linear(128, plan.classes))])
