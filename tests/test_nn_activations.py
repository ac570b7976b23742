"""Activation layers: made from the table, in place or not, by name."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest

import fastnn as fnn
from fastnn import nn
from fastnn.nn.activations import LAYERS, Activation
from fastnn.nn.fused import saves_output
from fastnn.table import OPS

RNG = np.random.default_rng(0)
ODD = np.array([np.inf, -np.inf, np.nan, 0.0, -0.0, 1e-40, -1e-40, 6.0, 1.0, -1.0, 5e37, -90.0], np.float32)
IN_PLACE = [
    name
    for name, layer in LAYERS.items()
    if issubclass(layer, Activation) and "inplace" in inspect.signature(layer).parameters
]


def test_every_row_of_the_table_has_a_layer() -> None:
    assert LAYERS.keys() == OPS.keys()
    assert all(getattr(nn, layer.__name__) is layer for layer in LAYERS.values())


@pytest.mark.parametrize("name", OPS)
def test_by_name(name: str) -> None:
    values = () if OPS[name].learned is not None else OPS[name].parameters_default
    layer = nn.activation_layer((name, *values) if name != "gelu_tanh" else name)
    assert isinstance(layer, LAYERS[name])
    if OPS[name].learned is None:
        assert layer.fused_as == ((name, *values) if values else name)
    assert OPS[name].source.split(" (")[0].split(",")[0].split()[0] in (type(layer).__doc__ or "")


def test_names_with_arguments() -> None:
    assert nn.activation_layer(("leaky_relu", 0.3)).negative_slope == 0.3
    assert nn.activation_layer(("prelu", 64)).weight.shape == (64,)
    assert nn.activation_layer("gelu_tanh").approximate == "tanh"
    assert nn.activation_layer("relu") is not nn.activation_layer("relu")


@pytest.mark.parametrize("name", ["ReLU", "LeakyReLU", "ELU", "Hardtanh", "ReLU6", "SiLU", "CELU"])
def test_torch_has_the_same_arguments(name: str) -> None:
    torch = pytest.importorskip("torch")
    theirs = inspect.signature(getattr(torch.nn, name)).parameters
    ours = inspect.signature(getattr(nn, name)).parameters
    known = [each for each in theirs if each in ours]
    assert known == list(ours) and [theirs[each].default for each in known] == [p.default for p in ours.values()]


@pytest.mark.parametrize("name", IN_PLACE)
def test_in_place(name: str) -> None:
    values = OPS[name].parameters_default
    x = RNG.normal(size=(3, 5)).astype(np.float32)
    plain, over = LAYERS[name](*values), LAYERS[name](*values, inplace=True)
    for training in (True, False):
        mine = x.copy()
        y = plain.train(training)(x)
        assert over.train(training)(mine) is mine
        np.testing.assert_array_equal(mine, y)
        dy = RNG.normal(size=x.shape).astype(np.float32)
        np.testing.assert_array_equal(over.backward(dy), plain.backward(dy))


@pytest.mark.parametrize(
    ("name", "values"),
    [
        *((name, ()) for name in ("relu", "relu6", "hardtanh", "leaky_relu", "sigmoid", "tanh")),
        *(("leaky_relu", (slope,)) for slope in (-0.25, 0.0, 1.5)),
    ],
)
def test_backward_from_the_output_has_the_same_bits(name: str, values: tuple[Any, ...]) -> None:
    """What lets layers keep y alone; where it does not hold they keep both."""
    x = np.concatenate([ODD, RNG.normal(size=1000).astype(np.float32) * 4])
    dy = RNG.normal(size=x.shape).astype(np.float32)
    forward, backward = getattr(fnn, name), getattr(fnn, f"{name}_backward")
    y = forward(x, *values)
    saved = y if OPS[name].saves == "output" else x
    same = np.array_equal(backward(dy, y, *values).view(np.uint32), backward(dy, saved, *values).view(np.uint32))
    assert same == saves_output((name, *values)) or OPS[name].saves == "output"


def test_parameters_may_be_changed() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.LeakyReLU())
    x = RNG.normal(size=(5, 3)).astype(np.float32)
    before = model(x).copy()
    model[1].negative_slope = 0.5
    after = model(x)
    np.testing.assert_allclose(after[before < 0], 50 * before[before < 0], rtol=1e-5)


def test_softplus_is_exact() -> None:
    x = np.array([-100.0, -30.0, 0.0, 30.0, 100.0])
    for beta in (1.0, 2.5):
        y = nn.Softplus(beta)(x)
        np.testing.assert_allclose(y, np.logaddexp(0, beta * x) / beta, rtol=1e-14)
