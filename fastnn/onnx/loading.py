"""From an ONNX file to a module."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from fastnn.nn.module import Module
from fastnn.nn.serialization import FilePath
from fastnn.onnx.chain import as_layers
from fastnn.onnx.graph import Graph
from fastnn.onnx.operators import OPERATORS
from fastnn.onnx.reading import Contents, read
from fastnn.optional import need


def load(path: FilePath) -> Module:
    """The network in an ONNX file, in evaluation mode.

    A chain of nodes that layers of `fastnn.nn` can do, residual blocks included, becomes a Sequential of these, which
    may be trained further; their names are those of the initializers without `.weight`, so that an exported network
    keeps the keys of its state. Any other graph becomes a module that runs its nodes, for inference only, with the
    initializers, by name, as parameters and buffers.

    Files of opset 13 to 28 with operators of `fnn.onnx.OPERATORS` are read, of any origin: sizes are checked against
    the bytes which are there, and tensors in files of their own must lie in the model's folder. ValueError names the
    file, and what is damaged, inconsistent or not among the operators.
    """
    onnx = need("onnx", "Loading ONNX files", "onnx")
    file, name = Path(path), os.fspath(path)
    errors = _errors(onnx)
    try:
        contents = read(onnx, file, OPERATORS)
        layers = as_layers(contents)
    except errors as error:
        own = type(error) is ValueError
        raise ValueError(f"{name}: {error}" if own else f"{name}: damaged, or not valid ONNX: {error}") from None
    made = Graph(contents, name) if layers is None else layers
    made.input_shape = _sample(contents)
    return made.eval()


def _sample(contents: Contents) -> tuple[int, ...] | None:
    """The shape of one sample, if the file fixes it."""
    shape = contents.inputs[0].shape if len(contents.inputs) == 1 else None
    return None if not shape or None in shape[1:] else tuple(length for length in shape[1:] if length is not None)


def _errors(onnx: Any) -> tuple[type[Exception], ...]:
    """What reading a file can raise beside OSError."""
    parsing = need("google.protobuf.message", "Loading ONNX files", "onnx").DecodeError
    plain = (ArithmeticError, AttributeError, LookupError, MemoryError, TypeError, ValueError)
    return (parsing, onnx.checker.ValidationError, *plain)
