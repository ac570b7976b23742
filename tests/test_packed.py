"""Packed linear layers: one chain for each result on every instruction set, programs of them, what they refuse."""

from __future__ import annotations

import ctypes
import ctypes.util
import itertools
import threading
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from layouts import active, assert_same_bits, misaligned, num_threads

import fastnn as fnn
from fastnn.fusion import fused
from fastnn.kernels.cpu import runtime
from fastnn.kernels.cpu.linear import Packed, Program
from fastnn.kernels.panels import pack
from fastnn.table import OPS

Array = npt.NDArray[Any]
FUSED = [isa for isa in runtime.isas() if isa != "v2"]
OUTPUTS = (1, 7, 8, 9, 15, 16, 17, 31, 33, 48, 63, 64, 65, 130)  # around vectors, groups and panels


def arrays(rows: int, inputs: int, outputs: int, dtype: Any = np.float32, seed: int = 0) -> tuple[Array, ...]:
    """x, weight, bias, residual."""
    rng = np.random.default_rng(seed)
    shapes = (rows, inputs), (outputs, inputs), (outputs,), (rows, outputs)
    x, weight, bias, residual = (rng.standard_normal(shape).astype(dtype) for shape in shapes)
    return x, weight, bias, residual


def packed(x: Array, weight: Array, bias: Array | None, activation: Any = None, residual: Array | None = None) -> Array:
    """The result in the middle of a larger array, the rest of which must stay as it is."""
    (rows, inputs), outputs = x.shape, len(weight)
    room = np.full((rows + 2) * outputs, 7, x.dtype)
    y = room[outputs:-outputs].reshape(rows, outputs) if outputs else room.reshape(rows, 0)
    layer = Packed(pack(weight, bias), rows, inputs, outputs, activation, residual is not None)
    layer(x, *([] if residual is None else [residual]), y)
    assert (room[:outputs] == 7).all() and (room[len(room) - outputs :] == 7).all()
    return y


def chain(x: Array, weight: Array, bias: Array) -> Array:
    """fma(x, w, sum) in the order of the inputs, from the bias on, by the C library."""
    name = ctypes.util.find_library("m")
    fma = getattr(ctypes.CDLL(name), "fma" if x.dtype == np.float64 else "fmaf")
    number = ctypes.c_double if x.dtype == np.float64 else ctypes.c_float
    fma.restype, fma.argtypes = number, [number] * 3
    y = np.empty((len(x), len(weight)), x.dtype)
    for (r, row), (o, column) in itertools.product(enumerate(x.tolist()), enumerate(weight.tolist())):
        total = bias[o].item()
        for a, b in zip(row, column, strict=True):
            total = fma(a, b, total)
        y[r, o] = total
    return y


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("inputs", [0, 1, 2, 19])
def test_one_chain(inputs: int, dtype: Any) -> None:
    x, weight, bias, _ = arrays(7, inputs, 85, dtype)
    want = chain(x, weight, bias)
    for isa in FUSED:
        with active(isa):
            assert_same_bits(packed(x, weight, bias), want)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("inputs", [1, 3, 1023, 1024, 1025, 2050])
def test_every_shape_of_tile(inputs: int, dtype: Any) -> None:
    """Rows by themselves, or in tiles and tasks of any number; outputs that fill vectors and panels and not."""
    for outputs in OUTPUTS if inputs < 9 else (16, 21, 65):
        x, weight, bias, residual = arrays(70, inputs, outputs, dtype)
        wide = [array.astype(np.float64) for array in (x, weight, bias, residual)]
        exact = wide[0] @ wide[1].T + wide[2] + wide[3]
        size = np.abs(wide[0]) @ np.abs(wide[1]).T + np.abs(wide[2]) + np.abs(wide[3])
        first = None
        for isa in runtime.isas():
            with active(isa):
                whole = packed(x, weight, bias, None, residual)
                assert (np.abs(whole - exact) <= 4 * max(1, inputs**0.5) * np.finfo(dtype).eps * size).all()
                for rows in range(1, 14) if inputs < 1024 else (1, 2, 7, 49):
                    at = slice(70 - rows, 70)
                    assert_same_bits(packed(x[at].copy(), weight, bias, None, residual[at].copy()), whole[at])
                if isa in FUSED:
                    first = whole if first is None else first
                    assert_same_bits(whole, first)


@pytest.mark.parametrize("op", OPS.values(), ids=OPS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_activations(op: Any, dtype: Any) -> None:
    x, weight, bias, residual = arrays(5, 9, 67, dtype)
    activation = fused("", (op.name, *op.parameters_default), np.dtype(dtype))
    for isa in runtime.isas():
        with active(isa):
            z = packed(x, weight, bias, None, residual)
            want = getattr(fnn, op.name)(z, *op.parameters_default)
            assert_same_bits(packed(x, weight, bias, activation, residual), want)
            narrow = packed(x, weight[:10], bias[:10], activation)  # rows follow each other
            assert_same_bits(narrow, packed(x, weight, bias, activation)[:, :10])


def test_an_instruction_set_chosen_later() -> None:
    x, weight, bias, _ = arrays(3, 9, 20)
    activation, results = fused("", "gelu", x.dtype), []
    layer = Packed(pack(weight, bias), 3, 9, 20, activation)
    for isa in runtime.isas():
        with active(isa):
            y = np.empty((3, 20), np.float32)
            layer(x, y)
            results.append(y)
            assert_same_bits(y, packed(x, weight, bias, activation))


@pytest.mark.parametrize("activation", [None, "relu", "tanh"])
def test_special_values(activation: str | None) -> None:
    x, weight, bias, _ = arrays(9, 40, 70)
    x[2, 3], x[4, 39], weight[68, 0] = np.nan, np.inf, -np.inf
    for isa in runtime.isas():
        with active(isa), np.errstate(all="ignore"):
            want = x.astype(float) @ weight.astype(float).T + bias
            want = want if activation is None else getattr(fnn, activation)(want)
            got = packed(x, weight, bias, fused("", activation, x.dtype))
            special = ~np.isfinite(want)
            assert_same_bits(got[special], want[special].astype(np.float32))
            assert np.isfinite(got[~special]).all()


def test_no_bias_and_zeros() -> None:
    x, weight, _, _ = arrays(2, 5, 18)
    assert_same_bits(packed(x, weight, None), packed(x, weight, np.zeros(18, np.float32)))
    assert_same_bits(packed(x[:, :0], weight[:, :0], None), np.zeros((2, 18), np.float32))
    assert packed(x, weight[:0], None).shape == (2, 0)
    assert packed(x[:0], weight, None).shape == (0, 18)


def test_threads() -> None:
    x, weight, bias, _ = arrays(150, 300, 200)
    with num_threads(1):
        want, row = packed(x, weight, bias), packed(x[:1], weight, bias)
    for threads in (2, 3, 8):
        with num_threads(threads):
            assert_same_bits(packed(x, weight, bias), want)
            assert_same_bits(packed(x[:1], weight, bias), row)


def test_weights_as_they_are_packed() -> None:
    for dtype, outputs in ((np.float32, 150), (np.float64, 70), (np.float32, 5)):
        _, weight, bias, _ = arrays(1, 6, outputs, dtype)
        flat = pack(weight, bias)
        size = flat.itemsize
        group, panel = 64 // size, 256 // size
        padded = -(-outputs // group) * group
        assert flat.ctypes.data % 64 == 0 and flat.flags.c_contiguous and flat.size == 7 * padded
        assert (flat[:outputs] == bias).all() and (flat[outputs:padded] == 0).all()
        panels = [
            flat[padded + 6 * first :][: 6 * (last - first)].reshape(6, last - first)
            for first, last in ((k, min(k + panel, padded)) for k in range(0, padded, panel))
        ]
        whole = np.concatenate(panels, axis=1)
        assert (whole[:, :outputs] == weight.T).all() and (whole[:, outputs:] == 0).all()


# ---- programs ----


def test_a_program() -> None:
    """Layers one after the other, from several threads, with arrays that come later."""
    x, first, bias, _ = arrays(4, 30, 24)
    _, second, _, residual = arrays(4, 24, 24, seed=1)
    middle = np.empty((4, 24), np.float32)
    a = Packed(pack(first, bias), 4, 30, 24, fused("", "relu", x.dtype))
    b = Packed(pack(second, None), 4, 24, 24, residual=True)
    program = Program([(a, [False, middle]), (b, [middle, residual, True])])
    want = packed(packed(x, first, bias, fused("", "relu", x.dtype)), second, None, None, residual)
    for _ in range(2):
        y = np.empty((4, 24), np.float32)
        program.run(x, y)
        assert_same_bits(y, want)
    Program([]).run(None, None)

    def many() -> None:
        own, place = np.empty((4, 24), np.float32), np.empty((4, 24), np.float32)
        mine = Program([(a, [False, place]), (b, [place, residual, True])])
        for _ in range(200):
            mine.run(x, own)
        results.append(own)

    results: list[Array] = []
    threads = [threading.Thread(target=many) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4 and all((own == want).all() for own in results)


def test_what_programs_refuse() -> None:
    x, weight, bias, _ = arrays(4, 30, 24)
    layer, y = Packed(pack(weight, bias), 4, 30, 24), np.empty((4, 24), np.float32)
    for wrong, error in (
        ([(layer, [x])], ValueError),
        ([(layer, [x, y, y])], ValueError),
        ([(layer, [x, None])], TypeError),
        ([(layer, [x.tolist(), y])], TypeError),
        ([(layer, [x.astype(np.float64), y])], TypeError),
        ([(layer, [x[:3], y])], ValueError),
        ([(layer, [x.T, y])], ValueError),
        ([(layer, [x, y[:, :20]])], ValueError),
        ([(object(), [x, y])], AttributeError),
        ([(Packed.__new__(Packed), [x, y])], ValueError),
        ([layer], TypeError),
        (3, TypeError),
    ):
        with pytest.raises(error):
            Program(wrong)  # type: ignore[arg-type]
    frozen = y.copy()
    frozen.flags.writeable = False
    program = Program([(layer, [False, True])])
    for one, other in ((None, y), (x, None), (x, frozen), (x[:2], y), (x, y[::2]), (x, y.astype(np.int32))):
        with pytest.raises((TypeError, ValueError)):
            program.run(one, other)
    with pytest.raises(TypeError):
        program.__init__([])  # type: ignore[misc]
    Program.__new__(Program).run(x, y)  # nothing to do


def test_what_layers_refuse() -> None:
    _, weight, bias, _ = arrays(4, 30, 24)
    flat = pack(weight, bias)
    for wrong, error in (
        ((flat.tolist(), 4, 30, 24), TypeError),
        ((flat.astype(np.float16), 4, 30, 24), TypeError),
        ((flat.astype(">f4"), 4, 30, 24), (TypeError, ValueError)),
        ((flat[1:], 4, 30, 24), ValueError),
        ((flat[::2], 4, 30, 24), ValueError),
        ((flat, 4, 31, 24), ValueError),
        ((flat, 4, 30, 33), ValueError),
        ((flat, -1, 30, 24), ValueError),
        ((flat, 1 << 31, 30, 24), ValueError),
        ((flat, 1 << 70, 30, 24), OverflowError),
        ((flat, 4, "30", 24), TypeError),
        ((flat, 4, 30, 24, ("gelu",)), (IndexError, TypeError)),
        ((flat, 4, 30, 24, ("no such thing", ())), ValueError),
    ):
        with pytest.raises(error):
            Packed(*wrong)
    layer = Packed(flat, 4, 30, 24)
    with pytest.raises(TypeError):
        layer.__init__(flat, 4, 30, 24)  # type: ignore[misc]


def test_what_sessions_take_as_it_is() -> None:
    x, y, number = np.zeros((3, 4, 5), np.float32), np.zeros((3, 2), np.float32), np.dtype(np.float32).num
    frozen = x.copy()
    frozen.flags.writeable = False
    shapes = (4, 5), (2,)
    assert Program.samples(x, y, number, *shapes) == Program.samples(x, None, number, *shapes) == 3
    assert Program.samples(frozen, y, number, *shapes) == 3 and Program.samples(x[:0], y[:0], number, *shapes) == 0
    shared = np.zeros(100, np.float32)
    others: list[tuple[Any, Any]] = [
        (None, y),
        (x.tolist(), None),
        (x.astype(np.float64), None),
        (x.astype(">f4"), None),
        (x[:, :3], None),
        (x[:, :, ::2], None),
        (x[0], None),
        (np.asfortranarray(x), None),
        (misaligned(x), None),
        (np.ma.masked_array(x), None),
        (x, y[:2]),
        (x, y.T),
        (x, y.astype(np.int32)),
        (x, frozen[:, 0, :2].copy().tolist()),
        (x, np.broadcast_to(y, y.shape)),
        (shared[:60].reshape(3, 4, 5), shared[58:64].reshape(3, 2)),
    ]
    for one, other in others:
        assert Program.samples(one, other, number, *shapes) == -1
