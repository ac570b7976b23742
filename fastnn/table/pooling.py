"""The rows of the family `pooling`."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from fastnn.function import Argument, Function
from fastnn.table.pooling_cases import (
    adaptive_backward_examples,
    adaptive_backward_oracle,
    adaptive_examples,
    adaptive_oracle,
    average_backward_examples,
    average_backward_oracle,
    average_examples,
    average_oracle,
    fractional_examples,
    fractional_oracle,
    global_backward_examples,
    global_backward_oracle,
    global_examples,
    global_oracle,
    max_examples,
    max_oracle,
    scatter_examples,
    scatter_oracle,
    scatter_scale,
)

# ---- gradients, by the public functions ----


def _gradients(name: str, *, by_position: bool) -> Callable[..., dict[str, Any]]:
    def gradients(dys: tuple[Any, ...], **arguments: Any) -> dict[str, Any]:
        fnn = importlib.import_module("fastnn")
        backward = getattr(fnn, f"{name}_backward")
        x = arguments.pop("x")
        if by_position:
            _, where = getattr(fnn, name)(x, **arguments)
            return {"x": backward(dys[0], where, x.shape)}
        arguments.pop("output_size", None)
        return {"x": backward(dys[0], x.shape, **arguments)}

    return gradients


# ---- rows ----

_SPACE = {1: "(N, C, L)", 2: "(N, C, H, W)", 3: "(N, C, D, H, W)"}
_OUT = Argument(
    name="out", doc="where the result goes: an array of its shape and dtype, apart from the other arrays in memory"
)
_ARRAY = "array of float32, float64, float16 or bfloat16 of shape"
_PER_AXIS = "an int for all spatial axes or one for each"
_KERNEL = Argument(name="kernel_size", doc=f"elements of a window: {_PER_AXIS}, at least 1")
_STRIDE = Argument(name="stride", doc=f"from window to window: {_PER_AXIS}, at least 1; None: kernel_size")
_PADDING = Argument(
    name="padding",
    doc="elements put around the input: an int for all spatial axes, or for each axis an int or a pair (before, after)",
)
_DILATION = Argument(name="dilation", doc=f"from element to element of a window: {_PER_AXIS}, at least 1")
_CEIL = Argument(
    name="ceil_mode",
    doc="True: a window more where one begins in the input or the padding before it but reaches beyond the padding "
    "behind it; what lies there is left out",
)
_INDICES_OPTION = Argument(name="return_indices", doc="True: return (y, indices)")
_INDICES_OUT = Argument(
    name="indices",
    doc="where the indices go, which are returned then: a C-contiguous int64 array of y's shape, apart from the other "
    "arrays in memory",
)
_INCLUDE = Argument(
    name="count_include_pad", doc="True: padding counts as zeros; False: averages are those of elements alone"
)
_X_SHAPE = Argument(name="x_shape", doc="the shape of the input of the forward pass, N and C included")
_INDICES = "int64: the place of each maximum within its plane, as in C order"
_TIES = (
    "NaN propagates. Of equal maxima the first one in C order is meant, of several NaN the last one, as in PyTorch; -0 "
    "and 0 are equal."
)
_COPIED = "No memory beyond the results, unless an array or out is not C-contiguous: then one contiguous copy of it."
_SIZE = (
    "Spatial length of the result: floor((in + before + after - dilation (kernel - 1) - 1) / stride) + 1. Every window "
    "must hold an element of the input{}; padding may be larger than half the kernel otherwise."
)
_LECUN = "LeCun et al. (1998), Gradient-based learning applied to document recognition; conventions of PyTorch and ONNX"
_RIESENHUBER = (
    "Riesenhuber and Poggio (1999), Hierarchical models of object recognition; conventions of PyTorch and ONNX"
)
_LIN = "Lin, Chen, Yan (2013), Network in network"
_GRAHAM = "Graham (2014), Fractional max-pooling"


def _array(name: str, doc: str) -> Argument:
    return Argument(name=name, doc=f"{_ARRAY} {doc}", role="array")


def _max_rows(dims: int) -> tuple[Function, Function]:
    name, space = f"max_pool{dims}d", _SPACE[dims]
    forward = Function(
        name=name,
        family="pooling",
        title=f"Max pooling over {dims} spatial ax{'is' if dims == 1 else 'es'}",
        formula="y = the largest element of each window",
        arguments=(
            *(_array("x", space), _KERNEL, _STRIDE, _PADDING, _DILATION, _CEIL),
            *(_INDICES_OPTION, _INDICES_OUT, _OUT),
        ),
        returns=(
            Argument(name="y", doc=f"array of x's dtype, {space} with the lengths below"),
            Argument(name="indices", doc=f"only with return_indices or indices: array of y's shape, {_INDICES}"),
        ),
        source=_RIESENHUBER,
        notes=(_TIES, _SIZE.format(""), _COPIED),
        oracle=max_oracle(dims),
        examples=max_examples(dims),
        ulp=0,
        gradients=_gradients(name, by_position=True),
        bytes="reads x once, writes y once and 8 bytes an index where they are wanted",
        operations="3 for each element of a window, 5 with indices; rows that windows share are reduced once",
    )
    return forward, _scatter_row(name, space, scatter_examples(dims))


def _scatter_row(
    name: str, space: str, examples: Callable[[np.random.Generator], Iterable[dict[str, Any]]]
) -> Function:
    return Function(
        name=f"{name}_backward",
        family="pooling",
        title=f"Gradient of {name}",
        formula="dx[indices] += dy, plane by plane, from dx = 0",
        arguments=(
            _array("dy", f"{space}: the gradient of the loss by y"),
            Argument(name="indices", doc=f"those that {name} returned, array of dy's shape, of any integer dtype"),
            _X_SHAPE,
            _OUT,
        ),
        returns=(Argument(name="dx", doc="array of x_shape and dy's dtype"),),
        source=_RIESENHUBER if name.startswith("max") else _GRAHAM,
        notes=(
            "An element that is the maximum of several windows gets the sum of their gradients, in the order of the "
            "windows. float16 and bfloat16 are summed in float32 and rounded once.",
            "Indices outside of the plane are refused; with out they are looked at twice, so that it stays as it was.",
            _COPIED,
        ),
        oracle=scatter_oracle,
        scale=scatter_scale,
        examples=examples,
        ulp=4,
        gradient_of=name,
        bytes="reads dy and indices once, writes dx once",
        operations="1 a window",
    )


def _average_rows(dims: int) -> tuple[Function, Function]:
    name, space = f"avg_pool{dims}d", _SPACE[dims]
    options = (_KERNEL, _STRIDE, _PADDING, _CEIL, _INCLUDE, _DILATION, _OUT)
    notes = (
        _SIZE.format(" where padding is not counted"),
        "Sums are kept in float64, in an order that depends on the shapes alone.",
        _COPIED,
    )
    forward = Function(
        name=name,
        family="pooling",
        title=f"Average pooling over {dims} spatial ax{'is' if dims == 1 else 'es'}",
        formula="y = the sum of each window / the number of its elements",
        arguments=(_array("x", space), *options),
        returns=(Argument(name="y", doc=f"array of x's dtype, {space} with the lengths below"),),
        source=_LECUN,
        notes=notes,
        oracle=average_oracle(dims),
        scale=lambda y, x, **options: average_oracle(dims)(abs(x), **options),
        examples=average_examples(dims),
        ulp=2,
        gradients=_gradients(name, by_position=False),
        bytes="reads x once, writes y once",
        operations="1 for each element of a window and 1 a window; rows that windows share are summed once",
    )
    backward = Function(
        name=f"{name}_backward",
        family="pooling",
        title=f"Gradient of {name}",
        formula="dx = for each element, the sum of dy / number of elements over the windows that it is in",
        arguments=(_array("dy", f"{space}: the gradient of the loss by y"), _X_SHAPE, *options),
        returns=(Argument(name="dx", doc="array of x_shape and dy's dtype"),),
        source=_LECUN,
        notes=notes[1:],
        oracle=average_backward_oracle(dims),
        scale=lambda dx, dy, **options: average_backward_oracle(dims)(abs(dy), **options),
        examples=average_backward_examples(dims),
        ulp=4,
        gradient_of=name,
        bytes="reads dy once, writes dx once",
        operations="2 for each window and element in it",
    )
    return forward, backward


def _adaptive_rows(dims: int) -> tuple[Function, Function]:
    name, space = f"adaptive_avg_pool{dims}d", _SPACE[dims]
    notes = (
        "Region i of an axis is [floor(i in / out), ceil((i + 1) in / out)): regions may overlap by an element, and "
        "out may be larger than in.",
        "Sums are kept in float64, in an order that depends on the shapes alone.",
        _COPIED,
    )
    forward = Function(
        name=name,
        family="pooling",
        title=f"Average pooling to a given size over {dims} spatial ax{'is' if dims == 1 else 'es'}",
        formula="y = the average of each region",
        arguments=(
            _array("x", space),
            Argument(
                name="output_size", doc="spatial lengths of y: an int for all axes, or for each an int or None: x's own"
            ),
            _OUT,
        ),
        returns=(Argument(name="y", doc=f"array of x's dtype, {space} with these lengths"),),
        source=_LIN,
        notes=notes,
        oracle=adaptive_oracle(dims),
        scale=lambda y, x, output_size: adaptive_oracle(dims)(abs(x), output_size),
        examples=adaptive_examples(dims),
        ulp=2,
        gradients=_gradients(name, by_position=False),
        bytes="reads x once, writes y once",
        operations="1 an element and region",
    )
    backward = Function(
        name=f"{name}_backward",
        family="pooling",
        title=f"Gradient of {name}",
        formula="dx = for each element, the sum of dy / size over the regions that it is in",
        arguments=(_array("dy", f"{space}: the gradient of the loss by y"), _X_SHAPE, _OUT),
        returns=(Argument(name="dx", doc="array of x_shape and dy's dtype"),),
        source=_LIN,
        notes=notes,
        oracle=adaptive_backward_oracle,
        scale=lambda dx, dy, x_shape: adaptive_backward_oracle(abs(dy), x_shape),
        examples=adaptive_backward_examples(dims),
        ulp=4,
        gradient_of=name,
        bytes="reads dy once, writes dx once",
        operations="2 an element and region",
    )
    return forward, backward


_GLOBAL = (
    Function(
        name="global_avg_pool",
        family="pooling",
        title="Average of every channel over all its spatial axes",
        formula="y[n, c] = mean of x[n, c]",
        arguments=(_array("x", "(N, C, *spatial), with one spatial axis or more"), _OUT),
        returns=(Argument(name="y", doc="array of shape (N, C) and x's dtype"),),
        source=_LIN,
        notes=("Sums are kept in float64, on 16 partial sums whatever the instruction set.", _COPIED),
        oracle=global_oracle,
        scale=lambda y, x: global_oracle(abs(x)),
        examples=global_examples,
        ulp=2,
        gradients=_gradients("global_avg_pool", by_position=False),
        bytes="reads x once",
        operations="1 an element",
    ),
    Function(
        name="global_avg_pool_backward",
        family="pooling",
        title="Gradient of global_avg_pool",
        formula="dx[n, c, ...] = dy[n, c] / number of elements",
        arguments=(_array("dy", "(N, C): the gradient of the loss by y"), _X_SHAPE, _OUT),
        returns=(Argument(name="dx", doc="array of x_shape and dy's dtype"),),
        source=_LIN,
        notes=(_COPIED,),
        oracle=global_backward_oracle,
        examples=global_backward_examples,
        ulp=1,
        gradient_of="global_avg_pool",
        bytes="writes dx once",
        operations="1 a channel",
    ),
)

_FRACTIONAL = (
    Function(
        name="fractional_max_pool2d",
        family="pooling",
        title="Max pooling over regions of random sizes, for any ratio of lengths",
        formula="y = the largest element of each of out_h x out_w regions, whose edges are random",
        arguments=(
            _array("x", _SPACE[2]),
            Argument(
                name="output_size", doc="spatial lengths of y: an int for both axes or one for each, from 1 to x's own"
            ),
            Argument(name="seed", doc="the key of the random numbers: an int from 0 to 2^64 - 1, never chosen for you"),
            Argument(
                name="offset", doc="which of the seed's 2^64 streams: an int from 0 to 2^64 - 1, such as the step"
            ),
            Argument(
                name="pseudo_random",
                doc="False: sizes in random order. True: edges at floor(i in / out + u), a random u in [0, 1) an axis",
            ),
            Argument(
                name="overlapping", doc="True: every region but an axis's last takes in the first row of the next one"
            ),
            Argument(
                name="shared",
                doc="who has the same regions: 'sample', all channels of a sample (Graham); 'batch', all samples too "
                "(TensorFlow); 'channel', only the elements of a channel (PyTorch)",
            ),
            _INDICES_OPTION,
            _INDICES_OUT,
            _OUT,
        ),
        returns=(
            Argument(name="y", doc="array of x's dtype, (N, C, *output_size)"),
            Argument(name="indices", doc=f"only with return_indices or indices: array of y's shape, {_INDICES}"),
        ),
        source=_GRAHAM,
        notes=(
            "Sizes are floor(in / out) and the next whole number: 1 and 2 for ratios between them. The regions cover "
            "the input; backward needs no seed, but indices.",
            "For test time Graham averages the network's output over several draws: the next offsets.",
            _TIES,
            "Memory beyond the results: 16 bytes for each row and each column of regions of each plane.",
        ),
        oracle=fractional_oracle,
        examples=fractional_examples,
        ulp=0,
        gradients=_gradients("fractional_max_pool2d", by_position=True),
        bytes="reads x once, writes y once and 8 bytes an index where they are wanted",
        operations="3 an element of a region, one at a time",
    ),
    _scatter_row("fractional_max_pool2d", _SPACE[2], scatter_examples(2)),
)

ROWS: tuple[Function, ...] = (
    *(row for dims in (1, 2, 3) for row in _max_rows(dims)),
    *(row for dims in (1, 2, 3) for row in _average_rows(dims)),
    *(row for dims in (1, 2, 3) for row in _adaptive_rows(dims)),
    *_GLOBAL,
    *_FRACTIONAL,
)
