"""The values of a plan as arrays of a C program: where each is, in which order, and when it may be written over."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from fastnn.infer.c import formulas
from fastnn.infer.c.library import literal
from fastnn.infer.c.program import Program, Value, as_loop
from fastnn.infer.graph import Array, Graph, Shape, Step

BLOCK = 16  # channels and outputs that kernels take together


class Writer:
    """Goes through the steps of a graph; knows in which array each value is, and in which order."""

    def __init__(self, graph: Graph, batch: int) -> None:
        self.graph, self.batch = graph, batch
        self.program = Program(graph.dtype.name)
        self.values: list[Value] = [Value("x", graph.input_shape, graph.dtype.name)]
        self.turned: dict[tuple[str, bool], Value] = {}
        self.left = [0] * (len(graph.steps) + 1)  # steps that will still read a value
        for step in graph.steps:
            for value in step.inputs:
                self.left[value] += 1

    def write(self, kinds: Mapping[str, Callable[[Writer, Step], Value]]) -> Program:
        """All steps, each by the function of its kind."""
        for number, step in enumerate(self.graph.steps):
            self.last = number == len(self.graph.steps) - 1
            for value in step.inputs:
                self.left[value] -= 1
            self.title = title = f"#{number + 1}"
            self.values.append(kinds[step.op](self, step))
            for operation in self.program.operations:
                if operation.title == title:
                    operation.title = self.described(title, step)
        end = self.values[-1]
        if end.name != "y":
            self.into("y", end)
        return self.program

    def described(self, number: str, step: Step) -> str:
        """What a step does: for comments."""
        then = "" if step.activation is None or step.op == "activation" else f" + {step.activation[0]}"
        name = str(step.activation[0]) if step.op == "activation" and step.activation else step.op
        values = [self.values[value] for value in step.inputs]
        shapes = [
            value.shape if value.blocked and seen == in_blocks(value.shape) else seen
            for value, seen in zip(values, step.inputs_as, strict=True)
        ]
        texts = [" x ".join(map(str, shape)) for shape in (*shapes, self.values[-1].shape)]
        named = f"{number} {name.removeprefix('blocked_')}{then}: {', '.join(step.modules)}".removesuffix(": ")
        return f"{named}; {' and '.join(texts[:-1])} -> {texts[-1]}"

    # ---- arrays ----

    def input(self, step: Step, last: bool | None = None, number: int = 0) -> Value:
        """An input of a step, channels last or first; None: as it is, if that is how the step sees it."""
        value, shape = self.values[step.inputs[number]], step.inputs_as[number]
        if shape == in_blocks(value.shape) and math.prod(value.shape[1:]) == 1:  # one pixel lies in blocks as it is
            value = replace(value, blocked=True)
        if value.shape != shape and not (value.blocked and shape == in_blocks(value.shape)):
            value = self.ordered(value, False)
            value = Value(value.name, shape, value.dtype)
        return value if last is None else self.ordered(value, last)

    def ordered(self, value: Value, last: bool) -> Value:
        """The same array with its channels last, or first."""
        if value.last == last:
            return value
        key = value.name, last
        if _same_either_way(value.shape):
            return replace(value, last=last)
        if key not in self.turned:
            found = self.turned[key] = self.program.new(value.shape, value.dtype, last)
            self.turn(value, found)
        return replace(self.turned[key], blocked=value.blocked)

    def turn(self, value: Value, to: Value) -> None:
        channels, places = value.shape[0], math.prod(value.shape[1:])
        sizes = (places, channels) if value.last else (channels, places)
        call = f"{self.program.use('turned')}({value.name}, {to.name}, {sizes[0]}, {sizes[1]});"
        self.program.add(f"channels {'first' if value.last else 'last'}", [call], value, to)

    def into(self, name: str, value: Value) -> None:
        """The result to where the caller wants it."""
        to = Value(name, value.shape, value.dtype)
        if value.last and not _same_either_way(value.shape):
            self.turn(value, to)
        else:
            self.program.add("result", as_loop(value.size, f"{name}[i] = {value.name}[i];"), value, to)

    def image(self, step: Step, number: int = 0) -> Value:
        """An input that the plan has in blocks, channels last."""
        value, shape = self.values[step.inputs[number]], step.options["y" if number else "x"]
        if not value.blocked:  # planes of single pixels lie as blocks do
            value = Value(value.name, shape, value.dtype, value.last)
        return self.ordered(value, True)

    def output(self, shape: Shape, last: bool = False, over: Value | None = None) -> Value:
        """The array for a step's result: the caller's y if it is in the caller's order; `over`, what it may replace."""
        if self.last and (not last or _same_either_way(shape)):
            return Value("y", shape, self.graph.dtype.name, last)
        if over is not None and over.name in self.program.arrays:
            for key in [key for key, value in self.turned.items() if over.name in (key[0], value.name)]:
                del self.turned[key]
            return over
        return self.program.new(shape, None, last)

    def over(self, step: Step, value: Value) -> Value | None:
        """The first input, if nobody reads it after this step, which may write over it."""
        origin = self.values[step.inputs[0]].name
        return None if any(self.left[k] for k, each in enumerate(self.values) if each.name == origin) else value

    def add(self, lines: list[str], *values: Value) -> None:
        self.program.add(self.title, lines, *values)
        self.title = ""

    def number(self, value: float) -> str:
        return literal(float(self.graph.dtype.type(value)), self.program.real)

    def optional(self, array: Array | None, count: int, value: float, role: str) -> str:
        """A constant; `count` times the same number where there is none."""
        return self.program.constant(role, np.full(count, value, self.graph.dtype) if array is None else array)

    def activate(self, step: Step, y: Value) -> Value:
        """The activation of the step, on its result."""
        if step.activation is not None:
            name, *given = step.activation
            parameters = "".join(f", {self.number(each)}" for each in given)
            function = self.program.use(formulas.activation(name, self.program.real))
            self.add(as_loop(y.size, f"{y.name}[i] = {function}({y.name}[i]{parameters});"), y)
        return y


def _same_either_way(shape: Shape) -> bool:
    return shape[0] == 1 or math.prod(shape[1:]) == 1


def in_blocks(image: Shape) -> Shape:
    """The shape under which plans have an image (C, H, W) whose channels lie in blocks."""
    return (-(-image[0] // BLOCK), *image[1:], BLOCK)
