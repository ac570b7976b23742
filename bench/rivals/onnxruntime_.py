"""ONNX Runtime: a model of one node an op, input and output bound to the shared memory; no backward."""

from __future__ import annotations

import importlib
from functools import partial
from typing import Any

import numpy as np

from ..cases import Array, Buffers, Case
from ..timing import Task
from .base import Rival

ort: Any = importlib.import_module("onnxruntime")
helper: Any = importlib.import_module("onnx.helper")
numpy_helper: Any = importlib.import_module("onnx.numpy_helper")

OPSET = 21
MICROSOFT = "com.microsoft"

# op -> node type, attributes taken from the op's parameters in order, fixed attributes, further inputs by value.
# A number in `inputs` is itself; a string of digits is the parameter of that index.
NODES: dict[str, dict[str, Any]] = {
    "relu": {"type": "Relu"},
    "leaky_relu": {"type": "LeakyRelu", "params": ("alpha",)},
    "prelu": {"type": "PRelu", "inputs": ("0",), "shape": (1,)},
    "elu": {"type": "Elu", "params": ("alpha",)},
    "parametric_elu": {"type": "Elu", "params": ("alpha",)},
    "selu": {"type": "Selu"},
    "celu": {"type": "Celu", "params": ("alpha",)},
    "gelu": {"type": "Gelu"},
    "gelu_tanh": {"type": "Gelu", "fixed": {"approximate": "tanh"}},
    "silu": {"type": "QuickGelu", "domain": MICROSOFT, "fixed": {"alpha": 1.0}},
    "swish": {"type": "QuickGelu", "domain": MICROSOFT, "params": ("alpha",)},
    "softplus": {"type": "Softplus"},
    "mish": {"type": "Mish"},
    "sigmoid": {"type": "Sigmoid"},
    "tanh": {"type": "Tanh"},
    "hardsigmoid": {"type": "HardSigmoid", "fixed": {"alpha": 1 / 6, "beta": 0.5}},
    "hardswish": {"type": "HardSwish"},
    "hardtanh": {"type": "Clip", "inputs": ("0", "1")},
    "relu6": {"type": "Clip", "inputs": (0.0, 6.0)},
    "softsign": {"type": "Softsign"},
    "sin": {"type": "Sin"},
    "cos": {"type": "Cos"},
}


def model(case: Case) -> bytes:
    node = NODES[case.op]
    kind = np.dtype(case.dtype)
    element = helper.np_dtype_to_tensor_dtype(kind)
    given = [case.params[int(value)] if isinstance(value, str) else value for value in node.get("inputs", ())]
    constants = [
        numpy_helper.from_array(np.full(node.get("shape", ()), value, kind), f"c{index}")
        for index, value in enumerate(given)
    ]
    attributes = node.get("fixed", {}) | dict(zip(node.get("params", ()), case.params, strict=False))
    names = [constant.name for constant in constants]
    one = helper.make_node(node["type"], ["x", *names], ["y"], domain=node.get("domain", ""), **attributes)
    x, y = (helper.make_tensor_value_info(name, element, [case.size]) for name in "xy")
    graph = helper.make_graph([one], case.op, [x], [y], initializer=constants)
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(MICROSOFT, 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()  # type: ignore[no-any-return]


class OnnxRuntime(Rival):
    name = "onnxruntime"
    package = "onnxruntime"
    dtypes = frozenset({"float32", "float64", "float16"})

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        ort.set_default_logger_severity(4)
        self.options = ort.SessionOptions()
        self.options.intra_op_num_threads = threads
        self.options.inter_op_num_threads = 1
        self.options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        self.options.add_session_config_entry("session.force_spinning_stop", "1")  # idle workers must not slow others

    def supports(self, case: Case) -> bool:
        return case.direction == "forward" and case.op in NODES and case.dtype in self.dtypes

    def task(self, case: Case, buffers: Buffers) -> Task | None:
        if not self.supports(case):
            return None
        try:
            session = ort.InferenceSession(model(case), self.options, providers=["CPUExecutionProvider"])
        except Exception as error:
            if type(error).__name__ not in {"NotImplemented", "InvalidGraph", "Fail"}:
                raise
            return None  # this build has no kernel for the op in this dtype
        binding = session.io_binding()
        kind = np.dtype(case.dtype)
        shape = (case.size,)
        binding.bind_input("x", "cpu", 0, kind, shape, buffers.x.ctypes.data)
        binding.bind_output("y", "cpu", 0, kind, shape, buffers.out.ctypes.data)
        return Task(_Bound(session, binding, buffers.out), self.context)


class _Bound:
    """Keeps the output array beside the call that fills it."""

    __slots__ = ("call", "out")

    def __init__(self, session: Any, binding: Any, out: Array) -> None:
        self.call = partial(session.run_with_iobinding, binding)
        self.out = out

    def __call__(self) -> Array:
        self.call()
        return self.out


def make(threads: int) -> Rival:
    return OnnxRuntime(threads)
