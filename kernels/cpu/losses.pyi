from typing import Any

import numpy.typing as npt

Array = npt.NDArray[Any]

def check_labels(labels: Array, classes: int, ignored: int | None, weight: Array | None) -> tuple[int, float]: ...
def cross_entropy(
    logits: Array,
    labels: Array | None,
    targets: Array | None,
    weight: Array | None,
    ignored: int,
    smoothing: float,
    scale: float,
    gradient: Array | None,
    losses: Array | None,
) -> float: ...
def hinge_loss(
    scores: Array,
    labels: Array,
    ignored: int,
    margin: float,
    scale: float,
    gradient: Array | None,
    losses: Array | None,
) -> float: ...
def squared_error(x: Array, target: Array, scale: float, gradient: Array | None, losses: Array | None) -> float: ...
def binary_cross_entropy(
    x: Array,
    target: Array,
    weight: Array | None,
    positive_weight: Array | None,
    scale: float,
    gradient: Array | None,
    losses: Array | None,
) -> float: ...
