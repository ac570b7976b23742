"""What a session computes: steps, the shapes between them, and the constants they take.

There are two graphs in a session. The one of the model has steps as fastnn.infer.steps.KINDS lists them, each of which
a public function can do: files hold it, and backends other than the native one run it. The plan, which
fastnn.infer.passes make of it, is what the native kernels run, what `describe` shows and what is translated to C. It
has the steps of fastnn.infer.steps.blocked too, and is the same whatever the instruction set, batch and threads:

- Images in float32 lie in blocks of 16 channels, (ceil(C / 16), H, W, 16) a sample: `shape` and `inputs_as` are shapes
  in memory, options["x"] and options["y"] the images (C, H, W). Nobody reads the channels that fill up the last block.
- Constants have the order and the names of the model's, except for columns of a linear layer behind an image in blocks,
  "<name> for blocks", which are in the order in which that lies, and batch norms that stand by themselves,
  "<name> as scale" and "<name> as shift": depthwise convolutions with a kernel of one element.
- A convolution takes, in its output pass: the shortcut (second input), the activation, maxima over squares of 2 by 2.

A result of a convolution is one chain: the bias, or 0; fma(w, x, sum) for blocks of 16 input channels of the group, in
them rows of the kernel, columns, channels; then the shortcut is added, then the activation. Taps outside of the image
count as zeros. Averages: the elements of the window in rising order, summed up in double from 0 on, divided by the
number of them, rounded once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Shape = tuple[int, ...]


@dataclass(slots=True)
class Step:
    """One call of a kernel. Step k makes value k + 1 of `inputs`, other values; value 0 is what the session is given.

    Shapes are those of one sample. `inputs_as` are the shapes in which it sees its inputs, which need not be those in
    which they were made: flattening costs nothing.
    """

    op: str
    inputs: tuple[int, ...]
    inputs_as: tuple[Shape, ...]
    shape: Shape
    options: dict[str, Any] = field(default_factory=dict)
    constants: dict[str, str] = field(default_factory=dict)  # by their role the names of arrays
    activation: tuple[Any, ...] | None = None  # name and numbers
    modules: list[str] = field(default_factory=list)  # whose work it does
    dtype: str | None = None  # of the result, where that is not the graph's


@dataclass(slots=True)
class Graph:
    """Steps in order, the last of which makes the result."""

    dtype: np.dtype[Any]
    input_shape: Shape
    output_shape: Shape = ()
    steps: list[Step] = field(default_factory=list)
    constants: dict[str, Array] = field(default_factory=dict)

    def of(self, step: Step) -> dict[str, Array]:
        """The constants of a step by their roles."""
        return {role: self.constants[name] for role, name in step.constants.items()}

    def made_as(self, step: Step) -> np.dtype[Any]:
        """The dtype of a step's result."""
        return self.dtype if step.dtype is None else np.dtype(step.dtype)

    def last_uses(self) -> list[int]:
        """For each value the last step that reads it; -1 if none does."""
        found = [-1] * (len(self.steps) + 1)
        for place, step in enumerate(self.steps):
            for value in step.inputs:
                found[value] = place
        return found

    def operations(self, step: Step) -> int:
        """Of one sample: two for each multiplication with a weight; elsewhere one for each element."""
        if "weight" in step.constants and step.op.endswith(("linear", "conv")):
            weight = self.of(step)["weight"]
            made: Shape = step.options.get("y", step.shape)
            sums: Shape = step.options.get("sums", made)
            return 2 * math.prod(sums) * int(math.prod(weight.shape[1:]))
        return max(math.prod(shape) for shape in (step.shape, *step.inputs_as))


_QUANTIZED = {role: np.dtype(name) for role, name in (("weight", "int8"), ("bias", "int32"), ("table", "uint8"))}


def number_dtype(dtype: np.dtype[Any], op: str, role: str) -> np.dtype[Any]:
    """The dtype of a constant in a session of `dtype`: in half precision only what is multiplied with x is in half."""
    if op.startswith("quantized_") and role in _QUANTIZED:
        return _QUANTIZED[role]
    if op == "dynamic_linear":
        return np.dtype(np.int8 if role == "weight" else np.float32)
    if (op in ("linear", "conv") and role == "weight") or dtype.itemsize > 2:
        return dtype
    return np.dtype(np.float32)
