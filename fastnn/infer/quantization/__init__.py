"""From a model in float32 to a session in int8.

    session = fnn.quantize(model, fnn.data.mnist("train").x[:1000])
    print(session.report)

`calibration` finds the range of every value, `rewriting` makes the quantized graph, `report` says what that has done.
"""

from __future__ import annotations

from fastnn.infer.quantization.quantizing import quantize
from fastnn.infer.quantization.report import QuantizationReport, QuantizedStep

__all__ = ["QuantizationReport", "QuantizedStep", "quantize"]
