"""Which implementation runs: chosen backend, type of the arrays, dtype.

The public functions go straight to the native loops when everything is plain (see `call` in kernels/cpu/activations.pyx).
Whatever is not comes here: arguments are bound, checked and converted, then handed to the backend in force. An argument is
checked before anything is written.
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable, Sequence
from contextvars import ContextVar, Token
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from fastnn.arguments import (
    Binding,
    check_out,
    checked_parameters,
    common_array,
    is_foreign,
    real_array,
    same_shapes,
)
from fastnn.broadcast import align_parameter, aligned_shape, reduce_to
from fastnn.kernels.cpu import activations as native
from fastnn.op import Op

Array = npt.NDArray[Any]
BACKENDS = {"native": None, "numba": "fastnn.kernels.jit", "reference": "fastnn.kernels.reference"}

_default = "native"
_chosen: ContextVar[str | None] = ContextVar("fastnn_backend", default=None)
_blocks = 0  # with-blocks open anywhere: while there are any, the short way to the native loops is closed
_lock = threading.Lock()


def backend() -> str:
    """Return the name of the backend in force here."""
    return _chosen.get() or _default


class use:
    """Choose the backend: "native", "numba" or "reference".

    `fnn.use(name)` chooses it for the whole process; `with fnn.use(name):` for this thread (this context) until the block ends.
    """

    def __init__(self, backend: str) -> None:
        if not isinstance(backend, str):
            raise TypeError(f"use: backend must be a str, got {backend!r} of type {type(backend).__name__}")
        if backend not in BACKENDS:
            raise ValueError(f"use: unknown backend {backend!r}; expected one of {', '.join(map(repr, BACKENDS))}")
        _module(backend)  # what is missing is said now, not at the first call
        self._name = backend
        self._token: Token[str | None] | None = None
        self._before = _set_default(backend)

    def __enter__(self) -> use:
        global _blocks
        _set_default(self._before)
        self._token = _chosen.set(self._name)
        with _lock:
            _blocks += 1
            _publish()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        global _blocks
        assert self._token is not None
        _chosen.reset(self._token)
        with _lock:
            _blocks -= 1
            _publish()

    def __repr__(self) -> str:
        return f"<fastnn backend {self._name!r}>"


def _set_default(name: str) -> str:
    global _default
    with _lock:
        before, _default = _default, name
        _publish()
    return before


def _publish() -> None:
    native.set_native_only(_default == "native" and _blocks == 0)


def _module(name: str) -> Any:
    """The backend's module, or None for native."""
    path = BACKENDS[name]
    return None if path is None else importlib.import_module(path)


def make_forward(op: Op, kernel: native.Kernel) -> Callable[..., Any]:
    """The long way of `fastnn.<name>`."""
    binding = Binding(op.name, ("x",), op.params)

    def forward(*args: Any, **kwargs: Any) -> Any:
        (x,), params, out = binding.bind(args, kwargs)
        if is_foreign(x):
            _refuse_foreign(op.name, "x", x)
            return kernel.ufunc(x, *_ufunc_parameters(op, np.dtype(np.float64), np.shape(x), params), **_out(out))
        x = real_array(op.name, "x", x)
        values = checked_parameters(op, x.dtype, x.shape, params)
        check_out(op.name, out, x.shape, x.dtype, (x, *values))
        module = _module(backend())
        if module is None:
            return kernel.ufunc(x, *_aligned(op, x.shape, values), **_out(out))
        return _scalar_like_ufunc(module.forward(op.name, x, *values, out=out), out)

    return forward


def make_backward(op: Op, kernel: native.Kernel, terms: native.Kernel | None) -> Callable[..., Any]:
    """The long way of `fastnn.<name>_backward`; `terms` is the kernel of the learned parameter's gradient."""
    title = f"{op.name}_backward"
    binding = Binding(title, ("dy", "saved"), op.params)

    def backward_(*args: Any, **kwargs: Any) -> Any:
        (dy, saved), params, out = binding.bind(args, kwargs)
        for name, value in (("dy", dy), ("saved", saved)):
            if is_foreign(value):
                _refuse_foreign(title, name, value)
        if is_foreign(dy) or is_foreign(saved):
            values = _ufunc_parameters(op, np.dtype(np.float64), np.shape(saved), params)
            dx = kernel.ufunc(dy, saved, *values, **_out(out))
            return dx if terms is None else (dx, reduce_to(terms.ufunc(dy, saved, *values), np.shape(params[0])))
        dy, saved = common_array(title, ("dy", "saved"), (dy, saved))
        dy = same_shapes(title, dy, saved)
        values = checked_parameters(op, saved.dtype, saved.shape, params, title)
        check_out(title, out, saved.shape, saved.dtype, (dy, saved, *values))
        module = _module(backend())
        if module is not None:
            result = module.backward(op.name, dy, saved, *values, out=out)
            return result if terms is not None else _scalar_like_ufunc(result, out)
        aligned = _aligned(op, saved.shape, values)
        if terms is None:
            return kernel.ufunc(dy, saved, *aligned, **_out(out))
        dparam = _parameter_gradient(terms, dy, saved, aligned[0], values[0].shape)  # first: out may be dy or saved
        return kernel.ufunc(dy, saved, *aligned, **_out(out)), dparam

    return backward_


def _out(out: Any) -> dict[str, Any]:
    return {} if out is None else {"out": out}


def _scalar_like_ufunc(result: Array, out: Array | None) -> Any:
    """A 0-d result as a NumPy scalar, as ufuncs return it."""
    return result[()] if out is None and result.ndim == 0 else result


def _aligned(op: Op, shape: tuple[int, ...], values: Sequence[Array]) -> list[Array]:
    if op.learned is None:
        return list(values)
    return [align_parameter(shape, value) if k == op.learned else value for k, value in enumerate(values)]


def _ufunc_parameters(op: Op, dtype: np.dtype[Any], shape: tuple[int, ...], params: Sequence[Any]) -> list[Any]:
    """Parameters beside an array of another library: numbers stay Python floats, which do not widen its dtype."""
    values = _aligned(op, shape, checked_parameters(op, dtype, shape, params))
    return [float(value) if value.ndim == 0 else value for value in values]


def _refuse_foreign(title: str, argument: str, value: Any) -> None:
    module = type(value).__module__.partition(".")[0]
    if module == "cupy":
        raise TypeError(f"{title}: {argument} is a CuPy array, and this version of fastnn has no GPU kernels; cupy.asnumpy({argument})?")
    if backend() != "native":
        raise TypeError(
            f"{title}: {argument} is a {module} object, which only the native backend takes; the backend in force is {backend()!r}"
        )


def _parameter_gradient(terms: native.Kernel, dy: Array, x: Array, alpha: Array, shape: tuple[int, ...]) -> Array:
    """The gradient of the learned parameter in `shape`, summed without a temporary of x's size where alpha's layout allows."""
    result_dtype = alpha.dtype
    split = _split(x.shape, aligned_shape(x.shape, shape))
    if split is None:
        return reduce_to(terms.ufunc(dy.astype(result_dtype, copy=False), x.astype(result_dtype, copy=False), alpha), shape)
    plain = [np.ascontiguousarray(value, result_dtype) for value in (dy, x, alpha)]
    with np.errstate(all="ignore"):
        return np.asarray(terms.sum_gradient(*plain, *split)).astype(result_dtype).reshape(shape)


def _split(x_shape: tuple[int, ...], alpha_shape: tuple[int, ...]) -> tuple[int, int, int] | None:
    """x's shape as (outer, channels, inner), alpha varying along `channels`; None where it is not of that form."""
    padded = (1,) * (len(x_shape) - len(alpha_shape)) + alpha_shape
    varying = [axis for axis, length in enumerate(padded) if length != 1]
    first, end = (varying[0], varying[-1] + 1) if varying else (0, 0)
    if padded[first:end] != x_shape[first:end]:
        return None
    outer, channels, inner = (int(np.prod(part, dtype=np.int64)) for part in (x_shape[:first], x_shape[first:end], x_shape[end:]))
    return outer, channels, inner
