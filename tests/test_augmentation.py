"""Cutout and mixup: what they draw, how it is distributed, and what is refused."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from layouts import DTYPES, Array, assert_same_bits, num_threads
from rows import RUNS, using

import fastnn as fnn
from fastnn import generator
from fastnn.table.augmentation import PLACES, symmetric_beta

every_run = pytest.mark.parametrize("run", RUNS)
every_dtype = pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)


def images(*shape: int, dtype: Any = np.float32) -> Array:
    return np.random.default_rng(0).uniform(1, 2, shape).astype(dtype)


# ---- cutout ----


@every_run
@every_dtype
def test_cutout_overwrites_a_box_in_every_channel(run: str, dtype: np.dtype[Any]) -> None:
    x = images(50, 3, 12, 17, dtype=dtype)
    with using(run):
        y = fnn.cutout(x, 5, seed=3)
        in_place = x.copy()
        assert fnn.cutout(in_place, 5, seed=3, out=in_place) is in_place
        assert_same_bits(in_place, y)
    words = fnn.philox(50, seed=3).astype(np.int64)
    for n in range(50):
        row, column = words[n, 0] * 12 >> 32, words[n, 1] * 17 >> 32
        inside = (abs(np.arange(12) - row) <= 2)[:, None] & (abs(np.arange(17) - column) <= 2)
        assert_same_bits(y[n], np.where(inside, np.zeros(1, dtype), x[n]))


def test_cutout_sizes() -> None:
    """An even side reaches one pixel further up and left, as DeVries and Taylor's; a large one covers everything."""
    x = np.ones((400, 1, 40, 40))
    for size, tall, wide in ((1, 1, 1), (2, 2, 2), (7, 7, 7), ((4, 9), 4, 9)):
        gone = fnn.cutout(x, size, seed=1) == 0
        heights, widths = gone.any(axis=3).sum(axis=2), gone.any(axis=2).sum(axis=2)
        assert heights.max() == tall and widths.max() == wide and heights.min() >= (tall + 1) // 2
        np.testing.assert_array_equal(gone.sum(axis=(2, 3)), heights * widths)
    assert not fnn.cutout(x, 80, seed=1).any()
    assert not fnn.cutout(x, 10**18, seed=1).any()


def test_cutout_centres_are_even() -> None:
    """Chi-square of where pixels of a 6 x 7 image were hit, within five standard deviations."""
    n, cells = 42_000, 42
    hits = (fnn.cutout(np.ones((n, 1, 6, 7), np.float32), 1, seed=2) == 0).sum(axis=0).ravel()
    statistic = float(((hits - n / cells) ** 2 / (n / cells)).sum())
    assert hits.sum() == n and abs(statistic - (cells - 1)) <= 5 * math.sqrt(2 * (cells - 1))


def test_cutout_by_pieces_and_streams() -> None:
    x = images(30, 2, 9, 9)
    whole = fnn.cutout(x, 3, seed=1, offset=4, fill=-1)
    pieces = [fnn.cutout(x[a:b], 3, seed=1, offset=4, fill=-1, start=a) for a, b in ((0, 7), (7, 30))]
    assert_same_bits(np.concatenate(pieces), whole)
    assert (fnn.cutout(x, 3, seed=1, offset=5, fill=-1) != whole).any()
    assert (whole == -1).any()


@every_run
def test_threads_do_not_matter(run: str) -> None:
    x, labels = images(40, 3, 64, 65), np.arange(40) % 7
    with using(run):
        expected = [fnn.cutout(x, 20, seed=1), *fnn.mixup(x, labels, classes=7, seed=1)]
        for threads in (1, 2, 3):
            with num_threads(threads):
                results = [fnn.cutout(x, 20, seed=1), *fnn.mixup(x, labels, classes=7, seed=1)]
            for one, other in zip(results, expected, strict=True):
                assert_same_bits(one, other)


def test_large_batches_past_the_caches() -> None:
    x = images(9, 1000, 1001)  # 36 MB
    y, _, lam, permutation = fnn.mixup(x, np.arange(9), classes=9, seed=3, per_sample=True)
    for n in range(9):
        np.testing.assert_allclose(y[n], lam[n] * x[n] + (1 - lam[n]) * x[permutation[n]], rtol=3e-7)


# ---- mixup ----


@every_run
@every_dtype
@pytest.mark.parametrize("per_sample", [False, True])
def test_mixup_blends_samples_and_labels_alike(run: str, dtype: np.dtype[Any], per_sample: bool) -> None:
    x, labels = images(12, 3, 7, 5, dtype=dtype), np.random.default_rng(1).integers(0, 4, 12)
    with using(run):
        y, soft, lam, permutation = fnn.mixup(x, labels, 0.7, classes=4, seed=8, per_sample=per_sample)
    assert np.shape(lam) == ((12,) if per_sample else ()) and ((lam >= 0) & (lam <= 1)).all()
    assert sorted(permutation.tolist()) == list(range(12))
    weight = np.broadcast_to(lam, 12).astype(np.float64)[:, None]
    wide, one_hot = x.astype(np.float64).reshape(12, -1), np.eye(4)[labels]
    tolerance = {"float64": 1e-15, "float32": 4e-7, "float16": 1.1e-3, "bfloat16": 8e-3}[dtype.name]
    np.testing.assert_allclose(
        y.astype(np.float64).reshape(12, -1), weight * wide + (1 - weight) * wide[permutation], rtol=tolerance
    )
    np.testing.assert_allclose(soft, weight * one_hot + (1 - weight) * one_hot[permutation], rtol=3e-7, atol=1e-7)
    np.testing.assert_allclose(soft.sum(axis=1), 1, rtol=3e-7)


@pytest.mark.parametrize("alpha", [0.2, 0.5, 1.0, 2.0, 50.0])
def test_lam_is_beta(alpha: float) -> None:
    """Kolmogorov and Smirnov's distance over 20,000 draws: above 2 / sqrt(n) once in 1,500."""
    stats = pytest.importorskip("scipy.stats")
    n = 20_000
    draws = np.sort(symmetric_beta(generator.blocks(0, n, 5, 1), alpha))
    exact = stats.beta(alpha, alpha).cdf(draws)
    distance = max(np.abs(exact - np.arange(n) / n).max(), np.abs(exact - np.arange(1, n + 1) / n).max())
    assert distance <= 2 / math.sqrt(n)
    variance = 1 / (4 * (2 * alpha + 1))
    assert abs(draws.mean() - 0.5) <= 5 * math.sqrt(variance / n)


def test_lam_of_extreme_alpha() -> None:
    words = generator.blocks(0, 1000, 1, 0)
    assert set(symmetric_beta(words, 1e-300).tolist()) <= {0.0, 1.0}
    np.testing.assert_allclose(symmetric_beta(words, 1e300), 0.5)
    assert (symmetric_beta(words, 0) == 1).all()
    x = images(5, 3)
    assert_same_bits(fnn.mixup(x, np.eye(5), 0.0, seed=1)[0], x)


def test_permutations_are_even() -> None:
    """Every of the 24 orders of four samples is as likely as the others: chi-square within five deviations."""
    n = 4_800
    counts: dict[tuple[int, ...], int] = {}
    x, labels = np.zeros((4, 1), np.float32), np.eye(4, dtype=np.float32)
    for offset in range(n):
        order = tuple(fnn.mixup(x, labels, seed=2, offset=offset)[3].tolist())
        counts[order] = counts.get(order, 0) + 1
    statistic = sum((count - n / 24) ** 2 / (n / 24) for count in counts.values())
    assert len(counts) == 24 and abs(statistic - 23) <= 5 * math.sqrt(46)


def test_mixup_repeats_and_has_streams() -> None:
    x, labels = images(9, 2), np.eye(9)
    first, again = (fnn.mixup(x, labels, seed=4, offset=2) for _ in range(2))
    for one, other in zip(first, again, strict=True):
        assert_same_bits(one, other)
    assert fnn.mixup(x, labels, seed=4, offset=3)[2] != first[2]
    keys = fnn.philox(9, seed=4, offset=2, first=PLACES)  # blocks of their own, apart from those of lam
    order = sorted(range(9), key=lambda n: (int(keys[n, 0]) << 32) + int(keys[n, 1]))
    assert first[3].tolist() == order


# ---- what is refused ----


def test_bad_cutout() -> None:
    x = images(2, 3, 8, 8)
    before = x.copy()
    for size in (0, -1, (3, 0), (1, 2, 3), ()):
        with pytest.raises(ValueError, match="cutout: size is"):
            fnn.cutout(x, size, seed=1, out=x)  # type: ignore[arg-type]
    for kind in (2.0, None, "2", True, (1, 2.5)):
        with pytest.raises(TypeError, match="cutout: size is"):
            fnn.cutout(x, kind, seed=1, out=x)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="cutout: seed is missing"):
        fnn.cutout(x, 3)  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="cutout: seed is -1"):
        fnn.cutout(x, 3, seed=-1, out=x)
    with pytest.raises(TypeError, match="cutout: fill is None"):
        fnn.cutout(x, 3, seed=1, fill=None, out=x)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"cutout: x has shape \(3, 8, 8\); expected \(N, C, H, W\)"):
        fnn.cutout(x[0], 3, seed=1)
    np.testing.assert_array_equal(x, before)


def test_bad_mixup() -> None:
    x, labels = images(4, 3), np.array([0, 1, 2, 1])
    for alpha in (-0.1, math.nan, math.inf):
        with pytest.raises(ValueError, match="mixup: alpha is"):
            fnn.mixup(x, labels, alpha, classes=3, seed=1)
    with pytest.raises(TypeError, match="mixup: alpha is"):
        fnn.mixup(x, labels, "1", classes=3, seed=1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="mixup: labels are ints, and classes is not given"):
        fnn.mixup(x, labels, seed=1)
    with pytest.raises(ValueError, match="mixup: labels has 2 in it; expected ints from 0 to classes - 1 = 1"):
        fnn.mixup(x, labels, classes=2, seed=1)
    with pytest.raises(ValueError, match="mixup: labels has -1 in it"):
        fnn.mixup(x, labels - 1, classes=2, seed=1)
    with pytest.raises(TypeError, match="mixup: labels has dtype float64 and one axis"):
        fnn.mixup(x, labels * 1.0, classes=3, seed=1)
    with pytest.raises(ValueError, match=r"mixup: labels has shape \(3,\); expected \(4,\) of ints"):
        fnn.mixup(x, labels[:3], classes=3, seed=1)
    with pytest.raises(ValueError, match="mixup: classes is 3, and labels has shape"):
        fnn.mixup(x, np.eye(4), classes=3, seed=1)
    with pytest.raises(ValueError, match=r"mixup: x has shape \(\)"):
        fnn.mixup(np.float32(1), labels, classes=3, seed=1)
    before = x.copy()
    with pytest.raises(ValueError, match="mixup: out overlaps x in memory; expected memory apart"):
        fnn.mixup(x, labels, classes=3, seed=1, out=x)
    np.testing.assert_array_equal(x, before)
