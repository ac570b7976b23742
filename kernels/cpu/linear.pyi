from collections.abc import Iterable
from typing import Any

import numpy.typing as npt

Array = npt.NDArray[Any]

def forward(x: Array, weight: Array, bias: Array | None, activation: Any, y: Array, z: Array | None) -> None: ...
def _finish(product: Array, bias: Array | None, activation: Any, y: Array, z: Array | None) -> None: ...
def _gradient(dy: Array, saved: Array | None, activation: Any, dz: Array | None, sums: Array | None) -> None: ...
def _widen(tile: Array, to: Array) -> None: ...
def _store(product: Array, tile: Array, accumulate: bool) -> None: ...
def backward(
    dy: Array,
    x: Array,
    weight: Array,
    saved: Array | None,
    activation: Any,
    dz: Array | None,
    dx: Array | None,
    dweight: Array | None,
    dbias: Array | None,
    accumulate: bool,
) -> None: ...
def _short(x: Any, weight: Any, bias: Any, activation: Any, out: Any) -> Any: ...
def _fits(dy: Any, x: Any, weight: Any, saved: Any, dx: Any, dweight: Any, dbias: Any, dz: Any) -> bool: ...

class Packed:
    operation: Any
    def __init__(
        self,
        packed: Array,
        rows: int,
        inputs: int,
        outputs: int,
        activation: Any = None,
        residual: bool = False,
    ) -> None: ...
    def __call__(self, *arrays: Array) -> None: ...

class Program:
    def __init__(self, calls: Iterable[tuple[Any, Iterable[Array | bool]]]) -> None: ...
    def run(self, x: Array | None, out: Array | None) -> None: ...
    @staticmethod
    def samples(x: Any, out: Any, type_num: int, x_shape: tuple[int, ...], out_shape: tuple[int, ...]) -> int: ...
