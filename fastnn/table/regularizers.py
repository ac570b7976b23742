"""The rows of the family `regularizers`."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from fastnn.function import Argument, Function


def _terms(w: Any, quadratic: Any, linear: Any) -> tuple[Any, Any]:
    """The penalty and its gradient; a coefficient of None leaves its term out."""
    penalty, slope = w.dtype.type(0), np.zeros_like(w)
    if quadratic is not None:
        penalty, slope = penalty + quadratic * np.sum(w * w, dtype=w.dtype), slope + 2 * quadratic * w
    if linear is not None:
        penalty, slope = penalty + linear * np.sum(np.abs(w), dtype=w.dtype), slope + linear * np.sign(w)
    return penalty, slope


def _l2(w: Any, strength: float = 1.0) -> tuple[Any, Any]:
    return _terms(w, w.dtype.type(strength), None)


def _l1(w: Any, strength: float = 1.0) -> tuple[Any, Any]:
    return _terms(w, None, w.dtype.type(strength))


def _elastic_net(w: Any, beta: float = 1.0, strength: float = 1.0) -> tuple[Any, Any]:
    number = w.dtype.type
    return _terms(w, number(strength) * number(beta), number(strength))


_SHAPES: tuple[tuple[int, ...], ...] = ((3, 5), (64, 3, 5, 5), (1,), (40000,), (0, 3))


def _examples(grad: bool, **options: tuple[float, ...]) -> Callable[[np.random.Generator], Iterable[dict[str, Any]]]:
    def examples(rng: np.random.Generator) -> Iterable[dict[str, Any]]:
        for index, shape in enumerate(_SHAPES):
            values = {name: choices[index % len(choices)] for name, choices in options.items()}
            yield {
                "w": rng.standard_normal(shape),
                **({"grad": rng.standard_normal(shape)} if grad else {}),
                **values,
            }

    return examples


_W = Argument(name="w", doc="array of weights, of any shape", role="array")
_GRAD = Argument(
    name="grad", doc="array of w's shape and dtype, to which the penalty's gradient is added in place", role="array"
)
_STRENGTH = Argument(name="strength", doc="factor of the penalty, a finite number from 0 up")
_BETA = Argument(name="beta", doc="weight of the squares beside the magnitudes, a finite number from 0 up")
_PENALTY = Argument(name="penalty", doc="a NumPy scalar of the dtype computed in, float32 for 16-bit arrays")
_SUMS = "Sums are in double precision, in an order that depends on the size alone."
_COPIED = "No memory beyond a few numbers for each thousand elements, unless an array is not C-contiguous: then a copy."


def _rows(
    *,
    name: str,
    title: str,
    formula: str,
    gradient: str,
    source: str,
    notes: tuple[str, ...],
    oracle: Callable[..., tuple[Any, Any]],
    options: tuple[tuple[Argument, tuple[float, ...]], ...],
    operations: str,
) -> tuple[Function, Function]:
    """The row of a penalty, and that of the penalty which adds its gradient in the same pass."""
    arguments = tuple(argument for argument, _ in options)
    values = {argument.name: choices for argument, choices in options}

    def gradients(dys: tuple[Any, ...], **given: Any) -> dict[str, Any]:
        slope = np.zeros_like(given["w"])
        getattr(importlib.import_module("fastnn"), f"{name}_and_grad")(grad=slope, **given)
        return {"w": slope * dys[0]}

    def with_gradient(w: Any, grad: Any, **given: Any) -> tuple[Any, Any]:
        penalty, slope = oracle(w, **given)
        return penalty, grad + slope

    def scale(results: tuple[Any, Any], w: Any, grad: Any, **given: Any) -> tuple[Any, Any]:
        return results[0], np.abs(grad) + np.abs(oracle(w, **given)[1])

    common = {"family": "regularizers", "source": source, "operations": operations}
    penalty = Function(
        name=name,
        title=title,
        formula=f"penalty = {formula}",
        arguments=(_W, *arguments),
        returns=(_PENALTY,),
        notes=(*notes, _SUMS, _COPIED),
        oracle=lambda **given: oracle(**given)[0],
        examples=_examples(False, **values),
        ulp=2,
        gradients=gradients,
        bytes="w is read once",
        **common,  # type: ignore[arg-type]
    )
    both = Function(
        name=f"{name}_and_grad",
        title=f"{title}, and its gradient added to grad in the same pass",
        formula=f"penalty = {formula}; grad += {gradient}",
        arguments=(_W, _GRAD, *arguments),
        returns=(_PENALTY, Argument(name="grad", doc="the argument grad, changed")),
        notes=(*notes, _SUMS, _COPIED),
        oracle=with_gradient,
        examples=_examples(True, **values),
        ulp=(2, 3),
        scale=scale,
        gradient_of=name,
        bytes="w and grad are read once, grad written once",
        **common,  # type: ignore[arg-type]
    )
    return penalty, both


_STRENGTHS = (_STRENGTH, (1.0, 1e-4, 0.5))

ROWS: tuple[Function, ...] = (
    *_rows(
        name="l2",
        title="L2 penalty on weights",
        formula="strength (sum of w^2)",
        gradient="2 strength w",
        source="Tikhonov (1963), Solution of incorrectly formulated problems and the regularization method",
        notes=("There is no factor 1/2: weight decay of d in torch's optimisers is strength = d / 2.",),
        oracle=_l2,
        options=(_STRENGTHS,),
        operations="3 an element",
    ),
    *_rows(
        name="l1",
        title="L1 penalty on weights",
        formula="strength (sum of |w|)",
        gradient="strength sign(w)",
        source="Tibshirani (1996), Regression shrinkage and selection via the lasso",
        notes=("The gradient at w = 0 is 0.",),
        oracle=_l1,
        options=(_STRENGTHS,),
        operations="4 an element",
    ),
    *_rows(
        name="elastic_net",
        title="Elastic-net penalty on weights",
        formula="strength (beta (sum of w^2) + sum of |w|)",
        gradient="strength (2 beta w + sign(w))",
        source="Zou and Hastie (2005), Regularization and variable selection via the elastic net",
        notes=("The gradient of |w| at w = 0 is 0.",),
        oracle=_elastic_net,
        options=((_BETA, (1.0, 0.3, 2.0)), _STRENGTHS),
        operations="6 an element",
    ),
)
