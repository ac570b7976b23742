"""The emulator tells right kernels from wrong ones, and the stand-in for CuPy is as strict as CuPy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from emulator.cupy.record import recording, running

from fastnn.kernels.cuda.compiler import launch, options, scalar

SAMPLES = Path(__file__).parent / "emulator/samples.cu"
NAMES = (
    *("reversed<true>", "reversed<false>", "parting", "two_barriers", "leaving", "strangers", "outside", "warps"),
    *("indices", "sums<float>", "sums<double>", "sums<fastnn::cuda::half>", "sums<fastnn::cuda::bfloat16>"),
)
ORDERS: list[dict[str, int]] = [{"order": 0}, {"order": 1}, {"order": 2, "seed": 1}, {"order": 2, "seed": 2}]


@pytest.fixture
def sample(cupy: Any) -> Callable[[str], Any]:
    """A kernel of samples.cu."""
    names = [f"fastnn::cuda::{name}" for name in NAMES]
    module = cupy.RawModule(code=SAMPLES.read_text(), options=options(), name_expressions=names)
    return lambda name: module.get_function(f"fastnn::cuda::{name}")


@pytest.mark.parametrize("order", ORDERS)
def test_shared_memory_and_barriers(cupy: Any, sample: Callable[[str], Any], order: dict[str, int]) -> None:
    x = cupy.arange(256, dtype=np.float32)
    y = cupy.empty_like(x)
    with running(**order):
        launch(sample("reversed<true>"), 3, y, x)
    np.testing.assert_array_equal(y.get(), np.arange(256, dtype=np.float32)[::-1])


def test_a_missing_barrier_shows(cupy: Any, sample: Callable[[str], Any]) -> None:
    x = cupy.arange(256, dtype=np.float32)
    results = []
    for order in ORDERS:
        y = cupy.zeros_like(x)
        x += 1  # what the last run left in shared memory is no longer right
        with running(**order):
            launch(sample("reversed<false>"), 1, y, x)
        results.append((y - x[::-1]).get())
    assert all(np.any(result) for result in results)


@pytest.mark.parametrize(
    ("name", "args", "message"),
    [
        ("parting", (), r"waits in line \d+ for others: of 256 threads 40 wait at a barrier, .* 216 have left"),
        ("two_barriers", (), r"different barriers: lines \d+ and \d+"),
        ("leaving", (40,), r"thread 32 waits in line \d+ for others: .* 8 at a warp operation"),
        ("strangers", (), r"reads lane 20, which is not in the mask 0000ffff"),
        ("outside", (256,), "wrote behind an array of 1024 bytes"),
        ("outside", (-1,), "wrote before an array of 1024 bytes"),
        ("outside", (), "passes 1 arguments, the kernel takes 2"),
        ("outside", (np.float64(3),), "argument 1 is of kind 'f' with 8 bytes"),
        ("outside", (np.int32(3),), "argument 1 is of kind 'i' with 4 bytes"),
    ],
)
def test_faults_are_told(
    cupy: Any, sample: Callable[[str], Any], name: str, args: tuple[Any, ...], message: str
) -> None:
    with pytest.raises(AssertionError, match=message):
        launch(sample(name), 1, cupy.zeros(256, np.float32), *args)
    with pytest.raises(AssertionError, match=r"argument 0 .*elements of 8.*elements of 4"):
        launch(sample(name), 1, cupy.zeros(256, np.float64), *([3] if name in ("leaving", "outside") else []))


def test_arguments_have_types(cupy: Any) -> None:
    with pytest.raises(TypeError, match="Python float 1.5; expected scalar"):
        launch(None, 1, 1.5)
    assert scalar(1.5, np.dtype(np.float16)) == np.float32(1.5)
    assert scalar(1.5, np.dtype(np.float64)).dtype == np.float64


@pytest.mark.parametrize("order", ORDERS)
def test_warp_operations(cupy: Any, sample: Callable[[str], Any], order: dict[str, int]) -> None:
    y = cupy.zeros((128, 6), np.int32)
    with running(**order):
        launch(sample("warps"), 1, y, threads=128)
    i = np.arange(128)
    lane, warp = i % 32, i // 32 * 32
    down, up = np.where(lane < 29, i + 3, i), np.where(lane > 2, i - 3, i)
    some = np.where(lane < 8, warp + (lane ^ 4), -1)
    expected = np.stack([warp + 5, down, up, np.full(128, 11), some, np.full(128, 496)], 1)
    np.testing.assert_array_equal(y.get(), expected)


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
@pytest.mark.parametrize("columns", [1, 31, 32, 33, 255, 1024, 4099])
def test_sums_of_rows(cupy: Any, sample: Callable[[str], Any], dtype: str, columns: int) -> None:
    kind = np.dtype(dtype) if dtype != "bfloat16" else np.dtype(pytest.importorskip("ml_dtypes").bfloat16)
    x = np.random.default_rng(columns).standard_normal((3, columns)).astype(kind)
    name = {"float16": "fastnn::cuda::half", "bfloat16": "fastnn::cuda::bfloat16"}.get(
        dtype, {"float32": "float", "float64": "double"}.get(dtype)
    )
    results = []
    for order, threads in [(ORDERS[0], 256), (ORDERS[1], 256), (ORDERS[2], 256), (ORDERS[2], 32), (ORDERS[2], 1024)]:
        totals = cupy.empty(3, np.float64)
        largest = cupy.empty(3, np.float64 if dtype == "float64" else np.float32)
        with running(**order):
            launch(sample(f"sums<{name}>"), 2, totals, largest, cupy.asarray(x), 3, columns, threads=threads)
        np.testing.assert_allclose(totals.get(), x.astype(np.float64).sum(1), rtol=1e-12, atol=1e-12)
        np.testing.assert_array_equal(largest.get(), x.max(1).astype(largest.dtype))
        results.append(totals.get())
    np.testing.assert_array_equal(results[0], results[1])  # whoever comes first
    np.testing.assert_array_equal(results[0], results[2])


@pytest.mark.parametrize("n", [0, 1, 3, 4, 5, 31, 1027])
@pytest.mark.parametrize("skip", [0, 1, 2, 3])
def test_every_element_is_visited_once(cupy: Any, sample: Callable[[str], Any], n: int, skip: int) -> None:
    seen = cupy.zeros(n + 2, np.int32)
    launch(sample("indices"), 3, seen[1:], cupy.zeros(n + skip, np.float32)[skip:], n, threads=64)
    np.testing.assert_array_equal(seen.get(), [0, *[1] * n, 0])


def test_arrays_never_become_numpys_unasked(cupy: Any) -> None:
    x = cupy.asarray(np.arange(6, dtype=np.float32).reshape(2, 3))
    with pytest.raises(TypeError, match="Implicit conversion"):
        np.asarray(x)
    for mixed in (
        lambda: x + np.ones(3),
        lambda: np.ones(3) + x,
        lambda: cupy.add(x, np.ones(3)),
        lambda: np.sin(x, np.ones(1)),
    ):
        with pytest.raises(TypeError):
            mixed()
    with pytest.raises(TypeError):
        x[0] = np.ones(3)
    assert isinstance(x.sum(), cupy.ndarray) and x.sum().shape == () and isinstance(x[0, 0], cupy.ndarray)
    assert isinstance(np.add(x, 1), cupy.ndarray)
    view = x.T[1:, ::-1]
    view[0, 0] = 40
    assert x.get()[1, 1] == 40 and view.base is x
    assert x.__cuda_array_interface__["data"][0] == x.data.ptr and x.data.ptr % 256 == 0
    with recording() as record:
        float(x[0, 0]), x.get(), bool(x.any()), cupy.cuda.get_current_stream().synchronize(), x[x > 1]
    assert record.to_host == ["float", "get", "bool"] and record.waits == [
        "stream",
        "the number of elements a mask selects",
    ]


def test_devices(cupy: Any) -> None:
    with cupy.cuda.Device(1):
        there = cupy.zeros(3)
    assert there.device.id == 1 and cupy.cuda.runtime.getDevice() == 0
    with pytest.raises(ValueError, match="device = 1 while current = 0"):
        there + 1
    assert cupy.asarray(there).device.id == 0
