"""An ONNX graph while it is written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from fastnn.nn.memory import Array
from fastnn.nn.module import Module
from fastnn.nn.parameter import Parameter


class Writer:
    """The nodes and initializers so far; names in `taken` are given to nothing else."""

    def __init__(
        self,
        onnx: Any,
        opset: int,
        dtype: np.dtype[Any],
        taken: Iterable[str],
        converters: Mapping[type[Module], Callable[[Writer, Any, str, Array], str]],
    ) -> None:
        self.onnx, self.opset, self.dtype, self.converters = onnx, opset, dtype, converters
        self.nodes: list[Any] = []
        self.arrays: dict[str, Array] = {}
        self.path = ""  # of the module that is written: its key in the state
        self._base = ""  # of the names of its nodes
        self._taken = set(taken)

    def write(self, module: Module, path: str, x: str, sample: Array) -> tuple[str, Array]:
        """Write a module that gets the value x, of which sample is one; the value it makes, and its sample."""
        for kind in type(module).__mro__:
            convert = self.converters.get(kind)
            if convert is not None and type(module).forward is getattr(kind, "forward", None):
                break
        else:
            raise ValueError(
                f"export: {path or 'the model'} is a {type(module).__name__}, which has no ONNX form; expected layers "
                "of fastnn.nn other than losses and FractionalMaxPool2d"
            )
        outer = self.path, self._base
        self.path, self._base = path, path or type(module).__name__.lower()
        y = convert(self, module, x, sample)
        self.path, self._base = outer
        return y, module(sample)

    def child(self, module: Module, name: str, x: str, sample: Array) -> tuple[str, Array]:
        """`write` for a module that is this one's attribute `name`."""
        return self.write(module, f"{self.path}.{name}" if self.path else name, x, sample)

    def nodes_of(self, op: str, outputs: int, *inputs: str, **attributes: Any) -> list[str]:
        """Add a node; the names of its results."""
        names = [self._name(self._base) for _ in range(outputs)]
        self.nodes.append(self.onnx.helper.make_node(op, inputs, names, names[0], **attributes))
        return names

    def node(self, op: str, *inputs: str, **attributes: Any) -> str:
        """Add a node; the name of its only result."""
        return self.nodes_of(op, 1, *inputs, **attributes)[0]

    def constant(self, value: Any, dtype: Any = None) -> str:
        """A constant, of the model's dtype unless told otherwise."""
        name = self._name(f"{self._base}.constant")
        self.arrays[name] = np.array(value, self.dtype if dtype is None else dtype)
        return name

    def whole(self, *numbers: int) -> str:
        """Lengths, axes and the like."""
        return self.constant(numbers, np.int64)

    def state(self, name: str, value: Parameter | Array | None, default: Any = None) -> str:
        """A parameter or buffer of the layer under its key; a default where there is none."""
        if value is None:
            return self.constant(default)
        array = value.data if isinstance(value, Parameter) else value
        name = f"{self.path}.{name}" if self.path else name
        self.arrays[name] = array.astype(self.dtype, copy=False)
        return name

    def _name(self, base: str) -> str:
        name, number = base, 1
        while name in self._taken:
            number += 1
            name = f"{base}_{number}"
        self._taken.add(name)
        return name
