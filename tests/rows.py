"""The rows of the table of functions, made to run: examples in every dtype, repeatable calls, checks of promises."""

from __future__ import annotations

import contextlib
import importlib.util
import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from layouts import DTYPES, active, assert_same_bits, bits

import fastnn as fnn
from fastnn.arguments import parameter_dtype
from fastnn.function import Function
from fastnn.kernels.cpu import runtime
from fastnn.table import FUNCTIONS

Array = npt.NDArray[Any]
Example = dict[str, Any]
ROWS = tuple(FUNCTIONS.values())
FAMILIES = tuple(dict.fromkeys(row.family for row in ROWS))

# Every instruction set of the native backend, and the other backends.
RUNS = [*runtime.isas(), "reference", *(["numba"] if importlib.util.find_spec("numba") else [])]
FUSED = [isa for isa in runtime.isas() if isa != "v2"]  # those that promise the same bits
# Numba compiles everything anew for every dtype: there, float32 for all rows, and these for the other dtypes.
REPRESENTATIVE = ("softmax",)


@cache
def examples(row: Function) -> tuple[Example, ...]:
    """The row's examples, the same ones every time, in float64."""
    return tuple(row.examples(np.random.default_rng(zlib.crc32(row.name.encode()))))


def argument_names(row: Function, *roles: str) -> list[str]:
    """The names of the row's arguments of these roles, of all of them by default."""
    return [argument.name for argument in row.arguments if not roles or argument.role in roles]


def in_place(row: Function) -> list[str]:
    """The arguments that a call changes, for their documentation says so."""
    return [argument.name for argument in row.arguments if "in place" in argument.doc]


def mapped(value: Any, change: Callable[[Array], Any]) -> Any:
    """`value` with every array in it changed: in lists and tuples too."""
    if isinstance(value, np.ndarray):
        return change(value)
    if isinstance(value, (list, tuple)):
        return type(value)(mapped(item, change) for item in value)
    return value


def arrays_in(value: Any) -> list[Array]:
    """The arrays in a value: itself, or the items of a list."""
    found: list[Array] = []
    mapped(value, lambda array: found.append(array) or array)
    return found


def cast(row: Function, example: Example, dtype: npt.DTypeLike) -> Example:
    """An example as a caller who works in `dtype` would write it."""
    storage = np.dtype(dtype)
    wanted = {"array": storage, "parameter": parameter_dtype(storage)}
    roles = {argument.name: argument.role for argument in row.arguments}

    def convert(array: Array, role: str) -> Array:
        with np.errstate(all="ignore"):
            return array.astype(wanted[role]) if array.dtype.kind == "f" and role in wanted else array.copy()

    return {name: mapped(value, lambda a, name=name: convert(a, roles[name])) for name, value in example.items()}


def widened(arguments: Example, dtype: npt.DTypeLike = np.float64) -> Example:
    """The same numbers in float64, or wider."""

    def widen(array: Array) -> Array:
        return array.copy() if array.dtype.kind in "iub" else array.astype(dtype)

    return {name: mapped(value, widen) for name, value in arguments.items()}


def as_tuple(results: Any) -> tuple[Any, ...]:
    return results if isinstance(results, tuple) else (results,)


def call(row: Function, arguments: Example, relayout: Callable[[Array], Array] = np.copy, **more: Any) -> list[Any]:
    """The results, followed by what the call has done to the arguments it changes. It must not touch the others."""
    given = {name: mapped(value, relayout) for name, value in arguments.items()}
    results = as_tuple(getattr(fnn, row.name)(**given, **more))
    assert len(results) == len(row.returns), f"{len(results)} results; the row has {len(row.returns)}"
    changed: list[Any] = []
    for name, value in arguments.items():
        for before, after in zip(arrays_in(value), arrays_in(given[name]), strict=True):
            if name in in_place(row):
                changed.append(after)
            else:
                np.testing.assert_array_equal(bits(after), bits(before), err_msg=f"{row.name} has changed {name}")
    return [*results, *changed]


@contextlib.contextmanager
def using(run: str) -> Iterator[None]:
    """Select one of RUNS for a while."""
    if run in runtime.isas():
        with active(run):
            yield
    else:
        with fnn.use(run):
            yield


def runs(row: Function, dtype: np.dtype[Any]) -> list[str]:
    """Where to run a row in `dtype`."""
    few = dtype != np.float32 and row.name not in REPRESENTATIVE
    return [run for run in RUNS if not (few and run == "numba")]


def assert_same(got: Sequence[Any], expected: Sequence[Any]) -> None:
    """The same results to the last bit, None for None; a result may be a list of arrays."""
    assert len(got) == len(expected)
    for one, other in zip(got, expected, strict=True):
        assert (one is None) == (other is None)
        if isinstance(one, list):
            assert_same(one, other)
        elif one is not None:
            assert_same_bits(one, other)


def exact_results(row: Function, arguments: Example) -> tuple[list[Any], list[Any]]:
    """What the oracle says of these arguments, and in the ulp of what errors are counted.

    float64 itself is judged in long double, where the oracle's operations keep to the type of their arguments.
    """
    dtypes = {array.dtype for value in arguments.values() for array in arrays_in(value)}
    wide = widened(arguments, np.longdouble if np.dtype(np.float64) in dtypes else np.float64)
    before = widened(wide, np.longdouble)
    with np.errstate(all="ignore"):
        results = row.oracle(**wide)
        for name, value in before.items():
            for kept, now in zip(arrays_in(value), arrays_in(wide[name]), strict=True):
                np.testing.assert_array_equal(kept, now, err_msg=f"the oracle of {row.name} has changed {name}")
        scales = None if row.scale is None else row.scale(results, **wide)
    exact = list(as_tuple(results))
    assert len(exact) == len(row.returns), f"the oracle has {len(exact)} results; the row {len(row.returns)}"
    return exact, [None] * len(exact) if scales is None else list(as_tuple(scales))


def assert_promise(row: Function, got: list[Any], arguments: Example) -> None:
    """Assert that the results are as near to the oracle's as the row promises."""
    exact, scales = exact_results(row, arguments)
    for result, value, want, scale, ulps in zip(row.returns, got, exact, scales, row.ulps, strict=False):
        several = isinstance(want, list)
        values, wants, sizes = (item if several else [item] for item in (value, want, want if scale is None else scale))
        for value, want, size in zip(values, wants, sizes, strict=True):
            assert (value is None) == (want is None), f"{row.name}: {result.name} is {value!r}, not {want!r}"
            if want is not None:
                assert np.shape(value) == np.shape(want), f"{row.name}: shape of {result.name}"
                problem = beyond(np.asarray(value), np.asarray(want), size, ulps)
                assert problem is None, f"{row.name}: {result.name} {problem}"


def beyond(got: Array, exact: Array, scale: Any, ulps: float) -> str | None:
    """The worst of the elements of `got` that are further from `exact` than promised, in words.

    float16 and bfloat16 must be what rounding gives of a float32 result within the promise.
    """
    if got.dtype.kind in "iub" or exact.dtype.kind in "iub":
        wrong = np.flatnonzero(np.ravel(got != exact))
        return f"differs from the exact one in {wrong.size} places, first {wrong[0]}" if wrong.size else None
    single = np.dtype(np.float64 if got.dtype == np.float64 else np.float32)
    info = np.finfo(single)
    with np.errstate(all="ignore"):
        size = np.broadcast_to(np.abs(np.asarray(scale)).astype(exact.dtype), exact.shape)
        _, exponent = np.frexp(np.fmax(size, np.asarray(info.smallest_normal, exact.dtype)))
        ulp = np.ldexp(np.ones_like(exact), exponent - info.nmant - 1)
        # Rounding does not change the order of numbers: whoever is within the promise, rounded, is within it, rounded.
        low, high = ((exact + side * ulps * ulp).astype(single).astype(got.dtype) for side in (-1, 1))
        inside = (low <= got) & (got <= high) | (np.isnan(exact) & (got != got))
        inside &= (got == got) | np.isnan(exact)
        if inside.all():
            return None
        # float64 results next to the bound, where low and high have been rounded themselves
        error = np.where(got == exact, 0, np.abs(got.astype(exact.dtype) - exact) / ulp)
        error = np.where(inside, 0, np.where(np.isnan(error), np.inf, error)).ravel()
    worst = int(error.argmax())
    where = tuple(map(int, np.unravel_index(worst, exact.shape)))
    return (
        f"is beyond {ulps:g} ULP in {np.count_nonzero(~inside)} of {inside.size} places, worst at {where}: "
        f"{got[where]!r} is {error[worst]:.3g} ULP from {exact[where]!r}"
    )


def all_dtypes() -> list[np.dtype[Any]]:
    return list(DTYPES.values())
