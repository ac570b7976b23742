"""The rows of the family `augmentation`, and what its functions draw."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from fastnn import generator
from fastnn.function import Argument, Function

# Mixup shares out a block to every sample, and those from here on to the samples' places in the permutation.
PLACES = 2**63

_SEED = Argument(name="seed", doc="the key of the random numbers: an int from 0 to 2^64 - 1, never chosen for you")
_OFFSET = Argument(name="offset", doc="which of the seed's 2^64 streams: an int from 0 to 2^64 - 1, such as the step")
_REPEATS = (
    "What is drawn depends on seed, offset and the number of a sample alone: equal arguments give equal results on "
    "every backend, instruction set and number of threads. For a fresh draw take the next offset."
)


def boxes(words: npt.NDArray[np.uint32], height: int, width: int, size: tuple[int, int]) -> npt.NDArray[np.int64]:
    """The box (top, bottom, left, right) of each sample, from its block of random words: cut off at the borders."""
    lengths, sides = np.array([height, width], np.int64), np.array(size, np.int64)
    centres = (words[:, :2].astype(np.uint64) * lengths.astype(np.uint64) >> np.uint64(32)).astype(np.int64)
    begin = centres - sides // 2
    ends = np.stack([np.maximum(begin, 0), np.minimum(begin + sides, lengths)], axis=-1)
    return np.ascontiguousarray(ends.reshape(-1, 4))


def symmetric_beta(words: npt.NDArray[np.uint32], alpha: float) -> npt.NDArray[np.float64]:
    """Draws of Beta(alpha, alpha), one a block of random words, by inversion of Student's t (Devroye 1996).

    With u and v uniform, T = sqrt(2 alpha (u^(-1 / alpha) - 1)) cos(2 pi v) has Student's distribution of 2 alpha
    degrees of freedom (Bailey 1994), and (1 + T / sqrt(2 alpha + T^2)) / 2 is Beta(alpha, alpha). Written with
    q = u^(1 / alpha), which underflows harmlessly, and for the smaller of the two shares, which keeps its digits.
    """
    if alpha == 0:
        return np.ones(len(words))
    u, v = (_uniform(words[:, k], words[:, k + 1]) for k in (0, 2))
    cosine = np.cos(2 * np.pi * v)
    q = u ** (1 / alpha)
    sides = q, (1 - q) * cosine**2
    whole = sides[0] + sides[1]
    share = sides[0] / whole / (2 * (1 + np.sqrt(sides[1] / whole)))
    return np.asarray(np.where(cosine < 0, share, 1 - share))


def _uniform(high: npt.NDArray[np.uint32], low: npt.NDArray[np.uint32]) -> npt.NDArray[np.float64]:
    """53 random bits as a number strictly between 0 and 1."""
    number = (high >> np.uint32(5)).astype(np.float64) * 2.0**26 + (low >> np.uint32(6))
    return np.asarray((number + 0.5) * 2.0**-53)


def places(words: npt.NDArray[np.uint32]) -> npt.NDArray[np.int64]:
    """A random permutation: the order of 64-bit keys."""
    keys = words[:, 0].astype(np.uint64) << np.uint64(32) | words[:, 1]
    return np.argsort(keys, kind="stable").astype(np.int64)


def _cutout(x: Any, size: Any, *, seed: int, offset: int = 0, fill: float = 0.0, start: int = 0) -> Any:
    y = x.copy()
    height, width = x.shape[2:]
    tall, wide = size if isinstance(size, tuple) else (size, size)
    for image, words in zip(y, generator.blocks(start, len(x), seed, offset).tolist(), strict=True):
        top, left = words[0] * height // 2**32 - tall // 2, words[1] * width // 2**32 - wide // 2
        image[:, max(top, 0) : max(top + tall, 0), max(left, 0) : max(left + wide, 0)] = fill
    return y


def _mixup(
    x: Any,
    labels: Any,
    alpha: float = 1.0,
    *,
    seed: int,
    offset: int = 0,
    classes: Any = None,
    per_sample: bool = False,
) -> Any:
    n = len(x)
    lam = symmetric_beta(generator.blocks(0, n if per_sample else 1, seed, offset), alpha)
    permutation = places(generator.blocks(PLACES, n, seed, offset))
    soft = labels if classes is None else np.eye(classes, dtype=x.dtype)[labels]
    mixed = []
    for array in (x, soft):
        weight = lam.astype(array.dtype).reshape(-1, *(1,) * (array.ndim - 1))
        mixed.append(weight * array + (1 - weight) * array[permutation])
    return *mixed, lam if per_sample else lam[0], permutation


def _mixup_scale(results: Any, x: Any, labels: Any, classes: Any = None, **_: Any) -> Any:
    def size(array: Any, permutation: Any) -> Any:
        return abs(array) + abs(array[permutation])

    soft = labels if classes is None else np.eye(classes)[labels]
    return size(x, results[3]), size(soft, results[3]), results[2], results[3]


def _cutout_examples(rng: np.random.Generator) -> Iterable[dict[str, Any]]:
    values: tuple[tuple[tuple[int, ...], Any, int, int, float, int], ...] = (
        ((7, 3, 16, 16), 6, 1, 0, 0.0, 0),
        ((5, 1, 9, 13), (3, 20), 2**64 - 1, 9, 0.5, 2**33),
        ((1, 2, 1, 1), 1, 3, 2**64 - 1, -1.0, 1),
        ((40, 1, 5, 4), 2, 4, 0, 7.0, 0),
        ((0, 3, 8, 8), 4, 5, 0, 0.0, 0),
    )
    for shape, size, seed, offset, fill, start in values:
        x = rng.standard_normal(shape)
        yield {"x": x, "size": size, "seed": seed, "offset": offset, "fill": fill, "start": start}


def _mixup_examples(rng: np.random.Generator) -> Iterable[dict[str, Any]]:
    def soft(n: int, classes: int) -> Any:
        weights = rng.uniform(size=(n, classes))
        return weights / weights.sum(axis=1, keepdims=True)

    yield {"x": rng.standard_normal((9, 3, 5, 7)), "labels": rng.integers(0, 10, 9), "classes": 10, "seed": 1}
    yield {"x": rng.standard_normal((8, 33)), "labels": soft(8, 4), "alpha": 0.2, "seed": 2**64 - 1, "offset": 3}
    yield {"x": rng.standard_normal((6, 2, 4, 4)), "labels": soft(6, 3), "alpha": 0.4, "seed": 5, "per_sample": True}
    yield {"x": rng.standard_normal((1, 5)), "labels": np.array([2]), "classes": 3, "alpha": 8.0, "seed": 6}
    yield {"x": rng.standard_normal((4, 6)), "labels": soft(4, 2), "alpha": 0.0, "seed": 7, "per_sample": True}


ROWS: tuple[Function, ...] = (
    Function(
        name="cutout",
        family="augmentation",
        title="Cutout: a box of every image is overwritten",
        formula="y = fill in a box of the given size around a random pixel of each image, y = x elsewhere. The box is "
        "cut off at the borders.",
        arguments=(
            Argument(name="x", doc="images, array of shape (N, C, H, W), any strides", role="array"),
            Argument(name="size", doc="side of the box in pixels, at least 1; or a pair (height, width)"),
            _SEED,
            _OFFSET,
            Argument(name="fill", doc="what is written, a number; 0 is the mean of normalised images"),
            Argument(
                name="start",
                doc="the number of the first image, where x is a piece of a larger batch: an int from 0 to 2^63 - 1",
            ),
            Argument(name="out", doc="where the result goes, x itself included"),
        ),
        returns=(Argument(name="y", doc="array like x"),),
        source="DeVries and Taylor (2017), Improved regularization of convolutional neural networks with cutout",
        notes=(
            "Sample n uses block n: the centre is (word 0 H / 2^32, word 1 W / 2^32), rounded down. All channels share "
            "the box.",
            _REPEATS,
            "No memory beyond the result, unless x or out is not C-contiguous: then one contiguous copy of it.",
        ),
        oracle=_cutout,
        examples=_cutout_examples,
        ulp=0,
        bytes="reads x once, writes y once; in place it touches the boxes alone",
        operations="none",
    ),
    Function(
        name="mixup",
        family="augmentation",
        title="Mixup: every sample is blended with another one, and so are their labels",
        formula="y = lam x + (1 - lam) x[permutation], labels alike, with lam drawn from Beta(alpha, alpha) and a "
        "random permutation of the batch.",
        arguments=(
            Argument(name="x", doc="samples, array of shape (N, ...), any strides", role="array"),
            Argument(
                name="labels",
                doc="array of shape (N,) of ints from 0 to classes - 1, or of shape (N, K) of soft labels",
                role="array",
            ),
            Argument(name="alpha", doc="of the Beta distribution, finite and at least 0; 0 leaves everything as it is"),
            _SEED,
            _OFFSET,
            Argument(name="classes", doc="how many classes integer labels are of; not given with soft labels"),
            Argument(name="per_sample", doc="draw lam for every sample instead of once"),
            Argument(name="out", doc="where the samples go, apart from x in memory"),
        ),
        returns=(
            Argument(name="y", doc="array like x"),
            Argument(
                name="soft",
                doc="soft labels of shape (N, classes): of the dtype that x is computed in (float64 for float64, else "
                "float32), or of that of soft labels",
            ),
            Argument(
                name="lam", doc="the weight of a sample itself: a number, or an array of shape (N,) if per_sample"
            ),
            Argument(name="permutation", doc="array of int64 of shape (N,): whom each sample is blended with"),
        ),
        source="Zhang et al. (2018), mixup: beyond empirical risk minimization",
        notes=(
            "lam comes from block n (block 0 if drawn once) by the formula of Ulrich and Devroye, without rejection; "
            "the permutation from the blocks 2^63 + n.",
            _REPEATS,
            "Memory beyond the results: integer labels as rows of 0 and 1; a contiguous copy of what is not.",
        ),
        oracle=_mixup,
        examples=_mixup_examples,
        ulp=(3, 3, 1, 0),
        scale=_mixup_scale,
        bytes="reads x twice, writes y once",
        operations="3 an element",
    ),
)
