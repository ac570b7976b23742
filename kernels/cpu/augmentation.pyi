from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

def mix(x: Array, permutation: NDArray[np.int64], weights: Array, out: Array) -> None: ...
def cutout(x: Array, out: Array, boxes: NDArray[np.int64], fill: Array) -> None: ...
def crop(x: Array, out: Array, places: NDArray[np.int64], fill: Array) -> None: ...
def warp(x: Array, out: Array, maps: NDArray[np.float64], fill: Array) -> None: ...
def resize(
    x: Array,
    out: Array,
    rows: NDArray[np.int32],
    row_weights: Array,
    columns: NDArray[np.int32],
    column_weights: Array,
) -> None: ...
