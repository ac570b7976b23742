"""A look into the layers every so many steps: activations, gradients, dead units, saturation, sizes of updates."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fastnn.arguments import whole_number
from fastnn.arrays import host, is_array
from fastnn.functions.statistics import activation_statistics, dead_units, update_ratio
from fastnn.nn.module import Handle, Module
from fastnn.train.callbacks import Callback
from fastnn.train.diagnosis import leaves
from fastnn.train.findings import Finding
from fastnn.train.history import History

if TYPE_CHECKING:
    from fastnn.train.trainer import Trainer

__all__ = ["Monitor"]

Array = npt.NDArray[Any]
_SILENT = {"relu", "relu6"}  # of slope 0 on one side: what is silent for every sample learns nothing
_FLAT = {"sigmoid", "tanh", "hardsigmoid", "hardtanh", "softsign"}  # of slope 0 at both ends
_MARGIN = 0.05  # how near to its limit an activation counts as saturated
_LOOKS = 3  # so many looks in a row without a sign of life, and a unit counts as dead

# Shares and ratios from which something is said.
DEAD, SATURATED = 0.5, 0.5
RATIO_HIGH, RATIO_LOW = 0.1, 3e-5
VANISHED, COLLAPSED = 1e-4, 1e-4


class Monitor(Callback):
    """Records, at every `every`-th step, each layer's numbers in `history.layers`, and says what is wrong with them.

    mean, std: of what the layer gives; gradient_mean, gradient_std: of the loss by that. silent: the share of a ReLU's
    units (features or channels) that are 0 for the whole batch; dead: of those that were so at the last 3 looks.
    saturated: the share of a sigmoid's or tanh's outputs within 0.05 of a limit. update_ratio: norm of the step's
    change of the weights over that of the weights; about 1e-3 is healthy. Hooks are on the layers at those steps only,
    and no result changes by a bit. Source: Karpathy (2015), CS231n course notes, Babysitting the learning process.
    """

    def __init__(self, every: int = 100) -> None:
        self.every = whole_number("Monitor", "every", every)
        if self.every < 1:
            raise ValueError(f"Monitor: every is {every}; expected 1 or more steps")
        self._quiet: dict[str, Array] = {}  # for each unit the number of looks at which it was silent, in a row
        self._now: dict[str, dict[str, float]] = {}
        self._before: dict[str, list[tuple[Any, Array]]] = {}
        self._handles: list[Handle] = []

    def on_train_begin(self, trainer: Trainer) -> None:
        if trainer.step == 0:
            self._quiet = {}

    def on_batch_begin(self, trainer: Trainer) -> None:
        if trainer.step % self.every:
            return
        self._now, self._before = {}, {}
        for name, module in leaves(trainer.model):
            weights = [each for each in module._parameters.values() if each is not None and each.data.ndim > 1]
            self._before[name] = [(weight, weight.data.copy()) for weight in weights if weight.requires_grad]
            self._handles.append(module.register_forward_hook(self._forward(name, module)))
            self._handles.append(module.register_backward_hook(self._backward(name)))

    def on_batch_end(self, trainer: Trainer) -> None:
        if not self._handles:
            return
        self.release()
        for name, values in self._now.items():
            ratios = []
            for weight, before in self._before[name]:
                np.subtract(weight.data, before, out=before)
                ratios.append(float(update_ratio(weight.data, before)))
            if ratios:
                values["update_ratio"] = max(ratios)
            trainer.history.record_layer(name, {"step": float(trainer.step), **values})
        self._now, self._before = {}, {}

    def on_train_end(self, trainer: Trainer) -> None:
        self.release()
        trainer.history.findings += read_layers(trainer.history)

    def release(self) -> None:
        """Take the hooks away; a step that went wrong has had no end."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def _forward(self, name: str, module: Module) -> Any:
        activation = getattr(module, "fused_as", None)
        kind = activation[0] if isinstance(activation, tuple) else activation

        def look(module: Module, x: Any, y: Any) -> None:
            if not _told(y):
                return
            values = self._now.setdefault(name, {})
            told = activation_statistics(y, activation if kind in _FLAT else None, margin=_MARGIN)
            values |= {"mean": float(told.mean), "std": float(told.std)}
            if kind in _FLAT:
                values["saturated"] = float(told.low) + float(told.high)
            if kind in _SILENT and y.ndim > 1:
                values |= self._units(name, host(dead_units(y)[0]))

        return look

    def _units(self, name: str, silent: Array) -> dict[str, float]:
        quiet = self._quiet.get(name)
        if quiet is None or quiet.shape != silent.shape:
            quiet = np.zeros(silent.shape, np.int64)
        quiet = self._quiet[name] = np.where(silent, quiet + 1, 0)
        return {"silent": float(silent.mean()), "dead": float((quiet >= _LOOKS).mean())}

    def _backward(self, name: str) -> Any:
        def look(module: Module, dx: Any, dy: Any) -> None:
            if not _told(dy):
                return
            told = activation_statistics(dy)
            values = self._now.setdefault(name, {})
            values |= {"gradient_mean": float(told.mean), "gradient_std": float(told.std)}

        return look

    def state_dict(self) -> dict[str, Any]:
        return {"every": self.every, "quiet": self._quiet}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        self.every = int(state_dict["every"])
        self._quiet = dict(state_dict["quiet"])


def _told(values: Any) -> bool:
    """Is this an array of numbers with something in it? A layer of one's own may return anything."""
    return is_array(values) and values.size > 0 and values.dtype.kind not in "cOSU"


def read_layers(history: History) -> list[Finding]:
    """What the numbers of the layers say, the worst layer of each kind of trouble in one sentence."""
    layers = history.layers
    if not layers:
        return []
    found = [*_dead(layers), *_saturated(layers), *_signal(layers)]
    updates = _updates(layers)
    if found and updates and updates[0].kind == "updates_small":
        return found  # of which that is the effect
    return found + updates


def _dead(layers: dict[str, dict[str, Array]]) -> list[Finding]:
    last = {name: float(columns["dead"][-1]) for name, columns in layers.items() if "dead" in columns}
    shares = {name: share for name, share in last.items() if share >= DEAD}
    if not shares:
        return []
    name = max(shares, key=lambda each: shares[each])
    also = f" ({len(shares)} layers have more than {DEAD:.0%})" if len(shares) > 1 else ""
    return [
        Finding(
            "dead_units",
            f"{shares[name]:.0%} of the units of layer {name} are dead: they gave 0 for every sample at the last "
            f"{_LOOKS} looks{also}, and learn nothing any more.",
            "Try a lower learning rate, He initialisation, slightly positive biases, or leaky_relu.",
        )
    ]


def _saturated(layers: dict[str, dict[str, Array]]) -> list[Finding]:
    shares = {name: float(np.median(columns.get("saturated", 0.0))) for name, columns in layers.items()}
    shares = {name: share for name, share in shares.items() if share >= SATURATED}
    if not shares:
        return []
    name = max(shares, key=lambda each: shares[each])
    return [
        Finding(
            "saturated",
            f"{shares[name]:.0%} of the outputs of layer {name} were saturated, where the slope is next to 0: little "
            "gradient passes.",
            "Try smaller initial weights (Xavier or Glorot), a batch norm before it, a lower learning rate, or relu.",
        )
    ]


def _updates(layers: dict[str, dict[str, Array]]) -> list[Finding]:
    middle = {
        name: float(np.nanmedian(columns["update_ratio"]))
        for name, columns in layers.items()
        if "update_ratio" in columns and np.isfinite(columns["update_ratio"]).any()
    }
    if not middle:
        return []
    high, low = (choose(middle, key=lambda each: middle[each]) for choose in (max, min))
    told = "A step changes the weights of layer {} by {:.2g} of their norm, where about 0.001 is healthy."
    if middle[high] > RATIO_HIGH:
        return [Finding("updates_large", told.format(high, middle[high]), "Try a lower learning rate.")]
    if max(middle.values()) < RATIO_LOW:
        return [Finding("updates_small", told.format(high, middle[high]), "Try a higher learning rate.")]
    if middle[low] < RATIO_LOW / 10 and middle[low] > 0:
        advice = "Look at the gradients that reach it; try another initialisation, a batch norm, or a shortcut."
        return [Finding("updates_small", told.format(low, middle[low]), advice)]
    return []


def _signal(layers: dict[str, dict[str, Array]]) -> list[Finding]:
    """Does the signal survive the way through the layers, forth and back?"""
    found = []
    first = {name: float(columns["std"][0]) for name, columns in layers.items() if "std" in columns}
    names = list(first)
    if names and 0 <= first[names[-1]] < COLLAPSED * first[names[0]]:
        found.append(
            Finding(
                "activations_vanish",
                f"At the start the outputs of layer {names[-1]} had a standard deviation of {first[names[-1]]:.2g}, "
                f"those of {names[0]} {first[names[0]]:.2g}: the signal is lost on its way through the layers.",
                "Try larger initial weights (He for relu, Xavier for tanh), or a batch norm.",
            )
        )
    back = {name: float(columns["gradient_std"][0]) for name, columns in layers.items() if "gradient_std" in columns}
    names = [name for name in first if name in back]
    if len(names) > 2 and math.isfinite(back[names[0]]) and back[names[0]] < VANISHED * back[names[-1]]:
        found.append(
            Finding(
                "gradients_vanish",
                f"At the start the gradients at layer {names[0]} had a standard deviation of {back[names[0]]:.2g}, at "
                f"{names[-1]} {back[names[-1]]:.2g}: they vanish on the way back.",
                "Try another initialisation, relu in place of sigmoid or tanh, a batch norm, or shortcuts.",
            )
        )
    return found
