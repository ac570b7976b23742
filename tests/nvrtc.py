"""NVIDIA's runtime compiler (https://docs.nvidia.com/cuda/nvrtc) by way of ctypes.

Compiling needs neither a GPU nor its driver.
"""

from __future__ import annotations

import ctypes
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

PACKAGES = ("nvidia-cuda-nvrtc", "nvidia-cuda-nvrtc-cu12")


def find() -> Path | None:
    """The library of the installed package, or None."""
    for package in PACKAGES:
        try:
            found = files(package) or []
        except PackageNotFoundError:
            continue
        for file in found:
            if file.name.startswith(("libnvrtc.so", "nvrtc64_")) and "alt" not in file.name:
                return Path(str(file.locate()))
    return None


class CompilationError(Exception):
    """What the compiler said."""


class Nvrtc:
    """The loaded library."""

    def __init__(self, path: Path) -> None:
        self.library = ctypes.CDLL(str(path))
        self.library.nvrtcGetErrorString.restype = ctypes.c_char_p

    def call(self, name: str, *args: object) -> None:
        status = getattr(self.library, name)(*args)
        if status != 0:
            raise RuntimeError(f"{name}: {self.library.nvrtcGetErrorString(status).decode()}")

    def architectures(self) -> list[int]:
        """The compute capabilities it compiles for, times ten, in rising order."""
        count = ctypes.c_int()
        self.call("nvrtcGetNumSupportedArchs", ctypes.byref(count))
        found = (ctypes.c_int * count.value)()
        self.call("nvrtcGetSupportedArchs", found)
        return sorted(found)

    def text(self, what: str, program: ctypes.c_void_p) -> str:
        size = ctypes.c_size_t()
        self.call(f"nvrtcGet{what}Size", program, ctypes.byref(size))
        buffer = ctypes.create_string_buffer(size.value)
        self.call(f"nvrtcGet{what}", program, buffer)
        return buffer.value.decode()

    def compile(self, source: str, options: list[str], expressions: list[str]) -> tuple[str, str, dict[str, str]]:
        """Instantiate the expressions; return PTX, the compiler's remarks and the symbol of every expression."""
        program = ctypes.c_void_p()
        self.call("nvrtcCreateProgram", ctypes.byref(program), source.encode(), b"kernels.cu", 0, None, None)
        try:
            for expression in expressions:
                self.call("nvrtcAddNameExpression", program, expression.encode())
            arguments = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
            failed = self.library.nvrtcCompileProgram(program, len(options), arguments) != 0
            log = self.text("ProgramLog", program)
            if failed:
                raise CompilationError(log)
            symbols = {}
            for expression in expressions:
                symbol = ctypes.c_char_p()
                self.call("nvrtcGetLoweredName", program, expression.encode(), ctypes.byref(symbol))
                symbols[expression] = (symbol.value or b"").decode()
            return self.text("PTX", program), log, symbols
        finally:
            self.call("nvrtcDestroyProgram", ctypes.byref(program))
