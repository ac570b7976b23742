"""Layers that normalise channels and may keep running statistics of them: batch and instance norm."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fastnn.arguments import parameter_dtype, real_number
from fastnn.arrays import namespace
from fastnn.functions import normalization as functions
from fastnn.nn.checks import check_gradient, count, float_dtype_of
from fastnn.nn.fused import Fused, before_activation, before_dropout, drop, is_run, saves_output
from fastnn.nn.memory import Array
from fastnn.nn.module import Module
from fastnn.nn.normalization import Norm


class _ChannelNorm(Norm):
    """Batch and instance norm: parameters and running statistics of each channel, axis 1."""

    host_buffers = frozenset({"num_batches_tracked"})

    axes: tuple[int, ...]  # how many axes x may have
    wanted: str
    running_mean: Array | None
    running_var: Array | None
    num_batches_tracked: Array | None

    def __init__(
        self,
        num_features: int,
        eps: float,
        momentum: float | None,
        affine: bool,
        track_running_stats: bool,
        dtype: npt.DTypeLike,
        bias: bool,
    ) -> None:
        title = type(self).__name__
        self.num_features = count(title, "num_features", num_features)
        self.eps = real_number(title, "eps", eps, above=0.0)
        self.momentum = momentum if momentum is None else real_number(title, "momentum", momentum, low=0.0, high=1.0)
        self.affine, self.track_running_stats = affine, track_running_stats
        self._learn((self.num_features,), affine, bias, dtype)
        tracked, kind = track_running_stats, parameter_dtype(float_dtype_of(title, dtype))
        self.register_buffer("running_mean", np.zeros(self.num_features, kind) if tracked else None)
        self.register_buffer("running_var", np.ones(self.num_features, kind) if tracked else None)
        self.register_buffer("num_batches_tracked", np.zeros((), np.int64) if tracked else None)

    def reset_running_stats(self) -> None:
        """Mean 0, variance 1, no batches: as if no batch had been seen."""
        for buffer, value in ((self.running_mean, 0), (self.running_var, 1), (self.num_batches_tracked, 0)):
            if buffer is not None:
                buffer[...] = value

    def _checked(self, x: Any) -> Array:
        array = super()._checked(x)
        if array.ndim not in self.axes or array.shape[1] != self.num_features:
            wanted = self.wanted.replace("C", str(self.num_features))
            raise ValueError(f"{type(self).__name__}: x has shape {array.shape}; expected {wanted}")
        return array

    @property
    def _statistics_are_known(self) -> bool:
        """Whether the running statistics normalise, not those of the batch."""
        return not self.training and self.running_mean is not None

    def _infer(self, x: Array, activation: Fused = None) -> Array:
        """Normalise by the running statistics."""
        gamma, beta = self._affine
        assert self.running_mean is not None and self.running_var is not None
        return functions.batch_norm_infer(
            x,
            gamma,
            beta,
            self.running_mean,
            self.running_var,
            self.eps,
            activation,
            self.result("y", x.shape, x.dtype),
        )

    def _infer_backward(self, dy: Any, x: Array) -> Array | None:
        """Back through `_infer`, in which the statistics are constants: dx = dy gamma inv_std, without their terms."""
        assert self.running_mean is not None and self.running_var is not None
        check_gradient(type(self).__name__, dy, x.shape, x.dtype)
        dtype = parameter_dtype(x.dtype)
        shape = (1, -1) + (1,) * (x.ndim - 2)
        others = (0, *range(2, x.ndim))
        inv_std = (1 / np.sqrt(self.running_var.astype(np.float64) + self.eps)).astype(dtype)
        dy = dy.astype(dtype, copy=False)
        centred = x.astype(dtype, copy=False) - self.running_mean.astype(dtype).reshape(shape)
        sums = (array.sum(others, np.float64) for array in (dy * centred, dy))
        for parameter, total, factor in zip((self.weight, self.bias), sums, (inv_std, 1), strict=True):
            if parameter is not None and parameter.requires_grad:
                parameter.add_grad((total * factor).astype(dtype))
        if not self.needs_input_grad:
            return None
        scale = inv_std if self.weight is None else inv_std * self.weight.data.astype(dtype)
        dx: Array = (dy * scale.reshape(shape)).astype(x.dtype, copy=False)
        return dx

    def extra_repr(self) -> str:
        return (
            f"{self.num_features}, eps={self.eps:g}, momentum={self.momentum}, affine={self.affine}, "
            f"track_running_stats={self.track_running_stats}"
        )


class _BatchNorm(_ChannelNorm):
    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        dtype: npt.DTypeLike = np.float32,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, dtype, bias)

    def _weight_of_batch(self) -> float:
        """The weight of the next batch in the running statistics; with momentum None all batches weigh the same."""
        if self.momentum is not None:
            return self.momentum
        return 1.0 if self.num_batches_tracked is None else 1.0 / (int(self.num_batches_tracked) + 1)

    def forward(self, x: Any) -> Array:
        return self.forward_fused(x, ())

    def backward(self, dy: Any) -> Array | None:
        return self.backward_fused(dy, ())

    def fuses(self, followers: tuple[Module, ...]) -> bool:
        """In training the activations whose gradient follows from y, so that what they got need not be kept."""
        return is_run(followers) and (self._statistics_are_known or saves_output(followers[0].fused_as))

    def forward_fused(self, x: Any, followers: tuple[Module, ...]) -> Array:
        x, then = self._checked(x), followers[0].fused_as if followers else None
        if self._statistics_are_known:
            y = self._infer(x, then)
            self.save(followers, x, y, then, drop(followers, y))
            return y
        gamma, beta = self._affine
        running = (self.running_mean, self.running_var) if self.training else (None, None)
        out, given = self.result("y", x.shape, x.dtype), self._statistics(x, (self.num_features,), "mean", "inv_std")
        weight = self._weight_of_batch()
        y, mean, inv_std = functions.batch_norm_train(
            x, gamma, beta, *running, weight, self.eps, then, out=out, **given
        )
        if self.training and self.num_batches_tracked is not None:
            self.num_batches_tracked[...] += 1
        self.save(followers, x, y, then, drop(followers, y), mean, inv_std)
        return y

    def backward_fused(self, dy: Any, followers: tuple[Module, ...]) -> Array | None:
        x, y, then, scale, *statistics = self.saved_with(followers)
        if then is not None:
            check_gradient(type(self).__name__, dy, x.shape, x.dtype)
            saved = y if saves_output(then) else self._infer(x)
            dy = before_activation(self, before_dropout(self, dy, scale), saved, then)
        if not statistics:
            return self._infer_backward(dy, x)
        return self._backward(functions.batch_norm_backward, dy, x, self._affine[0], *statistics)


class BatchNorm1d(_BatchNorm):
    """Batch norm of x of shape (N, C) or (N, C, L), by channel: y = (x - mean) / sqrt(var + eps) * weight + bias.

    In training mode mean and (biased) variance are those of the batch, and
    running = momentum * batch + (1 - momentum) * running, the variance in it unbiased; momentum=None averages all
    batches evenly. In evaluation mode the running statistics normalise. With track_running_stats=False there are none,
    and the batch's normalise in both modes. affine=False leaves out weight and bias.

    Keys: weight, bias, running_mean, running_var, num_batches_tracked. A batch of one value a channel is a ValueError
    in training mode. Source: Ioffe and Szegedy (2015), Batch Normalization, ICML.
    """

    axes = (2, 3)
    wanted = "(N, C) or (N, C, L)"


class BatchNorm2d(_BatchNorm):
    """Batch norm of images, (N, C, H, W), by channel over the batch and all positions: see BatchNorm1d."""

    axes = (4,)
    wanted = "(N, C, H, W)"


class BatchNorm3d(_BatchNorm):
    """Batch norm of volumes, (N, C, D, H, W), by channel over the batch and all positions: see BatchNorm1d."""

    axes = (5,)
    wanted = "(N, C, D, H, W)"


class _InstanceNorm(_ChannelNorm):
    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
        dtype: npt.DTypeLike = np.float32,
        *,
        bias: bool = True,
    ) -> None:
        if momentum is None:
            raise TypeError(f"{type(self).__name__}: momentum is None; expected a number from 0 to 1")
        super().__init__(num_features, eps, momentum, affine, track_running_stats, dtype, bias)

    def forward(self, x: Any) -> Array:
        x = self._checked(x)
        if self._statistics_are_known:
            y = self._infer(x)
            self.save(x)
            return y
        gamma, beta = self._affine
        out = self.result("y", x.shape, x.dtype)
        if self.training and self.running_mean is not None:
            y, mean, inv_std = self._tracked(x, out)
        else:
            given = self._statistics(x, x.shape[:2], "mean", "inv_std")
            y, mean, inv_std = functions.instance_norm(x, gamma, beta, self.eps, out=out, **given)
        self.save(x, mean, inv_std)
        return y

    def _tracked(self, x: Array, out: Array | None) -> tuple[Array, Array, Array]:
        """Normalise and update the running statistics, by the mean of what every sample's would be.

        To batch norm the channels of all samples are the channels of one sample.
        """
        assert self.running_mean is not None and self.running_var is not None and out is not None
        samples, flat = x.shape[0], (1, x.shape[0] * x.shape[1], *x.shape[2:])
        gamma, beta = (None if array is None else namespace(array).tile(array, samples) for array in self._affine)
        mean, var = (namespace(array).tile(array, samples) for array in (self.running_mean, self.running_var))
        into, momentum = out.reshape(flat), self.momentum or 0.0
        found = functions.batch_norm_train(x.reshape(flat), gamma, beta, mean, var, momentum, self.eps, out=into)
        for average, new in ((self.running_mean, mean), (self.running_var, var)):
            average[...] = new.reshape(x.shape[:2]).mean(0, np.float64)
        return out, found[1].reshape(x.shape[:2]), found[2].reshape(x.shape[:2])

    def backward(self, dy: Any) -> Array | None:
        if len(self.saved) == 1:
            return self._infer_backward(dy, *self.saved)
        x, mean, inv_std = self.saved
        return self._backward(functions.instance_norm_backward, dy, x, self._affine[0], mean, inv_std)


class InstanceNorm1d(_InstanceNorm):
    """Instance norm of x of shape (N, C, L): every channel of every sample is normalised by itself.

    y = (x - mean) / sqrt(var + eps) * weight + bias, mean and biased variance over L. As in PyTorch there are, by
    default, neither weight and bias (affine=True) nor running statistics (track_running_stats=True), with which
    evaluation normalises by their running averages over samples and batches.

    Source: Ulyanov, Vedaldi and Lempitsky (2016), Instance Normalization.
    """

    axes = (3,)
    wanted = "(N, C, L)"


class InstanceNorm2d(_InstanceNorm):
    """Instance norm of images, (N, C, H, W), mean and variance over H and W: see InstanceNorm1d."""

    axes = (4,)
    wanted = "(N, C, H, W)"
