"""Networks to and from ONNX files: `fnn.onnx.export(model, path, input_shape)`, `model = fnn.onnx.load(path)`.

Exported are all networks of the zoo and every layer of `fastnn.nn` but losses and random pooling, in the operators of
the standard opset, so that any ONNX runtime runs them. Loaded are files of opset 13 to 28 whose operators are in
`fnn.onnx.OPERATORS`; what else a file asks for, the ValueError names. Needs `fastnn[onnx]`.
"""

from __future__ import annotations

from fastnn.onnx.exporting import export
from fastnn.onnx.loading import load
from fastnn.onnx.operators import OPERATORS

__all__ = ["OPERATORS", "export", "load"]
