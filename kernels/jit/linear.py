"""Linear layers: NumPy's BLAS, and the compiled activations on blocks of its results."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fastnn.kernels import gemm
from fastnn.kernels import jit as activations
from fastnn.kernels.jit.elements import cached, memory, number_of, sweep
from fastnn.kernels.jit.intrinsics import Value, formula
from fastnn.kernels.jit.parallel import run

Array = npt.NDArray[Any]

_BLOCK = 1 << 14  # elements of a block that stays in the cache between bias and activation
_ROWS = 256  # rows of the 16-bit formats that are widened at a time


@formula
def _same(x: Value) -> Any:
    return (x,)


@formula
def _sum(x: Value, y: Value) -> Any:
    return (x + y,)


@cached
def _convert(_: Any, out: Any, operands: Any) -> None:
    sweep(_same, (out,), (operands[0],), ())


@cached
def _add(_: Any, out: Any, operands: Any) -> None:
    sweep(_sum, (out,), (out, operands[0]), ())


def _widen(tile: Array, to: Array) -> None:
    run(_convert, memory(to), (memory(np.ascontiguousarray(tile)),))


def _store(product: Array, tile: Array, accumulate: bool) -> None:
    whole = np.ascontiguousarray(tile)
    run(_add if accumulate else _convert, memory(whole), (memory(product),))
    tile[...] = whole


def _finish(product: Array, bias: Array | None, activation: Any, y: Array, z: Array | None) -> None:
    rows = max(1, _BLOCK // max(1, y.shape[1]))
    for begin in range(0, len(y), rows):
        block = slice(begin, begin + rows)
        part = product[block]
        if bias is not None:
            with np.errstate(all="ignore"):
                np.add(part, bias, out=part)
        if z is not None and z is not product:
            _store(part, z[block], False)
        if activation is not None:
            activations.forward(activation.name, part, *activation.params, out=part if y.itemsize == 2 else y[block])
        if y.itemsize == 2 or (activation is None and y is not product):
            _store(part, y[block], False)


def _gradient(dy: Array, saved: Array | None, activation: Any, dz: Array | None, sums: Array | None) -> None:
    rows, total = max(1, _BLOCK // max(1, dy.shape[1])), np.zeros(dy.shape[1])
    number = number_of(dy.dtype)
    for begin in range(0, len(dy), rows):
        block = slice(begin, begin + rows)
        part = _wide(dy[block], number)
        if activation is not None and saved is not None:
            inner, before = np.empty_like(part) if dz is None else dz[block], _wide(saved[block], number)
            activations.backward(activation.name, part, before, *activation.params, out=inner)
            part = inner
        if sums is not None:
            with np.errstate(all="ignore"):
                total += np.sum(part, axis=0, dtype=np.float64)
    if sums is not None:
        with np.errstate(all="ignore"):
            sums[...] = total


def _wide(part: Array, number: Any) -> Array:
    if part.dtype == number:
        return part
    wide = np.empty(part.shape, number)
    _widen(part, wide)
    return wide


def forward(x: Array, weight: Array, bias: Array | None, activation: Any, y: Array, z: Array | None) -> None:
    """y = activation(z), z = x weight^T + bias. x, y and z have two axes; bias, activation and z may be None."""
    if y.itemsize > 2:
        gemm.forward(_finish, x, weight, bias, activation, y, z)
        return
    for begin in range(0, len(weight), _ROWS):
        outputs = slice(begin, begin + _ROWS)
        wide, part = _wide(weight[outputs], np.float32).T, None if bias is None else bias[outputs]
        for first in range(0, len(x), _ROWS):
            rows = slice(first, first + _ROWS)
            product = np.matmul(_wide(x[rows], np.float32), wide)
            _finish(product, part, activation, y[rows, outputs], None if z is None else z[rows, outputs])


def backward(
    dy: Array,
    x: Array,
    weight: Array,
    saved: Array | None,
    activation: Any,
    dz: Array | None,
    dx: Array | None,
    dweight: Array | None,
    dbias: Array | None,
    accumulate: bool,
) -> None:
    """The gradients that are not None. dweight and dbias are added to where `accumulate`; dz is scratch, or None."""
    gemm.backward(_gradient, _widen, _store, dy, x, weight, saved, activation, dz, dx, dweight, dbias, accumulate)
