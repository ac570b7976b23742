"""Where images lie in blocks of channels: all the way from the first convolution to what has no such form.

A blocked value is (ceil(C / 16), H, W, 16) a sample, whatever the instruction set. Steps of kinds `blocked_*`, `block`
and `unblock` (fastnn.infer.steps.blocked) make them; their options say what the images are. Elementwise steps work on
either layout. Values are turned over only where a step needs the other layout, once for all that do.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np

from fastnn.infer.graph import Array, Graph, Shape, Step
from fastnn.infer.steps import blocked
from fastnn.kernels.blocks import CHANNELS

_EACH = ("activation", "multiply", "divide", "add")


def in_blocks(graph: Graph) -> Graph:
    """The graph with layouts chosen and values turned over."""
    making = _Layouts(graph)
    for place, step in enumerate(graph.steps):
        making.add(place + 1, step)
    end = len(graph.steps)
    making.plain(end)
    return making.plan


class _Layouts:
    """A plan in the making; `values` are those of the graph, by which the maps find those of the plan."""

    def __init__(self, graph: Graph) -> None:
        self.plan = replace(graph, steps=[], constants=dict(graph.constants))
        self.shapes = [graph.input_shape, *(step.shape for step in graph.steps)]
        self.in_planes: dict[int, int] = {0: 0}
        self.in_blocks: dict[int, int] = {}
        self.uses = Counter(value for step in graph.steps for value in step.inputs)

    def emit(self, step: Step) -> int:
        self.plan.steps.append(step)
        return len(self.plan.steps)

    # ---- values in a layout ----

    def plain(self, value: int) -> int:
        """The value as (C, H, W), turned over if need be."""
        if value not in self.in_planes:
            image = blocked.image(self.shapes[value])
            found = self.in_blocks[value]
            if not _same_memory(image):
                found = self.emit(
                    Step("unblock", (found,), (blocked.shape_of(image),), self.shapes[value], {"x": image})
                )
            self.in_planes[value] = found
        return self.in_planes[value]

    def blocks(self, value: int) -> int:
        """The value in blocks, turned over if need be."""
        if value not in self.in_blocks:
            image = blocked.image(self.shapes[value])
            found = self.in_planes[value]
            if not _same_memory(image):
                found = self.emit(
                    Step("block", (found,), (self.shapes[value],), blocked.shape_of(image), {"x": image, "y": image})
                )
            self.in_blocks[value] = found
        return self.in_blocks[value]

    def is_blocked(self, step: Step) -> bool:
        """Does an input lie in blocks, and does the step see it as it was made?"""
        return any(
            value in self.in_blocks and seen == self.shapes[value]
            for value, seen in zip(step.inputs, step.inputs_as, strict=True)
        )

    # ---- steps ----

    def add(self, value: int, step: Step) -> None:
        """The step that makes a value, in the layout that suits it."""
        constants = self.plan.of(step)
        if step.op == "conv" and blocked.takes(step, constants):
            self.convolution(value, step, constants)
        elif step.op in ("max_pool", "avg_pool", "adaptive_avg_pool", "global_avg_pool") and self.is_blocked(step):
            self.pool(value, step)
        elif step.op == "batch_norm" and self.is_blocked(step):
            self.batch_norm(value, step, constants)
        elif step.op in _EACH and not step.constants and self.is_blocked(step):
            self.each(value, step)
        elif step.op == "linear" and self.permuted(value, step, constants):
            pass
        else:
            self.as_it_is(value, step)

    def as_it_is(self, value: int, step: Step) -> None:
        inputs = tuple(self.plain(each) for each in step.inputs)
        self.in_planes[value] = self.emit(replace(step, inputs=inputs))

    def each(self, value: int, step: Step) -> None:
        """Element by element: the layout does not matter."""
        if any(seen != self.shapes[each] for each, seen in zip(step.inputs, step.inputs_as, strict=True)):
            return self.as_it_is(value, step)
        inputs, shape = tuple(self.blocks(each) for each in step.inputs), self.memory(value)
        self.in_blocks[value] = self.emit(replace(step, inputs=inputs, inputs_as=(shape,) * len(inputs), shape=shape))
        return None

    def memory(self, value: int) -> Shape:
        return blocked.shape_of(blocked.image(self.shapes[value]))

    def convolution(self, value: int, step: Step, constants: dict[str, Array]) -> None:
        options = blocked.convolution_options(step, constants)
        seen_as_made = step.inputs_as[0] == self.shapes[step.inputs[0]]
        planes = not (seen_as_made and step.inputs[0] in self.in_blocks)
        if planes and (options["groups"] > 1 or options["depthwise"]):
            if not seen_as_made:
                return self.as_it_is(value, step)
            planes = False
        if len(step.inputs) > 1 and not self.shapes[step.inputs[1]] == step.inputs_as[1] == step.shape:
            raise ValueError(f"{step.inputs_as[1]} cannot be added to {step.shape}")
        options["planes"] = planes
        inputs = [self.plain(step.inputs[0]) if planes else self.blocks(step.inputs[0])]
        seen = [step.inputs_as[0] if planes else self.memory(step.inputs[0])]
        shape = blocked.shape_of(options["y"])
        if len(step.inputs) > 1:
            inputs.append(self.blocks(step.inputs[1]))
            seen.append(shape)
        made = replace(
            step, op="blocked_conv", inputs=tuple(inputs), inputs_as=tuple(seen), shape=shape, options=options
        )
        self.in_blocks[value] = self.emit(made)
        return None

    def pool(self, value: int, step: Step) -> None:
        found = blocked.pool_options(step)
        if found is None:
            return self.as_it_is(value, step)
        op, options = found
        if self.pooled_before(value, step, options):
            return None
        inputs = (self.blocks(step.inputs[0]),)
        seen, shape = (self.memory(step.inputs[0]),), blocked.shape_of(options["y"])
        made = replace(step, op=op, inputs=inputs, inputs_as=seen, shape=shape, options=options)
        self.in_blocks[value] = self.emit(made)
        return None

    def pooled_before(self, value: int, step: Step, options: dict[str, Any]) -> bool:
        """Maxima over squares of two by two are taken by the convolution before, from what is in the cache."""
        source, wanted = step.inputs[0], {"kernel": (2, 2), "stride": (2, 2), "before": (0, 0), "dilation": (1, 1)}
        _, rows, cols = options["x"]
        if step.op != "max_pool" or any(options[name] != pair for name, pair in wanted.items()):
            return False
        if self.uses[source] > 1 or source in self.in_planes or options["y"][1:] != (rows // 2, cols // 2):
            return False
        place = self.in_blocks[source] - 1
        conv = self.plan.steps[place]
        if conv.op != "blocked_conv" or len(conv.inputs) > 1 or "sums" in conv.options:
            return False
        self.plan.steps[place] = replace(
            conv,
            shape=blocked.shape_of(options["y"]),
            options={**conv.options, "y": options["y"], "sums": conv.options["y"]},
            modules=[*conv.modules, *step.modules],
        )
        self.in_blocks[value] = place + 1
        return True

    def batch_norm(self, value: int, step: Step, constants: dict[str, Array]) -> None:
        """Each channel times a number, plus a number: a depthwise convolution with a kernel of one element."""
        gamma, beta, mean, var = (
            None if constants.get(role) is None else constants[role].astype(np.float64)
            for role in ("weight", "bias", "running_mean", "running_var")
        )
        assert mean is not None and var is not None
        with np.errstate(all="ignore"):
            scale = (1.0 if gamma is None else gamma) / np.sqrt(var + step.options["eps"])
            shift = (0.0 if beta is None else beta) - mean * scale
            rounded = scale.astype(np.float32).reshape(-1, 1, 1, 1), shift.astype(np.float32)
        if not all(np.isfinite(array).all() for array in rounded):
            return self.as_it_is(value, step)
        name = step.constants["running_mean"]
        names = {role: f"{name} as {kind}" for role, kind in (("weight", "scale"), ("bias", "shift"))}
        self.plan.constants.update(zip(names.values(), rounded, strict=True))
        image = blocked.image(self.shapes[value])
        options: dict[str, Any] = {"groups": 1, "depthwise": True, "planes": False, **blocked.pointwise(image)}
        shape = self.memory(value)
        self.in_blocks[value] = self.emit(
            replace(
                step,
                op="blocked_conv",
                inputs=(self.blocks(step.inputs[0]),),
                inputs_as=(shape,),
                shape=shape,
                options=options,
                constants=names,
            )
        )
        return None

    def permuted(self, value: int, step: Step, constants: dict[str, Array]) -> bool:
        """A linear layer of a flattened image reads the blocks where they lie, if there are no channels but its own."""
        source = step.inputs[0]
        if source not in self.in_blocks or source in self.in_planes:
            return False
        channels, rows, cols = image = blocked.image(self.shapes[source])
        if channels % CHANNELS or _same_memory(image) or step.inputs_as[0] != (channels * rows * cols,):
            return False
        name = step.constants["weight"]
        blocks = np.arange(channels * rows * cols).reshape(-1, CHANNELS, rows * cols)
        columns = blocks.transpose(0, 2, 1).ravel()
        moved = f"{name} for blocks"
        self.plan.constants[moved] = np.ascontiguousarray(constants["weight"][:, columns])
        made = replace(step, inputs=(self.in_blocks[source],), constants={**step.constants, "weight": moved})
        self.in_planes[value] = self.emit(made)
        return True


def _same_memory(image: Shape) -> bool:
    """Are planes and blocks the same? For single pixels of full blocks they are."""
    return image[0] % CHANNELS == 0 and math.prod(image[1:]) == 1
