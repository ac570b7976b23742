"""What the builders of networks are given, and the pieces that they share.

A builder is written over `nn`, a namespace of layers with PyTorch's names and arguments: `fastnn.nn`, or any other that
has them. One description then makes the network here and its twin in another library, with the same keys.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fastnn.nn.activations import LAYERS

Part = tuple[str, Any]  # a layer and its name

ARGUMENTS: dict[str, dict[str, Any]] = {"gelu_tanh": {"approximate": "tanh"}, "swish": {"beta": 1.0}}
"""What a layer of an activation must be given; all others have defaults, or learn what they have."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a network is built of and for."""

    nn: Any
    input_shape: tuple[int, ...]  # of one sample
    classes: int
    activation: str | Callable[[], Any]
    batch_norm: bool
    dropout: float  # the probability of dropping; 0: no dropout layers

    def act(self, place: object) -> Part:
        """The activation, a layer of its own for each place."""
        if callable(self.activation):
            return f"act{place}", self.activation()
        kind = LAYERS[self.activation].__name__
        if not hasattr(self.nn, kind):
            raise ValueError(f"activation {self.activation!r}: {self.nn.__name__} has no layer {kind}")
        made = getattr(self.nn, kind)(**ARGUMENTS.get(self.activation, {}))
        return f"act{place}", made

    def norm(self, place: object, channels: int, dims: int) -> list[Part]:
        """Batch norm over feature vectors (dims 1) or images (dims 2), or nothing."""
        kind = self.nn.BatchNorm1d if dims == 1 else self.nn.BatchNorm2d
        return [(f"norm{place}", kind(channels))] if self.batch_norm else []

    def drop(self, place: object = "") -> list[Part]:
        """Dropout, or nothing."""
        return [(f"drop{place}", self.nn.Dropout(self.dropout))] if self.dropout else []

    def linear(self, place: object, inputs: int, outputs: int) -> list[Part]:
        """Linear, batch norm, activation; a bias only without batch norm, which would take it away again."""
        layer = self.nn.Linear(inputs, outputs, bias=not self.batch_norm)
        return [(f"fc{place}", layer), *self.norm(place, outputs, 1), self.act(place)]

    def conv(
        self,
        place: object,
        inputs: int,
        outputs: int,
        size: int,
        padding: int,
        stride: int = 1,
        act: bool = True,
        groups: int = 1,
    ) -> list[Part]:
        """Convolution, batch norm, activation; the bias as in `linear`."""
        bias = not self.batch_norm
        layer = self.nn.Conv2d(inputs, outputs, size, stride=stride, padding=padding, groups=groups, bias=bias)
        return [(f"conv{place}", layer), *self.norm(place, outputs, 2), *([self.act(place)] if act else [])]

    def image(self, smallest: int) -> tuple[int, int, int]:
        """The input shape as channels, height and width, both at least `smallest`."""
        if len(self.input_shape) != 3 or min(self.input_shape[1:]) < smallest:
            raise ValueError(
                f"input_shape is {self.input_shape}; expected (channels, height, width) "
                f"with images of at least {smallest}x{smallest}"
            )
        channels, height, width = self.input_shape
        return channels, height, width
