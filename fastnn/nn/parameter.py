"""A learned array and its gradient."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fastnn.arrays import is_array, on_device, zeros
from fastnn.nn.changes import CHANGES

Array = npt.NDArray[Any]


class Parameter:
    """An array `.data` that a layer learns, and the gradient `.grad` of the loss, of the same shape.

    `.grad` is None until a backward pass has run and after `zero_grad`; its memory is kept and used again.
    """

    __slots__ = ("_buffer", "_filled", "_requires_grad", "data")

    def __init__(self, data: npt.ArrayLike, requires_grad: bool = True) -> None:
        array: Any = data if on_device(data) else np.asarray(data)
        self.data: Array = array if array.flags.c_contiguous else array.copy(order="C")
        if self.data.dtype.kind in "biucOSUmM":
            raise TypeError(f"Parameter: data has dtype {self.data.dtype}; expected a floating-point dtype")
        self.requires_grad = requires_grad
        self._buffer: Array | None = None
        self._filled = False

    @property
    def requires_grad(self) -> bool:
        """False for a parameter that is frozen: no gradient is computed for it."""
        return self._requires_grad

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        self._requires_grad = value
        CHANGES.count += 1

    @property
    def grad(self) -> Array | None:
        """The gradient; None where there is none."""
        return self._buffer if self._filled else None

    @grad.setter
    def grad(self, value: Array | None) -> None:
        if value is None:
            self._filled = False
            return
        if not is_array(value):
            raise TypeError(f"Parameter: grad is of type {type(value).__name__}; expected a NumPy array or None")
        if on_device(value) is not on_device(self.data):
            raise TypeError("Parameter: grad and data are one on a device and one in main memory; expected one place")
        if value.shape != self.data.shape:
            raise ValueError(f"Parameter: grad has shape {value.shape}; expected that of data, {self.data.shape}")
        if value.dtype != self.data.dtype:
            raise TypeError(f"Parameter: grad has dtype {value.dtype}; expected that of data, {self.data.dtype}")
        self._buffer, self._filled = value, True

    def replace(self, data: Array) -> None:
        """Take another array for data, of another dtype or in another place; the gradient and its memory go."""
        self.data, self._buffer, self._filled = data, None, False

    def zero_grad(self) -> None:
        """Forget the gradient; the next backward pass overwrites it instead of adding to it."""
        self._filled = False

    def claim_grad(self) -> tuple[Array, bool]:
        """The array that a backward pass is to write the gradient into, and whether it must add to what is there."""
        accumulate = self._filled
        if self._buffer is None or self._buffer.shape != self.data.shape or self._buffer.dtype != self.data.dtype:
            self._buffer, accumulate = zeros(self.data, self.data.shape, self.data.dtype), False
        self._filled = True
        return self._buffer, accumulate

    def add_grad(self, grad: Array) -> None:
        """Take `grad` as the gradient, or add it to the one that is there."""
        if grad.shape != self.data.shape:
            raise ValueError(f"Parameter: grad has shape {grad.shape}; expected that of data, {self.data.shape}")
        buffer, accumulate = self.claim_grad()
        if accumulate:
            np.add(buffer, grad, out=buffer)
        else:
            buffer[...] = grad

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of data."""
        return self.data.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of data."""
        return self.data.dtype

    @property
    def size(self) -> int:
        """The number of elements."""
        return self.data.size

    def __repr__(self) -> str:
        """Shape and dtype; the numbers are in data."""
        return f"Parameter(shape={self.shape}, dtype={self.dtype})"

    def __getstate__(self) -> tuple[Array, bool]:
        """Data without the gradient, for pickle and copy."""
        return self.data, self.requires_grad

    def __setstate__(self, state: tuple[Array, bool]) -> None:
        """See __getstate__."""
        self.data, self.requires_grad = state
        self._buffer, self._filled = None, False
