"""The public functions that are not elementwise, one module a family; their documentation comes from the table.

Families are imported when one of their functions is first asked for: a session needs two or three of them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from fastnn.lazy import names_stand

_POOLS = [f"{kind}_pool{dims}d" for kind in ("max", "avg", "adaptive_avg") for dims in (1, 2, 3)]
_BACK = "{0} {0}_backward"
_GRAD = "{0} {0}_and_grad"
_FAMILIES = {  # what they offer; a test holds this against the table
    "normalization": "batch_norm_train batch_norm_infer batch_norm_backward "
    + " ".join(_BACK.format(f"{kind}_norm") for kind in ("layer", "group", "instance", "rms")),
    "dropout": "dropout_infer dropout_mask philox "
    + " ".join(
        _BACK.format(name)
        for name in ("dropout", "spatial_dropout", "stochastic_depth", "drop_connect", "alpha_dropout")
    ),
    "augmentation": "cutout mixup",
    "pooling": " ".join(map(_BACK.format, (*_POOLS, "global_avg_pool", "fractional_max_pool2d"))),
    "softmax": " ".join(map(_BACK.format, ("softmax", "log_softmax"))),
    "gating": " ".join(map(_BACK.format, ("maxout", "glu", "swiglu"))),
    "losses": " ".join(
        map(_GRAD.format, ("cross_entropy", "hinge_loss", "squared_error", "binary_cross_entropy_with_logits"))
    ),
    "regularizers": " ".join(map(_GRAD.format, ("l1", "l2", "elastic_net"))),
    "linear": _BACK.format("linear"),
    "convolution": " ".join(map(_BACK.format, ("conv1d", "conv2d"))),
    "optimizers": "adam_step adamw_step clip_grad_norm rmsprop_step sgd_step",
    "statistics": "activation_statistics dead_units saturation update_ratio",
}
_FAMILY_OF = {name: family for family, names in _FAMILIES.items() for name in names.split()}

if TYPE_CHECKING:
    from fastnn.functions.augmentation import *  # noqa: F403
    from fastnn.functions.convolution import *  # noqa: F403
    from fastnn.functions.dropout import *  # noqa: F403
    from fastnn.functions.gating import *  # noqa: F403
    from fastnn.functions.linear import *  # noqa: F403
    from fastnn.functions.losses import *  # noqa: F403
    from fastnn.functions.normalization import *  # noqa: F403
    from fastnn.functions.optimizers import *  # noqa: F403
    from fastnn.functions.pooling import *  # noqa: F403
    from fastnn.functions.regularizers import *  # noqa: F403
    from fastnn.functions.softmax import *  # noqa: F403
    from fastnn.functions.statistics import *  # noqa: F403
else:

    def __getattr__(name: str) -> Any:
        if name not in _FAMILY_OF:
            raise AttributeError(f"module 'fastnn.functions' has no attribute {name!r}")
        found = getattr(importlib.import_module(f"fastnn.functions.{_FAMILY_OF[name]}"), name)
        globals()[name] = found
        return found


__all__ = list(_FAMILY_OF)
names_stand(__name__, _FAMILY_OF)  # linear, softmax and dropout are families and functions


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
