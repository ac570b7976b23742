"""How steps are done. `function` does one through the public function, which checks everything: so are models and files
checked, on one sample of zeros. `bound` does it as a session does, by the kernels themselves, on arrays of its own of
which all is known: nothing else in `fastnn.infer` calls a kernel.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from fastnn import functional
from fastnn import functions as _functions
from fastnn.arguments import parameter_dtype
from fastnn.dispatch import implementation
from fastnn.functions.convolution import _geometry
from fastnn.fusion import fused
from fastnn.infer.graph import Array, Shape, Step
from fastnn.kernels import gemm
from fastnn.kernels.cpu import linear as native
from fastnn.pooled import _adaptive_plan, _average_plan, _max_plan, _options, global_plan
from fastnn.table import OPS

functions: Any = _functions  # what it offers it lists itself
Call = tuple[Callable[..., Any], list[Any]]
Constants = dict[str, Array]
_BLAS_ABOVE, _BLAS_ABOVE_OUTPUTS = 64, 16  # rows and outputs of products for which the BLAS was measured to be faster
IN_PLACE = frozenset({"activation", "add", "multiply", "divide"})
FUSES = frozenset({"linear", "conv", "batch_norm"})
"""Steps that apply an activation to their result while it is in the cache."""


def function(step: Step, c: Constants) -> Callable[..., Any]:
    """`f(*inputs, out, *scratch)` by public functions; out and scratch may be None or left away."""
    make = _FUNCTIONS.get(step.op)
    if make is None:
        raise ValueError(f"there is no step {step.op!r}; expected one of {', '.join(sorted(_FUNCTIONS))}")
    if step.activation is not None and step.op not in FUSES | {"activation"}:
        raise ValueError(f"a step {step.op!r} applies no activation; got {step.activation}")
    return make(step, c)


def scratch(step: Step, dtype: np.dtype[Any]) -> list[tuple[Shape, np.dtype[Any]]]:
    """The arrays that a step needs beside input and result, by shape of one sample and dtype."""
    wide = parameter_dtype(dtype)
    if step.op in ("layer_norm", "rms_norm"):
        shape = step.shape[: step.options["axis"]]
        return [(shape, wide)] * (2 if step.op == "layer_norm" else 1)
    if step.op in ("group_norm", "instance_norm"):
        return [((step.options.get("groups", step.shape[0]),), wide)] * 2
    return [(step.shape, np.dtype(np.int64))] if step.op == "fractional_max_pool2d" else []


# ---- by public functions ----


def _linear(step: Step, c: Constants) -> Callable[..., Any]:
    return lambda x, out=None: functions.linear(x, c["weight"], c.get("bias"), step.activation, out=out)


def _conv(step: Step, c: Constants) -> Callable[..., Any]:
    call = functions.conv1d if c["weight"].ndim == 3 else functions.conv2d
    return lambda x, out=None: call(x, c["weight"], c.get("bias"), *_sliding(step), activation=step.activation, out=out)


def _sliding(step: Step) -> tuple[Any, ...]:
    return tuple(step.options[name] for name in ("stride", "padding", "dilation", "groups"))


def _activation(step: Step, c: Constants) -> Callable[..., Any]:
    name, *given = step.activation or ("",)
    if name not in OPS:
        raise ValueError(f"there is no activation {name!r}")
    call, values = getattr(functional, name), [*given, *c.values()]
    return lambda x, out=None: call(x, *values, out=out)


def _batch_norm(step: Step, c: Constants) -> Callable[..., Any]:
    known = c.get("weight"), c.get("bias"), c["running_mean"], c["running_var"], step.options["eps"]
    return lambda x, out=None: functions.batch_norm_infer(x, *known, step.activation, out=out)


def _each_norm(step: Step, c: Constants) -> Callable[..., Any]:
    groups = step.options.get("groups")
    call, first = (functions.instance_norm, ()) if groups is None else (functions.group_norm, (groups,))
    known = *first, c.get("weight"), c.get("bias"), step.options["eps"]
    return lambda x, out=None, mean=None, inv_std=None: call(x, *known, out=out, mean=mean, inv_std=inv_std)[0]


def _row_norm(step: Step, c: Constants) -> Callable[..., Any]:
    options: dict[str, Any] = {"axis": step.options["axis"], "eps": step.options["eps"]}
    if not -len(step.inputs_as[0]) <= options["axis"] < 0:
        raise ValueError(f"axis is {options['axis']}; expected a negative number, of axes after the first")
    gamma, beta = c.get("weight"), c.get("bias")
    if step.op == "rms_norm":
        return lambda x, out=None, inv_rms=None: functions.rms_norm(x, gamma, **options, out=out, inv_rms=inv_rms)[0]
    return lambda x, out=None, mean=None, inv_std=None: functions.layer_norm(
        x, gamma, beta, **options, out=out, mean=mean, inv_std=inv_std
    )[0]


def _pool(step: Step, c: Constants) -> Callable[..., Any]:
    dims = "" if step.op == "global_avg_pool" else f"{len(step.inputs_as[0]) - 1}d"
    call = getattr(functions, step.op + dims, None)
    if call is None:
        raise ValueError(f"{step.op}: x has shape {('N', *step.inputs_as[0])}; expected 1 to 3 spatial axes")
    return lambda x, out=None: call(x, **step.options, out=out)


def _fractional(step: Step, c: Constants) -> Callable[..., Any]:
    return lambda x, out=None, indices=None: functions.fractional_max_pool2d(
        x, **step.options, return_indices=True, indices=indices, out=out
    )[0]


def _along(step: Step, c: Constants) -> Callable[..., Any]:
    axis = step.options["axis"]
    given = (step.options["pieces"], axis) if step.op == "maxout" else (axis,)
    if axis % (len(step.inputs_as[0]) + 1) == 0:
        raise ValueError(f"{step.op} along axis {axis} of x of shape {('N', *step.inputs_as[0])} mixes samples")
    call = getattr(functions, step.op)
    return lambda x, out=None: call(x, *given, out=out)


def _by(step: Step, c: Constants) -> Callable[..., Any]:
    call, by = getattr(np, step.op), float(step.options["by"])
    return lambda x, out=None: call(x, x.dtype.type(by), out=out)


def _add(step: Step, c: Constants) -> Callable[..., Any]:
    if step.inputs_as[0] != step.inputs_as[-1] or len(step.inputs) != 2:
        raise ValueError(f"body and shortcut make {step.inputs_as[0]} and {step.inputs_as[-1]}; expected the same")
    return lambda a, b, out=None: np.add(a, b, out=out)


def _copy(step: Step, c: Constants) -> Callable[..., Any]:
    return lambda x, out=None: np.positive(x, out=out)


def _pad(step: Step, c: Constants) -> Callable[..., Any]:
    channels, stride = step.options["channels"], step.options["stride"]
    (own, *_) = step.inputs_as[0]
    if len(step.inputs_as[0]) != 3 or own > channels or stride < 1:
        raise ValueError(f"x has shape {('N', *step.inputs_as[0])}; expected (N, C, H, W), C at most {channels}")

    def pad(x: Array, out: Array | None = None) -> Array:
        taken = x[:, :, ::stride, ::stride]
        y = np.empty((len(x), channels, *taken.shape[2:]), x.dtype) if out is None else out
        y[:, :own] = taken
        y[:, own:] = 0
        return y

    return pad


_FUNCTIONS: dict[str, Callable[[Step, Constants], Callable[..., Any]]] = {
    "linear": _linear,
    "conv": _conv,
    "activation": _activation,
    "batch_norm": _batch_norm,
    "instance_norm": _each_norm,
    "group_norm": _each_norm,
    "layer_norm": _row_norm,
    "rms_norm": _row_norm,
    **dict.fromkeys(("max_pool", "avg_pool", "adaptive_avg_pool", "global_avg_pool"), _pool),
    "fractional_max_pool2d": _fractional,
    **dict.fromkeys(("softmax", "log_softmax", "glu", "swiglu", "maxout"), _along),
    "multiply": _by,
    "divide": _by,
    "add": _add,
    "copy": _copy,
    "pad": _pad,
}


# ---- by kernels ----


class At(Protocol):
    """An array of the session, or a place that the caller's will take: of a value, in a shape."""

    def __call__(self, value: int, shape: Shape) -> Any: ...


def bound(
    step: Step,
    place: int,
    c: Constants,
    dtype: np.dtype[Any],
    batch: int,
    at: At,
    rooms: list[Array],
    packed: Constants,
) -> Call:
    """A kernel and its arguments for step number `place` and a batch of that size, 1 or more.

    Weights in another order than their own are kept in `packed`, under their names.
    """
    if step.op == "linear":
        return _dense(step, place, c, dtype, batch, at, packed)
    make = _KERNELS.get(step.op)
    if make is not None:
        return make(step, place, c, dtype, batch, at)
    xs = [at(value, (batch, *shape)) for value, shape in zip(step.inputs, step.inputs_as, strict=True)]
    return function(step, c), [*xs, at(place + 1, (batch, *step.shape)), *rooms]


def _dense(step: Step, place: int, c: Constants, dtype: np.dtype[Any], batch: int, at: At, packed: Constants) -> Call:
    rows, weight, kernels = batch * math.prod(step.shape[:-1]), c["weight"], implementation("linear")
    x, y = at(step.inputs[0], (rows, weight.shape[1])), at(place + 1, (rows, weight.shape[0]))
    then = fused("linear", step.activation, dtype)
    if kernels is not native or rows <= _BLAS_ABOVE or len(weight) <= _BLAS_ABOVE_OUTPUTS or dtype.itemsize == 2:
        return kernels.forward, [x, weight, c.get("bias"), then, y, None]
    name = step.constants["weight"]
    if name not in packed:
        packed[name] = np.asfortranarray(weight)  # the BLAS packs it 5 to 20 % sooner from there
    return gemm.forward, [native._finish, x, packed[name], c.get("bias"), then, y, None]


def _correlate(step: Step, place: int, c: Constants, dtype: np.dtype[Any], batch: int, at: At) -> Call:
    weight = c["weight"]
    dims, shape = weight.ndim - 2, (batch, *step.inputs_as[0])
    stride, padding, dilation, groups = _sliding(step)
    x_shape, w_shape, y_shape, options = _geometry(
        f"conv{dims}d", shape, weight.shape, stride, padding, dilation, groups, dims
    )
    then = fused("conv", step.activation, dtype) or (None, ())
    arrays = [at(step.inputs[0], x_shape), weight.reshape(w_shape), c.get("bias"), at(place + 1, y_shape)]
    return implementation("convolution").forward, [*arrays, *options, *then, None]


def _windows(step: Step, place: int, c: Constants, dtype: np.dtype[Any], batch: int, at: At) -> Call:
    shape, given = (batch, *step.inputs_as[0]), step.options
    dims, name, where = len(shape) - 2, step.op, "x has shape"
    if name == "global_avg_pool":
        plan = global_plan(name, shape, where)
    elif name == "adaptive_avg_pool":
        plan = _adaptive_plan(name, shape, dims, where, given["output_size"])
    else:
        keys = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")
        options = _options(name, dims, *(given.get(key, 1) for key in keys))
        if name == "max_pool":
            plan = _max_plan(name, shape, dims, *options)
        else:
            plan = _average_plan(name, shape, dims, where, given["count_include_pad"], *options)
    arrays = [at(step.inputs[0], shape), at(place + 1, plan.y), *([None] if name == "max_pool" else [])]
    return getattr(implementation("pooling"), plan.kernel), [*arrays, *plan.arguments]


_KERNELS: dict[str, Callable[..., Call]] = {
    "conv": _correlate,
    **dict.fromkeys(("max_pool", "avg_pool", "adaptive_avg_pool", "global_avg_pool"), _windows),
}
