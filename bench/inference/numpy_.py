"""The networks in plain NumPy, as one writes them without a framework: windows copied to columns, one matrix product.

It imports NumPy alone, so that a fresh process can load this file by itself. Layers are lists that JSON can hold.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Layer = list[Any]  # the kind, then what it needs


def layers_of(model: Any, path: str = "") -> list[Layer]:
    """The layers of a network of the zoo without batch norm, out of fastnn's modules."""
    found: list[Layer] = []
    for name, module in model.named_children():
        key, kind = f"{path}{name}", type(module).__name__
        if kind == "Sequential":
            found += layers_of(module, f"{key}.")
        elif kind == "Residual":
            side = None if module.shortcut is None else layers_of(module.shortcut, f"{key}.shortcut.")
            found.append(["residual", layers_of(module.body, f"{key}.body."), side])
        elif kind == "Conv2d":
            found.append(["conv", key, module.stride[0], module.padding[0], module.groups])
        elif kind in ("MaxPool2d", "AvgPool2d"):
            found.append(["max" if kind == "MaxPool2d" else "average", module.kernel_size, module.stride])
        else:
            found.append([{"AdaptiveAvgPool2d": "mean"}.get(kind, kind.lower()), key])
    return found


def save(path: str, model: Any) -> None:
    """Weights and layers in one .npz."""
    np.savez(path, layers=np.array(json.dumps(layers_of(model))), **model.state_dict())


class Net:
    """A network out of such a file: `net(x)`."""

    def __init__(self, path: str) -> None:
        with np.load(path) as file:
            self.weights = {name: file[name] for name in file.files}
        self.layers: list[Layer] = json.loads(str(self.weights.pop("layers")))

    def __call__(self, x: Array) -> Array:
        return self.run(self.layers, x)

    def run(self, layers: list[Layer], x: Array) -> Array:
        """One layer after the other."""
        for kind, *given in layers:
            x = getattr(self, kind)(x, *given)
        return x

    def linear(self, x: Array, key: str) -> Array:
        y = x @ self.weights[f"{key}.weight"].T
        y += self.weights[f"{key}.bias"]
        return np.asarray(y)

    def relu(self, x: Array, key: str) -> Array:
        return np.asarray(np.maximum(x, 0, out=x))

    def flatten(self, x: Array, key: str) -> Array:
        return x.reshape(len(x), -1)

    def mean(self, x: Array, key: str) -> Array:
        return np.asarray(x.mean((2, 3), keepdims=True))

    def residual(self, x: Array, body: list[Layer], side: list[Layer] | None) -> Array:
        y = self.run(body, x)
        y += x if side is None else self.run(side, x)
        return np.asarray(np.maximum(y, 0, out=y))

    def conv(self, x: Array, key: str, stride: int, padding: int, groups: int) -> Array:
        weight, bias = self.weights[f"{key}.weight"], self.weights[f"{key}.bias"]
        outputs, _, size, _ = weight.shape
        x = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding))) if padding else x
        windows = np.lib.stride_tricks.sliding_window_view(x, (size, size), (2, 3))[:, :, ::stride, ::stride]
        count, _, height, width = windows.shape[:4]
        if groups > 1:  # depthwise: one tap after the other
            y = windows[..., 0, 0] * weight[:, :, 0, 0].reshape(-1, 1, 1)
            for tap in range(1, size * size):
                row, column = divmod(tap, size)
                y += windows[..., row, column] * weight[:, :, row, column].reshape(-1, 1, 1)
        else:
            columns = windows.transpose(0, 1, 4, 5, 2, 3).reshape(count, -1, height * width)
            y = (weight.reshape(outputs, -1) @ columns).reshape(count, outputs, height, width)
        y += bias.reshape(-1, 1, 1)
        return np.asarray(y)

    def max(self, x: Array, size: int, stride: int) -> Array:
        return self._pool(x, size, stride, np.maximum, -np.inf)

    def average(self, x: Array, size: int, stride: int) -> Array:
        total = self._pool(x, size, stride, np.add, 0)
        total /= self._pool(np.ones((1, 1, *x.shape[2:]), x.dtype), size, stride, np.add, 0)
        return total

    def _pool(self, x: Array, size: int, stride: int, join: Any, empty: float) -> Array:
        """The last window may stand out, which changes nothing where the windows fit."""
        outputs = [-(-(length - size) // stride) + 1 for length in x.shape[2:]]
        over = [(count - 1) * stride + size - length for count, length in zip(outputs, x.shape[2:], strict=True)]
        x = np.pad(x, ((0, 0), (0, 0), (0, over[0]), (0, over[1])), constant_values=empty) if any(over) else x
        ends = [(count - 1) * stride + 1 for count in outputs]
        y = x[:, :, : ends[0] : stride, : ends[1] : stride].copy()
        for tap in range(1, size * size):
            i, j = divmod(tap, size)
            join(y, x[:, :, i : i + ends[0] : stride, j : j + ends[1] : stride], out=y)
        return y
