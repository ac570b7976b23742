"""How each network is trained on each data set unless told otherwise."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any


@dataclass(frozen=True, slots=True)
class Recipe:
    """Defaults of `fastnn train`; the learning rate rises for `warmup` epochs and then follows the schedule."""

    model: str
    epochs: int
    lr: float = 0.1
    batch_size: int = 128
    optimizer: str = "sgd"  # with Nesterov momentum
    momentum: float = 0.9
    weight_decay: float = 5e-4
    schedule: str = "cosine"
    warmup: float = 1.0
    label_smoothing: float = 0.0
    augment: bool = False
    options: dict[str, Any] = field(default_factory=dict)  # of the model


_POINTS = Recipe(
    "mlp", 30, 0.01, 64, "adam", weight_decay=0.0, warmup=2, options={"hidden": (64, 64), "dropout": 0.0}
)  # seconds, and smooth regions
_MNIST = {
    "mlp": Recipe("mlp", 12, 0.1, weight_decay=1e-4),
    "lenet5": Recipe("lenet5", 12, 0.05, 64),
}
_CIFAR = {
    "alexnet4": Recipe("alexnet4", 16, augment=True),
    "vgg-small": Recipe("vgg-small", 15, augment=True),
    "resnet8": Recipe("resnet8", 30, 0.2, weight_decay=2e-4, augment=True),
    "resnet14": Recipe("resnet14", 30, 0.2, augment=True),
    "resnet20": Recipe("resnet20", 40, 0.2, augment=True),
    "mobilenet": Recipe("mobilenet", 30, 0.2, weight_decay=2e-4, augment=True),
}
PLAIN = Recipe("mlp", 15, 0.05)  # without batch norm, or for data that nobody has tried


def recipe(data: str, model: str | None, images: bool) -> Recipe:
    """What to train with: for the data's usual network where no model is named."""
    if data == "mnist":
        known, usual = _MNIST, "lenet5"
    elif data == "cifar10":
        known, usual = _CIFAR, "resnet8"
    elif images:
        known, usual = {}, "resnet8"
    else:
        return _POINTS if model in (None, "mlp") else replace(PLAIN, model=str(model))
    name = (model or usual).replace("_", "-")
    return known.get(name) or replace(PLAIN, model=name)
