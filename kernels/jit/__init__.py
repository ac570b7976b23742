"""The Numba backend: every op of the table as a compiled loop over a Python-readable formula.

Importing this package imports Numba; importing fastnn does not. A loop is compiled when it is first called, once per
op, pass and dtype, and kept in Numba's cache on disk.

On every processor with a fused multiply-add the results have the bits of the native backend. Without one they still do,
but the C library then emulates it for every element, many times slower than the native backend's own way out.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import numpy.typing as npt

from fastnn.broadcast import align_parameter, reduce_to
from fastnn.table import OPS

try:
    import numba  # noqa: F401
except ImportError as error:
    raise ImportError('the Numba backend needs Numba; install it with: pip install "fastnn[numba]"') from error

from fastnn.kernels.jit import activations
from fastnn.kernels.jit.loops import MEMORY, Entry, entry
from fastnn.kernels.jit.parallel import run

__all__ = ["activations", "backward", "evaluate", "forward"]

Array = npt.NDArray[Any]

_BLOCK = 1 << 14  # elements that are gathered at a time where arrays are not contiguous


def forward(name: str, x: Array, *params: Any, out: Array | None = None) -> Array:
    """Evaluate the activation `name` at `x`."""
    return evaluate(name, "forward", (x,), _parameters(name, x, params), out, x.dtype)


def backward(name: str, dy: Array, saved: Array, *params: Any, out: Array | None = None) -> Array | tuple[Array, Array]:
    """dx from dy, or (dx, dparam) where the op has a learned parameter; `out` receives dx."""
    aligned = _parameters(name, saved, params)
    learned = OPS[name].learned
    if learned is None:
        return evaluate(name, "backward", (dy, saved), aligned, out, saved.dtype)
    # First, for `out` may be one of the operands
    elements = evaluate(name, "parameter_gradient", (dy, saved), aligned, None, _single(saved.dtype))
    dparam = reduce_to(elements, np.shape(params[learned]))
    return evaluate(name, "backward", (dy, saved), aligned, out, saved.dtype), dparam


def _parameters(name: str, x: Array, params: tuple[Any, ...]) -> tuple[Any, ...]:
    """Parameters as numbers, a learned one of more than one value as an array that broadcasts to `x`."""
    if not params:
        return ()
    learned = OPS[name].learned
    if learned is None:
        return tuple(float(param) for param in params)
    alpha = align_parameter(x.shape, np.asarray(params[learned], _single(x.dtype)))
    value = float(alpha) if alpha.ndim == 0 else alpha
    return (*(float(param) for param in params[:learned]), value, *(float(param) for param in params[learned + 1 :]))


def _single(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype that formulas compute in, and that parameters and their gradients have."""
    return np.dtype(np.float64 if dtype == np.float64 else np.float32)


@functools.cache
def _kind(dtype: np.dtype[Any]) -> str | None:
    """The name under which loops know a dtype, if they do."""
    return dtype.name if dtype.name in MEMORY and dtype.isnative else None


def evaluate(
    name: str,
    direction: str,
    arrays: tuple[Array, ...],
    params: tuple[Any, ...],
    out: Array | None,
    dtype: np.dtype[Any],
) -> Array:
    """Run one pass over arrays of any layout; `out` may be one of them or overlap them."""
    like = arrays[-1]
    kind, out_kind = _kind(like.dtype), _kind(dtype)
    if kind is None or out_kind is None:
        raise TypeError(f"{name}: expected float32, float64, float16 or bfloat16, got {like.dtype}")
    result = np.empty_like(like, dtype, subok=False) if out is None else out
    for array, wanted in ((arrays[0], like.dtype), (result, dtype)):
        if array.dtype != wanted or array.shape != like.shape:  # compiled loops would not notice
            raise ValueError(
                f"{name}: expected arrays of {wanted} and shape {like.shape}, got {array.dtype} and {array.shape}"
            )
    if not result.flags.writeable:
        raise ValueError(f"{name}: out is read-only")
    variable = tuple([isinstance(param, np.ndarray) for param in params])
    loop = entry(name, direction, kind, out_kind, variable)
    inputs = [*arrays, *(param for param in params if isinstance(param, np.ndarray))]
    flat = _flattened(_bits([result, *inputs]))
    if flat is None:
        _run_in_blocks(loop, _bits([result, *inputs]), params)
    else:
        run(loop, flat[0], _operands(flat[1:] if out is None else _separated(flat[0], flat[1:]), params))
    return result


def _operands(inputs: list[Array], params: tuple[Any, ...]) -> tuple[Any, ...]:
    """What a loop wants: arrays, then parameters, of which those that are arrays are the last of `inputs`."""
    first = len(inputs) - sum([isinstance(param, np.ndarray) for param in params])
    following = iter(inputs[first:])
    return (*inputs[:first], *[next(following) if isinstance(param, np.ndarray) else param for param in params])


def _run_in_blocks(loop: Entry, arrays: list[Array], params: tuple[Any, ...]) -> None:
    """Arrays that are not contiguous, or broadcast: NumPy's iterator gathers and scatters them block by block."""
    read: list[Any] = [["readonly", "contig", "overlap_assume_elementwise"]] * (len(arrays) - 1)
    written: Any = ["writeonly", "contig", "no_broadcast", "overlap_assume_elementwise"]
    iterator = np.nditer(
        arrays,
        flags=["external_loop", "buffered", "zerosize_ok", "copy_if_overlap"],
        op_flags=[written, *read],
        buffersize=_BLOCK,
    )
    with iterator:
        for out, *inputs in iterator:
            loop(None, out, _operands(inputs, params))


def _bits(arrays: list[Array]) -> list[Array]:
    """The 16-bit formats as their bits, everything else as it is."""
    return [array.view(np.uint16) if array.itemsize == 2 else array for array in arrays]


def _flattened(arrays: list[Array]) -> list[Array] | None:
    """One-dimensional views of arrays that lie in memory in the same order without gaps; None if they do not."""
    shape = arrays[0].shape
    if any([array.shape != shape for array in arrays]):
        return None
    if all([array.flags.c_contiguous for array in arrays]):
        return arrays if len(shape) == 1 else [array.reshape(-1) for array in arrays]
    if all([array.flags.f_contiguous for array in arrays]):
        return [array.reshape(-1, order="F") for array in arrays]
    return None


def _separated(out: Array, inputs: list[Array]) -> list[Array]:
    """Inputs that overlap the output without being the same memory, copied."""
    return [
        each.copy() if np.may_share_memory(out, each) and each.ctypes.data != out.ctypes.data else each
        for each in inputs
    ]
