"""What a layer keeps from one pass to the next: values for backward, and memory for results, which is used again."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from contextvars import ContextVar
from sys import modules
from typing import Any

import numpy as np
import numpy.typing as npt

from fastnn.arrays import is_plain, on_device
from fastnn.nn.arena import Arena

Array = npt.NDArray[Any]
_VIEWS = 64  # of workspaces, beyond which they are made anew

_saving: ContextVar[bool] = ContextVar("fastnn_saving", default=True)


@contextlib.contextmanager
def no_grad() -> Iterator[None]:
    """While this is in force layers keep nothing for a backward pass, as for inference."""
    token = _saving.set(False)
    try:
        yield
    finally:
        _saving.reset(token)


class Memory:
    """The part of a module that this is about."""

    training: bool
    needs_input_grad: bool
    """False lets `backward` leave out dx and return None: for a network's first layer, whose input is data."""

    dy_is_scratch: bool
    """True where nobody reads dy after this module's `backward`, which may write over it: containers say so."""

    dx_is_scratch: bool = False
    """True where `backward` returns memory that the module before may write over."""

    y_is_scratch: bool = False
    """True where `backward` does not read what `forward` has returned, which may therefore be written over."""

    keeps_input: bool
    """True where a module of `inplace=True` must not write over x all the same: the module before reads it again."""

    _workspaces: dict[Any, Array]  # by name the memory, by name, shape and dtype the views of it
    _saved: tuple[Any, ...] | None
    _arena: Arena | None  # of the container whose backward pass this is
    _place: int | None = None  # the device whose memory the workspaces are, None for main memory
    _kind: type | None = np.ndarray  # the type of inputs that need no `settle`

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        """Set here, so that a layer of one's own works without calling `super().__init__()`."""
        self = super().__new__(cls)
        vars(self).update(
            training=True,
            needs_input_grad=True,
            dy_is_scratch=False,
            keeps_input=False,
            _workspaces={},
            _saved=None,
            _arena=None,
        )
        return self

    @property
    def saving(self) -> bool:
        """Whether a forward pass is to keep what a backward pass needs: not under `no_grad`."""
        return _saving.get()

    def save(self, *values: Any) -> None:
        """Keep values for the backward pass, unless under `no_grad`."""
        vars(self)["_saved"] = values if _saving.get() else None

    @property
    def saved(self) -> tuple[Any, ...]:
        """What the last forward pass has kept; RuntimeError if there was none."""
        if self._saved is None:
            raise RuntimeError(
                f"{type(self).__name__}.backward: there is no forward pass to go back through; "
                "call the layer first, and not under no_grad"
            )
        return self._saved

    def saved_with(self, followers: tuple[Memory, ...]) -> tuple[Any, ...]:
        """`saved` without its first value, which must be the modules that shared the forward pass."""
        first, *values = self.saved
        if first != followers:
            raise RuntimeError(
                f"{type(self).__name__}.backward: the last forward pass was another one: by itself, or through another "
                "container; call forward and backward of the same model"
            )
        return tuple(values)

    def settle(self, x: Any) -> None:
        """Workspaces are to be where x is; those in another place, and what was saved there, are forgotten."""
        first = x[0] if type(x) in (tuple, list) and x else x
        place = int(first.device.id) if on_device(first) else None
        if place != self._place:
            kind = np.ndarray if place is None else None
            vars(self).update(_place=place, _kind=kind, _workspaces={}, _saved=None, _own_arena=None)

    @property
    def space(self) -> Any:
        """The module that makes arrays where the last input was: numpy or cupy."""
        return np if self._place is None else modules["cupy"]

    def workspace(self, name: str, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Array:
        """Memory of the layer's own, the same at every call; it grows to the largest shape asked for.

        In the backward pass of a container "dx" is memory that layers share.
        """
        if name == "dx" and self._arena is not None:
            return self._arena.lend(shape, np.dtype(dtype), self.space)
        key = (name, shape, np.dtype(dtype))
        found = self._workspaces.get(key)
        if found is not None:
            return found
        size = math.prod(shape)
        base = self._workspaces.get(name)
        if base is None or base.dtype != key[2] or base.size < size:
            base = self.space.empty(size, key[2])
            for old in [old for old in self._workspaces if old == name or old[0] == name]:
                del self._workspaces[old]
            self._workspaces[name] = base
        if len(self._workspaces) >= _VIEWS:  # shapes that come and go
            for old in [old for old in self._workspaces if type(old) is tuple]:
                del self._workspaces[old]
        view = self._workspaces[key] = base[:size].reshape(shape)
        return view

    def output(self, name: str, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Array:
        """Where a result goes: a workspace in training mode, a new array in evaluation mode."""
        return self.workspace(name, shape, dtype) if self.training else self.space.empty(shape, dtype)

    def result(self, name: str, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Array | None:
        """What to pass as `out=`: a workspace in training mode, None (a new array) in evaluation mode."""
        return self.workspace(name, shape, dtype) if self.training else None

    def gradient(self, dy: Array, name: str = "dx") -> Array:
        """Where a gradient of dy's shape and dtype goes: dy itself where it is scratch, else the workspace `name`."""
        if self.dy_is_scratch and (dy.flags.carray if type(dy) is np.ndarray else is_plain(dy)):
            return dy
        return self.workspace(name, dy.shape, dy.dtype)
