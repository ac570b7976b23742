"""The kernels of fastnn.kernels.cuda on the emulator, by way of the public functions: true to their rows' oracles, with
the CPU's bits where nothing is summed up, the same for every order of threads, and without waiting for the device.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
import sys
from collections.abc import Callable, Iterator
from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from emulator import build
from emulator.cupy import record
from layouts import DTYPES, assert_same_bits
from rows import (
    ROWS,
    Array,
    Example,
    arrays_in,
    as_tuple,
    assert_promise,
    assert_same,
    call,
    cast,
    examples,
    in_place,
    mapped,
)

import fastnn as fnn
from fastnn.function import Function
from fastnn.kernels import cuda
from fastnn.kernels.cpu import augmentation as native
from fastnn.kernels.cuda import channels, convolution, cudnn, gemm, losses, pooling
from fastnn.kernels.cuda.compiler import Family, options, source
from fastnn.table import FUNCTIONS

pytestmark = pytest.mark.filterwarnings("error")
FLOAT32 = DTYPES["float32"]
# Of the activations that are part of other kernels all that examples have are compiled for float32, these for others.
FEW = ("relu",)
# Nothing is summed up, or the CPU does it in the same order.
EXACT = [
    row
    for row in ROWS
    if row.family in ("dropout", "gating", "augmentation")
    or (row.family == "optimizers" and row.name != "clip_grad_norm")
    or row.name.startswith(("batch_norm_infer", "max_pool", "fractional"))
]
every_dtype = pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)


def families() -> Iterator[Family]:
    for info in pkgutil.iter_modules(cuda.__path__):
        for value in vars(importlib.import_module(f"{cuda.__name__}.{info.name}")).values():
            if isinstance(value, Family):
                yield value


def activation_of(row: Function, example: Example) -> str | None:
    """The activation that is part of the row's kernels."""
    chosen = example.get("activation") if row.family in ("linear", "convolution", "normalization") else None
    return chosen[0] if isinstance(chosen, tuple) else chosen


def is_compiled(expression: str, dtype: str, names: set[str]) -> bool:
    if "activation::" not in expression:
        return True
    name = re.split("[,>]", expression.split("activation::")[1])[0]
    part = "fused<" in expression or (expression.startswith("backward<") and dtype.startswith("float"))
    return part and name in (names if dtype == "float32" else FEW)


@cache
def compiled() -> None:
    """Compile each source once, for all that is needed of it, instead of for every dtype and activation on its own."""
    names = {str(activation_of(row, example)) for row in ROWS for example in examples(row)}
    for family in {each.name: each for each in families()}.values():
        wanted = [
            name
            for dtype in family.dtypes
            for expression in family.expressions
            if is_compiled(expression, dtype, names)
            for name in family.names(dtype, (expression,))
        ]
        build.library(source(family.name), options(), list(dict.fromkeys(wanted)), "-O0")


@pytest.fixture
def device(cupy: Any) -> Any:
    compiled()
    return cupy


def to_host(value: Any) -> Any:
    """The same with arrays of NumPy's."""
    if isinstance(value, (list, tuple)):
        return type(value)(*map(to_host, value)) if hasattr(value, "_fields") else type(value)(map(to_host, value))
    return value.get() if hasattr(value, "get") else value


def on_device(cupy: Any, row: Function, arguments: Example, place: Callable[[Array], Any] | None = None) -> list[Any]:
    """What rows.call returns, of a call with arrays on the device."""
    given = {name: mapped(value, place or cupy.asarray) for name, value in arguments.items()}
    with record.recording() as seen:
        results = list(as_tuple(getattr(fnn, row.name)(**given)))
    if not arguments.get("error_if_nonfinite"):
        assert not seen.to_host and not seen.waits, f"{row.name} waits for the device: {seen.to_host}{seen.waits}"
    for name, value in arguments.items():
        if name in in_place(row):
            results += given[name] if isinstance(value, (list, tuple)) else [given[name]] if arrays_in(value) else []
        elif arrays_in(value):
            assert_same([to_host(given[name])], [value])
    return list(map(to_host, results))


def shown(row: Function, dtype: np.dtype[Any]) -> Iterator[Example]:
    """The row's examples in a dtype, those left out for which nothing is compiled."""
    for example in examples(row):
        if dtype == FLOAT32 or activation_of(row, example) in (None, *FEW):
            yield cast(row, example, dtype)


@every_dtype
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_promise_is_kept(device: Any, row: Function, dtype: np.dtype[Any]) -> None:
    for arguments in shown(row, dtype):
        assert_promise(row, on_device(device, row, arguments), arguments)


@pytest.mark.parametrize("row", EXACT, ids=lambda row: row.name)
def test_results_have_the_bits_of_the_cpu(device: Any, row: Function) -> None:
    for dtype in DTYPES.values():
        for arguments in shown(row, dtype):
            assert_same(on_device(device, row, arguments), call(row, arguments))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_neither_the_order_of_threads_nor_the_device_matters(device: Any, row: Function) -> None:
    arguments = next(shown(row, FLOAT32))
    expected = on_device(device, row, arguments)
    for changes in ({"order": 1}, {"order": 2, "seed": 3}, {"multiprocessors": 1}):
        with record.running(**changes):
            assert_same(on_device(device, row, arguments), expected)


def apart(cupy: Any, array: Array) -> Any:
    """A copy on the device that begins where no pack of 16 bytes does."""
    room = cupy.zeros(array.size + 1, array.dtype)
    room[1:] = cupy.asarray(array.ravel())
    return room[1:].reshape(array.shape)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_arrays_at_any_address(device: Any, row: Function) -> None:
    arguments = next(shown(row, DTYPES["float16"]))
    expected = on_device(device, row, arguments)
    assert_same(on_device(device, row, arguments, lambda array: apart(device, array)), expected)


# ---- sizes around the edges of warps, packs and blocks ----


SIZES = (1, 2, 31, 32, 33, 65, 127, 257, 520, 1025)
numbers = np.random.default_rng(1)


def normal(*shape: int) -> Array:
    return numbers.standard_normal(shape)


def sized(n: int) -> Iterator[tuple[str, Example]]:
    """Calls that sum up n numbers, or n channels."""
    yield "softmax", {"x": normal(3, n)}
    yield "log_softmax_backward", {"dy": normal(2, n), "y": -abs(normal(2, n)), "axis": 1}
    yield "softmax", {"x": normal(2, 5, n), "axis": 1}
    yield "layer_norm", {"x": normal(2, n) + 10, "gamma": normal(n), "beta": normal(n)}
    mean, inv_std = normal(2), abs(normal(2))
    yield (
        "layer_norm_backward",
        {"dy": normal(2, n), "x": normal(2, n), "gamma": normal(n), "mean": mean, "inv_std": inv_std},
    )
    statistics = {"running_mean": None, "running_var": None}
    yield "batch_norm_train", {"x": normal(3, 2, n) + 5, "gamma": normal(2), "beta": normal(2), **statistics}
    yield "batch_norm_train", {"x": normal(9, n) + 5, "gamma": normal(n), "beta": normal(n), **statistics}
    labels = numbers.integers(0, n, 3)
    yield "cross_entropy_and_grad", {"logits": normal(3, n), "labels": labels, "label_smoothing": 0.1}
    yield "hinge_loss_and_grad", {"scores": normal(3, n), "labels": labels}
    yield "squared_error_and_grad", {"x": normal(n), "target": normal(n)}
    yield "elastic_net_and_grad", {"w": normal(n), "beta": 0.3, "strength": 0.2, "grad": normal(n)}
    yield "activation_statistics", {"y": normal(n)}
    yield "dead_units", {"y": normal(3, n)}
    yield "clip_grad_norm", {"grads": [normal(n)], "max_norm": 0.5}
    yield "global_avg_pool", {"x": normal(2, 2, n)}
    yield "global_avg_pool_backward", {"dy": normal(2, 2), "x_shape": (2, 2, n)}
    yield "max_pool1d", {"x": normal(1, 2, n + 2), "kernel_size": 3, "stride": 2, "return_indices": True}
    yield "spatial_dropout", {"x": normal(2, 3, n), "p": 0.5, "seed": 1}
    yield "dropout", {"x": normal(n), "p": 0.3, "seed": 2, "start": 5}
    yield "glu", {"x": normal(2, 2 * n)}
    yield "maxout", {"x": normal(1, 6, n), "pieces": 3}


@pytest.mark.parametrize("n", SIZES)
def test_sizes_around_the_edges(device: Any, n: int) -> None:
    for name, example in sized(n):
        row = FUNCTIONS[name]
        arguments = cast(row, example, DTYPES["float16"] if n == 520 else FLOAT32)
        assert_promise(row, on_device(device, row, arguments), arguments)


def test_arrays_of_nothing(device: Any) -> None:
    empty = device.zeros((0, 4), FLOAT32)
    assert fnn.softmax(empty).shape == fnn.layer_norm(empty)[0].shape == fnn.dropout(empty, seed=1).shape == (0, 4)
    assert float(fnn.squared_error(empty, empty)) == 0.0
    assert fnn.linear(empty, device.ones((3, 4), FLOAT32)).shape == (0, 3)
    weight = device.ones((2, 3, 1, 1), FLOAT32)
    assert fnn.conv2d(device.zeros((0, 3, 4, 4), FLOAT32), weight).shape == (0, 2, 4, 4)


# ---- what examples do not reach ----


def test_shares_of_channels(device: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several blocks take a channel, or a strip of columns; their sums are added up."""
    monkeypatch.setattr(channels, "shares", lambda outer, count, inner, blocks=0: min(outer * inner, 3))
    for name in ("batch_norm_train", "batch_norm_backward", "layer_norm_backward", "group_norm_backward", "dead_units"):
        row = FUNCTIONS[name]
        for module in ("normalization", "statistics"):
            family = importlib.import_module(f"{cuda.__name__}.{module}")
            if hasattr(family, "shares"):
                monkeypatch.setattr(family, "shares", channels.shares)
        for arguments in shown(row, FLOAT32):
            assert_promise(row, on_device(device, row, arguments), arguments)


@pytest.mark.parametrize("shape", [(2, 2, 2048), (512, 3), (256, 2, 4)])
def test_statistics_whose_shift_is_far_off(device: Any, shape: tuple[int, ...]) -> None:
    """Where the elements that the shift is made of are outliers, sums are taken again."""
    x = numbers.standard_normal(shape).astype(np.float32)
    row = FUNCTIONS["batch_norm_train"]
    outer, channel_count, inner = (*shape, 1)[:3]
    flat = x.reshape(outer, channel_count, inner)
    total = outer * inner
    sampled = [k * outer // 8 for k in range(8)] if inner < 32 else [k * total // 32 for k in range(32)]
    for k, q in enumerate(sampled):
        n, i = (q, k % inner) if inner < 32 else divmod(q, inner)
        flat[n, :, i] = 3e4
    arguments = {"x": x, "gamma": None, "beta": None, "running_mean": None, "running_var": None}
    assert_promise(row, on_device(device, row, arguments), arguments)
    rows = x.reshape(1, -1)
    rows[0, [k * rows.size // 32 for k in range(32)]] = 3e4
    assert_promise(FUNCTIONS["layer_norm"], on_device(device, FUNCTIONS["layer_norm"], {"x": rows}), {"x": rows})


def test_labels_that_are_no_class(device: Any) -> None:
    """Nobody waits to raise an error: the loss is NaN, and so is the gradient of that position and of no other."""
    logits = device.asarray(normal(3, 4).astype(np.float32))
    for labels in ([1, 4, 0], [1, -1, 0]):
        for function in (fnn.cross_entropy_and_grad, fnn.hinge_loss_and_grad):
            loss, gradient = function(logits, device.asarray(np.array(labels)))
            assert np.isnan(loss.get())
            np.testing.assert_array_equal(np.isnan(gradient.get()).any(axis=1), [False, True, False])
    loss = fnn.cross_entropy(logits, device.asarray(np.array([-100, -100, -100])))
    assert loss.get() == 0


@pytest.mark.parametrize("dtype", [FLOAT32, DTYPES["float16"]], ids=str)
@pytest.mark.parametrize("places", [1, 3, 40])
def test_gradients_of_maxima_that_meet(device: Any, places: int, dtype: np.dtype[Any]) -> None:
    """They are added up in the order of the windows, as on the CPU, however many there are."""
    dy = normal(2, 1, 30, 4).astype(dtype)
    where = numbers.integers(0, places, dy.shape)
    dx = device.empty((2, 1, 8, 5), dtype)
    pooling.max_backward(device.asarray(dy), device.asarray(where), dx)
    expected = np.zeros((2, 40), FLOAT32)
    for plane in range(2):
        for at, value in zip(where[plane].ravel(), dy[plane].ravel(), strict=True):
            expected[plane, at] += value
    assert_same_bits(dx.get(), expected.reshape(dx.shape).astype(dtype))
    outside = device.asarray(np.where(where == 0, 40, where) - 1 + (where == 0))
    pooling.max_backward(device.asarray(dy), outside, dx)  # places outside of the plane are left out
    assert np.isfinite(dx.get().astype(FLOAT32)).all()


def test_columns_of_some_images_at_a_time(device: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convolution, "_COLUMNS", 1)
    for name in ("conv2d", "conv2d_backward"):
        for arguments in shown(FUNCTIONS[name], FLOAT32):
            assert_promise(FUNCTIONS[name], on_device(device, FUNCTIONS[name], arguments), arguments)


@pytest.mark.parametrize("groups", [1, 2])
def test_convolutions_of_single_pixels(device: Any, groups: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are products of what is there: no columns are made."""
    monkeypatch.setattr(convolution, "_columns", None)
    x, weight, dy = normal(3, 4, 5, 5), normal(6, 4 // groups, 1, 1), normal(3, 6, 5, 5)
    forward = {"x": x, "weight": weight, "bias": normal(6), "groups": groups, "activation": "relu"}
    backward = {"dy": dy, "x": x, "weight": weight, "groups": groups, "need_dweight": False}
    for name, example in (("conv2d", forward), ("conv2d_backward", backward)):
        arguments = cast(FUNCTIONS[name], example, FLOAT32)
        assert_promise(FUNCTIONS[name], on_device(device, FUNCTIONS[name], arguments), arguments)


class Cublas:
    """gemmEx as cuBLAS documents it: matrices in columns, results where C is."""

    def __init__(self, cupy: Any) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.mode = 1

    def getPointerMode(self, handle: int) -> int:
        return self.mode

    def setPointerMode(self, handle: int, mode: int) -> None:
        self.mode = mode

    def gemmEx(self, handle: int, transa: int, transb: int, m: int, n: int, k: int, alpha: int, *rest: int) -> None:
        a, a_type, lda, b, b_type, ldb, beta, c, c_type, ldc, compute, algorithm = rest
        assert self.mode == 0 and (c_type, compute, algorithm) == (0, 68, -1) and a_type == b_type
        dtype = {2: np.dtype(np.float16), 14: DTYPES["bfloat16"]}[a_type]
        first = memory(a, (m, lda) if transa else (k, lda), dtype)[:, : k if transa else m].astype(np.float32)
        second = memory(b, (k, ldb) if transb else (n, ldb), dtype)[:, : n if transb else k].astype(np.float32)
        product = (first if transa else first.T) @ (second if transb else second.T)
        memory(c, (n, ldc), FLOAT32)[:, :m] = product.T
        self.calls.append((transa, transb, m, n, k))


def memory(address: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    import ctypes

    count = int(np.prod(shape)) * dtype.itemsize
    return np.frombuffer((ctypes.c_char * count).from_address(address), dtype).reshape(shape)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_products_of_16_bits_by_cublas(device: Any, dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    library = Cublas(device)
    monkeypatch.setattr(gemm, "_cublas", lambda: library)
    monkeypatch.setattr(device.cuda, "device", SimpleNamespace(get_cublas_handle=lambda: 1), raising=False)
    for name in ("linear", "linear_backward", "conv2d", "conv2d_backward"):
        for arguments in shown(FUNCTIONS[name], DTYPES[dtype]):
            assert_promise(FUNCTIONS[name], on_device(device, FUNCTIONS[name], arguments), arguments)
    assert {each[:2] for each in library.calls} == {(0, 0), (1, 0), (0, 1)}


class Cudnn:
    """The convolutions of cupy.cudnn, by the columns' way."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[str] = []
        self.patch = monkeypatch

    def __getattr__(self, name: str) -> Callable[..., None]:
        kernel = {
            "convolution_forward": lambda x, w, b, y, p, s, d, g: convolution.forward(
                x, w, b, y, s, p, d, g, None, (), None
            ),
            "convolution_backward_data": lambda w, dy, b, dx, p, s, d, g: convolution.input_gradient(
                dy, w, dx, s, p, d, g
            ),
            "convolution_backward_filter": lambda x, dy, dw, p, s, d, g: convolution.weight_gradient(
                dy, x, dw, s, p, d, g, False
            ),
        }[name]

        def run(*arguments: Any, auto_tune: bool, tensor_core: str, deterministic: bool = True) -> None:
            assert not auto_tune and tensor_core == "never" and deterministic
            self.calls.append(name)
            with self.patch.context() as patch:
                patch.setattr(cudnn, "_library", lambda: None)
                kernel(*arguments)

        return run


def test_convolutions_by_cudnn(device: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    library = Cudnn(monkeypatch)
    monkeypatch.setattr(cudnn, "_library", lambda: library)
    for name in ("conv2d", "conv2d_backward", "conv1d"):
        for arguments in shown(FUNCTIONS[name], FLOAT32):
            assert_promise(FUNCTIONS[name], on_device(device, FUNCTIONS[name], arguments), arguments)
    assert set(library.calls) == {f"convolution_{each}" for each in ("forward", "backward_data", "backward_filter")}


def test_without_cublas_and_cudnn(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("cupy_backends.cuda.libs.cublas", "cupy.cudnn"):
        monkeypatch.setitem(sys.modules, module, None)
    assert gemm._cublas.__wrapped__() is None and cudnn._library.__wrapped__() is None


@pytest.mark.parametrize("dtype", [FLOAT32, DTYPES["float16"]], ids=str)
@pytest.mark.parametrize("shape", [(4, 3, 7, 9), (6, 5, 8, 8), (40, 6)])
def test_activation_and_dropout_behind_batch_norm(device: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """In one pass: the bits of three, but for rounding to 16 bits in between; and backward the CPU's result."""
    x, dy = (device.asarray(normal(*shape).astype(dtype)) for _ in range(2))
    gamma, beta = (device.asarray(normal(shape[1]).astype(FLOAT32)) for _ in range(2))
    options = {"activation": "relu", "dropout_p": 0.3, "seed": 7, "offset": 2}
    y, mean, inv_std = fnn.batch_norm_train(x, gamma, beta, None, None, **options)
    if dtype == FLOAT32:
        plain, _, _ = fnn.batch_norm_train(x, gamma, beta, None, None)
        assert_same_bits(y.get(), fnn.dropout(fnn.relu(plain.get()), 0.3, seed=7, offset=2))
    dx, dgamma, dbeta = fnn.batch_norm_backward(dy, x, gamma, mean, inv_std, beta=beta, **options)
    given = {"dy": dy, "x": x, "gamma": gamma, "mean": mean, "inv_std": inv_std, "beta": beta}
    arguments = {**{name: array.get() for name, array in given.items()}, **options}
    assert_promise(FUNCTIONS["batch_norm_backward"], [dx.get(), dgamma.get(), dbeta.get()], arguments)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_images_have_the_bits_of_the_cpu(device: Any, dtype: str) -> None:
    """Pieces, places between pixels and boxes of pixels: kernels that the data pipeline calls."""
    module = importlib.import_module(f"{cuda.__name__}.augmentation")
    x = normal(3, 2, 9, 11).astype(dtype)
    fill = np.array(0.25, dtype)
    boxes = np.sort(numbers.integers(0, 8, (3, 6)).astype(np.int32)), numbers.random((3, 2, 6)).astype(dtype)
    cases = {
        "crop": (np.array([[-2, 3, 0], [1, -1, 1], [4, 5, 1]]), fill),
        "warp": (np.concatenate([normal(3, 4), normal(3, 2) + 4, 0.01 * normal(3, 1)], axis=1), fill),
        "resize": (*boxes, *boxes),
    }
    for name, arguments in cases.items():
        expected, y = np.empty((3, 2, 6, 6), dtype), device.empty((3, 2, 6, 6), dtype)
        getattr(native, name)(x, expected, *arguments)
        getattr(module, name)(device.asarray(x), y, *arguments)
        assert_same_bits(y.get(), expected)


def test_few_launches(device: Any) -> None:
    """What goes through a small layer is the time that launches take."""
    x = device.asarray(normal(16, 8, 5, 5).astype(np.float32))
    gamma, running = device.ones(8, FLOAT32), (device.zeros(8, FLOAT32), device.ones(8, FLOAT32))
    for function, most in (
        (lambda: fnn.batch_norm_train(x, gamma, gamma, None, None), 3),
        (lambda: fnn.batch_norm_train(x, gamma, gamma, *running), 5),
        (lambda: fnn.layer_norm(x), 1),
        (lambda: fnn.softmax(x), 1),
        (lambda: fnn.dropout(x, seed=1), 1),
        (lambda: fnn.max_pool2d(x, 2), 1),
        (lambda: losses.squared_error(x, x, 1.0, x, None), 2),
    ):
        with record.recording() as seen:
            function()
        assert len(seen.launches) <= most, seen.kernels
