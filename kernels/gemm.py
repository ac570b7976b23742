"""Products of matrices by NumPy's BLAS, in blocks that are still in the cache when they are finished.

The 16-bit formats, which no BLAS of NumPy's knows, are widened tile by tile. Scratch memory is bounded: 4 MiB for a
product, whatever its size.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

_CACHE = 1 << 22  # bytes of a block of results, which are still in the last cache when it is finished
_FEWEST_ROWS = 1024  # of a block: the BLAS packs the other factor anew for each, and is slow at smaller ones
_ROWS, _COLUMNS, _DEPTH = 256, 512, 1024  # of a tile of a product that is not the BLAS's alone


@np.errstate(all="ignore")
def forward(
    finish: Callable[..., None],
    x: Array,
    weight: Array,
    bias: Array | None,
    activation: Any,
    y: Array,
    z: Array | None,
) -> None:
    """y = activation(z), z = x weight^T + bias, in float32 or float64."""
    product = y if z is None else z
    if bias is None and activation is None and z is None:
        np.matmul(x, weight.T, out=y)
        return
    rows = max(_FEWEST_ROWS, _CACHE // max(1, y.itemsize * y.shape[1]))
    for begin in range(0, len(x), rows):
        block = slice(begin, begin + rows)
        np.matmul(x[block], weight.T, out=product[block])
        finish(product[block], bias, activation, y[block], None if z is None else z[block])


@np.errstate(all="ignore")
def backward(
    gradient: Callable[..., None],
    widen: Callable[[Array, Array], None],
    store: Callable[[Array, Array, bool], None],
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
    """The gradients that are not None, by the primitives of a backend; see `fastnn.linear_backward`."""
    number = np.dtype(np.float64 if dy.dtype == np.float64 else np.float32)
    wanted = dx is not None or dweight is not None
    if activation is not None and dz is None and wanted:
        dz = np.empty(dy.shape, number)
    if (activation is not None and wanted) or dbias is not None:
        before = dbias.copy() if dbias is not None and accumulate else None
        gradient(dy, saved, activation, dz if activation is not None else None, dbias)
        if dbias is not None and before is not None:
            np.add(dbias, before, out=dbias)
    inner = dy if activation is None or dz is None else dz
    if dx is not None:
        _product(widen, store, inner, weight, dx, False)
    if dweight is not None:
        _product(widen, store, inner.T, x, dweight, accumulate)


def _product(widen: Any, store: Any, a: Array, b: Array, out: Array, accumulate: bool) -> None:
    """out = a b, or out += a b. `b` and `out` are contiguous; `a` or its transpose is."""
    if a.dtype == b.dtype and b.itemsize > 2 and not accumulate:
        np.matmul(a, b, out=out)
        return
    number = np.dtype(np.float64 if out.dtype == np.float64 else np.float32)
    (rows, depth), columns = a.shape, b.shape[1]
    deep = _DEPTH if out.itemsize == 2 else depth  # float32 and float64 are not widened: any depth will do
    scratch = [np.empty(size, number) for size in _sizes(rows, columns, min(deep, depth), out.itemsize == 2)]
    for j in range(0, columns, _COLUMNS):
        for i in range(0, rows, _ROWS):
            target = out[i : i + _ROWS, j : j + _COLUMNS]
            total = _shaped(scratch[0], target.shape)
            for k in range(0, max(depth, 1), max(deep, 1)):
                left = _wide(widen, a[i : i + _ROWS, k : k + deep], number, scratch[2])
                right = _wide(widen, b[k : k + deep, j : j + _COLUMNS], number, scratch[3])
                if k == 0:
                    np.matmul(left, right, out=total)
                else:
                    part = _shaped(scratch[1], target.shape)
                    np.matmul(left, right, out=part)
                    np.add(total, part, out=total)
            store(total, target, accumulate)


def _sizes(rows: int, columns: int, depth: int, widened: bool) -> tuple[int, int, int, int]:
    """Elements of scratch memory: the tile, a part of it, and tiles of both factors."""
    rows, columns = min(rows, _ROWS), min(columns, _COLUMNS)
    factors = (rows * depth, depth * columns) if widened else (0, 0)
    return rows * columns, rows * columns if widened else 0, *factors


def _shaped(memory: Array, shape: tuple[int, ...]) -> Array:
    return memory[: shape[0] * shape[1]].reshape(shape)


def _wide(widen: Any, tile: Array, number: np.dtype[Any], memory: Array) -> Array:
    """A tile in the dtype computed in, in the order that it has in memory."""
    if tile.dtype == number:
        return tile
    if tile.strides[1] != tile.itemsize and tile.strides[0] == tile.itemsize:  # of a transpose
        return _wide(widen, tile.T, number, memory).T
    wide = _shaped(memory, tile.shape)
    widen(tile, wide)
    return wide
