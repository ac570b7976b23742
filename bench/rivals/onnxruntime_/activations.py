"""ONNX Runtime's activations: one node each."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from ...problems.base import Buffers
from ...timing import Run
from ..base import Factory
from .library import MICROSOFT, bound, helper

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


def forward(name: str, b: Buffers) -> Run | None:
    about = NODES[name]
    given = [b.params[int(value)] if isinstance(value, str) else value for value in about.get("inputs", ())]
    constants = {f"c{index}": np.full(about.get("shape", ()), value, b.x.dtype) for index, value in enumerate(given)}
    attributes = about.get("fixed", {}) | dict(zip(about.get("params", ()), b.params, strict=False))
    one = helper.make_node(about["type"], ["x", *constants], ["y"], domain=about.get("domain", ""), **attributes)
    return bound([one], {"x": b.x}, constants, {"y": b.out})


FACTORIES: dict[str, Factory] = {name: partial(forward, name) for name in NODES}
