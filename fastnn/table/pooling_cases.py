"""The oracles of the rows of pooling, on arrays as the public functions take them, and arguments worth testing."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from fastnn import windows
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


def max_oracle(dims: int) -> Callable[..., Any]:
    def oracle(x: Any, return_indices: bool = False, indices: Any = None, **arguments: Any) -> Any:
        y, where = max_windows(_planes(x), windows.for_kernels(_axes(dims, x.shape, arguments, False)))
        results = _back(y, x.shape, dims), _back(where, x.shape, dims)
        return results if return_indices or indices is not None else results[0]

    return oracle


def scatter_oracle(dy: Any, indices: Any, x_shape: Any) -> Any:
    planes = (x_shape[0] * x_shape[1], *x_shape[2:])
    return max_backward(dy.reshape(planes[0], -1), indices, planes).reshape(x_shape)


def scatter_scale(dx: Any, dy: Any, indices: Any, x_shape: Any) -> Any:
    return scatter_oracle(abs(dy), indices, x_shape)


def average_oracle(dims: int) -> Callable[..., Any]:
    def oracle(x: Any, count_include_pad: bool = True, **arguments: Any) -> Any:
        axes = _axes(dims, x.shape, arguments, count_include_pad)
        y = average_windows(_planes(x), windows.for_kernels(axes), windows.counts(axes, count_include_pad))
        return _back(y, x.shape, dims)

    return oracle


def average_backward_oracle(dims: int) -> Callable[..., Any]:
    def oracle(dy: Any, x_shape: Any, count_include_pad: bool = True, **arguments: Any) -> Any:
        axes = _axes(dims, x_shape, arguments, count_include_pad)
        dx = average_windows_backward(_planes(dy), windows.for_kernels(axes), windows.counts(axes, count_include_pad))
        return dx.reshape(x_shape)

    return oracle


def _output(dims: int, output_size: Any, spatial: tuple[int, ...]) -> tuple[int, ...]:
    sizes = output_size if isinstance(output_size, tuple) else (output_size,) * dims
    return tuple(length if size is None else size for size, length in zip(sizes, spatial, strict=True))


def adaptive_oracle(dims: int) -> Callable[..., Any]:
    def oracle(x: Any, output_size: Any) -> Any:
        spatial = tuple(x.shape[2:])
        return _back(
            average_regions(_planes(x), *windows.adaptive(spatial, _output(dims, output_size, spatial))), x.shape, dims
        )

    return oracle


def adaptive_backward_oracle(dy: Any, x_shape: Any) -> Any:
    bounds = windows.adaptive(tuple(x_shape[2:]), tuple(dy.shape[2:]))
    planes = (x_shape[0] * x_shape[1], *(1,) * (5 - len(x_shape)), *x_shape[2:])
    return average_regions_backward(_planes(dy), *bounds, planes).reshape(x_shape)


def global_oracle(x: Any) -> Any:
    return x.reshape(*x.shape[:2], -1).mean(-1)


def global_backward_oracle(dy: Any, x_shape: Any) -> Any:
    share = dy / dy.dtype.type(math.prod(x_shape[2:]))
    return np.broadcast_to(share.reshape(*dy.shape, *(1,) * (len(x_shape) - 2)), x_shape).copy()


def fractional_oracle(
    x: Any,
    output_size: Any,
    *,
    seed: int,
    offset: int = 0,
    pseudo_random: bool = False,
    overlapping: bool = False,
    shared: str = "sample",
    return_indices: bool = False,
    indices: Any = None,
) -> Any:
    output = _output(2, output_size, x.shape[2:])
    bounds = fractional_bounds(x.shape[:2], x.shape[2:], output, seed, offset, pseudo_random, overlapping, shared)
    y, where = max_regions(_planes(x), *bounds)
    results = _back(y, x.shape, 2), _back(where, x.shape, 2)
    return results if return_indices or indices is not None else results[0]


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


def max_examples(dims: int) -> Callable[[np.random.Generator], Iterable[dict[str, Any]]]:
    return lambda rng: (
        {"x": _apart(rng, shape), **options, "return_indices": True, "indices": None}
        for shape, options in zip(_SHAPES[dims], _options(dims, True), strict=True)
    )


def scatter_examples(dims: int) -> Callable[[np.random.Generator], Iterable[dict[str, Any]]]:
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


def average_examples(dims: int) -> Callable[[np.random.Generator], Iterable[dict[str, Any]]]:
    return lambda rng: (
        {"x": rng.standard_normal(shape), **options}
        for shape, options in zip(_SHAPES[dims], _average_options(dims), strict=True)
    )


def average_backward_examples(dims: int) -> Callable[[np.random.Generator], Iterable[dict[str, Any]]]:
    def examples(rng: np.random.Generator) -> Iterator[dict[str, Any]]:
        for shape, options in zip(_SHAPES[dims], _average_options(dims), strict=True):
            axes = _axes(dims, shape, options, options["count_include_pad"])
            outputs = (*shape[:2], *(axis.out for axis in axes))
            yield {"dy": rng.standard_normal(outputs), "x_shape": shape, **options}

    return examples


def _outputs(dims: int) -> list[Any]:
    return [3, 1, 1, _one_for_each(dims, 2, 3, None), 7]


def adaptive_examples(dims: int) -> Callable[[np.random.Generator], Iterable[dict[str, Any]]]:
    return lambda rng: (
        {"x": rng.standard_normal(shape), "output_size": output}
        for shape, output in zip(_SHAPES[dims], _outputs(dims), strict=True)
    )


def adaptive_backward_examples(dims: int) -> Callable[[np.random.Generator], Iterable[dict[str, Any]]]:
    return lambda rng: (
        {"dy": rng.standard_normal((*shape[:2], *_output(dims, output, shape[2:]))), "x_shape": shape}
        for shape, output in zip(_SHAPES[dims], _outputs(dims), strict=True)
    )


def global_examples(rng: np.random.Generator) -> Iterator[dict[str, Any]]:
    for shape in ((2, 3, 35), (1, 5, 7, 7), (3, 1, 1, 1), (2, 2, 3, 4, 17), (1, 1, 400, 3)):
        yield {"x": rng.standard_normal(shape)}


def global_backward_examples(rng: np.random.Generator) -> Iterator[dict[str, Any]]:
    for example in global_examples(rng):
        shape = example["x"].shape
        yield {"dy": rng.standard_normal(shape[:2]), "x_shape": shape}


def fractional_examples(rng: np.random.Generator) -> Iterator[dict[str, Any]]:
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
            "indices": None,
        }
