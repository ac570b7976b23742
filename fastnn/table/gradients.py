"""Arguments and results that the backward passes of layers with weights share."""

from __future__ import annotations

from fastnn.function import Argument

ACTIVATION = Argument(
    name="activation",
    doc="None, the name of an activation such as 'relu', or a tuple of its name and its parameters: ('leaky_relu', "
    "0.1)",
)
SAVED = (
    Argument(
        name="saved",
        role="array",
        doc="y where the activation's backward pass takes its output (sigmoid, tanh), else z; None without "
        "activation. For relu, relu6 and hardtanh, and leaky_relu with a slope above 0, y will do as well as z",
    ),
    ACTIVATION,
)
GRADIENTS = (
    Argument(name="need_dx", doc="False: dx is not computed, as for the first layer of a network"),
    Argument(name="need_dweight", doc="False: dweight is not computed, as for frozen weights"),
    Argument(name="need_dbias", doc="False: dbias is not computed, as for a layer without bias"),
    Argument(name="accumulate", doc="add to the dweight and dbias that are given, in place of overwriting them"),
    Argument(name="dx", role="array", doc="memory for dx, of x's shape and dtype, written in place"),
    Argument(name="dweight", role="array", doc="memory for dweight, of weight's shape and dtype, written in place"),
    Argument(name="dbias", role="parameter", doc="memory for dbias, one number for each output, written in place"),
    Argument(
        name="dz",
        role="parameter",
        doc="memory for dz, of dy's shape, written in place where there is an activation; it may be dy itself",
    ),
)
RETURNED = (
    Argument(name="dx", role="array", doc="gradient of the loss by x; None where it is not needed"),
    Argument(name="dweight", role="array", doc="gradient by the weights; None where it is not needed"),
    Argument(
        name="dbias",
        role="parameter",
        doc="gradient by the bias, float32 beside the 16-bit formats; None where it is not needed",
    ),
)
