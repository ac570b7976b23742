"""Initial weights: functions that fill a parameter, or an array, in place and return it, and `apply` for a network.

    fnn.init.he_(layer.weight)
    fnn.init.apply(model, "he", rng=0)

Fan-in D_in, of a weight (out, in, *kernel), is in * kernel positions: in_features of a linear layer, kernel^2 times
the input channels (of a group) of a convolution; fan-out D_out is out * kernel positions. Numbers are drawn in float64
from `rng`: a generator, a seed, or None for the one that `fnn.manual_seed` sets.

Further reading: Zhang, Dauphin and Ma (2019), Fixup Initialization, ICLR, on residual networks without normalisation.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from fastnn import functional
from fastnn.arguments import real_number
from fastnn.arrays import host, is_array, put
from fastnn.nn.containers import Residual
from fastnn.nn.module import Module, no_grad
from fastnn.nn.normalization import Norm
from fastnn.nn.parameter import Parameter
from fastnn.random import Seed, default_rng
from fastnn.table import OPS

__all__ = [
    "apply",
    "constant_",
    "fans",
    "gain",
    "glorot_",
    "he_",
    "kaiming_uniform_",
    "lsuv",
    "normal_",
    "ones_",
    "orthogonal_",
    "uniform_",
    "xavier_",
    "zero_last_of_residual",
    "zeros_",
]

Array = npt.NDArray[Any]
T = TypeVar("T", Parameter, Array)
M = TypeVar("M", bound=Module)


def _filled(title: str, weight: T, values: npt.ArrayLike) -> T:
    put(_array(title, weight), values)
    return weight


def _array(title: str, weight: Parameter | Array) -> Array:
    data = weight.data if isinstance(weight, Parameter) else weight
    if not is_array(data):
        raise TypeError(f"{title}: weight is a {type(weight).__name__}; expected a Parameter or a NumPy array")
    if data.dtype.kind in "biucOSUmM":
        raise TypeError(f"{title}: weight has dtype {data.dtype}; expected a floating-point dtype")
    if not getattr(data.flags, "writeable", True):
        raise ValueError(f"{title}: weight is read-only; expected a writeable array")
    return data


def fans(weight: Parameter | Array) -> tuple[int, int]:
    """Fan-in and fan-out of a weight (out, in, *kernel); ValueError where there are fewer than two axes."""
    shape = _array("fans", weight).shape
    if len(shape) < 2:
        raise ValueError(f"fans: weight has shape {shape}; expected (out, in) or (out, in, *kernel), two axes or more")
    positions = math.prod(shape[2:])
    return shape[1] * positions, shape[0] * positions


@functools.cache
def gain(nonlinearity: str, param: float | None = None) -> float:
    """What the deviation of weights is multiplied by so that an activation keeps the deviation of its layer.

    It is 1 / sqrt(E[f(z)^2]) for z of the standard normal distribution: sqrt(2) for relu,
    sqrt(2 / (1 + negative_slope^2)) for leaky_relu. For "linear" and "sigmoid" 1, "tanh" 5/3 and "selu" 3/4 as in
    PyTorch. Any activation of the table will do; `param` is its parameter, if it is not to be the default.
    """
    known = {"linear": 1.0, "sigmoid": 1.0, "tanh": 5 / 3, "selu": 0.75}
    if nonlinearity in known:
        return known[nonlinearity]
    if nonlinearity not in OPS:
        raise ValueError(f"gain: there is no nonlinearity {nonlinearity!r}; expected linear, {', '.join(OPS)}")
    op = OPS[nonlinearity]
    params = [*op.parameters_default]
    if param is not None:
        if not params:
            raise ValueError(f"gain: {nonlinearity} has no parameter; got {param!r}")
        params[0] = real_number("gain", "param", param)
    if nonlinearity in ("relu", "leaky_relu", "prelu"):
        slope = params[0] if params else 0.0
        return math.sqrt(2 / (1 + slope**2))
    z = np.linspace(-12, 12, 240_001)
    density = np.exp(-0.5 * z * z)
    y = getattr(functional, nonlinearity)(z, *params)
    return math.sqrt(float(density.sum()) / float((density * y * y).sum()))


# ---- one weight ----


def constant_(weight: T, value: float) -> T:
    """Every element `value`. For weights a demonstration: units that start alike get like gradients and stay alike."""
    return _filled("constant_", weight, real_number("constant_", "value", value))


def zeros_(weight: T) -> T:
    """Every element 0."""
    return _filled("zeros_", weight, 0.0)


def ones_(weight: T) -> T:
    """Every element 1."""
    return _filled("ones_", weight, 1.0)


def normal_(weight: T, std: float = 0.01, mean: float = 0.0, *, rng: Seed = None) -> T:
    """Normal numbers of deviation `std`. Small ones, 0.01, do for small networks; in deep ones activations vanish."""
    shape = _array("normal_", weight).shape
    std, mean = real_number("normal_", "std", std, low=0.0), real_number("normal_", "mean", mean)
    return _filled("normal_", weight, default_rng(rng).standard_normal(shape) * std + mean)


def uniform_(weight: T, low: float = 0.0, high: float = 1.0, *, rng: Seed = None) -> T:
    """Numbers spread evenly from `low` to `high`."""
    shape = _array("uniform_", weight).shape
    low, high = real_number("uniform_", "low", low), real_number("uniform_", "high", high)
    if low > high:
        raise ValueError(f"uniform_: low is {low:g} and high {high:g}; expected low to be no more than high")
    return _filled("uniform_", weight, default_rng(rng).uniform(low, high, shape))


def _spread(title: str, weight: T, std: float, distribution: str, rng: Seed) -> T:
    """Numbers of mean 0 and deviation `std`, normal or uniform within sqrt(3) std."""
    if distribution not in ("normal", "uniform"):
        raise ValueError(f"{title}: distribution is {distribution!r}; expected 'normal' or 'uniform'")
    shape, source = _array(title, weight).shape, default_rng(rng)
    if distribution == "normal":
        return _filled(title, weight, source.standard_normal(shape) * std)
    return _filled(title, weight, source.uniform(-1.0, 1.0, shape) * (math.sqrt(3) * std))


def xavier_(weight: T, gain: float = 1.0, *, distribution: str = "normal", rng: Seed = None) -> T:
    """std = gain / sqrt(D_in): a linear layer then keeps the variance of its input; for tanh near 0 too.

    Source: Glorot and Bengio (2010), Understanding the difficulty of training deep feedforward neural networks,
    AISTATS, in the form by fan-in alone that most lectures teach; `glorot_` has the paper's.
    """
    fan_in, _ = fans(weight)
    std = real_number("xavier_", "gain", gain, low=0.0) / math.sqrt(max(1, fan_in))
    return _spread("xavier_", weight, std, distribution, rng)


def glorot_(weight: T, gain: float = 1.0, *, distribution: str = "normal", rng: Seed = None) -> T:
    """std = gain sqrt(2 / (D_in + D_out)): between keeping the variance forward and keeping it backward.

    PyTorch calls it xavier_normal_ and, with distribution="uniform", xavier_uniform_. Source: Glorot and Bengio (2010),
    Understanding the difficulty of training deep feedforward neural networks, AISTATS.
    """
    std = real_number("glorot_", "gain", gain, low=0.0) * math.sqrt(2 / max(1, sum(fans(weight))))
    return _spread("glorot_", weight, std, distribution, rng)


def he_(
    weight: T,
    nonlinearity: str = "relu",
    param: float | None = None,
    *,
    distribution: str = "normal",
    rng: Seed = None,
) -> T:
    """std = gain / sqrt(D_in), for relu sqrt(2 / D_in): it makes up for the half of its input that ReLU cuts off.

    `nonlinearity` and `param` choose the gain, see `gain`. Other names: MSRA, kaiming_normal_. Source: He, Zhang, Ren
    and Sun (2015), Delving Deep into Rectifiers, ICCV.
    """
    fan_in, _ = fans(weight)
    return _spread("he_", weight, gain(nonlinearity, param) / math.sqrt(max(1, fan_in)), distribution, rng)


def kaiming_uniform_(weight: T, a: float = math.sqrt(5), *, rng: Seed = None) -> T:
    """Uniform within sqrt(6 / ((1 + a^2) D_in)); by default within 1 / sqrt(D_in), what PyTorch's layers start with."""
    fan_in, _ = fans(weight)
    std = math.sqrt(2 / (1 + real_number("kaiming_uniform_", "a", a) ** 2) / max(1, fan_in))
    return _spread("kaiming_uniform_", weight, std, "uniform", rng)


def orthogonal_(weight: T, gain: float = 1.0, *, rng: Seed = None) -> T:
    """Rows (or columns, whichever are fewer) of the matrix (out, in kernel positions) orthogonal and of length `gain`.

    Such a matrix keeps lengths, forward and backward, whatever the depth. It is drawn evenly from all of them, by the
    QR decomposition of a normal one. Source: Saxe, McClelland and Ganguli (2014), Exact solutions to the nonlinear
    dynamics of learning in deep linear neural networks, ICLR.
    """
    fans(weight)
    factor, shape = real_number("orthogonal_", "gain", gain), weight.shape
    rows, columns = shape[0], math.prod(shape[1:])
    tall = default_rng(rng).standard_normal((max(rows, columns), min(rows, columns)))
    q, r = np.linalg.qr(tall)
    q *= np.where(np.diagonal(r) < 0, -1.0, 1.0)  # without it the signs are LAPACK's, not random
    return _filled("orthogonal_", weight, factor * (q if rows >= columns else q.T).reshape(shape))


# ---- networks ----

_METHODS: dict[str, Callable[..., Any]] = {
    "constant": constant_,
    "glorot": glorot_,
    "he": he_,
    "kaiming_uniform": kaiming_uniform_,
    "normal": normal_,
    "orthogonal": orthogonal_,
    "uniform": uniform_,
    "xavier": xavier_,
    "zeros": zeros_,
}


def _module(title: str, model: Any) -> Module:
    if not isinstance(model, Module):
        raise TypeError(f"{title}: model is a {type(model).__name__}; expected a module")
    return model


def _weighted(title: str, model: Module) -> list[tuple[str, Any]]:
    """The layers with a matrix, or a stack of them, for a weight, with their names."""
    found = []
    for name, module in _module(title, model).named_modules():
        weight = module._parameters.get("weight")
        if weight is not None and len(weight.shape) >= 2 and not isinstance(module, Norm):
            found.append((name, module))
    return found


def apply(
    model: M, method: str | Callable[..., Any] = "he", *, rng: Seed = None, bias: float = 0.0, **options: Any
) -> M:
    """Fill the weights of all linear layers and convolutions of a network by one method, and return the network.

    `method`: "constant", "normal", "uniform", "xavier", "glorot", "he", "kaiming_uniform", "orthogonal", "zeros", or a
    function of a Parameter and the keyword `rng`; `options` are passed to it, such as `nonlinearity="tanh"`. Their
    biases become `bias`: slightly positive ones, 0.01, keep ReLUs alive in the beginning. Norms and learned activations
    keep what they have. With the same seed for `rng` the network becomes the same.
    """
    if isinstance(method, str):
        if method == "lsuv":
            raise ValueError("apply: method is 'lsuv', which needs a batch of data; expected fnn.init.lsuv(model, x)")
        if method not in _METHODS:
            raise ValueError(f"apply: there is no method {method!r}; expected one of {', '.join(_METHODS)}")
        function = _METHODS[method]
        options |= {"rng": default_rng(rng)} if method not in ("constant", "zeros") else {}
    elif callable(method):
        function = method
        options |= {"rng": default_rng(rng)}
    else:
        raise TypeError(f"apply: method is a {type(method).__name__}; expected a name or a function")
    start, layers = real_number("apply", "bias", bias), _weighted("apply", model)
    if not layers:
        raise ValueError(f"apply: the {type(model).__name__} has no layer with a weight of two axes or more")
    for _, layer in layers:
        function(layer.weight, **options)
        constant = layer._parameters.get("bias")
        if constant is not None:
            constant.data[...] = start
    return model


class _Reached(Exception):
    """The layer that is looked at has made its result."""


def lsuv(
    model: M,
    x: Any,
    *,
    tolerance: float = 0.01,
    max_iterations: int = 10,
    rng: Seed = None,
    orthogonal: bool = True,
) -> M:
    """Layer-sequential unit variance: scale weights, layer after layer, until each makes a variance of 1 from a batch.

    Weights start orthogonal (orthogonal=False: as they are); then, in the order in which layers run, a layer's weight
    is divided by the deviation of its output for `x` until the variance is within `tolerance` of 1. Biases stay, norms
    use their running statistics and dropout is off meanwhile. ValueError if a layer's output does not vary, or if
    `max_iterations` do not bring it there.

    Source: Mishkin and Matas (2016), All you need is a good init, ICLR.
    """
    tolerance = real_number("lsuv", "tolerance", tolerance, above=0.0)
    names = {id(layer): name for name, layer in _weighted("lsuv", model)}
    if not names:
        raise ValueError(f"lsuv: the {type(model).__name__} has no layer with a weight of two axes or more")
    modes = [(module, module.training) for module in model.modules()]
    weights = [(layer.weight, layer.weight.data.copy()) for _, layer in _weighted("lsuv", model)]
    source = default_rng(rng)
    try:
        model.eval()
        for layer in _in_order(model, x, names):
            if orthogonal:
                orthogonal_(layer.weight, rng=source)
            _scale(model, x, layer, names[id(layer)], tolerance, max_iterations)
    except BaseException:
        for weight, before in weights:
            weight.data[...] = before
        raise
    finally:
        for module, training in modes:
            module.training = training
    return model


def _in_order(model: Module, x: Any, names: dict[int, str]) -> list[Any]:
    """The layers that run, in the order in which they do."""
    order: list[Any] = []
    layers = [module for module in model.modules() if id(module) in names]
    handles = [layer.register_forward_hook(lambda module, x, y: order.append(module)) for layer in layers]
    try:
        with no_grad():
            model(x)
    finally:
        for handle in handles:
            handle.remove()
    return list(dict.fromkeys(order))


def _scale(model: Module, x: Any, layer: Any, name: str, tolerance: float, iterations: int) -> None:
    variance = math.nan
    for _ in range(iterations):
        variance = _variance(model, x, layer)
        if abs(variance - 1) < tolerance:
            return
        if not (0 < variance < math.inf):
            raise ValueError(
                f"lsuv: the output of {name or type(layer).__name__} has variance {variance:g} for this x; "
                "expected data that makes it vary"
            )
        layer.weight.data[...] = layer.weight.data / np.float64(math.sqrt(variance)).astype(layer.weight.dtype)
    variance = _variance(model, x, layer)
    if not abs(variance - 1) < tolerance:
        raise ValueError(
            f"lsuv: the output of {name or type(layer).__name__} has variance {variance:g} after {iterations} "
            f"iterations; expected 1 within {tolerance:g}: a larger tolerance, or smaller biases"
        )


def _variance(model: Module, x: Any, layer: Module) -> float:
    """The variance of a layer's output; nothing behind it is computed."""
    found: list[float] = []

    def look(module: Module, x: Any, y: Any) -> None:
        found.append(float(host(y, np.float64).var()))
        raise _Reached

    handle = layer.register_forward_hook(look)
    try:
        with no_grad():
            model(x)
    except _Reached:
        pass
    finally:
        handle.remove()
    return found[0]


def zero_last_of_residual(model: M) -> M:
    """Zero the last layer of every residual branch, so that each block starts as its shortcut; returns the network.

    Where the branch ends with a norm its scale becomes 0, as in Goyal et al. (2017), Accurate, Large Minibatch SGD;
    else weight and bias of its last linear layer or convolution. ValueError if the network has no Residual.
    """
    modules = _module("zero_last_of_residual", model).named_modules()
    blocks = [(name, module) for name, module in modules if isinstance(module, Residual)]
    if not blocks:
        raise ValueError(f"zero_last_of_residual: the {type(model).__name__} has no Residual")
    last = []
    for name, block in blocks:
        layers = [
            module
            for module in block.body.modules()
            if module._parameters.get("weight") is not None
            and (isinstance(module, Norm) or len(module._parameters["weight"].shape) >= 2)  # type: ignore[union-attr]
        ]
        if not layers:
            raise ValueError(f"zero_last_of_residual: the body of {name or 'the Residual'} has no layer with a weight")
        last.append(layers[-1])
    for layer in last:
        for key in ("weight", "bias"):
            parameter = layer._parameters.get(key)
            if parameter is not None:
                zeros_(parameter)
    return model
