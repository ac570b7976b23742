"""The networks of the zoo in PyTorch: assembled from `torch.nn` by the same plan, so layers and keys are the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .library import torch


class Residual(torch.nn.Module):  # type: ignore[misc]
    """activation(body(x) + shortcut(x)), with the names that fastnn.nn.Residual has."""

    def __init__(self, body: Any, shortcut: Any = None, activation: Any = None) -> None:
        super().__init__()
        self.body, self.shortcut, self.activation = body, shortcut, activation

    def forward(self, x: Any) -> Any:
        y = self.body(x)
        y += x if self.shortcut is None else self.shortcut(x)
        return y if self.activation is None else self.activation(y)


class PadShortcut(torch.nn.Module):  # type: ignore[misc]
    """Every `stride`-th pixel, and zeros for the new channels."""

    def __init__(self, out_channels: int, stride: int) -> None:
        super().__init__()
        self.out_channels, self.stride = out_channels, stride

    def forward(self, x: Any) -> Any:
        taken = x[:, :, :: self.stride, :: self.stride]
        return torch.nn.functional.pad(taken, (0, 0, 0, 0, 0, self.out_channels - taken.shape[1]))


class _Layers:
    """`torch.nn`, and what it lacks."""

    Residual, PadShortcut = Residual, PadShortcut
    __name__ = "torch.nn"

    def __getattr__(self, name: str) -> Any:
        return getattr(torch.nn, name)


LAYERS = _Layers()


def load(network: Any, state: Mapping[str, Any]) -> Any:
    """Copy fastnn's state into a twin; batch norm's counter of batches, which fastnn may not keep, stays as it is."""
    own = network.state_dict()
    given = {name: torch.from_numpy(np.array(value)) for name, value in state.items() if name in own}
    missing = [name for name in own if name not in given and not name.endswith("num_batches_tracked")]
    if missing or len(given) != len(state):
        raise ValueError(f"the twin differs: it lacks {sorted(state.keys() - own)}, and there is no {missing}")
    network.load_state_dict(own | given)
    return network
