"""Activations as layers, made from the table; PyTorch's names and arguments."""

from __future__ import annotations

import inspect
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

import fastnn.functional as functional
from fastnn.arguments import checked_parameters, flag, parameter_dtype, real_number
from fastnn.nn.checks import check_gradient, count, float_dtype_of, floating
from fastnn.nn.fused import Fused, saves_output
from fastnn.nn.module import Module
from fastnn.nn.parameter import Parameter
from fastnn.table import OPS

_EMPTY = inspect.Parameter.empty
LAYERS: dict[str, type[Module]] = {}  # by the name in the table


class Activation(Module):
    """y = f(x), element by element, of x's shape and dtype, whatever floating-point dtype that is.

    A subclass names its row of the table: `class ReLU(Activation, op="relu")`. Its arguments are the row's parameters,
    then `inplace`: whether y is written over x. Arguments are attributes, which may be changed.
    """

    op: str
    _names: ClassVar[tuple[str, ...]]
    dx_is_scratch = True
    inplace: bool

    def __init_subclass__(cls, op: str | None = None) -> None:
        """Make arguments and documentation from the row."""
        super().__init_subclass__()
        if op is None:
            return
        row = OPS[op]
        cls.op, cls._names = op, tuple(param.name for param in row.params)
        LAYERS[op] = cls
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        arguments = [
            inspect.Parameter(param.name, kind, default=_EMPTY if param.default is None else param.default)
            for param in row.params
        ]
        arguments.append(inspect.Parameter("inplace", kind, default=False))
        if "__init__" not in vars(cls):
            cls.__signature__ = inspect.Signature(arguments)  # type: ignore[attr-defined]
        if cls.__doc__ is None:
            lines = [f"{row.title}: y = {row.formula}.", ""]
            lines += [f"{param.name}: {param.doc}; {param.range}." for param in row.params]
            cls.__doc__ = "\n    ".join([*lines, f"Source: {row.source}."])

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        try:
            bound = inspect.signature(type(self)).bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{type(self).__name__}: {error}") from None
        bound.apply_defaults()
        given = bound.arguments
        self.inplace = flag(type(self).__name__, "inplace", given.pop("inplace"))
        for name, value in given.items():
            setattr(self, name, real_number(type(self).__name__, name, value))
        self._parameters_of(np.dtype(np.float64))

    def _parameters_of(self, dtype: np.dtype[Any]) -> None:
        """ValueError for a number that is outside its range."""
        values = [getattr(self, name) for name in self._names]
        checked_parameters(OPS[self.op], dtype, (), values, type(self).__name__)

    @property
    def _values(self) -> tuple[Any, ...]:
        own = vars(self)
        return tuple([own[name] for name in self._names])

    @property
    def fused_as(self) -> Fused:
        """Name and parameters."""
        return (self.op, *self._values) if self._names else self.op

    @property
    def y_is_scratch(self) -> bool:  # type: ignore[override]
        """Where backward reads x, and x is not y."""
        return OPS[self.op].saves == "input" and not self.inplace

    def forward(self, x: Any) -> Any:
        x = floating(type(self).__name__, x)
        saved, out = x, None
        if self.inplace and not self.keeps_input:
            out = x
            if self.saving and not saves_output(self.fused_as):
                saved = self.workspace("x", x.shape, x.dtype)
                saved[...] = x
        else:
            out = self.result("y", x.shape, x.dtype)
        values = self._values
        y = getattr(functional, self.op)(x, *values, out=out)
        self.save(saved if OPS[self.op].saves == "input" and saved is not out else y, values)
        return y

    def backward(self, dy: Any) -> Any:
        saved, values = self.saved
        check_gradient(type(self).__name__, dy, saved.shape, saved.dtype)
        return getattr(functional, f"{self.op}_backward")(dy, saved, *values, out=self.gradient(dy))

    def extra_repr(self) -> str:
        parts = [f"{name}={value:g}" for name, value in zip(self._names, self._values, strict=True)]
        return ", ".join(parts + (["inplace=True"] if self.inplace else []))


class ReLU(Activation, op="relu"): ...


class LeakyReLU(Activation, op="leaky_relu"): ...


class ELU(Activation, op="elu"): ...


class SELU(Activation, op="selu"): ...


class CELU(Activation, op="celu"): ...


class SiLU(Activation, op="silu"): ...


class Swish(Activation, op="swish"): ...


class Mish(Activation, op="mish"): ...


class Sigmoid(Activation, op="sigmoid"): ...


class Tanh(Activation, op="tanh"): ...


class LogSigmoid(Activation, op="log_sigmoid"): ...


class Hardsigmoid(Activation, op="hardsigmoid"): ...


class Hardswish(Activation, op="hardswish"): ...


class Hardtanh(Activation, op="hardtanh"): ...


class ReLU6(Activation, op="relu6"): ...


class Softsign(Activation, op="softsign"): ...


class Sin(Activation, op="sin"): ...


class Cos(Activation, op="cos"): ...


class GELU(Activation, op="gelu"):
    """Gaussian error linear unit: y = x Phi(x), by erf, or for approximate="tanh" by the formula with tanh.

    Source: Hendrycks and Gimpel (2016), Gaussian Error Linear Units.
    """

    _OPS: ClassVar = {"none": "gelu", "tanh": "gelu_tanh"}

    def __init__(self, approximate: str = "none") -> None:
        if approximate not in self._OPS:
            raise ValueError(f"GELU: approximate is {approximate!r}; expected 'none' or 'tanh'")
        self.approximate, self.inplace = approximate, False
        self.op = self._OPS[approximate]

    def extra_repr(self) -> str:
        return f"approximate={self.approximate!r}"


LAYERS["gelu_tanh"] = GELU


class Softplus(Activation, op="softplus"):
    """y = log(1 + e^(beta x)) / beta: exact everywhere, so that `threshold` has nothing to do.

    PyTorch returns x where beta x > threshold; from 20 up that is the same number in float32. Lower thresholds, which
    would change results, are refused. Source: Dugas et al. (2001), Incorporating second-order functional knowledge.
    """

    def __init__(self, beta: float = 1.0, threshold: float = 20.0) -> None:
        self.beta = real_number("Softplus", "beta", beta, above=0.0)
        self.threshold = real_number("Softplus", "threshold", threshold, low=20.0, infinite=True)
        self.inplace = False

    @property
    def fused_as(self) -> Fused:
        """Only for beta 1 is it the table's function."""
        return super().fused_as if self.beta == 1 else None

    def forward(self, x: Any) -> Any:
        if self.beta == 1:
            return super().forward(x)
        x = floating("Softplus", x)
        scaled = np.multiply(x, x.dtype.type(self.beta), out=self.workspace("scaled", x.shape, x.dtype))
        y = functional.softplus(scaled, out=self.result("y", x.shape, x.dtype))
        self.save(scaled, ())
        return np.divide(y, y.dtype.type(self.beta), out=y)  # the factors of the derivative cancel

    def extra_repr(self) -> str:
        return f"beta={self.beta:g}, threshold={self.threshold:g}"


class _Learned(Module):
    """An activation whose parameter is learned: the parameter `weight`, in float32 beside float16 and bfloat16."""

    op: ClassVar[str]
    wide_parameters: ClassVar[frozenset[str]] = frozenset({"weight"})
    dx_is_scratch = True
    y_is_scratch = True

    def __init__(
        self, num_parameters: int | tuple[int, ...] = 1, init: float = 0.25, dtype: npt.DTypeLike = np.float32
    ) -> None:
        title = type(self).__name__
        kind = float_dtype_of(title, dtype)
        sizes = num_parameters if isinstance(num_parameters, tuple) else (num_parameters,)
        self.num_parameters = num_parameters
        shape = tuple(count(title, "num_parameters", size) for size in sizes)
        self.init = real_number(title, "init", init)
        self.weight = Parameter(np.full(shape, init, parameter_dtype(kind)))

    def forward(self, x: Any) -> Any:
        x = floating(type(self).__name__, x)
        y = getattr(functional, self.op)(x, self.weight.data, out=self.result("y", x.shape, x.dtype))
        self.save(x)
        return y

    def backward(self, dy: Any) -> Any:
        (x,) = self.saved
        check_gradient(type(self).__name__, dy, x.shape, x.dtype)
        dx, dweight = getattr(functional, f"{self.op}_backward")(dy, x, self.weight.data, out=self.gradient(dy))
        if self.weight.requires_grad:
            self.weight.add_grad(dweight)
        return dx

    def extra_repr(self) -> str:
        return f"num_parameters={self.num_parameters}"


class PReLU(_Learned):
    """y = x where x > 0, else weight x, and weight is learned.

    num_parameters: 1 for the layer, C for one per channel (axis 1), or a shape for one per element of a sample. x of
    any shape and floating-point dtype. Source: He et al. (2015), Delving deep into rectifiers.
    """

    op = "prelu"


class ParametricELU(_Learned):
    """y = x where x > 0, else weight (e^x - 1), and weight is learned; see PReLU for num_parameters.

    Source: Trottier, Giguere and Chaib-draa (2017), Parametric exponential linear unit.
    """

    op = "parametric_elu"

    def __init__(
        self, num_parameters: int | tuple[int, ...] = 1, init: float = 1.0, dtype: npt.DTypeLike = np.float32
    ) -> None:
        super().__init__(num_parameters, init, dtype)


LAYERS.update(prelu=PReLU, parametric_elu=ParametricELU)


def activation_layer(activation: str | tuple[Any, ...]) -> Module:
    """A new layer of an activation of the table, from its name, or a tuple of name and arguments of the layer.

    `activation_layer("relu")`, `activation_layer(("leaky_relu", 0.1))`, `activation_layer(("prelu", 64))`.
    """
    name, *given = activation if isinstance(activation, tuple) and activation else (activation,)
    if not isinstance(name, str):
        raise TypeError(
            f"activation_layer: activation is {activation!r}; expected the name of an activation, or a tuple of a name "
            "and arguments"
        )
    if name not in LAYERS:
        raise ValueError(
            f"activation_layer: there is no activation {name!r}; expected one of {', '.join(sorted(LAYERS))}"
        )
    if name == "gelu_tanh":
        given = ["tanh", *given]
    return LAYERS[name](*given)
