"""Pooling: what its rows do not show. The rows themselves are in test_functions.py and test_gradients.py."""

from __future__ import annotations

import itertools
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from layouts import DTYPES, active, assert_same_bits, bits, num_threads
from loop_runs import HOST, Unavailable, build
from rows import RUNS, using

import fastnn as fnn
from fastnn.kernels.cpu import runtime
from fastnn.pooled import Plan, maxima
from fastnn.table.pooling_formulas import SHARED, fractional_bounds, max_regions, max_windows
from fastnn.windows import for_kernels, windows

Array = np.ndarray[Any, Any]
ROOT = Path(__file__).resolve().parents[1]
BUILT = [isa for isa in runtime.isas() if isa in HOST]


def call(name: str, dims: int, *args: Any, **kwargs: Any) -> Any:
    return getattr(fnn, f"{name}{dims}d" if "backward" not in name else f"{name[:-9]}{dims}d_backward")(*args, **kwargs)


def geometry(rng: np.random.Generator, dims: int) -> tuple[tuple[int, ...], dict[str, Any]]:
    """Spatial lengths and windows that fit them, each of which holds an element; axes of length 1 among them."""
    shape, kernels, strides, paddings, dilations = [], [], [], [], []
    for axis in range(dims):
        longest = 60 if axis == dims - 1 else 8
        kernel, stride = int(rng.integers(1, 6)), int(rng.integers(1, 5))
        dilation = int(rng.choice([1, 1, 2]))
        before, after = (int(value) for value in rng.integers(0, kernel // 2 + 1, 2))
        span = (kernel - 1) * dilation + 1
        shape.append(max(1, span - before - after) + int(rng.integers(0, longest)))
        if dilation > 1:
            shape[-1] = max(shape[-1], dilation)
        kernels.append(kernel), strides.append(stride), dilations.append(dilation)
        paddings.append((before, after))
    options = {"kernel_size": tuple(kernels), "stride": tuple(strides), "padding": tuple(paddings)}
    return tuple(shape), {**options, "dilation": tuple(dilations), "ceil_mode": bool(rng.integers(2))}


def special(rng: np.random.Generator, shape: tuple[int, ...], dtype: Any) -> Array:
    """Many equal numbers, zeros of both signs, infinities and NaN."""
    values = np.array([-2, -1, -0.0, 0.0, 1, 2, 2, np.nan, -np.inf, np.inf])
    weights = np.array([9, 9, 9, 9, 9, 9, 9, 1, 3, 1])
    return rng.choice(values, shape, p=weights / weights.sum()).astype(dtype)


# ---- maxima ----


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_maxima_and_their_positions(dims: int, dtype: np.dtype[Any]) -> None:
    """Of NaN, infinities, zeros of both signs and ties; with and without positions; on every instruction set."""
    rng = np.random.default_rng(dims)
    for _ in range(40):
        spatial, options = geometry(rng, dims)
        x = special(rng, (2, 3, *spatial), dtype)
        try:
            axes = windows("test", spatial, **options)
        except ValueError:
            continue
        planes = x.reshape(6, *(1,) * (3 - dims), *spatial).astype(np.float64)
        expected, where = max_windows(planes, for_kernels(axes))
        shape = (2, 3, *(axis.out for axis in axes))
        expected, where = expected.reshape(shape).astype(dtype), where.reshape(shape)
        for isa in runtime.isas():
            with active(isa):
                y, indices = call("max_pool", dims, x, **options, return_indices=True)
                assert_same_bits(y, expected)
                np.testing.assert_array_equal(indices, where)
                assert_same_bits(call("max_pool", dims, x, **options), y)


def test_the_rules_of_ties_and_nan() -> None:
    x = np.array([[[-0.0, 0.0, 3, 3, np.nan, 1, np.nan, -np.inf, -np.inf, -np.inf, 0.0, -0.0]]], np.float32)
    for run in RUNS:
        with using(run):
            y, indices = fnn.max_pool1d(x, 2, return_indices=True)
            assert_same_bits(y, np.array([[[-0.0, 3, np.nan, np.nan, -np.inf, 0.0]]], np.float32))
            assert indices.tolist() == [[[0, 2, 4, 6, 8, 10]]]
            assert fnn.max_pool1d(x[..., 4:7], 3, return_indices=True)[1].item() == 2  # the last NaN
            y, indices = fnn.max_pool1d(x[..., 7:10], 2, padding=1, return_indices=True)
            assert indices.tolist() == [[[0, 1]]] and np.isneginf(y).all()  # elements, not padding


class Torch:
    """One set of arguments for both libraries; `compare` a function of both, forward and backward."""

    def __init__(self, torch: Any, dims: int, rng: np.random.Generator) -> None:
        self.torch, self.dims, self.rng = torch, dims, rng
        spatial, options = geometry(rng, dims)
        self.x = rng.integers(-4, 5, (2, 2, *spatial)).astype(np.float32)
        self.kernel, self.stride, self.dilation = (options[name] for name in ("kernel_size", "stride", "dilation"))
        self.padding = tuple(before for before, _ in options["padding"])
        self.ceil, self.include = options["ceil_mode"], bool(rng.integers(2))
        self.output = tuple(int(size) for size in rng.integers(1, 9, dims))

    def compare(self, name: str, *args: Any, back: Any) -> None:
        leaf = self.torch.from_numpy(self.x).requires_grad_()
        y = getattr(self.torch.nn.functional, f"{name}{self.dims}d")(leaf, *args)
        got = call(name, self.dims, self.x, *args)
        np.testing.assert_allclose(got, y.detach().numpy(), rtol=1e-5, atol=1e-6)
        dy = self.rng.standard_normal(got.shape).astype(np.float32)
        y.backward(self.torch.from_numpy(dy))
        dx = call(f"{name}_backward", self.dims, dy, *back)
        np.testing.assert_allclose(dx, leaf.grad.numpy(), rtol=1e-4, atol=1e-5)

    def maxima(self) -> bool:
        args = (self.kernel, self.stride, self.padding, self.dilation, self.ceil)
        pool = getattr(self.torch.nn.functional, f"max_pool{self.dims}d")
        try:
            _, where = pool(self.torch.from_numpy(self.x), *args, True)
            _, indices = call("max_pool", self.dims, self.x, *args, return_indices=True)
        except RuntimeError:  # torch refuses
            return False
        except ValueError as error:  # and where it finds -inf in padding, we do
            assert "padding only" in str(error)
            return False
        np.testing.assert_array_equal(indices, where.numpy())
        self.compare("max_pool", *args, back=(indices, self.x.shape))
        return True

    def averages(self) -> None:
        args = (self.kernel, self.stride, self.padding, self.ceil, self.include)
        try:
            getattr(self.torch.nn.functional, f"avg_pool{self.dims}d")(self.torch.from_numpy(self.x), *args)
        except RuntimeError:
            return
        self.compare("avg_pool", *args, back=(self.x.shape, *args))


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_like_torch(dims: int) -> None:
    torch = pytest.importorskip("torch", reason="compares with PyTorch, which is not installed")
    rng = np.random.default_rng(100 + dims)
    compared = 0
    for _ in range(60):
        both = Torch(torch, dims, rng)
        compared += both.maxima()
        both.averages()
        both.compare("adaptive_avg_pool", both.output, back=(both.x.shape,))
    assert compared > 30


# ---- memory ----


LARGE: list[tuple[tuple[int, ...], dict[str, Any]]] = [
    ((1, 1, 9001), {"kernel_size": 3, "stride": 1, "padding": 1}),  # blocks of columns
    ((1, 2, 9001), {"kernel_size": 2500, "stride": 7, "padding": 100}),  # more columns a window than fit
    ((1, 2, 7000), {"kernel_size": 2, "stride": 2, "padding": 0}),
    ((1, 2, 300, 40), {"kernel_size": (140, 3), "stride": (3, 1), "padding": (0, 1)}),  # more rows than fit
    ((1, 1, 130, 2100), {"kernel_size": (100, 2), "stride": (1, 2), "padding": 0}),
    ((1, 1, 6, 40, 1100), {"kernel_size": (3, 20, 3), "stride": 2, "padding": (1, 5, 1)}),
    ((30, 40, 14, 14), {"kernel_size": 3, "stride": 2, "padding": 1}),  # many planes
    ((30, 40, 16, 12), {"kernel_size": 2, "stride": 2, "padding": 0}),
]


@pytest.mark.parametrize("index", range(len(LARGE)))
def test_large_arrays_and_windows(index: int) -> None:
    """Rows and windows that are worked on in pieces; and the same bits for every thread count and instruction set."""
    shape, options = LARGE[index]
    dims = len(shape) - 2
    rng = np.random.default_rng(index)
    x = rng.standard_normal(shape).astype(np.float32)
    with fnn.use("numba" if "numba" in RUNS else "reference"):
        expected = call("max_pool", dims, x, **options, return_indices=True)
        mean = call("avg_pool", dims, x.astype(np.float64), **options)
        dy = rng.standard_normal(mean.shape).astype(np.float32)
        back = call("avg_pool_backward", dims, dy.astype(np.float64), shape, **options)
        scattered = call("max_pool_backward", dims, dy, expected[1], shape)
    for isa, threads in itertools.product(runtime.isas(), (1, 2)):
        with active(isa), num_threads(threads):
            y, indices = call("max_pool", dims, x, **options, return_indices=True)
            assert_same_bits(y, expected[0])
            np.testing.assert_array_equal(indices, expected[1])
            assert_same_bits(call("max_pool", dims, x, **options), y)
            assert_same_bits(call("max_pool_backward", dims, dy, indices, shape), scattered)
            np.testing.assert_allclose(call("avg_pool", dims, x, **options), mean, rtol=1e-6, atol=1e-7)
            dx = call("avg_pool_backward", dims, dy, shape, **options)
            np.testing.assert_allclose(dx, back, rtol=1e-6, atol=1e-7)


def test_sums_of_16_bits_are_rounded_once() -> None:
    """Also where a plane is worked on in pieces."""
    rng = np.random.default_rng(5)
    for name in ("float16", "bfloat16"):
        if name not in DTYPES:
            continue
        for plane, outputs in ((300, 4000), (50_000, 30_000)):
            dy = rng.standard_normal((2, 3, outputs)).astype(DTYPES[name])
            where = np.sort(rng.integers(0, plane, dy.shape), axis=-1)
            where = where[..., ::-1].copy() if plane > 1000 else rng.permuted(where, axis=-1)
            exact = fnn.max_pool1d_backward(dy.astype(np.float32), where, (2, 3, plane))
            assert_same_bits(fnn.max_pool1d_backward(dy, where, (2, 3, plane)), exact.astype(DTYPES[name]))


def test_averages_do_not_overflow_and_cancel_exactly() -> None:
    big = np.full((1, 1, 4, 4), 3e38, np.float32)
    assert (fnn.avg_pool2d(big, 2) == np.float32(3e38)).all()
    assert fnn.global_avg_pool(big).item() == np.float32(3e38)
    x = np.array([[[1e8, 1.0, -1e8]]], np.float32)
    assert fnn.avg_pool1d(x, 3).item() == np.float32(1 / 3)
    assert fnn.adaptive_avg_pool1d(x, 1).item() == np.float32(1 / 3)


def test_indices_go_where_they_are_told() -> None:
    """Into the array that is given: a training step allocates nothing."""
    rng = np.random.default_rng(0)
    for dims, dtype in itertools.product((1, 2, 3), DTYPES.values()):
        x = rng.standard_normal((2, 3, *(9, 10, 11)[:dims])).astype(dtype)
        calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [(f"max_pool{dims}d", (x, 3, 2), {})]
        if dims == 2:
            calls.append(("fractional_max_pool2d", (x, 6), {"seed": 3}))
        for (name, args, options), run in itertools.product(calls, RUNS):
            with using(run):
                y, where = getattr(fnn, name)(*args, **options, return_indices=True)
                out, indices = np.zeros_like(y), np.zeros_like(where)
                results = getattr(fnn, name)(*args, **options, indices=indices, out=out)
                assert results[0] is out and results[1] is indices
                assert_same_bits(out, y)
                np.testing.assert_array_equal(indices, where)


@pytest.mark.parametrize("name", ["max_pool1d", "max_pool2d", "max_pool3d", "fractional_max_pool2d"])
def test_indices_that_cannot_take_positions(name: str) -> None:
    dims = int(name[-2])
    x, shape = np.zeros((2, 3, *(8,) * dims)), (2, 3, *(4,) * dims)
    frozen, out = np.zeros(shape, np.int64), np.ones(shape)
    frozen.flags.writeable = False
    cases: list[tuple[Any, type[Exception], str]] = [
        (frozen, ValueError, "is read-only"),
        (np.zeros(shape, np.int32), TypeError, "has dtype int32; expected int64"),
        (np.zeros(shape, ">i8"), TypeError, "has non-native byte order"),
        (np.zeros(shape[::-1], np.int64).T, ValueError, "has s"),
        (np.zeros((*shape, 1), np.int64), ValueError, "has shape"),
        (np.zeros(shape, np.int64)[::-1], ValueError, "has strides"),
        (np.zeros(8 * 6 * 4**dims + 1, np.uint8)[1:].view(np.int64).reshape(shape), ValueError, "has strides"),
        (frozen.tolist(), TypeError, "is a list"),
        (True, TypeError, "is a bool"),
        (x.reshape(-1)[: out.size].reshape(shape).view(np.int64), ValueError, "overlaps x"),
        (out.view(np.int64), ValueError, "overlaps out"),
    ]
    options = {"seed": 0} if "fractional" in name else {}
    for indices, error, message in cases:
        with pytest.raises(error, match=f"^{name}: indices {message}"):
            getattr(fnn, name)(x, 4 if options else 2, **options, indices=indices, out=out)
        assert (out == 1).all()


def test_in_place() -> None:
    """A result of x's own shape may go to x: it is computed beside it first."""
    x = np.random.default_rng(0).standard_normal((2, 3, 20, 20)).astype(np.float32)
    expected = fnn.max_pool2d(x, 3, 1, 1)
    assert fnn.max_pool2d(x, 3, 1, 1, out=x) is x
    assert_same_bits(x, expected)


GUARDED = """
    import ctypes, mmap, sys
    import numpy as np
    sys.path.insert(0, {tests!r})
    from layouts import DTYPES, active
    import fastnn as fnn
    from fastnn.kernels.cpu import runtime

    page, libc = mmap.PAGESIZE, ctypes.CDLL(None, use_errno=True)
    def guarded(array):
        pages = -(-array.nbytes // page) + 2
        memory = mmap.mmap(-1, pages * page)
        address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        for k in (0, pages - 1):
            if libc.mprotect(ctypes.c_void_p(address + k * page), page, 0):
                sys.exit("mprotect failed")
        room = np.frombuffer(memory, np.uint8)[page : (pages - 1) * page]
        copy = room[room.size - array.nbytes :].view(array.dtype).reshape(array.shape)
        copy[...] = array
        return copy

    rng = np.random.default_rng(0)
    for isa in runtime.isas():
        with active(isa):
            for dtype in DTYPES.values():
                for width, (kernel, stride, padding) in ((w, o) for w in (1, 2, 5, 16, 17, 33, 70) for o in (
                        (2, 2, 0), (3, 2, 0), (3, 2, 1), (3, 1, 1), (2, 1, 1), (3, 3, 1), (5, 4, 2))):
                    if width + 2 * padding < kernel:
                        continue
                    x = guarded(rng.standard_normal((1, 2, 6, width)).astype(dtype))
                    y = np.zeros_like(fnn.max_pool2d(x, kernel, stride, padding))
                    got = fnn.max_pool2d(x, kernel, stride, padding, out=guarded(y))
                    assert (got == fnn.max_pool2d(x, kernel, stride, padding)).all()
                    _, where = fnn.max_pool2d(x, kernel, stride, padding, return_indices=True, out=guarded(y))
                    fnn.avg_pool2d(x, kernel, stride, padding, out=guarded(y))
                    dx = np.zeros_like(x)
                    fnn.avg_pool2d_backward(guarded(y), x.shape, kernel, stride, padding, out=guarded(dx))
                    fnn.max_pool2d_backward(guarded(y), guarded(where), x.shape, out=guarded(dx))
                    small = fnn.adaptive_avg_pool2d(x, (4, max(1, width // 3)))
                    fnn.adaptive_avg_pool2d_backward(guarded(small), x.shape, out=guarded(dx))
                    fnn.global_avg_pool_backward(guarded(fnn.global_avg_pool(x)), x.shape, out=guarded(dx))
"""


def test_no_byte_beyond_the_arrays_is_touched() -> None:
    program = textwrap.dedent(GUARDED).format(tests=str(ROOT / "tests"))
    done = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr or f"exit status {done.returncode}"


def test_the_same_bits_on_arm(tmp_path: Path) -> None:
    """NEON in an emulator, and the best instruction set here; the driver checks memory as well."""
    sources = [ROOT / "tests/neon/pooling.cpp", *sorted((ROOT / "kernels/cpu").glob("*_pooling.cpp"))]
    try:
        commands = [build(isa, tmp_path, sources) for isa in ("neon", BUILT[-1])]
    except Unavailable as reason:
        pytest.skip(str(reason))
    outputs = [subprocess.run([*command, "400"], capture_output=True, text=True) for command in commands]
    assert [done.returncode for done in outputs] == [0, 0], [done.stderr for done in outputs]
    assert outputs[0].stdout == outputs[1].stdout != ""


# ---- fractional ----


@pytest.mark.parametrize("overlapping", [False, True])
@pytest.mark.parametrize("pseudo_random", [False, True])
def test_fractional_regions(pseudo_random: bool, overlapping: bool) -> None:
    """They cover each axis, in sizes floor(in / out) and the next, as many of either as it takes."""
    for length, out in ((25, 18), (7, 7), (9, 1), (10, 4), (20, 5), (3, 2)):
        starts, stops = fractional_bounds((3, 4), (length, 12), (out, 9), 7, 1, pseudo_random, overlapping, "channel")
        start, stop = starts[1], stops[1]
        assert start.shape == stop.shape == (12, out)
        assert (start[:, 0] == 0).all() and (stop[:, -1] == length).all()
        extra = np.where(np.arange(out) == out - 1, 0, int(overlapping))
        np.testing.assert_array_equal(stop[:, :-1] - overlapping, start[:, 1:])
        lengths = np.sort(stop - start - extra, axis=1)
        short, longer = divmod(length, out)
        expected = np.sort(np.where(np.arange(out) < longer, short + 1, short))
        np.testing.assert_array_equal(lengths, np.broadcast_to(expected, lengths.shape))
    if pseudo_random:  # evenly spread: no edge further than an element from where equal sizes would put it
        starts, _ = fractional_bounds((50, 4), (25, 25), (18, 18), 7, 1, True, overlapping, "channel")
        assert (abs(starts[2] - np.arange(18) * 25 / 18) < 1).all()


def test_fractional_draws_are_uniform() -> None:
    """Every place is as likely as every other to be a region's long one, and both kinds of draws differ by axis."""
    for pseudo_random in (False, True):
        starts, stops = fractional_bounds((4000, 1), (10, 10), (7, 7), 3, 0, pseudo_random, False, "sample")
        for axis in (1, 2):
            longer = (stops[axis] - starts[axis] == 2).mean(axis=0)
            assert (abs(longer - 3 / 7) < 5 * np.sqrt(3 / 7 * 4 / 7 / 4000)).all()
        both = (stops[1] - starts[1] == 2).astype(float), (stops[2] - starts[2] == 2).astype(float)
        correlation = [np.corrcoef(both[0][:, i], both[1][:, i])[0, 1] for i in range(7)]
        assert np.max(np.abs(correlation)) < 5 / np.sqrt(4000)


def test_who_shares_fractional_regions() -> None:
    draws = {"channel": 12, "sample": 3, "batch": 1}
    for shared, count in draws.items():
        starts, _ = fractional_bounds((3, 4), (40, 40), (27, 27), 11, 0, False, False, shared)
        assert len(np.unique(np.hstack([starts[1], starts[2]]), axis=0)) == count
    assert set(draws) == set(SHARED)


def test_fractional_by_every_backend_and_thread_count() -> None:
    x = np.random.default_rng(2).standard_normal((4, 24, 50, 41)).astype(np.float32)
    options: dict[str, Any] = {"seed": 5, "offset": 2, "overlapping": True, "return_indices": True}
    y, indices = fnn.fractional_max_pool2d(x, (36, 29), **options)
    starts, stops = fractional_bounds((4, 24), (50, 41), (36, 29), 5, 2, False, True, "sample")
    expected, where = max_regions(x.reshape(96, 1, 50, 41), starts, stops)
    assert_same_bits(y, expected.reshape(y.shape))
    np.testing.assert_array_equal(indices, where.reshape(y.shape))
    np.testing.assert_array_equal(
        np.take_along_axis(x.reshape(4, 24, -1), indices.reshape(4, 24, -1), 2), y.reshape(4, 24, -1)
    )
    for run, threads in itertools.product(RUNS, (1, 3)):
        with using(run), num_threads(threads):
            for got, want in zip(fnn.fractional_max_pool2d(x, (36, 29), **options), (y, indices), strict=True):
                assert_same_bits(got, want)
    assert (
        fnn.fractional_max_pool2d(x, (36, 29), seed=5, offset=3) != fnn.fractional_max_pool2d(x, (36, 29), seed=5)
    ).any()


# ---- errors ----


X = np.zeros((2, 3, 8, 8), np.float32)
REFUSED: list[tuple[str, tuple[Any, ...], dict[str, Any], type[Exception], str]] = [
    (
        "max_pool2d",
        (X, 9),
        {},
        ValueError,
        r"kernel_size is 9, for an axis of length 8 with padding \(0, 0\); expected",
    ),
    ("max_pool2d", (X, 5), {"dilation": 2}, ValueError, r"kernel_size is 5, which with dilation 2 spans 9 elements"),
    ("avg_pool2d", (X, 11), {"padding": 1}, ValueError, r"kernel_size is 11.*at most the padded length, 10"),
    (
        "max_pool2d",
        (X, 0),
        {},
        ValueError,
        r"kernel_size is 0; expected an int from 1 to 2147483647 or a sequence of 2",
    ),
    ("max_pool2d", (X, (2, -1)), {}, ValueError, r"kernel_size is \(2, -1\); expected"),
    ("max_pool2d", (X, 2.0), {}, TypeError, r"kernel_size is 2.0 of type float"),
    ("max_pool2d", (X, True), {}, TypeError, r"kernel_size is True of type bool"),
    ("max_pool2d", (X, (2, 2, 2)), {}, ValueError, r"kernel_size is \(2, 2, 2\); expected .* sequence of 2"),
    ("max_pool2d", (X, "22"), {}, TypeError, r"kernel_size is '22' of type str"),
    ("max_pool2d", (X, 2, 0), {}, ValueError, r"stride is 0"),
    ("max_pool2d", (X, 2, 1, -1), {}, ValueError, r"padding is -1"),
    ("max_pool2d", (X, 2, 1, ((1, 1), (1, 2, 3))), {}, TypeError, r"padding is .*; expected .*pair"),
    ("max_pool2d", (X, 2, 1, 2), {}, ValueError, r"padding is \(2, 2\).*window 0 .*holds padding only"),
    ("avg_pool2d", (X, 2, 1, 2, False, False), {}, ValueError, r"holds padding only"),
    ("max_pool2d", (X, 2, 1, 0, 0), {}, ValueError, r"dilation is 0"),
    ("max_pool2d", (X, 2), {"ceil_mode": 1}, TypeError, r"ceil_mode is 1 of type int; expected True or False"),
    ("max_pool2d", (X[0], 2), {}, ValueError, r"x has shape \(3, 8, 8\); expected \(N, C, H, W\)"),
    ("max_pool1d", (X, 2), {}, ValueError, r"x has shape .*; expected \(N, C, L\)"),
    ("max_pool2d", (X[:, :, :0], 2), {}, ValueError, r"an element on every axis"),
    ("max_pool2d", (X.astype(complex), 2), {}, TypeError, r"x has dtype complex128"),
    ("max_pool2d", (X, 2), {"out": np.zeros((2, 3, 4, 5), np.float32)}, ValueError, r"out has shape"),
    ("max_pool2d", (X, 2), {"out": np.zeros((2, 3, 4, 4))}, TypeError, r"out has dtype float64"),
    ("max_pool2d_backward", (X, X, X.shape), {}, TypeError, r"indices has dtype float32"),
    ("max_pool2d_backward", (X, X[:1].astype(int), X.shape), {}, ValueError, r"indices has shape"),
    ("max_pool2d_backward", (X, X.astype(int), (2, 4, 8, 8)), {}, ValueError, r"dy has shape .* N and C of x_shape"),
    ("max_pool2d_backward", (X, X.astype(int), 8), {}, TypeError, r"x_shape is of type int"),
    ("max_pool2d_backward", (X, X.astype(int) + 64, X.shape), {}, ValueError, r"indices reach from 64 to 64"),
    ("max_pool2d_backward", (X, X.astype(int) - 1, X.shape), {"out": X.copy()}, ValueError, r"indices reach from -1"),
    ("avg_pool2d_backward", (X, X.shape, 2), {}, ValueError, r"dy has shape .*; expected \(2, 3, 4, 4\)"),
    ("adaptive_avg_pool2d", (X, 0), {}, ValueError, r"output_size is 0"),
    ("adaptive_avg_pool2d", (X, (1, 2, 3)), {}, ValueError, r"output_size is \(1, 2, 3\)"),
    ("global_avg_pool", (X[0, 0],), {}, ValueError, r"x has shape \(8, 8\); expected \(N, C, \*spatial\)"),
    ("fractional_max_pool2d", (X, 9), {"seed": 0}, ValueError, r"output_size is \(9, 9\); expected at most"),
    ("fractional_max_pool2d", (X, 5), {"seed": -1}, ValueError, r"seed is -1"),
    ("fractional_max_pool2d", (X, 5), {"seed": 0, "shared": "all"}, ValueError, r"shared is 'all'; expected one of"),
]


@pytest.mark.parametrize(("name", "args", "kwargs", "error", "message"), REFUSED)
def test_refused(name: str, args: Any, kwargs: Any, error: type[Exception], message: str) -> None:
    out = kwargs.get("out")
    before = None if out is None else out.copy()
    with pytest.raises(error, match=rf"^{name}: {'.*' if message[0] in 'ha' else ''}{message}"):
        getattr(fnn, name)(*args, **kwargs)
    if out is not None:
        np.testing.assert_array_equal(out, before)


def test_positions_that_32_bits_do_not_hold_are_refused() -> None:
    x = np.zeros((1, 1, 2**16), np.float32)
    plan = Plan(x.shape, x.shape, "max_windows", (for_kernels(windows("test", (2**16,), 1, 1, 0, 1, False)),), 2**32)
    with pytest.raises(ValueError, match=r"^max_pool1d: .* span 4294967296 elements .*2\^32"):
        maxima("max_pool1d", plan, x, True, None, None)
    maxima("max_pool1d", plan._replace(reach=2**32 - 1), x, True, None, None)
    maxima("max_pool1d", plan, x.astype(np.float64), True, None, None)


def test_no_planes() -> None:
    for run in RUNS:
        with using(run):
            nothing = np.zeros((2, 3, 0), np.float32)  # gradients of no windows
            assert (fnn.max_pool1d_backward(nothing, nothing.astype(int), (2, 3, 5)) == np.zeros((2, 3, 5))).all()
    for shape in ((0, 3, 8, 8), (2, 0, 8, 8)):
        x = np.zeros(shape, np.float32)
        y, indices = fnn.max_pool2d(x, 2, return_indices=True)
        assert y.shape == indices.shape == (*shape[:2], 4, 4)
        assert fnn.max_pool2d_backward(y, indices, shape).shape == shape
        assert fnn.avg_pool2d_backward(fnn.avg_pool2d(x, 2), shape, 2).shape == shape
        assert fnn.adaptive_avg_pool2d_backward(fnn.adaptive_avg_pool2d(x, 3), shape).shape == shape
        assert fnn.global_avg_pool_backward(fnn.global_avg_pool(x), shape).shape == shape
        assert fnn.fractional_max_pool2d(x, 5, seed=0).shape == (*shape[:2], 5, 5)


def test_bits_of_adaptive_pooling_do_not_depend_on_the_way() -> None:
    """Where lengths divide, it is average pooling; and all instruction sets agree."""
    x = np.random.default_rng(0).standard_normal((3, 4, 12, 35)).astype(np.float32)
    assert_same_bits(fnn.adaptive_avg_pool2d(x, (4, 5)), fnn.avg_pool2d(x, (3, 7)))
    for output in ((5, 8), (12, 35), (1, 1), (13, 40)):
        results = []
        for isa in runtime.isas():
            with active(isa):
                results.append(bits(fnn.adaptive_avg_pool2d(x, output)))
        for result in results[1:]:
            np.testing.assert_array_equal(result, results[0])


@pytest.mark.parametrize("step", [2, 3, 8, 9, 40])
def test_tiles_by_either_loop_are_averages(step: int) -> None:
    x = np.random.default_rng(step).standard_normal((2, 3, 2 * step, 3 * step))
    dy = np.random.default_rng(step + 1).standard_normal((2, 3, 2, 3))
    means = x.reshape(2, 3, 2, step, 3, step).mean((3, 5))
    spread = np.repeat(np.repeat(dy, step, 2), step, 3) / step**2
    for y, dx in (
        (fnn.avg_pool2d(x, step), fnn.avg_pool2d_backward(dy, x.shape, step)),
        (fnn.adaptive_avg_pool2d(x, (2, 3)), fnn.adaptive_avg_pool2d_backward(dy, x.shape)),
    ):
        np.testing.assert_allclose(y, means, rtol=1e-14, atol=1e-15)
        np.testing.assert_allclose(dx, spread, rtol=1e-15)
