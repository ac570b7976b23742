"""Models made on the spot, and sessions bound to the shared arrays."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from ...problems.base import Array
from ...timing import Run

ort: Any = importlib.import_module("onnxruntime")
helper: Any = importlib.import_module("onnx.helper")
numpy_helper: Any = importlib.import_module("onnx.numpy_helper")

OPSET = 21
MICROSOFT = "com.microsoft"
REFUSALS = {"NotImplemented", "InvalidGraph", "Fail", "InvalidArgument"}  # no kernel in this build, for this dtype

ort.set_default_logger_severity(4)
options: Any = ort.SessionOptions()
options.inter_op_num_threads = 1
options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
options.add_session_config_entry("session.force_spinning_stop", "1")  # idle workers must not slow others


class Bound:
    """Keeps the output arrays beside the call that fills them."""

    __slots__ = ("call", "outputs")

    def __init__(self, session: Any, binding: Any, outputs: tuple[Array, ...]) -> None:
        self.call = partial(session.run_with_iobinding, binding)
        self.outputs = outputs

    def __call__(self) -> tuple[Array, ...]:
        self.call()
        return self.outputs


def node(kind: str, inputs: str, outputs: str, domain: str = "", **attributes: Any) -> Any:
    """A node; names of inputs and outputs separated by spaces."""
    return helper.make_node(kind, inputs.split(" "), outputs.split(" "), domain=domain, **attributes)


def bound(
    nodes: list[Any], inputs: Mapping[str, Array], constants: Mapping[str, Array], outputs: Mapping[str, Array]
) -> Run | None:
    """The graph of these nodes, ready to run; None where this build of ONNX Runtime cannot."""

    def info(name: str, array: Array) -> Any:
        return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)

    graph = helper.make_graph(
        nodes,
        "graph",
        [info(name, array) for name, array in inputs.items()],
        [info(name, array) for name, array in outputs.items()],
        initializer=[numpy_helper.from_array(np.asarray(value, order="C"), name) for name, value in constants.items()],
    )
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(MICROSOFT, 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()
    try:
        session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        if type(error).__name__ not in REFUSALS:
            raise
        return None
    binding = session.io_binding()
    for name, array in inputs.items():
        binding.bind_input(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
    for name, array in outputs.items():
        binding.bind_output(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
    return Bound(session, binding, tuple(outputs.values()))
