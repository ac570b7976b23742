"""The loops of each instruction set, built into the driver tests/neon/driver.cpp and run on the same cases."""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import struct
import subprocess
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fastnn.op import Op, Param
from fastnn.sweep import landmarks

Array = npt.NDArray[Any]
TESTS = Path(__file__).resolve().parent
SOURCES = [TESTS.parent / "kernels/cpu/activations.cpp", TESTS / "neon/driver.cpp"]
FLAGS = ["-std=c++17", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math"]
PASSES = ("forward", "backward", "parameter_gradient")
PARAMETER_ARRAYS, STREAMING = 1, 2

# The instruction sets of this machine, as the compiler's options. "scalar" is none: the formulas one number at a time,
# which is what CUDA runs and what the others are compared with. The bits do not depend on the level of optimisation;
# where the module, built as users have it, is compared too, the quickest to compile will do.
HOST: dict[str, list[str]] = {
    "x86_64": {
        "scalar": ["-O1", "-mfma"],
        "v2": ["-O1", "-march=x86-64-v2"],
        "v3": ["-O1", "-march=x86-64-v3"],
        "v4": ["-O1", "-march=x86-64-v4"],
    },
    "aarch64": {"scalar": ["-O1"], "neon": ["-O1"]},
}.get(platform.machine(), {})


class Unavailable(Exception):
    """Something that the system would have to install."""


def build(isa: str, folder: Path, sources: Sequence[Path] = SOURCES, more: Sequence[str] = ()) -> list[str]:
    """Compile a driver for an instruction set, with `more` options; return the command that runs it."""
    emulator: list[str] = []
    if isa in HOST:
        compiler, flags = shlex.split(os.environ.get("CXX", "c++")), HOST[isa]
    elif isa == "neon":
        compiler, flags = ["aarch64-linux-gnu-g++"], ["-O3", "-static"]
        emulator = ["qemu-aarch64"]
    else:
        raise Unavailable(f"{platform.machine()} has no {isa}")
    for needed in (compiler[0], *emulator):
        if shutil.which(needed) is None:
            packages = "g++-aarch64-linux-gnu qemu-user" if isa == "neon" else "g++"
            raise Unavailable(f"{isa} needs {needed} (Debian: apt install {packages})")
    program = folder / f"driver-{isa}{'-'.join(more)}"
    macro = [] if isa == "scalar" else [f"-DFASTNN_ISA_{isa}"]
    command = [*compiler, *FLAGS, *flags, *macro, *more, *map(str, sources), "-o", str(program)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, f"{shlex.join(command)}\n{done.stderr}"
    return [*emulator, str(program)]


@dataclass(frozen=True, slots=True)
class Format:
    """A dtype: its number in loop.hpp, and how its arrays are handled here, as unsigned integers."""

    code: int
    uint: type[np.unsignedinteger[Any]]
    infinity: int

    def nan(self, patterns: Array) -> Array:
        """Which of the patterns are NaN."""
        magnitudes = patterns & self.uint(np.iinfo(self.uint).max >> 1)
        return np.asarray(magnitudes > self.uint(self.infinity))


FORMATS = {
    "float32": Format(0, np.uint32, 0x7F800000),
    "float64": Format(1, np.uint64, 0x7FF0000000000000),
    "float16": Format(2, np.uint16, 0x7C00),
    "bfloat16": Format(3, np.uint16, 0x7F80),
}


@dataclass(frozen=True, slots=True)
class Case:
    """One call of one loop. The arrays are bit patterns, the parameters one number or one for each element."""

    op: str
    direction: str
    dtype: str
    arrays: list[Array]
    parameters: list[Array] = field(default_factory=list)
    flags: int = 0
    in_place: int = -1

    def encode(self) -> bytes:
        head = struct.pack(
            "24siiiiq",
            self.op.encode(),
            PASSES.index(self.direction),
            FORMATS[self.dtype].code,
            self.flags,
            self.in_place,
            self.arrays[0].size,
        )
        return b"".join([head, *(a.tobytes() for a in self.values())])

    def values(self, dtype: npt.DTypeLike | None = None) -> list[Array]:
        """The operands: arrays, seen as `dtype`, and parameters, which are float for the 16-bit formats."""
        wide = np.float64 if self.dtype == "float64" else np.float32
        return [*(a.view(dtype or a.dtype) for a in self.arrays), *(p.astype(wide) for p in self.parameters)]

    def __str__(self) -> str:
        parameters = "arrays" if self.flags & PARAMETER_ARRAYS else [float(p[0]) for p in self.parameters]
        place = f", in place of array {self.in_place}" if self.in_place >= 0 else ""
        streaming = ", streaming" if self.flags & STREAMING else ""
        what = f"{self.op} {self.direction} {self.dtype} n={self.arrays[0].size}"
        return f"{what} parameters={parameters}{place}{streaming}"


def run(command: list[str], cases: list[Case]) -> list[Array]:
    """The results of the cases, as bit patterns."""
    done = subprocess.run(command, input=b"".join(case.encode() for case in cases), capture_output=True)
    assert done.returncode == 0, f"{shlex.join(command)}: exit status {done.returncode}\n{done.stderr.decode()}"
    results, start = [], 0
    for case in cases:
        results.append(np.frombuffer(done.stdout, case.arrays[0].dtype, case.arrays[0].size, start))
        start += results[-1].nbytes
    assert start == len(done.stdout)
    return results


def arguments(op: Op, dtype: str) -> Array:
    """Bit patterns from one end of the format to the other (all of the 16-bit ones), NaN and subnormals among them."""
    uint = FORMATS[dtype].uint
    if uint is np.uint16:
        return np.arange(1 << 16, dtype=uint)
    floating = np.float32 if dtype == "float32" else np.float64
    numbers: Array = np.arange(40000).astype(uint)
    patterns = numbers * uint((1 << 8 * numbers.itemsize) // 40000 | 1)
    usual = np.random.default_rng(1).uniform(-25, 25, 10000).astype(floating)
    with np.errstate(all="ignore"):
        return np.concatenate([patterns, landmarks(op, floating).view(uint), usual.view(uint)])


def gradients(x: Array, dtype: str) -> Array:
    """What flows back into x: arguments in another order, three in four with exponents close to that of 1."""
    rng = np.random.default_rng(2)
    dy = rng.permutation(x)
    mantissa = {"float32": 23, "float64": 52, "float16": 10, "bfloat16": 7}[dtype]
    bias = FORMATS[dtype].infinity >> (mantissa + 1)
    exponents = rng.integers(bias - 8, bias + 8, x.size).astype(x.dtype) << x.dtype.type(mantissa)
    usual = (dy & ~x.dtype.type(FORMATS[dtype].infinity)) | exponents
    return np.where(rng.random(x.size) < 0.25, dy, usual)


def per_element(param: Param, n: int, rng: np.random.Generator) -> Array:
    """Valid values of a parameter, one for each element."""
    values = rng.choice(param.values, n)
    varied = (values * rng.uniform(0.5, 1.5, n)).astype(np.float32)
    return np.where([param.accepts(float(v)) for v in varied], varied, values)


def cases(op: Op) -> Iterator[Case]:
    """Every pass and dtype: many arguments for every set of parameters, then every short length, in place and not."""
    for direction in PASSES[: 2 if op.param_gradient is None else 3]:
        for dtype in ("float32", "float64") if direction == "parameter_gradient" else FORMATS:  # its terms are summed
            x = arguments(op, dtype)
            arrays = [x] if direction == "forward" else [gradients(x, dtype), x]
            rng = np.random.default_rng(zlib.crc32(f"{op.name} {direction} {dtype}".encode()))
            for values in op.parameter_sets:
                yield Case(op.name, direction, dtype, arrays, [np.array([value]) for value in values], STREAMING)
            if op.params:
                parameters = [per_element(param, x.size, rng) for param in op.params]
                yield Case(op.name, direction, dtype, arrays, parameters, PARAMETER_ARRAYS)
            for n in range(41):
                chosen = rng.integers(0, x.size, n)
                spread = bool(op.params) and n % 2 == 1
                parameters = [per_element(param, n if spread else 1, rng) for param in op.params]
                flags = PARAMETER_ARRAYS * spread | STREAMING * (n % 3 == 0)
                in_place = n % (len(arrays) + 1) - 1
                yield Case(op.name, direction, dtype, [a[chosen] for a in arrays], parameters, flags, in_place)
