"""Layers with PyTorch's names, arguments, defaults, layouts and keys of `state_dict`, and an explicit backward pass.

    model = fnn.nn.Sequential(fnn.nn.Linear(784, 128), fnn.nn.ReLU(), fnn.nn.Linear(128, 10))
    loss = fnn.nn.CrossEntropyLoss()
    value = loss(model(x), labels)
    model.backward(loss.backward())

Every module's `forward` keeps what its `backward` needs; nothing is recorded beside it.
"""

from __future__ import annotations

from fastnn.nn.activations import (
    CELU,
    ELU,
    GELU,
    SELU,
    Activation,
    Cos,
    Hardsigmoid,
    Hardswish,
    Hardtanh,
    LeakyReLU,
    LogSigmoid,
    Mish,
    ParametricELU,
    PReLU,
    ReLU,
    ReLU6,
    Sigmoid,
    SiLU,
    Sin,
    Softplus,
    Softsign,
    Swish,
    Tanh,
    activation_layer,
)
from fastnn.nn.averaging import MonteCarlo, monte_carlo
from fastnn.nn.batch_norm import BatchNorm1d, BatchNorm2d, BatchNorm3d, InstanceNorm1d, InstanceNorm2d
from fastnn.nn.containers import Residual, Sequential
from fastnn.nn.convolution import Conv1d, Conv2d
from fastnn.nn.dropout import AlphaDropout, DropConnect, Dropout, Dropout1d, Dropout2d, Dropout3d, StochasticDepth
from fastnn.nn.gating import GLU, LogSoftmax, Maxout, Softmax, SwiGLU
from fastnn.nn.linear import Linear
from fastnn.nn.losses import BCEWithLogitsLoss, CrossEntropyLoss, HingeLoss, MSELoss
from fastnn.nn.module import Module, no_grad
from fastnn.nn.normalization import GroupNorm, LayerNorm, RMSNorm
from fastnn.nn.parameter import Parameter
from fastnn.nn.pooling import (
    AdaptiveAvgPool1d,
    AdaptiveAvgPool2d,
    AdaptiveAvgPool3d,
    AvgPool1d,
    AvgPool2d,
    AvgPool3d,
    FractionalMaxPool2d,
    GlobalAvgPool,
    MaxPool1d,
    MaxPool2d,
    MaxPool3d,
)
from fastnn.nn.random_layers import RandomLayer, random_state, set_random_state
from fastnn.nn.serialization import load, load_metadata, load_state, save
from fastnn.nn.shape import Flatten, Identity
from fastnn.nn.shortcut import PadShortcut
from fastnn.nn.summary import Summary, summary

__all__ = [
    "Activation",
    "AdaptiveAvgPool1d",
    "AdaptiveAvgPool2d",
    "AdaptiveAvgPool3d",
    "AlphaDropout",
    "AvgPool1d",
    "AvgPool2d",
    "AvgPool3d",
    "BCEWithLogitsLoss",
    "BatchNorm1d",
    "BatchNorm2d",
    "BatchNorm3d",
    "CELU",
    "Conv1d",
    "Conv2d",
    "Cos",
    "CrossEntropyLoss",
    "DropConnect",
    "Dropout",
    "Dropout1d",
    "Dropout2d",
    "Dropout3d",
    "ELU",
    "Flatten",
    "FractionalMaxPool2d",
    "GELU",
    "GLU",
    "GlobalAvgPool",
    "GroupNorm",
    "Hardsigmoid",
    "Hardswish",
    "Hardtanh",
    "HingeLoss",
    "Identity",
    "InstanceNorm1d",
    "InstanceNorm2d",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "LogSigmoid",
    "LogSoftmax",
    "MSELoss",
    "MaxPool1d",
    "MaxPool2d",
    "MaxPool3d",
    "Maxout",
    "Mish",
    "Module",
    "MonteCarlo",
    "PReLU",
    "PadShortcut",
    "Parameter",
    "ParametricELU",
    "RMSNorm",
    "RandomLayer",
    "ReLU",
    "ReLU6",
    "Residual",
    "SELU",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "Sin",
    "Softmax",
    "Softplus",
    "Softsign",
    "StochasticDepth",
    "Summary",
    "SwiGLU",
    "Swish",
    "Tanh",
    "activation_layer",
    "load",
    "load_metadata",
    "load_state",
    "monte_carlo",
    "no_grad",
    "random_state",
    "save",
    "set_random_state",
    "summary",
]
