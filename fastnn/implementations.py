"""The implementations that a certificate compares: every backend, and native once per instruction set."""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.util
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

Array = npt.NDArray[Any]
BACKENDS = ("native", "numba", "reference")


@dataclass(frozen=True)
class Implementation:
    """A way to evaluate ops: `forward(name, x, *params)` and `backward(name, dy, saved, *params)`."""

    name: str
    forward: Callable[..., Array]
    backward: Callable[..., Any]
    active: Callable[[], contextlib.AbstractContextManager[Any]] = contextlib.nullcontext

    @property
    def backend(self) -> str:
        """The backend's name, without the instruction set."""
        return self.name.split()[0]


def find(backends: Sequence[str] | None = None, isas: Sequence[str] | None = None) -> list[Implementation]:
    """Every implementation that runs here, or the ones asked for, which must run here."""
    for backend in backends or ():
        if backend not in BACKENDS:
            raise ValueError(f"backend: expected one of {', '.join(BACKENDS)}; got {backend!r}")
    wanted = backends or [name for name in BACKENDS if name != "numba" or importlib.util.find_spec("numba")]
    found = []
    for backend in wanted:
        if backend == "native":
            available = list(_native().isas())
            for isa in isas or available:
                if isa not in available:
                    raise ValueError(f"isa: expected one of {', '.join(available)}; got {isa!r}")
                found.append(named(f"native {isa}"))
        else:
            found.append(named(backend))
    return found


def named(name: str) -> Implementation:
    """The implementation of that name, called as the public functions call it."""
    backend, _, isa = name.partition(" ")
    return Implementation(name, _forward, _backward, functools.partial(_active, backend, isa))


def _native() -> Any:
    return importlib.import_module("fastnn.kernels.cpu.runtime")


def _forward(name: str, x: Array, *params: Any) -> Array:
    result: Array = getattr(importlib.import_module("fastnn"), name)(x, *params)
    return result


def _backward(name: str, dy: Array, saved: Array, *params: Any) -> Any:
    return getattr(importlib.import_module("fastnn"), f"{name}_backward")(dy, saved, *params)


@contextlib.contextmanager
def _active(backend: str, isa: str) -> Iterator[None]:
    """Select the backend and the instruction set for a while."""
    fastnn = importlib.import_module("fastnn")
    with fastnn.use(backend):
        if not isa:
            yield
            return
        before = _native().isa()
        _native().set_isa(isa)
        try:
            yield
        finally:
            _native().set_isa(before)
