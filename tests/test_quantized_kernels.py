"""Quantized kernels: every instruction set gives the reference's numbers, to the last bit, over full ranges."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from layouts import active

from fastnn.kernels import int8_weights
from fastnn.kernels.cpu import quantized as native
from fastnn.kernels.cpu import runtime
from fastnn.kernels.reference import quantized as reference

pytestmark = pytest.mark.parametrize("isa", runtime.isas())
I32, F32, U8 = np.int32, np.float32, np.uint8


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def bytes_of(rng: np.random.Generator, *shape: int) -> Any:
    """uint8, a third of them at the ends of the range."""
    x = rng.integers(0, 256, shape).astype(U8)
    return np.where(rng.random(shape) < 0.3, rng.choice(np.array([0, 255], U8), shape), x)


def weights_of(rng: np.random.Generator, *shape: int) -> Any:
    w = rng.integers(-127, 128, shape).astype(np.int8)
    return np.where(rng.random(shape) < 0.3, rng.choice(np.array([-127, 127], np.int8), shape), w)


def same(name: str, isa: str, results: int, *args: Any) -> list[Any]:
    """A function of both, on copies: the arrays at the places named by the bits of `results` are results."""
    found = []
    for module in (reference, native, native)[: 3 if name == "matmul" else 2]:
        given = [np.array(a) if isinstance(a, np.ndarray) else a for a in args]
        with active(isa):
            native.dot_products(len(found) < 2)  # in the last round without them
            getattr(module, name)(*given)
            native.dot_products(True)
        found.append([a for k, a in enumerate(given) if results >> k & 1])
        for want, got in zip(found[0], found[-1], strict=True):
            np.testing.assert_array_equal(got.view(U8), want.view(U8))
    return found[1]


def spread(rng: np.random.Generator, acc: int, n: int) -> Any:
    """Multipliers with which sums of that size cover the bytes, and some with which they all saturate."""
    m = (rng.uniform(20, 300, n) / acc).astype(F32)
    m[::5] = 3e3
    return m


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 784, 16), (3, 5, 17), (2, 64, 128), (7, 67, 10), (33, 255, 33)])
@pytest.mark.parametrize("kind", [U8, F32, I32])
def test_rows(shape: tuple[int, int, int], kind: Any, rng: np.random.Generator, isa: str) -> None:
    rows, k, n = shape
    x, w = bytes_of(rng, rows, k), weights_of(rng, n, 1, k)
    bias = rng.integers(-(2**20), 2**20, n).astype(I32)
    multiplier = None if kind is I32 else spread(rng, int(127 * 128 * k**0.5), n)
    args = x, None, np.zeros(1, I32), int8_weights.pack(w), bias, multiplier, np.zeros((rows, 1, n), kind)
    (y,) = same("matmul", isa, 1 << 6, *args, 0, 100, 3, 250)
    if kind is I32:
        np.testing.assert_array_equal(y[:, 0], x.astype(int) @ w[:, 0].astype(int).T + bias)


def test_extreme_sums(rng: np.random.Generator, isa: str) -> None:
    """Where pairs of 8-bit products saturate 16 bits, and sums all but fill 32."""
    k = 60_000
    x = np.full((2, k), 255, U8)
    w = np.empty((4, 1, k), np.int8)
    w[:] = np.array([127, -127, 127, -127], np.int8)[:, None, None]
    w[2, 0, 1::2], bias = -127, np.array([2**27, -(2**27), 5, -5], I32)
    (y,) = same(
        "matmul", isa, 1 << 6, x, None, np.zeros(1, I32), int8_weights.pack(w), bias, None, np.zeros((2, 1, 4), I32),
        0, 0, 0, 255,
    )  # fmt: skip
    assert y[0, 0].tolist() == [255 * 127 * k + 2**27, -255 * 127 * k - 2**27, 5, -255 * 127 * k - 5]


@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize(
    ("size", "channels", "kernel", "outputs", "column", "pitch"),
    [((7, 9), 3, 3, 20, 0, 20), ((6, 5), 1, 5, 6, 0, 6), ((5, 5), 16, 1, 32, 0, 32), ((6, 6), 8, 3, 8, 4, 24)],
)
def test_rows_through_offsets(
    samples: int, size: Any, channels: int, kernel: int, outputs: int, column: int, pitch: int, rng: Any, isa: str
) -> None:
    """Convolutions: a row of the image is a piece of a row of the product."""
    height, width = size
    rows, columns = height - kernel + 1, width - kernel + 1
    x, w = bytes_of(rng, samples, height, width, channels), weights_of(rng, outputs, kernel, kernel, channels)
    starts = (np.arange(rows)[:, None] * width + np.arange(columns)).reshape(-1).astype(I32) * channels
    segments = (np.arange(kernel) * width * channels).astype(I32)
    bias = rng.integers(-999, 999, outputs).astype(I32)
    y = np.full((samples, rows * columns, pitch), 77, I32)
    packed = int8_weights.pack(w.reshape(outputs, kernel, -1))
    args = x.reshape(samples, -1), starts, segments, packed, bias, None, y, column, 0, 0, 0
    (got,) = same("matmul", isa, 1 << 6, *args)
    windows = np.lib.stride_tricks.sliding_window_view(x, (kernel, kernel), (1, 2)).transpose(0, 1, 2, 4, 5, 3)
    want = np.tensordot(windows.astype(int), w.astype(int), ([3, 4, 5], [1, 2, 3])) + bias
    np.testing.assert_array_equal(got[:, :, column : column + outputs].reshape(want.shape), want)
    assert (got[:, :, :column] == 77).all() and (got[:, :, column + outputs :] == 77).all()
    same("matmul", isa, 1 << 6, *args[:5], spread(rng, 4000, outputs), y.astype(U8), column, 9, 9, 255)


WINDOWS = [
    ((5, 7), (3, 3), (1, 1), (1, 1), (1, 1)),
    ((6, 6), (3, 3), (2, 2), (1, 1), (1, 1)),
    ((1, 9), (1, 5), (1, 2), (0, 2), (1, 1)),
    ((7, 8), (2, 3), (3, 1), (0, 2), (2, 2)),
    ((4, 4), (2, 2), (2, 2), (0, 0), (1, 1)),
]


def outputs(size: Any, kernel: Any, stride: Any, before: Any, dilation: Any) -> list[int]:
    return [
        (n + 2 * b - d * (k - 1) - 1) // s + 1
        for n, k, s, b, d in zip(size, kernel, stride, before, dilation, strict=True)
    ]


@pytest.mark.parametrize("channels", [1, 5, 16, 37])
@pytest.mark.parametrize("windows", WINDOWS)
def test_depthwise(windows: Any, channels: int, rng: np.random.Generator, isa: str) -> None:
    size, kernel, stride, before, dilation = windows
    x, w = bytes_of(rng, 2, *size, channels), weights_of(rng, *kernel, channels)
    bias = rng.integers(-40_000, 40_000, channels).astype(I32)
    y = np.zeros((2, *outputs(*windows), channels), U8)
    same(
        "depthwise", isa, 1 << 1, x, y, w, bias, spread(rng, 40_000, channels), stride, before, dilation, 131, 7, 7, 255
    )


@pytest.mark.parametrize("channels", [1, 6, 16, 40])
@pytest.mark.parametrize("windows", WINDOWS)
def test_max_pool(windows: Any, channels: int, rng: np.random.Generator, isa: str) -> None:
    size, kernel, stride, before, dilation = windows
    y = np.zeros((2, *outputs(*windows), channels), U8)
    same("max_pool", isa, 1 << 1, bytes_of(rng, 2, *size, channels), y, kernel, stride, before, dilation)


@pytest.mark.parametrize("channels", [1, 6, 16, 40])
def test_average_pool(channels: int, rng: np.random.Generator, isa: str) -> None:
    x, y = bytes_of(rng, 2, 7, 9, channels), np.zeros((2, 3, 2, channels), U8)
    rows = np.array([0, 2, 4], I32), np.array([3, 5, 7], I32)
    columns = np.array([0, 4], I32), np.array([5, 9], I32)
    multiplier = rng.uniform(0.01, 0.2, (3, 2)).astype(F32)
    same("average_pool", isa, 1 << 1, x, y, rows, columns, multiplier, 17, 99, 20, 240)


@pytest.mark.parametrize("n", [1, 15, 16, 100, 300_001])
def test_add_and_lookup(n: int, rng: np.random.Generator, isa: str) -> None:
    a, b, y = bytes_of(rng, n), bytes_of(rng, n), np.zeros(n, U8)
    same("add", isa, 1 << 2, a, b, y, 32767, -20000, -(128 * 12767), 2.0**-15, 50, 50, 255)
    same("add", isa, 1 << 2, a, b, y, 32767, 32767, 2**30, 1.0, 0, 0, 255)
    same("lookup", isa, 1 << 1, a, y, bytes_of(rng, 256))
    with active(isa):  # in place
        want, got = y.copy(), a.copy()
        reference.add(a, b, want, 16384, 12345, 17, 1e-4, 3, 0, 255)
        native.add(got, b, got, 16384, 12345, 17, 1e-4, 3, 0, 255)
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize(
    ("to", "place"), [((9, 8, 3), (1, 1, 1)), ((7, 6, 3), (0, 0, 1)), ((4, 3, 5), (0, 0, 2)), ((5, 4, 3), (-1, -1, 1))]
)
def test_window(to: Any, place: Any, rng: np.random.Generator, isa: str) -> None:
    same("window", isa, 1 << 1, bytes_of(rng, 2, 7, 6, 3), np.zeros((2, *to), U8), *place, 201)


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 7, 8])
@pytest.mark.parametrize("positions", [1, 16, 35])
def test_to_and_from_floats(channels: int, positions: int, rng: np.random.Generator, isa: str) -> None:
    x = rng.normal(0, 3, (3, channels, positions)).astype(F32)
    x.flat[::7] = np.resize(
        np.array([np.nan, np.inf, -np.inf, 3e38, -0.0, 0.5, 1.5, 2.5], F32), x[..., :].flat[::7].size
    )
    for multiplier, zero in ((20.0, 100), (1.0, 0), (1e-3, 255)):
        (y,) = same("quantize", isa, 1 << 1, x, np.zeros((3, positions, channels), U8), multiplier, zero)
        same("dequantize", isa, 1 << 1, y, np.zeros_like(x), 0.37, zero)


def test_halves_go_to_the_even_number(isa: str) -> None:
    x = (np.arange(1, 32, dtype=F32) - 16.5).reshape(1, 1, -1)
    with active(isa):
        native.quantize(x, y := np.zeros((1, 31, 1), U8), 1.0, 16)
    np.testing.assert_array_equal(y.reshape(-1), np.rint(x.reshape(-1)) + 16)


@pytest.mark.parametrize("length", [1, 16, 33])
def test_rows_of_their_own_scale(length: int, rng: np.random.Generator, isa: str) -> None:
    x = rng.normal(0, 3, (9, length)).astype(F32)
    x[1], x[2], x[3], x[4] = 0, np.abs(x[2]), -np.abs(x[3]), 1e-42
    x[5, 0], x[6, 0], x[7, 0] = np.inf, np.nan, 3e38
    y, scale, zero, sums = np.zeros(x.shape, U8), np.zeros(9, F32), np.zeros(9, I32), rng.integers(-9999, 9999, 21)
    _, scale, zero = same("quantize_rows", isa, 0b1110, x, y, scale, zero)
    acc = rng.integers(-(2**28), 2**28, (9, 21)).astype(I32)
    weight_scale, bias = rng.uniform(1e-6, 1e-2, 21).astype(F32), rng.normal(size=21).astype(F32)
    for low, high in ((-np.inf, np.inf), (0.0, 6.0)):
        given = acc, scale, zero, sums.astype(I32), weight_scale, bias, np.zeros(acc.shape, F32), low, high
        same("finish_rows", isa, 1 << 6, *given)
