from typing import Any

import numpy.typing as npt

def penalty(
    w: npt.NDArray[Any], grad: npt.NDArray[Any] | None, quadratic: float | None, linear: float | None
) -> tuple[float, float]: ...
