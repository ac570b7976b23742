"""What values a model takes on data: batches of whatever holds data, and the range of every value between its steps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from fastnn.data.moments import scaled
from fastnn.infer.graph import Array, Graph, Shape
from fastnn.infer.quantization.numbers import affine
from fastnn.infer.steps import function

_AT_ONCE = 64  # samples that are looked at together
_BINS = 2048


class Samples(NamedTuple):
    """x (N, *input_shape), float32; labels (N,), where there are any, of a kind that `argmax` can be compared with."""

    x: Array
    labels: Array | None

    def parts(self) -> Iterator[tuple[Array, Array | None]]:
        """Batches."""
        for begin in range(0, len(self.x), _AT_ONCE):
            part = slice(begin, begin + _AT_ONCE)
            yield self.x[part], None if self.labels is None else self.labels[part]


def gathered(data: Any, most: int | None) -> Samples:
    """The first `most` samples of an array, a pair (x, y), a data set, a loader, or any batches."""
    labels: Any = None
    if isinstance(data, np.ndarray):
        x = _floats(data[:most] if data.ndim else data)
    elif hasattr(data, "x") and hasattr(data, "y"):
        x, labels = _floats(data.x[:most]), data.y[:most]
    elif isinstance(data, tuple) and len(data) == 2:
        x, labels = (each[:most] if each.ndim else each for each in map(np.asanyarray, data))
        x = _floats(x)
    elif isinstance(data, Iterable) and not isinstance(data, (str, bytes, dict)):
        x, labels = _batches(data, most)
    else:
        raise TypeError(
            f"quantize: calibration_data is of type {type(data).__name__}; expected an array (N, ...), a pair "
            "(x, y), a data set or a loader"
        )
    if len(x) == 0:
        raise ValueError(f"quantize: calibration_data has shape {x.shape}; expected (N, ...) with a sample at least")
    if not np.isfinite(x).all():
        where = int(np.argmin(np.isfinite(x.reshape(len(x), -1)).all(1)))
        raise ValueError(f"quantize: calibration_data holds nan or inf, in sample {where}; expected finite numbers")
    if labels is not None:
        labels = np.asarray(labels)
        if labels.shape[:1] != (len(x),):
            raise ValueError(f"quantize: calibration_data has {len(x)} samples and labels of shape {labels.shape}")
        if labels.ndim != 1 or labels.dtype.kind not in "iu":
            labels = None
    return Samples(x, labels)


def _batches(data: Iterable[Any], most: int | None) -> tuple[Array, Array | None]:
    xs: list[Array] = []
    ys: list[Array] = []
    for batch in data:
        pair = isinstance(batch, (tuple, list)) and len(batch) == 2
        x = _floats(np.asanyarray(batch[0] if pair else batch))
        if xs and x.shape[1:] != xs[0].shape[1:]:
            raise ValueError(f"quantize: calibration_data has batches of shape {x.shape}; expected (N, ...), all alike")
        xs.append(np.array(x))  # a loader uses its memory again
        if pair:
            ys.append(np.array(batch[1]))
            if ys[-1].shape[:1] != x.shape[:1]:
                raise ValueError(
                    f"quantize: calibration_data has a batch of {len(x)} samples with y of shape {ys[-1].shape}; "
                    "expected a label for each"
                )
        if most is not None and sum(map(len, xs)) >= most:
            break
    if not xs:
        raise ValueError("quantize: calibration_data holds no batch; expected at least one")
    labelled = len(ys) == len(xs) and all(y.shape[1:] == ys[0].shape[1:] for y in ys)
    return np.concatenate(xs)[:most], np.concatenate(ys)[:most] if labelled else None


def _floats(x: Array) -> Array:
    if x.dtype == np.uint8:
        return scaled(x, np.dtype(np.float32))
    if x.dtype.kind not in "fiu" and x.dtype.name != "bfloat16":
        raise TypeError(f"quantize: calibration_data has dtype {x.dtype}; expected numbers")
    if x.ndim == 0:
        raise ValueError("quantize: calibration_data has shape (); expected (N, ...) with a sample at least")
    return np.ascontiguousarray(x, np.float32)


class Execution:
    """A graph, step by step, keeping all values."""

    def __init__(self, graph: Graph) -> None:
        self._steps = [(step, function(step, graph.of(step))) for step in graph.steps]

    def __call__(self, x: Array) -> list[Array]:
        values = [x]
        for step, call in self._steps:
            inputs = zip(step.inputs, step.inputs_as, strict=True)
            with np.errstate(all="ignore"):
                values.append(call(*(values[value].reshape(len(x), *shape) for value, shape in inputs)))
        return values


class Range(NamedTuple):
    """Of a value; what lies outside is cut off."""

    low: float
    high: float


def ranges(graph: Graph, samples: Samples, method: str, percentile: float) -> list[Range]:
    """The range of every value. ValueError for one that is not finite."""
    execution = Execution(graph)
    lows, highs = np.full(len(graph.steps) + 1, np.inf), np.full(len(graph.steps) + 1, -np.inf)
    for x, _ in samples.parts():
        for k, value in enumerate(execution(x)):
            lows[k], highs[k] = np.minimum(lows[k], value.min()), np.maximum(highs[k], value.max())
    for k, step in enumerate(graph.steps, start=1):
        if not np.isfinite(lows[k]) or not np.isfinite(highs[k]):
            raise ValueError(
                f"quantize: {', '.join(step.modules)} gives values from {lows[k]} to {highs[k]} on the calibration "
                "data; expected finite ones"
            )
    found = [Range(float(low), float(high)) for low, high in zip(lows, highs, strict=True)]
    if method == "minmax":
        return found
    counts = np.zeros((len(found), _BINS))
    for x, _ in samples.parts():
        for k, value in enumerate(execution(x)):
            if lows[k] < highs[k]:
                counts[k] += np.histogram(value, _BINS, (lows[k], highs[k]))[0]
    if method == "percentile":
        return [_percentile(given, count, percentile) for given, count in zip(found, counts, strict=True)]
    return [_least_error(given, count) for given, count in zip(found, counts, strict=True)]


def _percentile(given: Range, counts: Array, percentile: float) -> Range:
    """Of all values, (100 - percentile) / 2 % lie below, and as many above."""
    if not counts.any():
        return given
    edges = np.linspace(given.low, given.high, len(counts) + 1)
    share, tail = np.cumsum(counts) / counts.sum(), (100 - percentile) / 200
    first, last = int(np.searchsorted(share, tail, "right")), int(np.searchsorted(share, 1 - tail))
    low = min(given.low, 0.0) if given.low >= 0 else float(edges[min(first, len(counts) - 1)])
    high = max(given.high, 0.0) if given.high <= 0 else float(edges[min(last, len(counts) - 1) + 1])
    return Range(low, high)


def _least_error(given: Range, counts: Array) -> Range:
    """The part of the range that bytes render with the least squared error."""
    if not counts.any():
        return given
    edges = np.linspace(given.low, given.high, len(counts) + 1)
    centers = (edges[1:] + edges[:-1]) / 2
    best, least = given, np.inf
    for part in np.linspace(1, 0.1, 91):
        low, high = part * given.low, part * given.high
        scale, zero = affine(low, high)
        rendered = (np.clip(np.rint(centers / scale) + zero, 0, 255) - zero) * scale
        error = float(counts @ (centers - rendered) ** 2)
        if error < least:
            best, least = Range(low, high), error
    return best


def check_shape(x: Array, input_shape: Shape) -> None:
    """ValueError if the samples are not of that shape."""
    if x.shape[1:] != input_shape:
        shape = str(("N", *input_shape)).replace("'N'", "N")
        raise ValueError(f"quantize: calibration_data has shape {x.shape}; expected {shape}, by input_shape")
