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

_each: object

def _update(average: Array, batch: Array, factor: float, momentum: float) -> None: ...
def _train(
    x: Any,
    gamma: Any,
    beta: Any,
    running_mean: Any,
    running_var: Any,
    momentum: Any,
    eps: Any,
    activation: Fused | None,
    dropout: tuple[int, float, int, int] | None,
    out: Any,
    mean: Any,
    inv_std: Any,
) -> Any: ...
def _infer(
    x: Any, gamma: Any, beta: Any, running_mean: Any, running_var: Any, eps: Any, activation: Fused | None, out: Any
) -> Any: ...
def _backward(
    dy: Any,
    x: Any,
    gamma: Any,
    beta: Any,
    mean: Any,
    inv_std: Any,
    activation: Fused | None,
    dropout: tuple[int, float, int, int] | None,
    out: Any,
    dgamma: Any,
    dbeta: Any,
    accumulate: Any,
) -> Any: ...
def _rows(
    x: Any, axis: Any, groups: Any, gamma: Any, beta: Any, eps: Any, centred: bool, out: Any, mean: Any, inv_std: Any
) -> Any: ...
def _rows_backward(
    dy: Any,
    x: Any,
    axis: Any,
    groups: Any,
    gamma: Any,
    mean: Any,
    inv_std: Any,
    centred: bool,
    out: Any,
    dgamma: Any,
    dbeta: Any,
    accumulate: Any,
) -> Any: ...
