"""How fast each function is meant to be: the speed targets the project set itself, against which results are held.

A ratio is fastnn's time over that of `against`: "copy" (np.copyto of the same array), "best" (the fastest rival), or
one rival. All are for one thread and float32. `reason` says why a target is out of reach where it has been missed.
Those of whole networks in inference are below them.
"""

from __future__ import annotations

from dataclasses import dataclass

MAIN, LARGE = "1,000,000", "16,777,216"
IMAGES = "32x64x32x32"

MEMORY = "two arrays are read and one is written at the speed of np.multiply: there is no arithmetic left to save"
EXACT_TAIL = (
    "26 multiplications, 17 additions and 2 divisions a vector keep the tail exact; torch's erf polynomial is cheaper, "
    "and wrong from -5 on"
)
CHEAPER_BITS = (
    "set against fractions drawn by rng.random; NumPy is several times as fast with SFC64's raw bits, 16 an element, "
    "though its mask depends on the order of the draws and must be kept for backward"
)
FUSED = (
    "set against torch's loop over parameters; its fused kernel, measured here, is at memory speed too: a step moves "
    "20 bytes an element, AdamW's 28, at the rate at which np.add moves its 16"
)
COPIED = "np.copyto of as many bytes, the floor, takes 0.6 of the time and more"
ARITHMETIC = "one thread computes it more slowly than memory, written past the caches, could take it"
COPIES = (
    "the products alone run at 250 of the core's 265 GFLOP/s; copying tiles between zeros and turning results over "
    "takes a tenth more, which a layout of channels in blocks would save"
)
MARGINS = (
    "0.8 is reached: each plane is copied between margins of zeros first, which takes 0.4 of the time; without them "
    "the ends of all rows would need vectors of their own"
)


@dataclass(frozen=True, slots=True)
class Target:
    """At most `limit` times as long as `against`."""

    op: str
    direction: str
    against: str
    limit: float
    label: str = MAIN  # of the shape
    reason: str = ""


TARGETS: tuple[Target, ...] = (
    Target("relu", "forward", "copy", 1.05),
    Target("leaky_relu", "forward", "copy", 1.05),
    Target("hardswish", "forward", "copy", 1.05),
    Target("sigmoid", "forward", "best", 0.62),
    Target(
        "tanh",
        "forward",
        "best",
        0.9,
        reason="NumPy looks its tanh up in a table of 32 polynomials, which only AVX-512 can",
    ),
    Target(
        "silu",
        "forward",
        "best",
        0.7,
        reason="against onnxruntime's QuickGelu, which flushes its tail; against torch's SiLU the target is met",
    ),
    Target("elu", "forward", "best", 0.3),
    Target("selu", "forward", "best", 0.3),
    Target("gelu", "forward", "best", 1.0, reason=EXACT_TAIL),
    Target("gelu_tanh", "forward", "torch", 0.2),
    Target("softplus", "forward", "best", 0.3),
    Target(
        "mish",
        "forward",
        "best",
        0.2,
        reason="set against jax; NumPy in its best form is faster than that, with tens of ULP of error",
    ),
    Target("sigmoid", "backward", "torch", 0.8, reason=MEMORY),
    Target(
        "elu",
        "backward",
        "torch",
        0.4,
        reason="computed from x, not from y, where y + alpha would cancel; memory alone takes 0.3",
    ),
    Target("gelu", "backward", "torch", 0.6, reason=EXACT_TAIL),
    Target("silu", "backward", "torch", 0.6, reason="memory alone takes 0.35"),
    Target(
        "mish",
        "backward",
        "torch",
        0.1,
        reason="the cheaper quotient of polynomials takes 0.08 and exceeds 4 ULP next to 0 (4.2): accuracy went first",
    ),
    Target("dropout", "forward", "best", 0.06, MAIN, CHEAPER_BITS),
    Target("softmax", "forward", "best", 0.4, "1000x1000", "set before onnxruntime's softmax had been measured"),
    Target(
        "batch_norm_train",
        "forward",
        "best",
        0.18,
        IMAGES,
        f"set before jax had been measured; {COPIED}",
    ),
    Target("batch_norm_train+backward", "forward+backward", "torch", 0.25, IMAGES, COPIED),
    Target("max_pool2d", "forward", "torch", 0.04, f"2x2, {IMAGES}", COPIED),
    Target("sgd_step", "forward", "torch", 0.8, MAIN, FUSED),
    Target("adamw_step", "forward", "torch", 0.35, MAIN, FUSED),
    Target("conv2d", "forward", "torch", 1.0, "64->64 3x3, 32x32, batch 32", COPIES),
    Target("conv2d", "forward", "torch", 1.0, "64->64 1x1, 32x32, batch 32"),
    Target("conv2d", "forward", "torch", 0.5, "64 depthwise 3x3, 32x32, batch 32", MARGINS),
    *(
        Target(op, "forward", "copy", 1.1, LARGE, ARITHMETIC)
        for op in (
            "relu",
            "sigmoid",
            "tanh",
            "silu",
            "elu",
            "gelu",
            "gelu_tanh",
            "softplus",
            "mish",
            "sin",
            "hardswish",
        )
    ),
)


@dataclass(frozen=True, slots=True)
class InferenceTarget:
    """A call with one thread, at most `limit` times as long as that of `against`."""

    network: str
    batch: int
    contender: str
    against: str
    limit: float
    reason: str = ""


INFERENCE: tuple[InferenceTarget, ...] = (
    InferenceTarget("mlp", 1, "fastnn", "onnxruntime", 0.8),
    InferenceTarget(
        "mlp", 16, "fastnn", "onnxruntime", 0.85, reason="it runs at the speed of a large matrix product; 0.83 to 0.88"
    ),
    InferenceTarget("mlp", 256, "fastnn", "onnxruntime", 1.0),
    InferenceTarget("lenet5", 1, "fastnn", "onnxruntime", 0.5),
    *(
        InferenceTarget(network, batch, "fastnn", "onnxruntime", 1.0)
        for network in ("alexnet4", "resnet8", "mobilenet")
        for batch in (1, 16)
    ),
    *(InferenceTarget("mlp", batch, "fastnn int8", "fastnn", 0.5) for batch in (1, 16, 256)),
    *(
        InferenceTarget(network, batch, "fastnn int8", "onnxruntime int8", 1.0)
        for network in ("mlp", "lenet5", "alexnet4", "resnet8", "mobilenet")
        for batch in (1, 16, 256)
    ),
)
START_LIMIT = 0.5
START_REASON = "Python and NumPy, which both need, take longer than half of ONNX Runtime's time"
"""A fresh process's time to its first result over ONNX Runtime's."""
