"""The public functions over every dtype, layout, length, backend and instruction set.

How accurate the values are is the matter of test_accuracy; here the whole of a contiguous array is compared with the
oracle, and everything else with that, to the last bit.
"""

from __future__ import annotations

import math
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
from fastnn.kernels.cpu import runtime
from fastnn.oracle import numpy64
from fastnn.table import OPS

pytestmark = pytest.mark.filterwarnings("error")
every_pass = pytest.mark.parametrize("run", PASSES, ids=repr)
every_dtype = pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
every_isa = pytest.mark.parametrize("isa", runtime.isas())
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
        for isa in runtime.isas() if backend == "native" else [runtime.isa()]:
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


# ---- subclasses, memory layout of results ----


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


def test_result_has_the_layout_of_the_input() -> None:
    x = rng.standard_normal((20, 30)).astype(np.float32)
    assert fnn.tanh(x).flags.c_contiguous
    assert fnn.tanh(np.asfortranarray(x)).flags.f_contiguous
    assert fnn.tanh(x.T).flags.f_contiguous
