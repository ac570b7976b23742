"""Numbers of the host's that kernels read from the device: small tables, copied there once and kept."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import numpy.typing as npt

from fastnn.kernels.cuda.compiler import cupy

_KEPT = 4096  # numbers of a table that is kept


def there(values: npt.NDArray[Any]) -> Any:
    """An array of the host's on the current device, kept there if it is small; one of the device's as it is."""
    if not isinstance(values, np.ndarray) or values.size > _KEPT:
        return cupy().asarray(values)
    device = int(cupy().cuda.runtime.getDevice())
    return _kept(cupy(), device, values.dtype.str, values.shape, values.tobytes())


@functools.lru_cache(maxsize=256)
def _kept(module: Any, device: int, dtype: str, shape: tuple[int, ...], values: bytes) -> Any:
    return module.asarray(np.frombuffer(values, dtype).reshape(shape))
