from typing import Any

import numpy.typing as npt

from fastnn.fusion import Fused

Array = npt.NDArray[Any]

def batch_norm_train(
    x: Array,
    y: Array,
    gamma: Array,
    beta: Array,
    mean: Array,
    inv_std: Array,
    variance: Array,
    eps: float,
    activation: Fused | None,
    dropout: tuple[int, float, int, int] | None,
) -> None: ...
def batch_norm_infer(
    x: Array,
    y: Array,
    gamma: Array,
    beta: Array,
    mean: Array,
    variance: Array,
    eps: float,
    activation: Fused | None,
) -> None: ...
def batch_norm_backward(
    dy: Array,
    x: Array,
    dx: Array,
    dz: Array,
    gamma: Array,
    beta: Array,
    mean: Array,
    inv_std: Array,
    dgamma: Array | None,
    dbeta: Array | None,
    accumulate: bool,
    activation: Fused | None,
    dropout: tuple[int, float, int, int] | None,
) -> None: ...
def row_norm(x: Array, y: Array, gamma: Array, beta: Array, mean: Array | None, inv_std: Array, eps: float) -> None: ...
def row_norm_backward(
    dy: Array,
    x: Array,
    dx: Array,
    gamma: Array,
    mean: Array | None,
    inv_std: Array,
    dgamma: Array | None,
    dbeta: Array | None,
    accumulate: bool,
) -> None: ...
