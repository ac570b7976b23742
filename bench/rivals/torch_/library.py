"""The three doors to PyTorch that its modules here use."""

from __future__ import annotations

import importlib
from typing import Any

torch: Any = importlib.import_module("torch")
nn: Any = torch._C._nn  # the functions behind torch.nn.functional, whose public wrappers hide `out=`
aten: Any = torch.ops.aten
