"""Steps over images whose channels lie in blocks of 16, (N, ceil(C / 16), H, W, 16) of float32. Plans have them, files
have not: they are made by fastnn.infer.passes, of steps that were checked.

Their options: x and y, the images (C, H, W) as which input and result count; kernel, stride, before and dilation, of
rows and columns, where before is the padding in front. blocked_conv: groups; depthwise, where every channel is a group
of its own; planes, which says that x is not blocked. Its second input is added to the result before the activation.
Where it has sums, that is the image of all this, of which y are the maxima over squares of 2 by 2.
blocked_avg_pool: counts, the divisor's factors by row and by column.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn.functions.convolution import geometry
from fastnn.fusion import fused
from fastnn.infer.graph import Array, Shape, Step
from fastnn.infer.memory import aligned
from fastnn.infer.steps.kind import Call, Constants, Function, Kind, Site
from fastnn.kernels.cpu import blocked as native
from fastnn.pooled import window_options
from fastnn.windows import Axis, counts, three, windows

CHANNELS = 16
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
    outputs, inner = c["weight"].shape[:2]
    groups = outputs if inner == 0 else step.inputs_as[0][0] // inner
    if groups == 1:
        return bool(outputs >= _FEWEST)
    return inner == 1 and groups == outputs or (inner % CHANNELS == 0 and outputs // groups % CHANNELS == 0)


def convolution_options(step: Step, c: Constants) -> dict[str, Any]:
    """Of a step "conv"."""
    weight, given = c["weight"], step.options
    axes = weight.ndim - 2
    names = "stride", "padding", "dilation", "groups"
    found = geometry(f"conv{axes}d", (1, *step.inputs_as[0]), weight.shape, *(given[name] for name in names), axes)
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
    step, c, options = site.step, site.constants, site.step.options
    groups = options["groups"]

    def weight(array: Array) -> Array:
        outputs, inner = array.shape[:2]
        return native.pack(array.reshape(outputs, inner, *options["kernel"]), groups)

    def bias(array: Array) -> Array:
        return native.pack_channels(array, groups)

    packed = [_packed(site, "weight", weight)]
    if "bias" in c:
        packed.append(_packed(site, "bias", bias))
    else:
        packed.append(np.zeros(-(-options["y"][0] // CHANNELS) * CHANNELS, np.float32))
    then = fused("conv", step.activation, site.dtype)
    kind = "depthwise" if options["depthwise"] else "conv"
    adds = len(step.inputs) > 1
    made = _step(site, kind, groups, options["planes"], "sums" in options, adds, *packed, activation=then)
    return made, [*(site.x(number) for number in range(len(step.inputs))), site.y()]


def _packed(site: Site, role: str, pack: Any) -> Array:
    """A constant in the order in which the kernels read it: kept with the session, from the beginning of a line."""
    name = f"{site.step.constants[role]} in blocks"
    if name not in site.packed:
        site.packed[name] = aligned(pack(site.constants[role]))
    return site.packed[name]


def _pool(site: Site) -> Call:
    options = site.step.options
    factors = None, None
    if "counts" in options:
        rows, cols = (np.array(each, np.float64) for each in options["counts"])
        factors = rows, cols
    made = _step(site, site.step.op.removeprefix("blocked_"), counts=factors)
    return made, [site.x(), site.y()]


def _step(site: Site, kind: str, *more: Any, **named: Any) -> native.Step:
    options, names = site.step.options, ("kernel", "stride", "before", "dilation")
    shapes = ((site.batch, *options[name]) for name in ("x", "sums" if "sums" in options else "y"))
    return native.Step(kind, *shapes, *(options[name] for name in names), *more, **named)


def _turn(site: Site) -> Call:
    shape = site.batch, *site.step.options["x"]
    return native.Step(site.step.op, shape, shape), [site.x(), site.y()]


def _none(step: Step, c: Constants) -> Function:
    raise ValueError(f"there is no public function for a step {step.op!r}, which is of plans only")


def overwrites(step: Step) -> tuple[int, ...]:
    """What is added may give its place to the result where no position is computed twice (blocked.hpp)."""
    if len(step.inputs) < 2 or step.inputs[0] == step.inputs[1] or step.options["y"][2] % 2:
        return ()
    return step.inputs[1:]


KINDS = {
    "blocked_conv": Kind(_none, _convolution, fuses=True),
    **dict.fromkeys(("blocked_max_pool", "blocked_avg_pool"), Kind(_none, _pool)),
    **dict.fromkeys(("block", "unblock"), Kind(_none, _turn)),
}
