"""Steps of optimisers beside PyTorch's and the oracles, on whatever arrays callers have; clipping of gradients."""

from __future__ import annotations

import math
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from layouts import DTYPES, active, assert_same_bits, misaligned, num_threads

import fastnn as fnn
from fastnn.kernels.cpu import runtime
from fastnn.table import FUNCTIONS

pytestmark = pytest.mark.filterwarnings("error")
Array = npt.NDArray[Any]
FUSED = [isa for isa in runtime.isas() if isa != "v2"]
STEPS = ["sgd_step", "rmsprop_step", "adam_step", "adamw_step"]
STATES = {
    "sgd_step": ["velocity"],
    "rmsprop_step": ["square_avg", "grad_avg", "velocity"],
    "adam_step": ["exp_avg", "exp_avg_sq", "max_exp_avg_sq"],
    "adamw_step": ["exp_avg", "exp_avg_sq", "max_exp_avg_sq"],
}
OPTIONS: dict[str, dict[str, Any]] = {
    "sgd_step": {"lr": 0.1, "momentum": 0.9},
    "rmsprop_step": {"momentum": 0.9},
    "adam_step": {"step": 3},
    "adamw_step": {"step": 3},
}


TOLERANCE = {
    "float64": {"rtol": 1e-14},
    "float32": {"rtol": 3e-7},
    "float16": {"rtol": 2.0**-10, "atol": 2.0**-24},
    "bfloat16": {"rtol": 2.0**-7},
}


def example(name: str, shape: tuple[int, ...], dtype: npt.DTypeLike = np.float32, seed: int = 0) -> dict[str, Any]:
    """Every array that a step can take, of one shape, and options that need all of them."""
    rng, storage = np.random.default_rng(seed), np.dtype(dtype)
    number = np.float64 if storage == np.float64 else np.float32
    given: dict[str, Any] = {key: np.asarray(rng.standard_normal(shape)).astype(storage) for key in ("param", "grad")}
    for state in STATES[name]:
        given[state] = np.asarray(rng.standard_normal(shape) ** 2 + (1 if state == "square_avg" else 0)).astype(number)
    if name == "rmsprop_step":
        given["grad_avg"] *= number(0.1)
    return {**given, **OPTIONS[name]}


def copied(given: dict[str, Any], change: Callable[[Array], Array] = np.copy) -> dict[str, Any]:
    return {key: change(value) if isinstance(value, np.ndarray) else value for key, value in given.items()}


def arrays(given: dict[str, Any]) -> dict[str, Array]:
    return {key: value for key, value in given.items() if isinstance(value, np.ndarray)}


def run(name: str, given: dict[str, Any]) -> dict[str, Any]:
    """The arguments after a step on copies of them."""
    after = copied(given)
    getattr(fnn, name)(**after)
    return after


# ---- PyTorch ----

TORCH = [
    ("SGD", {"lr": 0.1}),
    ("SGD", {"lr": 0.1, "momentum": 0.9}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.1, "nesterov": True}),
    ("SGD", {"lr": 0.1, "momentum": 0.5, "dampening": 0.25, "weight_decay": 0.1, "maximize": True}),
    ("RMSprop", {}),
    ("RMSprop", {"lr": 0.1, "alpha": 0.9, "eps": 1e-3, "weight_decay": 0.1, "momentum": 0.9}),
    ("RMSprop", {"centered": True, "eps": 1e-4, "maximize": True}),
    ("RMSprop", {"centered": True, "momentum": 0.5, "eps": 1e-4}),
    ("Adam", {}),
    ("Adam", {"lr": 0.1, "betas": (0.5, 0.9), "eps": 1e-3, "weight_decay": 0.1}),
    ("Adam", {"amsgrad": True, "maximize": True}),
    ("AdamW", {}),
    ("AdamW", {"lr": 0.1, "weight_decay": 0.5, "amsgrad": True}),
]


class Ours:
    """An optimiser after PyTorch's names, over the functions."""

    def __init__(self, kind: str, options: dict[str, Any], param: Array) -> None:
        self.kind, self.param, self.count = kind, param, 0
        self.options = {key: value for key, value in options.items() if key not in ("centered", "amsgrad")}
        zeros = [np.zeros_like(param) for _ in range(3)]
        self.velocity = zeros[0] if options.get("momentum") else None
        self.states = zeros
        self.extra = np.zeros_like(param) if options.get("centered") or options.get("amsgrad") else None

    def step(self, grad: Array) -> None:
        self.count += 1
        if self.kind == "SGD":
            fnn.sgd_step(self.param, grad, self.velocity, **self.options, first=self.count == 1)
        elif self.kind == "RMSprop":
            fnn.rmsprop_step(
                self.param, grad, self.states[1], **self.options, grad_avg=self.extra, velocity=self.velocity
            )
        else:
            step = fnn.adam_step if self.kind == "Adam" else fnn.adamw_step
            step(
                self.param, grad, self.states[1], self.states[2], self.count, **self.options, max_exp_avg_sq=self.extra
            )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("kind", "options"), TORCH, ids=str)
def test_steps_are_those_of_pytorch(kind: str, options: dict[str, Any], dtype: str) -> None:
    torch = pytest.importorskip("torch", reason="compares with PyTorch, which is not installed")
    rng = np.random.default_rng(3)
    start = rng.standard_normal((7, 11)).astype(dtype)
    theirs = torch.nn.Parameter(torch.from_numpy(start.copy()))
    optimiser = getattr(torch.optim, kind)([theirs], **options)
    ours = Ours(kind, options, start.copy())
    for _ in range(6):
        grad = rng.standard_normal(start.shape).astype(dtype)
        theirs.grad = torch.from_numpy(grad.copy())
        optimiser.step()
        ours.step(grad)
        rounding = float(np.finfo(dtype).eps)
        np.testing.assert_allclose(ours.param, theirs.detach().numpy(), rtol=64 * rounding, atol=64 * rounding)


@pytest.mark.parametrize(("kind", "options"), TORCH, ids=str)
def test_what_is_not_finite_is_as_in_pytorch(kind: str, options: dict[str, Any]) -> None:
    torch = pytest.importorskip("torch", reason="compares with PyTorch, which is not installed")
    values = np.array([0.0, -0.0, 1.0, np.inf, -np.inf, np.nan, 1e25, 1e-30], np.float32)
    param, grad = (each.ravel().copy() for each in np.meshgrid(values, values))
    theirs = torch.nn.Parameter(torch.from_numpy(param.copy()))
    optimiser = getattr(torch.optim, kind)([theirs], foreach=False, **options)
    ours = Ours(kind, options, param.copy())
    for _ in range(2):
        theirs.grad = torch.from_numpy(grad.copy())
        optimiser.step()
        ours.step(grad)
        expected = theirs.detach().numpy()
        if options.get("centered"):  # where PyTorch's variance is below 0 by rounding
            np.testing.assert_array_equal(np.isinf(ours.param[np.isinf(expected)]), True)
            continue
        np.testing.assert_array_equal(np.isnan(ours.param), np.isnan(expected))
        np.testing.assert_array_equal(np.isinf(ours.param), np.isinf(expected))


@pytest.mark.parametrize("norm_type", [2.0, 1.0, math.inf, 3.0, 0.5])
@pytest.mark.parametrize("max_norm", [0.1, 1e6, math.inf, 0.0])
@pytest.mark.parametrize("special", [None, np.inf, np.nan])
def test_clipping_is_that_of_pytorch(norm_type: float, max_norm: float, special: float | None) -> None:
    torch = pytest.importorskip("torch", reason="compares with PyTorch, which is not installed")
    rng = np.random.default_rng(5)
    grads = [rng.standard_normal(shape).astype(np.float32) for shape in ((33,), (4, 5), (1,))]
    if special is not None:
        grads[1][2, 3] = special
    parameters = [torch.nn.Parameter(torch.zeros(grad.shape)) for grad in grads]
    for parameter, grad in zip(parameters, grads, strict=True):
        parameter.grad = torch.from_numpy(grad.copy())
    expected = float(torch.nn.utils.clip_grad_norm_(parameters, max_norm, norm_type))
    got = fnn.clip_grad_norm(grads, max_norm, norm_type)
    np.testing.assert_allclose(got, expected, rtol=1e-5)
    for parameter, grad in zip(parameters, grads, strict=True):
        np.testing.assert_allclose(grad, parameter.grad.numpy(), rtol=1e-5, atol=1e-12)


# ---- arrays ----


@pytest.mark.parametrize("name", STEPS)
def test_any_layout(name: str) -> None:
    """Arrays that are not contiguous are updated in place, too; bits do not depend on where an element lies."""
    given = example(name, (6, 5, 4))
    expected = run(name, given)

    def spread(array: Array) -> Array:
        room = np.full((12, 5, 12), 7, array.dtype)
        view = room[::-2, :, 1::3]
        view[...] = array
        return view

    for change in (np.asfortranarray, misaligned, spread):
        after = copied(given, change)
        results = getattr(fnn, name)(**after)
        for key, array in arrays(expected).items():
            assert_same_bits(after[key], array)
        assert results[0] is after["param"]
        if change is spread:
            assert np.all(after["param"].base[::2] == 7)


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
def test_every_length_gives_the_bits_of_its_elements(name: str, dtype: np.dtype[Any]) -> None:
    """And every instruction set with a fused multiply-add, and every number of threads."""
    given = example(name, (70_001,), dtype)
    whole = run(name, given)
    for isa in FUSED:
        with active(isa):
            for threads in (1, 2):
                with num_threads(threads):
                    for key, array in arrays(run(name, given)).items():
                        assert_same_bits(array, whole[key])
    for length in (*range(36), 1000):
        part = run(name, copied(given, lambda array, n=length: array[3 : 3 + n].copy()))
        for key, array in arrays(part).items():
            assert_same_bits(array, whole[key][3 : 3 + length])
    scalar = run(name, copied(given, lambda array: np.array(array[5])))
    assert_same_bits(scalar["param"], whole["param"][5])


@pytest.mark.parametrize("name", STEPS)
def test_16_bits_are_those_of_float32_rounded(name: str) -> None:
    for dtype in (each for key, each in DTYPES.items() if key in ("float16", "bfloat16")):
        given = example(name, (1000,), dtype)
        wide = {key: value.astype(np.float32) for key, value in arrays(given).items()}
        after, expected = run(name, given), run(name, {**given, **wide})
        assert_same_bits(after["param"], expected["param"].astype(dtype))
        for state in STATES[name]:
            assert_same_bits(after[state], expected[state])


@pytest.mark.parametrize("name", STEPS)
def test_nothing_is_allocated(name: str) -> None:
    given = example(name, (300_000,))
    getattr(fnn, name)(**given)
    tracemalloc.start()
    getattr(fnn, name)(**given)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20_000


def test_what_an_option_leaves_out_is_left_alone() -> None:
    given = example("sgd_step", (9,))
    velocity = given["velocity"].copy()
    fnn.sgd_step(given["param"], given["grad"], given["velocity"], 0.1)
    np.testing.assert_array_equal(given["velocity"], velocity)
    # The first step does not look at what the velocity holds.
    given["velocity"][:] = np.nan
    fnn.sgd_step(given["param"], given["grad"], given["velocity"], 0.1, 0.9, 0.5, first=True)
    np.testing.assert_array_equal(given["velocity"], given["grad"])


def test_decay_below_the_rounding_of_one() -> None:
    """1 - lr weight_decay is 1 in float32; the parameter is still pulled towards 0 as far as it can tell."""
    param = np.array([1.0, 2.0**24 + 2], np.float32)
    zeros = [np.zeros(2, np.float32) for _ in range(3)]
    fnn.adamw_step(param, *zeros, 1, lr=1e-7, weight_decay=0.5)
    assert param[0] == np.float32(1 - 5e-8) and param[1] == np.float32(2.0**24 + 2 - 0.84)


def test_centred_variance_below_zero_counts_as_zero() -> None:
    param, grad = np.zeros(3, np.float32), np.full(3, 0.1, np.float32)
    square, average = grad**2 * np.float32(1 - 1e-6), grad.copy()
    fnn.rmsprop_step(param, grad, square, grad_avg=average, eps=1e-3)
    assert np.all(np.isfinite(param)) and np.all(param < 0)


# ---- clipping ----


def test_gradients_within_the_bound_keep_their_bits() -> None:
    rng = np.random.default_rng(1)
    grads = [rng.standard_normal((5, 7)).astype(dtype) for dtype in DTYPES.values()]
    before = [grad.copy() for grad in grads]
    total = fnn.clip_grad_norm(grads, 1e4)
    assert total.dtype == np.float64  # of the widest
    for grad, kept in zip(grads, before, strict=True):
        assert_same_bits(grad, kept)
    exact = math.sqrt(sum(float(np.sum(grad.astype(np.float64) ** 2)) for grad in grads))
    assert total == pytest.approx(exact, rel=1e-14)


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
def test_clipped_gradients(dtype: np.dtype[Any]) -> None:
    rng = np.random.default_rng(2)
    grads = [rng.standard_normal(shape).astype(dtype) for shape in ((100_003,), (30, 5), ())]
    grads[1] = grads[1].T
    before = [grad.astype(np.float64) for grad in grads]
    results = []
    for threads in (1, 2):
        with num_threads(threads):
            clipped = [grad.copy(order="K") for grad in grads]
            total = fnn.clip_grad_norm(tuple(clipped), 1.5)
            results.append([total, *clipped])
    for one, other in zip(*results, strict=True):
        assert_same_bits(one, other)
    norm = math.sqrt(sum(float(np.sum(grad**2)) for grad in before))
    assert float(results[0][0]) == pytest.approx(norm, rel=1e-6)
    for got, grad in zip(results[0][1:], before, strict=True):
        np.testing.assert_allclose(got.astype(np.float64), grad * (1.5 / (norm + 1e-6)), **TOLERANCE[dtype.name])


def test_a_norm_that_is_not_finite_may_be_an_error() -> None:
    grads = [np.array([1.0, np.inf]), np.ones(3)]
    with pytest.raises(ValueError, match=r"clip_grad_norm: the norm of order 2 of grads is inf"):
        fnn.clip_grad_norm(grads, 1.0, error_if_nonfinite=True)
    assert grads[0].tolist() == [1, np.inf] and grads[1].tolist() == [1, 1, 1]
    assert fnn.clip_grad_norm([], 1.0) == 0


@pytest.mark.parametrize(
    ("grads", "error", "message"),
    [
        (np.ones(3), TypeError, "grads is of type ndarray"),
        (None, TypeError, "grads is of type NoneType"),
        ([np.ones(3), [1.0]], TypeError, r"grads\[1\] is a list"),
        ([np.ones(3, int)], TypeError, r"grads\[0\] has dtype int64"),
        ([np.broadcast_to(1.0, 3)], ValueError, r"grads\[0\] is read-only"),
    ],
    ids=str,
)
def test_gradients_that_cannot_be_clipped(grads: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=f"^clip_grad_norm: {message}"):
        fnn.clip_grad_norm(grads, 1.0)
    twice = np.ones(3)
    with pytest.raises(ValueError, match=r"^clip_grad_norm: grads holds the same array more than once"):
        fnn.clip_grad_norm([twice, twice], 1.0)


@pytest.mark.parametrize("option", ["max_norm", "norm_type"])
@pytest.mark.parametrize("value", [-1.0, math.nan, "1", None])
def test_clipping_by_what_is_no_norm(option: str, value: Any) -> None:
    with pytest.raises((TypeError, ValueError), match=f"^clip_grad_norm: {option} is "):
        fnn.clip_grad_norm([np.ones(3)], **{"max_norm": 1.0, option: value})
    with pytest.raises(ValueError, match=r"^clip_grad_norm: norm_type is 0.*above 0"):
        fnn.clip_grad_norm([np.ones(3)], 1.0, 0)


# ---- what is refused ----


def refused(name: str, given: dict[str, Any], error: type[Exception], argument: str) -> None:
    before = copied(given)
    with pytest.raises(error, match=rf"^{name}: .*\b{argument}\b"):
        getattr(fnn, name)(**given)
    for key, array in arrays(before).items():
        assert given[key].tobytes() == array.tobytes(), key


@pytest.mark.parametrize("name", STEPS)
def test_numbers_out_of_range(name: str) -> None:
    given = example(name, (5,))
    cases: dict[str, list[Any]] = {"lr": [-0.1, math.nan, math.inf], "weight_decay": [-1.0, math.nan]}
    if name == "sgd_step":
        cases |= {"momentum": [-0.5, math.nan], "dampening": [math.inf]}
    if name == "rmsprop_step":
        cases |= {"alpha": [1.0, -0.1, math.nan], "eps": [-1e-8, math.nan], "momentum": [-0.5]}
    if name.startswith("adam"):
        cases |= {"eps": [-1e-8, math.nan], "step": [0, -1, True]}
        cases["betas"] = [(1.0, 0.9), (0.9, 1.0), (-0.1, 0.9), (0.9, math.nan)]
        for wrong in (0.9, (0.9,), "ab", ("a", "b")):
            refused(name, {**given, "betas": wrong}, TypeError, "betas")
        refused(name, {**given, "step": 1.0}, TypeError, "step")
    for option, values in cases.items():
        for value in values:
            refused(name, {**given, option: value}, ValueError, option)
    refused(name, {**given, "lr": "0.1"}, TypeError, "lr")
    refused(name, {**given, "lr": np.ones(2)}, TypeError, "lr")
    refused(name, {**given, "maximize": 2}, TypeError, "maximize")


@pytest.mark.parametrize("name", STEPS)
def test_arrays_that_do_not_go_together(name: str) -> None:
    given = example(name, (4, 5))
    for key in arrays(given):
        refused(name, {**given, key: given[key].astype(np.float64)}, TypeError, "grad" if key == "param" else key)
        refused(name, {**given, key: given[key][:3]}, ValueError, "grad" if key == "param" else key)
        if key != "grad":
            refused(name, {**given, key: given[key].tolist()}, TypeError, key)
            refused(name, {**given, key: np.broadcast_to(given[key][:1], (4, 5))}, ValueError, key)
            frozen = given[key].copy()
            frozen.flags.writeable = False
            refused(name, {**given, key: frozen}, ValueError, key)
            for other in arrays(given):
                if other != key:
                    overlapping = given[other].copy()
                    refused(name, {**given, other: overlapping, key: overlapping}, ValueError, "overlaps")
    half = example(name, (4, 5), np.float16)
    for state in STATES[name]:
        refused(name, {**half, state: half[state].astype(np.float16)}, TypeError, state)


def test_columns_of_one_array_do_not_overlap() -> None:
    room = np.ones((7, 3), np.float32)
    fnn.sgd_step(room[:, 0], room[:, 1], room[:, 2], 0.5, 0.9)
    np.testing.assert_allclose(room, np.tile(np.float32([1 - 0.95, 1, 1.9]), (7, 1)), rtol=1e-6)


@pytest.mark.parametrize("name", ["sgd_step", "rmsprop_step"])
def test_momentum_needs_a_velocity(name: str) -> None:
    refused(name, {**example(name, (3,)), "velocity": None}, TypeError, "velocity")


def test_nesterov_needs_momentum_and_no_dampening() -> None:
    for options in ({"momentum": 0.0}, {"dampening": 0.1}):
        refused("sgd_step", {**example("sgd_step", (3,)), "nesterov": True, **options}, ValueError, "nesterov")


@pytest.mark.parametrize("name", STEPS)
def test_the_oracle_agrees_over_a_long_run(name: str) -> None:
    """Fifty steps of float32 beside fifty of float64."""
    given = example(name, (40,))
    exact = {key: value.astype(np.float64) for key, value in arrays(given).items()}
    rng, oracle = np.random.default_rng(9), FUNCTIONS[name].oracle
    for count in range(50):
        grad = rng.standard_normal(40).astype(np.float32)
        more = {"step": count + 1} if name.startswith("adam") else {}
        given |= {"grad": grad, **more}
        exact["grad"] = grad.astype(np.float64)
        getattr(fnn, name)(**given)
        options = {key: value for key, value in given.items() if not isinstance(value, np.ndarray)}
        results = oracle(**exact, **options)
        exact |= dict(zip(["param", *STATES[name]], results, strict=True))
    np.testing.assert_allclose(given["param"], exact["param"], rtol=2e-5, atol=2e-5)
