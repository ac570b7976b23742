"""The activations and their gradients as real NumPy ufuncs, over the same native kernels as the functions.

    fnn.ufuncs.relu(x, out=y, where=mask)
    fnn.ufuncs.leaky_relu(x, 0.01)

A ufunc has no default values: parameters are inputs like x, and broadcast like it. Ufuncs are always native; `fnn.use`
does not concern them. They never warn: infinities and NaN are in the results. bfloat16 works where ml_dtypes is
installed.
"""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np

from fastnn.functional import UFUNCS
from fastnn.kernels.cpu import activations as _native

with contextlib.suppress(ImportError):
    import ml_dtypes as _ml_dtypes

    _native.use_bfloat16(np.dtype(_ml_dtypes.bfloat16).num)

globals().update(UFUNCS)
__all__ = list(UFUNCS)


def __getattr__(name: str) -> Any:
    raise AttributeError(f"fastnn.ufuncs has no ufunc {name!r}; it has {', '.join(UFUNCS)}")
