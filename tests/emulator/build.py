"""Sources of kernels compiled for the host, under emulator.hpp, into libraries that ctypes loads."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import shlex
import subprocess
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path

HERE = Path(__file__).resolve().parent
# As quick to compile as will do; arithmetic to the letter, as the options for NVRTC have it.
FLAGS = (
    "-std=c++17",
    "-O1",
    "-fPIC",
    "-shared",
    "-ffp-contract=off",
    "-fno-math-errno",
    "-fno-strict-aliasing",
    "-fno-gnu-unique",
    "-w",
)


class Argument(ctypes.Structure):
    """`emulator::argument`."""

    _fields_ = [("value", ctypes.c_void_p), ("bytes", ctypes.c_int), ("item", ctypes.c_int), ("kind", ctypes.c_char)]


class Launch(ctypes.Structure):
    """`emulator::launch`."""

    _fields_ = [
        ("blocks", ctypes.c_longlong),
        ("first_block", ctypes.c_longlong),
        ("end_block", ctypes.c_longlong),
        ("threads", ctypes.c_int),
        ("order", ctypes.c_int),
        ("seed", ctypes.c_uint),
        ("count", ctypes.c_int),
        ("arguments", ctypes.POINTER(Argument)),
    ]


class Library:
    """The kernels of one compilation, by name."""

    def __init__(self, path: Path, names: Sequence[str]) -> None:
        loaded = ctypes.PyDLL(str(path))  # holds the GIL: shared memory is one for all threads
        self.kernels = {name: loaded[f"emulator_{i}"] for i, name in enumerate(names)}
        for kernel in self.kernels.values():
            kernel.restype, kernel.argtypes = ctypes.c_char_p, [ctypes.POINTER(Launch)]


_libraries: dict[tuple[str, tuple[str, ...]], list[Library]] = {}


def find(code: str, options: Sequence[str], name: str) -> object:
    """The kernel of that name, if it has been compiled already."""
    for library in _libraries.get((code, includes(options)), []):
        if name in library.kernels:
            return library.kernels[name]
    return None


def library(code: str, options: Sequence[str], names: Sequence[str], *more: str) -> Library:
    """Compile the source for these names, unless a folder of temporary files holds the result of the same before.

    `more` are options of the compiler: "-O0" where few elements go through many kernels.
    """
    folders = includes(options)
    lines = [f"EMULATOR_KERNEL({i}, {name})" for i, name in enumerate(names)]
    text = "\n".join(['#include "emulator.hpp"', code, *lines, ""])
    compiler, arithmetic = os.environ.get("CXX", "g++"), (*FLAGS, *_fma(), *more)
    flags = (*arithmetic, f"-I{HERE}", *folders)
    digest = hashlib.sha256("\0".join([text, compiler, *flags, _contents(folders)]).encode()).hexdigest()[:32]
    target = _folder() / f"{digest}.so"
    if not target.exists():
        with tempfile.TemporaryDirectory(dir=_folder()) as folder:
            source, made = Path(folder) / "kernels.cpp", Path(folder) / "kernels.so"
            source.write_text(text)
            header = _header(compiler, arithmetic)
            command = [*shlex.split(compiler), f"-I{header}", *flags, str(source), "-o", str(made)]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                raise RuntimeError(f"{shlex.join(command)}\n{done.stderr[:6000]}")
            made.replace(target)
    found = Library(target, names)
    _libraries.setdefault((code, folders), []).append(found)
    return found


@cache
def _header(compiler: str, flags: tuple[str, ...]) -> Path:
    """A folder with the emulator compiled in advance, as GCC looks for it: half a second less for every source."""
    text = (HERE / "emulator.hpp").read_text()
    folder = _folder() / hashlib.sha256("\0".join([text, compiler, *flags]).encode()).hexdigest()[:32]
    if not folder.exists():
        with tempfile.TemporaryDirectory(dir=_folder()) as made:
            new = Path(made) / "header"
            new.mkdir()
            command = [*shlex.split(compiler), *flags, "-x", "c++-header", str(HERE / "emulator.hpp")]
            subprocess.run([*command, "-o", str(new / "emulator.hpp.gch")], capture_output=True)
            with contextlib.suppress(OSError):  # another process was quicker
                new.rename(folder)
    return folder


def includes(options: Sequence[str]) -> tuple[str, ...]:
    """Those of the compiler's options that say where headers are."""
    return tuple(option for option in options if option.startswith("-I"))


@cache
def _contents(folders: tuple[str, ...]) -> str:
    digest = hashlib.sha256()
    for folder in (HERE, *(Path(each.removeprefix("-I")) for each in folders)):
        for path in sorted(folder.rglob("*")):
            if path.suffix in (".cu", ".cuh", ".hpp"):
                digest.update(path.read_bytes())
    return digest.hexdigest()


@cache
def _fma() -> tuple[str, ...]:
    """Without the instruction every fmadd is a call of the C library's, which gives the same bits."""
    try:
        return ("-mfma",) if " fma " in Path("/proc/cpuinfo").read_text() else ()
    except OSError:
        return ()


@cache
def _folder() -> Path:
    folder = Path(tempfile.gettempdir()) / f"fastnn-emulator-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise PermissionError(f"{folder} belongs to another user")
    return folder
