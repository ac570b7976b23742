"""Finite differences: of every layer, of losses and networks; and what they say of mistakes."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

import fastnn as fnn
from fastnn import nn

RNG = np.random.default_rng(0)
FEATURES, SEQUENCE, IMAGE = (5, 6), (4, 6, 7), (3, 4, 6, 5)

LAYERS: dict[str, tuple[Any, tuple[int, ...]]] = {
    "BatchNorm1d": (lambda: nn.BatchNorm1d(6), FEATURES),
    "BatchNorm1d-length": (lambda: nn.BatchNorm1d(6, affine=False), SEQUENCE),
    "BatchNorm2d": (lambda: nn.BatchNorm2d(4), IMAGE),
    "BatchNorm2d-untracked": (lambda: nn.BatchNorm2d(4, track_running_stats=False), IMAGE),
    "BatchNorm3d": (lambda: nn.BatchNorm3d(4), (3, 4, 2, 3, 2)),
    "InstanceNorm1d": (lambda: nn.InstanceNorm1d(6), SEQUENCE),
    "InstanceNorm2d": (lambda: nn.InstanceNorm2d(4, affine=True, track_running_stats=True), IMAGE),
    "GroupNorm": (lambda: nn.GroupNorm(2, 4), IMAGE),
    "LayerNorm": (lambda: nn.LayerNorm((6, 5)), IMAGE),
    "RMSNorm": (lambda: nn.RMSNorm(6), FEATURES),
    "Dropout": (lambda: nn.Dropout(0.3), FEATURES),
    "Dropout-inplace": (lambda: nn.Dropout(0.3, inplace=True), FEATURES),
    "Dropout-vanilla": (lambda: nn.Dropout(0.3, mode="vanilla"), FEATURES),
    "Dropout1d": (lambda: nn.Dropout1d(0.3), SEQUENCE),
    "Dropout2d": (lambda: nn.Dropout2d(0.3), IMAGE),
    "Dropout3d": (lambda: nn.Dropout3d(0.3), (3, 4, 2, 3, 2)),
    "AlphaDropout": (lambda: nn.AlphaDropout(0.3), FEATURES),
    "StochasticDepth": (lambda: nn.StochasticDepth(0.3, "row"), FEATURES),
    "StochasticDepth-batch": (lambda: nn.StochasticDepth(0.3, "batch"), FEATURES),
    "DropConnect": (lambda: nn.DropConnect(nn.Linear(6, 3), 0.3), FEATURES),
    "DropConnect-Conv2d": (lambda: nn.DropConnect(nn.Conv2d(4, 2, 3), 0.3), IMAGE),
    "network": (
        lambda: nn.Sequential(
            nn.Conv2d(4, 6, 3, padding=1, bias=False),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.Residual(
                nn.Sequential(nn.Conv2d(6, 6, 3, padding=1), nn.BatchNorm2d(6), nn.StochasticDepth(0.5, "row"))
            ),
            nn.Dropout2d(0.3),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(36, 5),
            nn.LayerNorm(5),
            nn.GELU(),
            nn.Dropout(0.2),
        ),
        IMAGE,
    ),
}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("case", LAYERS.values(), ids=LAYERS)
def test_layers(case: Any, training: bool) -> None:
    make, shape = case
    layer = make().train(training)
    before, state = copy.deepcopy(layer.state_dict()), nn.random_state(layer)
    assert fnn.gradcheck(layer, RNG.normal(size=shape), samples=60) is True
    assert nn.random_state(layer) == state and layer.training == training
    for key, value in layer.state_dict().items():
        assert value.dtype == before[key].dtype
        np.testing.assert_array_equal(value, before[key])
    assert all(parameter.grad is None for parameter in layer.parameters())


def test_losses() -> None:
    labels, logits = np.array([0, 2, 1, 2]), RNG.normal(size=(4, 3))
    assert fnn.gradcheck(nn.CrossEntropyLoss(label_smoothing=0.1), logits, labels)
    assert fnn.gradcheck(nn.CrossEntropyLoss(reduction="none"), logits, labels)
    assert fnn.gradcheck(nn.MSELoss(), logits, RNG.normal(size=(4, 3)))


class Affine(nn.Module):
    """y = w x + b, with as many ways to be wrong as there are."""

    def __init__(self, mistake: str = "") -> None:
        self.w, self.b, self.mistake = nn.Parameter(np.array([2.0, 3.0, 4.0])), nn.Parameter(np.zeros(3)), mistake

    def forward(self, x: Any) -> Any:
        self.save(x.copy())
        if self.mistake == "writes x":
            x *= 1.5
        if self.mistake == "float32":
            return (self.w.data * x + self.b.data).astype(np.float32)
        if self.mistake == "random":
            return self.w.data * x + np.random.default_rng().normal(size=x.shape)
        if self.mistake == "not finite":
            return self.w.data * x / 0.0
        return self.w.data * x + self.b.data

    def backward(self, dy: Any) -> Any:
        (x,) = self.saved
        if self.mistake == "no gradient":
            self.b.add_grad(dy.sum(0))
            return self.w.data * dy
        self.w.add_grad((dy * x).mean(0) if self.mistake == "mean" else (dy * x).sum(0))
        if self.mistake == "replaces":
            self.b.grad = dy.sum(0)
        elif self.mistake != "frozen":
            self.b.add_grad(np.zeros(3) if self.mistake == "zero" else dy.sum(0))
        else:
            self.b.grad = dy.sum(0)
        if self.mistake == "None":
            return None
        dx = self.w.data * dy
        if self.mistake == "one element":
            dx[1, 2] += 0.5
        if self.mistake == "writes dy":
            dy *= 2
        return dx[0] if self.mistake == "shape" else -dx if self.mistake == "sign" else dx


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        (
            "mean",
            r"the gradient of w\[\d\] is .*, and finite differences say .*\. 3 of 3 .*every one is 0\.2 times what",
        ),
        ("sign", r"the gradient by x\[\d, \d\] is .* every one is -1 times what it should be"),
        ("zero", r"the gradient of b\[\d\] is 0, .*all are 0: does backward fill it\?"),
        ("one element", r"the gradient by x\[1, 2\] is .* 1 of 15 elements checked are wrong, this one most$"),
        ("no gradient", "w got no gradient: Affine.backward has to call add_grad or claim_grad"),
        ("replaces", "b: a second backward pass has to add to the gradient; it replaced it"),
        ("None", r"Affine.backward returns None; expected dx, of shape \(5, 3\)"),
        ("shape", r"Affine.backward: dx has shape \(3,\); expected \(5, 3\)"),
        ("writes x", "Affine writes over its input x"),
        ("writes dy", "Affine.backward writes over dy"),
        ("float32", "Affine.forward makes float32 of float64"),
        ("random", "another result for the same x.*`seed`.*RandomLayer"),
        ("not finite", "Affine.forward gives .*inf in y"),
    ],
)
def test_mistakes_are_named(mistake: str, message: str) -> None:
    with np.errstate(all="ignore"), pytest.raises(fnn.GradientError, match=message):
        fnn.gradcheck(Affine(mistake), RNG.normal(size=(5, 3)))
    assert fnn.gradcheck(Affine(), RNG.normal(size=(5, 3)))


def test_frozen_parameters_must_stay_without() -> None:
    layer = Affine("frozen")
    layer.b.requires_grad = False
    with pytest.raises(AssertionError, match="b has requires_grad=False and got a gradient"):
        fnn.gradcheck(layer, RNG.normal(size=(5, 3)))
    layer = nn.Linear(3, 2)
    layer.weight.requires_grad = False
    assert fnn.gradcheck(layer, RNG.normal(size=(5, 3)))


def test_a_mistake_in_a_network_is_named_by_its_place() -> None:
    model = nn.Sequential(nn.Linear(3, 3), Affine("mean"), nn.Tanh())
    with pytest.raises(fnn.GradientError, match=r"Sequential\.backward: the gradient of 1\.w\["):
        fnn.gradcheck(model, RNG.normal(size=(5, 3)))


def test_kinks_nearby_are_no_mistakes() -> None:
    x = RNG.normal(size=(50, 3))
    x[:, 0] = 3e-7
    assert fnn.gradcheck(nn.ReLU(), x)


def test_wrong_arguments() -> None:
    with pytest.raises(TypeError, match="layer is a .*function.*; expected a module"):
        fnn.gradcheck(fnn.relu, np.ones(3))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="x has dtype int64; expected floating-point numbers"):
        fnn.gradcheck(nn.ReLU(), np.ones(3, np.int64))
    with pytest.raises(ValueError, match="eps is 0"):
        fnn.gradcheck(nn.ReLU(), np.ones(3), eps=0)
