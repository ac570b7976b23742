"""Points of the plane in classes, drawn at random: no download, and a picture shows what has been learned."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fastnn.arguments import flag, real_number, whole_number
from fastnn.data.dataset import ArrayDataset
from fastnn.random import Seed, default_rng

Array = npt.NDArray[Any]


def spirals(
    n: int = 300, classes: int = 3, *, noise: float = 0.2, turns: float = 2 / np.pi, rng: Seed = None
) -> ArrayDataset:
    """Spiral arms, one a class, that start at the centre and wind round one another.

    A point of arm k at radius r in (0, 1] lies at the angle 2 pi (k / classes + turns r) + noise N(0, 1) from the
    vertical axis, clockwise. No straight line tells the arms apart. n points in all, the classes as even as they can
    be, in random order. x: float32 (n, 2); y: int64 (n,). rng: a seed or a NumPy generator; None takes that of
    `fnn.manual_seed`.

    Source: the data of CS231n's notes "Putting it together: minimal neural network case study".
    """
    label, generator = _labels("spirals", n, classes, rng)
    spread = real_number("spirals", "noise", noise, low=0)
    radius = 1 - generator.random(n)
    angle = 2 * np.pi * (label / classes + real_number("spirals", "turns", turns) * radius)
    angle += spread * generator.standard_normal(n)
    return _made("spirals", np.stack([radius * np.sin(angle), radius * np.cos(angle)], axis=1), label)


def clouds(
    n: int = 300,
    classes: int = 2,
    *,
    separable: bool = True,
    center: tuple[float, float] = (0.0, 0.0),
    correlation: float = 0.0,
    rng: Seed = None,
) -> ArrayDataset:
    """Clouds of points round the corners of a regular polygon of radius 1, one a class.

    separable: the clouds are discs, so small that a straight line parts each from all the others; else they are normal
    with a standard deviation of half the distance between neighbours, and overlap. center: where the
    middle of it all lies. correlation, between -1 and 1: stretches it along a diagonal, so that the two features of a
    single round cloud correlate so much. `clouds(classes=1, separable=False, center=(2, 1), correlation=0.9)` is the
    cloud on which the lecture shows centring, scaling, decorrelation and whitening: normal, of unit variance.

    x: float32 (n, 2); y: int64 (n,), the classes as even as they can be, in random order. rng as in `spirals`.

    Source: CS231n 2017, lecture 6, "Data Preprocessing".
    """
    label, generator = _labels("clouds", n, classes, rng)
    middle = np.asarray(center, np.float64)
    if middle.shape != (2,) or not np.isfinite(middle).all():
        raise ValueError(f"clouds: center is {center!r}; expected two finite numbers")
    rho = real_number("clouds", "correlation", correlation, above=-1, below=1)
    half = np.sin(np.pi / classes) if classes > 1 else 1.0  # of the distance between neighbours
    if flag("clouds", "separable", separable):
        # Along the direction of its corner a disc of radius r reaches from 1 - r on, its neighbours to cos(2 pi /
        # classes) + r = 1 - 2 half^2 + r.
        angle, radius = 2 * np.pi * generator.random(n), 0.8 * half**2 * np.sqrt(generator.random(n))
        around = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    else:
        around = half * generator.standard_normal((n, 2))
    corner = 2 * np.pi * label / classes
    if classes > 1:
        around += np.stack([np.cos(corner), np.sin(corner)], axis=1)
    # A symmetric map of variances 1 and correlation rho: being linear, it leaves separable what is separable.
    long, short = np.sqrt(1 + rho), np.sqrt(1 - rho)
    stretch = np.array([[long + short, long - short], [long - short, long + short]]) / 2
    return _made("clouds", around @ stretch + middle, label)


def moons(n: int = 300, *, noise: float = 0.1, rng: Seed = None) -> ArrayDataset:
    """Two half circles, each reaching into the other: (cos t, sin t) and (1 - cos t, 1/2 - sin t) for t in [0, pi].

    noise: the standard deviation of what is added to both coordinates. The rest as in `spirals`.
    """
    label, generator = _labels("moons", n, 2, rng)
    spread = real_number("moons", "noise", noise, low=0)
    angle = np.pi * generator.random(n)
    upper = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    x = np.where(label[:, None] == 0, upper, [1, 0.5] - upper)
    return _made("moons", x + spread * generator.standard_normal((n, 2)), label)


def circles(n: int = 300, *, noise: float = 0.05, factor: float = 0.5, rng: Seed = None) -> ArrayDataset:
    """A circle of radius 1 (class 0) and one of radius `factor` within it (class 1).

    noise: the standard deviation of what is added to both coordinates. The rest as in `spirals`.
    """
    label, generator = _labels("circles", n, 2, rng)
    spread = real_number("circles", "noise", noise, low=0)
    radius = np.where(label == 0, 1, real_number("circles", "factor", factor, above=0, below=1))
    angle = 2 * np.pi * generator.random(n)
    x = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    return _made("circles", x + spread * generator.standard_normal((n, 2)), label)


def _labels(title: str, n: int, classes: int, rng: Seed) -> tuple[npt.NDArray[np.int64], np.random.Generator]:
    """Even labels in random order, and the generator they came from."""
    for name, value in (("n", n), ("classes", classes)):
        if whole_number(title, name, value) < 1:
            raise ValueError(f"{title}: {name} is {value}; expected an int of at least 1")
    generator = default_rng(rng)
    return generator.permutation(np.arange(n) % classes), generator


def _made(name: str, x: Array, label: npt.NDArray[np.int64]) -> ArrayDataset:
    return ArrayDataset(x.astype(np.float32), label.astype(np.int64), name=name)
