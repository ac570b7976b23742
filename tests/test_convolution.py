"""Convolutions beside PyTorch's, their tiles and scratch memory, and what they refuse."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from layouts import DTYPES, active, assert_same_bits, num_threads
from rows import FUSED

import fastnn as fnn
from fastnn.kernels.cpu import convolution as native
from fastnn.kernels.cpu import runtime
from fastnn.table import OPS
from fastnn.table.convolution import Sums

every_isa = pytest.mark.parametrize("isa", runtime.isas())
Shape = tuple[int, ...]


def random(rng: np.random.Generator, shape: Shape, dtype: Any = np.float32) -> Any:
    return rng.standard_normal(shape).astype(dtype)


def exact(x: Any, weight: Any, dy: Any, **options: Any) -> tuple[list[Any], list[Any]]:
    """y, dx and dweight in float64, and the sums of the magnitudes of their terms."""
    values, sizes = [], []
    for found, change in ((values, lambda a: a), (sizes, np.abs)):
        a, w, d = (change(array.astype(np.float64)) for array in (x, weight, dy))
        sums = Sums(
            a,
            w,
            *(options.get(key, 1) for key in ("stride",)),
            options.get("padding", 0),
            options.get("dilation", 1),
            options.get("groups", 1),
        )
        found += [sums.forward(a), sums.input_gradient(d), sums.weight_gradient(d, a)]
    return values, sizes


def assert_close(x: Any, weight: Any, dy: Any, ulp: float = 8, **options: Any) -> None:
    """All three passes within a few ulp of the sum of the magnitudes."""
    values, sizes = exact(x, weight, dy, **options)
    dx, dweight, dbias = fnn.conv2d_backward(dy, x, weight, **options)
    for got, value, size in zip((fnn.conv2d(x, weight, **options), dx, dweight), values, sizes, strict=True):
        assert got.shape == value.shape
        unit = np.finfo(x.dtype).eps * np.maximum(size, 1e-30)
        assert np.max(np.abs(got - value) / unit, initial=0) <= ulp
    np.testing.assert_allclose(dbias, dy.sum((0, 2, 3), np.float64), rtol=1e-5, atol=1e-4)


# ---- shapes: every way in which work is cut ----

CASES: dict[str, tuple[Shape, Shape, dict[str, Any]]] = {
    "LeNet-5, first": ((3, 1, 28, 28), (6, 1, 5, 5), {}),
    "LeNet-5, second": ((2, 6, 14, 14), (16, 6, 5, 5), {}),
    "first layer of a large net": ((1, 3, 61, 75), (20, 3, 7, 7), {"stride": 2, "padding": 3}),
    "rows in several tiles": ((1, 2, 90, 70), (3, 2, 3, 3), {"padding": 1}),
    "columns in several tiles": ((1, 1, 3, 2600), (2, 1, 3, 3), {"padding": 1}),
    "channels in several blocks": ((1, 300, 12, 30), (10, 300, 3, 3), {"padding": 1}),
    "weights in several blocks": ((1, 1300, 5, 6), (9, 1300, 3, 3), {"padding": 1}),
    "outputs in several blocks": ((1, 300, 4, 9), (130, 300, 3, 3), {"padding": 1}),
    "gathered across images": ((7, 40, 7, 7), (150, 40, 3, 3), {"padding": 1}),
    "gathered, one position an image": ((50, 20, 1, 1), (30, 20, 1, 1), {}),
    "gathered, taps far apart": ((1, 2, 400, 700), (2, 2, 3, 3), {"dilation": (150, 300), "stride": (3, 1)}),
    "kernel as large as the input": ((2, 3, 20, 30), (4, 3, 20, 30), {}),
    "depthwise": ((2, 5, 33, 47), (5, 1, 3, 3), {"padding": 1, "groups": 5}),
    "depthwise, 5 x 5": ((2, 3, 14, 14), (3, 1, 5, 5), {"padding": 2, "groups": 3}),
    "depthwise, 7 x 4": ((1, 3, 19, 23), (3, 1, 7, 4), {"padding": (3, 1), "groups": 3}),
    "depthwise, strided": ((2, 4, 20, 31), (4, 1, 3, 3), {"stride": 2, "padding": 1, "groups": 4}),
    "depthwise, twice the channels": ((2, 4, 9, 31), (8, 1, 3, 3), {"padding": 1, "groups": 4}),
    "depthwise, several tiles": ((1, 2, 90, 70), (2, 1, 3, 3), {"padding": 1, "groups": 2}),
    "one output a group": ((2, 6, 9, 17), (2, 3, 3, 2), {"groups": 2}),
    "strides beyond the kernel": ((2, 3, 13, 17), (4, 3, 2, 1), {"stride": (5, 3)}),
    "padding beyond the kernel": ((1, 2, 3, 4), (3, 2, 2, 2), {"padding": (5, 4)}),
    "more padding behind": ((1, 2, 8, 9), (3, 2, 3, 3), {"padding": ((0, 2), (1, 3)), "stride": 2}),
    "more weights than input": ((1, 70, 3, 3), (70, 70, 3, 3), {"padding": 1}),
}


@pytest.mark.parametrize("case", CASES)
def test_every_way_to_cut(case: str) -> None:
    """Right on every instruction set, in float32 and float64; v3 = v4, and any number of threads the same bits."""
    x_shape, weight_shape, options = CASES[case]
    rng = np.random.default_rng(len(case))
    for dtype in (np.float32, np.float64):
        x, weight = random(rng, x_shape, dtype), random(rng, weight_shape, dtype)
        dy = random(rng, fnn.conv2d(x, weight, **options).shape, dtype)
        fused = []
        for isa in runtime.isas():
            with active(isa):
                assert_close(x, weight, dy, **options)
                for threads in (1, 2, 3) if isa in FUSED else ():
                    with num_threads(threads):
                        fused.append((fnn.conv2d(x, weight, **options), *fnn.conv2d_backward(dy, x, weight, **options)))
        for results in fused[1:]:
            for one, other in zip(results, fused[0], strict=True):
                assert_same_bits(one, other)


def test_terms_of_one_sign() -> None:
    """Where roundings all point one way, sums in parts stay near: nothing cancels."""
    rng = np.random.default_rng(5)
    x, weight = (rng.uniform(1, 2, shape).astype(np.float32) for shape in ((4, 512, 6, 6), (8, 512, 3, 3)))
    dy = rng.uniform(1, 2, (4, 8, 6, 6)).astype(np.float32)
    assert_close(x, weight, dy, ulp=16, padding=1)


# ---- beside PyTorch ----


@pytest.fixture
def torch() -> Iterator[Any]:
    """PyTorch on one thread: on more, small convolutions take it a hundred times as long where others are at work."""
    module = pytest.importorskip("torch", reason="compares with PyTorch, which is not installed")
    threads = module.get_num_threads()
    module.set_num_threads(1)
    yield module
    module.set_num_threads(threads)


def test_like_torch_on_random_shapes(torch: Any) -> None:
    rng = np.random.default_rng(8)
    for _ in range(120):
        groups = int(rng.choice([1, 1, 2, 3]))
        kernel, stride, dilation = (tuple(map(int, rng.integers(1, top, 2))) for top in (5, 4, 3))
        padding = tuple(map(int, rng.integers(0, 3, 2)))
        lengths = [
            int(rng.integers(max(1, (k - 1) * d + 1 - 2 * p), 25)) if rng.random() < 0.9 else max(1, (k - 1) * d + 1)
            for k, d, p in zip(kernel, dilation, padding, strict=True)
        ]
        images, inner, outer = (int(n) for n in rng.integers(1, (4, 7, 12)))
        x = random(rng, (images, inner * groups, *lengths), np.float64)
        weight, bias = (
            random(rng, (outer * groups, inner, *kernel), np.float64),
            random(rng, (outer * groups,), np.float64),
        )
        leaves = [torch.tensor(array, requires_grad=True) for array in (x, weight, bias)]
        expected = torch.nn.functional.conv2d(*leaves, stride, padding, dilation, groups)
        dy = random(rng, tuple(expected.shape), np.float64)
        expected.backward(torch.tensor(dy))
        options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
        np.testing.assert_allclose(fnn.conv2d(x, weight, bias, **options), expected.detach().numpy(), atol=1e-12)
        for got, leaf in zip(fnn.conv2d_backward(dy, x, weight, **options), leaves, strict=True):
            np.testing.assert_allclose(got, leaf.grad.numpy(), atol=1e-11)


@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("kernel", [(3, 3), (2, 5), (4, 1)])
@pytest.mark.filterwarnings("ignore:Using padding='same'")
def test_same_padding_is_torchs(torch: Any, kernel: Shape, dilation: int) -> None:
    rng = np.random.default_rng(3)
    x, weight = random(rng, (2, 3, 11, 12)), random(rng, (4, 3, *kernel))
    expected = torch.nn.functional.conv2d(torch.tensor(x), torch.tensor(weight), None, 1, "same", dilation)
    got = fnn.conv2d(x, weight, padding="same", dilation=dilation)
    np.testing.assert_allclose(got, expected.numpy(), rtol=1e-4, atol=1e-4)


def test_same_padding_with_strides_makes_a_result_for_every_step() -> None:
    for length in range(1, 12):
        for stride in (1, 2, 3):
            x, weight = np.ones((1, 1, length), np.float32), np.ones((1, 1, 3), np.float32)
            assert fnn.conv1d(x, weight, stride=stride, padding="same").shape[2] == -(-length // stride)


def test_one_axis_is_two_of_which_one_is_single() -> None:
    rng = np.random.default_rng(4)
    x, weight, bias = random(rng, (2, 6, 50)), random(rng, (4, 3, 5)), random(rng, (4,))
    options = {"stride": 2, "dilation": 2, "groups": 2}
    y = fnn.conv1d(x, weight, bias, padding=3, **options)
    assert_same_bits(y[:, :, None], fnn.conv2d(x[:, :, None], weight[:, :, None], bias, (1, 2), (0, 3), (1, 2), 2))
    one = fnn.conv1d_backward(y, x, weight, padding=3, **options)
    two = fnn.conv2d_backward(y[:, :, None], x[:, :, None], weight[:, :, None], (1, 2), (0, 3), (1, 2), 2)
    for a, b in zip(one, two, strict=True):
        assert_same_bits(a, b.reshape(a.shape))


# ---- activation, dtypes, special values ----


@every_isa
@pytest.mark.parametrize("activation", ["relu", "gelu", ("swish", 1.5), ("leaky_relu", 0.1), "sigmoid"])
def test_fused_activation_gives_the_bits_of_the_activation(activation: Any, isa: str) -> None:
    name, *params = activation if isinstance(activation, tuple) else (activation,)
    rng = np.random.default_rng(6)
    for x_shape, weight_shape, options in (
        CASES["depthwise"],
        CASES["rows in several tiles"],
        CASES["LeNet-5, second"],
    ):
        x, weight, bias = random(rng, x_shape), random(rng, weight_shape), random(rng, weight_shape[:1])
        with active(isa):
            plain = fnn.conv2d(x, weight, bias, **options)
            fused = fnn.conv2d(x, weight, bias, activation=activation, **options)
            assert_same_bits(fused, getattr(fnn, name)(plain, *params))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_short_formats_are_the_float32_result_rounded_once(dtype: str) -> None:
    rng = np.random.default_rng(7)
    for case in ("LeNet-5, second", "depthwise", "depthwise, strided", "gathered across images", "one output a group"):
        x_shape, weight_shape, options = CASES[case]
        x, weight = (random(rng, shape).astype(DTYPES[dtype]) for shape in (x_shape, weight_shape))
        bias = random(rng, weight_shape[:1])
        wide = fnn.conv2d(x.astype(np.float32), weight.astype(np.float32), bias, activation="silu", **options)
        assert_same_bits(fnn.conv2d(x, weight, bias, activation="silu", **options), wide.astype(DTYPES[dtype]))
        dy = random(rng, wide.shape).astype(DTYPES[dtype])
        wide = fnn.conv2d_backward(*(array.astype(np.float32) for array in (dy, x, weight)), **options)
        for got, value in zip(fnn.conv2d_backward(dy, x, weight, **options), wide, strict=True):
            assert_same_bits(got, value.astype(got.dtype))


@every_isa
def test_what_is_not_finite_stays_where_it_is_seen(isa: str) -> None:
    """NaN and infinities reach the results whose windows hold them, and no others."""
    rng = np.random.default_rng(9)
    for case in (
        "rows in several tiles",
        "depthwise",
        "gathered across images",
        "LeNet-5, second",
        "one output a group",
    ):
        x_shape, weight_shape, options = CASES[case]
        x, weight = random(rng, x_shape), random(rng, weight_shape)
        x[0, 0, 1, -1], x[-1, -1, -1, 2] = np.nan, np.inf
        dy = random(rng, fnn.conv2d(x, weight, **options).shape)
        dy[0, 0, 1, -1] = -np.inf
        with active(isa), np.errstate(all="ignore"):
            got = (fnn.conv2d(x, weight, **options), *fnn.conv2d_backward(dy, x, weight, **options)[:2])
            for result, value in zip(got, exact(x, weight, dy, **options)[0], strict=True):
                np.testing.assert_array_equal(np.isfinite(result), np.isfinite(value))


def test_nothing_to_compute() -> None:
    empty = np.zeros((0, 3, 8, 8), np.float32), np.ones((4, 3, 3, 3), np.float32)
    assert fnn.conv2d(*empty).shape == (0, 4, 6, 6)
    dx, dweight, dbias = fnn.conv2d_backward(np.zeros((0, 4, 6, 6), np.float32), *empty)
    assert dx.shape == (0, 3, 8, 8) and not dweight.any() and not dbias.any()
    none = np.zeros((2, 0, 8, 8), np.float32), np.zeros((4, 0, 3, 3), np.float32)
    assert (fnn.conv2d(*none, np.arange(4)) == np.arange(4)[:, None, None]).all()
    assert fnn.conv2d(np.ones((2, 3, 8, 8), np.float32), np.ones((0, 3, 3, 3), np.float32)).shape == (2, 0, 6, 6)


# ---- memory ----

LARGE = {
    "3 x 3": ((2, 64, 64, 64), (64, 64, 3, 3), {"padding": 1}),
    "many channels": ((1, 2048, 8, 8), (16, 2048, 3, 3), {"padding": 1}),
    "many outputs": ((1, 64, 16, 16), (2048, 64, 1, 1), {}),
    "wide": ((1, 64, 4, 4000), (8, 64, 3, 3), {"padding": 1}),
    "taps far apart": ((1, 4, 1200, 1200), (4, 4, 3, 3), {"dilation": 500}),
    "large kernel": ((1, 8, 128, 128), (8, 8, 64, 64), {}),
    "depthwise": ((2, 64, 64, 64), (64, 1, 5, 5), {"padding": 2, "groups": 64}),
}


@pytest.mark.parametrize("case", LARGE)
def test_scratch_memory_is_bounded(case: str) -> None:
    x_shape, weight_shape, options = LARGE[case]
    x, weight = np.ones(x_shape, np.float32), np.ones(weight_shape, np.float32)
    dy = np.ones_like(fnn.conv2d(x, weight, **options))
    tracemalloc.start()
    try:
        native._scratch_peak()
        fnn.conv2d(x, weight, activation="relu", out=dy, **options)
        fnn.conv2d_backward(dy, x, weight, **options)
        assert 0 < native._scratch_peak() <= 3 << 20
        beyond = tracemalloc.get_traced_memory()[1] - x.nbytes - weight.nbytes
        assert beyond < 64 << 10, "arrays beside the results"
    finally:
        tracemalloc.stop()


# ---- a step of training ----


def backward(*args: Any, **options: Any) -> Any:
    return fnn.conv2d_backward(*args, **options)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", [None, "relu", "tanh", "gelu", ("swish", 1.5), ("leaky_relu", 0.1)], ids=str)
def test_back_through_the_activation(activation: Any, dtype: str) -> None:
    """The gradients are those of dz, in float32 for the 16-bit formats; the caller's memory is written, or added to."""
    kind = DTYPES[dtype]
    number = np.dtype(np.float64 if kind == np.float64 else np.float32)
    rng = np.random.default_rng(11)
    for case in ("LeNet-5, second", "depthwise", "depthwise, strided", "gathered across images", "one output a group"):
        x_shape, weight_shape, options = CASES[case]
        x, weight = random(rng, x_shape, kind), random(rng, weight_shape, kind)
        bias = random(rng, weight_shape[:1], number)
        plain = fnn.conv2d(x, weight, bias, **options)
        z = np.empty_like(plain)
        y = fnn.conv2d(x, weight, bias, activation=activation, z=z, **options)
        assert_same_bits(z, plain)
        assert_same_bits(y, fnn.conv2d(x, weight, bias, activation=activation, **options))
        dy = random(rng, y.shape, kind)
        dz, saved, given = dy.astype(number), None, {}
        if activation is not None:
            name, *params = activation if isinstance(activation, tuple) else (activation,)
            saved = OPS[name].saved_for_backward(z, y)
            given = {"saved": saved, "activation": activation}
            dz = getattr(fnn, f"{name}_backward")(dz, saved.astype(number), *params)
        wide = backward(dz, x.astype(number), weight.astype(number), **options)
        got = backward(dy, x, weight, **options, **given)
        for one, other in zip(got, wide, strict=True):
            assert_same_bits(one, other.astype(one.dtype))
        old = {"dweight": np.full(weight.shape, 0.5, kind), "dbias": np.full(weight_shape[:1], 0.5, number)}
        room = {"dx": np.full_like(x, 7), "dz": np.full(dy.shape, 7, number), **old}
        again = backward(dy, x, weight, **options, **given, **room, accumulate=True)
        assert all(result is room[name] for name, result in zip(("dx", "dweight", "dbias"), again, strict=True))
        for one, other, start in zip(again, wide, (0, 0.5, 0.5), strict=True):
            assert_same_bits(one, (number.type(start) + other if start else other).astype(one.dtype))
        assert_same_bits(room["dz"], dz if given else np.full_like(dz, 7))


def test_only_what_is_needed() -> None:
    rng = np.random.default_rng(12)
    x, weight, dy = random(rng, X.shape), random(rng, W.shape), random(rng, (2, 6, 6, 7))
    every = backward(dy, x, weight)
    for k, name in enumerate(("need_dx", "need_dweight", "need_dbias")):
        some = backward(dy, x, weight, **{name: False})
        assert some[k] is None
        for got, expected in zip(some, every, strict=True):
            if got is not None:
                assert_same_bits(got, expected)
    assert backward(dy, x, weight, need_dx=False, need_dweight=False, need_dbias=False) == (None, None, None)
    dz = dy.copy()  # dz may be dy
    expected = backward(dy, x, weight, saved=dy, activation="relu")
    for one, other in zip(backward(dz, x, weight, saved=dy, activation="relu", dz=dz), expected, strict=True):
        assert_same_bits(one, other)


@pytest.mark.parametrize("isa", FUSED)
def test_z_and_accumulate_whatever_the_threads(isa: str) -> None:
    rng = np.random.default_rng(13)
    for x_shape, weight_shape, options in CASES.values():
        x, weight = random(rng, x_shape), random(rng, weight_shape)
        y, z = fnn.conv2d(x, weight, activation="silu", **options), None
        results = []
        for threads in (1, 2, 3):
            with active(isa), num_threads(threads):
                z, old = np.empty_like(y), np.ones_like(weight)
                y = fnn.conv2d(x, weight, activation="silu", z=z, **options)
                backward(
                    y,
                    x,
                    weight,
                    **options,
                    need_dx=False,
                    accumulate=True,
                    dweight=old,
                    dbias=np.ones(len(weight), "f"),
                )
                results.append((y, z, old))
        for other in results[1:]:
            for a, b in zip(results[0], other, strict=True):
                assert_same_bits(a, b)


def test_a_step_allocates_nothing() -> None:
    rng = np.random.default_rng(14)
    x, weight, bias = random(rng, (8, 16, 32, 32)), random(rng, (32, 16, 3, 3)), random(rng, (32,))
    y = fnn.conv2d(x, weight, bias, padding=1)
    z, dy, dz, dx, dweight, dbias = (np.zeros_like(like) for like in (y, y, y, x, weight, bias))
    tracemalloc.start()
    try:
        for accumulate in (False, True):
            fnn.conv2d(x, weight, bias, padding=1, activation="silu", z=z, out=y)
            into = {"dx": dx, "dweight": dweight, "dbias": dbias, "dz": dz, "accumulate": accumulate}
            backward(dy, x, weight, padding=1, saved=z, activation="silu", **into)
        assert tracemalloc.get_traced_memory()[1] < 16 << 10
    finally:
        tracemalloc.stop()


# ---- what is refused ----

SHAPES = ((2, 4, 8, 9), (6, 4, 3, 3), (6, 6, 3, 3), (2, 6, 6, 7))
X, W, SQUARE, SUMS = (np.zeros(shape, np.float32) for shape in SHAPES)
REFUSED: dict[str, tuple[type[Exception], str, dict[str, Any]]] = {
    "groups that do not divide": (ValueError, r"groups is 3; .*4 channels", {"groups": 3}),
    "no groups": (ValueError, "groups is 0", {"groups": 0}),
    "half a group": (TypeError, "groups is 1.5", {"groups": 1.5}),
    "too large a kernel": (ValueError, r"spans 15 .*width.*padded input has 9", {"dilation": (1, 7)}),
    "wrong channels": (ValueError, r"weight has shape \(6, 5, 3, 3\).*5 input channels", {"weight": SQUARE[:, :5]}),
    "weights of groups": (ValueError, "8 input channels in 2 groups", {"groups": 2}),
    "other dtype": (TypeError, "x has dtype float32, weight has dtype float64", {"weight": np.zeros((6, 4, 3, 3))}),
    "empty kernel": (ValueError, "at least one element", {"weight": np.zeros((6, 4, 0, 3), np.float32)}),
    "missing axis": (ValueError, r"x has shape \(4, 8, 9\)", {"x": X[0]}),
    "no stride": (ValueError, r"stride is 0; expected an int of at least 1", {"stride": 0}),
    "too many strides": (ValueError, "stride is .1, 1, 1.", {"stride": (1, 1, 1)}),
    "strides of the wrong kind": (TypeError, "stride is 'a'", {"stride": "a"}),
    "no dilation": (ValueError, "dilation is .1, 0.", {"dilation": (1, 0)}),
    "negative padding": (ValueError, "padding is -1", {"padding": -1}),
    "unknown padding": (ValueError, "padding is 'full'", {"padding": "full"}),
    "padding in threes": (TypeError, "padding is .*pair", {"padding": ((1, 1, 1), (1, 1, 1))}),
    "padding in fractions": (TypeError, "padding is", {"padding": (0.5, 1)}),
    "too few biases": (ValueError, r"bias has shape \(4,\); expected \(6,\)", {"bias": np.zeros(4, np.float32)}),
    "unknown activation": (ValueError, "there is no activation 'rellu'", {"activation": "rellu"}),
    "z over x": (ValueError, "z overlaps x", {"x": X[:, 1:2], "weight": SQUARE[:1, :1, :1, :1], "z": "x"}),
    "z of another dtype": (TypeError, "z has dtype float64", {"z": np.zeros((2, 6, 6, 7))}),
    "z over the result": (ValueError, "z overlaps out", {"z": SUMS, "out": SUMS}),
    "result over x": (ValueError, "out overlaps x", {"x": X[:, 1:2], "weight": SQUARE[:1, :1, :1, :1], "out": "x"}),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str) -> None:
    error, message, given = REFUSED[case]
    arguments: dict[str, Any] = {"x": X, "weight": W, **given}
    for name in ("out", "z"):
        if isinstance(arguments.get(name), str):
            arguments[name] = arguments["x"]
    with pytest.raises(error, match=rf"^conv2d: .*{message}"):
        fnn.conv2d(**arguments)


def test_refused_of_gradients() -> None:
    y = fnn.conv2d(X, W)
    old, alias = np.zeros_like(W), np.zeros((4, 4, 1, 1), np.float32)
    cases: list[tuple[type[Exception], str, Callable[[], Any]]] = [
        (ValueError, "dy has shape .*expected that of the convolution", lambda: backward(y[:, :, 1:], X, W)),
        (ValueError, "saved goes with an activation", lambda: backward(y, X, W, saved=y)),
        (TypeError, "saved is None .* expected y", lambda: backward(y, X, W, activation="tanh")),
        (ValueError, "saved has shape", lambda: backward(y, X, W, saved=y[:1], activation="relu")),
        (ValueError, "there is no activation", lambda: backward(y, X, W, saved=y, activation="rely")),
        (ValueError, "accumulate adds to dweight", lambda: backward(y, X, W, accumulate=True)),
        (ValueError, "accumulate adds to dbias", lambda: backward(y, X, W, accumulate=True, dweight=old)),
        (ValueError, "dx overlaps x", lambda: backward(y, X, W, dx=X)),
        (ValueError, "dweight overlaps weight", lambda: backward(y, X, W, dweight=W)),
        (ValueError, "dz overlaps x", lambda: backward(X, X[:, :, :, ::-1], alias, dz=X)),
        (ValueError, "dbias has shape", lambda: backward(y, X, W, dbias=np.zeros(3, np.float32))),
        (TypeError, "dweight has dtype", lambda: backward(y, X, W, dweight=np.zeros(W.shape))),
        (TypeError, "need_dx is 0", lambda: backward(y, X, W, need_dx=0)),
    ]
    for error, message, call in cases:
        with pytest.raises(error, match=f"^conv2d_backward: {message}"):
            call()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "image, weight_shape, options",
    [
        ((40, 9, 1), (40, 40, 5, 1), {"padding": (2, 0)}),
        ((33, 3, 5), (33, 33, 5, 5), {"padding": 6, "dilation": 3}),
        ((48, 10, 7), (48, 48, 3, 5), {"padding": (3, 6), "dilation": 3}),
        ((64, 16, 16), (8, 64, 1, 1), {"stride": 2}),
    ],
)
def test_images_do_not_depend_on_how_many_there_are(
    image: Shape, weight_shape: Shape, options: dict[str, Any], dtype: Any
) -> None:
    """Small images are gathered into lines that are the longer the more there are."""
    rng = np.random.default_rng(7)
    x, weight = random(rng, (64, *image), dtype), random(rng, weight_shape, dtype)
    y = fnn.conv2d(x, weight, **options)
    for images in (1, 2, 3, 5, 17, 34):
        assert_same_bits(fnn.conv2d(x[:images], weight, **options), y[:images])
