from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

def philox(words: NDArray[np.uint32], first: int, seed: int, offset: int) -> None: ...
def mask(kept: NDArray[np.bool_], first: int, threshold: int, seed: int, offset: int) -> None: ...
def scaled(x: Array, out: Array, first: int, threshold: int, scale: float, seed: int, offset: int) -> None: ...
def affine(
    x: Array,
    out: Array,
    first: int,
    threshold: int,
    scale: float,
    shift: float,
    dropped: float,
    seed: int,
    offset: int,
) -> None: ...
def units(
    x: Array, out: Array, inner: int, first: int, threshold: int, scale: float, seed: int, offset: int
) -> None: ...
def times(x: Array, out: Array, scale: float) -> None: ...
def _short(
    x: Any, axes: int, threshold: int, scale: float, seed: Any, offset: Any, start: Any, out: Any
) -> Array | None: ...
