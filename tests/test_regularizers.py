"""Penalties: the gradient is added to what is there, in one pass, and nothing else is touched."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from layouts import DTYPES, num_threads
from rows import RUNS, using

import fastnn as fnn

every_run = pytest.mark.parametrize("run", RUNS)


@every_run
@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
def test_values_that_are_exact(run: str, dtype: npt.DTypeLike) -> None:
    w = np.array([[1, -2, 0], [0.5, -0.25, 4]]).astype(dtype)
    with using(run):
        for function, options, penalty, slope in (
            (fnn.l2_and_grad, {"strength": 0.5}, 10.65625, w.astype(float)),
            (fnn.l1_and_grad, {"strength": 2}, 15.5, 2 * np.sign(w.astype(float))),
            (fnn.elastic_net_and_grad, {"beta": 0.5}, 18.40625, w.astype(float) + np.sign(w.astype(float))),
        ):
            grad = np.ones_like(w)
            found, same = function(w, grad, **options)
            assert same is grad and found == penalty
            np.testing.assert_array_equal(grad.astype(float), 1 + slope)
        assert fnn.l2(w) == 21.3125 and fnn.l1(w) == 7.75 and fnn.elastic_net(w, 2, 0.5) == 25.1875


@every_run
def test_infinite_weights(run: str) -> None:
    """No term that is not there makes NaN of them."""
    w = np.array([np.inf, -np.inf, 1], np.float32)
    grad = np.zeros(3, np.float32)
    with using(run):
        assert fnn.l1_and_grad(w, grad)[0] == np.inf
        np.testing.assert_array_equal(grad, [1, -1, 1])
        grad[...] = 0
        assert fnn.l2_and_grad(w, grad)[0] == np.inf
        np.testing.assert_array_equal(grad, [np.inf, -np.inf, 2])


def test_threads_do_not_matter() -> None:
    w = np.random.default_rng(0).standard_normal(300_000, np.float32)
    results: list[Any] = []
    for count in (1, 2, 4):
        grad = np.zeros_like(w)
        with num_threads(count):
            results.append((fnn.elastic_net_and_grad(w, grad, 0.1, 1e-3)[0], grad))
    for penalty, grad in results[1:]:
        assert penalty == results[0][0]
        np.testing.assert_array_equal(grad, results[0][1])


def test_strided_gradients() -> None:
    w = np.random.default_rng(1).standard_normal((20, 30))
    room = np.ones((40, 30))
    fnn.l2_and_grad(w, room[::2], 0.5)
    np.testing.assert_allclose(room[::2], 1 + w, rtol=1e-15)
    np.testing.assert_array_equal(room[1::2], 1)


@pytest.mark.parametrize("grad", [None, [1.0], np.zeros(3), np.zeros(2, np.float64), np.zeros((2, 1), np.float32)])
def test_gradients_that_cannot_be_added_to(grad: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="^l2_and_grad: grad "):
        fnn.l2_and_grad(np.ones(2, np.float32), grad)


def test_a_gradient_in_the_weights() -> None:
    room = np.ones(6, np.float32)
    with pytest.raises(ValueError, match="^l1_and_grad: grad overlaps w"):
        fnn.l1_and_grad(room[:4], room[2:])


@pytest.mark.parametrize("strength", [-1, np.nan, np.inf])
def test_strengths_that_are_wrong(strength: float) -> None:
    with pytest.raises(ValueError, match="^l2: strength is"):
        fnn.l2(np.ones(2), strength)
    with pytest.raises(TypeError, match="^elastic_net: beta is"):
        fnn.elastic_net(np.ones(2), "1")  # type: ignore[arg-type]
