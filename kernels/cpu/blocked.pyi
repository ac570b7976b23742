from typing import Any

import numpy as np
import numpy.typing as npt

_Array = npt.NDArray[Any]

class Step:
    def __init__(
        self,
        kind: int,
        geometry: npt.NDArray[np.int64],
        planes: bool,
        pool: bool,
        adds: bool,
        taps: npt.NDArray[np.int64],
        weight: _Array | None,
        bias: _Array | None,
        row_counts: _Array | None,
        col_counts: _Array | None,
        low: float,
        high: float,
        activation: tuple[bytes, npt.NDArray[np.float32]] | None,
    ) -> None: ...
    @property
    def operation(self) -> Any: ...
