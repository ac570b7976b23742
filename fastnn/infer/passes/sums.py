"""Sums of a body and a shortcut, done by the convolution that ends the body."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from fastnn.infer.graph import Graph, Step
from fastnn.infer.steps.blocked import takes


def with_sums_fused(graph: Graph) -> Graph:
    """The graph in which such convolutions take the shortcut as a second input, and the activation behind the sum.

    y = activation((convolution of x) + shortcut). The convolution moves to where the sum was, or its activation.
    """
    steps: list[Step | None] = list(graph.steps)
    uses = Counter(value for step in graph.steps for value in step.inputs)
    shapes = [graph.input_shape, *(step.shape for step in graph.steps)]
    for place, step in enumerate(graph.steps):
        if step.op != "add":
            continue
        for own, other in ((0, 1), (1, 0)):
            value = step.inputs[own]
            conv = steps[value - 1] if value > 0 else None
            if (
                conv is None
                or conv.op != "conv"
                or conv.activation is not None
                or len(conv.inputs) > 1
                or uses[value] > 1
                or not takes(conv, graph.of(conv))
                or any(shapes[each] != seen for each, seen in zip(step.inputs, step.inputs_as, strict=True))
            ):
                continue
            fused = replace(
                conv,
                inputs=(*conv.inputs, step.inputs[other]),
                inputs_as=(*conv.inputs_as, step.inputs_as[other]),
                modules=[*conv.modules, *step.modules],
            )
            end = place
            behind = _only_reader(graph, place + 1, uses)
            if behind is not None:
                then = graph.steps[behind]
                if then.op == "activation" and not then.constants:
                    fused.activation, end = then.activation, behind
                    fused.modules += then.modules
            steps[value - 1] = steps[place] = None
            steps[end] = fused
            break
    return _renumbered(graph, steps)


def _only_reader(graph: Graph, value: int, uses: Counter[int]) -> int | None:
    """The place of the only step that reads a value, if there is one."""
    if uses[value] != 1:
        return None
    return next(place for place, step in enumerate(graph.steps) if value in step.inputs)


def _renumbered(graph: Graph, steps: list[Step | None]) -> Graph:
    """A graph of the steps that are left; each still makes the value of its place."""
    made = replace(graph, steps=[])
    number = {0: 0}
    for place, step in enumerate(steps):
        if step is not None:
            made.steps.append(replace(step, inputs=tuple(number[value] for value in step.inputs)))
            number[place + 1] = len(made.steps)
    return made
