"""Products of bytes, prepared: the reference's integers on every instruction set, with dot products and without."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from layouts import active, num_threads
from loop_runs import Unavailable, build

from fastnn.kernels.cpu import runtime
from fastnn.kernels.cpu.quantized import PackedInt8, dot_products
from fastnn.kernels.int8_weights import pack
from fastnn.kernels.reference.quantized import matmul

ROOT = Path(__file__).resolve().parent.parent
WAYS = [(isa, dots) for isa in runtime.isas() for dots in (True, False)]


@pytest.fixture(autouse=True)
def dots_again() -> Iterator[None]:
    yield
    dot_products(True)


def case(batch: int, outputs: int, segments: int, length: int, rows: int, seed: int = 0) -> tuple[Any, ...]:
    """x, weight, bias, multiplier, starts, segments: numbers from the ends of their ranges among them, in runs too."""
    rng = np.random.default_rng(seed)
    size = segments * length + 9
    x, weight = (rng.integers(0, 256, (batch, size)), rng.integers(-128, 128, (outputs, segments, length)))
    x[0, ::2], weight[0], weight[-1, :, ::2] = 255, -128, 127  # two products of a pair leave int16
    starts = np.append(rng.integers(0, 9, rows - 1), 9)  # the last one ends where x does
    bias = rng.integers(-40_000, 40_000, outputs)
    multiplier = rng.uniform(20, 200, outputs) / (11_000 * np.sqrt(segments * length))
    at = np.arange(segments) * length
    return (
        x.astype(np.uint8),
        weight.astype(np.int8),
        bias.astype(np.int32),
        multiplier.astype(np.float32),
        starts.astype(np.int32),
        rng.permutation(at).astype(np.int32),
    )


SHAPES = [
    (1, 1, 1, 1, 1),
    (2, 15, 1, 4, 3),
    (3, 17, 2, 5, 2),
    (1, 64, 9, 16, 13),
    (5, 65, 1, 131, 1),
    (7, 130, 3, 3, 2),
    (2, 48, 25, 6, 30),
    (1, 31, 1, 785, 55),
]


@pytest.mark.parametrize("shape", SHAPES)
def test_the_reference_s_integers(shape: tuple[int, ...]) -> None:
    x, weight, bias, multiplier, starts, segments = case(*shape)
    batch, outputs, rows = shape[0], shape[1], shape[-1]
    for dtype in (np.int32, np.float32, np.uint8):
        want, factor = np.full((batch, rows, outputs + 7), 9, dtype), None if dtype is np.int32 else multiplier
        matmul(x, starts, segments, pack(weight), bias, factor, want, 3, 120, 7, 251)
        assert len(np.unique(want)) > 20 or outputs < 16
        for isa, dots in WAYS:
            with active(isa):
                dot_products(dots)
                y = np.full_like(want, 9)
                given = batch, x.shape[1], starts, segments, outputs + 7, 3, 120, 7, 251
                PackedInt8(pack(weight), bias, factor, dtype, *given)(x, y)
                np.testing.assert_array_equal(y, want)


def test_every_number_of_rows() -> None:
    x, weight, bias, multiplier, _, _ = case(70, 80, 1, 30, 1)
    x, packed = np.ascontiguousarray(x[:, :30]), pack(weight)
    want = np.empty((70, 1, 80), np.uint8)
    matmul(x, None, np.zeros(1, np.int32), packed, bias, multiplier, want, 0, 0, 0, 255)
    for isa, dots in WAYS:
        with active(isa):
            dot_products(dots)
            for rows in (*range(1, 14), 48, 49, 70):
                y = np.empty((rows, 1, 80), np.uint8)
                PackedInt8(packed, bias, multiplier, np.uint8, rows, 30)(x[:rows], y)
                np.testing.assert_array_equal(y, want[:rows])


def test_threads() -> None:
    x, weight, bias, multiplier, _, _ = case(200, 200, 1, 300, 1)
    x = np.ascontiguousarray(x[:, :300])
    results = []
    for threads in (1, 2, 5):
        with num_threads(threads):
            y = np.empty((200, 1, 200), np.uint8)
            PackedInt8(pack(weight), bias, multiplier, np.uint8, 200, 300)(x, y)
            results.append(y)
    assert (results[0] == results[1]).all() and (results[0] == results[2]).all() and len(np.unique(results[0])) > 99


def test_nothing_behind_the_end_is_read_as_a_number() -> None:
    """Memory behind x may hold anything: the same result, whatever comes next."""
    x, weight, bias, multiplier, _, _ = case(3, 20, 1, 13, 1)
    for fill in (0, 255):
        room = np.full(3 * 13 + 8, fill, np.uint8)
        inside = room[: 3 * 13].reshape(3, 13)
        inside[...] = x[:, :13]
        y = np.empty((3, 1, 20), np.int32)
        PackedInt8(pack(weight), bias, None, np.int32, 3, 13)(inside, y)
        exact = inside.astype(int) @ weight[:, 0].astype(int).T + bias
        np.testing.assert_array_equal(y[:, 0], exact)


def test_what_is_there() -> None:
    for isa in runtime.isas():
        with active(isa):
            assert dot_products(False) is False
            assert dot_products(True) is dot_products()
            assert isa != "v2" or not dot_products()


def test_what_is_refused() -> None:
    x, weight, bias, multiplier, starts, segments = case(2, 20, 3, 5, 4)
    packed, size = pack(weight), x.shape[1]
    good: dict[str, Any] = {
        "weight": packed,
        "bias": bias,
        "multiplier": multiplier,
        "y_type": np.uint8,
        "batch": 2,
        "size": size,
        "starts": starts,
        "segments": segments,
    }
    PackedInt8(**good)(x, np.empty((2, 4, 20), np.uint8))
    for change, error in (
        ({"weight": packed.astype(np.uint8)}, TypeError),
        ({"weight": packed[:1].copy()}, ValueError),
        ({"weight": packed[:, :2].copy()}, ValueError),
        ({"weight": packed[:, :, ::2]}, ValueError),
        ({"weight": packed[0]}, ValueError),
        ({"weight": None}, TypeError),
        ({"bias": bias.astype(np.int64)}, TypeError),
        ({"bias": bias[:-7]}, ValueError),
        ({"bias": bias[::-1]}, ValueError),
        ({"multiplier": None}, TypeError),
        ({"multiplier": multiplier.astype(np.float64)}, TypeError),
        ({"multiplier": multiplier[:5]}, ValueError),
        ({"y_type": np.int8}, TypeError),
        ({"y_type": "no type"}, TypeError),
        ({"batch": -1}, ValueError),
        ({"batch": 1 << 40}, ValueError),
        ({"size": size - 1}, ValueError),
        ({"starts": starts + np.int32(1)}, ValueError),
        ({"starts": starts - np.int32(10)}, ValueError),
        ({"starts": starts.astype(np.int64)}, TypeError),
        ({"segments": segments[:0]}, ValueError),
        ({"segments": segments + np.int32(1 << 30)}, ValueError),
        ({"segments": np.full(3, -10, np.int32)}, ValueError),
        ({"columns": 19}, ValueError),
        ({"column": -1}, ValueError),
        ({"column": 1}, ValueError),
        ({"zero": 256}, ValueError),
        ({"low": 9, "high": 8}, ValueError),
        ({"high": 1 << 40}, OverflowError),
    ):
        with pytest.raises(error):
            PackedInt8(**good | change)
    product = PackedInt8(**good)
    y = np.empty((2, 4, 20), np.uint8)
    for arrays in ((x,), (x, y[:1]), (x[:1], y), (x.astype(np.int8), y), (x, y.astype(np.int32)), (x.T, y), (x, None)):
        with pytest.raises((TypeError, ValueError)):
            product(*arrays)
    with pytest.raises(TypeError):
        product.__init__(**good)  # type: ignore[misc]


def test_the_same_bits_on_arm(tmp_path: Path) -> None:
    """NEON in an emulator, with and without dot products, and one number at a time; the driver checks memory too."""
    names = "tests/neon/packed.cpp", "kernels/cpu/packed.cpp", "kernels/cpu/packed_int8.cpp"
    printed = []
    for isa, more in (("scalar", ""), ("neon", ""), ("neon", "-march=armv8.2-a+dotprod -DFASTNN_DOT")):
        try:
            command = build(isa, tmp_path, [ROOT / name for name in names], ["-w", "-O1", *more.split()])
        except Unavailable as reason:
            pytest.skip(str(reason))
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, f"{command}: {done.returncode} {done.stderr}"
        printed.append(done.stdout)
    assert len(set(printed)) == 1, printed
