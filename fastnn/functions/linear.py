"""The public functions of the family `linear`."""

from __future__ import annotations

import math
from sys import modules
from typing import Any

import numpy as np
import numpy.typing as npt

from fastnn.arguments import (
    bare,
    check_out,
    check_updated,
    check_written,
    common_array,
    parameter_dtype,
    plain,
    real_array,
    receiver,
    stored,
)
from fastnn.arrays import together
from fastnn.dispatch import implementation
from fastnn.function import public
from fastnn.fusion import Activation, fused, known
from fastnn.gradients import Gradients, beside, checked_saved
from fastnn.kernels.cpu import linear as native
from fastnn.table.linear import ROWS

__all__ = ["linear", "linear_backward"]

_ROW = {row.name: row for row in ROWS}

Array = npt.NDArray[Any]


@public(_ROW["linear"])
def linear(
    x: npt.ArrayLike,
    weight: npt.ArrayLike,
    bias: npt.ArrayLike | None = None,
    activation: Activation = None,
    *,
    z: Array | None = None,
    out: Array | None = None,
) -> Array:
    kernels = implementation("linear", x)
    if kernels is native and z is None:
        chosen = None if activation is None else known(activation, getattr(x, "dtype", None))
        if chosen is not None or activation is None:
            y = native._short(x, weight, bias, chosen, out)
            if y is not None:
                return y  # type: ignore[no-any-return]
    title = "linear"
    if "cupy" in modules:
        together(title, x=x, weight=weight, bias=bias, z=z, out=out)
    x, weight = _factors(title, x, weight)
    chosen = fused(title, activation, x.dtype)
    shape = (*x.shape[:-1], weight.shape[0])
    inputs = {"x": x, "weight": weight}
    if bias is not None:
        bias = _bias(title, bias, weight, x.dtype)
        inputs["bias"] = bias
    check_out(title, out, shape, x.dtype, {})
    if z is not None:
        check_updated(title, "z", z, shape, x.dtype)
    check_written(title, {"out": out, "z": z}, inputs)
    y, before = receiver(out, shape, x.dtype, x), None if z is None else receiver(z, shape, x.dtype, x)
    biases = None if bias is None else plain(bias)
    kernels.forward(_rows(x), plain(weight), biases, chosen, _rows(y), None if before is None else _rows(before))
    if before is not None:
        stored(before, z)
    return stored(y, out)


@public(_ROW["linear_backward"])
def linear_backward(
    dy: npt.ArrayLike,
    x: npt.ArrayLike,
    weight: npt.ArrayLike,
    saved: npt.ArrayLike | None = None,
    activation: Activation = None,
    *,
    need_dx: bool = True,
    need_dweight: bool = True,
    need_dbias: bool = True,
    accumulate: bool = False,
    dx: Array | None = None,
    dweight: Array | None = None,
    dbias: Array | None = None,
    dz: Array | None = None,
) -> tuple[Array | None, Array | None, Array | None]:
    title = "linear_backward"
    made = Gradients(
        title,
        need_dx=need_dx,
        need_dweight=need_dweight,
        need_dbias=need_dbias,
        accumulate=accumulate,
        dx=dx,
        dweight=dweight,
        dbias=dbias,
        dz=dz,
    )
    if native._fits(dy, x, weight, saved, dx, dweight, dbias, dz):
        found = _plain_backward(dy, x, weight, saved, activation, made)
        if found is not None:
            return found
    if "cupy" in modules:
        together(title, dy=dy, x=x, weight=weight, saved=saved, dx=dx, dweight=dweight, dbias=dbias, dz=dz)
    x, weight = _factors(title, x, weight)
    dtype, number = x.dtype, parameter_dtype(x.dtype)
    shape = (*x.shape[:-1], weight.shape[0])
    chosen = fused(title, activation, dtype)
    dy = beside(title, "dy", dy, shape, dtype)
    before = checked_saved(title, saved, chosen, shape, dtype)
    like = {"dx": (x.shape, dtype), "dweight": (weight.shape, dtype), "dbias": (shape[-1:], number)}
    made.prepare({**like, "dz": (shape, number)}, {"dy": dy, "x": x, "weight": weight, **before})
    arrays = made.arrays
    implementation("linear", x).backward(
        _rows(dy),
        _rows(x),
        plain(weight),
        _rows(before["saved"]) if before else None,
        chosen,
        None if arrays["dz"] is None else _rows(arrays["dz"]),
        None if arrays["dx"] is None else _rows(arrays["dx"]),
        arrays["dweight"],
        arrays["dbias"],
        made.accumulate,
    )
    return made.results(z=chosen is not None)


def _plain_backward(
    dy: Any, x: Any, weight: Any, saved: Any, activation: Activation, made: Gradients
) -> tuple[Array | None, Array | None, Array | None] | None:
    """linear_backward for arrays as kernels take them; None where there is something to complain of."""
    chosen = None if activation is None else known(activation, x.dtype)
    dx, dweight, dbias, dz = made.given.values()
    needed, accumulate = made.needed, made.accumulate
    if (chosen is None) != (activation is None) or (saved is None) != (activation is None):
        return None
    if accumulate and ((needed["dweight"] and dweight is None) or (needed["dbias"] and dbias is None)):
        return None
    if not needed["dx"] or dx is None:
        dx = np.empty_like(x) if needed["dx"] else None
    if not needed["dweight"] or dweight is None:
        dweight = np.empty_like(weight) if needed["dweight"] else None
    if not needed["dbias"] or dbias is None:
        dbias = np.empty(len(weight), parameter_dtype(x.dtype)) if needed["dbias"] else None
    implementation("linear", x).backward(dy, x, weight, saved, chosen, dz, dx, dweight, dbias, accumulate)
    return dx, dweight, dbias


def _factors(title: str, x: Any, weight: Any) -> tuple[Array, Array]:
    """x and weight of one dtype, their shapes checked."""
    x, weight = map(bare, common_array(title, ("x", "weight"), (x, weight)))
    if weight.ndim != 2:
        raise ValueError(f"{title}: weight has shape {weight.shape}; expected two axes, (out, in)")
    if x.ndim == 0 or x.shape[-1] != weight.shape[1]:
        raise ValueError(
            f"{title}: x has shape {x.shape} and weight {weight.shape}; expected x (..., {weight.shape[1]})"
        )
    return x, weight


def _bias(title: str, bias: Any, weight: Array, dtype: np.dtype[Any]) -> Array:
    array = bare(real_array(title, "bias", bias))
    if array.shape != weight.shape[:1]:
        raise ValueError(f"{title}: bias has shape {array.shape}; expected {weight.shape[:1]}")
    return array.astype(parameter_dtype(dtype), copy=False)


def _rows(array: Array) -> Array:
    """Contiguous, all axes but the last one as one."""
    return plain(array).reshape(math.prod(array.shape[:-1]), array.shape[-1])
