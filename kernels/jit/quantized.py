"""Quantized arithmetic under Numba: the compiled kernels. Integers leave a second writing nothing to differ in."""

from __future__ import annotations

from fastnn.kernels.cpu.quantized import (
    PackedInt8,
    Prepared,
    add,
    average_pool,
    depthwise,
    dequantize,
    finish_rows,
    lookup,
    matmul,
    max_pool,
    quantize,
    quantize_rows,
    window,
)

__all__ = [
    "PackedInt8",
    "Prepared",
    "add",
    "average_pool",
    "depthwise",
    "dequantize",
    "finish_rows",
    "lookup",
    "matmul",
    "max_pool",
    "quantize",
    "quantize_rows",
    "window",
]
