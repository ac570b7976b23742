from collections.abc import Iterable
from typing import Any

import numpy.typing as npt

_Array = npt.NDArray[Any]
_Pair = tuple[int, int]

def forward(
    x: _Array,
    weight: _Array,
    bias: _Array | None,
    y: _Array,
    stride: _Pair,
    padding: _Pair,
    dilation: _Pair,
    groups: int,
    activation: str | None,
    params: tuple[float, ...],
    before: _Array | None,
) -> None: ...
def input_gradient(
    dy: _Array, weight: _Array, dx: _Array, stride: _Pair, padding: _Pair, dilation: _Pair, groups: int
) -> None: ...
def weight_gradient(
    dy: _Array,
    x: _Array,
    dweight: _Array,
    stride: _Pair,
    padding: _Pair,
    dilation: _Pair,
    groups: int,
    accumulate: bool,
) -> None: ...
def bias_gradient(dy: _Array, dbias: _Array, accumulate: bool) -> None: ...
def _apart(written: Iterable[_Array | None], inputs: Iterable[_Array | None]) -> bool: ...
def _scratch_peak() -> int: ...
