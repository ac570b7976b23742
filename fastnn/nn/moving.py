"""Models take other dtypes, and move to devices and back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from fastnn.arguments import float_dtype, parameter_dtype
from fastnn.devices import EXPECTED, checked_device, is_device, mover
from fastnn.nn.changes import CHANGES
from fastnn.nn.memory import Array, Memory


class Movable(Memory):
    """The part of a module that this is about."""

    _parameters: dict[str, Any]
    _buffers: dict[str, Array | None]

    def to(self, target: Any = None, dtype: npt.DTypeLike | None = None, *, device: Any = None) -> Self:
        """Convert parameters and floating-point buffers to a dtype, or take them to a device, in place.

            model.to(np.float16); model.to("cuda"); model.to("cuda:1", np.float32); model.to("cpu")

        `target` is either of the two. "cuda" is the current GPU, and needs CuPy: a model there takes CuPy's arrays and
        gives such, `cupy.asarray(x)`. Gradients are dropped; an optimiser over the parameters goes on, its state moves
        with them.
        """
        title = f"{type(self).__name__}.to"
        if is_device(target) and device is None:
            device = target
        elif target is not None and dtype is None:
            dtype = target
        elif target is not None or (dtype is None and device is None):
            raise TypeError(
                f"{title}: got {target!r}, dtype={dtype!r}, device={device!r}; expected a dtype, a device, or both"
            )
        wanted = None
        if dtype is not None:
            try:
                wanted = np.dtype(dtype)
            except TypeError:
                raise TypeError(f"{title}: {dtype!r} is neither a dtype nor a device ({EXPECTED})") from None
            if wanted.kind in "biu" or float_dtype(wanted) is None:
                raise TypeError(f"{title}: dtype is {wanted}; expected a floating-point dtype")
        moved = None if device is None else mover(checked_device(title, device))
        model: Any = self
        for module in model.modules():
            module._convert(wanted, moved)
            vars(module).update(_saved=None, _own_arena=None)
            module._workspaces.clear()
        CHANGES.count += 1
        return self

    wide_parameters: ClassVar[frozenset[str]] = frozenset()
    """Names of parameters and buffers that functions take in float32 beside arrays of float16 and bfloat16."""

    host_buffers: ClassVar[frozenset[str]] = frozenset()
    """Names of buffers that stay in main memory wherever the module is, such as counts that Python reads."""

    def _convert(self, dtype: np.dtype[Any] | None, moved: Callable[[Array], Array] | None) -> None:
        """Convert what this module itself owns, and move it."""

        def changed(name: str, array: Array) -> Array:
            if dtype is not None and array.dtype.kind not in "biu":
                kind = parameter_dtype(dtype) if name in self.wide_parameters else dtype
                array = array.astype(kind, copy=False)
            return array if moved is None or name in self.host_buffers else moved(array)

        for name, parameter in self._parameters.items():
            if parameter is not None:
                parameter.replace(changed(name, parameter.data))
        for name, buffer in list(self._buffers.items()):
            if buffer is not None:
                setattr(self, name, changed(name, buffer))
