"""Compiling an expression once, for arrays of one dtype.

Constants are passed as variables of the arrays' type: a literal would make numexpr compute in double precision.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from ...problems.base import Array
from ...timing import Run

numexpr: Any = importlib.import_module("numexpr")


def compiled(expression: str, arrays: Mapping[str, Array], numbers: Mapping[str, float], out: Array | None) -> Run:
    """`expression` over these arrays and numbers, ready to run; a reduction has no `out`."""
    names = [name for name in (*arrays, *numbers) if re.search(rf"\b{name}\b", expression)]
    some = next(arrays[name] for name in names if name in arrays)
    values = [arrays[name] if name in arrays else np.asarray(numbers[name], some.dtype) for name in names]
    kind = numexpr.necompiler.getType(some)
    function = numexpr.NumExpr(expression, [(name, kind) for name in names])
    options = {"order": "K", "casting": "same_kind", "ex_uses_vml": numexpr.use_vml}
    return partial(function, *values, **({} if out is None else {"out": out}), **options)
