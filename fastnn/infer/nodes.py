"""ONNX graphs as steps: nodes that are layers as those, others as the operators that they are.

A node whose inputs do not depend on what the session is given is worked out here, for two sizes of the batch, so that
shapes which follow the batch are recognised. Any other must treat samples one by one, which is tried on random numbers.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn import nn
from fastnn.infer.graph import Array, Step
from fastnn.infer.steps import function
from fastnn.infer.steps.arrays import OPERATORS as AS_THEY_ARE
from fastnn.onnx.chain import layer_of
from fastnn.onnx.graph import Graph
from fastnn.onnx.operators import OPERATORS
from fastnn.onnx.reading import Node

if TYPE_CHECKING:
    from fastnn.infer.lower import Flow, Lowering

_RESHAPING = ("Flatten", "Reshape", "Squeeze", "Unsqueeze")
_EPS = 2.0**-20  # 1 - 2^-20 + 2^-20 is 1: a batch norm of this variance is weight x + bias
_TRIED = 3  # samples
Known = list[Array]  # a value for each size of the batch that is worked out


def lowered_graph(making: Lowering, graph: Graph, at: Flow) -> Flow:
    """The steps of a graph with one input, one output and samples along the first axis."""
    if len(graph.inputs) != 1 or len(graph.outputs) != 1:
        names = [[value.name for value in graph.inputs], graph.outputs]
        raise ValueError(f"compile: {graph.title} has inputs {names[0]} and outputs {names[1]}; expected one of each")
    return _Graph(making, graph, at).run()


class _Graph:
    """A graph while it becomes steps."""

    def __init__(self, making: Lowering, graph: Graph, at: Flow) -> None:
        self.making, self.graph = making, graph
        shape = graph.inputs[0].shape
        self.batches = [2, 3] if shape is None or shape[0] is None else [shape[0]]
        self.values: dict[str, Any] = {graph.inputs[0].name: at}  # Flow, or Known
        for found in (graph._parameters, graph._buffers):
            for name, value in found.items():
                array = value.data if isinstance(value, nn.Parameter) else value
                self.values[name] = [array] * len(self.batches)
        self.uses = Counter(name for node, _ in graph.steps for name in set(node.inputs))
        self.uses.update(graph.outputs)
        self.names: set[str] = set()  # of nodes so far

    def run(self) -> Flow:
        for node, _ in self.graph.steps:
            try:
                self.node(node)
            except (ArithmeticError, AttributeError, LookupError, MemoryError, TypeError, ValueError) as error:
                if str(error).startswith("compile:"):
                    raise
                what = node.name or f"of {node.outputs[0]!r}"
                raise ValueError(f"compile: the node {what} ({node.op}): {error or type(error).__name__}") from None
        end = self.values[self.graph.outputs[0]]
        if isinstance(end, list):
            raise ValueError(f"compile: {self.graph.title} does not depend on its input")
        return end  # type: ignore[no-any-return]

    def node(self, node: Node) -> None:
        """The value, or the values, that a node makes."""
        for name in node.inputs:
            if name and not isinstance(value := self.values[name], list) and self.uses[name] > 1:
                self.making.needed.add(value.value)
        given = [self.values[name] if name else None for name in node.inputs]
        data = [each for each in given if each is not None and not isinstance(each, list)]
        if node.op == "Shape" and data:
            given = [self._dummies(data[0])]
        if node.op == "Shape" or not data:
            made = [self._worked_out(node, [each and each[k] for each in given]) for k in self._sizes()]
            self.values |= {name: [each[k] for each in made] for k, name in enumerate(node.outputs) if name}
            return
        if node.op == "Split":
            self._split(node, data[0], given)
            return
        if any(node.outputs[1:]) and any(self.uses[name] for name in node.outputs[1:]):
            raise ValueError(f"makes {', '.join(node.outputs)}; a step of a session makes one value")
        self.values[node.outputs[0]] = self._step(node, given, data)

    def _name(self, node: Node) -> str:
        """What a node's step and constants are called: each name once."""
        name = node.name or node.outputs[0]
        while name in self.names:
            name += "_"
        self.names.add(name)
        return name

    def _sizes(self) -> range:
        return range(len(self.batches))

    def _dummies(self, flow: Flow) -> Known:
        """Arrays of a value's shape, without memory."""
        zero = np.zeros((), flow.x.dtype)
        return [np.broadcast_to(zero, (batch, *flow.shape)) for batch in self.batches]

    def _worked_out(self, node: Node, inputs: list[Array | None]) -> tuple[Array, ...]:
        with np.errstate(all="ignore"):
            made = OPERATORS[node.op](node, *inputs)
        return tuple(map(np.asarray, made if isinstance(made, tuple) else (made,)))

    def _step(self, node: Node, given: list[Any], data: list[Flow]) -> Flow:
        at = data[0]
        if node.op in ("Identity", "Dropout"):
            return at
        if node.op in _RESHAPING and len(data) == 1:
            return self._reshaped(node, at, given)
        for name, each in zip(node.inputs, given, strict=True):
            if isinstance(each, list) and any(not np.array_equal(each[0], other, True) for other in each[1:]):
                raise ValueError(f"uses {name!r}, which depends on the number of samples")
        constants = [each[0] if isinstance(each, list) else each for each in given]
        if len(data) == 1 and given[0] is at:
            layer = layer_of(node, at.x.ndim, constants[1:])
            if layer is not None:
                return self.making.go(self._name(node), layer, at)
        if len(data) == 1 and len(given) == 2 and (norm := _affine(node.op, at, constants)) is not None:
            return self.making.batch_norm(self._name(node), norm, at)
        if node.op == "Add" and len(data) == 2 and data[0].shape == data[1].shape:
            return self.making.emit("add", self._name(node), node, data)
        if node.op == "Conv" and len(data) == 1 and given[0] is at:
            return self._convolution(node, at, constants)
        return self._as_it_is(node, data, given, constants)

    def _reshaped(self, node: Node, at: Flow, given: list[Any]) -> Flow:
        dummies = self._dummies(at)
        given = [dummies if each is at else each for each in given]
        made = [self._worked_out(node, [each and each[k] for each in given])[0].shape for k in self._sizes()]
        if any(
            shape[:1] != (batch,) or shape[1:] != made[0][1:] for shape, batch in zip(made, self.batches, strict=True)
        ):
            raise ValueError(f"mixes samples: makes {made[-1]} of {dummies[-1].shape}")
        return type(at)(at.value, at.x.reshape(1, *made[0][1:]))

    def _split(self, node: Node, at: Flow, given: list[Any]) -> None:
        """Slices, one for each result."""
        parts = self._worked_out(node, [each[0] if isinstance(each, list) else at.x for each in given if each])
        axis, begin = node.get("axis", 0), 0
        self.making.needed.add(at.value)
        for name, part in zip(node.outputs, parts, strict=True):
            end = begin + part.shape[axis]
            if self.uses[name]:
                bounds = [np.array([number], np.int64) for number in (begin, end, axis)]
                slice_ = Node("Slice", f"{node.name or node.op}.{name}", ("", "", "", ""), (name,), {}, node.opset)
                self.values[name] = self._as_it_is(slice_, [at], [at, *([each] for each in bounds)], [None, *bounds])
            begin = end

    def _convolution(self, node: Node, at: Flow, constants: list[Any]) -> Flow:
        """One whose padding differs from side to side."""
        from fastnn.onnx.operators import windows

        weight, bias = (*constants[1:], None)[:2]
        if weight.ndim != at.x.ndim or weight.ndim not in (3, 4):
            raise ValueError(f"has a weight of shape {weight.shape} and x of shape {at.x.shape}")
        options = windows(node, at.x, weight.shape[2:]) | {"groups": node.get("group", 1)}
        return self.making.emit("conv", self._name(node), node, [at], options, {"weight": weight, "bias": bias})

    def _as_it_is(self, node: Node, data: list[Flow], given: list[Any], constants: list[Any]) -> Flow:
        if node.op not in AS_THEY_ARE:
            raise ValueError("is no step of a session with such inputs")
        flows: list[Flow] = []
        roles: dict[str, Array] = {}
        taken: list[Any] = []
        for place, (each, constant) in enumerate(zip(given, constants, strict=True)):
            if each is None:
                taken.append(None)
            elif not isinstance(each, list):
                taken.append(len(flows))
                flows.append(each)
            elif constant.dtype.kind in "iub":
                kind = "bool" if constant.dtype.kind == "b" else "int64"
                taken.append((kind, constant.shape, tuple(constant.reshape(-1).tolist())))
            else:
                taken.append(f"input{place}")
                roles[f"input{place}"] = constant
        attributes = {name: tuple(v) if isinstance(v, list) else v for name, v in node.attributes.items()}
        options = {"attributes": attributes, "opset": node.opset, "given": tuple(taken)}
        self._tried(node, flows, options, roles)
        return self.making.emit(node.op, self._name(node), node, flows, options, roles)

    def _tried(self, node: Node, flows: list[Flow], options: dict[str, Any], constants: dict[str, Array]) -> None:
        """ValueError unless each sample's result is that of the sample alone."""
        shapes = tuple(flow.shape for flow in flows)
        step = Step(node.op, tuple(flow.value for flow in flows), shapes, (), options)
        run = function(step, constants)
        rng = np.random.default_rng(0)
        xs = [
            rng.uniform(0.5, 1.5, (_TRIED, *shape)).astype(flow.x.dtype)
            for shape, flow in zip(shapes, flows, strict=True)
        ]
        with np.errstate(all="ignore"):
            whole, alone = run(*xs), [run(*(x[k : k + 1] for x in xs)) for k in range(_TRIED)]
        same = all(each.shape == (1, *whole.shape[1:]) for each in alone) and whole.shape[:1] == (_TRIED,)
        if not same or not np.allclose(np.concatenate(alone), whole, 1e-3, 1e-6, equal_nan=True):
            raise ValueError(f"mixes samples, or is not of samples along the first axis: makes {whole.shape}")


def _affine(op: str, at: Flow, constants: list[Any]) -> Any:
    """x + c, x - c, c - x, x c or x / c, c a number or one for each channel, as batch norm; else None."""
    first, second = constants
    right = isinstance(second, np.ndarray)
    c = second if right else first
    if op not in ("Add", "Sub", "Mul", "Div") or (op == "Div" and not right) or c.dtype.kind != "f":
        return None
    rank, lengths = at.x.ndim, (1,) * (at.x.ndim - c.ndim) + c.shape
    if not 2 <= rank <= 5 or lengths not in ((1,) * rank, (1, at.shape[0], *[1] * (rank - 2))):
        return None
    with np.errstate(all="ignore"):
        scale: Any = {"Add": 1.0, "Mul": c, "Div": 1 / c.astype(float), "Sub": 1.0 if right else -1.0}[op]
        shift: Any = {"Add": c, "Mul": 0.0, "Div": 0.0, "Sub": -c if right else c}[op]
    kinds = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}
    norm: Any = kinds[rank](at.shape[0], eps=_EPS, dtype=c.dtype if c.dtype.itemsize > 2 else np.float32)
    norm.weight.data[...] = np.reshape(scale, -1)
    norm.bias.data[...] = np.reshape(shift, -1)
    norm.running_var[...] = 1 - _EPS
    return norm
