"""Which implementation runs: chosen backend, type of the arrays, dtype.

The public functions go straight to the native loops when everything is plain (see `call` in
kernels/cpu/activations.pyx). Whatever is not comes here: arguments are bound, checked and converted, then handed to the
backend in force. An argument is checked before anything is written.
"""

from __future__ import annotations

import functools
import importlib
import threading
import weakref
from collections.abc import Callable, Sequence
from contextvars import ContextVar, Token
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from fastnn import foreign
from fastnn.arguments import (
    Binding,
    check_out,
    checked_parameters,
    common_array,
    float_dtype,
    parameter_dtype,
    plain,
    real_array,
    same_shapes,
)
from fastnn.arrays import namespace, on_device, together
from fastnn.broadcast import align_parameter, aligned_shape, reduce_to, split_shape
from fastnn.kernels.cpu import activations as native
from fastnn.op import Op

Array = npt.NDArray[Any]
BACKENDS = {
    "native": "fastnn.kernels.cpu",
    "numba": "fastnn.kernels.jit",
    "cuda": "fastnn.kernels.cuda",
    "reference": "fastnn.kernels.reference",
}

_ndarray = np.ndarray
_found: dict[str, dict[str, Any]] = {name: {} for name in BACKENDS}  # families for arrays in main memory
_chosen: ContextVar[str | None] = ContextVar("fastnn_backend", default=None)
_lock = threading.RLock()
# The choices for the whole process, the latest of which counts. `use` cannot know at first whether a with-block
# follows; the block's choice is taken out again, whatever other threads have chosen meanwhile.
_choices: list[tuple[weakref.ref[use] | None, str]] = [(None, "native")]
_blocks = 0  # with-blocks open anywhere: while there are any, the short way to the native loops is closed


def backend() -> str:
    """Return the name of the backend in force here."""
    return _chosen.get() or _choices[-1][1]


class use:
    """Choose the backend: "native", "numba", "cuda" or "reference".

    `fnn.use(name)` chooses it for the whole process; `with fnn.use(name):` for this thread (this context) until the
    block ends. CuPy arrays go to "cuda" whatever the choice; with "cuda" chosen, arrays of NumPy's are refused.
    """

    def __init__(self, backend: str) -> None:
        expected = ", ".join(map(repr, BACKENDS))
        if not isinstance(backend, str):
            raise TypeError(f"use: backend is {backend!r} of type {type(backend).__name__}; expected one of {expected}")
        if backend not in BACKENDS:
            raise ValueError(f"use: there is no backend {backend!r}; expected one of {expected}")
        _module(backend)  # what is missing is said now, not at the first call
        self._name = backend
        self._tokens: list[Token[str | None]] = []
        with _lock:
            # What lies below a choice that can no longer become a with-block will never count again.
            last = max(i for i, (origin, _) in enumerate(_choices) if origin is None or origin() is None)
            _choices[:] = [(None, _choices[last][1]), *_choices[last + 1 :], (weakref.ref(self), backend)]
            _publish()

    def __enter__(self) -> use:
        global _blocks
        self._tokens.append(_chosen.set(self._name))
        with _lock:
            _choices[:] = [choice for choice in _choices if choice[0] is None or choice[0]() is not self]
            _blocks += 1
            _publish()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        global _blocks
        _chosen.reset(self._tokens.pop())
        with _lock:
            _blocks -= 1
            _publish()

    def __repr__(self) -> str:
        return f"<fastnn backend {self._name!r}>"


def _publish() -> None:
    native.set_native_only(_blocks == 0 and _choices[-1][1] == "native")


def implementation(family: str, like: Any = None) -> Any:
    """The kernels of a family: a module that has the same functions in every backend.

    That of the backend in force, but for arrays of CuPy's, such as `like`, always "cuda".
    """
    if type(like) is not _ndarray and like is not None and on_device(like):
        return _family("cuda", family)
    name = _chosen.get() or _choices[-1][1]  # `backend()`, whose call would cost more than all of this
    found = _found[name].get(family)
    return _find(name, family) if found is None else found


def _find(name: str, family: str) -> Any:
    if name == "cuda":
        raise TypeError(f"arrays in main memory were given while {_ONLY_DEVICE}")
    module = _found[name][family] = _family(name, family)
    return module


def host_implementation(family: str) -> Any:
    """The same for work in main memory whatever is chosen, such as a loader's: "cuda" has no part in it."""
    name = backend()
    return _family("native" if name == "cuda" else name, family)


def new_memory(shape: tuple[int, ...], dtype: npt.DTypeLike) -> Array:
    """Memory for the result of a function that is given no arrays: where the backend in force computes."""
    space: Any = _module("cuda") if backend() == "cuda" else np
    return space.empty(shape, dtype)  # type: ignore[no-any-return]


@functools.cache
def _family(backend: str, family: str) -> Any:
    return importlib.import_module(f"{BACKENDS[backend]}.{family}")


def _module(name: str) -> Any:
    """The module that evaluates activations in main memory, or None for native, whose ufuncs do."""
    if name == "cuda":  # takes none; whether it can be chosen is found out here
        return importlib.import_module("fastnn.kernels.cuda.compiler").require()
    return None if name == "native" else importlib.import_module(BACKENDS[name])


def _host_module(title: str, argument: str) -> Any:
    """The same for a call that has arrays in main memory."""
    name = backend()
    if name == "cuda":
        raise TypeError(f"{title}: {argument} is in main memory while {_ONLY_DEVICE}")
    return _module(name)


_ONLY_DEVICE = (
    "the backend in force is 'cuda', which takes CuPy arrays; expected cupy.asarray(...) of them, or another backend: "
    "fnn.use('native')"
)


def make_forward(op: Op, kernel: native.Kernel) -> Callable[..., Any]:
    """The long way of `fastnn.<name>`."""
    binding = Binding(op.name, ("x",), op.params)
    names = [param.name for param in op.params]

    def forward(*args: Any, **kwargs: Any) -> Any:
        (x,), params, out = binding.bind(args, kwargs)
        together(op.name, x=x, **dict(zip(names, params, strict=True)), out=out)
        if foreign.is_foreign(x) and not on_device(x):
            foreign.check(op.name, backend(), x=x)
            values, _ = foreign.parameters(op, op.name, x, params)
            return kernel.ufunc(x, *values, **_out(out))
        x = real_array(op.name, "x", x)
        values = checked_parameters(op, x.dtype, x.shape, params)
        check_out(op.name, out, x.shape, x.dtype, {"x": x})
        if on_device(x):
            return implementation("activations", x).forward(op.name, x, *values, out=out)
        module = _host_module(op.name, "x")
        if module is None:
            return kernel.ufunc(x, *_aligned(op, x.shape, values), **_out(out))
        result = module.forward(op.name, np.asarray(x), *values, out=_plain(out))
        return _like_ufunc(kernel.ufunc, result, (x,), out)

    return forward


def make_backward(op: Op, kernel: native.Kernel, terms: native.Kernel | None) -> Callable[..., Any]:
    """The long way of `fastnn.<name>_backward`; `terms` is the kernel of the learned parameter's gradient."""
    title = f"{op.name}_backward"
    binding = Binding(title, ("dy", "saved"), op.params)
    names = [param.name for param in op.params]

    def backward_(*args: Any, **kwargs: Any) -> Any:
        if terms is not None and len(args) == 3 and not kwargs and backend() == "native":
            found = _plain_backward(kernel, terms, *args)
            if found is not None:
                return found
        (dy, saved), params, out = binding.bind(args, kwargs)
        together(title, dy=dy, saved=saved, **dict(zip(names, params, strict=True)), out=out)
        device = on_device(dy) or on_device(saved)
        if not device and (foreign.is_foreign(dy) or foreign.is_foreign(saved)):
            foreign.check(title, backend(), dy=dy, saved=saved)
            foreign.check_shapes(title, dy, saved)
            values, given = foreign.parameters(op, title, saved if foreign.is_foreign(saved) else dy, params)
            dparam = None if terms is None else foreign.parameter_gradient(terms.ufunc, dy, saved, values, given)
            dx = kernel.ufunc(dy, saved, *values, **_out(out))
            return dx if terms is None else (dx, dparam)
        dy, saved = common_array(title, ("dy", "saved"), (dy, saved))
        if device:
            dy, saved = _on_device(dy, saved), _on_device(saved, dy)
        dy = same_shapes(title, dy, saved)
        values = checked_parameters(op, saved.dtype, saved.shape, params, title)
        check_out(title, out, saved.shape, saved.dtype, {"dy": dy, "saved": saved})
        if device:
            return implementation("activations", saved).backward(op.name, dy, saved, *values, out=out)
        module = _host_module(title, "saved")
        if module is not None:
            result = module.backward(op.name, np.asarray(dy), np.asarray(saved), *values, out=_plain(out))
            dx = result if terms is None else result[0]
            dx = _like_ufunc(kernel.ufunc, dx, (dy, saved), out)
            return dx if terms is None else (dx, result[1])
        aligned = _aligned(op, saved.shape, values)
        if terms is None:
            return kernel.ufunc(dy, saved, *aligned, **_out(out))
        dparam = _parameter_gradient(terms, dy, saved, aligned[0], values[0].shape)  # first: out may be dy or saved
        return kernel.ufunc(dy, saved, *aligned, **_out(out)), dparam

    return backward_


def _on_device(array: Array, beside: Array) -> Any:
    """The array, or for a number its value on the device of the array beside it."""
    return array if on_device(array) else namespace(beside).full((), array.item(), array.dtype)


def _out(out: Any) -> dict[str, Any]:
    return {} if out is None else {"out": out}


def _plain(out: Array | None) -> Array | None:
    """`out` without its subclass, which may have ideas of its own about shapes."""
    return None if out is None else np.asarray(out)


def _like_ufunc(ufunc: np.ufunc, result: Array, inputs: tuple[Array, ...], out: Array | None) -> Any:
    """The result as the ufunc would return it: `out` itself, a scalar for 0-d, or in the inputs' subclass."""
    if out is not None:
        return out
    for value in inputs:
        if type(value) is not np.ndarray:
            return value.__array_wrap__(result, (ufunc, inputs, 0))
    return result[()] if result.ndim == 0 else result


def _aligned(op: Op, shape: tuple[int, ...], values: Sequence[Array]) -> list[Array]:
    if op.learned is None:
        return list(values)
    return [align_parameter(shape, value) if k == op.learned else value for k, value in enumerate(values)]


def _plain_backward(kernel: native.Kernel, terms: native.Kernel, dy: Any, x: Any, alpha: Any) -> Any:
    """(dx, dalpha) for arrays as the loops take them, by a short way; None for any others."""
    if not (type(dy) is type(x) is type(alpha) is np.ndarray and dy.shape == x.shape and dy.dtype == x.dtype):
        return None
    if not (dy.flags.carray and x.flags.carray and alpha.flags.carray and x.ndim and alpha.ndim):
        return None
    if float_dtype(x.dtype) != x.dtype or alpha.dtype != parameter_dtype(x.dtype):
        return None
    shape, split = _layout(x.shape, alpha.shape)
    if split is None:
        return None
    return kernel.ufunc(dy, x, alpha.reshape(shape)), terms.sum_gradient(dy, x, alpha, *split).reshape(alpha.shape)


def _parameter_gradient(terms: native.Kernel, dy: Array, x: Array, alpha: Array, shape: tuple[int, ...]) -> Array:
    """The gradient of the learned parameter in `shape`: without a temporary of x's size where alpha's layout allows."""
    _, split = _layout(x.shape, shape)
    if split is None or hasattr(x, "mask") or hasattr(dy, "mask"):  # a masked array sums what is not masked
        elements = terms.ufunc(dy.astype(alpha.dtype, copy=False), x.astype(alpha.dtype, copy=False), alpha)
        return np.asarray(reduce_to(elements, shape))
    return np.asarray(terms.sum_gradient(plain(dy), plain(x), plain(alpha), *split)).reshape(shape)


@functools.lru_cache(maxsize=256)
def _layout(x_shape: tuple[int, ...], alpha_shape: tuple[int, ...]) -> tuple[tuple[int, ...], Any]:
    """The shape under which a parameter broadcasts to x's, and how x's falls apart by it (see `split_shape`)."""
    try:
        shape = aligned_shape(x_shape, alpha_shape)
    except ValueError:
        return alpha_shape, None
    return shape, split_shape(x_shape, shape)
