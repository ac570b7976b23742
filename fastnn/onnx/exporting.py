"""From a network to an ONNX file."""

from __future__ import annotations

import copy
import operator
import os
from collections.abc import Sequence
from typing import Any, SupportsIndex

import numpy as np

from fastnn.devices import on_host
from fastnn.nn.module import Module, no_grad
from fastnn.nn.serialization import FilePath, write_atomically
from fastnn.onnx.converters import CONVERTERS
from fastnn.onnx.writer import Writer
from fastnn.optional import need

OPSETS = range(21, 27)
_LARGEST = 2**31 - 2**20  # bytes of weights: a protobuf message ends at 2 GiB


def export(
    model: Module,
    path: FilePath,
    input_shape: SupportsIndex | Sequence[SupportsIndex],
    *,
    batch: str | SupportsIndex = "N",
    opset: int = 21,
) -> None:
    """Write `model`, as it is in evaluation mode, as an ONNX file.

    input_shape: of one sample, such as (3, 32, 32); lengths beside the batch are fixed in the file
    batch: the name of a batch axis of any length, or a number that fixes it
    opset: the version of ONNX's operators, 21 to 26

    The graph takes `input` and gives `output`, of the model's dtype (float32, float64 or float16; not every runtime has
    every operator for the latter two). Initializers have the names and, but for a PReLU's trailing ones, the shapes of
    `state_dict`; dropout is left out; layers without an operator of their own are several nodes. The file has passed
    `onnx.checker` and type inference, and is moved to its place when it is complete.

    ValueError names a layer that has no ONNX form: losses, FractionalMaxPool2d, activations and layers of one's own.
    """
    onnx = need("onnx", "Exporting to ONNX", "onnx")
    if not isinstance(model, Module):
        raise TypeError(f"export: model is a {type(model).__name__}; expected a module")
    if opset not in OPSETS:
        raise ValueError(f"export: opset is {opset!r}; expected {OPSETS[0]} to {OPSETS[-1]}")
    given = input_shape if isinstance(input_shape, Sequence) else (input_shape,)
    shape = tuple(operator.index(length) for length in given)
    if isinstance(batch, str) and not batch:
        raise ValueError("export: batch is ''; expected a name or a number")
    first = batch if isinstance(batch, str) else operator.index(batch)
    if min(shape, default=1) < 1 or (isinstance(first, int) and first < 1):
        raise ValueError(f"export: input_shape is {shape} and batch {batch!r}; expected lengths of at least 1")
    dtype, model = _dtype(model), on_host(model)
    if sum(array.nbytes for array in model.state_dict().values()) > _LARGEST:
        raise ValueError("export: the weights exceed 2 GiB, more than an ONNX file holds")
    writer = Writer(onnx, opset, dtype, ["input", "output", *model.state_dict()], CONVERTERS)
    twin = copy.deepcopy(model).eval()
    with no_grad():
        end, y = writer.write(twin, "", "input", np.zeros((2, *shape), dtype))
    content = _file(onnx, writer, end, (first, *shape), ((first if y.shape[:1] == (2,) else None), *y.shape[1:]))
    write_atomically(os.fspath(path), content)


def _dtype(model: Module) -> np.dtype[Any]:
    """What the model computes in: norms and biases of half-precision models are float32, all else is not."""
    kinds = {parameter.dtype for parameter in model.parameters()}
    kind = min(kinds, key=lambda each: each.itemsize, default=np.dtype(np.float32))
    if kind.name not in ("float16", "float32", "float64"):
        raise TypeError(f"export: the model is {kind}; expected float32, float64 or float16: model.to(np.float32)")
    return kind


def _file(onnx: Any, writer: Writer, end: str, x: tuple[Any, ...], y: tuple[Any, ...]) -> bytes:
    """The bytes of the file, checked."""
    helper = onnx.helper
    if end == "input":
        end = writer.node("Identity", "input")
    for node in writer.nodes:
        for names in (node.input, node.output):
            names[:] = ["output" if name == end else name for name in names]
    kind = helper.np_dtype_to_tensor_dtype(writer.dtype)
    graph = helper.make_graph(
        writer.nodes,
        "fastnn",
        [helper.make_tensor_value_info("input", kind, x)],
        [helper.make_tensor_value_info("output", kind, y)],
        [onnx.numpy_helper.from_array(array, name) for name, array in writer.arrays.items()],
    )
    opsets = [helper.make_opsetid("", writer.opset)]
    least = helper.find_min_ir_version_for(opsets)
    made = helper.make_model(graph, opset_imports=opsets, ir_version=least, producer_name="fastnn")
    try:
        onnx.checker.check_model(made, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ValueError(f"export: not allowed in {writer.dtype} and opset {writer.opset}: {error}") from None
    content: bytes = made.SerializeToString()
    return content
