"""Small networks and data for the tests of training."""

from __future__ import annotations

from typing import Any

import numpy as np

import fastnn as fnn
from fastnn import data, nn

SPIRALS = data.spirals(600, classes=3, noise=0.2, rng=0)
TRAIN, VALIDATION = SPIRALS.split(0.2)


def mlp(
    *sizes: int, act: Any = nn.ReLU, std: float | None = None, seed: int = 0, dropout: float = 0.0
) -> nn.Sequential:
    """Linear layers with activations between them; `std` for normal weights and zero biases."""
    fnn.manual_seed(seed)
    layers: list[nn.Module] = []
    for inputs, outputs in zip(sizes, sizes[1:], strict=False):
        if layers:
            layers += [act()] + ([nn.Dropout(dropout)] if dropout else [])
        layers.append(nn.Linear(inputs, outputs))
    model = nn.Sequential(*layers)
    if std is not None:
        rng = np.random.default_rng(seed)
        for parameter in model.parameters():
            parameter.data[...] = std * rng.standard_normal(parameter.shape) if parameter.data.ndim > 1 else 0
    return model


def weights(model: nn.Module) -> bytes:
    """The bits of all parameters and buffers."""
    return b"".join(array.tobytes() for array in model.state_dict().values())
