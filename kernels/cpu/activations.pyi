from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

def names() -> list[str]: ...
def use_bfloat16(type_num: int) -> None: ...
def set_native_only(value: bool) -> None: ...

class Kernel:
    name: str
    ufunc: np.ufunc
    parameter_names: tuple[str, ...]
    def __init__(self, op: str, which: str, *, costly: bool = False, doc: str = "") -> None: ...
    def register_bfloat16(self, type_num: int) -> None: ...
    def function(
        self,
        general: Callable[..., Any],
        params: Sequence[tuple[str, float | None, float, float, tuple[float, ...]]],
        module: str,
        doc: str,
        *,
        ordered: bool,
        short: bool,
    ) -> Callable[..., Any]: ...
    def sum_gradient(
        self,
        dy: NDArray[Any],
        x: NDArray[Any],
        parameter: NDArray[Any],
        outer: int,
        channels: int,
        inner: int,
    ) -> NDArray[np.float64]: ...

def make_kernel(op: str, which: str, *, costly: bool = False, doc: str = "") -> Kernel: ...
def find_kernel(name: str) -> Kernel: ...
