"""`@fnn.activation`: an activation of one's own, from a formula for one number."""

from __future__ import annotations

import functools
import inspect
import math
import threading
import weakref
from collections.abc import Callable
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from fastnn.arguments import check_out, common_array, real_array, real_number, same_shapes
from fastnn.arrays import on_device
from fastnn.finite_differences import GradientError
from fastnn.foreign import is_foreign
from fastnn.nn.checks import check_gradient, floating
from fastnn.nn.module import Module
from fastnn.optional import need

__all__ = ["CustomActivation", "CustomLayer", "activation"]

Array = npt.NDArray[Any]
Scalar = Callable[..., float]


@overload
def activation(function: Scalar, *, derivative: Scalar | None = None) -> CustomActivation: ...
@overload
def activation(*, derivative: Scalar | None = None) -> Callable[[Scalar], CustomActivation]: ...
def activation(function: Scalar | None = None, *, derivative: Scalar | None = None) -> Any:
    """Make an activation of a scalar Python function f(x, *params) and of its derivative by x, a function of the same.

        @fnn.activation
        def bent(x, a=0.25):
            return a * (math.sqrt(x * x + 1) - 1) + x

        @bent.derivative
        def bent(x, a=0.25):
            return a * x / math.sqrt(x * x + 1) + 1

        y = bent(x)  # arrays as of fnn.gelu: four dtypes, any strides, out=, in place, on all threads
        dx = bent.backward(dy, x)
        bent.check()  # is it the derivative?
        model = fnn.nn.Sequential(fnn.nn.Linear(784, 128), bent.layer(a=0.5), fnn.nn.Linear(128, 10))
        bent.ufunc(x, 0.25, where=x > 0)  # a numpy.ufunc; parameters are inputs

    or, in one, `@fnn.activation(derivative=df)` or `fnn.activation(f, derivative=df)`. Numba compiles both when they
    are first called: x is a float64 for float64 arrays, a float32 for the others, and what is computed with a number in
    the source, such as 0.5, is float64; results are rounded to the array's dtype. Arithmetic, comparisons, `math` and
    functions compiled by Numba will do. Needs `fastnn[numba]`.
    """
    need("numba", "fnn.activation", "numba")
    if function is None:
        return functools.partial(CustomActivation, derivative=derivative)
    return CustomActivation(function, derivative)


def _on_host(title: str, **arrays: Any) -> None:
    for name, value in arrays.items():
        if on_device(value):
            raise TypeError(
                f"{title}: {name} is a CuPy array, and formulas of one's own are compiled for the processor only; "
                f"expected an array in main memory: cupy.asnumpy({name})"
            )


class CustomActivation:
    """An activation made by `fnn.activation`: `f(x, *params, out=None)`, `f.backward(dy, x, *params, out=None)`."""

    def __init__(self, function: Scalar, derivative: Scalar | None = None) -> None:
        self._signature = _signature("activation", "f", function)
        self._function, self._derivative = function, derivative
        self.__name__, self.__doc__, self.__module__ = function.__name__, function.__doc__, function.__module__
        self.__qualname__, self.__wrapped__ = function.__qualname__, function
        self.__signature__ = self._signature
        self._names = tuple(self._signature.parameters)[1:]
        self._defaults: tuple[float, ...] | None = None
        if all(each.default is not inspect.Parameter.empty for each in list(self._signature.parameters.values())[1:]):
            self._defaults = self._values((), {})
        self._lock = threading.Lock()
        self._key: str | None = None
        if derivative is not None:
            self.derivative(derivative)

    def derivative(self, function: Scalar) -> CustomActivation:
        """Set the derivative df/dx, a function of the same arguments; for use as a decorator."""
        names, wanted = (
            tuple(_signature(self.__name__, "derivative", function).parameters),
            tuple(self._signature.parameters),
        )
        if len(names) != len(wanted):
            raise TypeError(
                f"{self.__name__}: derivative is a function of ({', '.join(names)}); expected one of "
                f"({', '.join(wanted)}), like {self.__name__} itself: the derivative by the first of them"
            )
        self._derivative, self._key = function, None
        return self

    # Arrays

    def __call__(self, x: Any, *params: Any, out: Array | None = None, **named: Any) -> Any:
        """f of every element of x, in x's dtype; integers and bools are promoted as np.tanh promotes them."""
        _on_host(self.__name__, x=x, out=out)
        if is_foreign(x):
            return self.ufunc(x, *self._values(params, named))
        array = real_array(self.__name__, "x", x)
        values = self._values(params, named)
        check_out(self.__name__, out, array.shape, array.dtype, {"x": array})
        y = self._run("forward", (array,), values, out)
        return y[()] if out is None and y.ndim == 0 else y

    def backward(self, dy: Any, x: Any, *params: Any, out: Array | None = None, **named: Any) -> Any:
        """dx = dy f'(x), of x's shape; `out` may be dy or x."""
        title = f"{self.__name__}.backward"
        if self._derivative is None:
            raise TypeError(
                f"{title}: there is no derivative; give one with @{self.__name__}.derivative, or "
                "fnn.activation(f, derivative=df)"
            )
        _on_host(title, dy=dy, x=x, out=out)
        gradient, array = common_array(title, ("dy", "x"), (dy, x))
        gradient, values = same_shapes(title, gradient, array), self._values(params, named)
        check_out(title, out, array.shape, array.dtype, {"dy": gradient, "x": array})
        dx = self._run("backward", (gradient, array), values, out)
        return dx[()] if out is None and dx.ndim == 0 else dx

    def _run(self, direction: str, arrays: tuple[Array, ...], values: tuple[float, ...], out: Array | None) -> Array:
        from fastnn.kernels import jit

        try:
            result: Array = jit.evaluate(self._entry(), direction, arrays, values, out, arrays[-1].dtype)
        except Exception as error:
            self._explain(error, direction)
            raise
        return result

    def _explain(self, error: Exception, direction: str) -> None:
        """Say of what Numba cannot compile which function it is."""
        from numba.core.errors import NumbaError

        if isinstance(error, NumbaError):
            which = "its derivative" if direction == "backward" else "it"
            raise TypeError(
                f"{self.__name__}: Numba cannot compile {which} for one number. Expected arithmetic, comparisons, "
                "functions of math and those that Numba has compiled, and a real number for the result. "
                f"Numba says: {error}"
            ) from None

    def _entry(self) -> str:
        """The name under which the compiled loops know the functions."""
        if self._key is None:
            from fastnn.kernels.jit import custom

            with self._lock:
                if self._key is None:
                    key = custom.register(self.__name__, self._function, self._derivative, len(self._names))
                    weakref.finalize(self, custom.forget, key)
                    self._key = key
        return self._key

    def _values(self, params: tuple[Any, ...], named: dict[str, Any]) -> tuple[float, ...]:
        """The parameters as numbers, default ones where none are given."""
        if not params and not named and self._defaults is not None:
            return self._defaults
        try:
            bound = self._signature.bind(None, *params, **named)
        except TypeError as error:
            raise TypeError(f"{self.__name__}: {error}; expected {self.__name__}{self._signature}") from None
        bound.apply_defaults()
        return tuple(
            real_number(self.__name__, name, value, infinite=True) for name, value in list(bound.arguments.items())[1:]
        )

    @functools.cached_property
    def ufunc(self) -> Any:
        """f as a numpy.ufunc of x and the parameters, over the four dtypes."""
        from fastnn.kernels.jit import custom

        try:
            return custom.ufunc(self.__name__, self._function, len(self._names), self.__doc__ or "")
        except Exception as error:
            self._explain(error, "forward")
            raise

    # Layers, and the proof

    def layer(self, *params: Any, **named: Any) -> CustomLayer:
        """A module for `fnn.nn`: y = f(x, *params)."""
        return CustomLayer(self, *params, **named)

    def check(
        self, x: npt.ArrayLike | None = None, *params: Any, rtol: float = 1e-6, atol: float = 1e-7, **named: Any
    ) -> bool:
        """True if the derivative is that of central differences, at 401 points from -8 to 8 or at those in `x`.

        Else GradientError, with the place and both numbers. Points at a kink of f, where there is no derivative, are to
        be avoided.
        """
        points = np.linspace(-8, 8, 401) + 1 / 257 if x is None else np.array(x, np.float64).ravel()
        said = np.asarray(self.backward(np.ones_like(points), points, *params, **named))
        worst: tuple[float, int, float] | None = None
        for index, point in enumerate(points):
            allowed = atol + rtol * abs(said[index])
            for step in (1e-5, 1e-6, 1e-7):  # one of them is neither too wide for the curvature nor too narrow
                ends = np.array([point - step, point + step])
                low, high = self(ends, *params, **named)
                measured = float((high - low) / (ends[1] - ends[0]))
                if abs(said[index] - measured) <= allowed + 4e-16 * max(abs(low), abs(high)) / step:
                    break
            else:
                off = abs(said[index] - measured)
                if worst is None or not off <= worst[0]:
                    worst = (off if math.isfinite(off) else math.inf, index, measured)
        if worst is None:
            return True
        _, index, measured = worst
        raise GradientError(
            f"{self.__name__}: its derivative at x = {points[index]:.9g} is {said[index]:.9g}, and finite differences "
            f"of the function say {measured:.9g}"
        )

    def __repr__(self) -> str:
        """The signature."""
        return f"<activation {self.__name__}{self._signature}>"

    def __reduce__(self) -> str:
        """Pickled and copied like a function: by its name in its module."""
        return self.__qualname__


class CustomLayer(Module):
    """y = f(x, *params) as a layer; `params` is a dict of the latter, x of any shape and floating-point dtype."""

    dx_is_scratch = True
    y_is_scratch = True

    def __init__(self, function: CustomActivation, *params: Any, **named: Any) -> None:
        self.function = function
        self.params = dict(zip(function._names, function._values(params, named), strict=True))

    def forward(self, x: Any) -> Any:
        x, values = floating(self.function.__name__, x), tuple(self.params.values())
        y = self.function(x, *values, out=self.result("y", x.shape, x.dtype))
        self.save(x, values)
        return np.asarray(y)

    def backward(self, dy: Any) -> Any:
        x, values = self.saved
        check_gradient(self.function.__name__, dy, x.shape, x.dtype)
        return self.function.backward(dy, x, *values, out=self.gradient(dy))

    def extra_repr(self) -> str:
        return ", ".join([self.function.__name__, *(f"{name}={value:g}" for name, value in self.params.items())])


def _signature(title: str, what: str, function: Any) -> inspect.Signature:
    """The arguments of a scalar function: x, then parameters, all by their places."""
    function = getattr(function, "py_func", function)  # of what Numba has compiled
    if not inspect.isfunction(function):
        raise TypeError(
            f"{title}: {what} is a {type(function).__name__}; expected a Python function of one number, such as "
            "lambda x: x * x"
        )
    signature = inspect.signature(function)
    parameters = list(signature.parameters.values())
    allowed = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    wrong = [str(each) for each in parameters if each.kind not in allowed]
    if wrong or not parameters or parameters[0].default is not inspect.Parameter.empty:
        raise TypeError(
            f"{title}: {what} has the signature {signature}; expected (x) or (x, a, b=1.0): the number, then "
            "parameters, no *args, no keyword-only ones"
        )
    if {"out"} & set(signature.parameters):
        raise TypeError(
            f"{title}: {what} has a parameter named out, which calls use for the result; expected another name"
        )
    return signature.replace(
        parameters=[each.replace(annotation=inspect.Parameter.empty) for each in parameters],
        return_annotation=inspect.Signature.empty,
    )
