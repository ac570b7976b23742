"""The public array functions, made from the op table: `<name>` and `<name>_backward` for every row."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from fastnn.dispatch import make_backward, make_forward
from fastnn.docstrings import backward_doc, forward_doc, ufunc_doc
from fastnn.kernels.cpu import activations as native
from fastnn.op import Op
from fastnn.table import OPS

UFUNCS: dict[str, Any] = {}  # what fastnn.ufuncs shows


def _kernel(op: Op, which: str) -> Any:
    kernel = native.make_kernel(op.name, which, costly=op.transcendental, doc=ufunc_doc(op, which))
    with contextlib.suppress(
        AttributeError
    ):  # older NumPy's ufuncs have no such attribute: pickle finds them by searching
        kernel.ufunc.__module__ = "fastnn.ufuncs"
    UFUNCS[kernel.name] = kernel.ufunc
    return kernel


def _function(
    op: Op, kernel: Any, general: Callable[..., Any], arrays: tuple[str, ...], doc: str, *, short: bool
) -> Any:
    """A builtin with the signature that the row gives it."""
    return kernel.function(
        general,
        [(param.name, param.default, param.low, param.high, param.excluded) for param in op.params],
        "fastnn",
        f"{kernel.name}({op.signature(*arrays)})\n--\n\n{doc}",
        ordered=op.rising,
        short=short,
    )


__all__ = []
for _op in OPS.values():
    _forward, _backward = _kernel(_op, "forward"), _kernel(_op, "backward")
    _terms = None if _op.learned is None else _kernel(_op, "parameter_gradient")
    globals()[_op.name] = _function(_op, _forward, make_forward(_op, _forward), ("x",), forward_doc(_op), short=True)
    globals()[f"{_op.name}_backward"] = _function(
        _op,
        _backward,
        make_backward(_op, _backward, _terms),
        ("dy", "saved"),
        backward_doc(_op),
        short=_terms is None,  # a learned parameter's gradient comes back beside dx, which the short way does not know
    )
    __all__ += [_op.name, f"{_op.name}_backward"]
