"""Steps over images whose channels lie in blocks of 16, (N, ceil(C / 16), H, W, 16) of float32. Plans have them, files
have not: they are made by fastnn.infer.passes, of steps that were checked.

Their options: x and y, the images (C, H, W) as which input and result count; kernel, stride, before and dilation, of
rows and columns, where before is the padding in front. blocked_conv: groups; depthwise, where every channel is a group
of its own; planes, which says that x is not blocked. Its second input is added to the result before the activation.
Where it has sums, that is the image of all this, of which y are the maxima over squares of 2 by 2.
blocked_avg_pool: counts, the divisor's factors by row and by column.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from fastnn.functions.convolution import geometry
from fastnn.fusion import fused
from fastnn.infer.graph import Array, Shape, Step
from fastnn.infer.memory import aligned
from fastnn.infer.steps.kind import Call, Constants, Function, Kind, Site
from fastnn.kernels.blocks import CHANNELS, pack, pack_channels
from fastnn.kernels.blocks import step as native_step
from fastnn.pooled import window_options
from fastnn.windows import Axis, counts, three, windows

F32 = np.float32
_LARGE = 1 << 16  # elements of a window
_FEWEST = 4  # results of a group: with fewer, most of a block would be computed in vain


def image(shape: Shape) -> Shape:
    """(C,), (C, L) and (C, H, W) as (C, H, W); empty for what has more axes."""
    return (shape[0], *(1,) * (3 - len(shape)), *shape[1:]) if len(shape) <= 3 else ()


def shape_of(image: Shape) -> Shape:
    """An image in memory."""
    channels, rows, cols = image
    return -(-channels // CHANNELS), rows, cols, CHANNELS


def takes(step: Step, c: Constants) -> bool:
    """Has this convolution a blocked form? Not if its groups end within blocks, unless each is one channel."""
    outputs, inner = map(int, c["weight"].shape[:2])
    groups = outputs if inner == 0 else step.inputs_as[0][0] // inner
    if groups == 1:
        return outputs >= _FEWEST
    return (inner == 1 and groups == outputs) or (inner % CHANNELS == 0 and outputs // groups % CHANNELS == 0)


def convolution_options(step: Step, c: Constants) -> dict[str, Any]:
    """Of a step "conv"."""
    weight, given = c["weight"], step.options
    axes = weight.ndim - 2
    title, shape = f"conv{axes}d", (1, *step.inputs_as[0])
    stride, padding, dilation, groups = (given[name] for name in ("stride", "padding", "dilation", "groups"))
    found = geometry(title, shape, weight.shape, stride, padding, dilation, groups, axes)
    x, w, y, (stride, before, dilation, groups) = found
    depthwise = groups > 1 and w[0] == groups and w[1] == 1
    return {
        "x": x[1:],
        "y": y[1:],
        "kernel": w[2:],
        "stride": stride,
        "before": before,
        "dilation": dilation,
        "groups": 1 if depthwise else groups,
        "depthwise": depthwise,
    }


def pointwise(image: Shape) -> dict[str, Any]:
    """What sees every pixel by itself."""
    ones, zeros = (1, 1), (0, 0)
    return {"x": image, "y": image, "kernel": ones, "stride": ones, "before": zeros, "dilation": ones}


def pool_options(step: Step) -> tuple[str, dict[str, Any]] | None:
    """The kind of blocked pool that does what a step does, and its options; None if there is none."""
    shape, given = step.inputs_as[0], step.options
    if not image(shape):
        return None
    spatial = shape[1:]
    if step.op in ("global_avg_pool", "adaptive_avg_pool"):
        if step.op == "adaptive_avg_pool" and any(length != 1 for length in step.shape[1:]):
            return None
        axes, include = windows(step.op, spatial, spatial, None, 0, 1, False), False
    else:
        keys = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")
        options = window_options(step.op, len(spatial), *(given.get(key, 1) for key in keys))
        include = bool(given.get("count_include_pad", False))
        axes = windows(step.op, spatial, *options, padding_counts=include)
    _, rows, cols = three(axes)
    if rows.kernel * cols.kernel > max(_LARGE, math.prod(spatial)):
        return None  # the blocked kernels keep a number for each element of the window
    found: dict[str, Any] = {"x": image(shape), "y": (shape[0], rows.out, cols.out)}
    names: dict[str, Any] = {
        "kernel": [axis.kernel for axis in (rows, cols)],
        "stride": [axis.stride for axis in (rows, cols)],
        "before": [axis.before for axis in (rows, cols)],
        "dilation": [axis.dilation for axis in (rows, cols)],
    }
    found.update({name: tuple(map(int, pair)) for name, pair in names.items()})
    if step.op == "max_pool":
        return "blocked_max_pool", found
    found["counts"] = _factors(axes, include)
    return "blocked_avg_pool", found


def _factors(axes: tuple[Axis, ...], include: bool) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(map(int, factors)) for factors in counts(axes, include)[1:])


# ---- kernels ----


def _convolution(site: Site) -> Call:
    step, options = site.step, site.step.options
    groups, kernel, adds = options["groups"], options["kernel"], len(step.inputs) > 1

    def weights(array: Array) -> Array:
        return pack(array.reshape(*array.shape[:2], *kernel), groups)

    def channels(array: Array) -> Array:
        return pack_channels(array, groups)

    made = _made(
        site,
        "depthwise" if options["depthwise"] else "conv",
        groups=groups,
        planes=options["planes"],
        pool="sums" in options,
        adds=adds,
        weight=_packed(site, "weight", weights),
        bias=_packed(site, "bias", channels) if "bias" in step.constants else channels(np.zeros(options["y"][0], F32)),
        activation=fused("conv", step.activation, site.dtype),
    )
    return made, [*(site.x(number) for number in range(1 + adds)), site.y()]


def _packed(site: Site, role: str, order: Callable[[Array], Array]) -> Array:
    """A constant in the order in which the kernels read it: kept with the session, from the beginning of a line."""
    name = f"{site.step.constants[role]} in blocks"
    if name not in site.packed:
        site.packed[name] = aligned(order(site.constants[role]))
    return site.packed[name]


def _pool(site: Site) -> Call:
    factors = [np.array(each, np.float64) for each in site.step.options.get("counts", ())]
    made = _made(site, site.step.op.removeprefix("blocked_"), counts=tuple(factors) or (None, None))
    return made, [site.x(), site.y()]


def _made(site: Site, kind: str, **more: Any) -> Any:
    options = site.step.options
    shapes = ((site.batch, *options[name]) for name in ("x", "sums" if "sums" in options else "y"))
    return native_step(kind, *shapes, *(options[name] for name in ("kernel", "stride", "before", "dilation")), **more)


def _turn(site: Site) -> Call:
    shape = site.batch, *site.step.options["x"]
    made: Any = native_step(site.step.op, shape, shape)
    return made, [site.x(), site.y()]


def _none(step: Step, c: Constants) -> Function:
    raise ValueError(f"there is no public function for a step {step.op!r}, which is of plans only")


def overwrites(step: Step) -> tuple[int, ...]:
    """What is added may give its place to the result where no position is computed twice (blocked.hpp)."""
    options = step.options
    if len(step.inputs) < 2 or step.inputs[0] == step.inputs[1] or options["y"][2] % 2 or options["depthwise"]:
        return ()
    return step.inputs[1:]


KINDS = {
    "blocked_conv": Kind(_none, _convolution, fuses=True),
    **dict.fromkeys(("blocked_max_pool", "blocked_avg_pool"), Kind(_none, _pool)),
    **dict.fromkeys(("block", "unblock"), Kind(_none, _turn)),
}
