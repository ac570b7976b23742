"""Normalisation beyond what tests/test_functions.py asks of every row: hard data, PyTorch, conventions, errors."""

from __future__ import annotations

import contextlib
import importlib.util
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from layouts import DTYPES, active, assert_same_bits, num_threads

import fastnn as fnn
from fastnn.kernels.cpu import runtime
from fastnn.table import OPS
from fastnn.table.normalization_oracles import moments

Array = npt.NDArray[Any]

BACKENDS = ["native", "reference", *(["numba"] if importlib.util.find_spec("numba") else [])]
RUNS = [*runtime.isas(), *BACKENDS[1:]]
every_run = pytest.mark.parametrize("run", RUNS)
pytestmark = pytest.mark.filterwarnings("error")


def using(run: str) -> contextlib.AbstractContextManager[Any]:
    return active(run) if run in runtime.isas() else fnn.use(run)


def batch_arguments(rng: np.random.Generator, shape: tuple[int, ...], dtype: npt.DTypeLike = np.float32) -> list[Array]:
    """x, gamma, beta, running_mean, running_var."""
    channels = shape[1]
    gamma, beta, mean = (rng.standard_normal(channels) for _ in range(3))
    arrays = [rng.standard_normal(shape), gamma, beta, mean, rng.uniform(0.5, 2, channels)]
    return [array.astype(dtype) for array in arrays]


# ---- statistics of hard data ----


@every_run
def test_large_mean_and_small_deviation(run: str) -> None:
    """Mean 1e4, standard deviation 1e-2: the mean alone, as a float, is off by a twentieth of that."""
    rng = np.random.default_rng(1)
    for shape in ((8, 3, 20, 25), (4000, 5), (40, 7, 100), (3, 70000)):
        x = (1e4 + 1e-2 * rng.standard_normal(shape)).astype(np.float32)
        axes = (0, *range(2, x.ndim))
        mean, d, variance = moments(x.astype(np.float64), axes)
        eps = 1e-9
        xhat = d / np.sqrt(variance + eps)
        with using(run):
            if x.size // x.shape[1] > 3:
                y, got_mean, inv_std = fnn.batch_norm_train(x, None, None, None, None, eps=eps)
                assert np.abs(y - xhat).max() < 1e-6
                np.testing.assert_allclose(inv_std, 1 / np.sqrt(variance + eps).ravel(), rtol=3e-7)
                np.testing.assert_array_equal(got_mean, mean.ravel().astype(np.float32))
                dy = rng.standard_normal(shape).astype(np.float32)
                _, dgamma, _ = fnn.batch_norm_backward(dy, x, np.ones(shape[1]), got_mean, inv_std)
                exact = (dy.astype(np.float64) * xhat).sum(axis=axes)
                assert dgamma is not None and np.abs(dgamma - exact).max() < 1e-6 * np.sqrt(x.size)
            rows, _, _ = fnn.layer_norm(x, axis=1, eps=eps)
            mean, d, variance = moments(x.astype(np.float64), tuple(range(1, x.ndim)))
            assert np.abs(rows - d / np.sqrt(variance + eps)).max() < 1e-6


@pytest.mark.parametrize("run", runtime.isas()[-1:])
@pytest.mark.parametrize("shape", [(1, 1, 1 << 24), (1 << 24, 1), (1 << 16, 1, 256)])
def test_two_to_the_24_elements_a_channel(run: str, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(2)
    x = rng.standard_normal(shape, np.float32)
    x *= np.float32(1e-2)
    x += np.float32(1e4)
    wide = x.astype(np.float64)
    mean = wide.mean()
    wide -= mean
    mean, wide = mean + wide.mean(), wide - wide.mean()
    inv_std = 1 / np.sqrt(np.square(wide).mean() + 1e-5)
    with using(run):
        y, got_mean, got_inv_std = fnn.batch_norm_train(x, None, None, None, None)
    assert got_mean[0] == np.float32(mean) and abs(got_inv_std[0] / inv_std - 1) < 2e-7
    wide *= inv_std
    wide -= y
    assert np.abs(wide).max() < 1e-6


@every_run
def test_first_elements_that_are_outliers(run: str) -> None:
    """The number that is subtracted first is then far from the mean."""
    rng = np.random.default_rng(3)
    for shape in ((6, 2, 200), (300, 4), (5, 3, 7, 3)):
        x = rng.standard_normal(shape)
        x[0] += 1e6
        for dtype, tolerance in ((np.float32, 3e-7), (np.float64, 1e-12)):
            data = x.astype(dtype)
            axes = (0, *range(2, x.ndim))
            mean, _, variance = moments(data.astype(np.longdouble), axes)
            with using(run):
                _, got, inv_std = fnn.batch_norm_train(data, None, None, None, None)
                _, row_mean, row_inv = fnn.layer_norm(np.moveaxis(data, 1, 0), axis=1)
            np.testing.assert_allclose(got, mean.ravel(), rtol=tolerance)
            np.testing.assert_allclose(inv_std, 1 / np.sqrt(variance.ravel() + 1e-5), rtol=tolerance)
            np.testing.assert_allclose(row_mean, mean.ravel(), rtol=tolerance)
            np.testing.assert_allclose(row_inv, 1 / np.sqrt(variance.ravel() + 1e-5), rtol=tolerance)


@every_run
def test_constant_channels(run: str) -> None:
    """They have variance 0, not a rounding error, and y is beta."""
    for dtype in (np.float32, np.float64):
        for value in (0.0, 0.1, -1e4 / 3, 1e30):
            for shape in ((5, 3, 77), (33, 3), (4, 3, 2, 2)):
                x = np.full(shape, value, dtype)
                beta = np.array([1, -2, 3], dtype)
                with using(run):
                    y, mean, inv_std = fnn.batch_norm_train(x, np.ones(3, dtype), beta, None, None, eps=1e-4)
                np.testing.assert_array_equal(mean, x[0].reshape(3, -1)[:, 0])
                np.testing.assert_array_equal(inv_std, dtype(1 / np.sqrt(1e-4)))
                np.testing.assert_array_equal(y, np.broadcast_to(beta.reshape(1, 3, *[1] * (x.ndim - 2)), shape))


@every_run
def test_nan_and_infinity_stay_in_their_channel(run: str) -> None:
    rng = np.random.default_rng(4)
    for shape in ((4, 5, 80), (40, 5), (4, 5, 6)):
        x = rng.standard_normal(shape).astype(np.float32)
        x[0, 1], x[1, 3] = np.nan, np.inf
        clean = np.where(np.isfinite(x), x, 0)
        with using(run):
            y, mean, inv_std = fnn.batch_norm_train(x, None, None, None, None)
            expected, _, _ = fnn.batch_norm_train(clean, None, None, None, None)
        assert np.isnan(y[:, [1, 3]]).all() and np.isnan(inv_std[[1, 3]]).all()
        assert np.isnan(mean[1]) and mean[3] == np.inf
        assert_same_bits(y[:, [0, 2, 4]], expected[:, [0, 2, 4]])


# ---- the same bits, and memory ----


@pytest.mark.parametrize(
    "shape", [(40, 3, 33, 70), (1, 2, 700_000), (300_000, 3), (70, 130, 5, 5), (9, 200, 80), (2, 5, 1, 3)]
)
def test_same_bits_for_any_number_of_threads_and_from_v3_and_v4(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(5)
    x, gamma, beta, *running = batch_arguments(rng, shape)
    dy = rng.standard_normal(shape).astype(np.float32)

    def results() -> list[Any]:
        _, mean, inv_std = forward = fnn.batch_norm_train(x, gamma, beta, None, None, activation="silu")
        backward = fnn.batch_norm_backward(dy, x, gamma, mean, inv_std, beta=beta, activation="silu")
        groups = 1 if shape[1] % 5 else 5
        rows = fnn.group_norm(x, groups, gamma, beta)
        rows_backward = fnn.group_norm_backward(dy, x, groups, gamma, *rows[1:])
        flat, flat_dy = x.reshape(shape[0], -1), dy.reshape(shape[0], -1)
        layer = fnn.layer_norm(flat, flat[0], flat_dy[0])
        return [
            *forward,
            *backward,
            *rows,
            *rows_backward,
            *layer,
            *fnn.layer_norm_backward(flat_dy, flat, flat[0], *layer[1:]),
            fnn.batch_norm_infer(x, gamma, beta, *running),
        ]

    for isa in [name for name in runtime.isas() if name != "v2"]:
        with active(isa):
            first = None
            for count in (1, 2, 3):
                with num_threads(count):
                    found = results()
                first = first or found
                for one, other in zip(found, first, strict=True):
                    assert_same_bits(one, other)
    if {"v3", "v4"} <= set(runtime.isas()):
        with active("v3"):
            for one, other in zip(results(), found, strict=True):
                assert_same_bits(one, other)


@pytest.mark.parametrize("activation", ["relu", ("leaky_relu", 0.2), "gelu", "tanh", "sigmoid", ("elu", 0.5)])
@pytest.mark.parametrize("shape", [(5, 3, 40, 41), (70, 30), (3, 8, 5, 5)])
def test_fused_activation_has_the_bits_of_two_calls(activation: Any, shape: tuple[int, ...]) -> None:
    name, *params = activation if isinstance(activation, tuple) else (activation,)
    rng = np.random.default_rng(6)
    for dtype in (np.float32, np.float64):
        x, gamma, beta, *running = batch_arguments(rng, shape, dtype)
        dy = rng.standard_normal(shape).astype(dtype)
        z, mean, inv_std = fnn.batch_norm_train(x, gamma, beta, None, None)
        y, *_ = fnn.batch_norm_train(x, gamma, beta, None, None, activation=activation)
        assert_same_bits(y, getattr(fnn, name)(z, *params))
        saved = z if OPS[name].saves == "input" else y
        dz = getattr(fnn, f"{name}_backward")(dy, saved, *params)
        expected = fnn.batch_norm_backward(dz, x, gamma, mean, inv_std)
        for out in (None, dy.copy(), x.copy(), np.empty_like(x)):
            given_dy, given_x = (out if out is not None and np.array_equal(out, a) else a for a in (dy, x))
            got = fnn.batch_norm_backward(
                given_dy, given_x, gamma, mean, inv_std, beta=beta, activation=activation, out=out
            )
            assert out is None or got[0] is out
            for one, other in zip(got, expected, strict=True):
                assert_same_bits(one, other)
        infer = fnn.batch_norm_infer(x, gamma, beta, *running)
        fused = fnn.batch_norm_infer(x, gamma, beta, *running, activation=activation)
        assert_same_bits(fused, getattr(fnn, name)(infer, *params))


@pytest.mark.parametrize("activation", [None, "relu", ("leaky_relu", 0.2), "tanh"])
def test_fused_dropout_has_the_bits_of_separate_calls(activation: Any) -> None:
    rng = np.random.default_rng(13)
    draw = {"seed": 77, "offset": 5}
    for shape in ((3, 5, 40, 41), (37, 30), (3, 8, 5, 5)):
        for dtype in (np.float32, np.float64):
            x, gamma, beta, *_ = batch_arguments(rng, shape, dtype)
            dy = rng.standard_normal(shape).astype(dtype)
            for p in (0.0, 1e-9, 0.25, 1.0):
                plain, mean, inv_std = fnn.batch_norm_train(x, gamma, beta, None, None, activation=activation)
                y, *_ = fnn.batch_norm_train(x, gamma, beta, None, None, activation=activation, dropout_p=p, **draw)
                assert_same_bits(y, fnn.dropout(plain, p, **draw))
                dropped = fnn.dropout_backward(dy, p, **draw)
                expected = fnn.batch_norm_backward(dropped, x, gamma, mean, inv_std, beta=beta, activation=activation)
                for out in (None, x.copy()):
                    got = fnn.batch_norm_backward(
                        dy,
                        x if out is None else out,
                        gamma,
                        mean,
                        inv_std,
                        beta=beta,
                        activation=activation,
                        dropout_p=p,
                        **draw,
                        out=out,
                    )
                    for one, other in zip(got, expected, strict=True):
                        np.testing.assert_array_equal(one, other)  # 0 may have either sign where all is dropped


def norms(x: Array, groups: int = 2) -> dict[str, tuple[dict[str, Any], tuple[str, ...]]]:
    """By name: the arguments that forward and backward of a norm share, gamma aside, and its statistics."""
    both = ("mean", "inv_std")
    return {
        "batch_norm_train": ({}, both),
        "layer_norm": ({"axis": 1}, both),
        "group_norm": ({"groups": groups}, both),
        "instance_norm": ({}, both),
        "rms_norm": ({"axis": 1}, ("inv_rms",)),
    }


@every_run
def test_memory_that_is_given(run: str) -> None:
    """Statistics and gradients in arrays of the caller's: the same bits; sums are added to what is there."""
    rng = np.random.default_rng(14)
    x = rng.standard_normal((5, 6, 9, 8)).astype(np.float32)
    dy, spare = rng.standard_normal(x.shape).astype(np.float32), np.empty_like(x)
    for name, (options, statistics) in norms(x).items():
        shape = x.shape[1:] if "axis" in options else x.shape[1:2]
        gamma, beta = rng.standard_normal((2, *shape)).astype(np.float32)
        affine = {"gamma": gamma} if name == "rms_norm" else {"gamma": gamma, "beta": beta}
        more = {"running_mean": None, "running_var": None} if name == "batch_norm_train" else {}
        forward = getattr(fnn, name)
        backward = getattr(fnn, f"{name.removesuffix('_train')}_backward")
        with using(run):
            y, *known = forward(x, **options, **affine, **more)
            given = {
                key: np.zeros((*value.shape, 2), np.float32)[..., 0]
                for key, value in zip(statistics, known, strict=True)
            }
            got = forward(x, **options, **affine, **more, **given, out=spare)
            assert all(one is other for one, other in zip(got, (spare, *given.values()), strict=True))
            for one, other in zip(got, (y, *known), strict=True):
                assert_same_bits(one, other)
            known_by_name = dict(zip(statistics, known, strict=True))
            dx, *sums = backward(dy, x, gamma=gamma, **options, **known_by_name)
            names = ("dgamma", "dbeta")[: len(sums)]
            for memory in (np.full((*shape, 2), 7, np.float32)[..., 0], np.full(shape, 7, np.float32)):
                room = {key: memory.copy() if memory.flags.c_contiguous else memory for key in names[:1]}
                got = backward(dy, x, gamma=gamma, **options, **known_by_name, **room)
                assert got[1] is room["dgamma"]
                for one, other in zip(got, (dx, *sums), strict=True):
                    assert_same_bits(one, other)
            before = {key: rng.standard_normal(shape).astype(np.float32) for key in names}
            after = {key: value.copy() for key, value in before.items()}
            got = backward(dy, x, gamma=gamma, **options, **known_by_name, **after, accumulate=True, out=spare)
            assert_same_bits(got[0], dx)
            for key, one, new in zip(names, got[1:], sums, strict=True):
                assert one is after[key]
                np.testing.assert_allclose(one, before[key] + new, rtol=2e-6, atol=2e-6)


def test_memory_that_cannot_take_the_results() -> None:
    x = np.random.default_rng(15).standard_normal((4, 6, 5)).astype(np.float32)
    for name, (options, statistics) in norms(x).items():
        shape = x.shape[1:] if "axis" in options else x.shape[1:2]
        gamma = np.ones(shape, np.float32)
        more = {"running_mean": None, "running_var": None, "beta": None} if name == "batch_norm_train" else {}
        forward = getattr(fnn, name)
        backward = getattr(fnn, f"{name.removesuffix('_train')}_backward")
        _, *known = forward(x, **options, gamma=gamma, **more)
        for key, value in zip(statistics, known, strict=True):
            kwargs = {"x": x, **options, "gamma": gamma, **more}
            refuse(
                TypeError,
                f"{key} has dtype float64; expected float32",
                forward,
                **kwargs,
                **{key: np.zeros(value.shape)},
            )
            refuse(ValueError, f"{key} has shape (9, 9)", forward, **kwargs, **{key: np.zeros((9, 9), np.float32)})
            overlapping = x.reshape(-1)[: value.size].reshape(value.shape)
            refuse(ValueError, f"{key} overlaps x in memory", forward, **kwargs, **{key: overlapping})
            out = np.empty_like(x)
            overlapping = out.reshape(-1)[: value.size].reshape(value.shape)
            refuse(ValueError, f"{key} overlaps out in memory", forward, **kwargs, **{key: overlapping}, out=out)
        kwargs = {"dy": x, "x": x.copy(), **options, **dict(zip(statistics, known, strict=True))}
        for key in ("dgamma", "dbeta")[: 1 if name == "rms_norm" else 2]:
            room = np.zeros(shape, np.float32)
            rest = {k: np.zeros(shape, np.float32) for k in ("dgamma",) if k != key}
            refuse(TypeError, f"{key} is a list", backward, **kwargs, gamma=gamma, **{key: [1.0]})
            refuse(ValueError, f"{key} has shape (2,)", backward, **kwargs, gamma=gamma, **{key: room.reshape(-1)[:2]})
            refuse(ValueError, f"{key} is an array and gamma is None", backward, **kwargs, gamma=None, **{key: room})
            refuse(ValueError, f"{key} overlaps gamma", backward, **kwargs, gamma=gamma, **{key: gamma})
            refuse(
                ValueError, f"adds to {key}, which is None", backward, **kwargs, gamma=gamma, accumulate=True, **rest
            )
            refuse(TypeError, "accumulate is 1", backward, **kwargs, gamma=gamma, accumulate=1)
            backward(**kwargs, gamma=None, accumulate=True)


def test_no_hidden_copies() -> None:
    """What a call allocates beyond its results does not grow with the array, as far as NumPy sees."""
    import tracemalloc

    rng = np.random.default_rng(7)
    shape = (64, 16, 32, 32)
    x, gamma, beta, *running = batch_arguments(rng, shape)
    dy, out = rng.standard_normal(shape).astype(np.float32), np.empty_like(x)
    _, mean, inv_std = fnn.batch_norm_train(x, gamma, beta, *running)
    _, row_mean, row_inv = fnn.group_norm(x, 4, gamma, beta)
    calls: list[Callable[[], Any]] = [
        lambda: fnn.batch_norm_train(x, gamma, beta, *running, activation="relu", out=out),
        lambda: fnn.batch_norm_infer(x, gamma, beta, *running, activation="relu", out=out),
        lambda: fnn.batch_norm_backward(dy, x, gamma, mean, inv_std, beta=beta, activation="relu", out=out),
        lambda: fnn.group_norm(x, 4, gamma, beta, out=out),
        lambda: fnn.group_norm_backward(dy, x, 4, gamma, row_mean, row_inv, out=out),
    ]
    for call in calls:
        call()
        tracemalloc.start()
        call()
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < x.nbytes / 50


# ---- conventions ----


@pytest.mark.parametrize("backend", BACKENDS)
def test_running_averages(backend: str) -> None:
    """momentum weighs the new batch; the average variance is the unbiased one; any float dtype, any stride."""
    rng = np.random.default_rng(8)
    x, gamma, beta, *_ = batch_arguments(rng, (6, 3, 5))
    for dtype in DTYPES.values():
        room = np.zeros((2, 6), dtype)
        mean, variance = room[0, ::2], room[1, ::-2]
        mean[...], variance[...] = [1, -2, 3], [4, 5, 6]
        before = mean.astype(np.float64), variance.astype(np.float64)
        with fnn.use(backend):
            fnn.batch_norm_train(x, gamma, beta, mean, variance, momentum=0.25)
        batch_mean, batch_variance = x.mean(axis=(0, 2), dtype=np.float64), x.var(axis=(0, 2), dtype=np.float64, ddof=1)
        tolerance = {"float64": 1e-7, "float32": 1e-6, "float16": 1e-3, "bfloat16": 1e-2}[dtype.name]
        for got, old, new in ((mean, before[0], batch_mean), (variance, before[1], batch_variance)):
            np.testing.assert_allclose(got.astype(np.float64), 0.75 * old + 0.25 * new, rtol=tolerance, atol=tolerance)


@every_run
def test_gamma_and_beta_recover_the_identity(run: str) -> None:
    rng = np.random.default_rng(9)
    x = rng.normal(3, 2, (50, 4, 6)).astype(np.float32)
    mean, std = x.mean(axis=(0, 2)), np.sqrt(x.var(axis=(0, 2), dtype=np.float64) + 1e-5)
    with using(run):
        y, *_ = fnn.batch_norm_train(x, std, mean, None, None)
        z = fnn.batch_norm_infer(x, std, mean, mean, std**2 - 1e-5)
    np.testing.assert_allclose(y, x, atol=3e-6)
    np.testing.assert_allclose(z, x, atol=3e-6)


# ---- PyTorch ----


def test_like_pytorch_on_random_shapes() -> None:
    torch = pytest.importorskip("torch", reason="compares with PyTorch, which is not installed")
    functional = torch.nn.functional
    rng = np.random.default_rng(10)

    def close(got: Any, expected: Any) -> None:
        np.testing.assert_allclose(got, expected.detach().numpy(), rtol=1e-9, atol=1e-9)

    for _ in range(30):
        spatial = tuple(rng.choice([1, 1, 2, 3, 7, 16], rng.integers(0, 4)))
        groups, each = int(rng.choice([1, 2, 5])), int(rng.choice([1, 3, 4]))
        shape = (int(rng.choice([2, 3, 9])), groups * each, *map(int, spatial))
        x, gamma, beta, mean, variance = batch_arguments(rng, shape, np.float64)
        dy = rng.standard_normal(shape)
        tensors = [torch.tensor(a, requires_grad=True) for a in (x, gamma, beta)]

        def gradients(y: Any) -> list[Any]:
            return list(torch.autograd.grad(y, tensors, torch.tensor(dy)))  # noqa: B023

        running = torch.tensor(mean), torch.tensor(variance)
        expected = functional.batch_norm(tensors[0], *running, *tensors[1:], training=True, momentum=0.3, eps=1e-3)
        y, *statistics = fnn.batch_norm_train(x, gamma, beta, mean, variance, 0.3, 1e-3)
        close(y, expected)
        close(mean, running[0])
        close(variance, running[1])
        for got, want in zip(fnn.batch_norm_backward(dy, x, gamma, *statistics), gradients(expected), strict=True):
            close(got, want)
        expected = functional.batch_norm(tensors[0], *running, *tensors[1:], training=False, eps=1e-3)
        close(fnn.batch_norm_infer(x, gamma, beta, mean, variance, 1e-3), expected)

        expected = functional.group_norm(tensors[0], groups, *tensors[1:])
        y, *statistics = fnn.group_norm(x, groups, gamma, beta)
        close(y, expected)
        for got, want in zip(
            fnn.group_norm_backward(dy, x, groups, gamma, *statistics), gradients(expected), strict=True
        ):
            close(got, want)

        if np.prod(shape[2:]) > 1:
            expected = functional.instance_norm(tensors[0], None, None, *tensors[1:])
            y, *statistics = fnn.instance_norm(x, gamma, beta)
            close(y, expected)
            for got, want in zip(
                fnn.instance_norm_backward(dy, x, gamma, *statistics), gradients(expected), strict=True
            ):
                close(got, want)

        axis = int(rng.integers(-len(shape), 0))
        gamma, beta = rng.standard_normal(shape[axis:]), rng.standard_normal(shape[axis:])
        tensors = [torch.tensor(a, requires_grad=True) for a in (x, gamma, beta)]
        expected = functional.layer_norm(tensors[0], shape[axis:], *tensors[1:])
        y, *statistics = fnn.layer_norm(x, gamma, beta, axis=axis)
        close(y, expected)
        for got, want in zip(
            fnn.layer_norm_backward(dy, x, gamma, *statistics, axis=axis), gradients(expected), strict=True
        ):
            close(got, want)

        tensors = tensors[:2]
        expected = functional.rms_norm(tensors[0], shape[axis:], tensors[1])
        y, inv_rms = fnn.rms_norm(x, gamma, axis=axis)
        close(y, expected)
        for got, want in zip(fnn.rms_norm_backward(dy, x, gamma, inv_rms, axis=axis), gradients(expected), strict=True):
            close(got, want)


# ---- what is refused ----


def refuse(error: type[Exception], text: str, function: Any, *args: Any, **kwargs: Any) -> None:
    """Refused, with this in the message, and no array is changed."""
    arrays = [a for a in (*args, *kwargs.values()) if isinstance(a, np.ndarray)]
    before = [a.copy() for a in arrays]
    with pytest.raises(error, match=f"^{function.__name__}: .*{re.escape(text)}"):
        function(*args, **kwargs)
    for now, then in zip(arrays, before, strict=True):
        assert now.tobytes() == then.tobytes()


def test_a_batch_of_one_names_the_ways_out() -> None:
    x, *rest = batch_arguments(np.random.default_rng(11), (1, 3))
    for shape in ((1, 3), (1, 3, 1, 1), (0, 3, 4)):
        for way in ("batch_norm_infer", "eval mode", "group_norm", "dropping the last"):
            refuse(ValueError, way, fnn.batch_norm_train, np.zeros(shape, np.float32), *rest)
    refuse(ValueError, "1 value per channel", fnn.batch_norm_train, x, *rest)
    refuse(ValueError, "1 value per channel", fnn.instance_norm, np.zeros((4, 3, 1)))


def test_bad_arguments() -> None:
    x, gamma, beta, mean, variance = batch_arguments(np.random.default_rng(12), (4, 3, 5))
    train, infer = fnn.batch_norm_train, fnn.batch_norm_infer
    for function in (train, infer):
        arguments = (x, gamma, beta, mean, variance)
        refuse(ValueError, "running_var has -1", function, *arguments[:4], np.array([1, -1, 1], np.float32))
        for eps in (0, -1e-5, np.nan, np.inf):
            refuse(ValueError, "eps is", function, *arguments, eps=eps)
        refuse(TypeError, "eps is", function, *arguments, eps="small")
        refuse(ValueError, "gamma has shape (4,); expected (3,)", function, x, np.ones(4), *arguments[2:])
        refuse(ValueError, "running_mean has shape (2,)", function, *arguments[:3], mean[:2], variance)
        refuse(ValueError, "no activation 'rely'", function, *arguments, activation="rely")
        refuse(ValueError, "x has shape (3,)", function, np.zeros(3), *arguments[1:])
        refuse(TypeError, "x has dtype", function, x.astype(complex), *arguments[1:])
        refuse(ValueError, "out overlaps x", function, *arguments, out=x[::-1])
    refuse(TypeError, "momentum is", train, *arguments, momentum=None)
    refuse(ValueError, "dropout_p is 1.5", train, *arguments, dropout_p=1.5, seed=1)
    refuse(TypeError, "seed is missing", train, *arguments, dropout_p=0.5)
    refuse(ValueError, "seed is -1", train, *arguments, dropout_p=0.5, seed=-1)
    for momentum in (-0.1, 1.5, np.nan):
        refuse(ValueError, "momentum is", train, *arguments, momentum=momentum)
    frozen = mean.copy()
    frozen.flags.writeable = False
    refuse(ValueError, "running_mean is read-only", train, x, gamma, beta, frozen, variance)
    refuse(ValueError, "running_var is None", train, x, gamma, beta, mean, None)
    refuse(TypeError, "running_mean is a list", train, x, gamma, beta, [0.0] * 3, variance)
    refuse(TypeError, "running_var has dtype int64", train, x, gamma, beta, mean, np.ones(3, np.int64))
    refuse(ValueError, "running_var overlaps running_mean", train, x, gamma, beta, variance, variance)
    refuse(ValueError, "running_mean overlaps x", train, x, gamma, beta, x[0, 0, :3], variance)
    out = np.empty_like(x)
    refuse(ValueError, "running_mean overlaps out", train, x, gamma, beta, out[0, 0, :3], variance, out=out)

    _, m, i = train(x, gamma, beta, None, None)
    backward = fnn.batch_norm_backward
    refuse(ValueError, "beta is None", backward, x, x, gamma, m, i, activation="relu")
    refuse(ValueError, "dy has shape (3, 3, 5)", backward, x[1:], x, gamma, m, i)
    refuse(ValueError, "mean has shape (2,)", backward, x, x, gamma, m[:2], i)

    refuse(ValueError, "groups is 2 and x has 3 channels", fnn.group_norm, x, 2)
    refuse(ValueError, "groups is 0", fnn.group_norm, x, 0)
    refuse(TypeError, "groups is 1.5", fnn.group_norm, x, 1.5)
    refuse(ValueError, "axis is 3", fnn.layer_norm, x, axis=3)
    refuse(TypeError, "axis is", fnn.layer_norm, x, axis=None)
    refuse(ValueError, "gamma has shape (3,); expected (5,)", fnn.layer_norm, x, gamma)
    refuse(ValueError, "nothing along axis 1", fnn.layer_norm, np.zeros((3, 0)))
    refuse(ValueError, "eps is 0", fnn.rms_norm, x, eps=0)


def test_empty_arrays() -> None:
    empty = np.zeros((0, 3, 4), np.float32)
    gamma = np.ones(3, np.float32)
    assert fnn.batch_norm_infer(empty, gamma, gamma, gamma, gamma).shape == (0, 3, 4)
    dx, dgamma, dbeta = fnn.batch_norm_backward(empty, empty, gamma, gamma, gamma)
    assert dx.shape == (0, 3, 4) and dgamma is not None and not dgamma.any() and dbeta is not None and not dbeta.any()
    y, mean, inv_std = fnn.layer_norm(empty)
    assert y.shape == (0, 3, 4) and mean.shape == inv_std.shape == (0, 3)
    dx, dgamma, _ = fnn.layer_norm_backward(empty, empty, np.ones(4, np.float32), mean, inv_std)
    assert dx.shape == (0, 3, 4) and dgamma is not None and not dgamma.any()


def test_eps_of_rms_norm_is_that_of_the_dtype() -> None:
    for name, dtype in DTYPES.items():
        x = np.zeros((2, 3), dtype)
        _, inv_rms = fnn.rms_norm(x)
        eps = {"float16": 2.0**-10, "bfloat16": 2.0**-7, "float32": 2.0**-23, "float64": 2.0**-52}[name]
        np.testing.assert_allclose(inv_rms.astype(np.float64), 1 / np.sqrt(eps), rtol=1e-6)
