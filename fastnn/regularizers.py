"""Penalties on the weights, added to the loss: L1, L2 and both.

    regularizer = fnn.regularizers.L2(1e-4)
    loss += regularizer.penalty(model.parameters())  # after the backward pass: adds to the gradients too

Only weights are penalised, that is parameters of two dimensions or more; biases, the scales and shifts of norms and the
slopes of PReLU, which have one, are left alone unless `biases=True`. So are frozen parameters.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from fastnn.arguments import flag, real_number
from fastnn.arrays import on_device
from fastnn.functions.regularizers import elastic_net, elastic_net_and_grad, l1, l1_and_grad, l2, l2_and_grad
from fastnn.nn.parameter import Parameter

__all__ = ["L1", "L2", "ElasticNet", "Regularizer"]

Array = npt.NDArray[Any]


class Regularizer:
    """The base of the penalties."""

    def __init__(self, *, biases: bool = False) -> None:
        self.biases = flag(type(self).__name__, "biases", biases)

    def penalty(self, params: Iterable[Parameter]) -> float:
        """The penalty of all that it holds for; its gradient is added to theirs. Call it after the backward pass."""
        total: Any = 0.0
        for parameter in self._penalised(params):
            grad, accumulate = parameter.claim_grad()
            if not accumulate:
                grad[...] = 0
            total += _wide(self._value_and_grad(parameter.data, grad))
        return float(total)

    def value(self, params: Iterable[Parameter]) -> float:
        """The penalty alone; no gradient is touched."""
        return float(sum(_wide(self._value(parameter.data)) for parameter in self._penalised(params)))

    def _penalised(self, params: Iterable[Parameter]) -> Iterator[Parameter]:
        for k, parameter in enumerate(params):
            if not isinstance(parameter, Parameter):
                raise TypeError(
                    f"{type(self).__name__}: params[{k}] is of type {type(parameter).__name__}; expected a Parameter"
                )
            if parameter.requires_grad and (self.biases or parameter.data.ndim > 1):
                yield parameter

    def _value(self, w: Array) -> Any:
        raise NotImplementedError

    def _value_and_grad(self, w: Array, grad: Array) -> Any:
        raise NotImplementedError

    def __repr__(self) -> str:
        """The class and its numbers."""
        inside = ", ".join(f"{name}={value!r}" for name, value in vars(self).items())
        return f"{type(self).__name__}({inside})"


def _wide(value: Any) -> Any:
    """In float64, so that sums do not depend on their order; on a device it stays there."""
    return value.astype(np.float64) if on_device(value) else float(value)


class L2(Regularizer):
    """strength sum w^2, with the gradient 2 strength w: `weight_decay=2 * strength` of SGD has the same effect."""

    def __init__(self, strength: float, *, biases: bool = False) -> None:
        self.strength = real_number("L2", "strength", strength, low=0.0)
        super().__init__(biases=biases)

    def _value(self, w: Array) -> Any:
        return l2(w, self.strength)

    def _value_and_grad(self, w: Array, grad: Array) -> Any:
        return l2_and_grad(w, grad, self.strength)[0]


class L1(Regularizer):
    """strength sum |w|, with the gradient strength sign(w): it drives weights to zero."""

    def __init__(self, strength: float, *, biases: bool = False) -> None:
        self.strength = real_number("L1", "strength", strength, low=0.0)
        super().__init__(biases=biases)

    def _value(self, w: Array) -> Any:
        return l1(w, self.strength)

    def _value_and_grad(self, w: Array, grad: Array) -> Any:
        return l1_and_grad(w, grad, self.strength)[0]


class ElasticNet(Regularizer):
    """strength sum (beta w^2 + |w|): L1 and L2 together."""

    def __init__(self, beta: float, strength: float, *, biases: bool = False) -> None:
        self.beta = real_number("ElasticNet", "beta", beta, low=0.0)
        self.strength = real_number("ElasticNet", "strength", strength, low=0.0)
        super().__init__(biases=biases)

    def _value(self, w: Array) -> Any:
        return elastic_net(w, self.beta, self.strength)

    def _value_and_grad(self, w: Array, grad: Array) -> Any:
        return elastic_net_and_grad(w, grad, self.beta, self.strength)[0]
