"""Every row of the table of functions: complete, true to its function, and kept on every backend."""

from __future__ import annotations

import importlib
import inspect
import os
import re
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from layouts import DTYPES, misaligned, num_threads
from rows import (
    FAMILIES,
    FUSED,
    ROWS,
    Array,
    Example,
    argument_names,
    arrays_in,
    as_tuple,
    assert_promise,
    assert_same,
    call,
    cast,
    examples,
    in_place,
    mapped,
    runs,
    using,
    widened,
)

import fastnn as fnn
from fastnn import functions
from fastnn.dispatch import BACKENDS
from fastnn.docstrings import function_doc
from fastnn.function import Function
from fastnn.table import FUNCTIONS, OPS

pytestmark = pytest.mark.filterwarnings("error")
every_row = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
every_dtype = pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
with_arrays = pytest.mark.parametrize(
    "row", [row for row in ROWS if argument_names(row, "array")], ids=lambda row: row.name
)
with_out = pytest.mark.parametrize("row", [row for row in ROWS if "out" in argument_names(row)], ids=lambda r: r.name)
FLOAT32 = np.dtype(np.float32)


# ---- rows and functions ----


@every_row
def test_row_is_complete(row: Function) -> None:
    assert row.name.isidentifier() and row.name == row.name.lower() and row.name not in OPS
    texts = [row.title, row.formula, row.source, row.bytes, row.operations, *row.notes]
    for item in (*row.arguments, *row.returns):
        assert item.name.isidentifier()
        texts.append(item.doc)
    for text in texts:
        assert text and text.isascii() and text == text.strip()
    assert not row.title.endswith(".") and "\n" not in row.title
    assert re.search(r"\b(18|19|20)\d\d\b", row.source), "the source names its year"
    assert row.returns and len(row.ulps) == len(row.returns) and min(row.ulps) >= 0
    names = argument_names(row)
    assert len(set(names)) == len(names)


@every_row
def test_gradients_belong_to_a_function(row: Function) -> None:
    if row.gradient_of is not None:
        forward = FUNCTIONS[row.gradient_of]
        assert forward.gradients is not None and forward.family == row.family and forward.gradient_of is None
    if row.gradients is not None:
        assert row.gradient_of is None


@every_row
def test_examples_show_every_argument_and_are_repeatable(row: Function) -> None:
    shown = examples(row)
    used = {name for example in shown for name in example}
    assert used == set(argument_names(row)) - {"out"}
    examples.cache_clear()
    for one, other in zip(shown, examples(row), strict=True):
        assert one.keys() == other.keys()
        for name, value in one.items():
            for a, b in zip(arrays_in(value), arrays_in(other[name]), strict=True):
                np.testing.assert_array_equal(a, b)
                assert a.dtype == np.float64 or a.dtype.kind in "iub", f"{name} has dtype {a.dtype}"


@every_row
def test_signature_and_help(row: Function) -> None:
    function = getattr(fnn, row.name)
    assert function.__name__ == row.name and function.__module__ == "fastnn"
    assert row.name in fnn.__all__ and row.name in functions.__all__ and row.name in dir(fnn)
    assert function.__doc__ == function_doc(row, function)
    signature = inspect.signature(function)
    assert list(signature.parameters) == argument_names(row)
    assert all(p.annotation is not p.empty for p in signature.parameters.values())
    assert signature.return_annotation is not signature.empty
    for argument in row.arguments:
        default = signature.parameters[argument.name].default
        if argument.role == "array" and default is inspect.Parameter.empty:
            assert signature.parameters[argument.name].kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
        if argument.name != "out" and default is not None and default is not inspect.Parameter.empty:
            assert f"(default {default!r})" in " ".join(function.__doc__.split()), argument.name
    if "out" in signature.parameters:
        assert signature.parameters["out"].default is None


def test_every_public_function_has_a_row() -> None:
    assert set(functions.__all__) == set(FUNCTIONS)
    for family in FAMILIES:
        rows = importlib.import_module(f"fastnn.table.{family}").ROWS
        public = importlib.import_module(f"fastnn.functions.{family}").__all__
        assert {row.name for row in rows} == {row.name for row in ROWS if row.family == family} == set(public)


@pytest.mark.parametrize("family", FAMILIES)
def test_three_backends_with_the_same_kernels(family: str) -> None:
    pytest.importorskip("numba")
    native, *others = (importlib.import_module(f"{path}.{family}") for path in BACKENDS.values())
    kernels = {name: value for name, value in vars(native).items() if is_kernel(native, name, value)}
    assert kernels
    for name, kernel in kernels.items():
        expected = list(inspect.signature(kernel).parameters)
        for module in others:
            assert list(inspect.signature(getattr(module, name)).parameters) == expected, (module.__name__, name)


def is_kernel(module: Any, name: str, value: Any) -> bool:
    """A function: classes hold what only sessions on native kernels use."""
    own = getattr(value, "__module__", None) == module.__name__
    return own and callable(value) and not isinstance(value, type) and not name.startswith("_")


# ---- results ----


@every_dtype
@every_row
def test_promise_is_kept(row: Function, dtype: np.dtype[Any]) -> None:
    """On every instruction set and backend; and the same bits from v3 and v4, and for 1, 2 and 3 threads."""
    for example in examples(row):
        arguments = cast(row, example, dtype)
        results: dict[str, list[Any]] = {}
        for run in runs(row, dtype):
            with using(run):
                results[run] = call(row, arguments)
            assert_promise(row, results[run], arguments)
        for isa in FUSED:
            assert_same(results[isa], results[FUSED[0]])
        for count in (1, 2, 3):
            with num_threads(count):
                assert_same(call(row, arguments), results[(FUSED or runs(row, dtype))[-1]])


@every_row
def test_dtypes_of_results(row: Function) -> None:
    """Those of the arrays or of what is computed in, whatever the backend."""
    for dtype in DTYPES.values():
        arguments = cast(row, examples(row)[0], dtype)
        expected = result_dtypes(call(row, arguments))
        single = np.dtype(np.float64 if dtype == np.float64 else np.float32)
        assert {kind for kind in expected if isinstance(kind, np.dtype) and kind.kind in "fV"} <= {dtype, single}
        for run in runs(row, dtype):
            with using(run):
                assert result_dtypes(call(row, arguments)) == expected, run


def result_dtypes(results: list[Any]) -> list[Any]:
    """The dtype of each array, and what other results are."""
    items = [item for result in results for item in (result if isinstance(result, list) else [result])]
    return [item.dtype if hasattr(item, "dtype") else type(item) for item in items]


@every_row
def test_integers_and_lists_are_promoted(row: Function) -> None:
    """They give what their float64 values give, unless they are refused because they are changed in place."""
    example = examples(row)[0]
    names = [
        name for name in argument_names(row, "array") if arrays_in(example.get(name)) and name not in in_place(row)
    ]
    rounded = {
        name: mapped(value, lambda a: np.rint(4 * a) + 0.0 if a.dtype.kind == "f" else a) if name in names else value
        for name, value in cast(row, example, np.float64).items()
    }
    expected = call(row, rounded)
    integers = {
        name: mapped(value, lambda a: a.astype(np.int64)) if name in names else value for name, value in rounded.items()
    }
    assert_same(call(row, integers), expected)
    lists = {name: mapped(value, np.ndarray.tolist) if name in names else value for name, value in rounded.items()}
    assert_same(call(row, lists), expected)


@every_row
def test_nan_is_not_swallowed(row: Function) -> None:
    """Wherever the oracle says NaN, so does every backend; and infinity is no reason for warnings.

    Whether padding, a zero that some kernels leave out, makes NaN of a weight that is NaN is left open.
    """
    for example in examples(row):
        given = cast(row, example, FLOAT32)
        for name in argument_names(row, "array", "parameter"):
            for special in (np.nan, np.inf, -np.inf):
                arguments = {**given, name: mapped(given.get(name), lambda a, special=special: sprinkled(a, special))}
                if not arrays_in(arguments[name]):
                    continue
                with np.errstate(all="ignore"):
                    expected = as_tuple(row.oracle(**widened(arguments)))
                for run in runs(row, FLOAT32):
                    with using(run):
                        try:
                            got = call(row, arguments)
                        except ValueError as error:
                            assert str(error).startswith(row.name)
                            continue
                    if np.isnan(special) and row.family != "convolution":
                        for value, want in zip(got, expected, strict=False):
                            if isinstance(want, np.ndarray) and want.dtype.kind == "f":
                                assert np.isnan(value[np.isnan(want)]).all(), f"{run}, NaN in {name}"


def sprinkled(array: Array, special: float) -> Array:
    """A copy with one and the same value in it here and there."""
    copy = array.copy()
    if array.dtype.kind == "f":
        copy.reshape(-1)[::7] = special
    return copy


def test_calls_from_many_threads() -> None:
    """Whatever memory kernels keep between calls, no two calls share it at a time."""
    cases = [(row, cast(row, example, FLOAT32)) for row in ROWS for example in examples(row)]
    expected = [call(row, arguments) for row, arguments in cases]

    def work(seed: int) -> None:
        for index in np.random.default_rng(seed).permutation(len(cases)):
            assert_same(call(*cases[index]), expected[index])

    with ThreadPoolExecutor(6) as threads:
        list(threads.map(work, range(6)))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no os.fork here")
def test_calls_in_a_forked_child() -> None:
    """Whatever memory kernels keep between calls, a child has its own."""
    code = f"""if True:
        import os, sys
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        import numpy as np
        from rows import ROWS, assert_same, call, cast, examples
        cases = [(row, cast(row, example, np.float32)) for row in ROWS for example in examples(row)]
        expected = [call(*case) for case in cases]
        for _ in range(2):
            child = os.fork()
            if child == 0:
                for case, results in zip(cases, expected):
                    assert_same(call(*case), results)
                print("the same")
                sys.stdout.flush()
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.stdout.split() == ["the", "same"] * 2, done.stderr


# ---- layouts ----


def spread(array: Array) -> Array:
    """A copy whose elements lie apart, backwards along every second axis."""
    steps = [(-1) ** axis * (axis + 2) for axis in range(array.ndim)]
    room = np.zeros([length * abs(step) for length, step in zip(array.shape, steps, strict=True)], array.dtype)
    view = room[(..., *(slice(None, None, abs(step)) for step in steps))]
    view = view[(..., *(slice(None, None, 1 if step > 0 else -1) for step in steps))]
    view[...] = array
    return view


LAYOUTS: dict[str, Callable[[Array], Array]] = {
    "Fortran order": lambda array: np.array(array, order="F"),
    "misaligned": misaligned,
    "apart": spread,
}


@pytest.mark.parametrize("layout", LAYOUTS)
@every_row
def test_layouts_give_the_same_bits(row: Function, layout: str) -> None:
    for example in examples(row):
        arguments = cast(row, example, FLOAT32)
        expected = call(row, arguments)
        assert_same(call(row, arguments, LAYOUTS[layout]), expected)


@with_out
def test_results_go_where_they_are_wanted(row: Function) -> None:
    for dtype in (FLOAT32, DTYPES["float16"]):
        for example in examples(row):
            arguments = cast(row, example, dtype)
            expected = call(row, arguments)
            for layout in (np.copy, *LAYOUTS.values()):
                out = layout(np.full_like(np.asarray(expected[row.out_result]), 77))
                got = call(row, arguments, out=out)
                assert got[row.out_result] is out
                assert_same(got, expected)


@with_out
def test_out_that_is_an_argument(row: Function) -> None:
    """It is taken or refused, never a wrong result; and memory that overlaps otherwise likewise."""
    example = cast(row, examples(row)[0], FLOAT32)
    expected = call(row, example)
    written = expected[row.out_result]
    for name in argument_names(row, "array"):
        value = example.get(name)
        if not isinstance(value, np.ndarray) or value.dtype != written.dtype or name in in_place(row):
            continue
        for shift in (0, 1):
            room = np.zeros(value.size + written.size + shift, value.dtype)
            given = {key: mapped(other, np.copy) for key, other in example.items()}
            given[name] = room[: value.size].reshape(value.shape)
            given[name][...] = value
            out = room[shift : shift + written.size].reshape(written.shape)
            try:
                results = as_tuple(getattr(fnn, row.name)(**given, out=out))
            except ValueError as error:
                assert re.match(rf"{row.name}: out .*\b{name}\b", str(error)), error
                np.testing.assert_array_equal(given[name], value)
            else:
                assert results[row.out_result] is out
                assert_same(list(results), expected[: len(results)])


# ---- what is refused ----


def refused(row: Function, given: Example, error: type[Exception] | tuple[type[Exception], ...], name: str) -> None:
    """Refused with a message that names function and argument, and nothing is changed."""
    before = {key: mapped(value, np.copy) for key, value in given.items()}
    with pytest.raises(error, match=rf"^{row.name}: .*\b{name}\b"):
        getattr(fnn, row.name)(**given)
    for key, value in before.items():
        for kept, now in zip(arrays_in(value), arrays_in(given[key]), strict=True):
            if now.dtype != object:
                assert now.tobytes() == kept.tobytes(), key


def ready(row: Function) -> Example:
    return cast(row, examples(row)[0], FLOAT32)


WRONG: dict[str, Callable[[Array], Array]] = {
    "complex": lambda array: array.astype(np.complex64),
    "object": lambda array: array.astype(object),
    "text": lambda array: array.astype(str),
    "dates": lambda array: array.astype("m8[s]"),
    "long double": lambda array: array.astype(np.longdouble),
    "non-native byte order": lambda array: array.astype(array.dtype.newbyteorder()),
}


@pytest.mark.parametrize("wrong", WRONG)
@with_arrays
def test_arrays_of_the_wrong_kind(row: Function, wrong: str) -> None:
    given = ready(row)
    for name in argument_names(row, "array", "parameter"):
        if arrays_in(given.get(name)) and arrays_in(given[name])[0].dtype == FLOAT32:
            refused(row, {**given, name: mapped(given[name], WRONG[wrong])}, TypeError, name)


@with_arrays
def test_arguments_that_are_no_arrays(row: Function) -> None:
    given = ready(row)
    signature = inspect.signature(getattr(fnn, row.name))
    for name in argument_names(row, "array"):
        if isinstance(given.get(name), np.ndarray):
            for wrong in ("text", object(), {"a": 1}, [[1.0], [2.0, 3.0]], None):
                if wrong is not None or signature.parameters[name].default is inspect.Parameter.empty:
                    refused(row, {**given, name: wrong}, TypeError, name)


@every_row
def test_read_only_arguments(row: Function) -> None:
    """They are read as any others, and refused where they are to be changed."""
    given = ready(row)
    expected = call(row, given)

    def frozen(array: Array) -> Array:
        copy = array.copy()
        copy.flags.writeable = False
        return copy

    changing = [name for name in in_place(row) if arrays_in(given.get(name))]
    for name in changing:
        refused(row, {**given, name: mapped(given[name], frozen)}, ValueError, name)
    if not changing:
        assert_same(call(row, given, frozen), expected)


@with_out
def test_out_that_cannot_take_the_result(row: Function) -> None:
    given = ready(row)
    result = np.asarray(call(row, given)[row.out_result])
    frozen = np.zeros_like(result)
    frozen.flags.writeable = False
    cases: list[tuple[Any, type[Exception]]] = [
        (frozen, ValueError),
        (np.zeros(result.shape, np.float64), TypeError),
        (np.zeros(result.shape, np.int32), TypeError),
        (np.zeros(result.shape, result.dtype.newbyteorder()), TypeError),
        (np.zeros((*result.shape, 1), result.dtype), ValueError),
        (result.tolist(), TypeError),
    ]
    if result.size > 1:
        cases.append((np.broadcast_to(result.ravel()[:1], result.shape), ValueError))
    for out, error in cases:
        refused(row, {**given, "out": out}, error, "out")


@every_row
def test_unknown_arguments(row: Function) -> None:
    with pytest.raises(TypeError, match=row.name):
        getattr(fnn, row.name)(**ready(row), no_such_argument=1)


def answered_or_refused(row: Function, given: Example, what: str) -> list[Any]:
    """Whatever is passed: the shapes of the results, or an error that names the function."""
    try:
        results = as_tuple(getattr(fnn, row.name)(**{name: mapped(value, np.copy) for name, value in given.items()}))
    except MemoryError:
        return [MemoryError]
    except (TypeError, ValueError) as error:
        assert str(error).startswith(row.name), f"{what}: {error}"
        return [type(error)]
    return [list(map(np.shape, result)) if isinstance(result, list) else np.shape(result) for result in results]


def strange(array: Array) -> dict[str, Array]:
    """Arrays of other shapes made of an array."""
    shapes = {"0-d": array.reshape(-1)[:1].reshape(()) if array.size else array, "flat": array.reshape(-1)}
    shapes |= {"one axis more": array[..., None], "one more in front": array[None]}
    for axis in range(array.ndim):
        shapes[f"nothing along axis {axis}"] = np.take(array, [], axis=axis)
        shapes[f"twice along axis {axis}"] = np.concatenate([array, array], axis=axis)
        shapes[f"one less along axis {axis}"] = np.delete(array, slice(1), axis=axis)
        shapes[f"one along axis {axis}"] = array.take([0], axis=axis, mode="clip") if array.size else array
    return shapes


@every_row
def test_strange_shapes(row: Function) -> None:
    """Every backend gives the same answer."""
    for example in examples(row):
        given = cast(row, example, FLOAT32)
        arrays = [name for name, value in given.items() if isinstance(value, np.ndarray)]
        cases = [{name: (what, array)} for name in arrays for what, array in strange(given[name]).items()]
        together = zip(*(strange(given[name]).items() for name in arrays), strict=False)
        cases += [dict(zip(arrays, changed, strict=True)) for changed in together]
        for case in cases:
            what = ", ".join(f"{name}: {kind}" for name, (kind, _) in case.items())
            changed = {**given, **{name: array for name, (_, array) in case.items()}}
            expected = answered_or_refused(row, changed, what)
            for run in runs(row, FLOAT32)[1:]:
                with using(run):
                    assert answered_or_refused(row, changed, f"{run}, {what}") == expected, f"{run}, {what}"


STRANGE = [
    *(None, -1, 0, 3, 10**30, -(10**30), 2**63, True, 0.5, -0.5, np.nan, np.inf, 1j, "", "relu", b"same"),
    *(
        [],
        (),
        (1, 2),
        (0, 0),
        (-1, -1),
        (2**62, 2),
        ((1, 2), (3, 4)),
        ((1, 2, 3),),
        {},
        object(),
        ("leaky_relu", np.nan),
    ),
    *(np.int8(1), np.uint64(2**63), np.float32(0.5), np.array(1), np.array([1, 2]), np.array(0.5)),
]


@every_row
def test_strange_options(row: Function) -> None:
    for example in examples(row)[:2]:
        given = cast(row, example, FLOAT32)
        for name in argument_names(row, "option"):
            if not isinstance(given.get(name), np.ndarray):
                for value in STRANGE:
                    answered_or_refused(row, {**given, name: value}, f"{name}={value!r}")
