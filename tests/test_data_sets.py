"""Data sets of arrays: parts of them, and those that are generated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastnn as fnn
from fastnn.data import ArrayDataset

Array = np.ndarray[Any, Any]
GENERATED = [fnn.data.spirals, fnn.data.clouds, fnn.data.moons, fnn.data.circles]


def numbered(n: int, classes: int = 3) -> ArrayDataset:
    return ArrayDataset(np.arange(n, dtype=np.float32)[:, None], np.arange(n) % classes, name="numbers")


def test_a_data_set_is_two_arrays() -> None:
    x, y = np.zeros((4, 1, 2, 2), np.uint8), np.arange(4)
    data = ArrayDataset(x, y, ["a", "b", "c", "d"], "letters")
    assert data.x is x and data.y is y and len(data) == 4 and data.classes == ("a", "b", "c", "d")
    assert repr(data) == "<ArrayDataset letters, 4 samples, x: uint8(1, 2, 2), y: int64>"
    image, label = data[2]
    assert image.shape == (1, 2, 2) and label == 2
    assert data[1:3][1].tolist() == [1, 2]
    part = data.subset([3, 0])
    assert part.y.tolist() == [3, 0] and part.classes == data.classes and part.name == "letters"
    assert np.shares_memory(data.subset(slice(2)).x, x)
    assert len(ArrayDataset([[1.0], [2.0]], [0, 1])) == 2


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((np.zeros((3, 2)), np.zeros(4)), ValueError, "x has 3 samples and y has 4"),
        ((np.zeros((3, 2)), ["a", "b", "c"]), TypeError, "y has dtype <U1; expected numbers"),
        ((5, [1]), ValueError, "x is one number"),
        ((np.zeros((1, 1)), [0], "cat"), TypeError, "classes is the str 'cat'"),
    ],
)
def test_what_is_no_data_set(arguments: tuple[Any, ...], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        ArrayDataset(*arguments)


@pytest.mark.parametrize("stratified", [False, True])
@pytest.mark.parametrize(("validation", "count"), [(0.1, 10), (0.25, 26), (7, 7)])
def test_split(stratified: bool, validation: float, count: int) -> None:
    data = numbered(103)
    train, held = data.split(validation, rng=3, stratified=stratified)
    assert len(held) == count and len(train) == 103 - count
    assert sorted([*train.x[:, 0], *held.x[:, 0]]) == list(range(103))
    assert list(train.x[:, 0]) == sorted(train.x[:, 0]) and list(held.x[:, 0]) == sorted(held.x[:, 0])
    np.testing.assert_array_equal(held.x[:, 0] % 3, held.y)
    again = data.split(validation, rng=np.random.default_rng(3), stratified=stratified)[1]
    np.testing.assert_array_equal(again.x, held.x)
    other = data.split(validation, rng=4, stratified=stratified)[1]
    assert other.x.tolist() != held.x.tolist()


def test_a_stratified_split_keeps_the_shares() -> None:
    label = np.repeat([0, 1, 2, 5], [100, 50, 7, 43])
    data = ArrayDataset(np.zeros((200, 1)), np.random.default_rng(0).permutation(label))
    counts = [np.bincount(data.split(0.1, rng=seed, stratified=True)[1].y, minlength=6) for seed in range(20)]
    assert {tuple(c) for c in counts} == {(10, 5, 1, 0, 0, 4)}
    loose = [np.bincount(data.split(0.1, rng=seed)[1].y, minlength=6) for seed in range(20)]
    assert len({tuple(c) for c in loose}) > 5


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"validation": 1.0}, ValueError, "validation is 1.0"),
        ({"validation": 0.001}, ValueError, "validation is 0.001, 0 of 9 samples; expected some for both parts"),
        ({"validation": 9}, ValueError, "validation is 9, 9 of 9 samples"),
        ({"validation": "half"}, TypeError, "validation is 'half'"),
        ({"stratified": 1}, TypeError, "stratified is 1"),
    ],
)
def test_a_split_that_is_none(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        numbered(9).split(**options)
    with pytest.raises(TypeError, match="y has dtype float64"):
        ArrayDataset(np.zeros((9, 1)), np.zeros(9)).split(3, stratified=True)


@pytest.mark.parametrize("make", GENERATED)
def test_generated_sets(make: Callable[..., ArrayDataset]) -> None:
    data = make(101, rng=5)
    assert data.x.shape == (101, 2) and data.x.dtype == np.float32 and data.y.dtype == np.int64
    assert np.ptp(np.bincount(data.y)) <= 1 and np.isfinite(data.x).all() and data.name == make.__name__
    assert (np.diff(data.y) == 0).any()  # in random order
    np.testing.assert_array_equal(make(101, rng=5).x, data.x)
    assert (make(101, rng=6).x != data.x).any()
    fnn.manual_seed(9)
    first = make(20)
    fnn.manual_seed(9)
    np.testing.assert_array_equal(make(20).x, first.x)
    with pytest.raises(ValueError, match=f"{make.__name__}: n is 0"):
        make(0)


def separable(x: Array, label: Array) -> bool:
    """Whether a perceptron finds a line between the points of label True and the others."""
    rows = np.column_stack([x, np.ones(len(x))]) * np.where(label, 1, -1)[:, None]
    weight = np.zeros(3)
    for _ in range(2000):
        wrong = rows[rows @ weight <= 0]
        if not len(wrong):
            return True
        weight += wrong[0] + wrong.mean(axis=0)
    return False


@pytest.mark.parametrize("classes", [2, 3, 6])
@pytest.mark.parametrize("correlation", [0.0, -0.7])
def test_clouds_are_separable_or_not(classes: int, correlation: float) -> None:
    apart = fnn.data.clouds(300, classes, correlation=correlation, center=(0.5, -1), rng=1)
    assert all(separable(apart.x, apart.y == k) for k in range(classes))
    mixed = fnn.data.clouds(300, classes, separable=False, correlation=correlation, rng=1)
    assert not any(separable(mixed.x, mixed.y == k) for k in range(classes))


def test_the_cloud_of_the_lecture() -> None:
    x = fnn.data.clouds(20000, 1, separable=False, center=(2, 1), correlation=0.9, rng=0).x
    np.testing.assert_allclose(x.mean(axis=0), [2, 1], atol=0.03)
    np.testing.assert_allclose(np.cov(x.T), [[1, 0.9], [0.9, 1]], atol=0.04)


def test_spirals_are_arms() -> None:
    data = fnn.data.spirals(600, 4, noise=0, turns=1, rng=2)
    radius = np.hypot(*data.x.T.astype(np.float64))
    angle = np.arctan2(data.x[:, 0], data.x[:, 1])
    assert radius.max() <= 1 + 1e-6 and radius.min() > 0
    off = (angle / (2 * np.pi) - data.y / 4 - radius + 0.5) % 1 - 0.5
    np.testing.assert_allclose(off, 0, atol=1e-4)
    assert not any(separable(data.x, data.y == k) for k in range(4))


def test_moons_and_circles() -> None:
    moons = fnn.data.moons(200, noise=0, rng=1)
    for label, center, sign in ((0, (0, 0), 1), (1, (1, 0.5), -1)):
        arc = moons.x[moons.y == label] - center
        np.testing.assert_allclose(np.hypot(*arc.T), 1, atol=1e-6)
        assert (sign * arc[:, 1] >= -1e-6).all()
    circles = fnn.data.circles(200, noise=0, factor=0.25, rng=1)
    np.testing.assert_allclose(np.hypot(*circles.x.T), np.where(circles.y == 0, 1, 0.25), atol=1e-6)
