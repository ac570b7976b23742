"""fastnn.ufuncs: real ufuncs, with everything that NumPy gives to one."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from layouts import BACKENDS, DTYPES, LAYOUTS, PASSES, REPRESENTATIVE, Pass, active, assert_same_bits, using

import fastnn as fnn
from fastnn.kernels.cpu import runtime
from fastnn.table import OPS

pytestmark = pytest.mark.filterwarnings("error")
every_pass = pytest.mark.parametrize("run", PASSES, ids=repr)
every_dtype = pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
NAMES = [run.name for run in PASSES] + [
    f"{op.name}_parameter_gradient" for op in OPS.values() if op.learned is not None
]
INTEGERS = ["bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "longlong", "ulonglong"]


def ufunc(name: str) -> np.ufunc:
    found: np.ufunc = getattr(fnn.ufuncs, name)
    return found


def test_one_per_pass() -> None:
    assert sorted(fnn.ufuncs.__all__) == sorted(NAMES)
    with pytest.raises(AttributeError, match="erf.*relu"):
        fnn.ufuncs.erf  # noqa: B018


@pytest.mark.parametrize("name", NAMES)
def test_is_a_ufunc(name: str) -> None:
    f = ufunc(name)
    op = OPS[name.removesuffix("_parameter_gradient").removesuffix("_backward")]
    arrays = 1 if name == op.name else 2
    assert isinstance(f, np.ufunc) and f.__name__ == name
    assert (f.nin, f.nout, f.signature) == (arrays + len(op.params), 1, None)
    expected = [c * arrays + ("f" if c == "e" else c) * len(op.params) + "->" + c for c in "efd"]
    assert f.types[-2:] == expected[1:]
    assert f.types == (expected[1:] if name.endswith("_parameter_gradient") else expected)
    assert f.__doc__ is not None and f"{op.name}" in f.__doc__ and ("y =" in f.__doc__ or "dy/dx" in f.__doc__)


@every_pass
@every_dtype
def test_same_bits_as_the_function(run: Pass, dtype: np.dtype[Any]) -> None:
    f, inputs = ufunc(run.name), run.inputs(dtype)
    single = np.float64 if dtype == np.float64 else np.float32
    params = [single(value) for value in run.params]
    expected = run(*inputs)
    for isa in runtime.isas():
        with active(isa):
            assert_same_bits(f(*inputs, *params), run(*inputs))
    assert_same_bits(f(*inputs, *run.params), expected)  # Python floats do not widen
    out = np.empty_like(expected)
    assert f(*inputs, *params, out=out) is out
    assert_same_bits(out, expected)
    mask = np.arange(out.size) % 3 == 0
    out = np.full_like(expected, 7)
    f(*inputs, *params, out=(out,), where=mask)
    assert_same_bits(out[mask], expected[mask])
    assert (out[~mask] == 7).all()
    blocks = [value[-60:].reshape(3, 4, 5) for value in inputs]
    for layout in LAYOUTS.values():
        assert_same_bits(f(*map(layout, blocks), *params), expected[-60:].reshape(3, 4, 5))


def test_broadcasting() -> None:
    x = np.linspace(-3, 3, 20, dtype=np.float32).reshape(4, 5)
    slopes = np.float32([0, 0.1, 0.2, -0.3, 5])
    y = fnn.ufuncs.leaky_relu(x[:, None, :], slopes[:, None])
    assert y.shape == (4, 5, 5)
    for k, slope in enumerate(slopes):
        assert_same_bits(y[:, k], fnn.leaky_relu(x, float(slope)))
    tops = np.float32([1, 2, -0.5, 3])
    y = fnn.ufuncs.hardtanh(x, -1.0, tops[:, None])
    for k, top in enumerate(tops):
        assert_same_bits(y[k], fnn.hardtanh(x[k], -1.0, float(top)))
    assert_same_bits(fnn.ufuncs.tanh_backward(np.float32(2), x), fnn.tanh_backward(np.full_like(x, 2), x))
    with pytest.raises(ValueError, match="broadcast"):
        fnn.ufuncs.leaky_relu(x, slopes[:4])


@pytest.mark.parametrize("dtype", INTEGERS)
def test_integers_are_promoted_as_tanh_promotes_them(dtype: str) -> None:
    x = np.array([0, 1, 2, 100]).astype(dtype)
    expected = np.tanh(x).dtype
    for op in OPS.values():
        for name, arrays in ((op.name, [x]), (f"{op.name}_backward", [x, x])):
            for backend in BACKENDS:
                if backend == "numba" and (expected != np.float32 or op.name not in REPRESENTATIVE):
                    continue
                with using(backend):
                    y = getattr(fnn, name)(*arrays, *op.parameters_default)
                    wide = getattr(fnn, name)(*(value.astype(expected) for value in arrays), *op.parameters_default)
                for got, wanted in zip(y, wide, strict=True) if isinstance(y, tuple) else [(y, wide)]:
                    assert_same_bits(got, wanted)
                assert (y[0] if isinstance(y, tuple) else y).dtype == expected, name
            if not op.params:  # with a Python float beside them, NumPy makes integers float64
                assert_same_bits(ufunc(name)(*arrays), getattr(fnn, name)(*arrays))
    for value in (3, True, np.int16(3), np.uint8(3)):
        for got in (fnn.ufuncs.gelu(value), fnn.gelu(value)):
            assert type(got) is type(np.tanh(value))


def test_conversions_are_those_of_numpy() -> None:
    x = np.float32([-1, 2])
    assert fnn.ufuncs.relu(x, dtype=np.float64).dtype == np.float64
    assert fnn.ufuncs.relu(x.astype(">f4")).tolist() == [0, 2]
    assert fnn.ufuncs.leaky_relu(x, np.array([0.5])).dtype == np.float64
    assert fnn.ufuncs.leaky_relu(x.astype(np.float16), np.float32(0.5)).dtype == np.float16
    for wrong in (x.astype(complex), np.array(["a"]), np.array([None]), x.astype(np.longdouble)):
        with pytest.raises(TypeError, match="relu"):
            fnn.ufuncs.relu(wrong)
    with pytest.raises(TypeError, match="Cannot cast"):
        fnn.ufuncs.relu(x, out=np.zeros(2, np.int32))
    with pytest.raises(TypeError):
        fnn.ufuncs.leaky_relu(x)
    with pytest.raises(ValueError, match="read-only"):
        fnn.ufuncs.relu(x, out=np.broadcast_to(x, (3, 2)))


def test_overlapping_out_is_as_if_it_did_not_overlap() -> None:
    """NumPy sees to it, for ufuncs."""
    for step in (slice(1, 41), slice(4, 44)):
        x = np.linspace(-3, 3, 50, dtype=np.float32)
        expected = fnn.ufuncs.tanh(x[:40].copy())
        fnn.ufuncs.tanh(x[:40], out=x[step])
        assert_same_bits(x[step], expected)


def test_methods_are_those_of_numpy() -> None:
    """What NumPy defines for such ufuncs, and its errors where it defines nothing."""
    x = np.float32([-1, 2, -3])
    for method in ("reduce", "accumulate"):
        with pytest.raises(ValueError, match=f"{method} only supported for binary functions"):
            getattr(fnn.ufuncs.relu, method)(x)
        with pytest.raises(ValueError, match=f"{method} only supported for binary functions"):
            getattr(fnn.ufuncs.leaky_relu_backward, method)(x)
    with pytest.raises(ValueError, match="outer product only supported for binary functions"):
        fnn.ufuncs.relu.outer(x, x)
    assert_same_bits(fnn.ufuncs.leaky_relu.outer(x, x), fnn.ufuncs.leaky_relu(x[:, None], x))
    fnn.ufuncs.relu.at(x, [0, 1])
    assert x.tolist() == [0, 2, -3]


@pytest.mark.parametrize("isa", runtime.isas())
@pytest.mark.parametrize("name", NAMES)
def test_no_floating_point_warnings(name: str, isa: str) -> None:
    """Not from what is computed on the way, nor by how many threads there are; and none is taken from others."""
    extreme = np.array([np.inf, -np.inf, np.nan, 3e38, -3e38, 1e-45, -1e-40, 0.0, -0.0, 88.0, -104.0, 1e30], np.float32)
    f = ufunc(name)
    with active(isa), np.errstate(all="raise"):
        for dtype in (np.float16, np.float32, np.float64):
            with np.errstate(all="ignore"):
                x = np.resize(extreme, 200).astype(dtype)
            f(*[x] * f.nin)
            f(*[x[::2]] * f.nin)


def test_bfloat16_python_floats_are_rounded_to_float32_only() -> None:
    """Strided or not, by function or by ufunc: 0.01 is not rounded to the 8 bits of bfloat16 on its way."""
    for dtype in DTYPES.values():
        x = np.linspace(-9, 9, 300).astype(dtype)
        expected = fnn.leaky_relu(x, 0.01)
        assert_same_bits(fnn.leaky_relu(np.repeat(x, 2)[::2], 0.01), expected)
        assert_same_bits(fnn.leaky_relu(x, np.array(0.01)), expected)
        assert_same_bits(fnn.ufuncs.leaky_relu(x, 0.01), expected)
        if dtype.itemsize == 2:
            wide = x.astype(np.float32)
            assert_same_bits(expected, np.where(wide > 0, wide, wide * np.float32(0.01)).astype(dtype))


PICKLED = """
import pickle, sys
import fastnn as fnn
for name, function, ufunc in pickle.load(sys.stdin.buffer):
    assert function is getattr(fnn, name) and ufunc is getattr(fnn.ufuncs, name), name
"""


def test_pickle_and_copy() -> None:
    functions = [(run.name, run.function, ufunc(run.name)) for run in PASSES]
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        for _, function, f in functions:
            assert pickle.loads(pickle.dumps(function, protocol)) is function
            assert pickle.loads(pickle.dumps(f, protocol)) is f
    assert copy.deepcopy(fnn.gelu) is fnn.gelu and copy.copy(fnn.ufuncs.gelu) is fnn.ufuncs.gelu
    done = subprocess.run([sys.executable, "-c", PICKLED], input=pickle.dumps(functions), capture_output=True)
    assert done.returncode == 0, done.stderr.decode()


def test_cloudpickle() -> None:
    cloudpickle = pytest.importorskip("cloudpickle")
    f = pickle.loads(cloudpickle.dumps(lambda x: fnn.relu(fnn.ufuncs.tanh(x))))
    assert f(np.float32(-1)) == 0


def test_a_pool_of_processes() -> None:
    """Functions and ufuncs go to processes that start afresh."""
    code = (
        "import multiprocessing, numpy, fastnn\n"
        "if __name__ == '__main__':\n"
        "    x = [numpy.float32([-1, 2])] * 2\n"
        "    with multiprocessing.get_context('spawn').Pool(1) as pool:\n"
        "        for f in (fastnn.relu, fastnn.ufuncs.relu):\n"
        "            assert [y.tolist() for y in pool.map(f, x)] == [[0, 2]] * 2\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
