"""Neural-network primitives for NumPy: activations as fast as the machine allows and exact to the last bits.

    import numpy as np
    import fastnn as fnn

    y = fnn.gelu(np.linspace(-3, 3, 7, dtype=np.float32))

Every activation `f` comes as `fnn.f(x)`, its gradient as `fnn.f_backward(dy, saved)`, and as a real ufunc,
`fnn.ufuncs.f`. `fnn.use` chooses the backend, `fnn.set_num_threads` the threads; `fnn.info()` says what runs and
`fnn.accuracy()` how exactly.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

try:
    from fastnn.kernels.cpu import activations as _kernels  # noqa: F401
except ModuleNotFoundError as error:
    import os

    source = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    if (error.name or "").startswith("fastnn.kernels") and os.path.exists(os.path.join(source, "meson.build")):
        raise ImportError(
            f"fastnn was imported from its source folder, {source}, which holds no compiled kernels. "
            "Install it there with `pip install .` and start Python in another folder, or, to work on the sources, "
            "install it in place with `pip install meson-python meson ninja Cython numpy` and "
            "`pip install --no-build-isolation --editable .`"
        ) from None
    raise

from fastnn.dispatch import backend, use
from fastnn.functional import *  # noqa: F403
from fastnn.functional import __all__ as _activations
from fastnn.functions import __all__ as _functions
from fastnn.lazy import names_stand as _names_stand
from fastnn.random import manual_seed
from fastnn.threads import get_num_threads, set_num_threads

__all__ = [
    "accuracy",
    "backend",
    "get_num_threads",
    "info",
    "manual_seed",
    "set_num_threads",
    "use",
    *_activations,
    *_functions,
]


_ROOMS = [  # imported when they are first used
    "data",
    "infer",
    "init",
    "models",
    "nn",
    "onnx",
    "optim",
    "regularizers",
    "train",
    "ufuncs",
]

_GUESTS = {  # of modules that are imported when they are first used
    **dict.fromkeys(_functions, "functions"),
    "GradientError": "finite_differences",
    "accuracy": "accuracy",
    "activation": "custom",
    "compile": "infer",
    "gradcheck": "finite_differences",
    "info": "info",
    "load": "infer",
    "quantize": "infer",
}

if TYPE_CHECKING:
    from fastnn import data as data
    from fastnn import infer as infer
    from fastnn import init as init
    from fastnn import models as models
    from fastnn import nn as nn
    from fastnn import onnx as onnx
    from fastnn import optim as optim
    from fastnn import regularizers as regularizers
    from fastnn import train as train
    from fastnn import ufuncs as ufuncs
    from fastnn.accuracy import accuracy as accuracy
    from fastnn.custom import activation as activation
    from fastnn.finite_differences import GradientError as GradientError
    from fastnn.finite_differences import gradcheck as gradcheck
    from fastnn.functions import *  # noqa: F403
    from fastnn.infer import compile as compile
    from fastnn.infer import load as load
    from fastnn.infer import quantize as quantize
    from fastnn.info import info as info

    __version__: str
else:

    def __getattr__(name: str) -> Any:
        if name in _ROOMS or name in _GUESTS:
            import importlib

            module = importlib.import_module(f"fastnn.{_GUESTS.get(name, name)}")
            found = globals()[name] = getattr(module, name) if name in _GUESTS else module
            return found
        if name == "__version__":
            from importlib.metadata import version

            return version("fastnn")
        raise AttributeError(f"module 'fastnn' has no attribute {name!r}")


_names_stand(__name__, _GUESTS)  # accuracy and info are modules and functions


def __dir__() -> list[str]:
    return sorted({*globals(), *_ROOMS, *_GUESTS, "__version__"})
