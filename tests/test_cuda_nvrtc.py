"""Every kernel of fastnn.kernels.cuda compiled by NVRTC, for every dtype, in arithmetic that rounds as on the CPU.

Needs the package nvidia-cuda-nvrtc, and no GPU.
"""

from __future__ import annotations

import importlib
import pkgutil
import re

import pytest
from nvrtc import PACKAGES, CompilationError, Nvrtc, find

from fastnn.kernels import cuda
from fastnn.kernels.cuda.activations import FAMILY as ACTIVATIONS
from fastnn.kernels.cuda.compiler import HERE, Family, options, source

ARITHMETIC = re.compile(r"^\s*(?:@!?%p\d+\s+)?((?:add|sub|mul|mad|fma|div|rcp|sqrt)\.[\w.]*f(?:32|64))\b", re.MULTILINE)
ROUNDED = re.compile(r"\w+\.rn\.f(?:32|64)")
FUSED = re.compile(r"::activation::(?!(?:relu|elu|hardtanh)\b)")
# They drop NaN and order zeros, which vmin and vmax do not, or are right to a few bits only.
FORBIDDEN = re.compile(
    r"(?<![\w.:])(?:f?min|f?max|fminf|fmaxf|rsqrtf?|__f\w+_r[nzud]|__(?:exp|log|sin|cos|pow)f|__fdividef)\("
)
LOOSE = re.compile(r"\.(?:ftz|approx|full)\b")
ARCHITECTURES = ["75", "80", "90", "newest"]
QUICK = "--Ofast-compile=max"  # instructions as they are written: what is asked here does not need them in good order


def families() -> dict[str, Family]:
    """Every family of the package, by name."""
    found = {}
    for info in pkgutil.iter_modules(cuda.__path__):
        module = importlib.import_module(f"{cuda.__name__}.{info.name}")
        found.update({value.name: value for value in vars(module).values() if isinstance(value, Family)})
    return found


FAMILIES = families()


def test_every_source_has_a_family() -> None:
    assert {path.stem for path in HERE.glob("*.cu")} == set(FAMILIES)


def test_sources_use_no_function_that_drops_nan_or_bits() -> None:
    for path in (*HERE.glob("*.cu*"), *(HERE.parent / "include").glob("*.hpp")):
        code = re.sub(r"//.*", "", path.read_text())
        assert FORBIDDEN.findall(code) == [], path


@pytest.fixture(scope="module")
def nvrtc() -> Nvrtc:
    path = find()
    if path is None:
        pytest.skip(f"needs {PACKAGES[0]} (pip install {PACKAGES[0]})")
    return Nvrtc(path)


def flags(nvrtc: Nvrtc, architecture: str, *more: str) -> list[str]:
    supported = nvrtc.architectures()
    number = supported[-1] if architecture == "newest" else int(architecture)
    assert number in supported
    return [*options(), f"--gpu-architecture=compute_{number}", *more]


def texts(ptx: str, symbols: dict[str, str]) -> dict[str, str]:
    """The text of each kernel, by its C++ name."""
    bodies = [text.split("\n}\n")[0] for text in re.split(r"\.entry\s", ptx)[1:]]
    by_symbol = {text.split("(", 1)[0].strip(): text for text in bodies}
    return {name: by_symbol[symbol] for name, symbol in symbols.items()}


def without_library(ptx: str) -> str:
    """The text without CUDA's own functions (pow), which are right to their last bits by means of their own."""
    parts = ptx.split("\n}\n")
    return "\n}\n".join(
        [part for part in parts if not re.search(r"\b__(?:internal|nv)_\w+\($", part[:2000], re.MULTILINE)]
    )


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("family", FAMILIES)
def test_kernels_compile_in_arithmetic_that_rounds_to_nearest(nvrtc: Nvrtc, family: str, architecture: str) -> None:
    kernels = FAMILIES[family]
    # Each formula is compiled for each architecture among the activations. Fused with something else, that is many
    # kernels alike: all of them for the newest, for the others one of each number of parameters.
    all_fused = architecture == "newest" or family == "activations"
    chosen = tuple(each for each in kernels.expressions if all_fused or not FUSED.search(each))
    names = list(dict.fromkeys(name for dtype in kernels.dtypes for name in kernels.names(dtype, chosen)))
    ptx, log, symbols = nvrtc.compile(source(family), flags(nvrtc, architecture, QUICK), names)
    assert log.strip() == ""
    found = texts(ptx, symbols)
    assert set(found) == set(names)
    ptx = without_library(ptx)
    assert {each for each in ARITHMETIC.findall(ptx) if not ROUNDED.fullmatch(each)} == set()
    assert LOOSE.findall(ptx) == []
    assert ".extern" not in ptx  # nothing is called but what the sources hold


def test_threads_take_16_bytes_at_a_time_and_compute_in_their_type(nvrtc: Nvrtc) -> None:
    chosen = [
        (dtype, expression)
        for dtype in ACTIVATIONS.dtypes
        for expression in ACTIVATIONS.expressions
        if re.match(r"(for|back)ward<.*::(relu|gelu|prelu)\b", expression)
    ]
    names = [ACTIVATIONS.names(dtype, (expression,))[0] for dtype, expression in chosen]
    ptx, _, symbols = nvrtc.compile(source("activations"), flags(nvrtc, "90"), names)
    found = texts(ptx, symbols)
    for (dtype, expression), name in zip(chosen, names, strict=True):
        text = found[name]
        vector = {"float32": "v4.f32", "float64": "v2.f64"}.get(dtype, "v4.u32")
        own, other = ("f64", "f32") if dtype == "float64" else ("f32", "f64")
        assert text.count(f"ld.global.{vector}") == 2, name  # of one array or of two
        assert text.count(f"st.global.{vector}") == (1 if expression.startswith("backward") else 2), name
        assert ".local" not in text, name  # registers suffice
        assert f".{own}" in text and f".{other}" not in text, name
        assert (f"fma.rn.{own}" in text) is ("gelu" in name), name  # fused where the formula is, and nowhere else


def test_contraction_would_be_noticed(nvrtc: Nvrtc) -> None:
    """The options matter, and the checks above see it."""
    loose = [each for each in flags(nvrtc, "90") if each.startswith(("-std", "-I", "--gpu"))]
    names = ACTIVATIONS.names(
        "float32", tuple(e for e in ACTIVATIONS.expressions if re.match(r"forward<.*::mish\b", e))
    )
    ptx, _, _ = nvrtc.compile(source("activations"), [*loose, "--use_fast_math"], names)
    assert LOOSE.search(ptx)
    assert {each for each in ARITHMETIC.findall(ptx) if not ROUNDED.fullmatch(each)}


def test_errors_are_reported(nvrtc: Nvrtc) -> None:
    with pytest.raises(CompilationError, match="no_such_function"):
        nvrtc.compile("__global__ void kernel() { no_such_function(); }", [], [])
