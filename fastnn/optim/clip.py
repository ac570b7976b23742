"""Gradients held to a largest norm."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fastnn.functions.optimizers import clip_grad_norm
from fastnn.nn.parameter import Parameter


def clip_grad_norm_(
    params: Parameter | Iterable[Parameter],
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
) -> Any:
    """Scale all gradients by one factor, in place, so that their common norm is at most `max_norm`.

    Returns the norm before, a NumPy scalar; of gradients on a device an array without axes there, for which nobody
    waits. Parameters without a gradient do not count. The factor is
    max_norm / (norm + 1e-6), as in `torch.nn.utils.clip_grad_norm_`; `max_norm=inf` only measures. A norm that is not
    finite leaves nothing of use in the gradients; with `error_if_nonfinite` it is a ValueError, and nothing is changed.
    """
    given = [params] if isinstance(params, Parameter) else list(params)
    for k, parameter in enumerate(given):
        if not isinstance(parameter, Parameter):
            raise TypeError(f"clip_grad_norm_: params[{k}] is of type {type(parameter).__name__}; expected a Parameter")
    grads = [parameter.grad for parameter in given]
    return clip_grad_norm(
        [grad for grad in grads if grad is not None], max_norm, norm_type, error_if_nonfinite=error_if_nonfinite
    )
