from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

def mix(x: Array, permutation: NDArray[np.int64], weights: Array, out: Array) -> None: ...
def cutout(x: Array, out: Array, boxes: NDArray[np.int64], fill: Array) -> None: ...
