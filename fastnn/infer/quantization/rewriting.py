"""The quantized graph: which steps work on bytes, where values become bytes and floats again."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastnn import functional
from fastnn.infer.graph import Array, Graph, Shape, Step
from fastnn.infer.quantization.calibration import Range
from fastnn.infer.quantization.numbers import Weights, added, affine, number, quantized_weights, table
from fastnn.infer.steps import function

_HEAVY = ("linear", "conv")
_LIGHT = ("max_pool", "avg_pool", "adaptive_avg_pool", "global_avg_pool", "add", "activation", "pad")


def unfused(graph: Graph) -> Graph:
    """The same with every activation a step of its own, so that each value has its own range."""
    made = Graph(graph.dtype, graph.input_shape, graph.output_shape, [], graph.constants)
    moved = [0]
    for old in graph.steps:
        step = copy.copy(old)
        step.inputs = tuple(moved[value] for value in old.inputs)
        made.steps.append(step)
        if old.activation is not None and old.op != "activation":
            step.activation = None
            shape = (old.shape,)
            then = Step("activation", (len(made.steps),), shape, old.shape, activation=old.activation)
            then.modules, step.modules = list(old.modules[-1:]), old.modules[:-1] or old.modules
            made.steps.append(then)
        moved.append(len(made.steps))
    return made


def clamp(step: Step) -> tuple[float, float] | None:
    """The bounds of an activation that is only that."""
    name, *given = step.activation or ("",)
    if step.op != "activation" or step.constants:
        return None
    return {"relu": (0.0, math.inf), "relu6": (0.0, 6.0), "hardtanh": (-1.0, 1.0)}.get(name) if not given else (
        (float(given[0]), float(given[1])) if name == "hardtanh" and len(given) == 2 else None
    )  # fmt: skip


class Rewriting:
    """A quantized graph in the making, beside the float graph that it is made from.

    A value of the float graph may be there as floats, and as bytes in either order: "plain" as the floats have it, or
    "last", channels last.
    """

    def __init__(self, source: Graph, ranges: Sequence[Range], excluded: Callable[[Step], bool]) -> None:
        self.source, self.graph = source, Graph(source.dtype, source.input_shape, source.output_shape)
        self.affines = {value: affine(*each) for value, each in enumerate(ranges)}
        self.renders: dict[int, tuple[int, str]] = {}  # by values of the graph those of the source, and in which form
        self._floats = {0: 0}
        self._bytes: dict[tuple[int, str, Shape], int] = {}
        self._weights: dict[int, Weights] = {}
        self._shapes = [source.input_shape, *(step.shape for step in source.steps)]
        self._readers: list[list[int]] = [[] for _ in self._shapes]
        for place, step in enumerate(source.steps):
            for value in step.inputs:
                self._readers[value].append(place)
        self._chosen = self._choose(excluded)

    def done(self) -> Graph:
        """The graph, every step of the source in it."""
        steps, skipped = self.source.steps, set()
        for place, step in enumerate(steps):
            if place in skipped:
                continue
            if place not in self._chosen:
                self._float(place, step)
                continue
            then = self._followed(place)
            value = place + 1 if then is None else then + 1
            if then is not None:
                skipped.add(then)
            _WRITERS[step.op](self, step, place, value, (-math.inf, math.inf) if then is None else clamp(steps[then]))
        end = self.floats(len(steps))
        assert end == len(self.graph.steps)
        return self.graph

    # ---- what is quantized ----

    def _choose(self, excluded: Callable[[Step], bool]) -> set[int]:
        chosen: set[int] = set()
        for place, step in enumerate(self.source.steps):
            if excluded(step):
                continue
            if step.op in _HEAVY:
                if self._fits(place, step):
                    chosen.add(place)
            elif (
                step.op in _LIGHT and all(value and value - 1 in chosen for value in step.inputs) and self._simple(step)
            ):
                chosen.add(place)
        for place in sorted(chosen, reverse=True):  # bytes that only floats are made of again win nothing
            step = self.source.steps[place]
            if step.op in _HEAVY or any(reader in chosen for reader in self._readers[place + 1]):
                continue
            if clamp(step) is None or self.source.steps[step.inputs[0] - 1].op != "conv":  # which costs it nothing
                chosen.discard(place)
        return chosen

    def _fits(self, place: int, step: Step) -> bool:
        c, x = self.source.of(step), self.affines[step.inputs[0]]
        found = quantized_weights(c["weight"], c.get("bias"), x)
        if found is None or (step.op == "conv" and c["weight"].ndim not in (3, 4)):
            return False
        self._weights[place] = found
        return True

    def _simple(self, step: Step) -> bool:
        """Is it one whose bytes can be computed?"""
        shapes, axes = step.inputs_as, len(step.inputs_as[0]) - 1
        if any(shape != self._shapes[value] for value, shape in zip(step.inputs, shapes, strict=True)):
            return False
        if "pool" in step.op:
            dilation = step.options.get("dilation", 1)
            return axes in (1, 2) and (step.op == "max_pool" or np.all(np.equal(dilation, 1)).item())
        return not (step.op == "activation" and step.constants)

    def _followed(self, place: int) -> int | None:
        """The clamp that is applied with a step's result."""
        readers, step = self._readers[place + 1], self.source.steps[place]
        if step.op not in ("linear", "conv", "add", "avg_pool", "adaptive_avg_pool", "global_avg_pool"):
            return None
        if len(readers) != 1 or readers[0] not in self._chosen or clamp(self.source.steps[readers[0]]) is None:
            return None
        return readers[0]

    # ---- values ----

    def floats(self, value: int) -> int:
        """The value as floats in its own order."""
        if value not in self._floats:
            (_, form, _), made = next((key, at) for key, at in self._bytes.items() if key[0] == value)
            given, shape = self.affines[value], self._shapes[value]
            options = {"scale": given.scale, "zero": given.zero, "channels_last": form == "last"}
            seen = (*shape[1:], shape[0]) if form == "last" else shape
            self._floats[value] = self._emit("dequantize", (made,), (seen,), options, shape, [], None)
            self.renders[self._floats[value]] = value, "floats"
        return self._floats[value]

    def bytes(self, value: int, form: str, shape: Shape) -> int:
        """The value as bytes, as it is seen in a shape of floats."""
        form = form if len(shape) > 1 else "plain"
        key = value, form, shape
        if key not in self._bytes:
            given = self.affines[value]
            options = {"scale": given.scale, "zero": given.zero, "channels_last": form == "last"}
            made = (*shape[1:], shape[0]) if form == "last" else shape
            self._bytes[key] = self._emit("quantize", (self.floats(value),), (shape,), options, made, [])
            self.renders[self._bytes[key]] = value, form
        return self._bytes[key]

    def _emit(
        self,
        op: str,
        inputs: tuple[int, ...],
        inputs_as: tuple[Shape, ...],
        options: dict[str, Any],
        shape: Shape,
        modules: list[str],
        dtype: str | None = "uint8",
        constants: dict[str, tuple[str, Array]] | None = None,
    ) -> int:
        step = Step(op, inputs, inputs_as, shape, options, modules=modules, dtype=dtype)
        for role, (name, array) in (constants or {}).items():
            step.constants[role] = name
            self.graph.constants[name] = array
        function(step, self.graph.of(step))
        self.graph.steps.append(step)
        return len(self.graph.steps)

    def _made(self, value: int, form: str, at: int) -> None:
        shape = self._shapes[value]
        form = form if len(shape) > 1 else "plain"
        self._bytes[value, form, shape] = at
        self.renders[at] = value, form

    def _bounds(self, value: int, bounds: tuple[float, float]) -> dict[str, int]:
        """Zero point and range of a result."""
        given = self.affines[value]
        low, high = (
            given.quantized(each) if math.isfinite(each) else end for each, end in zip(bounds, (0, 255), strict=True)
        )
        return {"zero": given.zero, "low": low, "high": high}

    def _modules(self, place: int, value: int) -> list[str]:
        names = [
            *self.source.steps[place].modules,
            *(self.source.steps[value - 1].modules if value - 1 != place else []),
        ]
        return list(dict.fromkeys(names))

    # ---- steps ----

    def _float(self, place: int, old: Step) -> None:
        step = copy.copy(old)
        step.inputs = tuple(self.floats(value) for value in old.inputs)
        for name in old.constants.values():
            self.graph.constants[name] = self.source.constants[name]
        self.graph.steps.append(step)
        self._floats[place + 1] = len(self.graph.steps)
        self.renders[len(self.graph.steps)] = place + 1, "floats"

    def linear(self, step: Step, place: int, value: int, bounds: tuple[float, float]) -> None:
        """As bytes, or straight as floats where no other step wants bytes."""
        source, seen = step.inputs[0], step.inputs_as[0]
        shape, found = self._shapes[source], self._weights[place]
        weight = found.weight
        if len(seen) == 1 and len(shape) > 1 and (source, "last", shape) in self._bytes:  # flattened
            order = np.arange(seen[0]).reshape(shape)
            weight = np.ascontiguousarray(weight[:, np.moveaxis(order, 0, -1).reshape(-1)])
            at = self._bytes[source, "last", shape]
        else:
            flat = (source, "plain", shape)
            at = self._bytes[flat] if flat in self._bytes else self.bytes(source, "plain", seen)
        if all(reader in self._chosen for reader in self._readers[value]) and self._readers[value]:
            name, multiplier, dtype = step.constants["weight"], self._multiplier(source, value, found), "uint8"
            options = self._bounds(value, bounds)
        else:
            if value != place + 1:  # a clamp of floats is a step of its own
                self._chosen.discard(value - 1)
            name, multiplier, dtype = step.constants["weight"], self._multiplier(source, None, found), None
            options = {"zero": 0, "low": 0, "high": 255}
        constants = self._constants(name, weight, found, multiplier)
        result = self.source.steps[place].shape
        made = self._emit(
            "quantized_linear", (at,), (seen,), options, result, self._modules(place, value if dtype else place + 1),
            dtype, constants,
        )  # fmt: skip
        if dtype:
            self._made(value, "plain", made)
            return
        self._floats[place + 1] = made
        self.renders[made] = place + 1, "floats"
        if value != place + 1:
            self._float(value - 1, self.source.steps[value - 1])

    def _multiplier(self, source: int, value: int | None, found: Weights) -> Array:
        by = 1.0 if value is None else self.affines[value].scale
        tiny = np.finfo(np.float32).tiny
        return np.maximum(found.scale * self.affines[source].scale / by, tiny).astype(np.float32)

    @staticmethod
    def _constants(name: str, weight: Array, found: Weights, multiplier: Array) -> dict[str, tuple[str, Array]]:
        stem = name.removesuffix("weight")
        return {
            "weight": (name, weight),
            "bias": (stem + "bias", found.bias),
            "multiplier": (stem + "multiplier", multiplier),
        }

    def conv(self, step: Step, place: int, value: int, bounds: tuple[float, float]) -> None:
        """Weights with their channels last, as those of images."""
        source, seen, found = step.inputs[0], step.inputs_as[0], self._weights[place]
        at = self.bytes(source, "last", seen)
        weight = np.ascontiguousarray(np.moveaxis(found.weight, 1, -1))
        options = {key: step.options[key] for key in ("stride", "padding", "dilation", "groups")}
        options |= {"kernel_size": weight.shape[1:-1], "outputs": len(weight), "x_zero": self.affines[source].zero}
        options |= self._bounds(value, bounds)
        made = self._emit(
            "quantized_conv", (at,), ((*seen[1:], seen[0]),), options, (*step.shape[1:], step.shape[0]),
            self._modules(place, value), "uint8",
            self._constants(step.constants["weight"], weight, found, self._multiplier(source, value, found)),
        )  # fmt: skip
        self._made(value, "last", made)

    def max_pool(self, step: Step, place: int, value: int, bounds: tuple[float, float]) -> None:
        """In the scale of its input."""
        source, seen = step.inputs[0], step.inputs_as[0]
        self.affines[value] = self.affines[source]
        at, shape = self.bytes(source, "last", seen), (*step.shape[1:], step.shape[0])
        op, options = "quantized_" + step.op, dict(step.options)
        if step.op == "pad":
            options["fill"] = self.affines[source].zero
        self._made(
            value, "last", self._emit(op, (at,), ((*seen[1:], seen[0]),), options, shape, self._modules(place, value))
        )

    def average(self, step: Step, place: int, value: int, bounds: tuple[float, float]) -> None:
        """Windows, regions, or the whole."""
        source, seen = step.inputs[0], step.inputs_as[0]
        at, given = self.bytes(source, "last", seen), self.affines[source]
        options: dict[str, Any] = {"dilation": 1} | step.options
        if step.op == "global_avg_pool":
            options["output_size"] = (1,) * (len(seen) - 1)
        elif step.op == "adaptive_avg_pool":
            size = options["output_size"]
            options["output_size"] = tuple(size) if isinstance(size, (tuple, list)) else (size,) * (len(seen) - 1)
        options |= {"whole": step.op == "global_avg_pool", "x_zero": given.zero} | self._bounds(value, bounds)
        options["multiplier"] = number(given.scale / self.affines[value].scale)
        spatial = () if options["whole"] else step.shape[1:]
        made = self._emit(
            "quantized_avg_pool", (at,), ((*seen[1:], seen[0]),), options, (*spatial, step.shape[0]),
            self._modules(place, value),
        )  # fmt: skip
        self._made(value, "last", made)

    def add(self, step: Step, place: int, value: int, bounds: tuple[float, float]) -> None:
        """Each summand in its own scale."""
        shape = step.inputs_as[0]
        forms = [form for source in step.inputs for form in ("last", "plain") if (source, form, shape) in self._bytes]
        form = "last" if "last" in forms else "plain"
        ats = tuple(self.bytes(source, form, shape) for source in step.inputs)
        a, b = (self.affines[source] for source in step.inputs)
        numbers = added(a, b, self.affines[value])._asdict() | self._bounds(value, bounds)
        seen = (*shape[1:], shape[0]) if form == "last" and len(shape) > 1 else shape
        made = self._emit("quantized_add", ats, (seen, seen), numbers, seen, self._modules(place, value))
        self._made(value, form, made)

    def activation(self, step: Step, place: int, value: int, bounds: tuple[float, float]) -> None:
        """A table of 256 bytes."""
        source, shape = step.inputs[0], step.inputs_as[0]
        form = "last" if (source, "last", shape) in self._bytes else "plain"
        at, (name, *given) = self.bytes(source, form, shape), step.activation or ("",)
        call = getattr(functional, name)
        bytes_ = table(lambda x: call(x, *given), self.affines[source], self.affines[value])
        seen = (*shape[1:], shape[0]) if form == "last" and len(shape) > 1 else shape
        constants = {"table": (f"{place + 1}.table", bytes_)}
        made = self._emit(
            "quantized_activation",
            (at,),
            (seen,),
            {"name": name},
            seen,
            self._modules(place, value),
            "uint8",
            constants,
        )
        self._made(value, form, made)


_WRITERS: dict[str, Callable[..., None]] = {
    "linear": Rewriting.linear,
    "conv": Rewriting.conv,
    "max_pool": Rewriting.max_pool,
    "pad": Rewriting.max_pool,
    **dict.fromkeys(("avg_pool", "adaptive_avg_pool", "global_avg_pool"), Rewriting.average),
    "add": Rewriting.add,
    "activation": Rewriting.activation,
}


def dynamic(source: Graph, excluded: Callable[[Step], bool]) -> Graph:
    """The graph with int8 weights in its linear layers, whose inputs get scales of their own at run time."""
    graph = Graph(source.dtype, source.input_shape, source.output_shape, [], dict(source.constants))
    steps, moved, taken = source.steps, [0], set()
    readers = [[k for k, step in enumerate(steps) if value in step.inputs] for value in range(len(steps) + 1)]
    for place, old in enumerate(steps):
        if place in taken:
            moved.append(moved[old.inputs[0]])
            continue
        step = copy.copy(old)
        step.inputs = tuple(moved[value] for value in old.inputs)
        c = source.of(old)
        found = quantized_weights(c["weight"], None, None) if old.op == "linear" and not excluded(old) else None
        if found is not None:
            then = steps[readers[place + 1][0]] if len(readers[place + 1]) == 1 else None
            bounds = None if then is None else clamp(then)
            if then is not None and bounds is not None:
                taken.add(readers[place + 1][0])
                step.modules = [*old.modules, *then.modules]
            low, high = (each if math.isfinite(each) else None for each in bounds or (-math.inf, math.inf))
            name = old.constants["weight"]
            stem = name.removesuffix("weight")
            step.op, step.options = "dynamic_linear", {"low": low, "high": high}
            step.constants = {"weight": name, "scale": stem + "scale", "bias": stem + "bias"}
            bias = c.get("bias")
            graph.constants[name] = found.weight
            graph.constants[stem + "scale"] = found.scale.astype(np.float32)
            graph.constants[stem + "bias"] = np.zeros(len(found.weight), np.float32) if bias is None else bias
            function(step, graph.of(step))
        graph.steps.append(step)
        moved.append(len(graph.steps))
    return graph
