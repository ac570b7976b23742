"""The activations for CuPy arrays, on the emulator: the CPU's bits, whatever the arrays look like."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from emulator import build
from emulator.cupy.record import recording, running

import fastnn as fnn
from fastnn.kernels.cuda.activations import FAMILY
from fastnn.kernels.cuda.compiler import options, source
from fastnn.table import OPS

Array = npt.NDArray[Any]
DTYPES = ["float32", "float64", "float16", "bfloat16"]
WORDS = {2: np.uint16, 4: np.uint32, 8: np.uint64}
OFTEN = ("silu", "prelu", "hardtanh")  # whose loops the tests of layouts run in every dtype


def dtype_of(name: str) -> np.dtype[Any]:
    return np.dtype(pytest.importorskip("ml_dtypes").bfloat16 if name == "bfloat16" else name)


@pytest.fixture(scope="module", autouse=True)
def compiled() -> None:
    """All kernels that the tests below use, of a dtype in one compilation: one each would take four times as long."""
    for dtype in DTYPES:
        wide = dtype in ("float32", "float64")
        chosen = [
            each
            for each in FAMILY.expressions
            if (wide and each.startswith(("forward<", "backward<"))) or any(f"::{name}" in each for name in OFTEN)
        ]
        more = [each for each in FAMILY.expressions if "_varying" in each and "::elu" in each] if wide else []
        names = FAMILY.names(dtype, (*chosen, *more, "sum_parts<{V}>"))
        build.library(source("activations"), options(), names)


@pytest.fixture
def both(cupy: Any) -> Callable[..., None]:
    """Call a public function with arrays on the host and with the same on the device: the same bits, save for NaN's."""

    def check(name: str, *args: Any) -> None:
        there = [cupy.asarray(arg) if isinstance(arg, np.ndarray) else arg for arg in args]
        with recording() as record:
            found = getattr(fnn, name)(*there)
        assert record.to_host == record.waits == record.from_host == [] and record.launches
        expected = getattr(fnn, name)(*args)
        if isinstance(found, tuple):
            for result, wanted in zip(found[1:], expected[1:], strict=True):
                assert result.dtype == wanted.dtype and result.shape == wanted.shape
                np.testing.assert_allclose(result.get(), wanted, rtol=1e-6, atol=1e-5)
            found, expected = found[0], expected[0]
        same_bits(found.get(), expected, name)

    return check


def same_bits(found: Array, expected: Array, name: str = "") -> None:
    assert found.dtype == expected.dtype and found.shape == expected.shape, name
    nan = expected != expected
    words = WORDS[expected.dtype.itemsize]
    wrong = (np.ascontiguousarray(found).view(words) != np.ascontiguousarray(expected).view(words)) & ~nan
    assert not wrong.any(), (name, found[wrong][:5], expected[wrong][:5])
    assert (found != found)[nan].all(), name


def sample(dtype: np.dtype[Any], n: int, seed: int = 0) -> Array:
    """Patterns from all over the range, numbers where the functions bend, and special values."""
    generator = np.random.default_rng(seed)
    words, bits = WORDS[dtype.itemsize], 8 * dtype.itemsize
    everywhere = generator.integers(0, 2**bits - 1, n // 2, dtype=words, endpoint=True).view(dtype)
    tiny = np.array([1, 2], words).view(dtype)
    special = np.array([0.0, -0.0, 1, -1, 3, -3, 6, np.inf, -np.inf, np.nan], dtype)
    near = generator.uniform(-12, 12, max(n - n // 2 - 12, 0)).astype(dtype)
    found = np.concatenate([everywhere, near, special, tiny])
    return found[:n] if n >= 24 else near[:n] if near.size >= n else generator.standard_normal(n).astype(dtype)


def arguments(name: str) -> Iterator[tuple[float, ...]]:
    op = OPS[name]
    yield tuple(0.25 if param.default is None else param.default for param in op.params)
    if op.params:
        yield {"hardtanh": (-0.5, 2.0)}.get(name, (0.7,) * len(op.params))


@pytest.mark.parametrize("name", OPS)
@pytest.mark.parametrize("dtype", DTYPES[:2])
def test_bits_of_the_cpu(both: Callable[..., None], name: str, dtype: str) -> None:
    x = sample(dtype_of(dtype), 20_011)
    dy = np.random.default_rng(1).standard_normal(x.size).astype(x.dtype)
    for params in arguments(name):
        both(name, x, *params)
        saved = getattr(fnn, name)(x, *params) if OPS[name].saves == "output" else x
        finite = np.isfinite(x) if OPS[name].learned is not None else slice(None)  # for the gradient's sum
        both(f"{name}_backward", dy[finite], saved[finite], *params)


@pytest.mark.parametrize("name", OFTEN)
@pytest.mark.parametrize("dtype", DTYPES[2:])
def test_every_16_bit_pattern(both: Callable[..., None], name: str, dtype: str) -> None:
    x = np.arange(1 << 16).astype(np.uint16).view(dtype_of(dtype))
    dy = np.random.default_rng(1).standard_normal(x.size).astype(x.dtype)
    (params, *_) = arguments(name)
    both(name, x, *params)
    fine = np.abs(x.astype(np.float32)) < 100 if name == "prelu" else slice(None)
    both(f"{name}_backward", dy[fine], x[fine], *params)


@pytest.mark.parametrize("dtype", DTYPES)
def test_lengths_and_addresses(cupy: Any, dtype: str) -> None:
    """Heads and tails of every length, the arrays not alike aligned; nothing beyond them is written."""
    kind = dtype_of(dtype)
    generator = np.random.default_rng(2)
    edges = [0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 63, 65]
    threads = 256 * 16 // kind.itemsize  # elements a block takes at a time
    for n in (*edges, threads - 1, threads, threads + 1):
        for skip, skip_dy, skip_out in [(0, 0, 0), (1, 1, 1), (3, 0, 0), (0, 2, 0), (0, 0, 1), (5, 6, 7)]:
            x, dy = (generator.uniform(-3, 3, n).astype(kind) for _ in range(2))
            there = [cupy.zeros(n + 20, kind) for _ in range(3)]
            gx, gdy, out = (
                array[skipped : skipped + n] for array, skipped in zip(there, (skip, skip_dy, skip_out), strict=True)
            )
            gx[...], gdy[...] = cupy.asarray(x), cupy.asarray(dy)
            assert fnn.silu(gx, out=out) is out
            same_bits(out.get(), fnn.silu(x))
            assert not there[2][:skip_out].any() and not there[2][skip_out + n :].any()
            fnn.silu_backward(gdy, gx, out=out)
            same_bits(out.get(), fnn.silu_backward(dy, x))


def views(x: Any) -> Iterator[Any]:
    """Layouts of an array of shape (6, 8, 10)."""
    yield from (x.T, x[::2], x[:, ::-1], x[1:5, 2:7, 3:9], x[:, :, ::3], x[2], x[:, 3, 4], x[3, 4, 5], x[:0])
    yield from (x.transpose(1, 0, 2), x[::-2, ::3, 1::4], x.transpose(2, 0, 1)[::-1], x[:, :1].T)


@pytest.mark.parametrize("dtype", DTYPES)
def test_strides(cupy: Any, dtype: str) -> None:
    kind, generator = dtype_of(dtype), np.random.default_rng(3)
    host, dhost = (generator.uniform(-3, 3, (6, 8, 10)).astype(kind) for _ in range(2))
    for x, dy, gx, gdy in zip(
        *(views(each) for each in (host, dhost, cupy.asarray(host), cupy.asarray(dhost))), strict=True
    ):
        with recording() as record:
            y = fnn.silu(gx)
            dx = fnn.silu_backward(gdy, gx)
            mixed = fnn.silu_backward(gdy.copy(), gx)
            one = fnn.silu_backward(2.0, gx)
        assert record.to_host == record.waits == []
        assert len([each for each in record.kernels if each.startswith(("forward", "backward"))]) == 4 * bool(x.size)
        same_bits(y.get(), np.asarray(fnn.silu(x)))
        same_bits(dx.get(), np.asarray(fnn.silu_backward(dy, x)))
        same_bits(mixed.get(), np.asarray(fnn.silu_backward(dy, x)))
        same_bits(one.get(), np.asarray(fnn.silu_backward(2.0, x)))
        out = cupy.zeros((*x.shape, 2), kind)[..., 1]
        assert fnn.silu(gx, out=out) is out
        same_bits(out.get(), np.asarray(fnn.silu(x)))
        assert fnn.silu_backward(gdy, gx, out=gx) is gx  # in place
        same_bits(gx.get(), np.asarray(fnn.silu_backward(dy, x)))
        gx[...] = cupy.asarray(np.ascontiguousarray(x).reshape(x.shape))


def test_dense_arrays_need_no_strides(cupy: Any) -> None:
    x = cupy.asarray(np.random.default_rng(4).standard_normal((4, 5, 6)).astype(np.float32))
    with recording() as record:
        fnn.silu(x), fnn.silu(x.T), fnn.silu(x.transpose(0, 2, 1)), fnn.silu(x[1:]), fnn.silu_backward(x.T, x.T)
        fnn.silu_backward(x, x.transpose(0, 2, 1).copy().transpose(0, 2, 1))
    assert record.kernels == ["forward"] * 4 + ["backward", "backward_strided"]


def test_many_dimensions(cupy: Any) -> None:
    host = np.random.default_rng(4).standard_normal((3,) * 9).astype(np.float32)
    x, gx = host[(slice(None, None, 2),) * 9], cupy.asarray(host)[(slice(None, None, 2),) * 9]
    same_bits(fnn.silu(gx).get(), fnn.silu(x))
    out = cupy.zeros_like(cupy.asarray(host))[(slice(None, None, 2),) * 9]
    same_bits(fnn.silu_backward(gx, gx, out=out).get(), fnn.silu_backward(x, x))


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize(
    ("shape", "alpha_shape"),
    [
        *(((7,), ()), ((7, 5), (5,)), ((7, 5, 3, 4), (5,)), ((2, 3, 40, 41), (3,)), ((2, 3, 8, 4), (3, 8, 4))),
        *(((9000,), (1,)), ((4, 6), (4, 6)), ((3, 4, 5), (3, 1, 5)), ((2, 3, 33), (2, 1, 1)), ((0, 5), (5,))),
        *(((5, 0), (5, 1)), ((300, 17), (17,)), ((2, 2, 5000), (2,)), ((), ()), ((1, 5), (5,))),
    ],
)
def test_learned_parameters(
    cupy: Any, both: Callable[..., None], dtype: str, shape: tuple[int, ...], alpha_shape: tuple[int, ...]
) -> None:
    generator = np.random.default_rng(5)
    x, dy = (generator.uniform(-3, 3, shape).astype(dtype) for _ in range(2))
    alpha = generator.uniform(0, 1, alpha_shape).astype(np.float32)
    if not x.size:
        gx, galpha = cupy.asarray(x), cupy.asarray(alpha)
        dx, dalpha = fnn.prelu_backward(gx, gx, galpha)
        assert fnn.prelu(gx, galpha).shape == dx.shape == shape and not dalpha.any() and dalpha.shape == alpha_shape
        return
    results = []
    for order in ({"order": 0}, {"order": 1}, {"order": 2, "seed": 3}):
        with running(**order):
            there = map(cupy.asarray, (dy, x, alpha))
            results.append([each.get() for each in fnn.prelu_backward(*there)])
    for dx, dalpha in results:
        np.testing.assert_array_equal(dx, results[0][0])
        np.testing.assert_array_equal(dalpha, results[0][1])  # sums in one order
    if x.ndim:
        both("prelu", x, alpha)
        both("prelu_backward", dy, x, alpha)
    else:
        same_bits(fnn.prelu(cupy.asarray(x), cupy.asarray(alpha)).get(), np.asarray(fnn.prelu(x, alpha)))
    exact = np.where(x < 0, dy.astype(np.float64) * x.astype(np.float64), 0)
    np.testing.assert_allclose(results[0][1].sum(), exact.sum(), rtol=1e-5, atol=1e-3)


def test_gradient_of_a_parameter_that_is_a_number(cupy: Any) -> None:
    x = np.random.default_rng(6).standard_normal((50, 70)).astype(np.float32)
    for alpha in (0.25, np.float32(0.25)):
        dx, dalpha = fnn.prelu_backward(cupy.asarray(x), cupy.asarray(x), alpha)
        expected, expected_dalpha = fnn.prelu_backward(x, x, alpha)
        same_bits(dx.get(), expected)
        assert isinstance(dalpha, cupy.ndarray) and dalpha.shape == ()
        np.testing.assert_allclose(dalpha.get(), expected_dalpha, rtol=1e-6)


def test_other_parameters_may_be_arrays_too(cupy: Any) -> None:
    x = np.random.default_rng(7).standard_normal((6, 5, 4)).astype(np.float32)
    for shape in ((4,), (5, 1), (6, 1, 4), ()):
        alpha = np.linspace(0.5, 2, int(np.prod(shape)), dtype=np.float32).reshape(shape)
        there = cupy.asarray(alpha)
        same_bits(fnn.elu(cupy.asarray(x), there).get(), fnn.elu(x, alpha))
        same_bits(fnn.elu_backward(cupy.asarray(x), cupy.asarray(x), there).get(), fnn.elu_backward(x, x, alpha))
        turned, out = cupy.asarray(x).T, cupy.zeros(x.shape, np.float32).T
        if shape == ():
            same_bits(fnn.elu(turned, there, out=out).get(), fnn.elu(x.T, alpha))


def test_arrays_beyond_2_to_the_31(cupy: Any) -> None:
    """Addresses are 64-bit: the last blocks of launches over 2^31 and 2^32 elements, in memory that is not touched."""
    tail = 4000
    values = cupy.asarray(np.random.default_rng(8).uniform(-3, 3, tail).astype(np.float16))
    expected = fnn.silu(values.get())
    with running(multiprocessors=1 << 20, only_last=4):
        fnn.kernels.cuda.compiler._multiprocessors.cache_clear()
        try:
            x = cupy.empty((1 << 31) + tail, np.float16)
            x[-tail:] = values
            same_bits(fnn.silu(x)[-tail:].get(), expected)
            same_bits(fnn.silu_backward(x, x)[-tail:].get(), fnn.silu_backward(values.get(), values.get()))
            alpha = cupy.full((1,), 0.5, np.float32)
            same_bits(fnn.prelu(x, alpha)[-tail:].get(), fnn.prelu(values.get(), 0.5))
            del x
            wide = cupy.empty((2, (1 << 31) + tail), np.float16)[:, : (1 << 31) + tail - 1]  # rows with a gap between
            wide[1, 1 - tail :] = values[1:]
            same_bits(fnn.silu(wide)[1, -800:].get(), expected[-800:])
        finally:
            fnn.kernels.cuda.compiler._multiprocessors.cache_clear()


def test_stream_and_device_are_the_callers(cupy: Any) -> None:
    stream = cupy.cuda.Stream()
    with cupy.cuda.Device(1), stream:
        x = cupy.ones((3, 4), np.float32)
        with recording() as record:
            y = fnn.silu(x)
            fnn.silu_backward(x, x.T.copy().T)
    assert y.device.id == 1
    assert [(each.device, each.stream) for each in record.launches] == [(1, stream)] * 2
