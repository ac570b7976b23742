"""Losses as layers: numbers, gradients, reductions, against PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastnn as fnn
from fastnn import nn

RNG = np.random.default_rng(0)
LABELS = np.array([0, 2, 1, 2, 2])
WEIGHT = np.array([0.5, 2.0, 1.0], np.float32)


def scores(*shape: int) -> Any:
    return RNG.normal(size=shape).astype(np.float32)


CASES: dict[str, tuple[Any, Any, Any, dict[str, Any]]] = {
    "CrossEntropyLoss": ("CrossEntropyLoss", scores(5, 3), LABELS, {}),
    "CrossEntropyLoss-all": (
        *("CrossEntropyLoss", scores(5, 3), LABELS),
        {"weight": WEIGHT, "ignore_index": 1, "label_smoothing": 0.1},
    ),
    "CrossEntropyLoss-soft": ("CrossEntropyLoss", scores(5, 3), np.abs(scores(5, 3)), {"label_smoothing": 0.2}),
    "CrossEntropyLoss-images": ("CrossEntropyLoss", scores(2, 3, 4, 5), RNG.integers(0, 3, (2, 4, 5)), {}),
    "MSELoss": ("MSELoss", scores(4, 3), scores(4, 3), {}),
    "BCEWithLogitsLoss": ("BCEWithLogitsLoss", scores(4, 3), RNG.random((4, 3)).astype(np.float32), {}),
    "BCEWithLogitsLoss-all": (
        *("BCEWithLogitsLoss", scores(4, 3), RNG.random((4, 3)).astype(np.float32)),
        {"weight": np.array([[1.0], [2.0], [0.5], [1.0]], np.float32), "pos_weight": WEIGHT},
    ),
}


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_torch_agrees(case: Any, reduction: str) -> None:
    torch = pytest.importorskip("torch")
    name, x, target, options = case
    ours = getattr(nn, name)(**options, reduction=reduction)
    tensors = {key: torch.tensor(value) if isinstance(value, np.ndarray) else value for key, value in options.items()}
    theirs = getattr(torch.nn, name)(**tensors, reduction=reduction)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    tx = torch.tensor(x, requires_grad=True)
    value, other = ours(x, target), theirs(tx, torch.tensor(target))
    np.testing.assert_allclose(value, other.detach().numpy(), rtol=2e-5, atol=1e-6)
    dy = None if reduction != "none" else scores(*value.shape)
    assert isinstance(value, float) == (dy is None)
    other.backward(None if dy is None else torch.tensor(dy))
    np.testing.assert_allclose(ours.backward(dy), tx.grad.numpy(), rtol=2e-5, atol=1e-6)
    if dy is None:
        np.testing.assert_allclose(ours.backward(0.5), tx.grad.numpy() / 2, rtol=2e-5, atol=1e-6)


def test_torch_divides_the_hinge_by_classes() -> None:
    torch = pytest.importorskip("torch")
    x = scores(5, 3)
    ours, theirs = nn.HingeLoss(0.7), torch.nn.MultiMarginLoss(margin=0.7)
    tx = torch.tensor(x, requires_grad=True)
    other = theirs(tx, torch.tensor(LABELS))
    other.backward()
    np.testing.assert_allclose(ours(x, LABELS), 3 * other.item(), rtol=1e-6)
    np.testing.assert_allclose(ours.backward(), 3 * tx.grad.numpy(), rtol=1e-6)


@pytest.mark.parametrize("loss", [nn.CrossEntropyLoss(), nn.HingeLoss(), nn.CrossEntropyLoss(reduction="none")])
def test_finite_differences_of_labels(loss: nn.Module) -> None:
    assert fnn.gradcheck(loss, scores(5, 3), LABELS)


@pytest.mark.parametrize("loss", [nn.MSELoss(), nn.BCEWithLogitsLoss(), nn.BCEWithLogitsLoss(reduction="sum")])
def test_finite_differences_of_numbers(loss: nn.Module) -> None:
    assert fnn.gradcheck(loss, scores(5, 3), RNG.random((5, 3)))


def test_memory_is_used_again_and_the_number_is_the_same_without_gradients() -> None:
    loss, x = nn.CrossEntropyLoss(), scores(5, 3)
    value = loss(x, LABELS)
    gradient = loss.backward()
    assert loss(x, LABELS) == value and loss.backward() is gradient
    with nn.no_grad():
        assert loss(x, LABELS) == value
    with pytest.raises(RuntimeError, match="CrossEntropyLoss.backward: there is no forward pass"):
        loss.backward()


def test_refusals() -> None:
    loss = nn.CrossEntropyLoss()
    with pytest.raises(ValueError, match=r"labels at \(1,\) is 3; expected a class from 0 to 2"):
        loss(scores(2, 3), np.array([0, 3]))
    with pytest.raises(TypeError, match="CrossEntropyLoss: x has dtype int64"):
        loss(np.zeros((2, 3), np.int64), np.array([0, 1]))
    none = nn.MSELoss(reduction="none")
    none(scores(2, 3), scores(2, 3))
    with pytest.raises(TypeError, match="MSELoss.backward: dy is None"):
        none.backward()


def test_hooks_see_both_inputs() -> None:
    seen: list[Any] = []
    loss = nn.MSELoss()
    loss.register_forward_hook(lambda module, x, y: seen.append((x, y)))
    x, t = scores(2, 3), scores(2, 3)
    value = loss(x, t)
    assert seen[0][0][0] is x and seen[0][0][1] is t and seen[0][1] == value
