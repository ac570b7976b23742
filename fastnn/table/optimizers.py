"""The rows of the family `optimizers`: one step of each optimiser, in place, and the clipping of gradients."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from fastnn.function import Argument, Function

Array = npt.NDArray[Any]

_PARAM = Argument(name="param", role="array", doc="the parameters, an array of any shape, updated in place")
_GRAD = Argument(name="grad", role="array", doc="the gradient of the loss by param, of its shape and dtype")
_LR = Argument(name="lr", doc="learning rate, at least 0")
_EPS = Argument(name="eps", doc="added to the root in the denominator, at least 0")
_DECAY = Argument(
    name="weight_decay", doc="strength of the L2 penalty: weight_decay param is added to grad; at least 0"
)
_MAXIMIZE = Argument(name="maximize", doc="climb: the gradient counts with the opposite sign")

_STATE = (
    "The state has param's shape and its dtype; beside float16 and bfloat16 parameters it is float32. Computed in "
    "float32 (float64 for float64), rounded once. A master copy of 16-bit weights in float32 is the caller's: steps "
    "below half an ULP of the parameter are lost in 16 bits.",
    "Updates happen in one pass, in place, and allocate nothing. An array that is not C-contiguous is copied, updated "
    "and copied back. The arrays must not overlap.",
)
_OPTIONS = "Semantics and defaults are those of PyTorch's optimiser. "


def _state(name: str, doc: str) -> Argument:
    return Argument(name=name, role="parameter", doc=doc)


def _examples(rng: np.random.Generator, states: int, positive: tuple[int, ...]) -> Iterator[list[Array]]:
    """Arrays of several shapes: param, grad, then the states, of which some are squares."""
    for shape in ((7,), (3, 5), (1, 33), (70,), (1,)):
        arrays = [rng.standard_normal(shape) for _ in range(2 + states)]
        for k in positive:
            arrays[2 + k] = arrays[2 + k] ** 2 + 0.05
        yield [np.asarray(array) for array in arrays]


def _sgd(
    param: Array,
    grad: Array,
    velocity: Array | None,
    lr: float,
    momentum: float = 0.0,
    dampening: float = 0.0,
    weight_decay: float = 0.0,
    nesterov: bool = False,
    *,
    first: bool = False,
    maximize: bool = False,
) -> tuple[Array, Array | None]:
    grad = (-grad if maximize else grad) + (weight_decay * param if weight_decay else 0.0)
    if momentum:
        velocity = grad if first or velocity is None else momentum * velocity + (1 - dampening) * grad
        grad = grad + momentum * velocity if nesterov else velocity
    return param - lr * grad, velocity


def _sgd_scale(results: Any, **arguments: Any) -> tuple[Array, Array | None]:
    """The same sums, of magnitudes."""
    values = {**arguments, **_magnitudes(arguments, "param", "grad", "velocity"), "lr": -arguments["lr"]}
    values["dampening"] = 1 - abs(1 - arguments.get("dampening", 0.0))
    return _sgd(**{**values, "maximize": False})


def _magnitudes(arguments: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: None if arguments.get(name) is None else np.abs(arguments[name]) for name in names}


def _sgd_examples(rng: np.random.Generator) -> Iterator[dict[str, Any]]:
    options: list[dict[str, Any]] = [
        {"lr": 0.01, "momentum": 0.9},
        {"lr": 0.1},
        {"lr": 0.01, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01},
        {"lr": 0.3, "momentum": 0.5, "dampening": 0.25, "weight_decay": 0.1, "maximize": True},
        {"lr": 0.3, "momentum": 0.5, "dampening": 0.25, "first": True},
    ]
    for k, (param, grad, velocity) in enumerate(_examples(rng, 1, ())):
        given = velocity if options[k].get("momentum") else None
        yield {"param": param, "grad": grad, "velocity": given, **options[k]}


def _rmsprop(
    param: Array,
    grad: Array,
    square_avg: Array,
    lr: float = 0.01,
    alpha: float = 0.99,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    momentum: float = 0.0,
    *,
    grad_avg: Array | None = None,
    velocity: Array | None = None,
    maximize: bool = False,
) -> tuple[Array, Array, Array | None, Array | None]:
    grad = (-grad if maximize else grad) + (weight_decay * param if weight_decay else 0.0)
    square_avg = alpha * square_avg + (1 - alpha) * grad**2
    variance = square_avg
    if grad_avg is not None:
        grad_avg = alpha * grad_avg + (1 - alpha) * grad
        variance = np.maximum(square_avg - grad_avg**2, 0.0)
    with np.errstate(all="ignore"):
        update = grad / (np.sqrt(variance) + eps)
    if momentum:
        update = velocity = momentum * np.asarray(velocity) + update
    return param - lr * update, square_avg, grad_avg, velocity


def _rmsprop_scale(results: Any, **arguments: Any) -> tuple[Array, Array, Array | None, Array | None]:
    """Sums of magnitudes; what cancels in the centred variance counts by how much of it is left."""
    values = {**arguments, **_magnitudes(arguments, "param", "grad", "grad_avg", "velocity"), "maximize": False}
    decay = arguments.get("weight_decay", 0.0)
    grad = values["grad"] + decay * values["param"]
    alpha, eps = arguments.get("alpha", 0.99), arguments.get("eps", 1e-8)
    square = alpha * arguments["square_avg"] + (1 - alpha) * grad**2
    average = None if values["grad_avg"] is None else alpha * values["grad_avg"] + (1 - alpha) * grad
    variance = results[1] if results[2] is None else np.maximum(results[1] - results[2] ** 2, 1e-300)
    with np.errstate(all="ignore"):
        update = grad / (np.sqrt(variance) + eps) * np.maximum(square / variance, 1.0)
    momentum = arguments.get("momentum", 0.0)
    if momentum:
        update = momentum * values["velocity"] + update
    lr = arguments.get("lr", 0.01)
    return values["param"] + lr * update, square, average, update if momentum else values["velocity"]


def _rmsprop_examples(rng: np.random.Generator) -> Iterator[dict[str, Any]]:
    options: list[dict[str, Any]] = [
        {},
        {"lr": 0.1, "alpha": 0.9, "momentum": 0.9},
        {"weight_decay": 0.1, "eps": 1e-3, "grad_avg": True},
        {"momentum": 0.5, "grad_avg": True, "maximize": True, "weight_decay": 0.01},
        {"alpha": 0.0, "eps": 0.5},
    ]
    for k, (param, grad, square, average, velocity) in enumerate(_examples(rng, 3, (0,))):
        example = {"param": param, "grad": grad, "square_avg": np.asarray(square + 0.2), **options[k]}
        if options[k].get("grad_avg"):
            example["grad_avg"] = np.asarray(0.1 * average)
        if options[k].get("momentum"):
            example["velocity"] = velocity
        yield example


def _adam(
    param: Array,
    grad: Array,
    exp_avg: Array,
    exp_avg_sq: Array,
    step: int,
    lr: float = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    *,
    max_exp_avg_sq: Array | None = None,
    maximize: bool = False,
    decoupled: bool = False,
) -> tuple[Array, Array, Array, Array | None]:
    beta1, beta2 = betas
    grad = -grad if maximize else grad
    if weight_decay and decoupled:
        param = param * (1 - lr * weight_decay)
    elif weight_decay:
        grad = grad + weight_decay * param
    exp_avg = beta1 * exp_avg + (1 - beta1) * grad
    exp_avg_sq = beta2 * exp_avg_sq + (1 - beta2) * grad**2
    second = exp_avg_sq
    if max_exp_avg_sq is not None:
        second = max_exp_avg_sq = np.maximum(max_exp_avg_sq, exp_avg_sq)
    with np.errstate(all="ignore"):
        update = exp_avg / (1 - beta1**step) / (np.sqrt(second / (1 - beta2**step)) + eps)
    return param - lr * update, exp_avg, exp_avg_sq, max_exp_avg_sq


def _adamw(**arguments: Any) -> tuple[Array, Array, Array, Array | None]:
    return _adam(**{"weight_decay": 0.01, **arguments}, decoupled=True)


def _adam_scale(results: Any, **arguments: Any) -> tuple[Array, Array, Array, Array | None]:
    values = {**arguments, **_magnitudes(arguments, "param", "grad", "exp_avg"), "maximize": False}
    values["lr"] = -arguments.get("lr", 1e-3)
    return _adam(**values)


def _adamw_scale(results: Any, **arguments: Any) -> tuple[Array, Array, Array, Array | None]:
    return _adam_scale(results, decoupled=True, **{"weight_decay": 0.01, **arguments})


def _adam_examples(rng: np.random.Generator) -> Iterator[dict[str, Any]]:
    options: list[dict[str, Any]] = [
        {"step": 1},
        {"step": 10, "lr": 0.1, "betas": (0.5, 0.75), "eps": 1e-3},
        {"step": 1000, "weight_decay": 0.1, "max_exp_avg_sq": True},
        {"step": 2, "weight_decay": 0.01, "maximize": True},
        {"step": 100_000, "betas": (0.0, 0.0), "weight_decay": 0.0},
    ]
    for k, (param, grad, first, second, largest) in enumerate(_examples(rng, 3, (1, 2))):
        example = {"param": param, "grad": grad, "exp_avg": first, "exp_avg_sq": second, **options[k]}
        if options[k].get("max_exp_avg_sq"):
            example["max_exp_avg_sq"] = largest
        yield example


def _clip(grads: list[Array], max_norm: float, norm_type: float = 2.0, *, error_if_nonfinite: bool = False) -> Any:
    values = np.concatenate([np.abs(grad).reshape(-1) for grad in grads])
    return np.max(values, initial=0.0) if norm_type == np.inf else np.sum(values**norm_type) ** (1 / norm_type)


def _clip_examples(rng: np.random.Generator) -> Iterator[dict[str, Any]]:
    shapes: tuple[tuple[int, ...], ...] = ((17,), (3, 5), (1,), (0, 4), (40,))
    for norm_type in (2.0, 1.0, np.inf, 3.0, 0.5):
        for max_norm in (0.5, 1e6):
            yield {
                "grads": [np.asarray(rng.standard_normal(shape)) for shape in shapes],
                "max_norm": max_norm,
                "norm_type": norm_type,
                "error_if_nonfinite": max_norm > 1,
            }


_MOMENTS = (
    _state("exp_avg", "running mean of the gradient, updated in place; zeros before the first step"),
    _state("exp_avg_sq", "running mean of its square, updated in place; zeros before the first step"),
    Argument(name="step", doc="number of this step, 1 for the first one"),
    _LR,
    Argument(name="betas", doc="the two numbers in [0, 1) by which the running means decay"),
    _EPS,
)
_LARGEST = Argument(
    name="max_exp_avg_sq",
    role="parameter",
    doc="largest exp_avg_sq so far, updated in place: with it the step is that of AMSGrad; None for the usual step",
)
_ADAM_RETURNS = (
    Argument(name="param", role="array", doc="the array given, updated"),
    _state("exp_avg", "the array given, updated"),
    _state("exp_avg_sq", "the array given, updated"),
    _state("max_exp_avg_sq", "the array given, updated; None where none was given"),
)
_ADAM_NOTES = (
    *_STATE,
    _OPTIONS + "The corrections of both means for their start at zero are worked out in double.",
    "A gradient whose square overflows (in float32 from 1.8e19 on) makes exp_avg_sq infinite and the step 0.",
)
_ADAM_COST = (
    "reads param, grad and both means once, writes all but grad once: 28 bytes a float32 element",
    "about 12 an element, a root and a division among them",
)

ROWS: tuple[Function, ...] = (
    Function(
        name="sgd_step",
        family="optimizers",
        title="One step of gradient descent with momentum, in place",
        formula="g = grad + weight_decay param;  velocity = momentum velocity + (1 - dampening) g;  param = param - lr "
        "(g + momentum velocity if nesterov else velocity)",
        arguments=(
            _PARAM,
            _GRAD,
            _state("velocity", "the running direction, updated in place, zeros at first; may be None without momentum"),
            _LR,
            Argument(name="momentum", doc="how much of the velocity is kept, at least 0; with 0 there is no velocity"),
            Argument(name="dampening", doc="what is left out of the gradient as it enters the velocity"),
            _DECAY,
            Argument(name="nesterov", doc="look ahead along the velocity; needs momentum and no dampening"),
            Argument(name="first", doc="first step: the velocity becomes g, undampened, whatever it holds"),
            _MAXIMIZE,
        ),
        returns=(
            Argument(name="param", role="array", doc="the array given, updated"),
            _state("velocity", "the array given, updated; None where none was given"),
        ),
        source="Sutskever, Martens, Dahl and Hinton (2013), On the importance of initialization and momentum in deep "
        "learning, ICML; Nesterov (1983)",
        notes=(*_STATE, _OPTIONS + "PyTorch sets the velocity to g in the first step, which first=True does here."),
        oracle=_sgd,
        examples=_sgd_examples,
        ulp=(2.0, 2.0),
        scale=_sgd_scale,
        bytes="reads param, grad and velocity once, writes param and velocity once: 20 bytes a float32 element",
        operations="4 to 7 an element",
    ),
    Function(
        name="rmsprop_step",
        family="optimizers",
        title="One step of RMSProp, in place",
        formula="g = grad + weight_decay param;  square_avg = alpha square_avg + (1 - alpha) g^2;  velocity = momentum "
        "velocity + g / (sqrt(square_avg) + eps);  param = param - lr velocity",
        arguments=(
            _PARAM,
            _GRAD,
            _state("square_avg", "running mean of the squared gradient, updated in place; zeros before the first step"),
            _LR,
            Argument(name="alpha", doc="how much of the running means is kept, in [0, 1)"),
            _EPS,
            _DECAY,
            Argument(name="momentum", doc="how much of the velocity is kept, at least 0; with 0 there is no velocity"),
            _state(
                "grad_avg",
                "running mean of the gradient, updated in place: with it the step is the centred one, square_avg - "
                "grad_avg^2 in place of square_avg; None for the usual step",
            ),
            _state("velocity", "the running direction, updated in place, zeros at first; None without momentum"),
            _MAXIMIZE,
        ),
        returns=(
            Argument(name="param", role="array", doc="the array given, updated"),
            _state("square_avg", "the array given, updated"),
            _state("grad_avg", "the array given, updated; None where none was given"),
            _state("velocity", "the array given, updated; None where none was given"),
        ),
        source="Hinton (2012), Neural Networks for Machine Learning, lecture 6; Graves (2013), Generating Sequences "
        "With Recurrent Neural Networks, arXiv:1308.0850, for the centred form",
        notes=(
            *_STATE,
            _OPTIONS + "Where rounding takes square_avg - grad_avg^2 below 0 it counts as 0; PyTorch gives NaN there.",
        ),
        oracle=_rmsprop,
        examples=_rmsprop_examples,
        ulp=(4.0, 3.0, 2.0, 4.0),
        scale=_rmsprop_scale,
        bytes="reads param, grad and square_avg once, writes param and square_avg once: 20 bytes a float32 element, 8 "
        "more for each of grad_avg and velocity",
        operations="about 8 an element, a root and a division among them",
    ),
    Function(
        name="adam_step",
        family="optimizers",
        title="One step of Adam, in place",
        formula="g = grad + weight_decay param;  exp_avg = b1 exp_avg + (1 - b1) g;  exp_avg_sq = b2 exp_avg_sq + (1 - "
        "b2) g^2;  param = param - lr exp_avg / (1 - b1^step) / (sqrt(exp_avg_sq / (1 - b2^step)) + eps)",
        arguments=(_PARAM, _GRAD, *_MOMENTS, _DECAY, _LARGEST, _MAXIMIZE),
        returns=_ADAM_RETURNS,
        source="Kingma and Ba (2015), Adam: A Method for Stochastic Optimization, ICLR; Reddi, Kale and Kumar (2018), "
        "On the Convergence of Adam and Beyond, ICLR, for AMSGrad",
        notes=_ADAM_NOTES,
        oracle=_adam,
        examples=_adam_examples,
        ulp=(4.0, 2.0, 3.0, 3.0),
        scale=_adam_scale,
        bytes=_ADAM_COST[0],
        operations=_ADAM_COST[1],
    ),
    Function(
        name="adamw_step",
        family="optimizers",
        title="One step of Adam with decoupled weight decay, in place",
        formula="exp_avg = b1 exp_avg + (1 - b1) grad;  exp_avg_sq = b2 exp_avg_sq + (1 - b2) grad^2;  param = param - "
        "lr weight_decay param - lr exp_avg / (1 - b1^step) / (sqrt(exp_avg_sq / (1 - b2^step)) + eps)",
        arguments=(
            _PARAM,
            _GRAD,
            *_MOMENTS,
            Argument(name="weight_decay", doc="lr weight_decay param is taken off param; at least 0"),
            _LARGEST,
            _MAXIMIZE,
        ),
        returns=_ADAM_RETURNS,
        source="Loshchilov and Hutter (2019), Decoupled Weight Decay Regularization, ICLR",
        notes=_ADAM_NOTES,
        oracle=_adamw,
        examples=_adam_examples,
        ulp=(4.0, 2.0, 3.0, 3.0),
        scale=_adamw_scale,
        bytes=_ADAM_COST[0],
        operations=_ADAM_COST[1],
    ),
    Function(
        name="clip_grad_norm",
        family="optimizers",
        title="Scale gradients down, in place, where their norm together is above a bound",
        formula="total = (sum |grad|^norm_type)^(1 / norm_type);  grad = grad min(1, max_norm / (total + 1e-6))",
        arguments=(
            Argument(name="grads", role="array", doc="the gradients, a list or tuple of arrays, scaled in place"),
            Argument(name="max_norm", doc="the bound, at least 0"),
            Argument(name="norm_type", doc="order of the norm, above 0; infinity for the largest magnitude"),
            Argument(name="error_if_nonfinite", doc="ValueError, and nothing changed, where total is infinite or NaN"),
        ),
        returns=(
            Argument(name="total", doc="the norm before clipping: a NumPy float64 beside float64, else a float32"),
        ),
        source="Pascanu, Mikolov and Bengio (2013), On the difficulty of training recurrent neural networks, ICML",
        notes=(
            "The norm is summed in double in an order that depends on the shapes alone.",
            "As in PyTorch an infinite norm makes finite gradients 0 and infinite ones NaN, and a norm of NaN makes "
            "every gradient NaN. Gradients whose norm is within the bound keep their bits.",
        ),
        oracle=_clip,
        examples=_clip_examples,
        ulp=3.0,
        bytes="reads every gradient once; reads and writes it once more where it is scaled",
        operations="2 an element, 1 more where it is scaled; a power for orders other than 1, 2 and infinity",
    ),
)
