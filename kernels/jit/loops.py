"""Loops over contiguous arrays, compiled once per formula and dtype and cached on disk.

Numba's cache knows a compiled function by its source file and the types of its arguments. There is one function, `loop`,
and the formula is the type of its first argument (`Kernel`), so that every op has its place in the cache; a digest of
this package's sources, Numba's version and the coefficients belongs to that type, so that no change goes unnoticed.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
from pathlib import Path
from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils, errors
from numba.core.datamodel import models, register_default
from numba.extending import NativeValue, intrinsic, unbox

from fastnn.kernels.jit.intrinsics import constants

BLOCK = 1024  # elements between two decisions for the near or the general form
