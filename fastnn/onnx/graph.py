"""A module that runs the nodes of an ONNX graph."""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np

from fastnn.nn.memory import Array
from fastnn.nn.module import Module
from fastnn.nn.parameter import Parameter
from fastnn.onnx.operators import OPERATORS
from fastnn.onnx.reading import Contents, Node


class Graph(Module):
    """A network read from an ONNX file, for inference: `y = graph(x)`, the same in both modes; it has no backward.

    Several inputs are given as a tuple in the order of the file's, several outputs come back as one. Initializers are
    parameters, if they are floating-point numbers, or buffers, under their names in the file.
    """

    def __init__(self, contents: Contents, title: str) -> None:
        self.title = title
        self.inputs, self.outputs = contents.inputs, contents.outputs
        for name, array in contents.arrays.items():  # names that may be anything: into the registries, not attributes
            if array.dtype.kind == "f" or array.dtype.name == "bfloat16":
                self._parameters[name] = Parameter(array.copy(), requires_grad=False)
            else:
                self._buffers[name] = array.copy()
        kept, steps = set(self.outputs), []
        for node in reversed(contents.nodes):  # what a step is the last to use is given back after it
            last = tuple({name for name in node.inputs if name} - kept)
            kept.update(last)
            steps.append((node, last))
        self.steps: list[tuple[Node, tuple[str, ...]]] = steps[::-1]

    def __setattr__(self, name: str, value: Any) -> None:
        """Never an initializer that happens to have an attribute's name."""
        object.__setattr__(self, name, value)

    def forward(self, x: Any) -> Any:
        given = x if isinstance(x, tuple) else (x,)
        values = self._checked(given)
        values |= {name: value.data for name, value in self._parameters.items() if value is not None}
        values |= {name: value for name, value in self._buffers.items() if value is not None}
        with np.errstate(all="ignore"):
            for node, last in self.steps:
                try:
                    made = OPERATORS[node.op](node, *[values[name] if name else None for name in node.inputs])
                    made = made if isinstance(made, tuple) else (made,)
                    if any(node.outputs[len(made) :]):
                        raise ValueError(f"{len(node.outputs)} results are wanted; expected at most {len(made)}")
                except (ArithmeticError, AttributeError, LookupError, MemoryError, TypeError, ValueError) as error:
                    self._refuse(node, error)
                values.update(zip(node.outputs, map(np.asarray, made), strict=False))
                for name in last:
                    del values[name]
        found = tuple(values[name] for name in self.outputs)
        return found if len(found) > 1 else found[0]

    def _checked(self, given: tuple[Any, ...]) -> dict[str, Array]:
        """The inputs by name; they must be what the file says."""
        if len(given) != len(self.inputs):
            names = ", ".join(value.name for value in self.inputs)
            raise ValueError(f"{self.title}: got {len(given)} inputs; expected {len(self.inputs)}: {names}")
        for (name, dtype, shape), x in zip(self.inputs, given, strict=True):
            if not isinstance(x, np.ndarray):
                raise TypeError(f"{self.title}: {name} is of type {type(x).__name__}; expected a NumPy array")
            if x.dtype != dtype:
                raise TypeError(f"{self.title}: {name} has dtype {x.dtype}; expected {dtype}")
            if shape is not None and (
                len(shape) != x.ndim or any(a not in (None, b) for a, b in zip(shape, x.shape, strict=True))
            ):
                wanted = ", ".join("any" if length is None else str(length) for length in shape)
                raise ValueError(f"{self.title}: {name} has shape {x.shape}; expected ({wanted})")
        return {value.name: x for value, x in zip(self.inputs, given, strict=True)}

    def _refuse(self, node: Node, error: Exception) -> NoReturn:
        what = f"the node {node.name!r} ({node.op})" if node.name else f"a node {node.op} that makes {node.outputs}"
        raise ValueError(f"{self.title}: {what} cannot run: {error or type(error).__name__}") from error

    def extra_repr(self) -> str:
        return f"{', '.join(value.name for value in self.inputs)} -> {', '.join(self.outputs)}, {len(self.steps)} nodes"
