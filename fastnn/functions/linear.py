"""The public functions of the family `linear`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from fastnn.arguments import (
    check_out,
    check_updated,
    check_written,
    common_array,
    flag,
    parameter_dtype,
    plain,
    real_array,
    receiver,
    stored,
)
from fastnn.dispatch import implementation
from fastnn.function import public
from fastnn.fusion import Activation, fused, known
from fastnn.kernels.cpu import linear as native
from fastnn.table import FUNCTIONS

__all__ = ["linear", "linear_backward"]

Array = npt.NDArray[Any]


@public(FUNCTIONS["linear"])
def linear(
    x: npt.ArrayLike,
    weight: npt.ArrayLike,
    bias: npt.ArrayLike | None = None,
    activation: Activation = None,
    *,
    z: Array | None = None,
    out: Array | None = None,
) -> Array:
    kernels = implementation("linear")
    if kernels is native and z is None:
        chosen = None if activation is None else known(activation, getattr(x, "dtype", None))
        if chosen is not None or activation is None:
            y = native._short(x, weight, bias, chosen, out)
            if y is not None:
                return y  # type: ignore[no-any-return]
    title = "linear"
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
    y, before = receiver(out, shape, x.dtype), None if z is None else receiver(z, shape, x.dtype)
    biases = None if bias is None else plain(bias)
    kernels.forward(_rows(x), plain(weight), biases, chosen, _rows(y), None if before is None else _rows(before))
    if before is not None:
        stored(before, z)
    return stored(y, out)


@public(FUNCTIONS["linear_backward"])
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
    needed = {
        "dx": flag(title, "need_dx", need_dx),
        "dweight": flag(title, "need_dweight", need_dweight),
        "dbias": flag(title, "need_dbias", need_dbias),
    }
    accumulate = flag(title, "accumulate", accumulate)
    if native._fits(dy, x, weight, saved, dx, dweight, dbias, dz):
        found = _plain_backward(dy, x, weight, saved, activation, needed, accumulate, (dx, dweight, dbias), dz)
        if found is not None:
            return found
    x, weight = _factors(title, x, weight)
    dtype, number = x.dtype, parameter_dtype(x.dtype)
    shape = (*x.shape[:-1], weight.shape[0])
    chosen = fused(title, activation, dtype)
    dy = _beside(title, "dy", dy, shape, dtype)
    inputs = {"dy": dy, "x": x, "weight": weight}
    if chosen is not None:
        if saved is None:
            what = "y" if chosen.op.saves == "output" else "z, the value before the activation"
            raise TypeError(f"{title}: saved is None and activation is {chosen.name!r}; expected {what}")
        saved = inputs["saved"] = _beside(title, "saved", saved, shape, dtype)
    elif saved is not None:
        raise ValueError(f"{title}: saved goes with an activation, and activation is None")
    results = {
        "dx": (dx, x.shape, dtype),
        "dweight": (dweight, weight.shape, dtype),
        "dbias": (dbias, shape[-1:], number),
    }
    for name, (given, wanted, kind) in results.items():
        if given is not None:
            check_updated(title, name, given, wanted, kind)
        elif accumulate and needed[name] and name != "dx":
            raise ValueError(f"{title}: accumulate adds to {name}, which is None; expected an array of shape {wanted}")
    if dz is not None:
        check_updated(title, "dz", dz, shape, number)
    check_written(title, {"dx": dx, "dweight": dweight, "dbias": dbias}, inputs)
    same = dz is not None and dz.dtype == dy.dtype and _same_place(dz, dy)
    others = {name: array for name, array in inputs.items() if not (same and name == "dy")}
    check_written(title, {"dz": dz, "dx": dx, "dweight": dweight, "dbias": dbias}, others)
    made = {
        name: (given if accumulate and given is not None else receiver(given, wanted, kind)) if needed[name] else None
        for name, (given, wanted, kind) in results.items()
    }
    made = {name: None if array is None else plain(array) for name, array in made.items()}
    scratch = None if dz is None else receiver(dz, shape, number)
    implementation("linear").backward(
        _rows(dy),
        _rows(x),
        plain(weight),
        None if chosen is None else _rows(inputs["saved"]),
        chosen,
        None if scratch is None else _rows(scratch),
        None if made["dx"] is None else _rows(made["dx"]),
        made["dweight"],
        made["dbias"],
        accumulate,
    )
    if scratch is not None and chosen is not None:
        stored(scratch, dz)
    first, second, third = (
        None if array is None else stored(array, given)
        for array, (given, _, _) in zip(made.values(), results.values(), strict=True)
    )
    return first, second, third


def _plain_backward(
    dy: Any,
    x: Any,
    weight: Any,
    saved: Any,
    activation: Activation,
    needed: dict[str, bool],
    accumulate: bool,
    given: tuple[Array | None, ...],
    dz: Array | None,
) -> tuple[Array | None, Array | None, Array | None] | None:
    """linear_backward for arrays as kernels take them; None where there is something to complain of."""
    chosen = None if activation is None else known(activation, x.dtype)
    dx, dweight, dbias = given
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
    implementation("linear").backward(dy, x, weight, saved, chosen, dz, dx, dweight, dbias, accumulate)
    return dx, dweight, dbias


def _factors(title: str, x: Any, weight: Any) -> tuple[Array, Array]:
    """x and weight of one dtype, their shapes checked."""
    x, weight = map(np.asarray, common_array(title, ("x", "weight"), (x, weight)))
    if weight.ndim != 2:
        raise ValueError(f"{title}: weight has shape {weight.shape}; expected two axes, (out, in)")
    if x.ndim == 0 or x.shape[-1] != weight.shape[1]:
        raise ValueError(
            f"{title}: x has shape {x.shape} and weight {weight.shape}; expected x (..., {weight.shape[1]})"
        )
    return x, weight


def _bias(title: str, bias: Any, weight: Array, dtype: np.dtype[Any]) -> Array:
    array = np.asarray(real_array(title, "bias", bias))
    if array.shape != weight.shape[:1]:
        raise ValueError(f"{title}: bias has shape {array.shape}; expected {weight.shape[:1]}")
    return array.astype(parameter_dtype(dtype), copy=False)


def _beside(title: str, name: str, value: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """An input of y's shape, in x's dtype, which it may not exceed."""
    array = np.asarray(real_array(title, name, value))
    if array.shape != shape:
        raise ValueError(f"{title}: {name} has shape {array.shape}; expected {shape}, as y has")
    if array.dtype != dtype:
        raise TypeError(f"{title}: {name} has dtype {array.dtype} beside x of {dtype}; expected the same dtype")
    return array


def _same_place(a: Array, b: Array) -> bool:
    return a.ctypes.data == b.ctypes.data and a.strides == b.strides and a.shape == b.shape


def _rows(array: Array) -> Array:
    """Contiguous, all axes but the last one as one."""
    return plain(array).reshape(math.prod(array.shape[:-1]), array.shape[-1])
