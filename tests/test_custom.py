"""`@fnn.activation`: a formula of one's own as function, gradient, ufunc and layer."""

from __future__ import annotations

import copy
import math
import pickle
from concurrent.futures import ThreadPoolExecutor
from math import log1p
from typing import Any

import numpy as np
import pytest

import fastnn as fnn
from fastnn import custom, nn, optional

pytest.importorskip("numba")
RNG = np.random.default_rng(0)
DTYPES = ["float16", "bfloat16", "float32", "float64"]


@fnn.activation
def bent(x: float, a: float = 0.25) -> float:
    """A line with a bend."""
    return a * (math.sqrt(x * x + 1) - 1) + x


@bent.derivative
def bent(x: float, a: float = 0.25) -> float:  # noqa: F811
    return a * x / math.sqrt(x * x + 1) + 1


def exact(x: Any, a: float = 0.25) -> Any:
    x = np.asarray(x, np.float64)
    return a * (np.sqrt(x * x + 1) - 1) + x


def slope(x: Any, a: float = 0.25) -> Any:
    x = np.asarray(x, np.float64)
    return a * x / np.sqrt(x * x + 1) + 1


def dtype_of(name: str) -> Any:
    return np.dtype(pytest.importorskip("ml_dtypes").bfloat16 if name == "bfloat16" else name)


def close(got: Any, wanted: Any) -> None:
    tolerance = {"float64": 1e-14, "float32": 3e-7, "float16": 2e-3, "bfloat16": 1e-2}[got.dtype.name]
    np.testing.assert_allclose(got.astype(np.float64), wanted, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", DTYPES)
@pytest.mark.parametrize("size", [0, 1, 7, 1000, 300_001])
def test_values_and_gradients(size: int, name: str) -> None:
    x, dy = (RNG.normal(scale=3, size=size).astype(dtype_of(name)) for _ in range(2))
    y, dx = bent(x, 0.5), bent.backward(dy, x, 0.5)
    assert y.dtype == dx.dtype == x.dtype
    close(y, exact(x, 0.5))
    close(dx, dy.astype(np.float64) * slope(x, 0.5))


@pytest.mark.parametrize("name", DTYPES)
def test_strides_out_and_in_place(name: str) -> None:
    whole = RNG.normal(size=(60, 70)).astype(dtype_of(name))
    for x in (whole[::2, 1::3], whole.T, whole[::-1], np.broadcast_to(whole[:1], (3, 70)), whole[0, 0]):
        close(bent(np.asarray(x)) if np.ndim(x) else np.asarray(bent(x)), exact(x))
    x = whole.copy()
    out = np.empty_like(x)
    assert bent(x, out=out) is out
    close(out, exact(whole))
    assert bent(x, out=x) is x
    close(x, exact(whole))
    dy, dx = whole.copy(), np.empty_like(whole.T)
    assert bent.backward(dy.T, whole.T, out=dx) is dx
    close(dx, dy.T.astype(np.float64) * slope(whole.T))
    assert bent.backward(dy, whole, out=dy) is dy
    close(dy, dx.T.astype(np.float64))


def test_scalars_lists_and_integers() -> None:
    assert isinstance(bent(2.0), np.float64) and bent(2.0) == exact(2.0)
    assert bent([0, 1]).dtype == np.float64 and bent(np.arange(3, dtype=np.int8)).dtype == np.float16
    assert bent.backward(1.0, np.zeros(3, np.float32)).dtype == np.float32
    assert bent(0.0, a=3) == 0


def test_threads_give_the_same_bits() -> None:
    x = RNG.normal(size=1_000_003).astype(np.float32)
    threads = fnn.get_num_threads()
    try:
        fnn.set_num_threads(1)
        one = bent(x)
        fnn.set_num_threads(2)
        np.testing.assert_array_equal(bent(x), one)
    finally:
        fnn.set_num_threads(threads)


def test_compiled_by_several_threads_at_once() -> None:
    cube = fnn.activation(lambda x: x * x * x, derivative=lambda x: 3 * x * x)
    x = RNG.normal(size=1000)
    with ThreadPoolExecutor(4) as pool:
        for y in pool.map(lambda _: cube(x), range(8)):
            np.testing.assert_array_equal(y, x * x * x)


def test_ufunc() -> None:
    ufunc = bent.ufunc
    assert type(ufunc) is np.ufunc and ufunc is bent.ufunc and ufunc.nin == 2 and ufunc.__name__ == "bent"
    for name in DTYPES:
        x = RNG.normal(size=(4, 5)).astype(dtype_of(name))
        y = ufunc(x.T, x.dtype.type(0.5))
        assert y.dtype == x.dtype
        close(y, exact(x.T, 0.5))
    out = np.zeros((4, 5))
    ufunc(x, np.arange(5.0), out=out, where=x > 0)
    np.testing.assert_allclose(out, np.where(x > 0, exact(x, np.arange(5.0)), 0), rtol=1e-14)
    assert ufunc(x, 0, out=x) is x and "line with a bend" in ufunc.__doc__


def test_dask_arrays_stay_lazy() -> None:
    array = pytest.importorskip("dask.array")
    x = RNG.normal(size=(20, 30))
    lazy = bent(array.from_array(x, chunks=10))
    assert hasattr(lazy, "__dask_graph__")
    np.testing.assert_allclose(lazy.compute(scheduler="synchronous"), exact(x), rtol=1e-14)


def test_layer() -> None:
    layer = bent.layer(a=0.5)
    assert repr(layer) == "CustomLayer(bent, a=0.5)" and not layer.state_dict()
    model = nn.Sequential(nn.Linear(6, 5), layer, nn.Linear(5, 4), bent.layer())
    assert fnn.gradcheck(model, RNG.normal(size=(7, 6)))
    x = RNG.normal(size=(7, 6)).astype(np.float32)
    for training in (True, False):
        close(layer.train(training)(x), exact(x, 0.5))
        close(layer.backward(x), x * slope(x, 0.5))
    y = layer.train()(x)
    assert layer(x) is y
    twin = copy.deepcopy(layer)
    assert twin.function is bent
    close(twin(x), exact(x, 0.5))
    assert pickle.loads(pickle.dumps(layer)).params == {"a": 0.5}


def test_check_finds_a_wrong_derivative() -> None:
    assert bent.check() is True and bent.check(a=2.0) and bent.check([0.5, 1.0])
    wrong = fnn.activation(lambda x: math.exp(x), derivative=lambda x: math.exp(x) if x < 1 else 2.0)
    assert wrong.check(np.linspace(-3, 0.9, 10))
    with pytest.raises(fnn.GradientError, match=r"<lambda>: its derivative at x = 3 is 2, and finite .* say 20\.08553"):
        wrong.check([0.5, 2.0, 3.0])
    kinked = fnn.activation(lambda x: max(x, 0.0), derivative=lambda x: 1.0 if x > 0 else 0.0)
    assert kinked.check()


def test_helpers_compiled_by_numba_and_results_of_other_types() -> None:
    import numba

    @numba.njit
    def softly(x: float) -> float:
        return math.log1p(math.exp(x))

    made = fnn.activation(lambda x: x * math.tanh(softly(x)))
    x = RNG.normal(size=50)
    np.testing.assert_allclose(made(x), fnn.mish(x), rtol=1e-12)
    stairs = fnn.activation(lambda x: math.floor(x) > 0)
    np.testing.assert_array_equal(stairs(np.array([0.5, 1.5], np.float32)), [0, 1])
    inverse = fnn.activation(lambda x: 1 / x)
    np.testing.assert_array_equal(inverse(np.array([0.0, -2.0])), [np.inf, -0.5])
    compiled = fnn.activation(softly)
    assert compiled.__name__ == "softly"
    np.testing.assert_allclose(compiled(x), fnn.softplus(x), rtol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ["exp", "expm1", "log", "log1p", "tanh"])
def test_mathematics_is_accurate_for_every_x(name: str, dtype: Any) -> None:
    bits = {np.float32: np.uint32, np.float64: np.uint64}[dtype]
    anything = RNG.integers(0, np.iinfo(bits).max, 20_000, bits, endpoint=True).view(dtype)
    near = [scale * RNG.normal(size=5000) + centre for scale in (1e-9, 1e-3, 1, 30) for centre in (0, 1)]
    special = np.array([0.0, -0.0, 1, -1, np.inf, -np.inf, np.nan, np.finfo(dtype).max, np.finfo(dtype).tiny / 8])
    x = np.concatenate([anything, *(each.astype(dtype) for each in (*near, special))])
    y = {
        "exp": fnn.activation(lambda x: math.exp(x)),
        "expm1": fnn.activation(lambda x: np.expm1(x)),
        "log": fnn.activation(lambda x: math.log(x)),
        "log1p": fnn.activation(lambda x: log1p(x)),
        "tanh": fnn.activation(lambda x: np.tanh(x)),
    }[name](x)
    with np.errstate(all="ignore"):
        exactly = getattr(np, name)(x.astype(np.longdouble))
        rounded = exactly.astype(dtype)
        normal = np.isfinite(rounded) & (np.abs(rounded) >= np.finfo(dtype).tiny)
        off = np.abs((y[normal] - exactly[normal]) / np.spacing(np.abs(rounded[normal])))
        small = np.abs(rounded) < np.finfo(dtype).tiny
        assert (np.abs(y[small] - exactly[small]) <= np.finfo(dtype).tiny * np.finfo(dtype).eps).all()
    assert off.max() <= 2
    np.testing.assert_array_equal(np.isnan(y), np.isnan(exactly))
    np.testing.assert_array_equal(y[np.isinf(rounded)], rounded[np.isinf(rounded)])
    zeros = rounded == 0
    np.testing.assert_array_equal(np.signbit(y[zeros]), np.signbit(rounded[zeros]))


def test_names_of_a_users_source() -> None:
    """NumPy's functions, closures, constants and integers; what has no vector code is called as it is."""
    weight = 3
    made = fnn.activation(lambda x: np.maximum(x, 0) * weight + math.exp(1) - math.pi + np.where(x > 0, 1.0, 2.0))
    x = RNG.normal(size=50)
    np.testing.assert_allclose(made(x), np.maximum(x, 0) * 3 + math.e - math.pi + np.where(x > 0, 1, 2), rtol=1e-14)
    odd = fnn.activation(lambda x: math.erf(x) + np.arctan(x) + math.atan2(x, 2))
    np.testing.assert_allclose(odd(x[:3]), [math.erf(v) + math.atan(v) + math.atan2(v, 2) for v in x[:3]], rtol=1e-14)


def test_the_derivative_can_be_replaced() -> None:
    square = fnn.activation(lambda x: x * x, derivative=lambda x: x)
    assert square.backward(1.0, 3.0) == 3
    square.derivative(lambda x: 2 * x)
    assert square.backward(1.0, 3.0) == 6 and square.check()


def test_names_and_documentation() -> None:
    assert bent.__name__ == "bent" and bent.__doc__ == "A line with a bend."
    assert repr(bent) == "<activation bent(x, a=0.25)>"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: fnn.activation(3), "activation: f is a int; expected a Python function of one number"),
        (lambda: fnn.activation(math.exp), "expected a Python function of one number, such as lambda x"),
        (lambda: fnn.activation(lambda: 1.0), r"f has the signature \(\); expected \(x\) or \(x, a, b=1\.0\)"),
        (lambda: fnn.activation(lambda x, *a: x), r"\(x, \*a\); expected .* no \*args"),
        (lambda: fnn.activation(lambda x, out: x), "a parameter named out"),
        (
            lambda: fnn.activation(lambda x, a: x * a, derivative=lambda x: 1.0),
            r"derivative is a function of \(x\); expected one of \(x, a\), like <lambda> itself",
        ),
        (lambda: fnn.activation(lambda x: x).backward(1.0, 1.0), "there is no derivative; give one with @"),
        (lambda: bent(np.ones(2), 1, 2), r"bent: too many positional arguments; expected bent\(x, a=0\.25\)"),
        (lambda: bent(np.ones(2), b=2), "bent: got an unexpected keyword argument 'b'"),
        (lambda: bent(np.ones(2), a="x"), "bent: a is 'x', a str; expected a real number"),
        (lambda: bent("x"), "bent: x"),
        (lambda: bent(np.ones(2), out=np.empty(2, np.float32)), "bent: out has dtype float32; expected float64"),
        (lambda: fnn.activation(lambda x: [x])(1.0), "Numba cannot compile it for one number.* Numba says"),
        (lambda: fnn.activation(lambda x: str(x) + 1)(1.0), "Numba cannot compile it"),
        (
            lambda: fnn.activation(lambda x: x, derivative=lambda x: no_such_thing(x)).backward(1.0, 1.0),  # noqa: F821
            "Numba cannot compile its derivative",
        ),
    ],
)
def test_mistakes_are_explained(make: Any, message: str) -> None:
    with pytest.raises(TypeError, match=f"(?s){message}"):
        make()


def test_out_of_the_wrong_shape() -> None:
    with pytest.raises(ValueError, match=r"bent: out has shape \(3,\); expected \(2,\)"):
        bent(np.ones(2), out=np.empty(3))


def test_without_numba_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(module: str) -> None:
        raise ModuleNotFoundError(f"No module named {module!r}", name=module)

    monkeypatch.setattr(optional.importlib, "import_module", missing)
    with pytest.raises(ImportError, match=r'fnn\.activation needs numba: pip install "fastnn\[numba\]"'):
        custom.activation(lambda x: x)
