"""fastnn itself, one contender a backend, through the same public functions that users call."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

from fastnn.table import OPS

from .. import blas
from ..problems import specs
from ..problems.base import Buffers
from ..problems.functions import Spec, bind
from ..timing import Run
from .base import Factory, Rival, both

BACKENDS = ("native", "numba", "reference")
PREFIX = "fastnn "


def _forward(fnn: Any, name: str, b: Buffers) -> Run:
    return partial(getattr(fnn, name), b.x, *b.params, out=b.out)


def _backward(fnn: Any, name: str, b: Buffers) -> Run:
    return partial(getattr(fnn, f"{name}_backward"), b.dy, b.saved, *b.params, out=b.out)


def _function(spec: Spec, b: Buffers) -> Run:
    return bind(spec, b.values)


def factories(fnn: Any) -> dict[str, Factory]:
    """Every public function, called as users call it."""
    ops: dict[str, Factory] = both(
        {name: partial(_forward, fnn, name) for name in OPS}, {name: partial(_backward, fnn, name) for name in OPS}
    )
    return ops | {spec.function: partial(_function, spec) for spec in specs()}


class Backend(Rival):
    package = "fastnn"
    dtypes = frozenset({"float32", "float64", "float16", "bfloat16"})

    def __init__(self, backend: str, threads: int) -> None:
        super().__init__(threads)
        self.backend = backend
        self.fnn: Any = importlib.import_module("fastnn")
        self.fnn.use("native")
        with self.fnn.use(backend):  # raises where the backend cannot run here
            self.fnn.relu(0.0)
        self.fnn.set_num_threads(threads)
        blas.limit(threads)  # linear layers and NumPy's matrix products share it
        self.factories = factories(self.fnn)
        self.traced = backend != "numba"  # what its compiled loops allocate goes past NumPy

    @property
    def label(self) -> str:
        return PREFIX + self.backend

    def context(self) -> AbstractContextManager[Any]:
        if self.backend == "native":  # the default; inside a with-block its calls would not take the short way
            return nullcontext()
        return self.fnn.use(self.backend)  # type: ignore[no-any-return]


def load(backends: Iterable[str], threads: int) -> tuple[list[Backend], dict[str, str]]:
    """The backends that can run here, and for each of the others the reason why it cannot."""
    ready: list[Backend] = []
    missing: dict[str, str] = {}
    for name in backends:
        try:
            ready.append(Backend(name, threads))
        except ImportError as error:
            missing[PREFIX + name] = f"not installed ({error})"
        except Exception as error:  # a backend that is broken is reported, and the others are measured
            missing[PREFIX + name] = f"cannot run here ({type(error).__name__}: {error})"
    return ready, missing
