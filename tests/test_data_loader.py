"""The loader: the same batches whatever is prefetched and wherever one begins, its thread, its memory."""

from __future__ import annotations

import copy
import gc
import pickle
import sys
import threading
import time
import traceback
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastnn as fnn

data = fnn.data
Array = np.ndarray[Any, Any]
Batches = list[tuple[Array, Array]]


def photos(n: int = 53, dtype: Any = np.uint8) -> Any:
    rng = np.random.default_rng(n)
    x = rng.integers(0, 256, (n, 3, 8, 8), dtype=np.uint8)
    return data.ArrayDataset(x if dtype == np.uint8 else x.astype(dtype) / 255, np.arange(n) % 10)


def numbers(n: int) -> Any:
    return data.ArrayDataset(np.arange(n, dtype=np.float32)[:, None], np.arange(n))


def augmented(**options: Any) -> Any:
    """Everything that draws, with labels too."""
    steps = [
        data.RandomCrop(8, padding=2),
        data.RandomHorizontalFlip(),
        data.ColorJitter(0.2, 0.2, 0.2),
        data.Mixup(0.4, classes=10),
        lambda x, rng: x + rng.standard_normal(x.shape, np.float32),
        data.Cutout(3),
    ]
    return data.Loader(photos(), 8, transforms=steps, **options)


def copies(batches: Any) -> Batches:
    return [(x.copy(), y.copy()) for x, y in batches]


def same(found: Batches, expected: Batches) -> None:
    assert len(found) == len(expected)
    for (x, y), (x_expected, y_expected) in zip(found, expected, strict=True):
        np.testing.assert_array_equal(x, x_expected)
        np.testing.assert_array_equal(y, y_expected)


def loader_threads() -> int:
    return sum(thread.name == "fastnn-loader" for thread in threading.enumerate())


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Any:
    yield
    if loader_threads():
        gc.collect()
    assert loader_threads() == 0


# The same batches


@pytest.mark.parametrize("prefetch", [0, 1, 2, 9])
def test_prefetch_changes_nothing(prefetch: int) -> None:
    plain, ahead = augmented(prefetch=0, seed=5), augmented(prefetch=prefetch, seed=5)
    for _ in range(2):
        same(copies(ahead), copies(plain))


@settings(max_examples=25, deadline=None)
@given(
    start=st.integers(0, 7), epoch=st.integers(0, 2**32 - 1), seed=st.integers(0, 2**64 - 1), prefetch=st.integers(0, 3)
)
def test_an_epoch_goes_on_from_any_batch(start: int, epoch: int, seed: int, prefetch: int) -> None:
    whole = copies(augmented(seed=seed).batches(epoch))
    same(copies(augmented(seed=seed, prefetch=prefetch).batches(epoch, start)), whole[start:])


def test_order_and_draws_depend_on_seed_and_epoch() -> None:
    first = copies(augmented(seed=1))
    same(copies(augmented(seed=1)), first)
    loader = augmented(seed=2)
    other, later = copies(loader), copies(loader)
    for one, two in ((first, other), (other, later)):
        assert all((a[0] != b[0]).any() for a, b in zip(one, two, strict=True))
    same(copies(loader.batches(0)), other)
    assert loader.epoch == 2


@pytest.mark.parametrize("batch_size", [1, 7, 20, 50])
@pytest.mark.parametrize("drop_last", [False, True])
def test_every_sample_comes_once(batch_size: int, drop_last: bool) -> None:
    loader = data.Loader(numbers(20), min(batch_size, 20) if drop_last else batch_size, drop_last=drop_last)
    epochs = [copies(loader) for _ in range(3)]
    for batches in epochs:
        assert len(batches) == len(loader)
        seen = np.concatenate([y for _, y in batches])
        np.testing.assert_array_equal(np.concatenate([x[:, 0] for x, _ in batches]), seen)
        assert len(set(seen)) == len(seen) == (len(loader) * loader.batch_size if drop_last else 20)
    assert epochs[0][0][1].tolist() != epochs[1][0][1].tolist() or batch_size == 1


def test_without_shuffling_samples_keep_their_order() -> None:
    loader = data.Loader(numbers(10), 4, shuffle=False)
    for _ in range(2):
        assert [y.tolist() for _, y in loader] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_random_numbers_of_the_process_are_left_alone() -> None:
    fnn.manual_seed(1)
    expected = fnn.random.new_seed()
    fnn.manual_seed(1)
    copies(augmented())
    assert fnn.random.new_seed() == expected


# Where it stands


def test_the_state_goes_on_in_another_loader() -> None:
    whole = augmented(seed=3)
    batches = [copies(whole) for _ in range(4)]
    loader, seen = augmented(seed=3), 0
    states = [loader.state]
    for _ in range(2):
        for _ in loader:
            seen += 1
            states.append(loader.state)
    assert states[0] == loader.state | {"epoch": 0, "batch": 0} and states[7] == loader.state | {"epoch": 1, "batch": 0}
    flat = [batch for epoch in batches for batch in epoch]
    for count in (0, 1, 6, 7, 10, 14):
        other = augmented(seed=3, prefetch=1)
        other.state = states[count]
        assert other.state == states[count]
        same(copies(other) + copies(other), flat[count : 7 * (count // 7 + 2)])


def test_the_state_after_a_loop_that_was_left() -> None:
    """The next iteration begins the next epoch."""
    loader = augmented()
    for _ in loader:
        break
    gc.collect()
    assert loader.state["epoch"] == 1 and loader.state["batch"] == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 4}, "state has seed=4; expected 3"),
        ({"samples": 54}, "state has samples=54; expected 53"),
        ({"batch": 8}, "start is 8; expected 0 to 7"),
        ({"epoch": -1}, "epoch is -1"),
        ({"mood": 1}, "state has .*'mood'.*; expected"),
    ],
)
def test_a_state_of_something_else(change: dict[str, int], message: str) -> None:
    loader = augmented(seed=3)
    with pytest.raises(ValueError, match=message):
        loader.state = loader.state | change
    assert loader.epoch == 0


# What comes


@pytest.mark.parametrize("prefetch", [0, 2])
def test_bytes_become_floats(prefetch: int) -> None:
    samples = photos()
    x, y = next(iter(data.Loader(samples, 10, shuffle=False, prefetch=prefetch)))
    assert x.dtype == np.float32 and y.dtype == samples.y.dtype
    np.testing.assert_array_equal(x, samples.x[:10].astype(np.float32) / np.float32(255))


@pytest.mark.parametrize("given_dtype", [np.uint8, np.float16, np.float32, np.float64, np.int32])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("crop", [False, True])
def test_dtypes(given_dtype: Any, dtype: str, crop: bool) -> None:
    if dtype == "bfloat16":
        dtype = pytest.importorskip("ml_dtypes").bfloat16
    samples = photos(dtype=given_dtype)
    seen = []

    def look(x: Array, rng: np.random.Generator) -> Array:
        seen.append(x.dtype)
        return x

    steps = [look, data.RandomCrop(8)] if crop else []
    x, _ = next(iter(data.Loader(samples, 10, shuffle=False, dtype=dtype, transforms=steps)))
    wide = np.float64 if dtype == "float64" else np.float32
    expected = samples.x[:10].astype(wide) / wide(255) if given_dtype == np.uint8 else samples.x[:10].astype(wide)
    assert x.dtype == dtype and set(seen) <= {np.dtype(wide)}
    np.testing.assert_array_equal(x, expected.astype(dtype))


def test_any_labels_and_a_pair_of_arrays() -> None:
    x, y = np.zeros((6, 2), np.float32), np.arange(12.0).reshape(6, 2)
    found = copies(data.Loader((x, y), 4, shuffle=False))
    np.testing.assert_array_equal(np.concatenate([labels for _, labels in found]), y)


def test_transforms_of_every_kind_get_what_they_expect() -> None:
    """Chains are taken apart so that steps have memory to write to: the result is the same."""
    samples = photos()
    prepare = data.Pipeline([data.PerChannelStandardize(), data.MeanImage()]).fit(samples.x)
    crop, flip, mix = data.RandomCrop(6, 1), data.RandomHorizontalFlip(), data.Mixup(classes=10)
    kept: list[Array] = []

    def backwards(x: Array, rng: np.random.Generator) -> Array:
        return x[..., ::-1]  # a view of the loader's memory

    def keep(x: Array, rng: np.random.Generator) -> Array:
        kept.append(x.copy())
        return kept[-1]  # memory of its own, which nobody may write to

    steps = [prepare, data.Compose([backwards, crop]), keep, data.Normalize(0.5, 2), mix, flip, backwards]
    loader = data.Loader(samples, 20, transforms=steps, seed=1, prefetch=0)
    number = 0
    order = np.concatenate([y for _, y in data.Loader((samples.x, np.arange(53)), 20, seed=1)])
    for number, (x, y) in enumerate(loader):
        rows = order[number * 20 : (number + 1) * 20]
        rng = np.random.default_rng(np.random.SeedSequence(1, spawn_key=(1, 0, number)))
        expected = crop(prepare.transform(samples.x[rows])[..., ::-1].copy(), rng)
        np.testing.assert_array_equal(kept[-1], expected)
        expected, soft = mix(data.Normalize(0.5, 2)(expected, rng), samples.y[rows], rng)
        np.testing.assert_array_equal(x, flip(expected, rng)[..., ::-1])
        np.testing.assert_array_equal(y, soft)
        assert x.flags.c_contiguous and x.shape == (len(rows), 3, 6, 6)
    assert number == 2


def test_what_a_callable_returns_is_brought_back_to_the_dtype() -> None:
    steps = [lambda x, rng: x.astype(np.float64) * 2, data.RandomCrop(6), data.Normalize(0.5, 1)]
    for prefetch in (0, 2):
        x, _ = next(iter(data.Loader(photos(), 8, transforms=steps, prefetch=prefetch)))
        assert x.dtype == np.float32 and x.max() > 1
    with pytest.raises(TypeError, match="the transform <function.* made a NoneType of x; expected an array"):
        copies(data.Loader(photos(), transforms=[lambda x, rng: None]))


def test_copies_have_memory_of_their_own() -> None:
    loader = data.Loader(photos(), 8, transforms=[data.RandomCrop(6, 1)], seed=3)
    first = copies(loader)
    for other in (copy.deepcopy(loader), pickle.loads(pickle.dumps(loader))):
        assert other.state == loader.state and other._idle == []
        same(copies(other.batches(0)), first)


def test_a_pca_makes_rows_of_images() -> None:
    samples = photos()
    step = data.PCA(5).fit(samples.x)
    x = np.concatenate([x.copy() for x, _ in data.Loader(samples, 20, shuffle=False, transforms=[step])])
    np.testing.assert_allclose(x, step.transform(samples.x), atol=1e-6)


# The thread


def test_errors_of_the_thread_reach_the_caller() -> None:
    calls = []

    def stumble(x: Array, rng: np.random.Generator) -> Array:
        calls.append(len(x))
        if len(calls) == 3:
            raise ZeroDivisionError("in the third batch")
        return x

    for prefetch in (0, 2):
        calls.clear()
        batches = data.Loader(photos(), 8, transforms=[stumble], prefetch=prefetch).batches(4)
        next(batches), next(batches)
        with pytest.raises(ZeroDivisionError, match="in the third batch") as caught:
            next(batches)
        assert "in stumble" in "".join(traceback.format_exception(caught.value))
        if prefetch:
            assert caught.value.__notes__ == ["(while batch 2 of epoch 4 was prepared)"]
        assert loader_threads() == 0
        with pytest.raises(StopIteration):
            next(batches)


def test_the_thread_ends_with_the_iteration() -> None:
    loader = augmented(prefetch=2)
    for number, _ in enumerate(loader):
        assert loader_threads() == 1 or number > 3
    assert loader_threads() == 0
    for _ in loader:  # left early
        break
    gc.collect()
    assert loader_threads() == 0
    with pytest.raises(KeyError):
        for _ in loader:  # left by an error
            raise KeyError
    gc.collect()
    assert loader_threads() == 0
    batches = loader.batches(0)
    next(batches)
    assert loader_threads() == 1
    del batches, loader
    gc.collect()
    assert loader_threads() == 0


def test_as_many_batches_ahead_as_asked_for() -> None:
    prepared: list[int] = []

    def count(x: Array, rng: np.random.Generator) -> Array:
        prepared.append(len(prepared))
        return x

    for prefetch in (1, 3):
        prepared.clear()
        batches = data.Loader(numbers(40), 1, transforms=[count], prefetch=prefetch).batches(0)
        for number in range(4):
            next(batches)
            # With this one and the one before it, `prefetch + 2` are held; before there is one before, one more.
            wanted = max(number, 1) + prefetch + 1
            for _ in range(500):
                if len(prepared) >= wanted:
                    break
                time.sleep(0.01)
            time.sleep(0.02)
            assert len(prepared) == wanted
        del batches


def test_the_thread_has_the_caller_s_backend() -> None:
    seen = []

    def look(x: Array, rng: np.random.Generator) -> Array:
        seen.append((fnn.backend(), threading.current_thread().name))
        return x

    with fnn.use("reference"):
        copies(data.Loader(numbers(3), 1, transforms=[look]))
    assert seen == [("reference", "fastnn-loader")] * 3


def test_iterations_side_by_side() -> None:
    loader = augmented()
    expected = copies(loader.batches(0)), copies(loader.batches(1))
    found: tuple[Batches, Batches] = ([], [])
    for one, two in zip(loader.batches(0), loader.batches(1), strict=True):
        found[0].extend(copies([one]))
        found[1].extend(copies([two]))
    same(found[0], expected[0])
    same(found[1], expected[1])


# Memory


@pytest.mark.parametrize("prefetch", [0, 1, 3])
def test_a_batch_is_valid_until_the_next_but_one(prefetch: int) -> None:
    loader = data.Loader(numbers(40), 2, shuffle=False, prefetch=prefetch)
    held: list[tuple[Array, Array, list[int]]] = []
    places = set()
    for x, y in loader:
        held.append((x, y, y.tolist()))
        places.add(x.ctypes.data)
        time.sleep(0.001)  # so that the thread gets ahead
        for x_held, y_held, label in held[-2:]:
            assert y_held.tolist() == x_held[:, 0].tolist() == label
    assert len(places) == prefetch + 2
    before = places.copy()
    places.update(x.ctypes.data for x, _ in loader)
    assert places == before


@pytest.mark.parametrize("prefetch", [0, 2])
def test_an_epoch_allocates_nothing(prefetch: int) -> None:
    """Nothing of a batch's size, after the first epoch."""
    samples = data.ArrayDataset(np.zeros((500, 3, 32, 32), np.uint8), np.zeros(500, int))
    normalize = data.PerChannelStandardize().fit(samples.x)
    steps = [data.RandomCrop(32, 4), data.RandomHorizontalFlip(), normalize]
    loader = data.Loader(samples, 100, transforms=steps, prefetch=prefetch)
    sizes = [x.nbytes for x, _ in loader]
    tracemalloc.start()
    for _ in loader:
        pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < sizes[0] / 8


# What it refuses


class Own:
    """A data set of one's own, whose parts nobody has checked."""

    def __init__(self, x: Any, y: Any) -> None:
        self.x, self.y = x, y

    def __len__(self) -> int:
        return len(self.x)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"batch_size": 0}, ValueError, "batch_size is 0; expected an int of at least 1"),
        ({"batch_size": 2.5}, TypeError, "batch_size is 2.5"),
        ({"prefetch": -1}, ValueError, "prefetch is -1"),
        ({"seed": -1}, ValueError, "seed is -1"),
        ({"seed": None}, TypeError, "seed is None"),
        ({"shuffle": "yes"}, TypeError, "shuffle is 'yes'"),
        ({"dtype": np.int32}, TypeError, "dtype is int32; expected float16"),
        ({"transforms": [data.RandomCrop]}, TypeError, "a transform is <class"),
        ({"batch_size": 99, "drop_last": True}, ValueError, "53 samples make no batch of 99 with drop_last"),
        ({"dataset": [1, 2]}, TypeError, "dataset is of type list; expected an ArrayDataset or a pair"),
        ({"dataset": (np.zeros((0, 2)), np.zeros(0))}, ValueError, "0 samples make no batch"),
        (
            {"dataset": Own(np.zeros((5, 2)), np.zeros(3))},
            ValueError,
            r"y of dataset has shape \(3,\), and dataset the",
        ),
        ({"dataset": Own([[0.0]], np.zeros(1))}, TypeError, "x of dataset is of type list; expected a NumPy array"),
    ],
)
def test_wrong_arguments(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        data.Loader(**{"dataset": photos()} | options)


def test_positions_are_checked_before_the_first_batch() -> None:
    with pytest.raises(ValueError, match="start is 8; expected 0 to 7"):
        augmented().batches(0, 8)
    assert copies(augmented().batches(0, 7)) == []
    with pytest.raises(ValueError, match="of 8 samples the transforms make 4 of x and 8 of y"):
        copies(data.Loader(photos(), 8, transforms=[lambda x, rng: x[:4]]))


def test_repr() -> None:
    text = repr(data.Loader(numbers(4), 2, transforms=[data.RandomCrop(3)]))
    assert "4 samples" in text and "batch_size=2" in text and "RandomCrop(size=(3, 3)" in text


def test_an_iteration_may_be_collected_in_its_own_thread() -> None:
    """Garbage is collected in any thread: in the loader's, the end of an iteration must not wait for that thread."""
    calls, begin, errors = [], threading.Event(), []

    def collect(x: Array, rng: np.random.Generator) -> Array:
        calls.append(len(x))
        if len(calls) == 2:
            begin.wait(10)
            gc.collect()
        return x

    class Cycle:
        def __init__(self) -> None:
            self.me = self
            self.batches = data.Loader(numbers(4), 1, transforms=[collect], prefetch=1).batches(0)

    hook, sys.unraisablehook = sys.unraisablehook, errors.append
    gc.disable()
    try:
        held = Cycle()
        next(held.batches)
        del held
        assert loader_threads() == 1
        begin.set()
        for _ in range(1000):
            if loader_threads() == 0:
                break
            time.sleep(0.01)
    finally:
        gc.enable()
        sys.unraisablehook = hook
    assert errors == [] and len(calls) == 2
