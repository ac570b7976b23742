"""Which implementation runs: `use`, and arrays of other libraries."""

from __future__ import annotations

import subprocess
import sys
import threading
import types
from typing import Any

import numpy as np
import pytest
from layouts import BACKENDS, assert_same_bits

import fastnn as fnn
from fastnn import dispatch
from fastnn.kernels import reference
from fastnn.table import OPS

x32 = np.linspace(-3, 3, 12, dtype=np.float32).reshape(4, 3)
ALPHAS: list[Any] = [0.25, np.float32([0.1, 0.2, 0.3]), np.float32([[1], [2], [3], [4]])]


@pytest.fixture
def spy(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the ops that the reference backend is asked for."""
    asked: list[str] = []
    forward = reference.forward

    def noted(name: str, *args: Any, **kwargs: Any) -> Any:
        asked.append(name)
        return forward(name, *args, **kwargs)

    monkeypatch.setattr(reference, "forward", noted)
    return asked


# ---- use ----


def test_native_is_the_default() -> None:
    assert fnn.backend() == "native"


def test_use_for_the_process(spy: list[str]) -> None:
    try:
        fnn.use("reference")
        assert fnn.backend() == "reference"
        fnn.relu(x32)
        seen: list[str] = []
        thread = threading.Thread(target=lambda: (fnn.gelu(x32), seen.append(fnn.backend())))
        thread.start()
        thread.join()
        assert spy == ["relu", "gelu"] and seen == ["reference"]
    finally:
        fnn.use("native")
    assert fnn.backend() == "native"
    fnn.relu(x32)
    assert spy == ["relu", "gelu"]


def test_use_as_a_context_manager(spy: list[str]) -> None:
    with fnn.use("reference") as chosen:
        assert repr(chosen) == "<fastnn backend 'reference'>"
        fnn.relu(x32)
        with fnn.use("native"):
            assert fnn.backend() == "native"
            fnn.tanh(x32)
            with fnn.use("reference"):
                fnn.mish(x32)
            fnn.tanh(x32)
        assert fnn.backend() == "reference"
    assert fnn.backend() == "native" and spy == ["relu", "mish"]
    with pytest.raises(KeyError), fnn.use("reference"):
        raise KeyError
    assert fnn.backend() == "native"
    fnn.relu(x32)
    assert spy == ["relu", "mish"]


def test_a_context_manager_may_be_used_again() -> None:
    chosen = fnn.use("reference")
    try:
        with chosen, chosen:
            assert fnn.backend() == "reference"
        assert fnn.backend() == "native"
        with chosen:
            assert fnn.backend() == "reference"
        assert fnn.backend() == "native"
    finally:
        fnn.use("native")


def test_a_block_is_for_its_own_thread() -> None:
    inside, seen = threading.Event(), threading.Event()
    found: list[str] = []

    def other() -> None:
        assert inside.wait(60)
        found.append(fnn.backend())
        seen.set()

    thread = threading.Thread(target=other)
    thread.start()
    with fnn.use("reference"):
        inside.set()
        assert seen.wait(60)
    thread.join()
    assert found == ["native"]


def test_blocks_of_several_threads_do_not_change_the_default() -> None:
    """Each thread's `use` is made before any of the blocks begins."""
    made, entered = threading.Barrier(4), threading.Barrier(4)
    seen: list[str] = []

    def work(name: str) -> None:
        for _ in range(50):
            chosen = fnn.use(name)
            made.wait()
            with chosen:
                seen.append(fnn.backend() == name)
                entered.wait()

    threads = [
        threading.Thread(target=work, args=(name,)) for name in ("reference", "native", "reference", "reference")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 200 and all(seen)
    assert fnn.backend() == "native"


def test_choices_are_not_remembered_for_ever() -> None:
    for _ in range(100):
        fnn.use("reference")
        fnn.use("native")
        with fnn.use("reference"):
            pass
    assert len(dispatch._choices) <= 2 and fnn.backend() == "native"


def test_wrong_backends() -> None:
    expected = "expected one of " + ", ".join(map(repr, dispatch.BACKENDS))
    for wrong in ("Native", "torch", ""):
        with pytest.raises(ValueError, match=f"^use: there is no backend '{wrong}'; {expected}$"):
            fnn.use(wrong)
    for strange in (None, 3, b"native", ["native"]):
        with pytest.raises(TypeError, match=f"^use: backend is .* of type .*; {expected}$"):
            fnn.use(strange)  # type: ignore[arg-type]
    assert fnn.backend() == "native"


def test_numba_that_is_not_installed() -> None:
    code = (
        "import sys; sys.modules['numba'] = None\n"
        "import fastnn\n"
        "try:\n    fastnn.use('numba')\n"
        "except ImportError as error:\n    print(error)\n"
        "print(fastnn.backend(), fastnn.relu([-1.0, 2.0]).tolist())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    message, after = done.stdout.splitlines()
    assert "pip install" in message and "numba" in message and after == "native [0.0, 2.0]", done.stderr


def test_every_backend_is_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    for backend, path in dispatch.BACKENDS.items():
        if backend in BACKENDS and backend != "native":
            with fnn.use(backend), monkeypatch.context() as patch:
                module = types.SimpleNamespace(forward=lambda name, x, *params, out: np.float32(42) + np.zeros_like(x))
                patch.setitem(sys.modules, path, module)
                assert fnn.gelu(x32)[0, 0] == 42
        assert fnn.gelu(x32)[0, 0] != 42


# ---- arrays of other libraries ----


def make(kind: str, values: Any) -> Any:
    """A 2-D array of another library."""
    if kind == "dask":
        return pytest.importorskip("dask.array").from_array(values, chunks=2)
    if kind == "pandas":
        return pytest.importorskip("pandas").DataFrame(
            values, columns=["dtype", "dims", "shape"]
        )  # names that could confuse
    xarray = pytest.importorskip("xarray")
    if kind == "xarray":
        return xarray.DataArray(values, dims=("u", "v"), coords={"u": [5, 6, 7, 8]})
    pytest.importorskip("dask.array")
    return xarray.DataArray(values, dims=("u", "v")).chunk(2)


def values_of(kind: str, array: Any) -> Any:
    return array.compute() if kind == "dask" else array.to_numpy() if kind == "pandas" else array.values


FOREIGN = ["dask", "pandas", "xarray", "xarray of dask"]
every_foreign = pytest.mark.parametrize("kind", FOREIGN)


@every_foreign
def test_functions_and_ufuncs_keep_the_type(kind: str) -> None:
    for dtype in (np.float32, np.float64, np.int16):
        x = (x32 * 2).astype(dtype)
        foreign = make(kind, x)
        for op in OPS.values():
            params = op.parameters_default
            calls = [(getattr(fnn, op.name), [foreign], [x])]
            backward = getattr(fnn, f"{op.name}_backward")
            calls += [
                (backward, [foreign, foreign], [x, x]),
                (backward, [x, foreign], [x, x]),
                (backward, [foreign, x], [x, x]),
            ]
            if not op.params:
                calls += [(getattr(fnn.ufuncs, op.name), [foreign], [x])]
            for function, given, plain in calls:
                got, expected = function(*given, *params), function(*plain, *params)
                if isinstance(got, tuple):
                    assert np.asarray(got[1]).dtype == expected[1].dtype
                    np.testing.assert_allclose(np.asarray(got[1]), expected[1], rtol=1e-6)
                    got, expected = got[0], expected[0]
                assert type(got) is type(foreign)
                assert_same_bits(values_of(kind, got), expected)
    y = fnn.gelu(make(kind, x32))
    if kind == "pandas":
        assert list(y.columns) == ["dtype", "dims", "shape"]
    if kind == "xarray":
        assert y.dims == ("u", "v") and y.u.values.tolist() == [5, 6, 7, 8]


@every_foreign
def test_parameters_beside_other_arrays(kind: str) -> None:
    for dtype in (np.float32, np.float64):
        x = x32.astype(dtype)
        foreign = make(kind, x)
        for alpha in ALPHAS:
            y = fnn.prelu(foreign, alpha)
            assert_same_bits(values_of(kind, y), fnn.prelu(x, alpha))  # no wider than x
            dx, dalpha = fnn.prelu_backward(foreign, foreign, alpha)
            expected = fnn.prelu_backward(x, x, alpha)
            assert_same_bits(values_of(kind, dx), expected[0])
            lazy = "dask" in kind
            assert isinstance(dalpha, np.ndarray) != lazy
            computed = dalpha.compute() if lazy else dalpha
            assert computed.shape == np.shape(alpha) and computed.dtype == dtype
            np.testing.assert_allclose(computed, expected[1], rtol=1e-6)
        assert_same_bits(values_of(kind, fnn.leaky_relu(foreign, 0.01)), fnn.leaky_relu(x, 0.01))
    foreign = make(kind, x32)
    for wrong, error in ((1e39, ValueError), (float("nan"), ValueError), ("a", TypeError), (np.ones(5), ValueError)):
        with pytest.raises(error, match="^leaky_relu: negative_slope"):
            fnn.leaky_relu(foreign, wrong)
    with pytest.raises(ValueError, match="^prelu: alpha has shape"):
        fnn.prelu(foreign, np.ones(5))
    with pytest.raises(ValueError, match="^hardtanh: min_val must not be above max_val"):
        fnn.hardtanh(foreign, 1.0, -1.0)
    with pytest.raises(TypeError, match=r"^relu\(\) got an unexpected keyword argument 'axis'"):
        fnn.relu(foreign, axis=0)


def test_other_arrays_as_parameters_and_out() -> None:
    pd = pytest.importorskip("pandas")
    slopes = pd.Series(np.float32([0.1, 0.2, 0.3]))
    assert_same_bits(fnn.prelu(x32, slopes), fnn.prelu(x32, slopes.to_numpy()))
    with pytest.raises(TypeError, match="^relu: out is a DataFrame; expected a numpy.ndarray"):
        fnn.relu(x32, out=pd.DataFrame(x32))


def test_dask_stays_lazy_and_computes_block_by_block() -> None:
    da = pytest.importorskip("dask.array")
    touched: list[tuple[int, ...]] = []

    def block(values: Any) -> Any:
        touched.append(values.shape)
        return values

    x = da.from_array(x32, chunks=2).map_blocks(block, dtype=np.float32, meta=np.empty((0, 0), np.float32))
    touched.clear()
    results = [fnn.gelu(x), fnn.gelu_backward(x, x), *fnn.prelu_backward(x, x, np.float32([1, 2, 3]))]
    assert touched == []
    assert results[0].chunks == x.chunks
    assert_same_bits(results[0].compute(scheduler="synchronous"), fnn.gelu(x32))
    assert touched and all(max(shape) <= 2 for shape in touched)


def test_dask_graphs_go_to_other_processes() -> None:
    pytest.importorskip("dask.array")
    code = (
        "import dask.array as da, numpy as np, pickle, sys, fastnn\n"
        "y = fastnn.leaky_relu(da.from_array(np.float32([-1, 2]), chunks=1), 0.5)\n"
        "sys.stdout.buffer.write(pickle.dumps(y))\n"
    )
    made = subprocess.run([sys.executable, "-c", code], capture_output=True)
    assert made.returncode == 0, made.stderr.decode()
    code = "import pickle, sys; print(pickle.load(sys.stdin.buffer).compute(scheduler='synchronous').tolist())"
    done = subprocess.run([sys.executable, "-c", code], input=made.stdout, capture_output=True)
    assert done.stdout.split() == [b"[-0.5,", b"2.0]"], done.stderr.decode()


def test_pandas_series_and_extension_arrays() -> None:
    pd = pytest.importorskip("pandas")
    series = pd.Series(np.float32([-1, 2]), index=["a", "b"], name="n")
    y = fnn.relu(series)
    assert isinstance(y, pd.Series) and y.dtype == np.float32 and y.to_dict() == {"a": 0, "b": 2} and y.name == "n"
    missing = fnn.leaky_relu(pd.Series([-1.5, None], dtype="Float32"), 0.5)
    assert str(missing.dtype) == "Float32" and missing[0] == -0.75 and missing[1] is pd.NA
    assert isinstance(fnn.relu(pd.Index([-1.0, 2.0])), pd.Index)
    with pytest.raises(TypeError, match="relu"):
        fnn.relu(pd.Series(["a", "b"]))
    with pytest.raises(TypeError, match="relu"):
        fnn.relu(pd.Series(["a", "b"], dtype="category"))


def test_xarray_datasets_and_names() -> None:
    xr = pytest.importorskip("xarray")
    a = xr.DataArray(x32, dims=("u", "v"))
    both = fnn.leaky_relu(xr.Dataset({"a": a, "b": a * 2}), 0.5)
    assert isinstance(both, xr.Dataset)
    assert_same_bits(both["a"].values, fnn.leaky_relu(x32, 0.5))
    turned = fnn.tanh_backward(a, a.transpose("v", "u"))  # dimensions are matched by their names
    assert_same_bits(turned.values, fnn.tanh_backward(x32, x32))


@every_foreign
def test_refused_arrays_of_other_libraries(kind: str) -> None:
    wrong = make(kind, x32.astype(complex))
    with pytest.raises(
        TypeError, match=r"^relu: x is of type \w+\.\w+ and dtype complex128; expected float16, bfloat16"
    ):
        fnn.relu(wrong)
    with pytest.raises(TypeError, match=r"^tanh_backward: saved is of type \w+\.\w+ and dtype complex128; expected"):
        fnn.tanh_backward(x32, wrong)
    if kind in ("dask", "pandas"):
        with pytest.raises(
            ValueError, match=r"^tanh_backward: dy has shape \(3,\) and saved has shape \(4, 3\); expected"
        ):
            fnn.tanh_backward(x32[0], make(kind, x32))
    with (
        fnn.use("reference"),
        pytest.raises(
            TypeError, match=r"^relu: x is of type .*, which only the backend 'native' takes; .* 'reference'$"
        ),
    ):
        fnn.relu(make(kind, x32))
