"""Inference: `fnn.compile(model, input_shape)` makes a session, `session(x)` runs it, `fnn.load(path)` reads one;
`fnn.quantize(model, data)` makes one in int8.

A session is a list of steps with their weights, worked out once: nothing is looked up, checked twice or allocated in a
call. It needs the model no more, and a saved one needs neither the model's code nor `fastnn.nn`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastnn.infer.files import load
from fastnn.infer.session import Session, compile

__all__ = ["QuantizationReport", "QuantizedStep", "Session", "compile", "load", "quantize"]

if TYPE_CHECKING:
    from fastnn.infer.quantization import QuantizationReport as QuantizationReport
    from fastnn.infer.quantization import QuantizedStep as QuantizedStep
    from fastnn.infer.quantization import quantize as quantize
else:

    def __getattr__(name: str) -> Any:
        """What sessions need not be there for."""
        if name not in __all__:
            raise AttributeError(f"module 'fastnn.infer' has no attribute {name!r}")
        import importlib

        return getattr(importlib.import_module("fastnn.infer.quantization"), name)
