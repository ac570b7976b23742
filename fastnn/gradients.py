"""What the backward passes of layers with weights have in common: `saved`, and the memory that gradients go to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from fastnn.arguments import (
    Array,
    address,
    bare,
    check_updated,
    check_written,
    flag,
    plain,
    real_array,
    receiver,
    stored,
)
from fastnn.fusion import Fused
from fastnn.kernels.cpu import convolution as native


class Gradients:
    """dx, dweight and dbias, any of which may be not needed, and dz: checked arrays of the caller's, or new ones.

    The attributes are what kernels write to, None for what is not needed, and None for a dz that was not given.
    """

    def __init__(
        self, title: str, *, need_dx: Any, need_dweight: Any, need_dbias: Any, accumulate: Any, **given: Array | None
    ) -> None:
        self.title, self.given = title, given
        self.needed = {
            "dx": flag(title, "need_dx", need_dx),
            "dweight": flag(title, "need_dweight", need_dweight),
            "dbias": flag(title, "need_dbias", need_dbias),
            "dz": given["dz"] is not None,
        }
        self.accumulate = flag(title, "accumulate", accumulate)
        self.arrays: dict[str, Array | None] = {}

    def prepare(self, like: Mapping[str, tuple[tuple[int, ...], np.dtype[Any]]], inputs: Mapping[str, Array]) -> None:
        """Check the arrays given against shapes and dtypes, and that they are apart; and make what is missing."""
        for name, (shape, dtype) in like.items():
            array = self.given[name]
            if array is not None:
                check_updated(self.title, name, array, shape, dtype)
            elif self.accumulate and self.needed[name] and name in ("dweight", "dbias"):
                raise ValueError(
                    f"{self.title}: accumulate adds to {name}, which is None; expected an array of shape {shape}"
                )
        dy, dz = inputs["dy"], self.given["dz"]
        same = dz is not None and (dz is dy or (dz.dtype == dy.dtype and _same_place(dz, dy)))
        others = {**inputs, "dy": None if same else dy}
        if not native._apart(self.given.values(), others.values()):
            check_written(self.title, self.given, others)
        for name, (shape, dtype) in like.items():
            array = self.given[name]
            old = self.accumulate and array is not None and name != "dz"
            made = None if not self.needed[name] else array if old else receiver(array, shape, dtype, dy)
            self.arrays[name] = None if made is None else plain(made)

    def results(self, z: bool) -> tuple[Array | None, Array | None, Array | None]:
        """What kernels have written, where the caller wants it; dz only if it has been written."""
        done = {
            name: None if array is None or (name == "dz" and not z) else stored(array, self.given[name])
            for name, array in self.arrays.items()
        }
        return done["dx"], done["dweight"], done["dbias"]


def checked_saved(
    title: str, saved: Any, chosen: Fused | None, shape: tuple[int, ...], dtype: np.dtype[Any]
) -> dict[str, Array]:
    """`saved` by its name, where there is an activation to go back through."""
    if chosen is None:
        if saved is not None:
            raise ValueError(f"{title}: saved goes with an activation, and activation is None")
        return {}
    if saved is None:
        what = "y" if chosen.op.saves == "output" else "z, the value before the activation"
        raise TypeError(f"{title}: saved is None and activation is {chosen.name!r}; expected {what}")
    return {"saved": beside(title, "saved", saved, shape, dtype)}


def beside(title: str, name: str, value: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """An input of y's shape, in x's dtype, which it may not exceed."""
    array = bare(real_array(title, name, value))
    if array.shape != shape:
        raise ValueError(f"{title}: {name} has shape {array.shape}; expected {shape}, as y has")
    if array.dtype != dtype:
        raise TypeError(f"{title}: {name} has dtype {array.dtype} beside x of {dtype}; expected the same dtype")
    return array


def _same_place(a: Array, b: Array) -> bool:
    return address(a) == address(b) and a.strides == b.strides and a.shape == b.shape
