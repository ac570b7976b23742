"""ONNX's operators over arrays that are no layer: slices, transpositions, sums with constants, as NumPy does them.

`options` hold the node: `attributes`, `opset`, and `given`, for each input its place among the step's inputs (a
number), the role of a constant (a string), an array of whole numbers (dtype, shape, numbers), or None.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn.infer.graph import Array, Step
from fastnn.infer.steps.kind import Constants, Function, Kind

OPERATORS = (
    *("Abs", "Add", "AveragePool", "BatchNormalization", "Clip", "Concat", "Conv", "Div", "Exp", "Gather", "Gemm"),
    *("GlobalMaxPool", "GroupNormalization", "HardSigmoid", "InstanceNormalization", "LayerNormalization", "Log"),
    *("MatMul", "Max", "MaxPool", "Min", "Mul", "Neg", "PRelu", "Pad", "Pow", "RMSNormalization", "ReduceMax"),
    *("ReduceMean", "Selu", "Slice", "Sqrt", "Sub", "SwiGLU", "Transpose"),
)
_UFUNCS: dict[str, Any] = {  # these write where they are told to
    **{"Abs": np.abs, "Exp": np.exp, "Log": np.log, "Neg": np.negative, "Sqrt": np.sqrt},
    **{"Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": np.divide, "Pow": np.power},
    **{"Max": np.maximum, "Min": np.minimum},
}


def _function(step: Step, c: Constants) -> Function:
    from fastnn.onnx.operators import OPERATORS as operators
    from fastnn.onnx.reading import Node

    if step.activation is not None:
        raise ValueError(f"{step.op} applies no activation; got {step.activation}")
    given = [_whole(each) if isinstance(each, (list, tuple)) else each for each in step.options["given"]]
    if any(isinstance(each, int) and not 0 <= each < len(step.inputs) for each in given):
        raise ValueError(f"{step.op} takes {step.options['given']} of {len(step.inputs)} inputs")
    names = tuple("" if each is None else str(place) for place, each in enumerate(given))
    attributes = {name: _listed(value) for name, value in step.options["attributes"].items()}
    node = Node(step.op, "", names, ("y",), attributes, step.options["opset"])
    operator, ufunc = operators[step.op], _UFUNCS.get(step.op)

    def run(*xs: Array, out: Array | None = None) -> Array:
        if len(xs) > len(step.inputs):
            *xs, out = xs  # type: ignore[assignment]
        found = [_argument(each, xs, c) for each in given]
        if ufunc is not None and out is not None and len(found) == ufunc.nin:
            return np.asarray(ufunc(*found, out=out))
        y = operator(node, *found)
        y = np.asarray(y[0] if isinstance(y, tuple) else y)
        if out is None:
            return y
        if y.shape != out.shape:
            raise ValueError(f"{step.op} makes {y.shape}; expected {out.shape}")
        np.copyto(out, y)
        return out

    return run


def _argument(each: Any, xs: tuple[Array, ...], c: Constants) -> Array | None:
    if isinstance(each, str):
        return c[each].astype(xs[0].dtype, copy=False)
    return xs[each] if isinstance(each, int) else each


def _whole(given: Any) -> Array:
    kind, shape, numbers = given
    if kind not in ("int64", "int32", "bool"):
        raise ValueError(f"numbers of {kind!r}; expected int64, int32 or bool")
    return np.array(numbers, kind).reshape(tuple(shape))


def _listed(value: Any) -> Any:
    """Lists, as a file of ONNX has them, for tuples."""
    return list(value) if isinstance(value, tuple) else value


KINDS = dict.fromkeys(OPERATORS, Kind(_function))
