"""Convolutions and pools over blocks of channels: near float64, and bit by bit the chain that a result is."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from layouts import active, num_threads

import fastnn as fnn
from fastnn.kernels import blocks
from fastnn.kernels.cpu import runtime
from fastnn.kernels.cpu.linear import Program

FUSED = [isa for isa in runtime.isas() if isa != "v2"]
KERNELS = Path(__file__).parent.parent / "kernels"


def to_blocks(x: Any, rest: float = 0.0) -> Any:
    """(N, C, H, W) as (N, ceil(C / 16), H, W, 16), written in another way than the kernels do; the rest is `rest`."""
    samples, channels, rows, cols = x.shape
    y = np.full((samples, -(-channels // 16), rows, cols, 16), rest, np.float32)
    for channel in range(channels):
        y[:, channel // 16, :, :, channel % 16] = x[:, channel]
    return y


def from_blocks(y: Any, channels: int) -> Any:
    samples, _, rows, cols, _ = y.shape
    return y.transpose(0, 1, 4, 2, 3).reshape(samples, -1, rows, cols)[:, :channels]


def do(step: Any, *arrays: Any) -> None:
    Program([(step, arrays)]).run(None, None)


class Problem:
    """A convolution: x (N, C, H, W) and O results by a kernel of `size`; what is given is of rows and columns alike."""

    def __init__(
        self,
        shape: tuple[int, int, int, int],
        outputs: int,
        size: int,
        stride: int = 1,
        padding: int = 0,
        dilation: int = 1,
        groups: int = 1,
        seed: int = 0,
    ) -> None:
        self.rng = np.random.default_rng(seed)
        self.options = stride, padding, dilation, groups
        self.x = self.numbers(shape)
        self.weight = self.numbers((outputs, shape[1] // groups, size, size))
        self.bias = self.numbers((outputs,))
        wide = self.x.astype(np.float64), self.weight.astype(np.float64), self.bias.astype(np.float64)
        self.want = fnn.conv2d(*wide, *self.options)
        self.added = self.numbers(self.want.shape)

    def numbers(self, shape: tuple[int, ...]) -> Any:
        """With twelve bits, so that products are exact in float32 and their sums in float64."""
        return np.float32(np.round(self.rng.standard_normal(shape) * 256) / 512)

    def run(
        self,
        planes: bool = False,
        added: bool = False,
        pool: bool = False,
        activation: Any = None,
        rest: float = 0.0,
    ) -> Any:
        """What the kernel makes of it, as (N, O, H, W); `rest` fills up the last block of channels of its inputs."""
        stride, padding, dilation, groups = self.options
        depthwise = 1 < groups == self.x.shape[1] == len(self.weight)
        groups = 1 if depthwise else groups
        shape = self.want.shape
        made = blocks.step(
            "depthwise" if depthwise else "conv",
            self.x.shape,
            shape,
            self.weight.shape[2:],
            (stride, stride),
            (padding, padding),
            (dilation, dilation),
            groups=groups,
            planes=planes,
            pool=pool,
            adds=added,
            weight=blocks.pack(self.weight, groups),
            bias=blocks.pack_channels(self.bias, groups),
            activation=activation,
        )
        rows, cols = (length // 2 if pool else length for length in shape[2:])
        y = np.full((shape[0], -(-shape[1] // 16), rows, cols, 16), np.nan, np.float32)
        x = self.x if planes else to_blocks(self.x, rest)
        do(made, x, *([to_blocks(self.added, rest)] if added else []), y)
        return from_blocks(y, shape[1])


def same(a: Any, b: Any) -> bool:
    return bool(np.array_equal(a, b, equal_nan=True))


def everywhere(problem: Problem, want: Any, tolerance: float = 2e-6, **options: Any) -> Any:
    """The result, near what is wanted on every instruction set, and the same on those that fuse."""
    results = {}
    for isa in runtime.isas():
        with active(isa):
            results[isa] = problem.run(**options)
        error = np.abs(results[isa] - want).max(initial=0)
        terms = problem.weight[0].size
        assert error <= tolerance * max(1, np.abs(want).max(initial=0)) * max(1, terms**0.5), (isa, error)
    assert all(same(results[isa], results[FUSED[0]]) for isa in FUSED)
    return results[runtime.isas()[-1]]


@pytest.mark.parametrize("channels", [1, 3, 6, 15, 16, 17, 33])
@pytest.mark.parametrize("outputs", [1, 6, 15, 16, 17, 33, 48])
def test_channels(channels: int, outputs: int) -> None:
    problem = Problem((2, channels, 7, 9), outputs, 3, 1, 1)
    got = everywhere(problem, problem.want)
    assert same(everywhere(problem, problem.want, planes=True), got)
    assert same(problem.run(rest=np.nan), got)  # nobody reads the channels that fill up a block


GEOMETRIES = {
    "1x1": (8, 7, 1, 1, 0, 1),
    "1x1 with a stride": (9, 8, 1, 2, 0, 1),
    "5x5": (11, 12, 5, 1, 2, 1),
    "5x5 without padding": (11, 12, 5, 1, 0, 1),
    "stride": (9, 10, 3, 2, 1, 1),
    "stride beyond the kernel": (11, 13, 2, 3, 0, 1),
    "dilation": (9, 10, 3, 1, 2, 2),
    "padding beyond the reach": (2, 3, 3, 1, 5, 1),
    "padding of 1x1": (3, 2, 1, 1, 2, 1),
    "one result": (3, 3, 3, 1, 0, 1),
    "one row": (1, 40, 3, 1, 1, 1),
    "one column": (13, 1, 3, 1, 1, 1),
    "one column of results": (9, 3, 3, 1, 0, 1),
    "even kernel": (7, 6, 4, 1, 1, 1),
    "bands": (150, 40, 3, 1, 1, 1),
}


@pytest.mark.parametrize("name", GEOMETRIES)
def test_geometry(name: str) -> None:
    rows, cols, size, *options = GEOMETRIES[name]
    for channels, outputs in ((3, 5), (20, 33)):
        problem = Problem((2, channels, rows, cols), outputs, size, *options)
        assert same(everywhere(problem, problem.want, planes=True), everywhere(problem, problem.want))
    problem = Problem((2, 20, rows, cols), 20, size, *options, groups=20)
    everywhere(problem, problem.want)
    problem = Problem((1, 32, rows, cols), 64, size, *options, groups=2)
    everywhere(problem, problem.want)


def chain(problem: Problem, added: bool) -> Any:
    """Bias, then fma(w, x, sum) in the order of the contract, each rounded to float32 once; then what is added."""
    stride, padding, dilation, _ = problem.options
    outputs, channels, size, _ = problem.weight.shape
    rows, cols = problem.want.shape[2:]
    x = np.pad(problem.x.astype(np.float64), ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    y = np.broadcast_to(problem.bias[:, None, None], problem.want.shape).astype(np.float32)
    for block in range(0, channels, 16):
        for i in range(size):
            for j in range(size):
                top, left = i * dilation, j * dilation
                seen = x[:, :, top : top + stride * rows : stride, left : left + stride * cols : stride]
                for channel in range(block, min(block + 16, channels)):
                    weight = problem.weight[:, channel, i, j].astype(np.float64)[:, None, None]
                    y = (y + weight * seen[:, channel, None, :rows, :cols]).astype(np.float32)
    return y + problem.added if added else y


@pytest.mark.parametrize("isa", FUSED)
@pytest.mark.parametrize("outputs", [4, 6, 8, 16, 40])
def test_a_result_is_one_chain(isa: str, outputs: int) -> None:
    for channels, size, stride, padding in ((1, 5, 1, 2), (19, 3, 2, 1), (35, 1, 1, 0)):
        problem = Problem((2, channels, 13, 9), outputs, size, stride, padding)
        with active(isa):
            assert same(problem.run(), chain(problem, False))
            assert same(problem.run(planes=True), chain(problem, False))
            assert same(problem.run(added=True), chain(problem, True))


@pytest.mark.parametrize(
    "activation", [("relu", ()), ("relu6", ()), ("gelu", ()), ("elu", (0.5,)), ("hardtanh", (-1, 0.5))]
)
def test_activation_and_sum(activation: Any) -> None:
    call = getattr(fnn, activation[0])
    for groups, added in ((1, False), (1, True), (20, True)):
        problem = Problem((1, 20, 6, 7), 20, 3, 1, 1, groups=groups)
        want = call(problem.want + added * problem.added, *activation[1])
        everywhere(problem, want, added=added, activation=activation)
    narrow = Problem((2, 3, 9, 21), 6, 3, 1, 1)
    everywhere(narrow, call(narrow.want, *activation[1]), planes=True, activation=activation)


def test_what_is_added_may_be_the_result() -> None:
    problem = Problem((2, 20, 7, 8), 33, 3, 1, 1)
    want = problem.run(added=True)
    weight, bias = blocks.pack(problem.weight), blocks.pack_channels(problem.bias)
    made = blocks.step(
        "conv", problem.x.shape, problem.want.shape, (3, 3), (1, 1), (1, 1), adds=True, weight=weight, bias=bias
    )
    y = to_blocks(problem.added)
    do(made, to_blocks(problem.x), y, y)
    assert same(from_blocks(y, 33), want)


def squares(x: Any) -> Any:
    return fnn.max_pool2d(np.ascontiguousarray(x), 2)


@pytest.mark.parametrize("shape", [(8, 8), (9, 7), (3, 33), (2, 2), (90, 41)])
def test_maxima_over_squares(shape: tuple[int, int]) -> None:
    """Fused, they are what the pool makes of the result."""
    for channels, outputs, groups in ((1, 6, 1), (3, 17, 1), (20, 20, 20)):
        problem = Problem((2, channels, *shape), outputs, 3, 1, 1, groups=groups)
        for activation in (None, ("relu", ()), ("gelu", ())):
            for isa in runtime.isas():
                with active(isa):
                    for planes in (False, True)[: 1 + (groups == 1)]:
                        whole = problem.run(planes, activation=activation)
                        assert same(problem.run(planes, pool=True, activation=activation), squares(whole))


def pooled(kind: str, x: Any, want: Any, *geometry: Any, counts: Any = (None, None), rest: float = 0.0) -> Any:
    made = blocks.step(kind, x.shape, want.shape, *geometry, counts=counts)
    y = np.full((*to_blocks(want).shape,), np.nan, np.float32)
    do(made, to_blocks(x, rest), y)
    return from_blocks(y, x.shape[1])


@pytest.mark.parametrize("isa", runtime.isas())
@pytest.mark.parametrize("channels", [3, 16, 33])
def test_pools(isa: str, channels: int) -> None:
    x = np.random.default_rng(2).standard_normal((2, channels, 11, 9)).astype(np.float32)
    x[0, 1, 4, 5], x[1, 2, 3, 3] = np.nan, np.inf
    with active(isa):
        for size, stride, padding in ((2, 2, 0), (3, 2, 1), (3, 1, 1), (5, 3, 2)):
            geometry = (size, size), (stride, stride), (padding, padding), (1, 1)
            want = fnn.max_pool2d(x, size, stride, padding)
            assert same(pooled("max_pool", x, want, *geometry, rest=np.nan), want)
            want = fnn.avg_pool2d(x, size, stride, padding)
            counts = tuple(np.full(length, float(size)) for length in want.shape[2:])
            got = pooled("avg_pool", x, want, *geometry, counts=counts)
            np.testing.assert_allclose(got, want, rtol=2e-7, atol=1e-12)


@pytest.mark.parametrize("isa", runtime.isas())
@pytest.mark.parametrize("channels", [1, 6, 15, 16, 17, 33])
def test_turning_over(isa: str, channels: int) -> None:
    x = np.random.default_rng(3).standard_normal((2, channels, 5, 7)).astype(np.float32)
    y, again = np.full(to_blocks(x).shape, np.nan, np.float32), np.full(x.shape, np.nan, np.float32)
    with active(isa):
        do(blocks.step("block", x.shape, x.shape), x, y)
        assert same(y, to_blocks(x))
        do(blocks.step("unblock", x.shape, x.shape), to_blocks(x, np.nan), again)
    assert same(again, x)


def problems() -> Iterator[Problem]:
    yield Problem((3, 16, 32, 32), 33, 3, 1, 1)
    yield Problem((2, 3, 40, 40), 6, 5, 1, 2)
    yield Problem((3, 64, 33, 32), 64, 3, 2, 1, groups=64)
    yield Problem((5, 160, 16, 16), 128, 1)


def test_threads_and_samples_are_apart() -> None:
    for problem in problems():
        results = []
        for threads in (1, 2, 3):
            with num_threads(threads):
                results.append(problem.run())
        assert all(same(each, results[0]) for each in results)
        x, want = problem.x, problem.want
        for sample in range(len(x)):
            problem.x, problem.want = x[sample : sample + 1].copy(), want[sample : sample + 1]
            assert same(problem.run(), results[0][sample : sample + 1])
        problem.x, problem.want = x.copy(), want
        problem.x[1] = np.nan
        got = problem.run()
        assert np.isnan(got[1]).all() and same(np.delete(got, 1, 0), np.delete(results[0], 1, 0))


def test_alignment_does_not_matter() -> None:
    problem = Problem((1, 3, 9, 17), 6, 3, 1, 1)
    want = problem.run(planes=True)
    memory = np.empty(problem.x.size + 3, np.float32)
    moved = memory[3:].reshape(problem.x.shape)
    moved[...] = problem.x
    problem.x = moved
    assert same(problem.run(planes=True), want)


def test_memory_beside_the_input_is_left_alone() -> None:
    """The last numbers of x may be the last of a page."""
    mmap = pytest.importorskip("mmap")
    for shape, outputs, planes in (((1, 1, 8, 8), 6, True), ((1, 5, 4, 4), 17, True), ((1, 16, 4, 4), 16, False)):
        problem = Problem(shape, outputs, 3)
        want, size = problem.run(planes=planes), problem.x.nbytes
        pages = mmap.mmap(-1, -(-size // mmap.PAGESIZE) * mmap.PAGESIZE)
        problem.x = np.frombuffer(pages, np.float32)[-size // 4 :].reshape(shape)
        problem.x[...] = Problem(shape, outputs, 3).x
        assert same(problem.run(planes=planes), want)


@pytest.mark.skipif(shutil.which("aarch64-linux-gnu-g++") is None, reason="needs g++-aarch64-linux-gnu")
def test_neon_compiles() -> None:
    for name, extra in (("blocked", ["-DFASTNN_ISA_neon"]), ("blocked_run", [])):
        command = ["aarch64-linux-gnu-g++", "-std=c++17", "-fsyntax-only", "-Wall", "-Wextra", "-Werror", *extra]
        done = subprocess.run([*command, str(KERNELS / "cpu" / f"{name}.cpp")], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
