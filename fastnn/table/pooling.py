"""The rows of the family `pooling`."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from fastnn import windows
from fastnn.function import Argument, Function
from fastnn.table.pooling_formulas import (
    SHARED,
    average_regions,
    average_regions_backward,
    average_windows,
    average_windows_backward,
    fractional_bounds,
    max_backward,
    max_regions,
    max_windows,
)

# ---- oracles ----


def _planes(x: Any) -> Any:
    """(N, C, *spatial) as (planes, depth, height, width)."""
    spatial = (1,) * (5 - x.ndim) + x.shape[2:]
    return x.reshape(x.shape[0] * x.shape[1], *spatial)


def _back(y: Any, like: tuple[int, ...], dims: int) -> Any:
    return y.reshape(*like[:2], *y.shape[4 - dims :])


def _axes(dims: int, shape: Any, arguments: dict[str, Any], counted: bool) -> tuple[windows.Axis, ...]:
    return windows.windows(
        "oracle",
        tuple(shape[2:]),
        arguments["kernel_size"],
        arguments.get("stride"),
        arguments.get("padding", 0),
        arguments.get("dilation", 1),
        arguments.get("ceil_mode", False),
        padding_counts=counted,
    )


def _max_oracle(dims: int) -> Callable[..., Any]:
    def oracle(x: Any, return_indices: bool = False, **arguments: Any) -> Any:
        y, where = max_windows(_planes(x), windows.for_kernels(_axes(dims, x.shape, arguments, False)))
        results = _back(y, x.shape, dims), _back(where, x.shape, dims)
        return results if return_indices else results[0]

    return oracle


def _scatter_oracle(dy: Any, indices: Any, x_shape: Any) -> Any:
    planes = (x_shape[0] * x_shape[1], *x_shape[2:])
    return max_backward(dy.reshape(planes[0], -1), indices, planes).reshape(x_shape)


def _scatter_scale(dx: Any, dy: Any, indices: Any, x_shape: Any) -> Any:
    return _scatter_oracle(abs(dy), indices, x_shape)


def _average_oracle(dims: int) -> Callable[..., Any]:
    def oracle(x: Any, count_include_pad: bool = True, **arguments: Any) -> Any:
        axes = _axes(dims, x.shape, arguments, count_include_pad)
        y = average_windows(_planes(x), windows.for_kernels(axes), windows.counts(axes, count_include_pad))
        return _back(y, x.shape, dims)

    return oracle


def _average_backward_oracle(dims: int) -> Callable[..., Any]:
    def oracle(dy: Any, x_shape: Any, count_include_pad: bool = True, **arguments: Any) -> Any:
        axes = _axes(dims, x_shape, arguments, count_include_pad)
        dx = average_windows_backward(_planes(dy), windows.for_kernels(axes), windows.counts(axes, count_include_pad))
        return dx.reshape(x_shape)

    return oracle


def _output(dims: int, output_size: Any, spatial: tuple[int, ...]) -> tuple[int, ...]:
    sizes = output_size if isinstance(output_size, tuple) else (output_size,) * dims
    return tuple(length if size is None else size for size, length in zip(sizes, spatial, strict=True))


def _adaptive_oracle(dims: int) -> Callable[..., Any]:
    def oracle(x: Any, output_size: Any) -> Any:
        spatial = tuple(x.shape[2:])
        return _back(
            average_regions(_planes(x), *windows.adaptive(spatial, _output(dims, output_size, spatial))), x.shape, dims
        )

    return oracle


def _adaptive_backward_oracle(dy: Any, x_shape: Any) -> Any:
    bounds = windows.adaptive(tuple(x_shape[2:]), tuple(dy.shape[2:]))
    planes = (x_shape[0] * x_shape[1], *(1,) * (5 - len(x_shape)), *x_shape[2:])
    return average_regions_backward(_planes(dy), *bounds, planes).reshape(x_shape)


def _global_oracle(x: Any) -> Any:
    return x.reshape(*x.shape[:2], -1).mean(-1)


def _global_backward_oracle(dy: Any, x_shape: Any) -> Any:
    share = dy / dy.dtype.type(math.prod(x_shape[2:]))
    return np.broadcast_to(share.reshape(*dy.shape, *(1,) * (len(x_shape) - 2)), x_shape).copy()


def _fractional_oracle(
    x: Any,
    output_size: Any,
    *,
    seed: int,
    offset: int = 0,
    pseudo_random: bool = False,
    overlapping: bool = False,
    shared: str = "sample",
    return_indices: bool = False,
) -> Any:
    output = _output(2, output_size, x.shape[2:])
    bounds = fractional_bounds(x.shape[:2], x.shape[2:], output, seed, offset, pseudo_random, overlapping, shared)
    y, where = max_regions(_planes(x), *bounds)
    results = _back(y, x.shape, 2), _back(where, x.shape, 2)
    return results if return_indices else results[0]


# ---- examples ----

_SHAPES: dict[int, list[tuple[int, ...]]] = {
    1: [(2, 3, 37), (1, 2, 12), (3, 1, 1), (1, 1, 100), (2, 1, 5)],
    2: [(2, 3, 9, 35), (1, 2, 12, 14), (2, 1, 1, 7), (3, 2, 8, 1), (1, 1, 4, 66)],
    3: [(1, 2, 5, 6, 19), (2, 1, 4, 4, 4), (1, 1, 1, 3, 7), (2, 1, 6, 1, 5), (1, 2, 3, 4, 9)],
}


def _apart(rng: np.random.Generator, shape: tuple[int, ...]) -> Any:
    """Numbers of both signs, no two of which are near each other, so that maxima have gradients."""
    n = math.prod(shape)
    return (rng.permutation(n).reshape(shape) - n // 2) / 64.0


def _one_for_each(dims: int, *values: Any) -> tuple[Any, ...]:
    """The last `dims` of three values."""
    return values[3 - dims :]


def _options(dims: int, dilated: bool) -> list[dict[str, Any]]:
    """Arguments for each of _SHAPES; dilation where `dilated`."""
    whole, large, small = (_SHAPES[dims][i][2:] for i in (2, 3, 4))
    sides = zip(_one_for_each(dims, (1, 0), (0, 1), (1, 2)), large, strict=True)
    pads = tuple((min(before, length - 1), min(after, length - 1)) for (before, after), length in sides)
    options: list[dict[str, Any]] = [
        {"kernel_size": 2, "stride": 2, "padding": 0, "ceil_mode": True},
        {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": False},
        {"kernel_size": whole, "stride": None, "padding": 0, "ceil_mode": False},
        {"kernel_size": tuple(min(4, length) for length in large), "stride": 3, "padding": pads, "ceil_mode": True},
        {"kernel_size": tuple(min(3, length) for length in small), "stride": 1, "padding": 1, "ceil_mode": False},
    ]
    if dilated:
        options[1] |= {"dilation": 2, "stride": 1}
        options[4] |= {"dilation": _one_for_each(dims, 1, 1, 2)}
    return options


def _max_examples(dims: int) -> Callable[[np.random.Generator], Iterable[dict[str, Any]]]:
    return lambda rng: (
        {"x": _apart(rng, shape), **options, "return_indices": True}
        for shape, options in zip(_SHAPES[dims], _options(dims, True), strict=True)
    )


def _scatter_examples(dims: int) -> Callable[[np.random.Generator], Iterable[dict[str, Any]]]:
    def examples(rng: np.random.Generator) -> Iterator[dict[str, Any]]:
        for shape in _SHAPES[dims]:
            outputs = (*shape[:2], *(-(-length // 2) for length in shape[2:]))
            where = rng.integers(0, math.prod(shape[2:]), outputs)
            yield {"dy": rng.standard_normal(outputs), "indices": where, "x_shape": shape}

    return examples


def _average_options(dims: int) -> list[dict[str, Any]]:
    options = _options(dims, False)
    for i, each in enumerate(options):
        each["count_include_pad"] = i % 2 == 1
    options[1]["dilation"] = 2
    return options


def _average_examples(dims: int) -> Callable[[np.random.Generator], Iterable[dict[str, Any]]]:
    return lambda rng: (
        {"x": rng.standard_normal(shape), **options}
        for shape, options in zip(_SHAPES[dims], _average_options(dims), strict=True)
    )


def _average_backward_examples(dims: int) -> Callable[[np.random.Generator], Iterable[dict[str, Any]]]:
    def examples(rng: np.random.Generator) -> Iterator[dict[str, Any]]:
        for shape, options in zip(_SHAPES[dims], _average_options(dims), strict=True):
            axes = _axes(dims, shape, options, options["count_include_pad"])
            outputs = (*shape[:2], *(axis.out for axis in axes))
            yield {"dy": rng.standard_normal(outputs), "x_shape": shape, **options}

    return examples


def _outputs(dims: int) -> list[Any]:
    return [3, 1, 1, _one_for_each(dims, 2, 3, None), 7]


def _adaptive_examples(dims: int) -> Callable[[np.random.Generator], Iterable[dict[str, Any]]]:
    return lambda rng: (
        {"x": rng.standard_normal(shape), "output_size": output}
        for shape, output in zip(_SHAPES[dims], _outputs(dims), strict=True)
    )


def _adaptive_backward_examples(dims: int) -> Callable[[np.random.Generator], Iterable[dict[str, Any]]]:
    return lambda rng: (
        {"dy": rng.standard_normal((*shape[:2], *_output(dims, output, shape[2:]))), "x_shape": shape}
        for shape, output in zip(_SHAPES[dims], _outputs(dims), strict=True)
    )


def _global_examples(rng: np.random.Generator) -> Iterator[dict[str, Any]]:
    for shape in ((2, 3, 35), (1, 5, 7, 7), (3, 1, 1, 1), (2, 2, 3, 4, 17), (1, 1, 400, 3)):
        yield {"x": rng.standard_normal(shape)}


def _global_backward_examples(rng: np.random.Generator) -> Iterator[dict[str, Any]]:
    for example in _global_examples(rng):
        shape = example["x"].shape
        yield {"dy": rng.standard_normal(shape[:2]), "x_shape": shape}


def _fractional_examples(rng: np.random.Generator) -> Iterator[dict[str, Any]]:
    for i, (shape, output) in enumerate(
        (((2, 3, 9, 35), (6, 24)), ((1, 2, 12, 14), 8), ((2, 1, 5, 7), (5, 1)), ((3, 2, 10, 6), (9, 4)))
    ):
        yield {
            "x": _apart(rng, shape),
            "output_size": output,
            "seed": 2**63 + i,
            "offset": i,
            "pseudo_random": i % 2 == 0,
            "overlapping": i in (1, 2),
            "shared": SHARED[i % 3],
            "return_indices": True,
        }


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
        arguments=(_array("x", space), _KERNEL, _STRIDE, _PADDING, _DILATION, _CEIL, _INDICES_OPTION, _OUT),
        returns=(
            Argument(name="y", doc=f"array of x's dtype, {space} with the lengths below"),
            Argument(name="indices", doc=f"only with return_indices: array of y's shape, {_INDICES}"),
        ),
        source=_RIESENHUBER,
        notes=(_TIES, _SIZE.format(""), _COPIED),
        oracle=_max_oracle(dims),
        examples=_max_examples(dims),
        ulp=0,
        gradients=_gradients(name, by_position=True),
        bytes="reads x once, writes y once and 8 bytes an index where they are wanted",
        operations="3 for each element of a window, 5 with indices; rows that windows share are reduced once",
    )
    return forward, _scatter_row(name, space, _scatter_examples(dims))


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
        oracle=_scatter_oracle,
        scale=_scatter_scale,
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
        oracle=_average_oracle(dims),
        scale=lambda y, x, **options: _average_oracle(dims)(abs(x), **options),
        examples=_average_examples(dims),
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
        oracle=_average_backward_oracle(dims),
        scale=lambda dx, dy, **options: _average_backward_oracle(dims)(abs(dy), **options),
        examples=_average_backward_examples(dims),
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
        oracle=_adaptive_oracle(dims),
        scale=lambda y, x, output_size: _adaptive_oracle(dims)(abs(x), output_size),
        examples=_adaptive_examples(dims),
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
        oracle=_adaptive_backward_oracle,
        scale=lambda dx, dy, x_shape: _adaptive_backward_oracle(abs(dy), x_shape),
        examples=_adaptive_backward_examples(dims),
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
        oracle=_global_oracle,
        scale=lambda y, x: _global_oracle(abs(x)),
        examples=_global_examples,
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
        oracle=_global_backward_oracle,
        examples=_global_backward_examples,
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
                doc="False: sizes in random order. True: edges at ceil(a (i + u)) with a random u for each axis, evenly spread",
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
            _OUT,
        ),
        returns=(
            Argument(name="y", doc="array of x's dtype, (N, C, *output_size)"),
            Argument(name="indices", doc=f"only with return_indices: array of y's shape, {_INDICES}"),
        ),
        source=_GRAHAM,
        notes=(
            "Sizes are floor(in / out) and the next whole number: 1 and 2 for ratios between them. The regions cover "
            "the input; backward needs no seed, but indices.",
            "For test time Graham averages the network's output over several draws: the next offsets.",
            _TIES,
            "Memory beyond the results: 16 bytes for each row and each column of regions of each plane.",
        ),
        oracle=_fractional_oracle,
        examples=_fractional_examples,
        ulp=0,
        gradients=_gradients("fractional_max_pool2d", by_position=True),
        bytes="reads x once, writes y once and 8 bytes an index where they are wanted",
        operations="3 an element of a region, one at a time",
    ),
    _scatter_row("fractional_max_pool2d", _SPACE[2], _scatter_examples(2)),
)

ROWS: tuple[Function, ...] = (
    *(row for dims in (1, 2, 3) for row in _max_rows(dims)),
    *(row for dims in (1, 2, 3) for row in _average_rows(dims)),
    *(row for dims in (1, 2, 3) for row in _adaptive_rows(dims)),
    *_GLOBAL,
    *_FRACTIONAL,
)
