"""The public functions that are not elementwise, one module a family; their documentation comes from the table."""

from __future__ import annotations

from fastnn.functions.augmentation import *  # noqa: F403
from fastnn.functions.augmentation import __all__ as _augmentation
from fastnn.functions.convolution import *  # noqa: F403
from fastnn.functions.convolution import __all__ as _convolution
from fastnn.functions.dropout import *  # noqa: F403
from fastnn.functions.dropout import __all__ as _dropout
from fastnn.functions.gating import *  # noqa: F403
from fastnn.functions.gating import __all__ as _gating
from fastnn.functions.linear import *  # noqa: F403
from fastnn.functions.linear import __all__ as _linear
from fastnn.functions.losses import *  # noqa: F403
from fastnn.functions.losses import __all__ as _losses
from fastnn.functions.normalization import *  # noqa: F403
from fastnn.functions.normalization import __all__ as _normalization
from fastnn.functions.optimizers import *  # noqa: F403
from fastnn.functions.optimizers import __all__ as _optimizers
from fastnn.functions.pooling import *  # noqa: F403
from fastnn.functions.pooling import __all__ as _pooling
from fastnn.functions.regularizers import *  # noqa: F403
from fastnn.functions.regularizers import __all__ as _regularizers
from fastnn.functions.softmax import *  # noqa: F403
from fastnn.functions.softmax import __all__ as _softmax
from fastnn.functions.statistics import *  # noqa: F403
from fastnn.functions.statistics import __all__ as _statistics

__all__ = [
    *_normalization,
    *_dropout,
    *_augmentation,
    *_pooling,
    *_softmax,
    *_gating,
    *_losses,
    *_regularizers,
    *_linear,
    *_convolution,
    *_optimizers,
    *_statistics,
]
