"""Modules made of modules: one after the other, or beside a shortcut."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Any, overload

from fastnn.nn.module import Module


class Sequential(Module):
    """Modules one after the other: `Sequential(a, b, c)`, or an OrderedDict of names and modules."""

    def __init__(self, *modules: Module | OrderedDict[str, Module]) -> None:
        if len(modules) == 1 and isinstance(modules[0], OrderedDict):
            named = list(modules[0].items())
        else:
            named = [(str(index), module) for index, module in enumerate(modules)]  # type: ignore[misc]
        for name, module in named:
            self._add(name, module)

    def _add(self, name: str, module: Any) -> None:
        if not isinstance(module, Module):
            raise TypeError(f"Sequential: {name} is a {type(module).__name__}; expected a module")
        if any(module is other for other in self._modules.values()):
            raise ValueError(
                f"Sequential: {name} is the same {type(module).__name__} as one before it; "
                "a module goes back through its last forward pass only, so each place needs one of its own"
            )
        setattr(self, name, module)

    def append(self, module: Module) -> Sequential:
        """Add a module to the end."""
        self._add(str(len(self)), module)
        return self

    def __len__(self) -> int:
        """The number of modules."""
        return len(self._modules)

    def __iter__(self) -> Iterator[Module]:
        """The modules in order."""
        return self.children()

    @overload
    def __getitem__(self, index: int) -> Module: ...
    @overload
    def __getitem__(self, index: slice) -> Sequential: ...
    def __getitem__(self, index: int | slice) -> Module:
        """A module by its place, or some of them as a Sequential over the same modules."""
        if isinstance(index, slice):
            return Sequential(OrderedDict(list(self.named_children())[index]))
        return list(self)[index]

    def forward(self, x: Any) -> Any:
        for module in self:
            x = module(x)
        return x

    def backward(self, dy: Any) -> Any:
        modules = list(self)
        if modules:
            modules[0].needs_input_grad = self.needs_input_grad
        for module in reversed(modules):
            dy = module.backward(dy)
        return dy
