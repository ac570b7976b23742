"""How a typed program uses fastnn: tests/test_typing.py checks it with `mypy --strict`. Nothing here is run."""

from __future__ import annotations

from typing import Any, assert_type

import numpy as np
from numpy.typing import NDArray

import fastnn as fnn

single: NDArray[np.float32] = np.zeros((2, 3), np.float32)
double: NDArray[np.float64] = np.zeros((2, 3))
half: NDArray[np.float16] = np.zeros((2, 3), np.float16)

# An array of a floating dtype keeps it.
assert_type(fnn.relu(single), NDArray[np.float32])
assert_type(fnn.gelu(x=double, out=double), NDArray[np.float64])
assert_type(fnn.leaky_relu(half, 0.2), NDArray[np.float16])
assert_type(fnn.leaky_relu(single, negative_slope=0.2), NDArray[np.float32])
assert_type(fnn.sigmoid_backward(single, fnn.sigmoid(single)), NDArray[np.float32])

# A learned parameter's gradient comes back beside dx.
dx, dalpha = fnn.prelu_backward(single, single, np.full(3, 0.25, np.float32))
assert_type(dx, NDArray[np.float32])
dalpha.sum()

# What else can become an array has whatever type comes out.
assert_type(fnn.tanh([1, 2, 3]), Any)
assert_type(fnn.softplus(np.float32(1)), Any)

# Real ufuncs.
assert_type(fnn.ufuncs.relu, np.ufunc)
fnn.ufuncs.elu(single, np.float32(1), out=single, where=single > 0)

with fnn.use("reference"):
    assert_type(fnn.backend(), str)
fnn.set_num_threads(fnn.get_num_threads())
print(fnn.__version__, fnn.info(), fnn.accuracy("gelu"))

# Mistakes.
fnn.relu()  # type: ignore[call-overload]
fnn.relu(y=single)  # type: ignore[call-overload]
fnn.relu(single, single)  # type: ignore[call-overload]
fnn.elu(single, slope=1.0)  # type: ignore[call-overload]
fnn.swish(single)  # type: ignore[call-overload]
fnn.reul(single)  # type: ignore[attr-defined]
