"""Memory of the gradients that pass from module to module: it goes back when it has been read, and is lent again.

A network's backward pass needs few of them at a time, however deep it is.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
_VIEWS = 256  # kept, beyond which they are made anew


class Arena:
    """Pieces of memory, each lent to one gradient at a time."""

    def __init__(self) -> None:
        self._free: list[Array] = []
        self._lent: dict[int, Array] = {}  # by id
        self._views: dict[tuple[int, tuple[int, ...], np.dtype[Any]], Array] = {}

    def take_all_back(self) -> None:
        """A new pass begins: nothing of the last one is read any more."""
        self._free.extend(self._lent.values())
        self._lent.clear()

    def lend(self, shape: tuple[int, ...], dtype: np.dtype[Any], space: Any = np) -> Array:
        """An array for which there is the smallest free piece that is large enough, or a new one for the largest.

        `space` is the module whose arrays they are, numpy or cupy: the same one for all that an arena lends.
        """
        size = math.prod(shape) * dtype.itemsize
        best: Any = None
        for piece in self._free:
            if piece.size >= size and (best is None or piece.size < best.size):
                best = piece
        if best is not None:
            self._remove(best)
        else:
            if self._free:
                self._remove(max(self._free, key=len))
            self._views.clear()
            best = space.empty(size, np.uint8)
        self._lent[id(best)] = best
        key = (id(best), shape, dtype)
        found = self._views.get(key)
        if found is None:
            if len(self._views) >= _VIEWS:
                self._views.clear()
            found = self._views[key] = best[:size].view(dtype).reshape(shape)
        return found

    def _remove(self, piece: Array) -> None:
        """By identity: arrays compare by elements."""
        self._free[:] = [each for each in self._free if each is not piece]

    def give_back(self, array: Any, unless: Any) -> None:
        """The memory of `array` may be lent again, if it came from here and `unless` does not lie in it."""
        base = getattr(array, "base", None)
        if base is not None and id(base) in self._lent and getattr(unless, "base", None) is not base:
            self._free.append(self._lent.pop(id(base)))
