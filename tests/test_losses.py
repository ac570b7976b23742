"""Losses: labels that are wrong, special logits, reductions, threads, and torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from layouts import DTYPES, num_threads
from rows import RUNS, using

import fastnn as fnn

INF, NAN = np.inf, np.nan
every_run = pytest.mark.parametrize("run", RUNS)


# ---- labels ----


@every_run
@pytest.mark.parametrize("function", [fnn.cross_entropy_and_grad, fnn.hinge_loss_and_grad])
def test_labels_out_of_range(run: str, function: Any) -> None:
    scores = np.zeros((4, 3, 5), np.float32)
    for dtype, wrong in ((np.int8, -1), (np.int64, 3), (np.uint64, 2**64 - 1), (np.int64, -(2**63)), (np.uint8, 200)):
        labels = np.zeros((4, 5), dtype)
        labels[2, 3] = wrong
        labels[3, 1] = 3
        with (
            using(run),
            pytest.raises(ValueError, match=rf"labels at \(2, 3\) is {wrong}; expected a class from 0 to 2"),
        ):
            function(scores, labels)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.int32, np.int64, np.uint64])
def test_every_integer_is_a_label(dtype: npt.DTypeLike) -> None:
    logits = np.random.default_rng(0).standard_normal((6, 4), np.float32)
    labels = np.array([0, 1, 2, 3, 0, 1])
    assert fnn.cross_entropy(logits, labels.astype(dtype)) == fnn.cross_entropy(logits, labels)
    assert fnn.hinge_loss(logits, labels.astype(dtype)) == fnn.hinge_loss(logits, labels)


def test_labels_of_a_wrong_shape_or_kind() -> None:
    logits = np.zeros((4, 3), np.float32)
    for labels in (np.zeros(3, int), np.zeros((4, 3), int), np.zeros(4), np.zeros((4, 1))):
        with pytest.raises(ValueError, match="^cross_entropy: labels has shape"):
            fnn.cross_entropy(logits, labels)
    with pytest.raises(TypeError, match="^hinge_loss: labels has dtype float32; expected integers"):
        fnn.hinge_loss(logits, np.zeros(4, np.float32))


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"weight": np.ones(4)}, r"weight has shape \(4,\); expected \(3,\)"),
        ({"weight": np.array([1, -1, 1.0])}, r"weight\[1\] is -1.0"),
        ({"weight": np.array([1, 1, NAN])}, r"weight\[2\] is nan"),
        ({"label_smoothing": 1.5}, "label_smoothing is 1.5"),
        ({"label_smoothing": NAN}, "label_smoothing is nan"),
        ({"reduction": "avg"}, "reduction is 'avg'; expected one of 'mean', 'sum', 'none'"),
        ({"axis": 2}, "axis is 2"),
    ],
)
def test_options_that_are_wrong(options: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=f"^cross_entropy: {match}"):
        fnn.cross_entropy(np.zeros((4, 3)), np.zeros(4, int), **options)


# ---- values ----


@every_run
def test_where_nothing_counts(run: str) -> None:
    """A mean over nothing is 0, and so is its gradient."""
    logits = np.ones((3, 4), np.float32)
    ignored = np.full(3, -100)
    with using(run):
        loss, gradient = fnn.cross_entropy_and_grad(logits, ignored)
        assert loss == 0 and not gradient.any()
        assert fnn.cross_entropy(np.zeros((0, 4)), np.zeros(0, int)) == 0
        assert fnn.squared_error(np.zeros(0), np.zeros(0)) == 0


@every_run
def test_an_ignored_position_is_not_looked_at(run: str) -> None:
    for classes in (3, 100):
        logits = np.random.default_rng(0).standard_normal((3, classes)).astype(np.float32)
        logits[1] = NAN
        with using(run):
            loss, gradient = fnn.cross_entropy_and_grad(logits, np.array([1, -100, 2]))
            expected, rest = fnn.cross_entropy_and_grad(logits[::2], np.array([1, 2]))
        assert loss == expected
        np.testing.assert_array_equal(gradient[::2], rest)
        np.testing.assert_array_equal(gradient[1], np.zeros(classes))


@every_run
@pytest.mark.parametrize("classes", [4, 80])
def test_logits_without_bounds(run: str, classes: int) -> None:
    logits = np.full((6, classes), -1e30, np.float32)
    logits[0, 1], logits[1, 2] = 1e30, 1e30
    logits[2, :] = -INF
    logits[3, :3] = (0, 0, -INF)
    logits[4, 0] = NAN
    logits[5, :] = (INF, *[0] * (classes - 1))
    labels = np.array([1, 1, 0, 2, 1, 1])
    with using(run):
        losses, gradient = fnn.cross_entropy_and_grad(logits, labels, reduction="none")
    np.testing.assert_array_equal(losses, np.float32([0, 2e30, NAN, INF, NAN, NAN]))
    np.testing.assert_array_equal(gradient[0], np.zeros(classes))
    np.testing.assert_array_equal(gradient[1], [0, -1, 1, *[0] * (classes - 3)])
    np.testing.assert_array_equal(gradient[3], [0.5, 0.5, -1, *[0] * (classes - 3)])
    assert np.isnan(gradient[[2, 4, 5]]).all()


@every_run
def test_masked_classes_with_soft_labels(run: str) -> None:
    """What has no probability and no target costs nothing."""
    logits = np.array([[1, 2, -INF]], np.float32)
    with using(run):
        loss, gradient = fnn.cross_entropy_and_grad(logits, np.float32([[0.25, 0.75, 0]]))
        expected, rest = fnn.cross_entropy_and_grad(logits[:, :2], np.float32([[0.25, 0.75]]))
    assert loss == pytest.approx(expected, rel=1e-6)
    np.testing.assert_allclose(gradient, [[*rest[0], 0]], rtol=1e-6)


def test_the_first_loss_of_a_network() -> None:
    """-ln(1 / C) where all classes are alike."""
    assert fnn.cross_entropy(np.zeros((7, 10)), np.arange(7)) == pytest.approx(np.log(10), rel=1e-15)
    assert fnn.hinge_loss(np.zeros((7, 10)), np.arange(7)) == 9


@every_run
def test_infinite_scores_of_hinge_loss(run: str) -> None:
    scores = np.array([[INF, 0, 1], [0, 0, -INF], [NAN, 0, 1], [1, 1, 1]], np.float32)
    with using(run):
        losses, gradient = fnn.hinge_loss_and_grad(scores, np.array([0, 2, 1, 1]), reduction="none")
    np.testing.assert_array_equal(losses, np.float32([0, INF, NAN, 2]))
    np.testing.assert_array_equal(gradient[[0, 1, 3]], [[0, 0, 0], [1, 1, -2], [1, -2, 1]])


@every_run
def test_binary_cross_entropy_of_large_logits(run: str) -> None:
    logits = np.array([1e30, -1e30, INF, -INF, 1e30, NAN], np.float32)
    target = np.array([1, 0, 1, 0, 0, 1], np.float32)
    with using(run):
        losses, gradient = fnn.binary_cross_entropy_with_logits_and_grad(logits, target, reduction="none")
    if run != "reference":  # whose textbook formula multiplies 0 by infinity
        np.testing.assert_array_equal(losses, np.float32([0, 0, 0, 0, 1e30, NAN]))
        np.testing.assert_array_equal(gradient, np.float32([0, 0, 0, 0, 1, NAN]))


@pytest.mark.parametrize("name", ["cross_entropy", "hinge_loss"])
@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
def test_losses_and_gradients_are_the_same_together_and_apart(name: str, dtype: npt.DTypeLike) -> None:
    rng = np.random.default_rng(4)
    for shape in ((300, 10), (40, 200), (3, 21, 100), (2, 600, 30)):
        scores = rng.standard_normal(shape).astype(dtype)
        labels = rng.integers(0, shape[1], (shape[0], *shape[2:]))
        loss = getattr(fnn, name)(scores, labels)
        losses = getattr(fnn, name)(scores, labels, reduction="none")
        assert losses.shape == labels.shape
        assert float(loss) == pytest.approx(float(np.mean(losses, dtype=np.float64)), rel=1e-6)
        for count in (1, 2, 3):
            with num_threads(count):
                again, gradient = getattr(fnn, f"{name}_and_grad")(scores, labels)
            assert again == loss and again.dtype == losses.dtype
            assert gradient.dtype == scores.dtype and gradient.shape == shape


# ---- torch ----


def _torch(name: str, reduction: str, *tensors: Any, **options: Any) -> tuple[Any, Any]:
    functional = pytest.importorskip("torch", reason="compares with PyTorch, which is not installed").nn.functional
    tensors[0].requires_grad_()
    loss = getattr(functional, name)(*tensors, reduction=reduction, **options)
    loss.sum().backward()
    return loss.detach().numpy(), tensors[0].grad.numpy()


def _compare(ours: tuple[Any, Any], theirs: tuple[Any, Any]) -> None:
    np.testing.assert_allclose(ours[0], theirs[0], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(ours[1], theirs[1], rtol=1e-4, atol=2e-6)


def test_cross_entropy_of_torch() -> None:
    torch = pytest.importorskip("torch", reason="compares with PyTorch, which is not installed")
    rng = np.random.default_rng(5)
    for trial in range(80):
        shape = (int(rng.integers(1, 6)), int(rng.choice([1, 2, 10, 70])), *rng.choice([1, 3, 17], rng.integers(0, 3)))
        logits = 2 * rng.standard_normal(shape, np.float32)
        reduction = ("mean", "sum", "none")[trial % 3]
        options: dict[str, Any] = {"label_smoothing": float(rng.choice([0, 0.1, 1.0]))}
        weight = rng.uniform(0.5, 2, shape[1]).astype(np.float32) if trial % 2 else None
        positions = (shape[0], *shape[2:])
        if trial % 4 == 3:
            labels: Any = rng.dirichlet(np.ones(shape[1]), positions).astype(np.float32)
            labels = np.ascontiguousarray(np.moveaxis(labels, -1, 1))
        else:
            labels = rng.integers(0, shape[1], positions)
            labels.flat[1::3] = -100
        ours = fnn.cross_entropy_and_grad(logits, labels, weight=weight, reduction=reduction, **options)
        tensors = (torch.tensor(logits), torch.tensor(labels))
        if weight is not None:
            options["weight"] = torch.tensor(weight)
        _compare(ours, _torch("cross_entropy", reduction, *tensors, **options))


def test_other_losses_of_torch() -> None:
    torch = pytest.importorskip("torch", reason="compares with PyTorch, which is not installed")
    rng = np.random.default_rng(6)
    for trial in range(40):
        shape = tuple(map(int, rng.choice([1, 2, 5, 33], rng.integers(1, 4))))
        reduction = ("mean", "sum", "none")[trial % 3]
        x, target = rng.standard_normal(shape, np.float32) * 4, rng.random(shape, np.float32)
        _compare(
            fnn.squared_error_and_grad(x, target, reduction=reduction),
            _torch("mse_loss", reduction, torch.tensor(x), torch.tensor(target)),
        )
        weight, positive = rng.random(shape, np.float32), rng.random(shape[-1], np.float32)
        ours = fnn.binary_cross_entropy_with_logits_and_grad(
            x, target, weight=weight, pos_weight=positive, reduction=reduction
        )
        options = {"weight": torch.tensor(weight), "pos_weight": torch.tensor(positive)}
        name = "binary_cross_entropy_with_logits"
        _compare(ours, _torch(name, reduction, torch.tensor(x), torch.tensor(target), **options))
        scores = rng.standard_normal((shape[0], 7), np.float32)
        labels = rng.integers(0, 7, shape[0])
        loss, gradient = fnn.hinge_loss_and_grad(scores, labels, reduction=reduction)
        theirs = _torch("multi_margin_loss", reduction, torch.tensor(scores), torch.tensor(labels))
        _compare((loss / 7, gradient / 7), theirs)


@every_run
def test_out_receives_the_gradient(run: str) -> None:
    rng = np.random.default_rng(3)
    scores, labels = rng.standard_normal((6, 5)).astype(np.float32), rng.integers(0, 5, 6)
    with using(run):
        for function, second in (
            (fnn.cross_entropy_and_grad, labels),
            (fnn.hinge_loss_and_grad, labels),
            (fnn.squared_error_and_grad, scores[::-1].copy()),
            (fnn.binary_cross_entropy_with_logits_and_grad, rng.random((6, 5), np.float32)),
        ):
            expected, out = function(scores, second), np.full((6, 5), 7, np.float32)
            loss, gradient = function(scores, second, out=out)
            assert gradient is out and loss == expected[0]
            np.testing.assert_array_equal(out, expected[1])
            with pytest.raises(ValueError, match=f"^{function.__name__}: out overlaps"):
                function(scores, second, out=scores)
    with pytest.raises(ValueError, match="labels at"):
        fnn.cross_entropy_and_grad(scores, labels + 5, out=out)
    np.testing.assert_array_equal(out, expected[1])
