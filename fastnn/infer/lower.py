"""From modules to steps: what only training needs goes, batch norm goes into the layer before it, activations too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from fastnn import nn
from fastnn.infer.graph import Array, Graph, Shape, Step, number_dtype
from fastnn.infer.nodes import lowered_graph
from fastnn.infer.steps import KINDS, function
from fastnn.onnx.graph import Graph as Nodes
from fastnn.onnx.reading import Node
from fastnn.table import OPS


class Flow(NamedTuple):
    """A value on its way, and what one sample of zeros has become of it."""

    value: int
    x: Array

    @property
    def shape(self) -> Shape:
        return self.x.shape[1:]


def lowered(model: nn.Module, input_shape: Shape, dtype: np.dtype[Any]) -> Graph:
    """The steps of a model in evaluation mode, with copies of its weights."""
    making = Lowering(Graph(dtype, input_shape))
    end = making.go("", model, Flow(0, np.zeros((1, *input_shape), dtype)))
    if end.value == 0:
        end = making.emit("copy", "", model, [end])
    making.graph.output_shape = end.shape
    return making.graph


class Lowering:
    """Steps in the making. A step may still be changed as long as nobody but what comes next needs its result."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.exact: dict[str, Array] = {}  # weights before they are rounded to the session's dtype
        self.needed: set[int] = set()  # values that more than the next module reads

    def go(self, name: str, module: nn.Module, at: Flow) -> Flow:
        """Through a module, whose name says where it is in the model."""
        for kind in type(module).__mro__:
            if kind in _MODULES and type(module).forward is kind.forward:  # type: ignore[attr-defined]
                return _MODULES[kind](self, name, module, at)
        raise TypeError(
            f"compile: {_place(name, module)} is no layer that a session knows. Sessions are made of the layers of "
            "fastnn.nn in Sequential and Residual; write it as those, or compile the parts around it"
        )

    def emit(
        self,
        op: str,
        name: str,
        module: nn.Module | Node,
        flows: list[Flow],
        options: dict[str, Any] | None = None,
        constants: dict[str, Any] | None = None,
        activation: tuple[Any, ...] | None = None,
    ) -> Flow:
        """A step, done for one sample of zeros: the public function says what does not fit."""
        values, shapes = tuple(flow.value for flow in flows), tuple(flow.shape for flow in flows)
        step = Step(op, values, shapes, (), options or {}, activation=activation, modules=[_place(name, module)])
        for role, array in (constants or {}).items():
            if array is not None:
                self.keep(step, role, f"{name}.{role}" if name else role, getattr(array, "data", array))
        try:
            with np.errstate(all="ignore"):
                y = function(step, self.graph.of(step))(*(flow.x for flow in flows))
        except (TypeError, ValueError) as error:
            raise type(error)(f"compile: {_place(name, module)}: {error}") from None
        step.shape = y.shape[1:]
        if 0 in step.shape:
            raise ValueError(f"compile: {_place(name, module)} makes samples of shape {step.shape}, without an element")
        self.graph.steps.append(step)
        self.needed.update(values)
        return Flow(len(self.graph.steps), y)

    def keep(self, step: Step, role: str, name: str, array: Any) -> None:
        """A copy of an array, rounded once, as a constant of a step."""
        self.exact[name] = array = np.asarray(array)
        step.constants[role] = name
        with np.errstate(over="ignore"):
            kept = np.array(array, number_dtype(self.graph.dtype, step.op, role), order="C")
        self.graph.constants[name] = kept

    def open(self, at: Flow) -> Step | None:
        """The step that has made a value, if it may still be changed: nobody else reads it, and it ends there."""
        if at.value == 0 or at.value in self.needed:
            return None
        step = self.graph.steps[at.value - 1]
        return step if step.activation is None else None

    def activation(
        self, name: str, module: nn.Module, at: Flow, chosen: tuple[Any, ...], constants: dict[str, Any] | None = None
    ) -> Flow:
        """An activation of the table, in the output pass of the step before where that can."""
        step = self.open(at)
        if step is None or not KINDS[step.op].fuses or constants:
            return self.emit("activation", name, module, [at], None, constants, chosen)
        step.activation = chosen
        step.modules.append(_place(name, module))
        return at

    def batch_norm(self, name: str, module: Any, at: Flow) -> Flow:
        """Into the weights of the linear layer or convolution before it, else a step of its own."""
        if module.running_mean is None:
            raise ValueError(
                f"compile: {_place(name, module)} keeps no running statistics (track_running_stats=False), so that its "
                "result would depend on the other samples of the batch"
            )
        if at.x.ndim not in module.axes or at.shape[0] != module.num_features:
            wanted = module.wanted.replace("C", str(module.num_features))
            raise ValueError(f"compile: {_place(name, module)}: x has shape {('N', *at.shape)}; expected {wanted}")
        roles = ("weight", "bias", "running_mean", "running_var")
        constants = {role: getattr(module, role) for role in roles}
        step = self.open(at)
        channels_last = at.shape == (module.num_features,)
        if step is None or at.shape != step.shape or not (step.op == "conv" or (step.op == "linear" and channels_last)):
            return self.emit("batch_norm", name, module, [at], {"eps": module.eps}, constants)
        self.emit("batch_norm", name, module, [at], {"eps": module.eps}, constants)  # that it fits
        trial = self.graph.steps.pop()
        scale, shift = self.affine(trial)
        with np.errstate(all="ignore"):
            weight = self.exact[step.constants["weight"]].astype(np.float64)
            bias = self.exact[step.constants["bias"]].astype(np.float64) if "bias" in step.constants else 0.0
            weight = weight * scale.reshape(-1, *[1] * (weight.ndim - 1))
            bias = bias * scale + shift
        if not self.fits(weight, bias):  # only the product with x is a number of this dtype
            self.graph.steps.append(trial)
            return Flow(len(self.graph.steps), at.x)
        self.needed.discard(at.value)
        self.fold(step, trial, weight, bias)
        step.modules.append(_place(name, module))
        return at

    def affine(self, norm: Step) -> tuple[Array, Array]:
        """What a batch norm multiplies and adds, in float64."""
        known = {role: self.exact[name].astype(np.float64) for role, name in norm.constants.items()}
        with np.errstate(all="ignore"):
            scale: Array = known.get("weight", 1.0) / np.sqrt(known["running_var"] + norm.options["eps"])
            return scale, known.get("bias", 0.0) - known["running_mean"] * scale

    def fits(self, *arrays: Array) -> bool:
        """Are these numbers of the session's dtype?"""
        with np.errstate(all="ignore"):
            return all(np.isfinite(array.astype(self.graph.dtype)).all() for array in arrays)

    def fold(self, step: Step, norm: Step, weight: Array, bias: Array) -> None:
        """New weights for a step, in which a batch norm is that is no step any more."""
        for constant in norm.constants.values():
            del self.graph.constants[constant]
        self.keep(step, "weight", step.constants["weight"], weight)
        self.keep(step, "bias", step.constants["weight"].removesuffix("weight") + "bias", bias)

    def weighted(self, op: str, name: str, module: Any, at: Flow, **options: Any) -> Flow:
        """A linear layer or convolution, with the batch norm right before it in its weights where that can be."""
        norm = self.open(at)
        made = self.emit(op, name, module, [at], options, {"weight": module.weight, "bias": module.bias})
        if norm is None or norm.op != "batch_norm" or self.graph.steps[-2] is not norm:
            return made
        step, affine = self.graph.steps[-1], np.stack(self.affine(norm))
        weight = self.exact[step.constants["weight"]].astype(np.float64)
        bias = self.exact[step.constants["bias"]].astype(np.float64) if "bias" in step.constants else 0.0
        if op == "linear" and len(at.shape) == 1:  # perhaps of an image, flattened, with several inputs a channel
            affine = np.repeat(affine, weight.shape[1] // affine.shape[1], axis=1)[:, None]
        elif op == "conv" and at.shape == norm.shape and options["padding"] in (0, (0,), (0, 0), "valid"):
            groups = options["groups"]  # with padding, zeros around an image would have to be normalised too
            affine = np.repeat(affine.reshape(2, groups, -1), len(weight) // groups, axis=1)
        else:
            return made
        scale, shift = affine.reshape(*affine.shape, *[1] * (weight.ndim - 2))
        with np.errstate(all="ignore"):
            bias = bias + (weight * shift).reshape(len(weight), -1).sum(1)
            weight = weight * scale
        if not self.fits(weight, bias):
            return made
        del self.graph.steps[-2]
        step.inputs, step.modules = norm.inputs, [*norm.modules, *step.modules]
        self.needed.discard(at.value)
        self.fold(step, norm, weight, bias)
        return Flow(at.value, made.x)


def _place(name: str, module: Any) -> str:
    """A module, or a node of an ONNX graph, by its name and kind."""
    kind = module.op if isinstance(module, Node) else type(module).__name__
    return f"{name} ({kind})" if name else kind


def _sequential(self: Lowering, name: str, module: Any, at: Flow) -> Flow:
    for child, each in module.named_children():
        at = self.go(f"{name}.{child}" if name else child, each, at)
    return at


def _residual(self: Lowering, name: str, module: Any, at: Flow) -> Flow:
    self.needed.add(at.value)
    dot = f"{name}." if name else ""
    a = self.go(f"{dot}body", module.body, at)
    self.needed.add(a.value)
    b = at if module.shortcut is None else self.go(f"{dot}shortcut", module.shortcut, at)
    at = self.emit("add", name, module, [a, b])
    return at if module.activation is None else self.go(f"{dot}activation", module.activation, at)


def _nothing(self: Lowering, name: str, module: Any, at: Flow) -> Flow:
    return at


def _dropout(self: Lowering, name: str, module: Any, at: Flow) -> Flow:
    if module.mode == "inverted" or module.p == 0:
        return at
    return self.emit("multiply", name, module, [at], {"by": 1 - module.p})


def _flatten(self: Lowering, name: str, module: Any, at: Flow) -> Flow:
    if module.start_dim % at.x.ndim == 0:
        raise ValueError(f"compile: {_place(name, module)} mixes samples: start_dim is {module.start_dim}")
    try:
        return Flow(at.value, nn.Flatten(module.start_dim, module.end_dim).forward(at.x))
    except ValueError as error:
        raise ValueError(f"compile: {_place(name, module)}: {error}") from None


def _linear(self: Lowering, name: str, module: Any, at: Flow) -> Flow:
    return self.weighted("linear", name, module, at)


def _conv(self: Lowering, name: str, module: Any, at: Flow) -> Flow:
    options = {key: getattr(module, key) for key in ("stride", "padding", "dilation", "groups")}
    return self.weighted("conv", name, module, at, **options)


def _activation(self: Lowering, name: str, module: Any, at: Flow) -> Flow:
    if module.op not in OPS:
        raise TypeError(f"compile: {_place(name, module)}: there is no activation {module.op!r} in the table")
    chosen = module.fused_as
    return self.activation(name, module, at, chosen if isinstance(chosen, tuple) else (chosen,))


def _softplus(self: Lowering, name: str, module: Any, at: Flow) -> Flow:
    if module.beta == 1:
        return self.activation(name, module, at, ("softplus",))
    at = self.emit("multiply", name, module, [at], {"by": module.beta})
    return self.emit("divide", name, module, [self.activation(name, module, at, ("softplus",))], {"by": module.beta})


def _learned(self: Lowering, name: str, module: Any, at: Flow) -> Flow:
    weight = module.weight.data
    if weight.size == 1:
        return self.activation(name, module, at, (module.op, float(weight.reshape(())[()])))
    return self.activation(name, module, at, (module.op,), {"weight": weight})


def _instance_norm(self: Lowering, name: str, module: Any, at: Flow) -> Flow:
    if module.running_mean is not None:
        return self.batch_norm(name, module, at)
    return self.emit("instance_norm", name, module, [at], {"eps": module.eps}, _affine(module))


def _group_norm(self: Lowering, name: str, module: Any, at: Flow) -> Flow:
    options = {"groups": module.num_groups, "eps": module.eps}
    return self.emit("group_norm", name, module, [at], options, _affine(module))


def _row_norm(self: Lowering, name: str, module: Any, at: Flow) -> Flow:
    op = "layer_norm" if isinstance(module, nn.LayerNorm) else "rms_norm"
    wanted = module.normalized_shape
    if at.shape[-len(wanted) :] != wanted:
        raise ValueError(f"compile: {_place(name, module)}: x has shape {('N', *at.shape)}; expected (..., {wanted})")
    return self.emit(op, name, module, [at], {"axis": -len(wanted), "eps": module.eps}, _affine(module))


def _affine(module: Any) -> dict[str, Any]:
    return {"weight": module.weight, "bias": module.bias}


def _pool(self: Lowering, name: str, module: Any, at: Flow) -> Flow:
    if len(at.shape) != module.dims + 1:
        raise ValueError(
            f"compile: {_place(name, module)}: x has shape {('N', *at.shape)}; expected {module.dims + 2} axes"
        )
    if getattr(module, "return_indices", False):
        raise ValueError(f"compile: {_place(name, module)} returns indices; a session has one result: return_indices")
    if isinstance(module, nn.FractionalMaxPool2d):
        options = {key: getattr(module, key) for key in ("seed", "pseudo_random", "overlapping", "shared")}
        options["output_size"] = module._lengths(at.shape[1:])
        return self.emit("fractional_max_pool2d", name, module, [at], options)
    if hasattr(module, "output_size"):
        return self.emit("adaptive_avg_pool", name, module, [at], {"output_size": module._lengths(at.shape[1:])})
    last = "dilation" if hasattr(module, "return_indices") else "count_include_pad"
    keys = ("kernel_size", "stride", "padding", "ceil_mode", last)
    op = "max_pool" if last == "dilation" else "avg_pool"
    return self.emit(op, name, module, [at], {key: getattr(module, key) for key in keys})


def _global_pool(self: Lowering, name: str, module: Any, at: Flow) -> Flow:
    return self.emit("global_avg_pool", name, module, [at])


def _along(self: Lowering, name: str, module: Any, at: Flow) -> Flow:
    options = {"axis": module.axis if hasattr(module, "axis") else module.dim}
    if isinstance(module, nn.Maxout):
        options["pieces"] = module.pieces
    op = {"LogSoftmax": "log_softmax"}.get(_known(module), _known(module).lower())
    return self.emit(op, name, module, [at], options)


def _known(module: nn.Module) -> str:
    """The name of the class that a subclass of it is lowered as."""
    return next(kind.__name__ for kind in type(module).__mro__ if kind in _MODULES)


def _pad(self: Lowering, name: str, module: Any, at: Flow) -> Flow:
    return self.emit("pad", name, module, [at], {"channels": module.out_channels, "stride": module.stride})


_MODULES: dict[type, Callable[[Lowering, str, Any, Flow], Flow]] = {
    nn.Sequential: _sequential,
    Nodes: lambda self, name, module, at: lowered_graph(self, module, at),
    nn.Residual: _residual,
    nn.Dropout: _dropout,
    nn.DropConnect: lambda self, name, module, at: self.go(f"{name}.layer" if name else "layer", module.layer, at),
    nn.Flatten: _flatten,
    nn.Linear: _linear,
    nn.Activation: _activation,
    nn.Softplus: _softplus,
    nn.GlobalAvgPool: _global_pool,
    nn.GroupNorm: _group_norm,
    nn.PadShortcut: _pad,
    **dict.fromkeys(
        (nn.Identity, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.StochasticDepth), _nothing
    ),
    **dict.fromkeys((nn.Conv1d, nn.Conv2d), _conv),
    **dict.fromkeys((nn.PReLU, nn.ParametricELU), _learned),
    **dict.fromkeys((nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d), Lowering.batch_norm),
    **dict.fromkeys((nn.InstanceNorm1d, nn.InstanceNorm2d), _instance_norm),
    **dict.fromkeys((nn.LayerNorm, nn.RMSNorm), _row_norm),
    **dict.fromkeys((nn.Softmax, nn.LogSoftmax, nn.GLU, nn.SwiGLU, nn.Maxout), _along),
    **dict.fromkeys((nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d), _pool),
    **dict.fromkeys((nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d, nn.FractionalMaxPool2d), _pool),
}
