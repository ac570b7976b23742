"""The public functions of the family `regularizers`."""

from __future__ import annotations

from sys import modules
from typing import Any, SupportsFloat

import numpy as np
import numpy.typing as npt

from fastnn.arguments import Array, check_updated, overlap, parameter_dtype, plain, real_array, real_number
from fastnn.arrays import beside, on_device, together
from fastnn.dispatch import implementation
from fastnn.function import public
from fastnn.table.regularizers import ROWS

__all__ = [row.name for row in ROWS]

_ROW = {row.name: row for row in ROWS}
Penalty = Any  # a NumPy scalar; of an array on a device, an array of no axes there


def _penalty(title: str, w: object, grad: Array | None, quadratic: float | None, linear: float | None) -> Penalty:
    """The penalty; its gradient is added to `grad`, which has been checked."""
    if "cupy" in modules:
        together(title, w=w, grad=grad)
    array = real_array(title, "w", w)
    target = None if grad is None else plain(grad)
    squares, magnitudes = implementation("regularizers", array).penalty(plain(array), target, quadratic, linear)
    if target is not grad and grad is not None:
        grad[...] = target
    terms = ((quadratic, squares), (linear, magnitudes))
    penalty = sum(factor * total for factor, total in terms if factor is not None)
    if on_device(array):
        return beside(array, penalty).astype(parameter_dtype(array.dtype))
    with np.errstate(over="ignore"):
        return parameter_dtype(array.dtype).type(penalty)


def _checked(title: str, name: str, value: object) -> float:
    return real_number(title, name, value, low=0)


def _check_grad(title: str, w: object, grad: Array) -> None:
    if "cupy" in modules:
        together(title, w=w, grad=grad)
    array = real_array(title, "w", w)
    check_updated(title, "grad", grad, array.shape, array.dtype)
    if grad.size and overlap(array, grad):
        raise ValueError(f"{title}: grad overlaps w in memory; expected memory apart from it")


@public(_ROW["l2"])
def l2(w: npt.ArrayLike, strength: SupportsFloat = 1.0) -> Penalty:
    return _penalty("l2", w, None, _checked("l2", "strength", strength), None)


@public(_ROW["l2_and_grad"])
def l2_and_grad(w: npt.ArrayLike, grad: Array, strength: SupportsFloat = 1.0) -> tuple[Penalty, Array]:
    factor = _checked("l2_and_grad", "strength", strength)
    _check_grad("l2_and_grad", w, grad)
    return _penalty("l2_and_grad", w, grad, factor, None), grad


@public(_ROW["l1"])
def l1(w: npt.ArrayLike, strength: SupportsFloat = 1.0) -> Penalty:
    return _penalty("l1", w, None, None, _checked("l1", "strength", strength))


@public(_ROW["l1_and_grad"])
def l1_and_grad(w: npt.ArrayLike, grad: Array, strength: SupportsFloat = 1.0) -> tuple[Penalty, Array]:
    factor = _checked("l1_and_grad", "strength", strength)
    _check_grad("l1_and_grad", w, grad)
    return _penalty("l1_and_grad", w, grad, None, factor), grad


@public(_ROW["elastic_net"])
def elastic_net(w: npt.ArrayLike, beta: SupportsFloat = 1.0, strength: SupportsFloat = 1.0) -> Penalty:
    quadratic, linear = (_checked("elastic_net", *each) for each in (("beta", beta), ("strength", strength)))
    return _penalty("elastic_net", w, None, linear * quadratic, linear)


@public(_ROW["elastic_net_and_grad"])
def elastic_net_and_grad(
    w: npt.ArrayLike, grad: Array, beta: SupportsFloat = 1.0, strength: SupportsFloat = 1.0
) -> tuple[Penalty, Array]:
    title = "elastic_net_and_grad"
    quadratic, linear = (_checked(title, *each) for each in (("beta", beta), ("strength", strength)))
    _check_grad(title, w, grad)
    return _penalty(title, w, grad, linear * quadratic, linear), grad
