"""The table of a network's layers: shapes, counts, memory, and that nothing is changed by making it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fastnn import nn


class Scaled(nn.Module):
    """A layer of one's own, around another."""

    def __init__(self) -> None:
        self.inner = nn.Linear(4, 3)
        self.scale = nn.Parameter(np.ones(3, np.float32))

    def forward(self, x: Any) -> Any:
        return self.inner(x) * self.scale.data


class Counted(nn.Module):
    def forward(self, x: Any) -> Any:
        return 2 * x

    def operations(self, x: Any, y: Any) -> int:
        return int(x.size)


def test_shapes_counts_and_memory() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Sequential(nn.MaxPool2d(2), nn.Flatten()),
        nn.Dropout(0.5),
        nn.Linear(8 * 16, 10),
    )
    model[5].bias.requires_grad = False
    model[1].eval()
    found = nn.summary(model, (3, 8, 8), batch_size=2)
    by_name = {layer.name: layer for layer in found.layers}
    assert list(by_name) == ["", "0", "1", "2", "3", "3.0", "3.1", "4", "5"]
    assert by_name["0"].shape == (2, 8, 8, 8) and by_name["3.1"].shape == (2, 128) and by_name[""].shape == (2, 10)
    assert by_name["0"].operations == 2 * 64 * 8 * 27 and by_name["5"].operations == 2 * 1280
    assert found.operations == 2 * (64 * 8 * 27 + 1280)
    assert found.parameters == 216 + 16 + 1290 and found.learned == found.parameters - 10
    assert by_name["1"].parameter_bytes == 4 * (16 + 16) + 8
    plane = 2 * 8 * 8 * 8 * 4
    assert found.activation_bytes == 3 * plane + plane // 4 + 2 * 10 * 4  # dropout and flatten make nothing new
    text = str(found)
    assert "3x8x8: 30,208 multiply-accumulates" in text and "1,522 parameters, 10 of them frozen" in text
    assert repr(found) == text and all(line == line.rstrip() for line in text.splitlines())
    assert model.training and not model[1].training and not any(module.hooked for module in model.modules())
    assert nn.random_state(model)["4"][1] == 0 and model[1].num_batches_tracked == 0


def test_layers_of_ones_own_and_shared_parameters() -> None:
    model = nn.Sequential(Scaled(), Counted(), nn.Linear(3, 4), nn.Linear(4, 3))
    model[3].weight = model[0].inner.weight
    model[3].bias = None
    found = nn.summary(model, 4)
    by_name = {layer.name: layer for layer in found.layers}
    assert by_name["0"].parameters == 3 and by_name["0.inner"].operations == 12 and by_name["1"].operations == 3
    assert by_name["3"].parameters == 0 and by_name["3"].operations == 12
    assert found.parameters == 15 + 3 + 16 == sum(parameter.size for parameter in model.parameters())


def test_what_is_not_called_has_no_shape() -> None:
    class Half(nn.Module):
        def __init__(self) -> None:
            self.used, self.unused = nn.ReLU(), nn.ReLU()

        def forward(self, x: Any) -> Any:
            return self.used(x)

    layers = nn.summary(Half(), (3,)).layers
    assert layers[1].shape == (1, 3) and layers[2].shape is None and "-" in str(nn.summary(Half(), (3,)))


def test_dtype_of_the_input() -> None:
    layers = nn.summary(nn.Sequential(nn.Linear(3, 2).to(np.float64)), (3,)).layers
    assert layers[1].activation_bytes == 16
    assert nn.summary(nn.Sequential(nn.ReLU()), (3,), dtype=np.float64).activation_bytes == 24


def test_wrong_shapes() -> None:
    with pytest.raises(ValueError, match=r"input_shape is \(3, 0\)"):
        nn.summary(nn.ReLU(), (3, 0))
    with pytest.raises(TypeError, match="input_shape is 1.5"):
        nn.summary(nn.ReLU(), (1.5,))  # type: ignore[arg-type]
    model = nn.Sequential(nn.Linear(3, 2))
    with pytest.raises(ValueError, match="Linear"):
        nn.summary(model, (4,))
    assert model.training and not model[0].hooked
