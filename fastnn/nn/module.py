"""The base class of every layer: parameters, buffers, modes, state, hooks, and memory that is used again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

import numpy as np

from fastnn.arrays import host, on_device, put
from fastnn.nn.changes import CHANGES
from fastnn.nn.memory import Array as Array
from fastnn.nn.memory import no_grad as no_grad
from fastnn.nn.moving import Movable
from fastnn.nn.parameter import Parameter

M = TypeVar("M", bound="Module")
Hook = Callable[["Module", Any, Any], None]


class IncompatibleKeys(NamedTuple):
    """What `load_state_dict(strict=False)` could not match."""

    missing_keys: list[str]
    unexpected_keys: list[str]


class Handle:
    """A registered hook; `remove` takes it away again."""

    def __init__(self, remove: Callable[[], object]) -> None:
        self._remove: Callable[[], object] | None = remove

    def remove(self) -> None:
        """Take the hook away."""
        if self._remove is not None:
            self._remove()
            self._remove = None


class Module(Movable):
    """A layer or a network: `y = module(x)`, then `dx = module.backward(dy)`.

    A layer of your own is a class with `forward(self, x)` and `backward(self, dy)`; what it learns it assigns to
    attributes as `Parameter`, layers it is made of as modules. `forward` keeps what `backward` needs with `self.save`
    and adds to its parameters' gradients with `Parameter.add_grad`. `fnn.gradcheck(layer, x)` proves it.

    In training mode results live in memory that the next forward pass uses again: copy what must outlive it. In
    evaluation mode every result is a new array. An input must not change between forward and backward.

    A layer that is to allocate nothing writes to `self.output("y", shape, dtype)` and, in backward, to
    `self.gradient(dy)` or `self.workspace("dx", shape, dtype)`; where gradients of parameters go `claim_grads` says.
    """

    _parameters: dict[str, Parameter | None]
    _buffers: dict[str, Array | None]
    _modules: dict[str, Module | None]
    _forward_hooks: dict[object, Hook]
    _backward_hooks: dict[object, Hook]

    def __new__(cls, *args: Any, **kwargs: Any) -> Module:
        """Make the registries here, so that a layer of one's own works without calling `super().__init__()`."""
        self: Module = super().__new__(cls, *args, **kwargs)
        fill = object.__setattr__
        fill(self, "_parameters", {})
        fill(self, "_buffers", {})
        fill(self, "_modules", {})
        fill(self, "_forward_hooks", {})
        fill(self, "_backward_hooks", {})
        return self

    # What a layer does

    def forward(self, x: Any) -> Any:
        """Compute the layer's result."""
        raise NotImplementedError(f"{type(self).__name__} has no forward(self, x)")

    def backward(self, dy: Any) -> Any:
        """Go back through the last forward pass: fill the parameters' gradients, return that of the input."""
        raise NotImplementedError(f"{type(self).__name__} has no backward(self, dy)")

    def __call__(self, x: Any) -> Any:
        """`forward`, then the hooks."""
        if type(x) is not self._kind:
            self.settle(x)
        y = self.forward(x)
        for hook in tuple(self._forward_hooks.values()):
            hook(self, x, y)
        return y

    # What a layer uses

    def claim_grads(self, *parameters: Parameter | None) -> tuple[list[Array | None], bool]:
        """The arrays that a function's backward is to fill, None for what learns nothing, and its `accumulate`."""
        claims = [None if each is None or not each.requires_grad else each.claim_grad() for each in parameters]
        accumulate = any(claim is not None and claim[1] for claim in claims)
        if accumulate:
            for claim in claims:
                if claim is not None and not claim[1]:
                    claim[0][...] = 0
        return [None if claim is None else claim[0] for claim in claims], accumulate

    def register_buffer(self, name: str, value: Array | None) -> None:
        """State that is saved but not learned, such as running statistics."""
        self._buffers[name] = value
        object.__setattr__(self, name, value)

    # Several modules in one pass (what Sequential plans)

    @property
    def fused_as(self) -> str | tuple[Any, ...] | None:
        """What the argument `activation=` of functions is for this module; None if it is no such activation."""
        return None

    @property
    def drops_over(self) -> bool:
        """Whether this module is a dropout that `drop_over` can do, here and now."""
        return False

    def drop_over(self, y: Array) -> float:
        """Do what `forward` would with a result of the module before, over that; by what what is kept is multiplied."""
        raise NotImplementedError(f"{type(self).__name__} is no dropout")

    def fuses(self, followers: tuple[Module, ...]) -> bool:
        """Whether this module can do the work of those after it in its own pass, with the same bits in float32.

        `Sequential` asks with one module more each time and takes the longest run before the first no; modules with
        hooks are never asked about. It asks anew when an attribute, a hook or the mode of any module has changed.
        """
        return False

    def forward_fused(self, x: Any, followers: tuple[Module, ...]) -> Any:
        """`forward` of this module and of those that `fuses` has agreed to."""
        raise NotImplementedError(f"{type(self).__name__} runs no other modules in its pass")

    def backward_fused(self, dy: Any, followers: tuple[Module, ...]) -> Any:
        """`backward` of those modules and of this one."""
        raise NotImplementedError(f"{type(self).__name__} runs no other modules in its pass")

    # Attributes

    def __setattr__(self, name: str, value: Any) -> None:
        """Parameters and modules are registered under the attribute's name."""
        if value is not None and vars(self).get(name) is value:  # also of `self.buffer += 1`
            return
        registries: tuple[tuple[dict[str, Any], type], ...] = ((self._parameters, Parameter), (self._modules, Module))
        for registry, kind in registries:
            if isinstance(value, kind) or (value is None and name in registry):
                registry[name] = value
            else:
                registry.pop(name, None)
        if name in self._buffers:
            self._buffers[name] = value
        object.__setattr__(self, name, value)
        CHANGES.count += 1

    def __delattr__(self, name: str) -> None:
        """Registered or not."""
        registries: tuple[dict[str, Any], ...] = (self._parameters, self._modules, self._buffers)
        for registry in registries:
            registry.pop(name, None)
        object.__delattr__(self, name)
        CHANGES.count += 1

    # Walking

    def children(self) -> Iterator[Module]:
        """The modules that this one is made of."""
        return (module for _, module in self.named_children())

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """The modules that this one is made of, with their names."""
        return ((name, module) for name, module in self._modules.items() if module is not None)

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """This module, whose name is empty, and all below it, in the order of their registration."""
        yield prefix, self
        for name, module in self.named_children():
            yield from module.named_modules(f"{prefix}.{name}" if prefix else name)

    def modules(self) -> Iterator[Module]:
        """This module and all below it."""
        return (module for _, module in self.named_modules())

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """Every parameter once, under the name it has in `state_dict`."""
        seen: set[int] = set()
        for prefix, module in self.named_modules():
            for name, parameter in module._parameters.items():
                if parameter is not None and id(parameter) not in seen:
                    seen.add(id(parameter))
                    yield f"{prefix}.{name}" if prefix else name, parameter

    def parameters(self) -> Iterator[Parameter]:
        """Every parameter once."""
        return (parameter for _, parameter in self.named_parameters())

    def named_buffers(self) -> Iterator[tuple[str, Array]]:
        """Every buffer under the name it has in `state_dict`."""
        for prefix, module in self.named_modules():
            for name, buffer in module._buffers.items():
                if buffer is not None:
                    yield f"{prefix}.{name}" if prefix else name, buffer

    def apply(self: M, function: Callable[[Module], Any]) -> M:
        """Call `function` on every module below this one, then on this one."""
        for module in self.children():
            module.apply(function)
        function(self)
        return self

    # Modes

    def train(self: M, mode: bool = True) -> M:
        """Training mode: dropout drops, batch norm uses the batch's statistics."""
        changed = [module for module in self.modules() if module.training is not bool(mode)]
        for module in changed:
            object.__setattr__(module, "training", bool(mode))
        CHANGES.count += bool(changed)
        return self

    def eval(self: M) -> M:
        """Evaluation mode."""
        return self.train(False)

    def zero_grad(self) -> None:
        """Forget the gradients of all parameters."""
        for parameter in self.parameters():
            parameter.zero_grad()

    def requires_grad_(self: M, requires_grad: bool = True) -> M:
        """Learn all parameters, or freeze them: a frozen one gets no gradient."""
        for parameter in self.parameters():
            parameter.requires_grad = requires_grad
        return self

    # State

    def state_dict(self) -> dict[str, Array]:
        """Parameters and buffers by PyTorch's keys: the arrays themselves; of those on a device, copies from there.

        So what is saved and compared is NumPy's, wherever the model is.
        """
        return {name: host(value) if on_device(value) else value for name, value in self._state().items()}

    def _state(self) -> dict[str, Array]:
        """The arrays themselves, wherever they are."""
        state: dict[str, Array] = {}
        for prefix, module in self.named_modules():
            dot = f"{prefix}." if prefix else ""
            state |= {dot + name: value.data for name, value in module._parameters.items() if value is not None}
            state |= {dot + name: value for name, value in module._buffers.items() if value is not None}
        return state

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True) -> IncompatibleKeys:
        """Copy arrays (or CPU tensors) into parameters and buffers of the same names; all is checked before.

        They may be in main memory or on a device, wherever the model is.
        """
        title, own = f"{type(self).__name__}.load_state_dict", self._state()
        if not isinstance(state_dict, Mapping):
            raise TypeError(
                f"{title}: state_dict is a {type(state_dict).__name__}; expected a mapping of names and arrays"
            )
        missing = [name for name in own if name not in state_dict]
        unexpected = [name for name in state_dict if name not in own]
        if strict and (missing or unexpected):
            parts = [f"no {', '.join(missing)}"] if missing else []
            parts += [f"{', '.join(map(str, unexpected))}, which the model has not"] if unexpected else []
            raise ValueError(f"{title}: state_dict has {'; and '.join(parts)}. strict=False takes what matches")
        values = {name: _loaded(f"{title}: {name}", state_dict[name]) for name in own if name in state_dict}
        for name, value in values.items():
            if not getattr(own[name].flags, "writeable", True):
                raise ValueError(f"{title}: {name} of the module is read-only; expected writeable arrays")
            if value.shape != own[name].shape:
                raise ValueError(f"{title}: {name} has shape {value.shape}; expected {own[name].shape}")
            if value.dtype.kind in "OSUmMc":
                raise TypeError(f"{title}: {name} has dtype {value.dtype}; expected {own[name].dtype}")
        for name, value in values.items():
            put(own[name], value)
        return IncompatibleKeys(missing, unexpected)

    def __getstate__(self) -> dict[str, Any]:
        """Everything but what a step leaves behind, for pickle and copy."""
        state = self.__dict__ | {"_workspaces": {}, "_saved": None, "_forward_hooks": {}, "_backward_hooks": {}}
        state |= {"_arena": None, "_own_arena": None}
        state.pop("backward", None)  # of the hooks
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """See __getstate__."""
        self.__dict__.update(state)

    # Hooks

    def register_forward_hook(self, hook: Hook) -> Handle:
        """Call `hook(module, x, y)` after every forward pass."""
        key = object()
        self._forward_hooks[key] = hook
        CHANGES.count += 1

        def remove() -> None:
            self._forward_hooks.pop(key, None)
            CHANGES.count += 1

        return Handle(remove)

    def register_backward_hook(self, hook: Hook) -> Handle:
        """Call `hook(module, dx, dy)` after every backward pass."""
        key = object()
        self._backward_hooks[key] = hook
        plain = type(self).backward

        def backward(dy: Any) -> Any:
            dx = plain(self, dy)
            for each in tuple(self._backward_hooks.values()):
                each(self, dx, dy)
            return dx

        self.__dict__["backward"] = backward  # in front of the class's own, while there are hooks
        CHANGES.count += 1

        def remove() -> None:
            self._backward_hooks.pop(key, None)
            CHANGES.count += 1
            if not self._backward_hooks:
                self.__dict__.pop("backward", None)

        return Handle(remove)

    @property
    def hooked(self) -> bool:
        """Whether there are hooks on this module: containers then run it by itself, unfused."""
        return bool(self._forward_hooks or self._backward_hooks)

    # Showing

    def extra_repr(self) -> str:
        """The arguments, as `repr` shows them."""
        return ""

    def __repr__(self) -> str:
        """The class and its arguments, modules indented below it."""
        lines = [f"({name}): {module!r}".replace("\n", "\n  ") for name, module in self.named_children()]
        inside = self.extra_repr()
        if not lines:
            return f"{type(self).__name__}({inside})"
        return "\n  ".join([f"{type(self).__name__}({inside}", *lines]) + "\n)"


def _loaded(where: str, value: Any) -> Array:
    """An array of what a state holds: an array, a Parameter, a tensor of PyTorch's, whether it is learned or not."""
    if isinstance(value, Parameter):
        return value.data
    if on_device(value):
        return value  # type: ignore[no-any-return]
    detached = value.detach() if hasattr(value, "detach") else value
    try:
        return np.asarray(detached)
    except (TypeError, ValueError, RuntimeError) as error:
        hint = ": value.float() for bfloat16, value.cpu() for a device" if detached is not value else ""
        raise TypeError(
            f"{where} is a {type(value).__name__} that NumPy makes no array of ({error}); expected an array{hint}"
        ) from None
