"""softmax and log_softmax: special values, the far tails, layouts of every kind, and torch."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from layouts import num_threads
from rows import RUNS, assert_promise, cast, using

import fastnn as fnn
from fastnn.table import FUNCTIONS

INF, NAN = np.inf, np.nan
every_run = pytest.mark.parametrize("run", RUNS)


@every_run
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_special_values(run: str, dtype: npt.DTypeLike) -> None:
    x = np.array([[0, -INF, 0], [-INF, -INF, -INF], [NAN, 1, 2], [INF, 1, 2], [INF, INF, -INF], [5, -INF, -INF]], dtype)
    with using(run):
        y, z = fnn.softmax(x), fnn.log_softmax(x)
    nan = [NAN] * 3
    np.testing.assert_array_equal(y, np.array([[0.5, 0, 0.5], nan, nan, nan, nan, [1, 0, 0]], dtype))
    np.testing.assert_array_equal(y[0], [0.5, 0, 0.5])
    log2 = dtype(np.log(2))  # type: ignore[operator]
    np.testing.assert_array_equal(z, np.array([[-log2, -INF, -log2], nan, nan, nan, nan, [0, -INF, -INF]], dtype))


@every_run
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize("classes", [3, 70, 600])
@pytest.mark.parametrize("inner", [1, 3, 20])
def test_large_logits_and_far_tails(run: str, dtype: str, classes: int, inner: int) -> None:
    rng = np.random.default_rng(classes + inner)
    for centre, spread in (
        (0, 40),
        (-180, 30),
        (-100, 45),
        (215, 50),
        (-3000, 200),
        (1400, 300),
        (1e30, 1e29),
        (-1e4, 1),
    ):
        x = np.clip(
            centre + spread * rng.standard_normal((2, classes, inner)), *(3e4, -3e4)[:: (1, -1)[dtype == "float16"]]
        )
        if dtype != "float16":
            x = centre + spread * rng.standard_normal((2, classes, inner))
        for name in ("softmax", "log_softmax"):
            arguments = cast(FUNCTIONS[name], {"x": x, "axis": 1}, dtype)
            with using(run):
                assert_promise(FUNCTIONS[name], [getattr(fnn, name)(**arguments)], arguments)


@every_run
def test_a_dominating_maximum(run: str) -> None:
    """The logarithm of a probability next to 1, down to the smallest numbers."""
    x = np.array([[0, -20], [50, 0], [80, 0], [1e4, 9950]], np.float32)
    exact = -np.log1p(np.exp(x[:, 1].astype(np.float64) - x[:, 0]))
    with using(run):
        np.testing.assert_allclose(fnn.log_softmax(x)[:, 0], exact, rtol=3e-7)


@every_run
def test_one_class_is_certain(run: str) -> None:
    x = np.float32([[3.7], [-1e30], [88]])
    with using(run):
        np.testing.assert_array_equal(fnn.softmax(x), np.ones_like(x))
        np.testing.assert_array_equal(fnn.log_softmax(x), np.zeros_like(x))


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_neighbours_do_not_matter(name: str) -> None:
    """Every column has the same bits as if it were alone, or beside others."""
    rng = np.random.default_rng(0)
    function = getattr(fnn, name)
    for shape in ((5, 7, 33), (3, 40, 17), (2, 520, 20), (5, 10, 3), (70, 10, 1), (9, 100, 1)):
        x = rng.standard_normal(shape, np.float32)
        y = function(x, 1)
        for n in range(shape[0]):
            np.testing.assert_array_equal(function(x[n : n + 1], 1)[0], y[n])
        moved = np.roll(x, 5, axis=2)
        np.testing.assert_array_equal(function(moved, 1), np.roll(y, 5, axis=2))


@pytest.mark.parametrize("shape", [(3000, 10), (200, 900), (4, 30, 2000), (3, 700, 90)])
def test_threads_do_not_matter(shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(1).standard_normal(shape, np.float32)
    expected = fnn.softmax(x, 1)
    for count in (1, 2, 5):
        with num_threads(count):
            np.testing.assert_array_equal(fnn.softmax(x, 1), expected)


def test_in_place() -> None:
    x = np.random.default_rng(2).standard_normal((50, 300), np.float32)
    for function in (fnn.softmax, fnn.log_softmax):
        expected, y = function(x), x.copy()
        assert function(y, out=y) is y
        np.testing.assert_array_equal(y, expected)
    for backward in (fnn.softmax_backward, fnn.log_softmax_backward):
        y, dy = fnn.softmax(x), x.copy()
        expected = backward(dy, y)
        np.testing.assert_array_equal(backward(dy, y, out=dy), expected)


@pytest.mark.parametrize("axis", [3, -4, True, 1.0, None, "last"])
def test_an_axis_that_is_none(axis: object) -> None:
    with pytest.raises((TypeError, ValueError), match=r"^softmax: axis is"):
        fnn.softmax(np.zeros((2, 3, 4)), axis)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="x has no axes"):
        fnn.softmax(1.0)


def test_torch() -> None:
    torch = pytest.importorskip("torch", reason="compares with PyTorch, which is not installed")
    rng = np.random.default_rng(3)
    for _ in range(60):
        shape = tuple(rng.choice([1, 2, 3, 10, 17, 65], rng.integers(1, 5)))
        axis = int(rng.integers(-len(shape), len(shape)))
        x, dy = (rng.standard_normal(shape, np.float32) * 3 for _ in range(2))
        for name in ("softmax", "log_softmax"):
            tensor = torch.from_numpy(x).requires_grad_()
            expected = getattr(torch, name)(tensor, axis)
            expected.backward(torch.from_numpy(dy))
            y = getattr(fnn, name)(x, axis)
            np.testing.assert_allclose(y, expected.detach().numpy(), rtol=2e-5, atol=1e-6)
            dx = getattr(fnn, f"{name}_backward")(dy, y, axis)
            np.testing.assert_allclose(dx, tensor.grad.numpy(), rtol=1e-4, atol=2e-5)
