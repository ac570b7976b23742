from collections.abc import Sequence
from typing import Any

import numpy.typing as npt

Array = npt.NDArray[Any]

def describe(y: Array, bounds: Sequence[float]) -> tuple[float, float, float, float, float, float, float]: ...
def inactive(y: Array) -> Array: ...
