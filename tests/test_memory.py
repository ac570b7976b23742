"""What calls do with memory and time: bounds, large arrays, memory maps, many threads, leaks, overhead."""

from __future__ import annotations

import concurrent.futures
import ctypes
import gc
import math
import mmap
import os
import subprocess
import sys
import textwrap
import threading
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from layouts import (
    DTYPES,
    PASSES,
    Array,
    active,
    assert_same_bits,
    bits,
    num_threads,
)

import fastnn as fnn
from fastnn.kernels.cpu import runtime

pytestmark = pytest.mark.filterwarnings("error")
rng = np.random.default_rng(7)


# ---- bounds ----


# A kernel that reads or writes beyond an array faults here.
GUARDED = """
    import ctypes, mmap, sys
    import numpy as np
    sys.path.insert(0, {tests!r})
    from layouts import DTYPES, PASSES, active
    from fastnn.kernels.cpu import runtime

    page, libc = mmap.PAGESIZE, ctypes.CDLL(None, use_errno=True)
    def guarded():
        "One page of memory between two that must not be touched."
        memory = mmap.mmap(-1, 3 * page)
        start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        for at in (start, start + 2 * page):
            assert libc.mprotect(ctypes.c_void_p(at), ctypes.c_size_t(page), 0) == 0
        return np.frombuffer(memory, np.uint8)[page : 2 * page]

    pages = [guarded() for _ in range(3)]
    for isa in runtime.isas():
        with active(isa):
            for run in PASSES:
                for dtype in DTYPES.values():
                    for n in (1, 2, 3, 5, 8, 13, 17, 31, 33, 63, 65):
                        for at in (slice(n), slice(-n, None)):
                            *arrays, out = [p.view(dtype)[at] for p in pages[: run.arrays + 1]]
                            for array in arrays:
                                array[...] = 0.5
                            run(*arrays, out=out)
                            run(*arrays, out=arrays[0])
    print("untouched")
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mprotect is called as Linux has it")
def test_no_access_beyond_the_arrays() -> None:
    code = textwrap.dedent(GUARDED.format(tests=str(Path(__file__).parent)))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.strip() == "untouched", (done.returncode, done.stderr)


# ---- large arrays ----


STREAMING = (
    24 << 20
)  # bytes of output from which it is written past the caches, or from fewer: streaming_from, elementwise.cpp


@pytest.mark.parametrize("dtype", [DTYPES["float32"], DTYPES["float64"]], ids=str)
@pytest.mark.parametrize("name", ["relu", "tanh_backward", "gelu"])
def test_streaming_stores(name: str, dtype: np.dtype[Any]) -> None:
    run = next(run for run in PASSES if run.name == name)
    inputs = run.inputs(dtype)
    whole, n = bits(run(*inputs)), STREAMING // dtype.itemsize + 1001
    long = [np.resize(value, n) for value in inputs]
    for isa in runtime.isas():
        with active(isa):
            np.testing.assert_array_equal(bits(run(*long)), np.resize(bits(run(*inputs)), n))
    room = np.full(n + 32, 7, dtype)
    for at in (1, 5):  # of every vector size, misaligned
        run(*long, out=room[at : at + n])
        np.testing.assert_array_equal(bits(room[at : at + n]), np.resize(whole, n))
        assert (room[:at] == 7).all() and (room[at + n :] == 7).all()
        room[:] = 7
    with num_threads(1):
        assert_same_bits(run(*long, out=room[1 : 1 + n]), np.resize(run(*inputs), n))
    run(*long, out=long[0])  # in place, where they would be wrong
    np.testing.assert_array_equal(bits(long[0]), np.resize(whole, n))


def large_float16(n: int) -> Array:
    """n zeros of which all but the first and the last page are the same 16 MiB over and over."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
    page, part = mmap.PAGESIZE, 16 << 20
    size = -(-2 * n // page) * page
    read_write, shared, private, fixed, anonymous = 3, 1, 2, 16, 32
    start = libc.mmap(None, size, read_write, private | anonymous, -1, 0)
    file = os.memfd_create("fastnn-test")
    os.ftruncate(file, part)
    for at in range(page, size - page, part):
        length = min(part, size - page - at)
        assert libc.mmap(start + at, length, read_write, shared | fixed, file, 0) == start + at
    os.close(file)
    memory = (ctypes.c_char * size).from_address(start)
    weakref.finalize(memory, libc.munmap, ctypes.c_void_p(start), ctypes.c_size_t(size))
    return np.frombuffer(memory, np.float16, n)


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="maps one piece of memory many times, as Linux can")
@pytest.mark.parametrize("threads", [1, 2])
def test_more_than_2_31_elements(threads: int) -> None:
    x = large_float16(2**31 + 5)
    first, last = [-1, 2, -3], [4, -5, 6, -7, 8]
    x[:3], x[-5:] = first, last
    with num_threads(threads):
        assert fnn.relu(x, out=x) is x
    np.testing.assert_array_equal(x[:3], np.maximum(first, 0))
    np.testing.assert_array_equal(x[-5:], np.maximum(last, 0))
    x[:3], x[-5:] = first, last
    fnn.relu(x[::-1], out=x[::-1])  # and so that blocks are gathered
    np.testing.assert_array_equal(x[:3], np.maximum(first, 0))
    np.testing.assert_array_equal(x[-5:], np.maximum(last, 0))


def test_read_only_memory_maps(tmp_path: Path) -> None:
    x = rng.standard_normal(5000).astype(np.float32)
    path = tmp_path / "x.bin"
    x.tofile(path)
    mapped = np.memmap(path, np.float32, mode="r")
    frozen = x.copy()
    frozen.flags.writeable = False
    for source in (mapped, frozen):
        y = fnn.gelu(source)
        assert_same_bits(y, fnn.gelu(x))
        assert y.flags.writeable and not isinstance(y, np.memmap)
        with pytest.raises(ValueError, match="gelu: out is read-only"):
            fnn.gelu(x, out=source)
    written = np.memmap(tmp_path / "y.bin", np.float32, mode="w+", shape=x.shape)
    assert fnn.gelu(x, out=written) is written
    assert_same_bits(np.fromfile(tmp_path / "y.bin", np.float32), fnn.gelu(x))


# ---- many callers, memory ----


def test_many_python_threads_at_once() -> None:
    runs = [run for run in PASSES if run.name in ("relu", "gelu", "tanh_backward", "prelu_backward", "leaky_relu")]
    jobs = []
    for run in runs:
        for n in (10, 1000, 70_000, 300_000):
            inputs = [np.resize(value, n) for value in run.inputs(DTYPES["float32"])]
            jobs.append((run, inputs, bits(run(*inputs))))
    start = threading.Barrier(8)

    def work(seed: int) -> int:
        order = np.random.default_rng(seed).permutation(len(jobs) * 3) % len(jobs)
        start.wait()
        wrong = 0
        for k in order:
            run, inputs, expected = jobs[k]
            wrong += not np.array_equal(bits(run(*inputs)), expected)
        return wrong

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(work, range(8))) == 0


def rss() -> int:
    """Resident memory in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_no_leaks() -> None:
    """Of references, by count, and of memory, by what the process holds, along every way through a call."""
    x, out, strided = np.zeros(500, np.float32), np.zeros(500, np.float32), np.zeros(1000, np.float32)[::2]
    alpha, half = np.full(500, 0.25, np.float32), np.zeros(500, np.float16)
    watched: list[Any] = [x, out, strided, alpha, half, fnn.leaky_relu, fnn.ufuncs.leaky_relu, 0.125, None]

    def refused() -> None:
        for wrong in ({"out": alpha[:3]}, {"negative_slope": math.nan}, {"unknown": 1}):
            try:
                fnn.leaky_relu(x, **wrong)
            except (TypeError, ValueError):
                continue
            raise AssertionError(wrong)

    ways = {
        "short": (lambda: fnn.leaky_relu(x, 0.125), 100_000),
        "short, out": (lambda: fnn.leaky_relu(x, negative_slope=0.125, out=out), 100_000),
        "short, out=None": (lambda: fnn.relu(x, out=None), 50_000),
        "backward": (lambda: fnn.tanh_backward(x, x), 50_000),
        "by the ufunc": (lambda: fnn.leaky_relu(strided, 0.125), 50_000),
        "by the ufunc, out": (lambda: fnn.leaky_relu(strided, 0.125, out=out), 50_000),
        "float16": (lambda: fnn.leaky_relu(half[::2], 0.125), 20_000),
        "long": (lambda: fnn.leaky_relu(x, alpha), 5_000),
        "learned": (lambda: fnn.prelu_backward(x, x, alpha), 5_000),
        "refused": (refused, 3_000),
    }
    for name, (call, times) in ways.items():
        for _ in range(200):
            call()
        gc.collect()
        memory = rss()
        for _ in range(8):  # the interpreter lets go of some references to None at first; a leak shows in every round
            counts = [sys.getrefcount(value) for value in watched]
            for _ in range(times):
                call()
            gc.collect()
            if [sys.getrefcount(value) for value in watched] == counts:
                break
        else:
            pytest.fail(f"{name}: references are lost or kept")
        assert rss() - memory < 1 << 20, name
