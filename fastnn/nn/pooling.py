"""Pools: the largest or the average of windows, of regions, of everything."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np

from fastnn import random
from fastnn.arguments import checked_word, flag, real_number
from fastnn.functions import pooling as functions
from fastnn.nn.checks import Array, check_gradient, floating
from fastnn.nn.module import Module
from fastnn.windows import pairs, sizes, windows

Sizes = int | Sequence[int]
_SPACE = {1: "(N, C, L)", 2: "(N, C, H, W)", 3: "(N, C, D, H, W)"}
_KEPT_SHAPES = 16


class _Pool(Module):
    """What pools over `dims` spatial axes have in common."""

    dims: ClassVar[int]
    dx_is_scratch = True
    y_is_scratch = True

    def _checked(self, x: Any) -> Array:
        array = floating(type(self).__name__, x)
        if array.ndim != self.dims + 2 or 0 in array.shape[2:]:
            room = "" if array.ndim != self.dims + 2 else ", with an element on every spatial axis"
            raise ValueError(f"{type(self).__name__}: x has shape {array.shape}; expected {_SPACE[self.dims]}{room}")
        return array


class _Windows(_Pool):
    """Pools over windows that slide."""

    kernel_size: Sizes
    stride: Sizes
    padding: Sizes
    dilation: Sizes = 1
    ceil_mode: bool
    count_include_pad: bool = False

    def _set(self, kernel_size: Sizes, stride: Sizes | None, padding: Sizes, dilation: Sizes, ceil_mode: bool) -> None:
        title = type(self).__name__
        for name, value in (("kernel_size", kernel_size), ("stride", kernel_size if stride is None else stride)):
            sizes(title, name, value, self.dims, 1)
            setattr(self, name, _hashable(value))
        pairs(title, "padding", padding, self.dims)
        sizes(title, "dilation", dilation, self.dims, 1)
        self.padding, self.dilation = _hashable(padding), _hashable(dilation)
        self.ceil_mode = flag(title, "ceil_mode", ceil_mode)

    def _y_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of the result: worked out once for each of x."""
        options = (self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode)
        known: dict[Any, tuple[int, ...]] = vars(self).setdefault("_known", {})
        found = known.get((shape, options))
        if found is None:
            if len(known) >= _KEPT_SHAPES:
                known.clear()
            axes = windows(type(self).__name__, shape[2:], *options, padding_counts=self.count_include_pad)
            found = known[shape, options] = (*shape[:2], *(axis.out for axis in axes))
        return found

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


def _hashable(value: Any) -> Any:
    """Lists as tuples."""
    return tuple(_hashable(item) for item in value) if isinstance(value, (list, tuple)) else value


class _MaxPool(_Windows):
    """The largest element of each window. Where several are equal, the first gets the gradient; NaN is largest.

    kernel_size, stride (None: kernel_size), padding, dilation: an int, or one for each axis. return_indices: the result
    is (y, indices), the latter int64 places in x's plane. ceil_mode: a last, incomplete window counts.
    """

    _forward: ClassVar[Callable[..., Any]]
    _backward: ClassVar[Callable[..., Any]]

    def __init__(
        self,
        kernel_size: Sizes,
        stride: Sizes | None = None,
        padding: Sizes = 0,
        dilation: Sizes = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
    ) -> None:
        self._set(kernel_size, stride, padding, dilation, ceil_mode)
        self.return_indices = flag(type(self).__name__, "return_indices", return_indices)

    def forward(self, x: Any) -> Any:
        x = self._checked(x)
        shape = self._y_shape(x.shape)
        y, indices = self.output("y", shape, x.dtype), None
        if self.return_indices or self.saving:
            indices = self.output("indices", shape, np.int64)
        options = (self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode)
        type(self)._forward(x, *options, indices=indices, out=y)
        self.save(x.shape, indices, x.dtype)
        return (y, indices) if self.return_indices else y

    def backward(self, dy: Any) -> Any:
        shape, indices, dtype = self.saved
        check_gradient(type(self).__name__, dy, indices.shape, dtype)
        return type(self)._backward(dy, indices, shape, out=self.workspace("dx", shape, dtype))

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, dilation={self.dilation}, ceil_mode={self.ceil_mode}"


class MaxPool1d(_MaxPool):
    __doc__ = _MaxPool.__doc__
    dims = 1
    _forward = staticmethod(functions.max_pool1d)
    _backward = staticmethod(functions.max_pool1d_backward)


class MaxPool2d(_MaxPool):
    __doc__ = _MaxPool.__doc__
    dims = 2
    _forward = staticmethod(functions.max_pool2d)
    _backward = staticmethod(functions.max_pool2d_backward)


class MaxPool3d(_MaxPool):
    __doc__ = _MaxPool.__doc__
    dims = 3
    _forward = staticmethod(functions.max_pool3d)
    _backward = staticmethod(functions.max_pool3d_backward)


class _AvgPool(_Windows):
    """The average of each window. kernel_size, stride (None: kernel_size), padding: an int, or one for each axis.

    ceil_mode: a last, incomplete window counts. count_include_pad: padding counts as zeros; False: only elements do.
    """

    _forward: ClassVar[Callable[..., Any]]
    _backward: ClassVar[Callable[..., Any]]

    def __init__(
        self,
        kernel_size: Sizes,
        stride: Sizes | None = None,
        padding: Sizes = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> None:
        self._set(kernel_size, stride, padding, 1, ceil_mode)
        self.count_include_pad = flag(type(self).__name__, "count_include_pad", count_include_pad)

    def _options(self) -> tuple[Any, ...]:
        return self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad

    def forward(self, x: Any) -> Any:
        x = self._checked(x)
        shape = self._y_shape(x.shape)
        y = type(self)._forward(x, *self._options(), out=self.result("y", shape, x.dtype))
        self.save(x.shape, shape, x.dtype)
        return y

    def backward(self, dy: Any) -> Any:
        x_shape, y_shape, dtype = self.saved
        check_gradient(type(self).__name__, dy, y_shape, dtype)
        return type(self)._backward(dy, x_shape, *self._options(), out=self.workspace("dx", x_shape, dtype))

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, ceil_mode={self.ceil_mode}, count_include_pad={self.count_include_pad}"


class AvgPool1d(_AvgPool):
    __doc__ = _AvgPool.__doc__
    dims = 1
    _forward = staticmethod(functions.avg_pool1d)
    _backward = staticmethod(functions.avg_pool1d_backward)


class AvgPool2d(_AvgPool):
    __doc__ = _AvgPool.__doc__
    dims = 2
    _forward = staticmethod(functions.avg_pool2d)
    _backward = staticmethod(functions.avg_pool2d_backward)


class AvgPool3d(_AvgPool):
    __doc__ = _AvgPool.__doc__
    dims = 3
    _forward = staticmethod(functions.avg_pool3d)
    _backward = staticmethod(functions.avg_pool3d_backward)


class _AdaptiveAvgPool(_Pool):
    """Averages of regions that divide x as evenly as can be into output_size; None keeps an axis as it is."""

    _forward: ClassVar[Callable[..., Any]]
    _backward: ClassVar[Callable[..., Any]]

    def __init__(self, output_size: int | None | Sequence[int | None]) -> None:
        title = type(self).__name__
        given = output_size if isinstance(output_size, Sequence) else (output_size,) * self.dims
        sizes(title, "output_size", [1 if size is None else size for size in given], self.dims, 1)
        self.output_size = output_size

    def _lengths(self, lengths: tuple[int, ...]) -> tuple[int, ...]:
        given = self.output_size if isinstance(self.output_size, Sequence) else (self.output_size,) * self.dims
        return tuple(length if size is None else size for size, length in zip(given, lengths, strict=True))

    def forward(self, x: Any) -> Any:
        x = self._checked(x)
        shape = (*x.shape[:2], *self._lengths(x.shape[2:]))
        y = type(self)._forward(x, self.output_size, out=self.result("y", shape, x.dtype))
        self.save(x.shape, shape, x.dtype)
        return y

    def backward(self, dy: Any) -> Any:
        x_shape, y_shape, dtype = self.saved
        check_gradient(type(self).__name__, dy, y_shape, dtype)
        return type(self)._backward(dy, x_shape, out=self.workspace("dx", x_shape, dtype))

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}"


class AdaptiveAvgPool1d(_AdaptiveAvgPool):
    __doc__ = _AdaptiveAvgPool.__doc__
    dims = 1
    _forward = staticmethod(functions.adaptive_avg_pool1d)
    _backward = staticmethod(functions.adaptive_avg_pool1d_backward)


class AdaptiveAvgPool2d(_AdaptiveAvgPool):
    __doc__ = _AdaptiveAvgPool.__doc__
    dims = 2
    _forward = staticmethod(functions.adaptive_avg_pool2d)
    _backward = staticmethod(functions.adaptive_avg_pool2d_backward)


class AdaptiveAvgPool3d(_AdaptiveAvgPool):
    __doc__ = _AdaptiveAvgPool.__doc__
    dims = 3
    _forward = staticmethod(functions.adaptive_avg_pool3d)
    _backward = staticmethod(functions.adaptive_avg_pool3d_backward)


class GlobalAvgPool(Module):
    """The average of each channel: x (N, C, *spatial), y (N, C). Lin, Chen and Yan (2013), Network in network."""

    dx_is_scratch = True
    y_is_scratch = True

    def forward(self, x: Any) -> Any:
        x = floating("GlobalAvgPool", x)
        if x.ndim < 3:
            raise ValueError(f"GlobalAvgPool: x has shape {x.shape}; expected (N, C, *spatial)")
        y = functions.global_avg_pool(x, out=self.result("y", x.shape[:2], x.dtype))
        self.save(x.shape, x.dtype)
        return y

    def backward(self, dy: Any) -> Any:
        shape, dtype = self.saved
        check_gradient("GlobalAvgPool", dy, shape[:2], dtype)
        return functions.global_avg_pool_backward(dy, shape, out=self.workspace("dx", shape, dtype))


class FractionalMaxPool2d(_Pool):
    """Max pooling over random regions, so that x shrinks by a factor that need not be whole.

    output_size, an int or one for each of H and W, or output_ratio, numbers in (0, 1) by which lengths shrink.
    pseudo_random, overlapping and shared are those of `fnn.fractional_max_pool2d`. Regions follow from `seed` (drawn
    when the layer is made, if None) and `calls`, the number of forward passes in training mode so far; in evaluation
    mode they are those of the first. Source: Graham (2014), Fractional max-pooling.
    """

    dims = 2

    def __init__(
        self,
        *,
        output_size: Sizes | None = None,
        output_ratio: float | Sequence[float] | None = None,
        pseudo_random: bool = False,
        overlapping: bool = False,
        shared: str = "sample",
        return_indices: bool = False,
        seed: int | None = None,
    ) -> None:
        title = "FractionalMaxPool2d"
        if (output_size is None) == (output_ratio is None):
            raise ValueError(f"{title}: got output_size={output_size} and output_ratio={output_ratio}; expected one")
        self.output_size = None if output_size is None else sizes(title, "output_size", output_size, 2, 1)
        self.output_ratio: tuple[float, ...] | None = None
        if output_ratio is not None:
            ratios = tuple(output_ratio) if isinstance(output_ratio, Sequence) else (output_ratio,) * 2
            if len(ratios) != 2:
                raise ValueError(
                    f"{title}: output_ratio is {output_ratio}; expected a number, or one for H and one for W"
                )
            self.output_ratio = tuple(real_number(title, "output_ratio", each, above=0, below=1) for each in ratios)
        self.pseudo_random, self.overlapping, self.shared = pseudo_random, overlapping, shared
        self.return_indices = flag(title, "return_indices", return_indices)
        self.seed = random.new_seed() if seed is None else checked_word(title, "seed", seed)
        self.calls = 0

    def _lengths(self, lengths: tuple[int, ...]) -> tuple[int, ...]:
        if self.output_size is not None:
            return self.output_size
        ratios = self.output_ratio or ()
        return tuple(max(1, math.floor(length * ratio)) for length, ratio in zip(lengths, ratios, strict=True))

    def forward(self, x: Any) -> Any:
        x = self._checked(x)
        shape = (*x.shape[:2], *self._lengths(x.shape[2:]))
        offset = self.calls if self.training else 0
        indices = self.output("indices", shape, np.int64)
        y = functions.fractional_max_pool2d(
            x,
            shape[2:],
            seed=self.seed,
            offset=offset,
            pseudo_random=self.pseudo_random,
            overlapping=self.overlapping,
            shared=self.shared,
            indices=indices,
            out=self.result("y", shape, x.dtype),
        )[0]
        if self.training:
            vars(self)["calls"] += 1
        self.save(x.shape, indices, x.dtype)
        return (y, indices) if self.return_indices else y

    def backward(self, dy: Any) -> Any:
        shape, indices, dtype = self.saved
        check_gradient("FractionalMaxPool2d", dy, indices.shape, dtype)
        return functions.fractional_max_pool2d_backward(dy, indices, shape, out=self.workspace("dx", shape, dtype))

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}, output_ratio={self.output_ratio}"
