"""The public functions over every dtype, layout, length, backend and instruction set.

How accurate the values are is the matter of test_accuracy; here the whole of a contiguous array is compared with the
oracle, and everything else with that, to the last bit.
"""

from __future__ import annotations

import concurrent.futures
import ctypes
import gc
import math
import mmap
import os
import subprocess
import sys
import textwrap
import threading
import timeit
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from layouts import (
    BACKENDS,
    DTYPES,
    LAYOUTS,
    PASSES,
    REPRESENTATIVE,
    Array,
    Pass,
    active,
    assert_same_bits,
    bits,
    num_threads,
    using,
)
from oracles import assert_promise, backward_tally, forward_tally

import fastnn as fnn
from fastnn.kernels.cpu import activations
from fastnn.oracle import numpy64
from fastnn.table import OPS

pytestmark = pytest.mark.filterwarnings("error")
every_pass = pytest.mark.parametrize("run", PASSES, ids=repr)
every_dtype = pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
every_isa = pytest.mark.parametrize("isa", activations.isas())
learned = [op for op in OPS.values() if op.learned is not None]
every_learned = pytest.mark.parametrize("op", learned, ids=[op.name for op in learned])
rng = np.random.default_rng(7)


def backend_dtypes(run: Pass) -> list[tuple[str, np.dtype[Any]]]:
    """The backends and dtypes that are worth their time."""
    some = [DTYPES["float32"]]
    return [
        (backend, dtype)
        for backend in BACKENDS
        for dtype in (DTYPES.values() if backend != "numba" or run.op.name in REPRESENTATIVE else some)
    ]


# ---- values ----


@every_isa
@every_pass
def test_float32_is_as_exact_as_promised(run: Pass, isa: str) -> None:
    inputs = run.inputs(DTYPES["float32"])
    with active(isa):
        got = run(*inputs)
    tally = forward_tally if run.direction == "forward" else backward_tally
    assert_promise(run.op, run.direction, tally(run.op, *inputs, got, run.params))


@every_isa
@every_pass
def test_float64(run: Pass, isa: str) -> None:
    """Against the float64 formulas, which are some hundred ULP off in the far tails."""
    inputs = run.inputs(DTYPES["float64"])
    formula = run.op.forward if run.direction == "forward" else run.op.gradient
    with np.errstate(all="ignore"):
        expected = formula(numpy64, inputs[-1], *run.params)
        if run.direction == "backward":
            expected = expected * inputs[0]
    with active(isa):
        got = run(*inputs)
    np.testing.assert_allclose(got, expected, rtol=1e-12, atol=2e-15 if run.op.zeros else 1e-300)


@pytest.mark.parametrize("dtype", [dtype for dtype in DTYPES.values() if dtype.itemsize == 2], ids=str)
@every_isa
@every_pass
def test_16_bit_formats_are_float32_rounded_once(run: Pass, isa: str, dtype: np.dtype[Any]) -> None:
    inputs = run.inputs(dtype)
    with active(isa), np.errstate(all="ignore"):
        assert_same_bits(run(*inputs), run(*(value.astype(np.float32) for value in inputs)).astype(dtype))


@every_pass
def test_backends_agree(run: Pass) -> None:
    """Within the sum of their promises: both are near the exact value."""
    inputs = run.inputs(DTYPES["float32"])
    tally = forward_tally if run.direction == "forward" else backward_tally
    for backend in BACKENDS:
        with using(backend):
            assert_promise(run.op, run.direction, tally(run.op, *inputs, run(*inputs), run.params))


@pytest.mark.parametrize("op", OPS.values(), ids=OPS)
def test_special_values(op: Any) -> None:
    x = np.array([*(x for x, _ in op.special), math.nan])
    expected = np.array([*(y for _, y in op.special), math.nan])
    for backend in BACKENDS:
        for dtype in (np.float32, np.float64):
            with using(backend):
                y = getattr(fnn, op.name)(x.astype(dtype), *op.parameters_default)
            np.testing.assert_allclose(y, expected.astype(dtype), rtol=4 * np.finfo(dtype).eps, atol=0)
            known = ~np.isnan(expected)
            np.testing.assert_array_equal(np.signbit(y[known]), np.signbit(expected[known]), err_msg=backend)


@every_pass
@every_dtype
def test_nan_propagates_from_every_operand(run: Pass, dtype: np.dtype[Any]) -> None:
    for backend, each in backend_dtypes(run):
        if each != dtype:
            continue
        with using(backend):
            for k in range(run.arrays):
                inputs = [np.full(70, 0.5, dtype) for _ in range(run.arrays)]
                inputs[k][3::7] = math.nan
                got = run(*inputs)
                np.testing.assert_array_equal(np.isnan(got.astype(np.float32)), np.arange(70) % 7 == 3, err_msg=backend)


# ---- lengths, positions, layouts ----


@every_pass
def test_every_short_length_and_position(run: Pass) -> None:
    """Heads and tails give the bits that the body gives, and nothing is written beyond them."""
    for backend, dtype in backend_dtypes(run):
        for isa in activations.isas() if backend == "native" else [activations.isa()]:
            with using(backend), active(isa):
                inputs = [value[-300:] for value in run.inputs(dtype)]
                whole = run(*inputs)
                lengths = range(71) if backend.startswith("native") else (0, 1, 7, 33)
                for n in lengths:
                    at = 3 * n % 64
                    room = np.full(n + 32, 7, dtype)
                    run(*(value[at : at + n] for value in inputs), out=room[16 : 16 + n])
                    assert_same_bits(room[16 : 16 + n], whole[at : at + n])
                    assert (room[:16] == 7).all() and (room[16 + n :] == 7).all()


@every_pass
def test_lengths_around_the_boundaries(run: Pass) -> None:
    """Blocks of 512 and 4096, chunks of 16384, and where threads begin; every number of threads gives the same bits."""
    lengths = [n + d for n in (512, 1024, 4096, 16384, 65536) for d in (-1, 0, 1)] + [262145]
    for backend, dtype in backend_dtypes(run):
        if backend == "reference" or dtype.itemsize == 8 and run.op.name not in REPRESENTATIVE:
            continue
        inputs = run.inputs(dtype)
        with using(backend):
            whole = bits(run(*inputs))
            long = [np.resize(value, lengths[-1] + 3) for value in inputs]
            for threads in (1, 2):
                with num_threads(threads):
                    for n in lengths if threads == 1 else lengths[-4:]:
                        got = bits(run(*(value[3 : 3 + n] for value in long)))
                        expected = np.resize(np.roll(whole, -3), n)
                        np.testing.assert_array_equal(got, expected, err_msg=f"{backend} {dtype} {n}")
                    for n in (511, 512, 513, 1537, 66_000):  # gathered and scattered block by block
                        apart = [np.repeat(value[3 : 3 + n], 2)[::2] for value in long]
                        out = np.zeros(3 * n, dtype)[::3]
                        run(*apart, out=out)
                        expected = np.resize(np.roll(whole, -3), n)
                        np.testing.assert_array_equal(bits(out), expected, err_msg=f"{backend} {dtype} {n}")


@every_pass
def test_every_layout(run: Pass) -> None:
    for backend, dtype in backend_dtypes(run):
        with using(backend):
            inputs = [value[-504:].reshape(7, 8, 9) for value in run.inputs(dtype)]
            expected = run(*inputs)
            for name, layout in LAYOUTS.items():
                arranged = [layout(value) for value in inputs]
                got = run(*arranged)
                assert_same_bits(got, expected)
                assert isinstance(got, np.ndarray) and got.flags.aligned, name
                out = layout(np.full_like(expected, 3))  # out of one layout, inputs of another
                assert run(*inputs, out=out) is out
                assert_same_bits(out, expected)
                for k in range(run.arrays):  # in place: dy, saved or x
                    arranged = [layout(value.copy()) for value in inputs]
                    assert run(*arranged, out=arranged[k]) is arranged[k]
                    assert_same_bits(arranged[k], expected)
                if run.arrays == 2:  # each in its own layout
                    assert_same_bits(run(layout(inputs[0]), inputs[1]), expected)
                    assert_same_bits(run(inputs[0], layout(inputs[1])), expected)


@every_pass
@every_dtype
def test_broadcast_empty_and_zero_dimensional_inputs(run: Pass, dtype: np.dtype[Any]) -> None:
    line = [value[-20:] for value in run.inputs(dtype)]
    expected = run(*line)
    wide = [np.broadcast_to(value, (6, 20)) for value in line]
    assert_same_bits(run(*wide), np.broadcast_to(expected, (6, 20)))
    tall = [np.broadcast_to(value[:, None], (20, 6)) for value in line]
    assert_same_bits(run(*tall), np.broadcast_to(expected[:, None], (20, 6)))
    for shape in [(0,), (3, 0), (0, 5, 2)]:
        empty = run(*(np.zeros(shape, dtype) for _ in line))
        assert empty.shape == shape and empty.dtype == dtype
        out = np.zeros(shape, dtype)
        assert run(*(np.zeros(shape, dtype) for _ in line), out=out) is out
    one = [value[0] for value in line]
    for scalars in (one, [np.array(value) for value in one]):
        got = run(*scalars)
        assert isinstance(got, np.generic) and got.dtype == dtype
        assert_same_bits(got, expected[0])
    out = np.zeros((), dtype)
    assert run(*(np.array(value) for value in one), out=out) is out
    assert_same_bits(out, expected[0])
    if run.arrays == 2:
        number = run(line[0][5], line[1])  # one dy for all
        assert_same_bits(number, run(np.full_like(line[1], line[0][5]), line[1]))


@pytest.mark.parametrize("backend", BACKENDS)
def test_python_numbers_as_dy_do_not_widen(backend: str) -> None:
    x = np.float32([-1, 2])
    with using(backend):
        for dy in (1.0, 1, True):
            assert_same_bits(fnn.relu_backward(dy, x), np.float32([0, 1]))
        assert fnn.relu_backward(np.float64(1.0), x).dtype == np.float64
        assert_same_bits(fnn.relu_backward(1e39, x), np.array([np.nan, np.inf], np.float32))  # infinity times 0
        assert_same_bits(fnn.relu_backward(2.0, 3.0), np.float64(2.0))


def test_lists_numbers_and_array_interfaces() -> None:
    class Wrapped:
        def __array__(self, dtype: Any = None, copy: Any = None) -> Array:
            return np.float32([-1, 2])

    assert_same_bits(fnn.relu([-1.0, 2.0]), np.array([0.0, 2.0]))
    assert_same_bits(fnn.relu([[-1, 2]]), np.array([[0.0, 2.0]]))
    assert_same_bits(fnn.relu(-1.5), np.float64(0))
    assert_same_bits(fnn.relu(Wrapped()), np.float32([0, 2]))
    assert_same_bits(fnn.relu(memoryview(np.float32([-1, 2]))), np.float32([0, 2]))
    assert fnn.relu([]).shape == (0,)


# A kernel that reads or writes beyond an array faults here.
GUARDED = """
    import ctypes, mmap, sys
    import numpy as np
    sys.path.insert(0, {tests!r})
    from layouts import DTYPES, PASSES, active
    from fastnn.kernels.cpu import activations

    page, libc = mmap.PAGESIZE, ctypes.CDLL(None, use_errno=True)
    def guarded():
        "One page of memory between two that must not be touched."
        memory = mmap.mmap(-1, 3 * page)
        start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        for at in (start, start + 2 * page):
            assert libc.mprotect(ctypes.c_void_p(at), ctypes.c_size_t(page), 0) == 0
        return np.frombuffer(memory, np.uint8)[page : 2 * page]

    pages = [guarded() for _ in range(3)]
    for isa in activations.isas():
        with active(isa):
            for run in PASSES:
                for dtype in DTYPES.values():
                    for n in (1, 2, 3, 5, 8, 13, 17, 31, 33, 63, 65):
                        for at in (slice(n), slice(-n, None)):
                            *arrays, out = [p.view(dtype)[at] for p in pages[: run.arrays + 1]]
                            for array in arrays:
                                array[...] = 0.5
                            run(*arrays, out=out)
                            run(*arrays, out=arrays[0])
    print("untouched")
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mprotect is called as Linux has it")
def test_no_access_beyond_the_arrays() -> None:
    code = textwrap.dedent(GUARDED.format(tests=str(Path(__file__).parent)))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.strip() == "untouched", (done.returncode, done.stderr)


# ---- large arrays ----


STREAMING = (
    24 << 20
)  # bytes of output from which it is written past the caches, or from fewer: streaming_from, elementwise.cpp


@pytest.mark.parametrize("dtype", [DTYPES["float32"], DTYPES["float64"]], ids=str)
@pytest.mark.parametrize("name", ["relu", "tanh_backward", "gelu"])
def test_streaming_stores(name: str, dtype: np.dtype[Any]) -> None:
    run = next(run for run in PASSES if run.name == name)
    inputs = run.inputs(dtype)
    whole, n = bits(run(*inputs)), STREAMING // dtype.itemsize + 1001
    long = [np.resize(value, n) for value in inputs]
    for isa in activations.isas():
        with active(isa):
            np.testing.assert_array_equal(bits(run(*long)), np.resize(bits(run(*inputs)), n))
    room = np.full(n + 32, 7, dtype)
    for at in (1, 5):  # of every vector size, misaligned
        run(*long, out=room[at : at + n])
        np.testing.assert_array_equal(bits(room[at : at + n]), np.resize(whole, n))
        assert (room[:at] == 7).all() and (room[at + n :] == 7).all()
        room[:] = 7
    with num_threads(1):
        assert_same_bits(run(*long, out=room[1 : 1 + n]), np.resize(run(*inputs), n))
    run(*long, out=long[0])  # in place, where they would be wrong
    np.testing.assert_array_equal(bits(long[0]), np.resize(whole, n))


def large_float16(n: int) -> Array:
    """n zeros of which all but the first and the last page are the same 16 MiB over and over."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
    page, part = mmap.PAGESIZE, 16 << 20
    size = -(-2 * n // page) * page
    read_write, shared, private, fixed, anonymous = 3, 1, 2, 16, 32
    start = libc.mmap(None, size, read_write, private | anonymous, -1, 0)
    file = os.memfd_create("fastnn-test")
    os.ftruncate(file, part)
    for at in range(page, size - page, part):
        length = min(part, size - page - at)
        assert libc.mmap(start + at, length, read_write, shared | fixed, file, 0) == start + at
    os.close(file)
    memory = (ctypes.c_char * size).from_address(start)
    weakref.finalize(memory, libc.munmap, ctypes.c_void_p(start), ctypes.c_size_t(size))
    return np.frombuffer(memory, np.float16, n)


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="maps one piece of memory many times, as Linux can")
@pytest.mark.parametrize("threads", [1, 2])
def test_more_than_2_31_elements(threads: int) -> None:
    x = large_float16(2**31 + 5)
    first, last = [-1, 2, -3], [4, -5, 6, -7, 8]
    x[:3], x[-5:] = first, last
    with num_threads(threads):
        assert fnn.relu(x, out=x) is x
    np.testing.assert_array_equal(x[:3], np.maximum(first, 0))
    np.testing.assert_array_equal(x[-5:], np.maximum(last, 0))
    x[:3], x[-5:] = first, last
    fnn.relu(x[::-1], out=x[::-1])  # and so that blocks are gathered
    np.testing.assert_array_equal(x[:3], np.maximum(first, 0))
    np.testing.assert_array_equal(x[-5:], np.maximum(last, 0))


# ---- parameters ----


@pytest.mark.parametrize("op", [op for op in OPS.values() if op.params], ids=lambda op: op.name)
@every_dtype
def test_parameters_of_every_kind(op: Any, dtype: np.dtype[Any]) -> None:
    run = Pass(op, "forward")
    (x,) = run.inputs(dtype)
    x = x[-60:]
    values = op.parameter_sets[-1]
    kinds: list[Any] = [
        float,
        np.float64,
        np.float32,
        np.longdouble,
        np.array,
        lambda v: np.array([v]),
        lambda v: [v],
        np.dtype(">f8").type,
    ]
    with num_threads(1):
        for strided in (False, True):
            array = np.repeat(x, 2)[::2] if strided else x
            for kind in kinds:
                params = [kind(value) for value in values]
                rounded = [float(np.asarray(p).reshape(())) for p in params]
                got = run.function(array, *params)
                assert_same_bits(got, run.function(x, *rounded))
            names = {param.name: value for param, value in zip(op.params, values, strict=True)}
            assert_same_bits(run.function(array, **names), run.function(x, *values))
            elementwise = [np.full(60, value) for value in values]
            assert_same_bits(run.function(array, *elementwise), run.function(x, *values))
    whole = [2 if k else 1 for k in range(len(values))]
    assert_same_bits(run.function(x, *whole), run.function(x, *map(float, whole)))


def alpha_shapes(shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Every kind of shape that a learned parameter may have beside an input of `shape`."""
    kinds = [(), (1,), shape, (1,) * len(shape)]
    if len(shape) >= 2:
        kinds += [
            (shape[1],),
            (1, shape[1], *(1,) * (len(shape) - 2)),
            (shape[0], *(1,) * (len(shape) - 1)),
            (shape[-1],),
        ]
    if len(shape) >= 3:
        kinds += [(shape[1], *(1,) * (len(shape) - 2)), (shape[0], 1, *shape[2:]), shape[1:]]
    return list(dict.fromkeys(kinds))


SHAPES = [(40,), (6, 7), (5, 6, 4), (3, 4, 5, 6), (2, 1500), (700, 3), (0, 3), (3, 0, 2)]


@every_learned
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_learned_parameter_of_every_shape(op: Any, shape: tuple[int, ...]) -> None:
    """Values against one call an alpha, the gradient against sums in float64."""
    forward, backward = getattr(fnn, op.name), getattr(fnn, f"{op.name}_backward")
    for dtype in DTYPES.values():
        x, dy = (rng.standard_normal(shape).astype(dtype) for _ in range(2))
        single = np.float64 if dtype == np.float64 else np.float32
        for alpha_shape in alpha_shapes(shape):
            alpha = rng.uniform(0.1, 2, alpha_shape).astype(single)
            per_channel = len(shape) > 1 and alpha_shape == (shape[1],)
            aligned = alpha.reshape(-1, *(1,) * (len(shape) - 2)) if per_channel else alpha
            if np.ndim(aligned) > len(shape):
                aligned = aligned.reshape(())
            full = np.broadcast_to(aligned, shape).astype(np.float64)
            wide_x, wide_dy = x.astype(np.float64), dy.astype(np.float64)
            exact = np.asarray(wide_dy * op.param_gradient(numpy64, wide_x, full))
            axes = tuple(
                k
                for k in range(len(shape))
                if np.shape(aligned)[::-1][len(shape) - 1 - k : len(shape) - k] in ((), (1,))
            )
            sums, sizes = exact.sum(axis=axes), np.abs(exact).sum(axis=axes)
            for backend in BACKENDS:
                if backend == "numba" and dtype != np.float32:
                    continue
                with using(backend):
                    y = forward(x, alpha)
                    dx, dalpha = backward(dy, x, alpha)
                    out = np.empty_like(x)
                    dx_out, dalpha_out = backward(dy, x, alpha, out=out)
                assert y.shape == dx.shape == shape and y.dtype == dx.dtype == dtype
                assert dx_out is out
                assert_same_bits(dx_out, dx)
                assert_same_bits(dalpha_out, dalpha)
                assert dalpha.shape == alpha_shape and dalpha.dtype == single
                error = np.abs(dalpha.reshape(np.shape(sums)).astype(np.float64) - sums)
                assert np.all(error <= np.finfo(single).eps * 4 * sizes), (backend, dtype, alpha_shape)
            with num_threads(1):
                for index in list(np.ndindex(shape))[:: max(1, x.size // 50)]:
                    assert_same_bits(forward(x, alpha)[index], forward(x[index], float(full[index])))


@every_learned
def test_gradient_of_a_learned_parameter_is_deterministic(op: Any) -> None:
    """Large enough for threads, in every layout: the bits do not change."""
    backward = getattr(fnn, f"{op.name}_backward")
    shape = (48, 16, 30, 20)
    for dtype in (np.float32, np.float64):
        x, dy = (rng.standard_normal(shape).astype(dtype) for _ in range(2))
        for alpha_shape in [(), (16,), (48, 1, 1, 1), (20,), (16, 30, 20), shape]:
            alpha = rng.uniform(0.1, 2, alpha_shape).astype(dtype)
            with num_threads(1):
                expected = backward(dy, x, alpha)
            for threads in (2, 3):
                with num_threads(threads):
                    for _ in range(2):
                        for got, wanted in zip(backward(dy, x, alpha), expected, strict=True):
                            assert_same_bits(got, wanted)
            if alpha_shape in [(), (16,)]:
                for layout in ("every second", "Fortran order", "misaligned"):
                    fitted = [LAYOUTS[layout](value.reshape(48, 16, 600)) for value in (dy, x)]
                    assert_same_bits(backward(*fitted, alpha)[1], expected[1])


@every_learned
def test_gradient_of_a_learned_parameter_with_infinities(op: Any) -> None:
    backward = getattr(fnn, f"{op.name}_backward")
    x = np.float32([[-1, -2], [-3, np.nan]])
    for backend in BACKENDS:
        with using(backend):
            _, dalpha = backward(np.ones_like(x), x, np.float32([0.5, 0.5]))
            assert np.isfinite(dalpha[0]) and np.isnan(dalpha[1])
            _, dalpha = backward(np.full_like(x, np.inf), np.minimum(x, -1), 0.5)
            assert dalpha.shape == ()


def test_nan_in_a_learned_parameter_propagates() -> None:
    """Arrays of learned parameters are not checked: a network that has diverged shows it."""
    y = fnn.prelu(np.full((2, 2), -1, np.float32), np.float32([np.nan, 1]))
    assert_same_bits(y, np.float32([[np.nan, -1], [np.nan, -1]]))


# ---- subclasses, memory maps ----


@pytest.mark.parametrize("backend", BACKENDS)
def test_masked_arrays_keep_their_mask(backend: str) -> None:
    x = np.ma.array(np.float32([-1, -2, -3]), mask=[0, 1, 0])
    with using(backend):
        for y in (fnn.relu(x), fnn.relu_backward(np.float32([1, 1, 1]), x), fnn.prelu_backward(x, x, 0.5)[0]):
            assert isinstance(y, np.ma.MaskedArray) and y.mask.tolist() == [False, True, False]
    if backend.startswith("native"):  # where what is masked does not count in sums
        assert_same_bits(fnn.prelu_backward(np.float32([1, 1, 1]), x, 0.5)[1], np.float32(-4))


@pytest.mark.parametrize("backend", BACKENDS)
def test_matrices_stay_matrices(backend: str) -> None:
    with pytest.warns(PendingDeprecationWarning):
        x = np.matrix([[-1.0, 2.0]])
    with using(backend):
        y = fnn.relu(x)
        assert type(y) is np.matrix and y.tolist() == [[0, 2]]


def test_read_only_memory_maps(tmp_path: Path) -> None:
    x = rng.standard_normal(5000).astype(np.float32)
    path = tmp_path / "x.bin"
    x.tofile(path)
    mapped = np.memmap(path, np.float32, mode="r")
    frozen = x.copy()
    frozen.flags.writeable = False
    for source in (mapped, frozen):
        y = fnn.gelu(source)
        assert_same_bits(y, fnn.gelu(x))
        assert y.flags.writeable and not isinstance(y, np.memmap)
        with pytest.raises(ValueError, match="gelu: out is read-only"):
            fnn.gelu(x, out=source)
    written = np.memmap(tmp_path / "y.bin", np.float32, mode="w+", shape=x.shape)
    assert fnn.gelu(x, out=written) is written
    assert_same_bits(np.fromfile(tmp_path / "y.bin", np.float32), fnn.gelu(x))


def test_result_has_the_layout_of_the_input() -> None:
    x = rng.standard_normal((20, 30)).astype(np.float32)
    assert fnn.tanh(x).flags.c_contiguous
    assert fnn.tanh(np.asfortranarray(x)).flags.f_contiguous
    assert fnn.tanh(x.T).flags.f_contiguous


# ---- overhead ----


def microseconds(call: Callable[[], Any]) -> float:
    """The least time of a call among many."""
    return min(timeit.repeat(call, number=1000, repeat=9)) * 1000


@pytest.mark.parametrize(("name", "factor"), [("contiguous", 1.0), ("every second", 2.0)])
def test_a_call_costs_no_more_than_one_of_numpy(name: str, factor: float) -> None:
    """ReLU of 1000 numbers against np.tanh, in the best of some attempts: other programs may be in the way."""
    x = LAYOUTS[name](rng.standard_normal((1, 1, 1000)).astype(np.float32))[0, 0]
    y = np.empty_like(x)
    times = []
    for _ in range(5):
        times.append((microseconds(lambda: fnn.relu(x, out=y)), microseconds(lambda: np.tanh(x, out=y))))
        if times[-1][0] < factor * times[-1][1]:
            return
    raise AssertionError(times)


# ---- many callers, memory ----


def test_many_python_threads_at_once() -> None:
    runs = [run for run in PASSES if run.name in ("relu", "gelu", "tanh_backward", "prelu_backward", "leaky_relu")]
    jobs = []
    for run in runs:
        for n in (10, 1000, 70_000, 300_000):
            inputs = [np.resize(value, n) for value in run.inputs(DTYPES["float32"])]
            jobs.append((run, inputs, bits(run(*inputs))))
    start = threading.Barrier(8)

    def work(seed: int) -> int:
        order = np.random.default_rng(seed).permutation(len(jobs) * 3) % len(jobs)
        start.wait()
        wrong = 0
        for k in order:
            run, inputs, expected = jobs[k]
            wrong += not np.array_equal(bits(run(*inputs)), expected)
        return wrong

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(work, range(8))) == 0


def rss() -> int:
    """Resident memory in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_no_leaks() -> None:
    """Of references, by count, and of memory, by what the process holds, along every way through a call."""
    x, out, strided = np.zeros(500, np.float32), np.zeros(500, np.float32), np.zeros(1000, np.float32)[::2]
    alpha, half = np.full(500, 0.25, np.float32), np.zeros(500, np.float16)
    watched: list[Any] = [x, out, strided, alpha, half, fnn.leaky_relu, fnn.ufuncs.leaky_relu, 0.125, None]

    def refused() -> None:
        for wrong in ({"out": alpha[:3]}, {"negative_slope": math.nan}, {"unknown": 1}):
            try:
                fnn.leaky_relu(x, **wrong)
            except (TypeError, ValueError):
                continue
            raise AssertionError(wrong)

    ways = {
        "short": (lambda: fnn.leaky_relu(x, 0.125), 100_000),
        "short, out": (lambda: fnn.leaky_relu(x, negative_slope=0.125, out=out), 100_000),
        "short, out=None": (lambda: fnn.relu(x, out=None), 50_000),
        "backward": (lambda: fnn.tanh_backward(x, x), 50_000),
        "by the ufunc": (lambda: fnn.leaky_relu(strided, 0.125), 50_000),
        "by the ufunc, out": (lambda: fnn.leaky_relu(strided, 0.125, out=out), 50_000),
        "float16": (lambda: fnn.leaky_relu(half[::2], 0.125), 20_000),
        "long": (lambda: fnn.leaky_relu(x, alpha), 5_000),
        "learned": (lambda: fnn.prelu_backward(x, x, alpha), 5_000),
        "refused": (refused, 3_000),
    }
    for name, (call, times) in ways.items():
        for _ in range(200):
            call()
        gc.collect()
        counts, memory = [sys.getrefcount(value) for value in watched], rss()
        for _ in range(times):
            call()
        gc.collect()
        assert [sys.getrefcount(value) for value in watched] == counts, name
        assert rss() - memory < 1 << 20, name
