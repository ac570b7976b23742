"""Products of matrices on the device, by cuBLAS through CuPy, in the type that is computed in.

float32 and float64 go to `cupy.matmul`. float16 and bfloat16 are multiplied as they are and summed up in float32, which
is what the tensor cores do, by cuBLAS's gemmEx: cupy.matmul would round the sums to 16 bits, before there is a bias on
them. Where CuPy does not show gemmEx they are widened to float32 first.
"""

from __future__ import annotations

import functools
import importlib
from typing import Any

import numpy as np

from fastnn.kernels.cuda.compiler import compute_dtype, cupy

Array = Any

_TYPES = {"float16": 2, "bfloat16": 14}  # cudaDataType
_FLOAT = 0  # CUDA_R_32F
_COMPUTE_FLOAT = 68  # CUBLAS_COMPUTE_32F
_ALGORITHM = -1  # CUBLAS_GEMM_DEFAULT
_HOST = 0  # CUBLAS_POINTER_MODE_HOST


def multiply(a: Array, b: Array, out: Array) -> None:
    """out = a b for a (m, k) and b (k, n), each C-contiguous or the transpose of such; out is of the compute dtype."""
    if 0 in (*a.shape, *b.shape):
        out[...] = 0
    elif a.dtype == b.dtype == out.dtype:
        cupy().matmul(a, b, out=out)
    elif a.dtype == b.dtype and (library := _cublas()) is not None and _fits(a, b):
        _mixed(library, a, b, out)
    else:
        wide = compute_dtype(a.dtype)
        cupy().matmul(a.astype(wide, copy=False), b.astype(wide, copy=False), out=out)


@functools.cache
def _cublas() -> Any:
    try:
        return importlib.import_module("cupy_backends.cuda.libs.cublas")
    except ImportError:
        return None


def _fits(*matrices: Array) -> bool:
    """CuBLAS counts in 32 bits."""
    return all([max(matrix.shape) < 2**31 for matrix in matrices])


def _mixed(library: Any, a: Array, b: Array, out: Array) -> None:
    """out = a b in columns, as cuBLAS has matrices: the transpose of out is the product of b's and a's."""
    (m, k), n = a.shape, b.shape[1]
    one, zero = np.ones(1, np.float32), np.zeros(1, np.float32)
    kind = _TYPES[a.dtype.name]
    first, second = _operand(b), _operand(a)
    handle = cupy().cuda.device.get_cublas_handle()
    mode = library.getPointerMode(handle)
    library.setPointerMode(handle, _HOST)
    try:
        library.gemmEx(
            *(handle, first[0], second[0], n, m, k, one.ctypes.data),
            *(b.data.ptr, kind, first[1], a.data.ptr, kind, second[1], zero.ctypes.data),
            *(out.data.ptr, _FLOAT, n, _COMPUTE_FLOAT, _ALGORITHM),
        )
    finally:
        library.setPointerMode(handle, mode)


def _operand(matrix: Array) -> tuple[int, int]:
    """(is it to be transposed, its leading dimension) for a matrix by rows, which cuBLAS takes for its transpose."""
    rows, columns = matrix.shape
    return (0, columns) if matrix.flags.c_contiguous else (1, rows)
