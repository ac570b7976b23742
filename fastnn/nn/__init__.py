"""Layers with PyTorch's names, arguments, defaults, layouts and keys of `state_dict`, and an explicit backward pass.

    model = fnn.nn.Sequential(fnn.nn.Linear(784, 128), fnn.nn.ReLU(), fnn.nn.Linear(128, 10))
    loss = fnn.nn.CrossEntropyLoss()
    value = loss(model(x), labels)
    model.backward(loss.backward())

Every module's `forward` keeps what its `backward` needs; nothing is recorded beside it.
"""

from __future__ import annotations

from fastnn.nn.batch_norm import BatchNorm1d, BatchNorm2d, BatchNorm3d, InstanceNorm1d, InstanceNorm2d
from fastnn.nn.containers import Sequential
from fastnn.nn.module import Module, no_grad
from fastnn.nn.normalization import GroupNorm, LayerNorm, RMSNorm
from fastnn.nn.parameter import Parameter
from fastnn.nn.shortcut import PadShortcut

__all__ = [
    "BatchNorm1d",
    "BatchNorm2d",
    "BatchNorm3d",
    "GroupNorm",
    "InstanceNorm1d",
    "InstanceNorm2d",
    "LayerNorm",
    "Module",
    "PadShortcut",
    "Parameter",
    "RMSNorm",
    "Sequential",
    "no_grad",
]
