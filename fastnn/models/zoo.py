"""The list of networks, and how one is made from its name."""

from __future__ import annotations

import difflib
import inspect
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from types import ModuleType
from typing import Any, SupportsIndex

import numpy as np
import numpy.typing as npt

from fastnn import nn as layers
from fastnn.arguments import flag
from fastnn.models import mobile, plain, residual
from fastnn.models.plan import Plan
from fastnn.nn import Module
from fastnn.nn.activations import LAYERS


@dataclass(frozen=True, slots=True)
class Entry:
    """A network of the zoo: its builder, and what it is without arguments."""

    build: Callable[..., Any]
    input_shape: tuple[int, ...]
    batch_norm: bool = True
    dropout: float = 0.0
    usual_dropout: float = 0.5  # for dropout=True


_GREY, _COLOUR = (1, 28, 28), (3, 32, 32)
ZOO: dict[str, Entry] = {
    "mlp": Entry(plain.mlp, _GREY, dropout=0.2, usual_dropout=0.2),
    "lenet5": Entry(plain.lenet5, _GREY, batch_norm=False),
    "alexnet4": Entry(plain.alexnet4, _COLOUR),
    "vgg-small": Entry(plain.vgg_small, _COLOUR),
    "resnet8": Entry(partial(residual.resnet, blocks=1), _COLOUR),
    "resnet14": Entry(partial(residual.resnet, blocks=2), _COLOUR),
    "resnet20": Entry(partial(residual.resnet, blocks=3), _COLOUR),
    "mobilenet": Entry(mobile.mobilenet, _COLOUR),
}


def names() -> list[str]:
    """The networks that `create` knows."""
    return list(ZOO)


def about(name: str) -> str:
    """What a network is, where it comes from, and its options."""
    build = _entry(name).build
    return inspect.cleandoc((build.func if isinstance(build, partial) else build).__doc__ or "")


def input_shape(name: str) -> tuple[int, ...]:
    """The shape of one sample that a network takes unless told otherwise."""
    return _entry(name).input_shape


def create(
    name: str,
    *,
    input_shape: Sequence[SupportsIndex] | None = None,
    classes: SupportsIndex = 10,
    activation: str | Callable[[], Module] = "relu",
    batch_norm: bool | None = None,
    dropout: float | bool | None = None,
    dtype: npt.DTypeLike = np.float32,
    **options: Any,
) -> Module:
    """A network by name, with initial weights drawn from the generator that `fnn.manual_seed` seeds.

    input_shape: of one sample, (channels, height, width), or any for "mlp"; None: as the network was made for
    classes: the number of outputs, which are logits
    activation: a name of the table of activations (with its default parameters, learned where they are learned), or a
        callable that makes a layer
    batch_norm: after every convolution and hidden linear layer or not; None: as the network has it
    dropout: the probability of dropping; 0 or False: none; True: on, at the usual rate; None: as the network has it
    options: of the network: `hidden` of mlp, `pool` of lenet5, `width` of vgg-small and mobilenet, `shortcut` and
        `zero_init_residual` of the residual networks; see `about(name)`

    ValueError names what is wrong and what there is.
    """
    model: Module = assemble(
        layers,
        name,
        input_shape=input_shape,
        classes=classes,
        activation=activation,
        batch_norm=batch_norm,
        dropout=dropout,
        **options,
    )
    return model if np.dtype(dtype) == np.float32 else model.to(dtype)


def assemble(
    nn: ModuleType | Any,
    name: str,
    *,
    input_shape: Sequence[SupportsIndex] | None = None,
    classes: SupportsIndex = 10,
    activation: str | Callable[[], Any] = "relu",
    batch_norm: bool | None = None,
    dropout: float | bool | None = None,
    **options: Any,
) -> Any:
    """The same out of the layers of `nn`, a namespace with PyTorch's names and arguments, such as `torch.nn`.

    What `torch.nn` has not (Residual, PadShortcut, and activations such as Swish), the namespace must add.
    """
    entry = _entry(name)
    shape = entry.input_shape if input_shape is None else tuple(map(operator.index, input_shape))
    if not shape or min(shape) < 1:
        raise ValueError(f"input_shape is {input_shape}; expected positive numbers, such as {entry.input_shape}")
    if operator.index(classes) < 1:
        raise ValueError(f"classes is {classes}; expected at least 1")
    if not callable(activation) and activation not in LAYERS:
        raise ValueError(f"unknown activation {activation!r}{_meant(str(activation), LAYERS)}")
    if isinstance(dropout, bool):
        dropout = entry.usual_dropout if dropout else 0.0
    p = entry.dropout if dropout is None else float(dropout)
    if not 0 <= p < 1:
        raise ValueError(f"dropout is {dropout}; expected a probability of dropping, at least 0 and below 1")
    known = [each for each in inspect.signature(entry.build).parameters if each not in ("plan", "blocks")]
    strange = [option for option in options if option not in known]
    if strange:
        there = f"its own are {', '.join(known)}" if known else "it has none of its own"
        raise TypeError(f"{name} has no option {', '.join(strange)}; {there}")
    norm = entry.batch_norm if batch_norm is None else flag(name, "batch_norm", batch_norm)
    return entry.build(Plan(nn, shape, operator.index(classes), activation, norm, p), **options)


def _entry(name: str) -> Entry:
    plain_name = str(name).replace("_", "-")
    if plain_name not in ZOO:
        raise ValueError(f"unknown model {name!r}{_meant(plain_name, ZOO)}")
    return ZOO[plain_name]


def _meant(name: str, known: Sequence[str] | dict[str, Any]) -> str:
    near = difflib.get_close_matches(name, known, 1)
    return f". Did you mean {near[0]!r}?" if near else f"; expected one of {', '.join(known)}"
