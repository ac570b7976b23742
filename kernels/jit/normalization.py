"""Normalisation for Numba: the functions of kernels/cpu/normalization.pyx."""

from __future__ import annotations

from fastnn.kernels.jit.batch_norm import batch_norm_backward, batch_norm_infer, batch_norm_train
from fastnn.kernels.jit.row_norm import row_norm, row_norm_backward

__all__ = ["batch_norm_backward", "batch_norm_infer", "batch_norm_train", "row_norm", "row_norm_backward"]
