from typing import Any

import numpy as np
import numpy.typing as npt

_Array = npt.NDArray[Any]
_Pair = tuple[int, int]
_Shape = tuple[int, int, int, int]

class Step:
    def __init__(
        self,
        kind: str,
        x_shape: _Shape,
        y_shape: _Shape,
        kernel: _Pair = ...,
        stride: _Pair = ...,
        before: _Pair = ...,
        dilation: _Pair = ...,
        groups: int = ...,
        planes: bool = ...,
        pool: bool = ...,
        added: bool = ...,
        weight: _Array | None = ...,
        bias: _Array | None = ...,
        counts: tuple[npt.NDArray[np.float64] | None, npt.NDArray[np.float64] | None] = ...,
        activation: tuple[str, tuple[float, ...]] | None = ...,
    ) -> None: ...
    @property
    def operation(self) -> Any: ...
    def __call__(self, *arrays: _Array) -> None: ...

def pack(weight: _Array, groups: int) -> _Array: ...
def pack_channels(values: _Array, groups: int) -> _Array: ...
