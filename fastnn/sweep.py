"""Running implementations over many arguments and measuring their error: the engine of `fastnn certify`."""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fastnn import oracle
from fastnn.implementations import Implementation, named
from fastnn.op import Op
from fastnn.table import OPS
from fastnn.ulp import FLOAT32, FLOAT64, Exact, Tail, Tally, Worst, measure, prepare

Array = npt.NDArray[Any]
CHUNK = 1 << 13  # a float64 array of this length stays in cache, and below the size for which malloc asks the system
PATTERNS = 1 << 32
NATIVE = named("native")


@dataclass(frozen=True, slots=True)
class Task:
    """A share of the work: some arguments of one pass of one op."""

    op: str
    direction: str  # "forward" or "backward"
    dtype: str
    params: tuple[float, ...]
    start: int = 0  # float32: the patterns start, start + stride ... below stop; float64: as many points as stop
    stop: int = 0
    stride: int = 1


Tallies = dict[tuple[str, str], Tally]  # by direction and implementation


def execute(task: Task, implementations: Sequence[Implementation]) -> Tallies:
    """Run one task."""
    tallies: Tallies = defaultdict(Tally)
    sweep = {"float32": _float32, "float64": _float64}.get(task.dtype, _half)
    with np.errstate(all="ignore"):
        sweep(task, OPS[task.op], implementations, tallies)
    return {key: tally.with_params(task.params) for key, tally in tallies.items()}


def landmarks(op: Op, dtype: type[np.floating[Any]]) -> Array:
    """Arguments where things happen: zeros, ends of the range, infinities, integers, bends, and their neighbours."""
    info = np.finfo(dtype)
    centres = [0.0, float(info.smallest_subnormal), float(info.tiny), float(info.eps), float(info.max), *op.zeros]
    centres += [*np.arange(0.5, 20.5, 0.5), *np.linspace(20.5, 110, 180)]
    centres += [*(2.0 ** np.arange(5, info.maxexp, info.maxexp // 128))]
    points = np.array([*centres, *(value for row in op.parameter_sets for value in row)], dtype)
    with np.errstate(all="ignore"):
        above = np.nextafter(points, dtype(np.inf))
        below = np.nextafter(points, dtype(-np.inf))
        points = np.concatenate([points, above, below, np.nextafter(above, dtype(np.inf))])
    return np.concatenate([points, -points, np.array([np.inf, -np.inf, np.nan], dtype)])


def _float32(task: Task, op: Op, implementations: Sequence[Implementation], tallies: Tallies) -> None:
    exhaustive = task.stride == 1
    if task.start == 0 and not exhaustive:
        _float32_points(task, op, landmarks(op, np.float32), implementations, tallies, random_dy=True)
    if task.start == 0:
        _special(task, op, implementations, tallies)
    steps = np.arange(CHUNK, dtype=np.uint64) * np.uint64(task.stride)
    for first in range(task.start, task.stop, CHUNK * task.stride):
        patterns = steps + np.uint64(first)
        if first + CHUNK * task.stride > task.stop:
            patterns = patterns[patterns < task.stop]
        points = patterns.astype(np.uint32).view(np.float32)
        _float32_points(task, op, points, implementations, tallies, random_dy=not exhaustive)


def _float32_points(
    task: Task, op: Op, x: Array, implementations: Sequence[Implementation], tallies: Tallies, *, random_dy: bool
) -> None:
    # 0.01 is no float32; what is measured is the parameter that is really used.
    params = tuple(float(np.float32(value)) for value in task.params)
    exhaustive = task.stride == 1
    if task.direction == "forward":
        value = _native64("forward", op, params, x) if exhaustive else op.forward(oracle.numpy64, x, *params)
        calls = [(run, lambda run=run: run.forward(op.name, x, *params)) for run in implementations]
        _compare("forward", prepare(FLOAT32, x, value), calls, tallies)
        return
    x = _possible(op, x)
    if x.size == 0:
        return
    if exhaustive and op.param_gradient is None:
        gradients = {"backward": _native64("backward", op, params, x)}
    else:
        gradients = {"backward": op.gradient(oracle.numpy64, x, *params)}
    if op.param_gradient is not None:
        gradients[_learned(op)] = op.param_gradient(oracle.numpy64, x, *params)
    near = op.near_zero(x, params) if op.zeros else None
    arrays = _per_element(op, params, x)
    for dy in [np.ones_like(x), _random_dy(x)] if random_dy else [np.ones_like(x)]:
        exacts = {}
        for direction, gradient in gradients.items():
            value = gradient * dy
            exacts[direction] = prepare(
                FLOAT32, x, value, gradient=gradient, dy=dy, near=near if direction == "backward" else None
            )
        _compare_backward(op, exacts, dy, x, arrays, implementations, tallies)


def _native64(direction: str, op: Op, params: tuple[float, ...], x: Array) -> Array:
    """What judges all 2^32 patterns, where the formulas in NumPy would take hours: the native float64 kernel.

    It is judged itself, by arbitrary precision, in the float64 part of a certificate, and is then off by some 2^-28 ULP
    of float32. Every run judges a sample of the patterns by the table's formulas too.
    """
    wide = x.astype(np.float64)
    with NATIVE.active():
        if direction == "forward":
            return NATIVE.forward(op.name, wide, *params)
        gradient: Array = NATIVE.backward(op.name, np.ones_like(wide), wide, *params)
        return gradient


def _compare_backward(
    op: Op,
    exacts: dict[str, Exact],
    dy: Array,
    saved: Array,
    params: Sequence[Any],
    implementations: Sequence[Implementation],
    tallies: Tallies,
) -> None:
    """Compare dx, and the gradient of a learned parameter that has one value per element."""
    results: dict[str, list[tuple[Implementation, Any]]] = {direction: [] for direction in exacts}
    for run in implementations:
        with run.active():
            got = run.backward(op.name, dy, saved, *params)
        for direction, array in zip(exacts, got if isinstance(got, tuple) else (got,), strict=True):
            results[direction].append((run, lambda array=array: array))
    for direction, exact in exacts.items():
        _compare(direction, exact, results[direction], tallies)


def _compare(direction: str, exact: Exact, calls: Sequence[tuple[Implementation, Any]], tallies: Tallies) -> None:
    """Measure every implementation's results; equal bits are measured once."""
    seen: list[tuple[Array, Tally]] = []
    for run, call in calls:
        with run.active():
            got = call()
        bits = got.view(np.uint32 if got.dtype.itemsize == 4 else np.uint64)
        tally = next((tally for known, tally in seen if np.array_equal(known, bits)), None)
        if tally is None:
            tally = measure(exact, got)
            seen.append((bits, tally))
        tallies[direction, run.name].merge(tally)


def _float64(task: Task, op: Op, implementations: Sequence[Implementation], tallies: Tallies) -> None:
    """A dense sample against arbitrary precision: the landmarks' surroundings, both tails, and points between."""
    m = oracle.mp()
    x = sample64(op, task.stop)
    exact_params = tuple(m.number(value) for value in task.params)
    if task.direction == "forward":
        exact = _exact64(x, op.forward(m, x, *exact_params))
        calls = [(run, lambda run=run: run.forward(op.name, x, *task.params)) for run in implementations]
        _compare("forward", exact, calls, tallies)
        _special(task, op, implementations, tallies)
        return
    x = _possible(op, x)
    gradients = {"backward": op.gradient(m, x, *exact_params)}
    if op.param_gradient is not None:
        gradients[_learned(op)] = op.param_gradient(m, x, *exact_params)
    arrays = _per_element(op, task.params, x)
    for dy in (np.ones_like(x), _random_dy(x)):
        exacts = {
            direction: _exact64(x, gradient, dy, op.near_zero(x, task.params) if direction == "backward" else None)
            for direction, gradient in gradients.items()
        }
        _compare_backward(op, exacts, dy, x, arrays, implementations, tallies)


def sample64(op: Op, count: int) -> Array:
    """About `count` float64 arguments, the same ones every time."""
    rng = np.random.default_rng(zlib.crc32(op.name.encode()))
    share = count // 8
    wide = np.ldexp(rng.uniform(1, 2, share), rng.integers(-1022, 1024, share))
    middle = np.ldexp(rng.uniform(1, 2, 3 * share), rng.integers(-12, 8, 3 * share))
    tails = np.concatenate([rng.uniform(-40, 40, 2 * share), rng.uniform(-750, 750, share)])
    points = np.concatenate([wide, middle]) * rng.choice([-1.0, 1.0], 4 * share)
    outputs = rng.uniform(-1, 1, share)  # what backward may see saved
    close = np.copysign(1 - np.ldexp(1.0, -rng.integers(1, 54, share)), outputs)
    return np.concatenate([points, tails, outputs, close, landmarks(op, np.float64)])


def _exact64(x: Array, exact: Any, dy: Array | None = None, near: Array | None = None) -> Exact:
    gradient = oracle.to_float64(exact)
    with np.errstate(all="ignore"):
        if dy is not None:
            exact = exact * oracle.mp().array(dy)
        value = oracle.to_float64(exact)
        boost = np.where(np.abs(value) < 2.0**-500, 2.0**600, 1.0)
        difference = oracle.to_float64((exact - oracle.mp().array(value)) * boost)
    tail = Tail(boost, np.where(np.isfinite(value), difference, 0.0))
    return prepare(FLOAT64, x, value, gradient=None if dy is None else gradient, dy=dy, near=near, tail=tail)


def _half(task: Task, op: Op, implementations: Sequence[Implementation], tallies: Tallies) -> None:
    """All 65536 patterns: the result must be the float32 result of the same implementation, rounded once."""
    dtype = half_dtype(task.dtype)
    x = np.arange(1 << 16, dtype=np.uint32).astype(np.uint16).view(dtype)
    params = tuple(float(np.float32(value)) for value in task.params)
    dy = _random_dy(np.zeros(x.shape, np.float32)).astype(dtype)
    with np.errstate(all="ignore"):
        wide, wide_dy = x.astype(np.float32), dy.astype(np.float32)
    for run in implementations:
        with run.active():
            if task.direction == "forward":
                got, single = run.forward(op.name, x, *params), run.forward(op.name, wide, *params)
            else:
                got, single = run.backward(op.name, dy, x, *params), run.backward(op.name, wide_dy, wide, *params)
        got, single = (value[0] if isinstance(value, tuple) else value for value in (got, single))
        with np.errstate(all="ignore"):
            expected = single.astype(dtype)
        differ = (got.view(np.uint16) != expected.view(np.uint16)) & ~(np.isnan(got) & np.isnan(expected))
        tallies[task.direction, run.name].merge(_mismatches(x, expected, got, differ))


def half_dtype(name: str) -> np.dtype[Any]:
    """float16, or ml_dtypes' bfloat16, which must be installed."""
    if name == "float16":
        return np.dtype(np.float16)
    import ml_dtypes

    bfloat16: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
    return bfloat16


def _special(task: Task, op: Op, implementations: Sequence[Implementation], tallies: Tallies) -> None:
    """The special values of the row, the sign of zero included."""
    if task.direction != "forward" or task.params != op.parameters_default:
        return
    x = np.array([*(x for x, _ in op.special), np.nan], task.dtype)
    expected = np.array([*(y for _, y in op.special), np.nan], task.dtype)
    for run in implementations:
        with run.active():
            got = run.forward(op.name, x, *task.params)
        exact = (expected == 0) | np.isinf(expected)  # the others are a matter of ULP
        differ = exact & ((got != expected) | (np.signbit(got) != np.signbit(expected)))
        differ |= np.isnan(got) != np.isnan(expected)
        tallies["forward", run.name].merge(_mismatches(x, expected, got, differ))


def _mismatches(x: Array, expected: Array, got: Array, differ: Array) -> Tally:
    tally = Tally(patterns=x.size, mismatches=int(np.count_nonzero(differ)))
    if tally.mismatches:
        first = int(differ.argmax())
        tally.mismatch = Worst(1.0, float(x[first]), float(expected[first]), float(got[first]))
    return tally


def _learned(op: Op) -> str:
    return "backward" if op.learned is None else f"backward {op.params[op.learned].name}"


def _per_element(op: Op, params: Sequence[Any], x: Array) -> tuple[Any, ...]:
    """The parameters, a learned one as an array of x's shape, so that its gradient is not summed."""
    return tuple(np.full_like(x, value) if index == op.learned else value for index, value in enumerate(params))


def _possible(op: Op, saved: Array) -> Array:
    low, high = op.saved_range
    return saved if low == -np.inf and high == np.inf else saved[~((saved < low) | (saved > high))]


def _random_dy(x: Array) -> Array:
    """Log-uniform between 1/16 and 16, of either sign, some NaN; the same for the same x."""
    rng = np.random.default_rng(zlib.crc32(x[:64].tobytes()))
    dy = np.ldexp(rng.uniform(1, 2, x.shape), rng.integers(-4, 4, x.shape)) * rng.choice([-1.0, 1.0], x.shape)
    dy[::257] = np.nan
    return np.asarray(dy, x.dtype)


def blocks(stop: int, stride: int, number: int) -> Iterator[tuple[int, int]]:
    """Cut the patterns 0, stride ... below `stop` into at most `number` runs."""
    length = -(-stop // (stride * number)) * stride
    return ((start, min(start + length, stop)) for start in range(0, stop, length))
