"""The networks, and one set of weights for everybody: batch norm folded, which not every library does itself."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..problems.base import check_choice

Array = npt.NDArray[Any]
BATCHES = (1, 16, 256)
CALIBRATION = 256  # samples from which int8 learns its ranges


@dataclass(frozen=True, slots=True)
class Network:
    """A network of the zoo."""

    name: str
    about: str
    shape: tuple[int, ...]  # of a sample

    @property
    def images(self) -> bool:
        """Whether PyTorch may lay the input out as channels_last."""
        return self.name != "mlp"

    def input(self, batch: int) -> Array:
        """Standardised noise: a call's time does not depend on the numbers."""
        return np.random.default_rng(batch).standard_normal((batch, *self.shape), np.float32)


NETWORKS = {
    each.name: each
    for each in (
        Network("mlp", "784-256-128-10, batch norm", (1, 28, 28)),
        Network("lenet5", "ReLU, max pools", (1, 28, 28)),
        Network("alexnet4", "batch norm", (3, 32, 32)),
        Network("resnet8", "projection shortcuts", (3, 32, 32)),
        Network("mobilenet", "depthwise separable", (3, 32, 32)),
    )
}


def chosen(names: Iterable[str]) -> list[Network]:
    """The networks by name; ValueError where there is no such network."""
    wanted = tuple(names)
    check_choice("network", wanted, tuple(NETWORKS))
    return [NETWORKS[name] for name in wanted]


def trained(network: Network) -> Any:
    """The network with statistics and shifts that are not trivial, in evaluation mode; the same ones every time."""
    fnn: Any = importlib.import_module("fastnn")
    fnn.manual_seed(0)
    model = fnn.models.create(network.name)
    rng = np.random.default_rng(0)
    for module in model.modules():
        if getattr(module, "running_mean", None) is not None:
            size = module.num_features
            module.running_mean[...] = rng.normal(0, 0.1, size)
            module.running_var[...] = rng.uniform(0.5, 1.5, size)
            module.weight.data[...] = rng.uniform(0.7, 1.3, size)
            module.bias.data[...] = rng.normal(0, 0.1, size)
    return model.eval()


def folded(network: Network, model: Any) -> Any:
    """The network without batch norm and dropout that does the same, for those that do not fold."""
    fnn: Any = importlib.import_module("fastnn")
    twin = fnn.models.create(network.name, batch_norm=False, dropout=False)
    twin.load_state_dict(_without_norms(model.state_dict()))
    return twin.eval()


def _without_norms(state: Mapping[str, Array]) -> dict[str, Array]:
    """Weights with the norm that follows them, `norm1` after `conv1` or `fc1`, in them; in float64, rounded once."""
    found = {name: np.array(value) for name, value in state.items() if not re.search(r"norm\w*\.", name)}
    for name in [name for name in state if re.search(r"norm\w*\.weight$", name)]:
        layer = re.sub(r"norm(\w*\.weight)$", r"conv\1", name)
        layer = layer if layer in found else re.sub(r"norm(\w*\.weight)$", r"fc\1", name)
        path = name.removesuffix("weight")
        mean, var, shift = (np.asarray(state[path + key], float) for key in ("running_mean", "running_var", "bias"))
        scale = np.asarray(state[name], float) / np.sqrt(var + 1e-5)
        weight = found[layer] * scale.reshape(-1, *[1] * (found[layer].ndim - 1))
        found[layer] = weight.astype(np.float32)
        found[layer.removesuffix("weight") + "bias"] = (shift - mean * scale).astype(np.float32)
    return found
