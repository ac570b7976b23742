"""The Numba backend: every op of the table as a compiled loop over a Python-readable formula.

Importing this package imports Numba; importing fastnn does not. A loop is compiled when it is first called, once per op,
pass and dtype, and kept in Numba's cache on disk.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fastnn.broadcast import align_parameter, reduce_to
from fastnn.table import OPS

try:
    import numba as _numba
except ImportError as error:
    raise ImportError('the Numba backend needs Numba; install it with: pip install "fastnn[numba]"') from error

from fastnn.kernels.jit.activations import ACTIVATIONS
from fastnn.kernels.jit.loops import MEMORY, entry
from fastnn.kernels.jit.parallel import run

__all__ = ["ACTIVATIONS", "backward", "forward", "version"]

Array = npt.NDArray[Any]

version = _numba.__version__
_STRIDED_BLOCK = 1 << 14  # elements that are copied into place at a time where arrays are not contiguous


def forward(name: str, x: Array, *params: Any, out: Array | None = None) -> Array:
    """Evaluate the activation `name` at `x`."""
    return _evaluate(name, "forward", (x,), _parameters(name, x, params), out, x.dtype)


def backward(name: str, dy: Array, saved: Array, *params: Any, out: Array | None = None) -> Array | tuple[Array, Array]:
    """dx from dy, or (dx, dparam) where the op has a learned parameter; `out` receives dx."""
    aligned = _parameters(name, saved, params)
    learned = OPS[name].learned
    if learned is None:
        return _evaluate(name, "backward", (dy, saved), aligned, out, saved.dtype)
    # First, for `out` may be one of the operands
    single = np.dtype(np.float64 if saved.dtype == np.float64 else np.float32)
    elements = _evaluate(name, "parameter_gradient", (dy, saved), aligned, None, single)
    dparam = reduce_to(elements, np.shape(params[learned]))
    return _evaluate(name, "backward", (dy, saved), aligned, out, saved.dtype), dparam


def _parameters(name: str, x: Array, params: tuple[Any, ...]) -> tuple[Any, ...]:
    """Parameters as numbers, a learned one with more than one value as an array that broadcasts to `x`."""
    learned = OPS[name].learned
    if learned is None:
        return params
    values = np.asarray(params[learned], np.float64 if x.dtype == np.float64 else np.float32)
    aligned = align_parameter(x.shape, values)
    value = aligned.item() if aligned.ndim == 0 else aligned
    return (*params[:learned], value, *params[learned + 1 :])


def _evaluate(
    name: str, direction: str, arrays: tuple[Array, ...], params: tuple[Any, ...], out: Array | None, dtype: Any
) -> Array:
    """Run one pass over arrays of any layout; `out` may be one of them or overlap them."""
    kind = arrays[-1].dtype.name
    if kind not in MEMORY or not arrays[-1].dtype.isnative:
        raise TypeError(f"{name}: expected float32, float64, float16 or bfloat16, got {arrays[-1].dtype}")
    result = np.empty_like(arrays[-1], dtype, subok=False) if out is None else out
    variable = tuple(isinstance(param, np.ndarray) for param in params)
    loop = entry(name, direction, kind, result.dtype.name, variable)
    operands = (*arrays, *params)
    inputs = [_bits(operand) for operand in operands if isinstance(operand, np.ndarray)]
    target = _bits(result)
    flat = _flattened([target, *inputs])
    if flat is not None:
        run(loop, flat[0], _merge(operands, _separated(flat[0], flat[1:])))
        return result
    iterator = np.nditer(
        [target, *inputs],
        flags=["external_loop", "buffered", "zerosize_ok", "copy_if_overlap", "delay_bufalloc"],
        op_flags=[["writeonly", "contig", "no_broadcast", "overlap_assume_elementwise"]]
        + [["readonly", "contig", "overlap_assume_elementwise"]] * len(inputs),
        buffersize=_STRIDED_BLOCK,
        order="K",
    )
    with iterator:
        iterator.reset()
        for block in iterator:
            loop(None, block[0], _merge(operands, block[1:]))
    return result


def _bits(array: Array) -> Array:
    """The 16-bit formats as their bits, everything else as it is."""
    return array.view(np.uint16) if array.dtype.itemsize == 2 else array


def _flattened(arrays: list[Array]) -> list[Array] | None:
    """One-dimensional views of arrays that lie in memory in the same order without gaps; None if they do not."""
    if any(array.shape != arrays[0].shape for array in arrays):
        return None
    if all(array.flags.c_contiguous for array in arrays):
        return [array if array.ndim == 1 else array.reshape(-1) for array in arrays]
    if all(array.flags.f_contiguous for array in arrays):
        return [array.reshape(-1, order="F") for array in arrays]
    return None


def _separated(out: Array, inputs: list[Array]) -> list[Array]:
    """Inputs that overlap the output without being the same memory, copied."""
    start = out.__array_interface__["data"][0]
    return [
        each.copy() if np.may_share_memory(out, each) and each.__array_interface__["data"][0] != start else each
        for each in inputs
    ]


def _merge(operands: tuple[Any, ...], arrays: Any) -> tuple[Any, ...]:
    """The operands, with arrays in place of the arrays among them."""
    following = iter(arrays)
    return tuple(next(following) if isinstance(operand, np.ndarray) else operand for operand in operands)
