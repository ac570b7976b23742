from typing import Any

import numpy.typing as npt

Array = npt.NDArray[Any]
Shape = tuple[int, ...]
Pair = tuple[int, int]
Pairs = tuple[Array, Array]

class PackedInt8:
    operation: Any
    def __init__(
        self,
        weight: Array,
        bias: Array,
        multiplier: Array | None,
        y_type: Any,
        batch: int,
        size: int,
        starts: Array | None = None,
        segments: Array | None = None,
        columns: int | None = None,
        column: int = 0,
        zero: int = 0,
        low: int = 0,
        high: int = 255,
    ) -> None: ...
    def __call__(self, *arrays: Array) -> None: ...

def dot_products(use: bool | None = None) -> bool: ...

class Prepared:
    operation: Any
    def __init__(self, name: str, shapes: tuple[Shape, ...], given: tuple[Any, ...]) -> None: ...
    def __call__(self, *arrays: Array) -> None: ...

KERNELS: dict[str, int]

def matmul(
    x: Array,
    starts: Array | None,
    segments: Array,
    weight: Array,
    bias: Array,
    multiplier: Array | None,
    y: Array,
    column: int,
    zero: int,
    low: int,
    high: int,
) -> None: ...
def depthwise(
    x: Array,
    y: Array,
    weight: Array,
    bias: Array,
    multiplier: Array,
    stride: Pair,
    before: Pair,
    dilation: Pair,
    x_zero: int,
    zero: int,
    low: int,
    high: int,
) -> None: ...
def max_pool(x: Array, y: Array, kernel: Pair, stride: Pair, before: Pair, dilation: Pair) -> None: ...
def average_pool(
    x: Array,
    y: Array,
    rows: Pairs,
    columns: Pairs,
    multiplier: Array,
    x_zero: int,
    zero: int,
    low: int,
    high: int,
) -> None: ...
def add(
    a: Array, b: Array, y: Array, by_a: int, by_b: int, bias: int, multiplier: float, zero: int, low: int, high: int
) -> None: ...
def lookup(x: Array, y: Array, table: Array) -> None: ...
def window(x: Array, y: Array, top: int, left: int, stride: int, fill: int) -> None: ...
def quantize(x: Array, y: Array, multiplier: float, zero: int) -> None: ...
def dequantize(x: Array, y: Array, scale: float, zero: int) -> None: ...
def quantize_rows(x: Array, y: Array, scale: Array, zero: Array) -> None: ...
def finish_rows(
    acc: Array,
    scale: Array,
    zero: Array,
    sums: Array,
    weight_scale: Array,
    bias: Array,
    y: Array,
    low: float,
    high: float,
) -> None: ...
