"""The dropout family: exact masks everywhere, what is expected of them on average, and what is refused."""

from __future__ import annotations

import itertools
import math
import tracemalloc
from typing import Any

import numpy as np
import pytest
from layouts import DTYPES, LAYOUTS, Array, active, assert_same_bits, misaligned, num_threads
from rows import RUNS, using

import fastnn as fnn
from fastnn import generator
from fastnn.kernels.cpu import runtime
from fastnn.table.dropout import ALPHA_PRIME

every_run = pytest.mark.parametrize("run", RUNS)
every_dtype = pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
SEED = {"seed": 12345, "offset": 6}
ELEMENTWISE = {
    "dropout": fnn.dropout,
    "dropout_backward": fnn.dropout_backward,
    "drop_connect": fnn.drop_connect,
    "drop_connect_backward": fnn.drop_connect_backward,
    "alpha_dropout": fnn.alpha_dropout,
    "alpha_dropout_backward": fnn.alpha_dropout_backward,
}
WHOLE = {
    "spatial_dropout": fnn.spatial_dropout,
    "spatial_dropout_backward": fnn.spatial_dropout_backward,
    "stochastic_depth": fnn.stochastic_depth,
    "stochastic_depth_backward": fnn.stochastic_depth_backward,
}
SEEDED = {**ELEMENTWISE, **WHOLE}


def numbers(n: int, dtype: Any = np.float32) -> Array:
    return np.random.default_rng(n).standard_normal(n).astype(dtype)


def kept(n: int, p: float, start: int = 0) -> Array:
    return generator.kept(start, n, generator.threshold(p), **SEED)


# ---- masks ----


@every_dtype
@every_run
def test_every_length_aligned_or_not_and_in_place(run: str, dtype: np.dtype[Any]) -> None:
    """Twice x, or 0: exact in every dtype and backend."""
    lengths = [*range(70), 127, 128, 129, 511, 512, 513, 575, 576, 577, 640, 1100]
    with using(run):
        for n in lengths if run != "reference" else lengths[::7]:
            x = numbers(n, dtype)
            expected = np.where(kept(n, 0.5), x + x, np.zeros(1, dtype))
            assert_same_bits(fnn.dropout(x, 0.5, **SEED), expected)
            room = np.zeros(n + 20, dtype)
            for shift in (1, 3, 16):
                y = room[shift : shift + n]
                y[...] = x
                assert fnn.dropout(y, 0.5, **SEED, out=y) is y
                assert_same_bits(y, expected)
                assert not room[:shift].any() and not room[shift + n :].any()
                y[...] = 0
            assert_same_bits(fnn.dropout(misaligned(x), 0.5, **SEED), expected)
            assert_same_bits(fnn.dropout(x, 0.5, **SEED, mode="vanilla"), np.where(kept(n, 0.5), x, np.zeros(1, dtype)))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_mask_follows_the_order_of_indices(layout: str) -> None:
    x = np.random.default_rng(0).standard_normal((5, 7, 9)).astype(np.float32)
    expected = np.where(kept(x.size, 0.3).reshape(x.shape), x, np.float32(0))
    given = LAYOUTS[layout](x)
    out = LAYOUTS[layout](np.zeros_like(x))
    assert_same_bits(fnn.dropout(given, 0.3, **SEED, mode="vanilla"), expected)
    assert fnn.dropout(given, 0.3, **SEED, mode="vanilla", out=out) is out
    assert_same_bits(out, expected)
    assert fnn.dropout(given, 0.3, **SEED, mode="vanilla", out=given) is given
    assert_same_bits(given, expected)


@every_run
@pytest.mark.parametrize("name", ELEMENTWISE)
def test_pieces_make_up_the_whole(name: str, run: str) -> None:
    """Cut anywhere, within a block of random words too."""
    function, x = ELEMENTWISE[name], numbers(1500)
    cuts = (0, 1, 6, 13, 77, 590, 1111, 1500)
    with using(run):
        expected = function(x, 0.2, **SEED, start=5)
        pieces = [function(x[a:b], 0.2, **SEED, start=5 + a) for a, b in itertools.pairwise(cuts)]
        assert_same_bits(np.concatenate(pieces), expected)


@pytest.mark.parametrize("name", WHOLE)
def test_pieces_of_a_batch(name: str) -> None:
    x = numbers(6 * 5 * 4 * 3).reshape(6, 5, 4, 3)
    units = 5 if "spatial" in name else 1
    whole = WHOLE[name](x, 0.5, **SEED)
    pieces = [WHOLE[name](x[a:b], 0.5, **SEED, start=a * units) for a, b in ((0, 1), (1, 4), (4, 6))]
    assert_same_bits(np.concatenate(pieces), whole)


@pytest.mark.parametrize("isa", runtime.isas())
def test_large_arrays_past_the_caches(isa: str) -> None:
    """Larger than any first guess at a cache: written by streaming stores, by several threads, from any address."""
    n = 8_400_007  # 33.6 MB
    room = np.empty(n + 16, np.float32)
    x = np.arange(n, dtype=np.float32)
    words = fnn.philox(-(-n // 8), **SEED)
    keep = words.view("<u2").ravel()[:n] >= 2**15
    with active(isa):
        for shift, threads in ((0, 1), (4, 2), (1, 3)):
            with num_threads(threads):
                y = fnn.dropout(x, 0.5, **SEED, out=room[shift : shift + n])
            assert np.array_equal(y != 0, keep & (x != 0)) and np.array_equal(y[keep], 2 * x[keep])


@pytest.mark.parametrize("run", [run for run in RUNS if run != "reference"])
@pytest.mark.parametrize("name", SEEDED)
def test_threads_do_not_matter(name: str, run: str) -> None:
    x = numbers(300_000).reshape(10, 30, 1000)
    with using(run):
        results = []
        for threads in (1, 2, 3):
            with num_threads(threads):
                results.append(SEEDED[name](x, 0.3, **SEED))
    for other in results[1:]:
        assert_same_bits(other, results[0])


@every_run
@every_dtype
def test_whole_channels_and_samples(run: str, dtype: np.dtype[Any]) -> None:
    x = np.ones((7, 5, 3, 11), dtype)
    with using(run):
        channels = fnn.dropout_mask((7, 5), 0.5, **SEED)
        expected = np.where(channels[:, :, None, None], x + x, np.zeros(1, dtype))
        assert_same_bits(fnn.spatial_dropout(x, 0.5, **SEED), expected)
        samples = fnn.dropout_mask(7, 0.5, **SEED)
        expected = np.where(samples[:, None, None, None], x + x, np.zeros(1, dtype))
        assert_same_bits(fnn.stochastic_depth(x, 0.5, **SEED), expected)
        assert_same_bits(fnn.stochastic_depth(x, 0.5, **SEED, out=x), expected)


def test_streams_differ_and_repeat() -> None:
    mask = fnn.dropout_mask(1000, 0.5, seed=1)
    for other in ({"seed": 2}, {"seed": 1, "offset": 1}, {"seed": 1 + 2**32}, {"seed": 1, "offset": 2**32}):
        assert 400 < np.count_nonzero(mask != fnn.dropout_mask(1000, 0.5, **other)) < 600
    np.testing.assert_array_equal(mask, fnn.dropout_mask((10, 100), 0.5, seed=np.uint64(1)).ravel())
    np.testing.assert_array_equal(mask, fnn.dropout_mask([1000], 0.5, seed=np.int8(1), offset=np.uint8(0)))


@pytest.mark.parametrize("backward", [name for name in SEEDED if name.endswith("_backward")])
def test_backward_draws_the_mask_of_forward(backward: str) -> None:
    x = numbers(40_000).reshape(400, 10, 10)
    y = SEEDED[backward.removesuffix("_backward")](x, 0.3, **SEED)
    dx = SEEDED[backward](np.ones_like(x), 0.3, **SEED)
    dropped = dx == 0
    assert 0.2 < dropped.mean() < 0.4 and np.unique(dx).size == 2
    assert np.unique(y[dropped]).size == 1 and np.unique(y[~dropped]).size > 1


# ---- special values ----


@every_run
@every_dtype
def test_what_is_dropped_is_zero_whatever_it_was(run: str, dtype: np.dtype[Any]) -> None:
    special = np.array([np.nan, np.inf, -np.inf, -0.0, 1.0], dtype)
    x = np.repeat(special, 40)
    keep = kept(x.size, 0.5)
    with using(run):
        y = fnn.dropout(x, 0.5, **SEED)
    assert_same_bits(y[~keep], np.zeros(np.count_nonzero(~keep), dtype))
    assert_same_bits(y[keep], (x + x)[keep])


@every_run
@every_dtype
def test_all_or_nothing_is_exact(run: str, dtype: np.dtype[Any]) -> None:
    """With probability 0 bit by bit, payloads of NaN included; with probability 1 positive zeros."""
    patterns = np.random.default_rng(1).integers(0, 256, 600 * dtype.itemsize, np.uint8).view(dtype).reshape(20, 5, 6)
    with using(run):
        for name, function in SEEDED.items():
            for p in (0, 0.0, 2.0**-18):
                y = function(patterns, p, **SEED)
                np.testing.assert_array_equal(y.view(np.uint8), patterns.view(np.uint8), err_msg=name)
            for p in (1, 1.0, 1 - 2.0**-18):
                assert not function(patterns, p, **SEED).view(np.uint8).any(), name
        y = fnn.dropout_infer(patterns, 0.3)
        np.testing.assert_array_equal(y.view(np.uint8), patterns.view(np.uint8))
        assert fnn.dropout_mask(9, 0, seed=1).all() and not fnn.dropout_mask(9, 1, seed=1).any()


# ---- expectations: tolerances are five standard deviations, which a fixed seed passes or fails for good ----


@pytest.mark.parametrize("p", [0.001, 0.1, 1 / 3, 0.5, 0.75, 0.9999])
def test_rate_is_the_true_rate(p: float) -> None:
    n = 2_000_000
    rate = round(p * 65536) / 65536
    dropped = n - np.count_nonzero(fnn.dropout_mask(n, p, seed=3))
    assert abs(dropped - n * rate) <= 5 * math.sqrt(n * rate * (1 - rate))
    y = fnn.dropout(np.ones(1000), p, seed=3)
    assert set(y.tolist()) <= {0.0, 1 / (1 - rate)}


@pytest.mark.parametrize("mode", ["inverted", "vanilla"])
def test_average_over_masks_is_what_test_time_computes(mode: str) -> None:
    """Of M masks: the average of m kept ones has variance q (1 - q) / M, in units of what is added."""
    x, p, masks = np.random.default_rng(0).uniform(1, 2, 50), 0.3, 4000
    q = 1 - round(p * 65536) / 65536
    step = x if mode == "vanilla" else x / q
    average = sum(fnn.dropout(x, p, seed=1, offset=k, mode=mode) for k in range(masks)) / masks
    deviation = np.abs(average - fnn.dropout_infer(x, p, mode=mode)) / step
    assert deviation.max() <= 5 * math.sqrt(q * (1 - q) / masks)
    np.testing.assert_allclose(fnn.dropout_infer(x, p, mode=mode), step * q, rtol=1e-15)


def test_neuron_of_two_inputs_halves_on_average() -> None:
    """Of its four masks, each as likely as the others, the average output is half (CS231n, lecture 7)."""
    w, x = np.array([1.5, -0.25]), np.array([2.0, 4.0])
    found: dict[tuple[bool, ...], float] = {}
    for offset in range(100):
        mask = tuple(fnn.dropout_mask(2, 0.5, seed=0, offset=offset).tolist())
        found[mask] = float(w @ fnn.dropout(x, 0.5, seed=0, offset=offset, mode="vanilla"))
    assert len(found) == 4 and sum(found.values()) / 4 == w @ x / 2 == w @ fnn.dropout_infer(x, 0.5, mode="vanilla")


@pytest.mark.parametrize("p", [0.05, 0.2, 0.5, 0.9])
def test_alpha_dropout_keeps_mean_and_variance(p: float) -> None:
    n = 1_000_000
    x = np.random.default_rng(2).standard_normal(n)
    x = (x - x.mean()) / x.std()
    y = fnn.alpha_dropout(x, p, seed=4)
    fourth = float(np.mean((y - y.mean()) ** 4))
    assert abs(y.mean()) <= 5 / math.sqrt(n)
    assert abs(y.var() - 1) <= 5 * math.sqrt((fourth - 1) / n)
    dropped = ~fnn.dropout_mask(n, p, seed=4)
    assert np.unique(y[dropped]).size == 1


def test_alpha_dropout_is_the_formula_of_its_paper() -> None:
    torch = pytest.importorskip("torch", reason="compares with PyTorch, which is not installed")
    x = numbers(10_000, np.float64)
    y = fnn.alpha_dropout(x, 0.25, seed=5)  # a rate that is on the grid
    mask = fnn.dropout_mask(x.shape, 0.25, seed=5)
    reference = torch.nn.functional.alpha_dropout(torch.from_numpy(x), 0.25, training=True).numpy()
    values, counts = np.unique(reference, return_counts=True)
    np.testing.assert_allclose(y[~mask], values[counts.argmax()], rtol=1e-6)  # what torch gives to dropped elements
    a = (0.75 + ALPHA_PRIME**2 * 0.75 * 0.25) ** -0.5
    np.testing.assert_allclose(y[mask], a * x[mask] - a * 0.25 * ALPHA_PRIME, rtol=1e-14, atol=1e-15)


def test_selu_network_keeps_its_statistics() -> None:
    """Twelve layers of SELU with alpha dropout between them: mean near 0, variance near 1."""
    rng = np.random.default_rng(6)
    x = rng.standard_normal((500, 400))
    for layer in range(12):
        x = fnn.alpha_dropout(fnn.selu(x @ (rng.standard_normal((400, 400)) / 20)), 0.1, seed=7, offset=layer)
    assert abs(x.mean()) < 0.05 and 0.8 < x.var() < 1.2


# ---- what is refused ----


@pytest.mark.parametrize("name", SEEDED)
def test_bad_arguments(name: str) -> None:
    function, x = SEEDED[name], np.ones((3, 4), np.float32)
    before = x.copy()
    with pytest.raises(TypeError, match=rf"^{name}: there is no keep_prob; p is the probability of DROPPING.*p=0.2$"):
        function(x, keep_prob=0.8, seed=1)
    with pytest.raises(TypeError, match=rf"^{name}: seed is missing; expected an int"):
        function(x, 0.5)
    for p in (-0.1, 1.1, math.nan, math.inf, -1, 2, np.float32(1.5)):
        with pytest.raises(ValueError, match=rf"^{name}: p is .*probability of dropping, a number from 0 to 1"):
            function(x, p, seed=1, out=x)
    for p in (None, "half", True, [0.5], x, 0.5j):
        with pytest.raises(TypeError, match=rf"^{name}: p is "):
            function(x, p, seed=1, out=x)
    for argument, largest in (("seed", 2**64), ("offset", 2**64), ("start", 2**63)):
        for wrong in (-1, largest, np.int64(-5)):
            with pytest.raises(ValueError, match=rf"^{name}: {argument} is .*expected an int from 0 to 2"):
                function(x, 0.5, **{"seed": 1, argument: wrong}, out=x)
        for kind in (None, 1.0, "1", True, np.True_, np.array([1])):
            with pytest.raises(TypeError, match=rf"^{name}: {argument} is .*expected an int from 0 to 2"):
                function(x, 0.5, **{"seed": 1, argument: kind}, out=x)
    np.testing.assert_array_equal(x, before)


def test_bad_modes_and_shapes() -> None:
    with pytest.raises(ValueError, match="dropout: mode is 'train'; expected one of 'inverted', 'vanilla'"):
        fnn.dropout(np.ones(3), 0.5, seed=1, mode="train")
    with pytest.raises(TypeError, match="dropout_infer: mode is None"):
        fnn.dropout_infer(np.ones(3), 0.5, mode=None)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="dropout_infer: there is no keep_prob"):
        fnn.dropout_infer(np.ones(3), keep_prob=0.5)  # type: ignore[call-arg]
    with pytest.raises(ValueError, match=r"spatial_dropout: x has shape \(3,\); expected \(N, C, \*spatial\)"):
        fnn.spatial_dropout(np.ones(3), 0.5, seed=1)
    with pytest.raises(ValueError, match=r"stochastic_depth: x has shape \(\)"):
        fnn.stochastic_depth(1.0, 0.5, seed=1)
    for shape in (-1, (3, -2)):
        with pytest.raises(ValueError, match="dropout_mask: shape is"):
            fnn.dropout_mask(shape, 0.5, seed=1)
    for kind in ("3", 2.0, (1.5,), None):
        with pytest.raises(TypeError, match="dropout_mask: shape is"):
            fnn.dropout_mask(kind, 0.5, seed=1)  # type: ignore[arg-type]


def test_no_memory_beyond_the_result() -> None:
    x = np.ones((4, 64, 64, 64), np.float32)
    for function in SEEDED.values():
        function(x, 0.5, **SEED)
        tracemalloc.start()
        function(x, 0.5, **SEED)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        function(x, 0.5, **SEED, out=x)
        _, in_place = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < x.nbytes + 20_000 and in_place < x.nbytes // 100
        x[...] = 1
