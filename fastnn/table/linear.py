"""The rows of the family `linear`: fully connected layers with their activation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from fastnn.function import Argument, Function
from fastnn.oracle import numpy64
from fastnn.table.activations import OPS
from fastnn.table.gradients import ACTIVATION, GRADIENTS, RETURNED, SAVED

Array = npt.NDArray[Any]

_X = Argument(name="x", role="array", doc="the input, of shape (..., in)")
_WEIGHT = Argument(name="weight", role="array", doc="the weights, of shape (out, in) as in PyTorch and of x's dtype")
_BLAS = (
    "Products are the work of the BLAS that NumPy brings, whose last bits may depend on its version and threads "
    "(threadpoolctl sets those). Going forward, products of up to 64 rows, small ones, those of long sums with few "
    "results, and all of the 16-bit formats are fastnn's own."
)
_HALVES = "float16 and bfloat16 are widened tile by tile and summed in float32; every result is rounded once."


def _activated(activation: Any, z: Array, derivative: bool = False) -> Array:
    """The activation at z, or its derivative in terms of what it saves."""
    if activation is None:
        return np.ones_like(z) if derivative else z
    name, *given = activation if isinstance(activation, tuple) else (activation,)
    op = OPS[name]
    params = [*given, *(param.default for param in op.params[len(given) :])]
    return np.asarray((op.gradient if derivative else op.forward)(numpy64, z, *params))


def _linear(
    x: Array, weight: Array, bias: Array | None = None, activation: Any = None, *, z: Array | None = None
) -> Array:
    return _activated(activation, _preactivation(x, weight, bias))


def _preactivation(x: Array, weight: Array, bias: Array | None) -> Array:
    return x @ weight.T + (0.0 if bias is None else bias)


def _linear_scale(
    results: Array,
    x: Array,
    weight: Array,
    bias: Array | None = None,
    activation: Any = None,
    *,
    z: Array | None = None,
) -> Array:
    """The magnitudes of the terms, added up, and that of the result: activations here are not much steeper than 1."""
    return np.asarray(
        _preactivation(np.abs(x), np.abs(weight), None if bias is None else np.abs(bias)) + np.abs(results)
    )


def _linear_examples(rng: np.random.Generator) -> Iterator[dict[str, Any]]:
    def arrays(rows: tuple[int, ...], inputs: int, outputs: int) -> dict[str, Any]:
        return {"x": rng.standard_normal((*rows, inputs)), "weight": rng.standard_normal((outputs, inputs))}

    def numbers(*shape: int) -> Array:
        return rng.standard_normal(shape)

    yield {**arrays((3,), 7, 5), "bias": numbers(5), "activation": "relu"}
    yield {**arrays((1,), 50, 33)}
    yield {**arrays((2, 3), 33, 10), "bias": numbers(10), "activation": ("leaky_relu", 0.1)}
    yield {**arrays((17,), 64, 70), "bias": numbers(70), "activation": "tanh", "z": np.zeros((17, 70))}
    yield {**arrays((67,), 40, 3), "bias": numbers(3), "activation": "sigmoid"}
    yield {**arrays((40,), 21, 66), "bias": numbers(66), "activation": "gelu", "z": np.zeros((40, 66))}
    yield {**arrays((), 18, 4), "bias": numbers(4), "activation": ("hardtanh", -2.0, 2.0)}
    yield {**arrays((5, 1), 1, 1), "bias": numbers(1), "activation": "selu"}


def _backward(
    dy: Array,
    x: Array,
    weight: Array,
    saved: Array | None = None,
    activation: Any = None,
    *,
    need_dx: bool = True,
    need_dweight: bool = True,
    need_dbias: bool = True,
    accumulate: bool = False,
    dx: Array | None = None,
    dweight: Array | None = None,
    dbias: Array | None = None,
    dz: Array | None = None,
) -> tuple[Array | None, Array | None, Array | None]:
    inner = dy if activation is None else dy * _activated(activation, np.asarray(saved), derivative=True)
    rows = inner.reshape(-1, weight.shape[0])
    old_dweight, old_dbias = (dweight, dbias) if accumulate else (None, None)
    return (
        inner @ weight if need_dx else None,
        rows.T @ x.reshape(-1, weight.shape[1]) + (0.0 if old_dweight is None else old_dweight)
        if need_dweight
        else None,
        np.sum(rows, axis=0) + (0.0 if old_dbias is None else old_dbias) if need_dbias else None,
    )


def _backward_scale(results: Any, **arguments: Any) -> tuple[Array | None, Array | None, Array | None]:
    """The same sums, of magnitudes."""
    values = {**arguments, "activation": None}
    if arguments.get("activation") is not None:
        values["dy"] = arguments["dy"] * _activated(arguments["activation"], arguments["saved"], derivative=True)
    for name in ("dy", "x", "weight", "dweight", "dbias"):
        values[name] = None if values.get(name) is None else np.abs(values[name])
    return _backward(**values)


def _backward_examples(rng: np.random.Generator) -> Iterator[dict[str, Any]]:
    def arrays(rows: tuple[int, ...], inputs: int, outputs: int, saved: str = "") -> dict[str, Any]:
        made = {"dy": rng.standard_normal((*rows, outputs)), "x": rng.standard_normal((*rows, inputs))}
        made["weight"] = rng.standard_normal((outputs, inputs))
        if saved:
            made["saved"] = (
                rng.uniform(-0.9, 0.9, (*rows, outputs)) if saved == "y" else rng.standard_normal((*rows, outputs))
            )
        return made

    yield {**arrays((3,), 7, 5, "z"), "activation": "relu"}
    yield {**arrays((1,), 33, 20), "need_dx": False}
    yield {**arrays((2, 3), 9, 40, "y"), "activation": "tanh", "need_dbias": False}
    yield {
        **arrays((70,), 18, 3, "z"),
        "activation": ("leaky_relu", 0.1),
        "accumulate": True,
        "dweight": rng.standard_normal((3, 18)),
        "dbias": rng.standard_normal(3),
    }
    yield {
        **arrays((17,), 5, 66, "z"),
        "activation": "softplus",
        "need_dweight": False,
        "dx": np.zeros((17, 5)),
        "dz": np.zeros((17, 66)),
    }
    yield {**arrays((), 6, 4), "dweight": np.ones((4, 6)), "dbias": np.ones(4)}


def _gradients(
    dys: Any, x: Array, weight: Array, bias: Array | None = None, activation: Any = None, *, z: Array | None = None
) -> dict[str, Any]:
    from fastnn.functions.linear import linear, linear_backward

    saved = None
    if activation is not None:
        name = activation[0] if isinstance(activation, tuple) else activation
        saved = linear(x, weight, bias, activation if OPS[name].saves == "output" else None)
    dx, dweight, dbias = linear_backward(dys[0], x, weight, saved, activation)
    return {"x": dx, "weight": dweight, **({} if bias is None else {"bias": dbias})}


ROWS: tuple[Function, ...] = (
    Function(
        name="linear",
        family="linear",
        title="Fully connected layer, its activation fused into the pass over the output",
        formula="z = x weight^T + bias;  y = activation(z)",
        arguments=(
            _X,
            _WEIGHT,
            Argument(name="bias", role="parameter", doc="one number for each output, of shape (out,); None for none"),
            ACTIVATION,
            Argument(
                name="z",
                role="array",
                doc="an array of y's shape and dtype that receives z, in place: what linear_backward wants to see for "
                "an activation whose derivative is a function of its input",
            ),
            Argument(name="out", doc="array of the result's shape and dtype to write into, apart from all inputs"),
        ),
        returns=(Argument(name="y", role="array", doc="the output, of shape (..., out) and x's dtype"),),
        source="Rosenblatt (1958), The Perceptron: a probabilistic model for information storage and organization in "
        "the brain, Psychological Review 65",
        notes=(
            _BLAS,
            _HALVES,
            "Bias and activation are applied to blocks of the product that are still in the cache. The activation is "
            "computed from z before it is rounded to 16 bits.",
            "Allocates y alone. Inputs that are not C-contiguous are copied.",
            "The error of a sum of n products grows with the root of n; the bound is for up to some hundred inputs.",
        ),
        oracle=_linear,
        examples=_linear_examples,
        ulp=3.0,
        scale=_linear_scale,
        gradients=_gradients,
        bytes="reads x, weight and bias once, writes y once, and z once more if wanted",
        operations="2 for each of rows x in x out, 1 an element of y for the bias and those of the activation",
    ),
    Function(
        name="linear_backward",
        family="linear",
        title="Gradients of linear",
        formula="dz = dy activation'(z);  dx = dz weight;  dweight = dz^T x;  dbias = sum of dz over all rows",
        arguments=(
            Argument(name="dy", role="array", doc="gradient of the loss by y, of y's shape and x's dtype"),
            _X,
            _WEIGHT,
            *SAVED,
            *GRADIENTS,
        ),
        returns=RETURNED,
        source="Rumelhart, Hinton and Williams (1986), Learning representations by back-propagating errors, Nature 323",
        notes=(
            _BLAS,
            _HALVES,
            "With an activation dz is an array of dy's shape, float32 beside the 16-bit formats; with dz, dx, dweight "
            "and dbias given nothing is allocated but up to 4 MiB of scratch memory, for 16-bit formats and with "
            "accumulate.",
            "dbias is summed in double, in an order that depends on the shape alone.",
            "The error of a sum of n products grows with the root of n; the bound is for up to some hundred terms.",
        ),
        oracle=_backward,
        examples=_backward_examples,
        ulp=(6.0, 6.0, 5.0),
        scale=_backward_scale,
        gradient_of="linear",
        bytes="reads dy, x and weight twice and saved once, writes dz, dx, dweight and dbias once",
        operations="4 for each of rows x in x out, and those of the activation's derivative",
    ),
)
