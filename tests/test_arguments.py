"""Bad input: a TypeError or ValueError that names the function, the argument, what came and what was expected.

Nothing is written then.
"""

from __future__ import annotations

import decimal
import fractions
import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from layouts import BACKENDS, DTYPES, PASSES, Array, Pass, assert_same_bits, using

import fastnn as fnn
from fastnn.table import OPS

pytestmark = pytest.mark.filterwarnings("error")
every_pass = pytest.mark.parametrize("run", PASSES, ids=repr)
every_backend = pytest.mark.parametrize("backend", BACKENDS)
with_params = [run for run in PASSES if run.op.params]
x32 = np.linspace(-3, 3, 7, dtype=np.float32)


def refused(error: type[Exception], call: Callable[..., Any], *args: Any, message: str, **kwargs: Any) -> None:
    """The call raises exactly this error, with a message of which `message` is a pattern."""
    with pytest.raises(error) as caught:
        call(*args, **kwargs)
    assert caught.type is error, caught.value
    assert re.search(message, str(caught.value)), str(caught.value)
    assert len(str(caught.value)) < 300 and "\n" not in str(caught.value)


class OptsOut:
    __array_ufunc__ = None


NOT_ARRAYS: dict[str, tuple[Any, str]] = {
    "complex": (x32.astype(complex), r"has dtype complex128; expected float16, bfloat16, float32, float64"),
    "complex number": (1j, "has dtype complex128; expected"),
    "object array": (np.array([None, 1.0]), "has dtype object; expected"),
    "strings": (np.array(["a"]), "has dtype <U1; expected"),
    "str": ("abc", "has dtype <U3; expected"),
    "bytes": (b"abc", r"has dtype \|S3; expected"),
    "dates": (np.array(["2020"], "M8[D]"), r"has dtype datetime64\[D\]; expected"),
    "times": (np.array([1], "m8[s]"), r"has dtype timedelta64\[s\]; expected"),
    "long double": (x32.astype(np.longdouble), "has dtype .*; expected"),
    "structured": (np.zeros(3, [("a", "f4")]), r"has dtype \[\('a', '<f4'\)\]; expected"),
    "non-native": (x32.astype(">f4"), r"has non-native byte order \(>f4\); convert it with \w+\.astype"),
    "non-native float16": (x32.astype(">f2"), "has non-native byte order"),
    "non-native integers": (np.arange(3, dtype=">i4"), "has non-native byte order"),
    "ragged": ([[1.0, 2.0], [3.0]], "is a list that NumPy makes no array of: .*inhomogeneous"),
    "None": (None, "is None, of which NumPy makes an array of dtype object; expected an array"),
    "dict": ({}, "is a dict, of which .* dtype object; expected an array"),
    "set": ({1.0}, "is a set, of which"),
    "function": (len, "is a builtin_function_or_method, of which"),
    "large int": (10**30, "is an int, of which"),
    "opts out": (OptsOut(), "is an OptsOut, of which"),
}
if np.dtype(np.longdouble) == np.float64:
    del NOT_ARRAYS["long double"]


@pytest.mark.parametrize("kind", NOT_ARRAYS)
def test_what_is_no_array_of_real_numbers(kind: str) -> None:
    wrong, message = NOT_ARRAYS[kind]
    out = np.full(7, 5, np.float32)
    for run in PASSES:
        names = ["x"] if run.arrays == 1 else ["dy", "saved"]
        for k, name in enumerate(names):
            arguments = [x32] * run.arrays
            arguments[k] = wrong
            for given in (None, out):
                refused(TypeError, run, *arguments, out=given, message=rf"^{run.name}: {name} {message}")
    assert (out == 5).all()


@every_pass
def test_number_of_arguments(run: Pass) -> None:
    names = (["x"] if run.arrays == 1 else ["dy", "saved"]) + [param.name for param in run.op.params]
    full = [x32] * run.arrays + list(run.params)
    out = np.full(7, 5, np.float32)
    takes = rf"^{run.name}\(\) takes {len(names)} positional arguments? \({', '.join(names)}\) "
    takes += f"but {len(names) + 1} were given"
    refused(TypeError, run.function, *full, out, message=takes + "; out is a keyword$")
    refused(TypeError, run.function, *full, 1, 2, out=out, message="takes .* were given$")
    refused(TypeError, run.function, message=rf"^{run.name}\(\) missing required argument: '{names[0]}'")
    refused(TypeError, run.function, out=out, message=rf"^{run.name}\(\) missing required argument: '{names[0]}'")
    unknown = rf"^{run.name}\(\) got an unexpected keyword argument 'axis'; expected {', '.join([*names, 'out'])}$"
    refused(TypeError, run.function, *full, axis=1, message=unknown)
    twice = rf"^{run.name}\(\) got multiple values for argument '{names[-1]}'$"
    refused(TypeError, run.function, *full, **{names[-1]: full[-1]}, message=twice)
    if any(param.default is None for param in run.op.params):
        refused(
            TypeError,
            run.function,
            *full[: run.arrays],
            message=rf"{run.name}\(\) missing required argument: '{names[-1]}'$",
        )
    if run.arrays == 2:
        refused(TypeError, run.function, x32, message=rf"^{run.name}\(\) missing required argument: 'saved'")
    assert (out == 5).all()
    named = dict(zip(names, full, strict=True))
    assert_same_bits(np.asarray(run(*full[: run.arrays])), np.asarray(first(run.function(**named))))


def first(result: Any) -> Any:
    return result[0] if isinstance(result, tuple) else result


@every_backend
@every_pass
def test_out(run: Pass, backend: str) -> None:
    if backend == "numba" and run.op.name not in ("relu", "prelu", "tanh"):
        return  # the checks are the same for every op
    arrays = [x32] * run.arrays
    frozen = x32.copy()
    frozen.flags.writeable = False
    wrong: list[tuple[Any, type[Exception], str]] = [
        ([0.0] * 7, TypeError, r"out is a list; expected a numpy.ndarray of shape \(7,\) and dtype float32"),
        ((np.zeros(7, np.float32),), TypeError, "out is a tuple; expected a numpy.ndarray"),
        (3, TypeError, "out is an int; expected a numpy.ndarray"),
        (x32[0], TypeError, "out is a float32; expected a numpy.ndarray"),
        (np.zeros(7), TypeError, "out has dtype float64; expected float32"),
        (np.zeros(7, np.int32), TypeError, "out has dtype int32; expected float32"),
        (np.zeros(7, object), TypeError, "out has dtype object; expected float32"),
        (np.zeros(7, ">f4"), TypeError, r"out has dtype >f4 \(non-native byte order\); expected float32"),
        (np.zeros(6, np.float32), ValueError, r"out has shape \(6,\); expected \(7,\)"),
        (np.zeros((1, 7), np.float32), ValueError, r"out has shape \(1, 7\); expected \(7,\)"),
        (np.zeros((), np.float32), ValueError, r"out has shape \(\); expected \(7,\)"),
        (frozen, ValueError, "out is read-only; expected a writeable array"),
        (np.broadcast_to(np.float32(0), 7), ValueError, "out is read-only"),
        (np.lib.stride_tricks.as_strided(np.zeros(1, np.float32), (7,), (0,)), ValueError, r"out has strides \(0,\)"),
    ]
    with using(backend):
        for out, error, message in wrong:
            before = np.array(out, copy=True) if isinstance(out, np.ndarray) else None
            refused(error, run, *arrays, out=out, message=rf"^{run.name}: {message}")
            if before is not None:
                np.testing.assert_array_equal(out, before)
        integers = [np.arange(7)] * run.arrays
        refused(TypeError, run, *integers, out=np.zeros(7, np.int64), message="out has dtype int64; expected float64")
        assert_same_bits(run(*arrays, out=None), run(*arrays))


@every_backend
@every_pass
def test_overlapping_out(run: Pass, backend: str) -> None:
    if backend == "numba" and run.op.name not in ("relu", "prelu", "tanh"):
        return
    names = ["x"] if run.arrays == 1 else ["dy", "saved"]
    with using(backend):
        for k, name in enumerate(names):
            for dtype in DTYPES.values() if backend.startswith("native") else [np.dtype(np.float32)]:
                memory = np.linspace(-1, 1, 40).astype(dtype)
                original = memory.copy()
                for source, target in (
                    (memory[:10], memory[1:11]),
                    (memory[1:11], memory[:10]),
                    (memory[:10], memory[:20:2]),
                    (memory[:10], memory[9::-1]),
                    (memory[0:20:2], memory[2:22:2]),
                    (memory[:16].reshape(4, 4), memory[:16].reshape(4, 4).T),
                    (memory[:10], memory.view(np.uint8)[1 : 1 + 10 * memory.itemsize].view(dtype)),
                ):
                    arrays = [np.ones_like(source) for _ in names]
                    arrays[k] = source
                    message = (
                        rf"^{run.name}: out overlaps {name} in memory; expected {name} itself, or memory apart from it"
                    )
                    refused(ValueError, run, *arrays, out=target, message=message)
                    assert_same_bits(memory, original)
        # What only seems to overlap, and the input itself by another name.
        memory = np.linspace(-1, 1, 40).astype(np.float32)
        x = memory[::2]
        expected = run(*[x.copy()] * run.arrays)
        assert_same_bits(run(*[x] * run.arrays, out=memory[1::2]), expected)
        square = np.linspace(-1, 1, 5, dtype=np.float32).reshape(1, 5)
        other = np.lib.stride_tricks.as_strided(square, (1, 5), (4, 4))
        expected = run(*[square.copy()] * run.arrays)
        assert_same_bits(run(*[square] * run.arrays, out=other), expected)


@pytest.mark.parametrize("run", [run for run in PASSES if run.arrays == 2], ids=repr)
def test_shapes_of_dy_and_saved(run: Pass) -> None:
    for dy, saved in (
        (x32, x32[:3]),
        (x32[:1], x32),
        (x32, x32[0]),
        (x32.reshape(1, 7), x32),
        (x32, x32.reshape(7, 1)),
    ):
        shapes = rf"dy has shape {re.escape(str(np.shape(dy)))} and saved has shape {re.escape(str(np.shape(saved)))}"
        refused(ValueError, run, dy, saved, message=rf"^{run.name}: {shapes}; expected the same shape$")
    if "bfloat16" in DTYPES:
        pair = x32.astype(np.float16), x32.astype(DTYPES["bfloat16"])
        refused(
            TypeError,
            run,
            *pair,
            message="dy has dtype float16 and saved has dtype bfloat16, which have no common dtype",
        )


BAD_NUMBERS: list[tuple[Any, type[Exception], str]] = [
    (math.nan, ValueError, "is nan; expected a number that is finite"),
    (math.inf, ValueError, "is inf; expected a number that is finite"),
    (-math.inf, ValueError, "is -inf; expected"),
    (1e39, ValueError, r"is 1e\+39; expected a number that is finite.* in float32"),
    (np.float32(np.nan), ValueError, r"is (np.float32\()?nan\)?; expected"),
    (10**400, ValueError, r"is 1000.*\.\.\.; expected a number that is finite.* in float32"),
    (None, TypeError, "is None; expected a real number or an array of real numbers"),
    ("0.1", TypeError, "is '0.1', a str; expected a real number"),
    (1j, TypeError, "is 1j, a complex; expected"),
    (True, TypeError, "is True, a bool; expected"),
    (np.True_, TypeError, "is (np.)?True_?, a bool.*; expected"),
    (object(), TypeError, "is <object object at .*>, an object; expected"),
    ([[1.0], [1.0, 2.0]], TypeError, "is a list that NumPy makes no array of; expected"),
    (np.array(["a"] * 7), TypeError, r"is array\(.* of dtype <U1; expected"),
    (
        x32.astype(complex),
        TypeError,
        r"is array\(.* of dtype complex128; expected a real number or an array of real numbers",
    ),
    (np.datetime64("2020"), TypeError, "is .*, a datetime64; expected"),
]


@pytest.mark.parametrize("run", with_params, ids=repr)
def test_parameters(run: Pass) -> None:
    out = np.full(7, 5, np.float32)
    for k, param in enumerate(run.op.params):
        for x in (x32, np.repeat(x32, 2)[::2]):  # on the short way, and past it
            for wrong, error, message in BAD_NUMBERS:
                params = list(run.params)
                params[k] = wrong
                refused(
                    error,
                    run.function,
                    *[x] * run.arrays,
                    *params,
                    out=out,
                    message=rf"^{run.name}: {param.name} {message}",
                )
                named = dict(zip([each.name for each in run.op.params], params, strict=True))
                refused(
                    error,
                    run.function,
                    *[x] * run.arrays,
                    out=out,
                    **named,
                    message=rf"^{run.name}: {param.name} {message}",
                )
        outside = [*param.excluded, *(value - 1 for value in [param.low] if math.isfinite(value))]
        for wrong in outside:
            params = list(run.params)
            params[k] = wrong
            refused(
                ValueError,
                run.function,
                *[x32] * run.arrays,
                *params,
                out=out,
                message=rf"^{run.name}: {param.name} is ",
            )
        if not param.learned:
            for wrong in (math.nan, *outside):
                params = list(run.params)
                params[k] = np.float32([1, 1, 1, wrong, 1, 1, 1])
                message = rf"^{run.name}: {param.name} is an array with {wrong:g} in it; expected"
                refused(ValueError, run.function, *[x32] * run.arrays, *params, out=out, message=message)
        for shape in [(2,), (6,), (0,), (2, 7), (7, 1)]:
            params = list(run.params)
            params[k] = np.ones(shape, np.float32)
            message = rf"^{run.name}: {param.name} has shape {re.escape(str(shape))}.*expected one number"
            refused(ValueError, run.function, *[x32] * run.arrays, *params, out=out, message=message)
    assert (out == 5).all()


def test_a_parameter_must_be_in_range_as_it_is_used() -> None:
    """1e-50 is 0 in float32, and 1e39 is infinite; both are fine in float64."""
    for wrong in (1e-50, 1e-320, np.float64(1e-50)):
        refused(
            ValueError,
            fnn.celu,
            x32,
            wrong,
            message="celu: alpha is .*; expected a number that is finite and above 0 in float32",
        )
        refused(ValueError, fnn.celu_backward, x32[::2], x32[::2], wrong, message="celu_backward: alpha is")
    assert np.isfinite(fnn.celu(x32.astype(float), 1e-50)).all()
    assert np.isfinite(fnn.leaky_relu(x32.astype(float), 1e300)).all()
    for dtype in ("float16", "bfloat16"):
        if dtype in DTYPES:
            refused(ValueError, fnn.leaky_relu, x32.astype(DTYPES[dtype]), 1e39, message="in float32")
            large = fnn.leaky_relu(np.full(3, -1, DTYPES[dtype]), 1e30)  # of which float16 makes infinity
            np.testing.assert_allclose(large.astype(float), -math.inf if dtype == "float16" else -1e30, rtol=0.01)


def test_bounds_the_wrong_way_round() -> None:
    message = "min_val must not be above max_val; got min_val=1.0 and max_val=-1.0$"
    refused(ValueError, fnn.hardtanh, x32, 1.0, -1.0, message=f"^hardtanh: {message}")
    refused(
        ValueError, fnn.hardtanh_backward, x32, x32, max_val=-1.0, min_val=1.0, message=f"^hardtanh_backward: {message}"
    )
    refused(ValueError, fnn.hardtanh, x32, 2.0, message="got min_val=2.0 and max_val=1.0$")
    refused(ValueError, fnn.hardtanh, x32, x32, x32 - 1, message="min_val must not be above max_val")
    assert (fnn.hardtanh(x32, 0.5, 0.5) == 0.5).all()


def test_numbers_of_other_kinds_are_taken() -> None:
    expected = fnn.leaky_relu(x32, 0.25)
    for number in (
        fractions.Fraction(1, 4),
        decimal.Decimal("0.25"),
        np.float16(0.25),
        np.array(0.25, ">f8"),
        np.longdouble(0.25),
    ):
        assert_same_bits(fnn.leaky_relu(x32, number), expected)
    assert_same_bits(fnn.leaky_relu(x32, 10**30), fnn.leaky_relu(x32, 1e30))


def test_messages_do_not_grow_with_what_is_passed() -> None:
    refused(TypeError, fnn.leaky_relu, x32, "a" * 10_000, message=r"\.\.\., a str; expected")
    refused(
        ValueError,
        fnn.hardtanh,
        x32,
        np.arange(7.0),
        -np.arange(7.0),
        message=r"got min_val=array\(\[.* and max_val=array",
    )
    refused(
        ValueError,
        fnn.prelu,
        np.zeros((3, 4)),
        np.zeros((9, 9)),
        message="prelu: alpha has shape .9, 9. beside an input of shape .3, 4.",
    )


def test_errors_of_the_callers_own_objects_come_through() -> None:
    class Broken:
        def __array__(self, dtype: Any = None, copy: Any = None) -> Array:
            raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        fnn.relu(Broken())


@every_backend
def test_nothing_is_half_written(backend: str) -> None:
    """Backward of a learned parameter returns two things: an error about the second must not leave the first behind."""
    with using(backend):
        for op in OPS.values():
            if op.learned is None:
                continue
            dy, x = np.ones((4, 5), np.float32), np.linspace(-2, 2, 20, dtype=np.float32).reshape(4, 5)
            kept = dy.copy(), x.copy()
            backward = getattr(fnn, f"{op.name}_backward")
            for wrong in (np.ones(3, np.float32), "a", math.nan, None):
                with pytest.raises((TypeError, ValueError), match=f"^{op.name}_backward: alpha"):
                    backward(dy, x, wrong, out=x)
            assert_same_bits(dy, kept[0])
            assert_same_bits(x, kept[1])
