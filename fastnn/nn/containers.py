"""Modules made of modules: one after the other, or beside a shortcut."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Any, overload

import numpy as np

from fastnn.arrays import may_share
from fastnn.nn.activations import activation_layer
from fastnn.nn.arena import Arena
from fastnn.nn.changes import CHANGES
from fastnn.nn.checks import check_gradient
from fastnn.nn.module import Module


class Sequential(Module):
    """Modules one after the other: `Sequential(a, b, c)`, or an OrderedDict of names and modules.

    Neighbours that can share a pass over memory do: a linear layer, a convolution or a batch norm, the activation after
    it, and dropout behind relu (`Module.fuses`). Results keep their bits. A module with hooks runs by itself, so that
    hooks see what goes in and out; those registered between forward and backward count from the next pass on.

    With `needs_input_grad=False`, for a network whose input is data, backward ends at the first module that learns
    something. What a module's backward returns is memory that the modules share: copy what must outlive the pass.
    """

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
        if not isinstance(name, str) or not name or "." in name or name in ("forward", "backward", "training"):
            raise ValueError(
                f"Sequential: {name!r} is given as a module's name; expected a text without a dot, and none of "
                "forward, backward, training"
            )
        if any(module is other for other in self._modules.values()):
            raise ValueError(
                f"Sequential: {name} is the same {type(module).__name__} as one before it; "
                "a module goes back through its last forward pass only, so each place needs one of its own"
            )
        setattr(self, name, module)

    def append(self, module: Module) -> Sequential:
        """Add a module to the end."""
        taken = [int(name) for name in self._modules if name.isdecimal()]  # of a slice they do not begin with 0
        self._add(str(max([len(self) - 1, *taken]) + 1), module)
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
        plan, scratch = self._planned(), not self.keeps_input
        for module, followers in plan.steps:
            x = _forward(module, followers, x, not scratch)
            scratch = not followers and module.y_is_scratch
        vars(self)["_ran"] = plan
        vars(self)["y_is_scratch"] = scratch and bool(plan.steps)
        return x

    def backward(self, dy: Any) -> Any:
        plan = self.__dict__.get("_ran")
        if plan is None:
            raise RuntimeError("Sequential.backward: there is no forward pass to go back through; call it first")
        first, scratch, arena = self._start(plan), self.dy_is_scratch, _arena(self)
        for module, followers in reversed(plan.steps[first:]):
            dy = _backward(module, followers, dy, scratch, arena)
            scratch = module.dx_is_scratch
        vars(self)["dx_is_scratch"] = scratch
        return dy if self.needs_input_grad else None

    def _planned(self) -> _Plan:
        """Which modules run in one pass; made anew when anything about any module has changed."""
        plan: _Plan | None = self.__dict__.get("_plan")
        if plan is None or plan.count != CHANGES.count:
            plan = self.__dict__["_plan"] = _Plan(CHANGES.count, _steps(list(self)))
        return plan

    def _start(self, plan: _Plan) -> int:
        """The step where a backward pass ends: where no dx is asked for, the first that learns something."""
        if plan.started == CHANGES.count:
            return plan.start
        first = 0
        if not self.needs_input_grad:
            wanted = [any(map(_takes_part, (module, *followers))) for module, followers in plan.steps]
            first = wanted.index(True) if True in wanted else len(wanted)
        for index, (module, _) in enumerate(plan.steps):
            needed = self.needs_input_grad or index > first
            if module.needs_input_grad is not needed:
                module.needs_input_grad = needed
        plan.start, plan.started = first, CHANGES.count
        return first

    def __getstate__(self) -> dict[str, Any]:
        """Without plans, which hold the modules of this copy."""
        return super().__getstate__() | {"_plan": None, "_ran": None}


class _Plan:
    """The steps of a Sequential, each a module and those after it that run in its pass, as of a count of changes."""

    __slots__ = ("count", "start", "started", "steps")

    def __init__(self, count: int, steps: list[tuple[Module, tuple[Module, ...]]]) -> None:
        self.count, self.steps = count, steps
        self.start, self.started = 0, -1


def _steps(modules: list[Module]) -> list[tuple[Module, tuple[Module, ...]]]:
    steps, index = [], 0
    while index < len(modules):
        head, end = modules[index], index + 1
        while not head.hooked and end < len(modules) and not modules[end].hooked:
            if not head.fuses(tuple(modules[index + 1 : end + 1])):
                break
            end += 1
        steps.append((head, tuple(modules[index + 1 : end])))
        index = end
    return steps


def _takes_part(module: Module) -> bool:
    """Must a backward pass reach this module, although nobody asks for dx?"""
    return any(each._backward_hooks for each in module.modules()) or any(
        parameter.requires_grad for parameter in module.parameters()
    )


class Residual(Module):
    """y = activation(body(x) + shortcut(x)); without a shortcut, x itself; without an activation, the sum.

    `activation` is a module, or what `fnn.nn.activation_layer` takes. He et al. (2016), Deep residual learning.
    """

    def __init__(
        self,
        body: Module,
        shortcut: Module | None = None,
        activation: Module | str | tuple[Any, ...] | None = None,
    ) -> None:
        for name, module in (("body", body), ("shortcut", shortcut)):
            if not isinstance(module, Module) and (name == "body" or module is not None):
                raise TypeError(f"Residual: {name} is a {type(module).__name__}; expected a module")
        if body is shortcut:
            raise ValueError("Residual: body and shortcut are the same module; expected one for each way")
        self.body, self.shortcut = body, shortcut
        self.activation = (
            activation if activation is None or isinstance(activation, Module) else activation_layer(activation)
        )

    dx_is_scratch = True

    def forward(self, x: Any) -> Any:
        a = _forward(self.body, (), x, True)
        b = x if self.shortcut is None else _forward(self.shortcut, (), x, True)
        if a.shape != b.shape or a.dtype != b.dtype:
            other = "x is" if b is x else "shortcut made"
            raise ValueError(
                f"Residual: body made {a.dtype} of shape {a.shape} and {other} {b.dtype} of shape {b.shape}; expected "
                "the same: a shortcut that changes x as body does"
            )
        free = self.body.y_is_scratch and getattr(a.flags, "writeable", True) and not may_share(a, b)
        y = np.add(a, b, out=a if free else self.result("y", a.shape, a.dtype))
        self.save(y.shape, y.dtype)
        if self.activation is None:
            return y
        return self.activation(y)

    def backward(self, dy: Any) -> Any:
        shape, dtype = self.saved
        check_gradient("Residual", dy, shape, dtype)
        scratch, arena = self.dy_is_scratch, _arena(self)
        if self.activation is not None:
            dy = _backward(self.activation, (), dy, scratch, arena)
            scratch = self.activation.dx_is_scratch
        for module in (self.body, self.shortcut):
            if module is not None and module.needs_input_grad is not self.needs_input_grad:
                module.needs_input_grad = self.needs_input_grad
        db = dy if self.shortcut is None else _backward(self.shortcut, (), dy, False, arena)
        free = db is not None and not may_share(db, dy)
        da = _backward(self.body, (), dy, scratch and (free or db is None), arena)
        if not self.needs_input_grad:
            return None
        if self.body.dx_is_scratch and not may_share(da, dy):
            out = da
        elif free and self.shortcut is not None and self.shortcut.dx_is_scratch:
            out = db
        else:
            out = self.workspace("dx", da.shape, da.dtype)
        np.add(da, db, out=out)
        for each in (da, db) if scratch else (da, *([db] if free else [])):
            arena.give_back(each, out)
        return out


def _forward(module: Module, followers: tuple[Module, ...], x: Any, keeps_input: bool) -> Any:
    """`forward` of a module, and whether it must leave its input as it is."""
    own = vars(module)
    own["keeps_input"] = keeps_input
    try:
        if not followers:
            return module(x)
        if type(x) is not module._kind:
            module.settle(x)
        for follower in followers:
            vars(follower)["_saved"] = None  # it has no forward pass to go back through by itself
        return module.forward_fused(x, followers)
    finally:
        own["keeps_input"] = False


def _arena(module: Module) -> Arena:
    """The arena of the pass: that of the container around this one, or at the outermost its own."""
    if module._arena is not None:
        return module._arena
    own: Arena | None = vars(module).get("_own_arena")
    if own is None:
        own = vars(module)["_own_arena"] = Arena()
    own.take_all_back()
    return own


def _backward(module: Module, followers: tuple[Module, ...], dy: Any, scratch: bool, arena: Arena) -> Any:
    """`backward` of a module, with memory for dx; nobody reads dy any more behind it where it is scratch."""
    own = vars(module)
    own["dy_is_scratch"] = scratch and not module._backward_hooks
    own["_arena"] = arena
    try:
        dx = module.backward_fused(dy, followers) if followers else module.backward(dy)
    finally:
        own["dy_is_scratch"] = False  # called by itself, it gets a dy that is the caller's
        own["_arena"] = None
    if scratch:
        arena.give_back(dy, dx)
    return dx
