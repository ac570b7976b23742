"""Inference: `fnn.compile(model, input_shape)` makes a session, `session(x)` runs it, `fnn.load(path)` reads one.

A session is a list of steps with their weights, worked out once: nothing is looked up, checked twice or allocated in a
call. It needs the model no more, and a saved one needs neither the model's code nor `fastnn.nn`.
"""

from __future__ import annotations

from fastnn.infer.files import load
from fastnn.infer.session import Session, compile

__all__ = ["Session", "compile", "load"]
