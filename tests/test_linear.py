"""Linear layers: every shape of tile and block, fused activations, gradients, memory, and what is refused."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from layouts import DTYPES, active, assert_same_bits, num_threads

import fastnn as fnn
from fastnn.kernels import gemm
from fastnn.kernels.cpu import runtime
from fastnn.table import OPS

pytestmark = pytest.mark.filterwarnings("error")
Array = npt.NDArray[Any]
FUSED = [isa for isa in runtime.isas() if isa != "v2"]
HALVES = [name for name in DTYPES if name in ("float16", "bfloat16")]
every_dtype = pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
# One number for each parameter of an activation that has no default.
ACTIVATIONS: list[Any] = [
    (op.name, *op.parameters_default) if any(param.default is None for param in op.params) else op.name
    for op in OPS.values()
]


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Blocks and tiles so small that modest arrays have several, the last ones not whole."""
    for name, value in {"_CACHE": 1, "_FEWEST_ROWS": 50, "_ROWS": 48, "_COLUMNS": 36, "_DEPTH": 40}.items():
        monkeypatch.setattr(gemm, name, value)
    yield


def arrays(rows: tuple[int, ...], inputs: int, outputs: int, dtype: Any = np.float32, seed: int = 0) -> list[Array]:
    """x, weight, bias and dy."""
    rng, number = np.random.default_rng(seed), np.float64 if dtype == np.float64 else np.float32
    x, weight, dy = (rng.standard_normal(shape) for shape in ((*rows, inputs), (outputs, inputs), (*rows, outputs)))
    return [x.astype(dtype), weight.astype(dtype), rng.standard_normal(outputs).astype(number), dy.astype(dtype)]


def wide(array: Array) -> Array:
    return array.astype(np.float64)


def near(got: Array, exact: Array, size: Array, ulp: float = 4.0) -> None:
    """Within `ulp` units of float32 (float64) of `size`, and half a unit of the dtype of the result."""
    unit = np.finfo(np.float64 if got.dtype == np.float64 else np.float32).eps
    storage = {"float16": 2.0**-11, "bfloat16": 2.0**-8}.get(got.dtype.name, 0.0)
    assert np.all(np.abs(wide(got) - exact) <= ulp * unit * size + storage * np.abs(exact) + 1e-7 * (storage > 0))


# ---- forward ----


@every_dtype
@pytest.mark.parametrize("rows", [1, 2, 3, 4, 5, 7, 16, 17, 33, 64, 65, 130])
def test_every_shape_of_tile(rows: int, dtype: np.dtype[Any]) -> None:
    """Rows that are whole tiles and not; so many inputs and outputs as vectors and tiles have, and one more or less."""
    for inputs, outputs in ((1, 1), (7, 2), (16, 3), (17, 63), (31, 64), (33, 65), (64, 129), (65, 10)):
        x, weight, bias, _ = arrays((rows,), inputs, outputs, dtype)
        exact, size = wide(x) @ wide(weight).T + bias, np.abs(wide(x)) @ np.abs(wide(weight)).T + np.abs(bias)
        results = []
        for isa in runtime.isas():
            with active(isa):
                y = fnn.linear(x, weight, bias)
                near(y, exact, size)
                if isa in FUSED:
                    results.append(y)
        if rows <= 64 or dtype.name in HALVES:  # the others are the BLAS's, which has no such choice
            for y in results:
                assert_same_bits(y, results[0])
            for row in (0, rows // 2):  # nor do bits depend on the tile that a row lies in
                assert_same_bits(fnn.linear(x[row], weight, bias), results[0][row])


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
@pytest.mark.parametrize("rows", [3, 200])
def test_fused_activation_is_the_activation(activation: Any, rows: int, small_blocks: None) -> None:
    """To the last bit; and z is what it was applied to."""
    name, *params = activation if isinstance(activation, tuple) else (activation,)
    for dtype in (np.float32, np.float64):
        x, weight, bias, _ = arrays((rows,), 20, 70, dtype)
        z = np.empty((rows, 70), dtype)
        before = fnn.linear(x, weight, bias)
        expected = getattr(fnn, name)(before, *params)
        assert_same_bits(fnn.linear(x, weight, bias, activation), expected)
        assert_same_bits(fnn.linear(x, weight, bias, activation, z=z), expected)
        assert_same_bits(z, before)


@pytest.mark.parametrize("dtype", HALVES)
def test_16_bits_are_activated_before_they_are_rounded(dtype: str) -> None:
    x, weight, bias, _ = arrays((70,), 20, 70, DTYPES[dtype])
    z = np.empty((70, 70), DTYPES[dtype])
    y = fnn.linear(x, weight, bias, "sigmoid", z=z)
    single = fnn.linear(x[:50].astype(np.float32), weight.astype(np.float32), bias)
    assert_same_bits(z[:50], single.astype(DTYPES[dtype]))
    assert_same_bits(y[:50], fnn.sigmoid(single).astype(DTYPES[dtype]))


@every_dtype
def test_threads_do_not_change_the_bits(dtype: np.dtype[Any]) -> None:
    x, weight, bias, dy = arrays((63,), 300, 200, dtype)
    z = fnn.linear(x, weight, bias)
    results = []
    for threads in (1, 2):
        with num_threads(threads):
            results.append([fnn.linear(x, weight, bias, "gelu"), fnn.linear_backward(dy, x, weight, z, "gelu")[2]])
    for one, other in zip(*results, strict=True):
        assert_same_bits(one, other)


def test_leading_axes() -> None:
    x, weight, bias, dy = arrays((2, 3, 4), 5, 6)
    flat = fnn.linear(x.reshape(24, 5), weight, bias, "tanh")
    y = fnn.linear(x, weight, bias, "tanh")
    assert_same_bits(y, flat.reshape(2, 3, 4, 6))
    dx, dweight, dbias = fnn.linear_backward(dy, x, weight, y, "tanh")
    flat_dx, flat_dweight, flat_dbias = fnn.linear_backward(dy.reshape(24, 6), x.reshape(24, 5), weight, flat, "tanh")
    assert_same_bits(dx, flat_dx.reshape(x.shape))
    assert_same_bits(dweight, flat_dweight)
    assert_same_bits(dbias, flat_dbias)


@every_dtype
@pytest.mark.parametrize("shape", [(0, 3, 4), (2, 0, 4), (2, 3, 0), (70, 0, 3), (70, 3, 0), (0, 0, 0)])
def test_no_rows_no_inputs_no_outputs(shape: tuple[int, int, int], dtype: np.dtype[Any]) -> None:
    rows, inputs, outputs = shape
    x, weight, bias, dy = arrays((rows,), inputs, outputs, dtype)
    y = fnn.linear(x, weight, bias, "relu")
    expected = np.broadcast_to(np.maximum(bias, 0), (rows, outputs)) if inputs == 0 else np.zeros((rows, outputs))
    assert_same_bits(y, expected.astype(dtype))
    dx, dweight, dbias = fnn.linear_backward(dy, x, weight, y, "relu")
    assert dx.shape == x.shape and dweight.shape == weight.shape and dbias.shape == bias.shape
    assert not np.any(dweight.astype(np.float64))


@pytest.mark.parametrize("rows", [5, 200])
def test_nan_and_infinity(rows: int) -> None:
    x, weight, bias, _ = arrays((rows,), 8, 5)
    x[1, 2], x[2, 3], bias[4] = np.nan, np.inf, np.inf
    y = fnn.linear(x, weight, bias, "relu")
    assert np.isnan(y[1]).all() and np.isinf(y[[0, *range(3, rows)], 4]).all()
    assert np.isfinite(np.delete(y, (1, 2), axis=0)[:, :4]).all()


# ---- backward ----


@every_dtype
@pytest.mark.parametrize("activation", [None, "relu", "tanh", "softplus", ("leaky_relu", 0.1)], ids=str)
@pytest.mark.parametrize("rows", [1, 150])
def test_gradients(rows: int, activation: Any, dtype: np.dtype[Any], small_blocks: None) -> None:
    x, weight, bias, dy = arrays((rows,), 70, 45, dtype)
    name = None if activation is None else activation if isinstance(activation, str) else activation[0]
    saved = None if name is None else fnn.linear(x, weight, bias, activation if OPS[name].saves == "output" else None)
    inner = wide(dy)
    if saved is not None:
        params = () if isinstance(activation, str) else activation[1:]
        inner = getattr(fnn, f"{name}_backward")(inner, wide(saved), *params)
    exact = [inner @ wide(weight), inner.T @ wide(x), inner.sum(0)]
    sizes = [np.abs(inner) @ np.abs(wide(weight)), np.abs(inner).T @ np.abs(wide(x)), np.abs(inner).sum(0)]
    got = fnn.linear_backward(dy, x, weight, saved, activation)
    assert [each.dtype for each in got] == [dtype, dtype, bias.dtype]
    for result, value, size in zip(got, exact, sizes, strict=True):
        near(result, value, size, 8.0)
    # Into memory of the caller's, added to what is there
    old = [np.full(weight.shape, 0.5, dtype), np.full(bias.shape, 0.5, bias.dtype)]
    dx, dz = np.empty_like(x), np.empty(dy.shape, bias.dtype)
    again = fnn.linear_backward(
        dy, x, weight, saved, activation, dx=dx, dweight=old[0], dbias=old[1], dz=dz, accumulate=True
    )
    assert again[0] is dx and again[1] is old[0] and again[2] is old[1]
    near(dx, exact[0], sizes[0], 8.0)
    near(old[0], exact[1] + 0.5, sizes[1] + 0.5, 8.0)
    near(old[1], exact[2] + 0.5, sizes[2] + 0.5, 8.0)
    if activation is not None:
        near(dz, inner, np.abs(inner) + 1e-6, 8.0)


def test_only_what_is_needed() -> None:
    x, weight, _, dy = arrays((4,), 3, 5)
    every = fnn.linear_backward(dy, x, weight)
    for k, name in enumerate(("need_dx", "need_dweight", "need_dbias")):
        some = fnn.linear_backward(dy, x, weight, **{name: False})
        assert some[k] is None
        for got, expected in zip(some, every, strict=True):
            if got is not None:
                assert_same_bits(got, expected)
    # What is not needed is not looked for, and left alone where it is given.
    dweight = np.full(weight.shape, 7, np.float32)
    fnn.linear_backward(dy, x, weight, dweight=dweight, need_dweight=False, need_dbias=False, accumulate=True)
    assert np.all(dweight == 7)


def test_output_in_place_of_z() -> None:
    """The row says for which activations the sign of the output is that of the input."""
    x, weight, bias, dy = arrays((9,), 6, 7)
    for activation in ("relu", "relu6", "hardtanh", ("leaky_relu", 0.1)):
        z = np.empty((9, 7), np.float32)
        y = fnn.linear(x, weight, bias, activation, z=z)
        for one, other in zip(
            fnn.linear_backward(dy, x, weight, y, activation),
            fnn.linear_backward(dy, x, weight, z, activation),
            strict=True,
        ):
            assert_same_bits(one, other)


def test_dz_may_be_dy() -> None:
    x, weight, bias, dy = arrays((200,), 20, 30)
    y = fnn.linear(x, weight, bias, "sigmoid")
    expected = fnn.linear_backward(dy, x, weight, y, "sigmoid")
    got = fnn.linear_backward(dy, x, weight, y, "sigmoid", dz=dy)
    for one, other in zip(got, expected, strict=True):
        assert_same_bits(one, other)


@pytest.mark.parametrize("dtype", ["float32", *HALVES])
def test_memory(dtype: str) -> None:
    """With memory for all results nothing is allocated but scratch of a bounded size, and what the README says."""
    x, weight, bias, dy = arrays((600,), 700, 800, DTYPES[dtype])
    y, z, dx, dweight, dbias = (np.empty_like(like) for like in (dy, dy, x, weight, bias))
    dz = np.empty(dy.shape, np.float32)
    for scratch, accumulate in ((0 if dtype == "float32" else 4 << 20, False), (4 << 20, True)):
        tracemalloc.start()
        fnn.linear(x, weight, bias, "silu", z=z, out=y)
        fnn.linear_backward(dy, x, weight, z, "silu", dx=dx, dweight=dweight, dbias=dbias, dz=dz, accumulate=accumulate)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak <= scratch + 200_000


def test_pytorch() -> None:
    torch = pytest.importorskip("torch", reason="compares with PyTorch, which is not installed")
    for rows, inputs, outputs in ((1, 1, 1), (5, 7, 3), (100, 64, 33)):
        x, weight, bias, dy = arrays((rows,), inputs, outputs)
        theirs = [torch.from_numpy(each.copy()).requires_grad_() for each in (x, weight, bias)]
        y = torch.nn.functional.linear(*theirs)
        torch.nn.functional.silu(y).backward(torch.from_numpy(dy))
        z = np.empty(dy.shape, np.float32)
        ours = fnn.linear(x, weight, bias, "silu", z=z)
        np.testing.assert_allclose(ours, torch.nn.functional.silu(y).detach().numpy(), rtol=1e-4, atol=1e-5)
        for got, their in zip(fnn.linear_backward(dy, x, weight, z, "silu"), theirs, strict=True):
            np.testing.assert_allclose(got, their.grad.numpy(), rtol=1e-4, atol=1e-4)


# ---- what is refused ----


def test_shapes_and_dtypes_that_do_not_go_together() -> None:
    x, weight, bias, dy = arrays((4,), 3, 5)
    for error, message, call in (
        (ValueError, "weight has shape", lambda: fnn.linear(x, weight[0], bias)),
        (ValueError, "x has shape", lambda: fnn.linear(x[:, :2], weight, bias)),
        (ValueError, "x has shape", lambda: fnn.linear(np.float32(1), weight, bias)),
        (ValueError, "bias has shape", lambda: fnn.linear(x, weight, bias[:4])),
        (ValueError, "there is no activation 'rely'", lambda: fnn.linear(x, weight, bias, "rely")),
        (TypeError, "activation is 3", lambda: fnn.linear(x, weight, bias, 3)),  # type: ignore[arg-type]
        (ValueError, "activation 'prelu' needs alpha", lambda: fnn.linear(x, weight, bias, "prelu")),
        (ValueError, "alpha has shape .* one number", lambda: fnn.linear(x, weight, bias, ("prelu", np.ones(5)))),
        (TypeError, "x has dtype float16 and weight has dtype", lambda: mixed(x, weight)),
        (ValueError, "out overlaps x", lambda: fnn.linear(x, weight[:3], out=x[:, :3])),
        (ValueError, "z overlaps out", lambda: fnn.linear(x, weight, out=dy, z=dy)),
        (ValueError, "z overlaps weight", lambda: fnn.linear(x[:, :3], weight[:3], z=weight[:4])),
    ):
        with pytest.raises(error, match=f"^linear: {message}"):
            call()
    for error, message, call in (
        (ValueError, "dy has shape", lambda: fnn.linear_backward(dy[:3], x, weight)),
        (TypeError, "dy has dtype", lambda: fnn.linear_backward(dy.astype(np.float64), x, weight)),
        (TypeError, "saved is None .* expected z", lambda: fnn.linear_backward(dy, x, weight, None, "relu")),
        (TypeError, "saved is None .* expected y", lambda: fnn.linear_backward(dy, x, weight, None, "tanh")),
        (ValueError, "saved goes with an activation", lambda: fnn.linear_backward(dy, x, weight, dy)),
        (ValueError, "saved has shape", lambda: fnn.linear_backward(dy, x, weight, dy[:2], "relu")),
        (ValueError, "dx overlaps x", lambda: fnn.linear_backward(dy, x, weight, dx=x)),
        (ValueError, "dweight overlaps weight", lambda: fnn.linear_backward(dy, x, weight, dweight=weight)),
        (ValueError, "dz overlaps saved", lambda: fnn.linear_backward(dy, x, weight, bias_like(dy), "relu", dz=SAVED)),
        (ValueError, "accumulate adds to dweight", lambda: fnn.linear_backward(dy, x, weight, accumulate=True)),
        (TypeError, "dbias has dtype", lambda: fnn.linear_backward(dy, x, weight, dbias=np.zeros(5))),
    ):
        with pytest.raises(error, match=f"^linear_backward: {message}"):
            call()


SAVED = np.zeros((4, 5), np.float32)


def bias_like(dy: Array) -> Array:
    assert SAVED.shape == dy.shape
    return SAVED


def mixed(x: Array, weight: Array) -> Array:
    bfloat16 = DTYPES.get("bfloat16")
    if bfloat16 is None:
        raise TypeError("linear: x has dtype float16 and weight has dtype bfloat16")
    return fnn.linear(x.astype(np.float16), weight.astype(bfloat16))


def test_float16_beside_float32_is_float32() -> None:
    x, weight, bias, _ = arrays((4,), 3, 5)
    half = x.astype(np.float16)
    assert_same_bits(fnn.linear(half, weight, bias), fnn.linear(half.astype(np.float32), weight, bias))
