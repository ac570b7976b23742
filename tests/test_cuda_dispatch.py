"""Where CuPy arrays go, and what is said where they cannot: mixed arrays, two devices, no CuPy, no GPU."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
from emulator.cupy.record import recording, running

import fastnn as fnn

x = np.linspace(-2, 2, 12, dtype=np.float32).reshape(3, 4)


@pytest.mark.parametrize("backend", ["native", "reference", "cuda"])
def test_arrays_say_where_they_are_computed(cupy: Any, backend: str) -> None:
    with fnn.use(backend), recording() as record:
        y = fnn.relu(cupy.asarray(x))
        out = cupy.empty_like(y)
        assert fnn.relu_backward(y, y, out=out) is out
    assert isinstance(y, cupy.ndarray) and record.kernels == ["forward", "backward"] and record.to_host == []


def test_dtypes_as_on_the_host(cupy: Any) -> None:
    for dtype in (np.int8, np.uint16, np.int64, np.bool_, np.float16, np.float32, np.float64):
        values = np.arange(6).astype(dtype)
        found, expected = fnn.relu(cupy.asarray(values)), fnn.relu(values)
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found.get(), expected)
    with pytest.raises(TypeError, match="relu: x has dtype complex64; expected float16"):
        fnn.relu(cupy.asarray(np.ones(3, np.complex64)))
    dx = fnn.relu_backward(cupy.ones(3, np.float64), cupy.ones(3, np.float32))
    assert dx.dtype == np.float64


def test_bad_arguments(cupy: Any) -> None:
    there = cupy.asarray(x)
    with pytest.raises(ValueError, match=r"relu_backward: dy has shape \(3,\) and saved has shape \(3, 4\)"):
        fnn.relu_backward(cupy.ones(3, np.float32), there)
    with pytest.raises(ValueError, match=r"relu: out has shape \(4,\); expected \(3, 4\)"):
        fnn.relu(there, out=cupy.ones(4, np.float32))
    with pytest.raises(TypeError, match="relu: out has dtype float64; expected float32"):
        fnn.relu(there, out=cupy.ones((3, 4)))
    with pytest.raises(ValueError, match="relu: out overlaps x in memory"):
        fnn.relu(there[:2], out=there[1:])
    with pytest.raises(ValueError, match="elu: alpha is nan; expected"):
        fnn.elu(there, float("nan"))
    with pytest.raises(ValueError, match=r"prelu: alpha has shape \(3,\)"):
        fnn.prelu(there, cupy.ones(3, np.float32))
    with pytest.raises(TypeError):
        fnn.ufuncs.relu(there)


def test_host_and_device_are_not_mixed(cupy: Any) -> None:
    there = cupy.asarray(x)
    before = there.get()
    for call, name in (
        (lambda: fnn.relu(there, out=np.empty_like(x)), "out is a NumPy array and x is a CuPy array"),
        (lambda: fnn.relu(x, out=cupy.empty_like(there)), "x is a NumPy array and out is a CuPy array"),
        (lambda: fnn.relu_backward(x, there), "dy is a NumPy array and saved is a CuPy array"),
        (lambda: fnn.relu_backward(there, x), "saved is a NumPy array and dy is a CuPy array"),
        (lambda: fnn.prelu(there, np.ones(4, np.float32)), "alpha is a NumPy array and x is a CuPy array"),
        (lambda: fnn.prelu(x, cupy.ones(4, np.float32)), "x is a NumPy array and alpha is a CuPy array"),
        (lambda: fnn.relu_backward([1.0], there), "dy is of type list and saved is a CuPy array"),
    ):
        with recording() as record, pytest.raises(TypeError, match=name):
            call()
        assert record.launches == record.to_host == []
    np.testing.assert_array_equal(there.get(), before)


def test_two_devices(cupy: Any) -> None:
    here = cupy.asarray(x)
    with cupy.cuda.Device(1):
        there = cupy.asarray(x)
        fnn.relu(there)
    with pytest.raises(
        ValueError, match=r"relu: x is on device 1, and the current device is 0; .*cupy.cuda.Device\(1\)"
    ):
        fnn.relu(there)
    with pytest.raises(ValueError, match="relu_backward: saved is on device 1"):
        fnn.relu_backward(here, there)
    with pytest.raises(ValueError, match="relu: out is on device 1"):
        fnn.relu(here, out=there)


def test_arrays_of_numpy_are_refused_where_cuda_was_asked_for(cupy: Any) -> None:
    expected = r"is in main memory while the backend in force is 'cuda', .* cupy.asarray\(...\) .* fnn.use\('native'\)"
    with fnn.use("cuda"):
        with pytest.raises(TypeError, match=f"^relu: x {expected}"):
            fnn.relu(x)
        with pytest.raises(TypeError, match=f"^relu_backward: saved {expected}"):
            fnn.relu_backward(x, x)
        with pytest.raises(TypeError, match="arrays in main memory were given while the backend in force is 'cuda'"):
            fnn.softmax(x)
        assert fnn.backend() == "cuda"
    fnn.relu(x)


def test_formulas_of_ones_own_run_on_the_processor(cupy: Any) -> None:
    pytest.importorskip("numba")
    bent = fnn.activation(lambda v: v * v, derivative=lambda v: 2 * v)
    with pytest.raises(TypeError, match=r"x is a CuPy array, and formulas of one's own .* cupy.asnumpy\(x\)"):
        bent(cupy.asarray(x))
    with pytest.raises(TypeError, match=r"dy is a CuPy array, .* cupy.asnumpy\(dy\)"):
        bent.backward(cupy.asarray(x), cupy.asarray(x))


def test_no_device(cupy: Any) -> None:
    with running(devices=0):
        with pytest.raises(
            RuntimeError, match="the CUDA backend needs an NVIDIA GPU and its driver: cudaErrorNoDevice"
        ):
            fnn.use("cuda")
        assert "no device: cudaErrorNoDevice" in fnn.info().backends["cuda"]
    assert fnn.backend() == "native"
    assert fnn.info().backends["cuda"].endswith(" on stand-in, stand-in")


def test_no_cupy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(ImportError, match=r'the CUDA backend needs cupy: pip install "fastnn\[cuda\]"'):
        fnn.use("cuda")
    assert fnn.backend() == "native"
    fnn.relu(x)
    assert "cuda" in repr(fnn.info())
