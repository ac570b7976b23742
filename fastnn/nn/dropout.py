"""Dropout and its kin: randomness in training, its average in evaluation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, SupportsIndex

import numpy as np

from fastnn.arguments import flag
from fastnn.functions.dropout import (
    MODES,
    alpha_dropout,
    alpha_dropout_backward,
    checked_threshold,
    drop_connect,
    drop_connect_backward,
    dropout,
    dropout_backward,
    dropout_infer,
    spatial_dropout,
    spatial_dropout_backward,
    stochastic_depth,
    stochastic_depth_backward,
)
from fastnn.generator import GRID, threshold
from fastnn.nn.checks import check_gradient, floating
from fastnn.nn.memory import Array
from fastnn.nn.module import Module
from fastnn.nn.parameter import Parameter
from fastnn.nn.random_layers import RandomLayer


class _Dropout(RandomLayer):
    """In training mode one of the functions of dropout with a new mask at every pass; else x as it is.

    The mask of a pass follows from the layer's seed and the number of passes before it; backward makes it again.
    """

    axes: tuple[int, ...] = ()  # how many axes x may have, any number if it is empty
    wanted: str
    _forward: ClassVar[Callable[..., Array]]
    _backward: ClassVar[Callable[..., Array]]

    def __init__(self, p: float = 0.5, inplace: bool = False, *, seed: SupportsIndex | None = None) -> None:
        title = type(self).__name__
        checked_threshold(title, p)
        self.p, self.inplace = float(p), flag(title, "inplace", inplace)
        super().__init__(seed=seed)

    @property
    def drops(self) -> bool:
        """Whether a forward pass drops anything now."""
        return self.training and self.p > 0

    def forward(self, x: Any) -> Any:
        self._check(x)
        vars(self)["y_is_scratch"] = self.drops or not self.keeps_input
        if not self.drops:
            self.save(None, 0.0)
            return x
        over = self.inplace and not self.keeps_input
        offset, out = self.calls, x if over else self.workspace("y", x.shape, x.dtype)
        y = self._draw(type(self)._forward, x, self.p, offset, out)
        self.count_call()
        self.save(offset, self.p, x.shape, x.dtype)
        return y

    def backward(self, dy: Any) -> Any:
        offset, p, *like = self.saved
        vars(self)["dx_is_scratch"] = offset is not None or self.dy_is_scratch
        if offset is None:
            return dy
        check_gradient(type(self).__name__, dy, *like)
        return self._draw(type(self)._backward, dy, p, offset, self.gradient(dy))

    def _draw(self, function: Callable[..., Array], x: Array, p: float, offset: int, out: Array) -> Array:
        return function(x, p, seed=self.seed, offset=offset, out=out)

    def _check(self, x: Any) -> None:
        title = type(self).__name__
        floating(title, x)
        if self.axes and x.ndim not in self.axes:
            raise ValueError(f"{title}: x has shape {x.shape}; expected {self.wanted}")

    def extra_repr(self) -> str:
        return f"p={self.p:g}, inplace={self.inplace}"


class Dropout(_Dropout):
    """Dropout: y = x / (1 - p) with probability 1 - p, else 0, for every element by itself; y = x in evaluation mode.

    `p` is the probability of DROPPING. `inplace=True` writes y over x. With mode="vanilla" training leaves the scale
    alone and evaluation multiplies by 1 - p, as first published; the default, "inverted", leaves evaluation alone.

    x: any shape, float16, bfloat16, float32 or float64. `seed` fixes the masks; by default it follows from
    `fnn.manual_seed`. Source: Srivastava et al. (2014), Dropout, JMLR.
    """

    def __init__(
        self,
        p: float = 0.5,
        inplace: bool = False,
        *,
        mode: str = "inverted",
        seed: SupportsIndex | None = None,
    ) -> None:
        super().__init__(p, inplace, seed=seed)
        if mode not in MODES:
            raise ValueError(f"Dropout: mode is {mode!r}; expected one of {', '.join(map(repr, MODES))}")
        self.mode = mode

    _forward, _backward = dropout, dropout_backward

    @property
    def drops_over(self) -> bool:
        return self.drops and self.mode == "inverted"

    def drop_over(self, y: Array) -> float:
        dropout(y, self.p, seed=self.seed, offset=self.calls, out=y)
        self.count_call()
        return GRID / max(1, GRID - threshold(self.p))

    def forward(self, x: Any) -> Any:
        if self.training or self.mode == "inverted":
            return super().forward(x)
        self._check(x)
        vars(self)["y_is_scratch"] = True
        self.save("average", self.p)
        return dropout_infer(x, self.p, mode=self.mode)

    def backward(self, dy: Any) -> Any:
        if self.saved[0] != "average":
            return super().backward(dy)
        return dropout_infer(dy, self.saved[1], mode=self.mode)

    def _draw(self, function: Callable[..., Array], x: Array, p: float, offset: int, out: Array) -> Array:
        return function(x, p, seed=self.seed, offset=offset, mode=self.mode, out=out)


class Dropout1d(_Dropout):
    """Dropout of whole channels of x of shape (N, C, L): a channel of a sample is dropped with probability p or scaled.

    For features whose neighbours are alike, where dropping single elements takes little away. See Dropout for the
    arguments. Source: Tompson et al. (2015), Efficient Object Localization Using Convolutional Networks, CVPR.
    """

    axes = (3,)
    wanted = "(N, C, L)"
    _forward, _backward = spatial_dropout, spatial_dropout_backward


class Dropout2d(Dropout1d):
    """Dropout of whole channels of images, (N, C, H, W): see Dropout1d."""

    axes = (4,)
    wanted = "(N, C, H, W)"


class Dropout3d(Dropout1d):
    """Dropout of whole channels of volumes, (N, C, D, H, W): see Dropout1d."""

    axes = (5,)
    wanted = "(N, C, D, H, W)"


class AlphaDropout(_Dropout):
    """Dropout for SELU networks: an element becomes SELU's lower limit with probability p; mean and variance stay.

    y = a x' + b with x' = x or -lambda alpha, and a and b such that inputs of mean 0 and variance 1 keep both. See
    Dropout for the arguments. Source: Klambauer et al. (2017), Self-Normalizing Neural Networks, NeurIPS.
    """

    _forward, _backward = alpha_dropout, alpha_dropout_backward


class StochasticDepth(_Dropout):
    """Drops the branch of a residual block: x becomes 0 with probability p, else x / (1 - p); x in evaluation mode.

    mode="row" draws for every sample by itself, mode="batch" once for all of them, as torchvision's StochasticDepth.
    It is the last layer of the branch; the shortcut is added behind it.

    x: (N, ...). Source: Huang et al. (2016), Deep Networks with Stochastic Depth, ECCV.
    """

    _forward, _backward = stochastic_depth, stochastic_depth_backward

    def __init__(self, p: float, mode: str, *, seed: SupportsIndex | None = None) -> None:
        super().__init__(p, seed=seed)
        if mode not in ("row", "batch"):
            raise ValueError(f"StochasticDepth: mode is {mode!r}; expected 'row' or 'batch'")
        self.mode = mode

    def _draw(self, function: Callable[..., Array], x: Array, p: float, offset: int, out: Array) -> Array:
        if self.mode == "row":
            return super()._draw(function, x, p, offset, out)
        super()._draw(function, x[None], p, offset, out[None])  # the batch as one sample
        return out

    def _check(self, x: Any) -> None:
        super()._check(x)
        if x.ndim == 0:
            raise ValueError("StochasticDepth: x has shape (); expected (N, ...)")

    def extra_repr(self) -> str:
        return f"p={self.p:g}, mode={self.mode}"


class DropConnect(RandomLayer):
    """A layer whose weights, not outputs, are dropped: `DropConnect(Linear(784, 100), p=0.5)`.

    In training mode the layer runs with weight / (1 - p) where a weight is kept and 0 where it is dropped, one mask a
    pass for the whole batch; in evaluation mode with its weights as they are. The bias is never dropped. Any layer
    with a `weight` will do. Memory beyond the layer's: its weights and their gradient once more.

    Source: Wan et al. (2013), Regularization of Neural Networks using DropConnect, ICML, whose averaging at test time
    by a Gaussian is replaced by the mean.
    """

    def __init__(self, layer: Module, p: float = 0.5, *, seed: SupportsIndex | None = None) -> None:
        if not isinstance(layer, Module) or not isinstance(getattr(layer, "weight", None), Parameter):
            raise TypeError(
                f"DropConnect: layer is a {type(layer).__name__}; expected a layer with a parameter `weight`, "
                "such as Linear or Conv2d"
            )
        checked_threshold("DropConnect", p)
        self.p = float(p)
        super().__init__(seed=seed)
        self.layer = layer

    def forward(self, x: Any) -> Any:
        vars(self.layer)["keeps_input"] = self.keeps_input
        if not self.training or self.p == 0:
            self.save(None)
            return self.layer(x)
        offset, weight = self.calls, self._weight
        memory = self.workspace("weight", weight.shape, weight.dtype)
        drop_connect(weight.data, self.p, seed=self.seed, offset=offset, out=memory)
        dropped = self.__dict__.get("_dropped")
        if dropped is None or dropped.data is not memory:
            dropped = self.__dict__["_dropped"] = Parameter(memory)
            dropped.data = memory
        y = self._with(dropped, self.layer, x)
        self.count_call()
        self.save(offset, self.p, dropped)
        return y

    def backward(self, dy: Any) -> Any:
        offset, *rest = self.saved
        if self.layer.needs_input_grad is not self.needs_input_grad:
            self.layer.needs_input_grad = self.needs_input_grad
        vars(self.layer)["dy_is_scratch"] = self.dy_is_scratch and not self.layer.hooked
        if offset is None:
            return self.layer.backward(dy)
        p, dropped = rest
        weight = self._weight
        if dropped.requires_grad is not weight.requires_grad:
            dropped.requires_grad = weight.requires_grad
        dropped.zero_grad()
        dx = self._with(dropped, self.layer.backward, dy)
        if dropped.grad is not None:
            buffer, accumulate = weight.claim_grad()
            into = dropped.grad if accumulate else buffer
            drop_connect_backward(dropped.grad, p, seed=self.seed, offset=offset, out=into)
            if accumulate:
                np.add(buffer, into, out=buffer)
        return dx

    @property
    def dx_is_scratch(self) -> bool:  # type: ignore[override]
        """As the layer says."""
        return self.layer.dx_is_scratch

    @property
    def y_is_scratch(self) -> bool:  # type: ignore[override]
        """As the layer says."""
        return self.layer.y_is_scratch

    @property
    def _weight(self) -> Parameter:
        weight = self.layer.weight  # type: ignore[attr-defined]
        assert isinstance(weight, Parameter)
        return weight

    def _with(self, dropped: Parameter, function: Callable[[Any], Any], argument: Any) -> Any:
        """Call with `dropped` in place of the layer's weight, which stays registered."""
        weight = self._weight
        vars(self.layer)["weight"] = dropped
        try:
            return function(argument)
        finally:
            vars(self.layer)["weight"] = weight

    def __getstate__(self) -> dict[str, Any]:
        """Without the dropped weights of a pass."""
        return super().__getstate__() | {"_dropped": None}

    def extra_repr(self) -> str:
        return f"p={self.p:g}"
