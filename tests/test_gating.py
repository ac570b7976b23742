"""maxout, glu and swiglu: special values, far tails, ties, and torch."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from layouts import DTYPES, num_threads
from rows import RUNS, assert_promise, cast, using

import fastnn as fnn
from fastnn.table import FUNCTIONS

INF, NAN = np.inf, np.nan
every_run = pytest.mark.parametrize("run", RUNS)


@every_run
def test_maxout_of_ties_and_nan(run: str) -> None:
    x = np.array([[1, 1, 0, NAN, 5, NAN], [2, 3, 3, -INF, -INF, -INF]], np.float32)
    dy = np.array([[10, 20], [30, 40]], np.float32)
    for relayout in (lambda a: a, lambda a: np.repeat(a[:, :, None], 20, axis=2), lambda a: np.tile(a, (30, 1))):
        wide, incoming = relayout(x), relayout(dy)
        with using(run):
            y, dx = fnn.maxout(wide, 3), fnn.maxout_backward(incoming, wide, 3)
        np.testing.assert_array_equal(y, relayout(np.array([[1, NAN], [3, -INF]])))
        np.testing.assert_array_equal(dx, relayout(np.array([[10, 0, 0, 20, 0, 0], [0, 30, 0, 40, 0, 0]])))


@pytest.mark.parametrize("pieces", [1, 2, 3, 4, 6])
@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
def test_maxout_is_max_of_neighbours(pieces: int, dtype: npt.DTypeLike) -> None:
    rng = np.random.default_rng(0)
    for shape in ((7, 12), (3, 12, 5), (2, 12, 6, 7), (400, 12)):
        x = rng.standard_normal(shape).astype(dtype)
        expected = x.reshape(shape[0], 12 // pieces, pieces, *shape[2:]).astype(np.float64).max(axis=2)
        for count in (1, 3):
            with num_threads(count):
                np.testing.assert_array_equal(fnn.maxout(x, pieces).astype(np.float64), expected)


@every_run
@pytest.mark.parametrize("name", ["glu", "swiglu"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_far_tails(run: str, name: str, dtype: str) -> None:
    """The gate may be far below the smallest number and the product normal all the same."""
    gate = np.array([-60, -95, -104, -150, -170, 30, 90, 120, 0.0, -0.5] * 5)
    value = np.array([1, 1e25, 1e30, 1e38, 1e38, 1e30, -2, 1e-30, 3, -7] * 5)
    a, b = (value, gate) if name == "glu" else (gate, value)
    arguments = cast(FUNCTIONS[name], {"x": np.concatenate([a, b])}, dtype)
    with using(run):
        if run == "reference" and dtype == "float64":
            pytest.skip("the oracle evaluates sigmoid on its own")
        assert_promise(FUNCTIONS[name], [getattr(fnn, name)(**arguments)], arguments)


@every_run
@pytest.mark.parametrize("name", ["glu", "swiglu"])
def test_special_values(run: str, name: str) -> None:
    a, b = np.array([2, 2, 2, NAN, 1], np.float32), np.array([INF, -INF, NAN, 0, 0], np.float32)
    x = np.concatenate([a, b] if name == "glu" else [b, a])
    with using(run):
        y = getattr(fnn, name)(x)
        dx = getattr(fnn, f"{name}_backward")(np.ones(5, np.float32), x)
    gate = np.array([1, 0, NAN, 0.5, 0.5]) if name == "glu" else np.array([INF, 0, NAN, 0, 0])
    np.testing.assert_array_equal(y, (a * gate).astype(np.float32))
    assert np.isnan(dx.reshape(2, 5)[:, 2]).all() and not np.isnan(dx.reshape(2, 5)[:, :2]).any()


def test_what_does_not_divide() -> None:
    with pytest.raises(ValueError, match=r"^maxout: x has shape \(2, 5\); expected a multiple of pieces, 2"):
        fnn.maxout(np.zeros((2, 5)), 2)
    with pytest.raises(ValueError, match=r"^glu: x has shape \(2, 5\); expected an even length along axis 1, got 5"):
        fnn.glu(np.zeros((2, 5)))
    for pieces, error in ((0, ValueError), (-1, ValueError), (1.5, TypeError), (True, TypeError)):
        with pytest.raises(error, match="^maxout: pieces is"):
            fnn.maxout(np.zeros((2, 4)), pieces)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^glu_backward: dy has shape \(2, 4\); expected \(2, 2\)"):
        fnn.glu_backward(np.zeros((2, 4)), np.zeros((2, 4)))


def test_torch() -> None:
    torch = pytest.importorskip("torch", reason="compares with PyTorch, which is not installed")
    rng = np.random.default_rng(1)
    for _ in range(40):
        shape = rng.choice([1, 2, 3, 8, 17], rng.integers(1, 5))
        axis = int(rng.integers(0, len(shape)))
        pieces = int(rng.integers(1, 5))
        for name in ("glu", "swiglu", "maxout"):
            k = pieces if name == "maxout" else 2
            whole = tuple(int(n) * (k if i == axis else 1) for i, n in enumerate(shape))
            x, dy = rng.standard_normal(whole, np.float32), rng.standard_normal(tuple(shape), np.float32)
            tensor = torch.from_numpy(x).requires_grad_()
            if name == "glu":
                expected = torch.nn.functional.glu(tensor, axis)
            elif name == "swiglu":
                first, second = tensor.chunk(2, axis)
                expected = torch.nn.functional.silu(first) * second
            else:
                expected = tensor.unflatten(axis, (int(shape[axis]), pieces)).max(axis + 1).values
            expected.backward(torch.from_numpy(dy))
            options = {"pieces": pieces, "axis": axis} if name == "maxout" else {"axis": axis}
            np.testing.assert_allclose(
                getattr(fnn, name)(x, **options), expected.detach().numpy(), rtol=1e-5, atol=1e-6
            )
            dx = getattr(fnn, f"{name}_backward")(dy, x, **options)
            np.testing.assert_allclose(dx, tensor.grad.numpy(), rtol=1e-4, atol=1e-5)
