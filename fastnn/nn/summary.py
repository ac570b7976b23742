"""What a network is made of: shapes, parameters, operations and memory, layer by layer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fastnn.arguments import whole_number
from fastnn.arrays import is_array, may_share, zeros
from fastnn.nn.module import Module, no_grad

_HEADINGS = ("layer", "class", "output", "parameters", "MACs", "activations", "weights")


@dataclass(frozen=True)
class LayerSummary:
    """One module: `name` in the network, `kind` its class, and what is its own, not that of modules below it."""

    name: str
    kind: str
    shape: tuple[int, ...] | None
    """Of the output, with the batch axis; None for a module that was not called, or returns no array."""
    parameters: int
    learned: int
    operations: int
    """Multiply-accumulates of the weights, for the whole batch."""
    activation_bytes: int
    """Of the output, where it is memory of its own."""
    parameter_bytes: int
    """Of parameters and buffers."""


@dataclass(frozen=True)
class Summary:
    """The layers of a network and their totals; `print` shows a table."""

    layers: tuple[LayerSummary, ...]
    input_shape: tuple[int, ...]

    @property
    def parameters(self) -> int:
        """How many numbers are learned or frozen; those that layers share count once."""
        return sum(layer.parameters for layer in self.layers)

    @property
    def learned(self) -> int:
        """How many of them have requires_grad."""
        return sum(layer.learned for layer in self.layers)

    @property
    def operations(self) -> int:
        """Multiply-accumulates of a forward pass; a backward pass takes about twice as many."""
        return sum(layer.operations for layer in self.layers)

    @property
    def activation_bytes(self) -> int:
        """Bytes of all layers' outputs together: what training keeps, if nothing shares a pass."""
        return sum(layer.activation_bytes for layer in self.layers)

    @property
    def parameter_bytes(self) -> int:
        """Bytes of parameters and buffers."""
        return sum(layer.parameter_bytes for layer in self.layers)

    def __str__(self) -> str:
        """The table."""
        rows = [_HEADINGS, *map(_cells, self.layers)]
        widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADINGS))]
        lines = ["  ".join(_aligned(row, widths)).rstrip() for row in rows]
        rule = "-" * max(map(len, lines))
        frozen = self.parameters - self.learned
        return "\n".join(
            [
                lines[0],
                rule,
                *lines[1:],
                rule,
                f"input {_shape(self.input_shape)}: {self.operations:,} multiply-accumulates, "
                f"{_bytes(self.activation_bytes)} of activations",
                f"{self.parameters:,} parameters{f', {frozen:,} of them frozen' if frozen else ''}: "
                f"{_bytes(self.parameter_bytes)} with buffers",
            ]
        )

    __repr__ = __str__


def _cells(layer: LayerSummary) -> tuple[str, ...]:
    indent = "  " * layer.name.count(".") if layer.name else ""
    return (
        indent + (layer.name.rsplit(".", 1)[-1] or "."),
        layer.kind,
        "-" if layer.shape is None else _shape(layer.shape),
        f"{layer.parameters:,}" if layer.parameters else "",
        f"{layer.operations:,}" if layer.operations else "",
        _bytes(layer.activation_bytes) if layer.activation_bytes else "",
        _bytes(layer.parameter_bytes) if layer.parameter_bytes else "",
    )


def _aligned(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    """Texts to the left, numbers to the right."""
    return [
        cell.ljust(width) if column < 3 else cell.rjust(width)
        for column, (cell, width) in enumerate(zip(row, widths, strict=True))
    ]


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "1"


def _bytes(count: int) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.3g} {unit}" if count < 999.5 * size else f"{count / size:,.0f} {unit}"
    return f"{count} B"


def summary(
    model: Module, input_shape: Sequence[int] | int, *, batch_size: int = 1, dtype: npt.DTypeLike | None = None
) -> Summary:
    """A table of the network's layers, found by running it once, in evaluation mode, on zeros.

        print(fnn.nn.summary(model, (3, 32, 32)))

    `input_shape` is that of one sample, without the batch axis; shapes, operations and activations are those of
    `batch_size` samples. `dtype` is that of the input, by default that of the first parameter. Layers of one's own are
    shown as any: operations are counted for whatever has a `weight` of two axes or more, output places times weights;
    a method `operations(self, x, y) -> int` overrules that. The model is left as it was.
    """
    lengths = (input_shape,) if not isinstance(input_shape, Sequence) else input_shape
    sample = tuple(whole_number("summary", "input_shape", length) for length in lengths)
    batch = whole_number("summary", "batch_size", batch_size)
    if min((batch, *sample), default=1) < 1:
        raise ValueError(f"summary: input_shape is {input_shape} and batch_size {batch}; expected 1 or more of each")
    first = next(iter(model.parameters()), None)
    kind = np.dtype(dtype) if dtype is not None else np.dtype(np.float32) if first is None else first.dtype
    x = zeros(None if first is None else first.data, (batch, *sample), kind)
    calls = _run(model, x)
    seen: set[int] = set()
    layers = []
    for name, module in model.named_modules():
        parameters = [each for each in module._parameters.values() if each is not None and id(each) not in seen]
        seen |= {id(each) for each in parameters}
        buffers = [each for each in module._buffers.values() if each is not None]
        shape, operations, size = calls.get(id(module), (None, 0, 0))
        layers.append(
            LayerSummary(
                name,
                type(module).__name__,
                shape,
                sum(each.size for each in parameters),
                sum(each.size for each in parameters if each.requires_grad),
                operations,
                size,
                sum(each.data.nbytes for each in parameters) + sum(each.nbytes for each in buffers),
            )
        )
    return Summary(tuple(layers), x.shape)


def _run(model: Module, x: Any) -> dict[int, tuple[tuple[int, ...] | None, int, int]]:
    """Output shape, operations and bytes of the output of every module that is called, by its id."""
    found: dict[int, tuple[tuple[int, ...] | None, int, int]] = {}

    def look(module: Module, x: Any, y: Any) -> None:
        if is_array(x) and is_array(y):
            inside = any(True for _ in module.children())  # its output is that of the last module in it
            shares = inside or may_share(x, y)
            _, before, size = found.get(id(module), (None, 0, 0))  # of calls before, if it stands in two places
            found[id(module)] = (y.shape, before + _operations(module, x, y), size + (0 if shares else y.nbytes))
        else:
            found[id(module)] = (None, 0, 0)

    modes = [(module, module.training) for module in model.modules()]
    handles = [module.register_forward_hook(look) for module in model.modules()]
    try:
        model.eval()
        with no_grad():
            model(x)
    finally:
        for handle in handles:
            handle.remove()
        for module, training in modes:
            module.training = training
    return found


def _operations(module: Module, x: Any, y: Any) -> int:
    own = getattr(module, "operations", None)
    if callable(own):
        return int(own(x, y))
    weight = module._parameters.get("weight")
    if weight is None or len(weight.shape) < 2 or y.size % weight.shape[0]:
        return 0
    return int(y.size // weight.shape[0] * math.prod(weight.shape))
