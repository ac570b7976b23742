"""The headers as CUDA device code: every activation with V = float and double, in arithmetic that rounds as on the CPU.

Needs the package nvidia-cuda-nvrtc, and no GPU.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pytest
from nvrtc import PACKAGES, CompilationError, Nvrtc, find

from fastnn.table import OPS

TESTS = Path(__file__).resolve().parent
HEADERS = TESTS.parent / "kernels/include"
PROBE = TESTS / "cuda/activations_probe.cu"
LIST = re.compile(r"^FASTNN_ACTIVATION\((\w+)\)", re.MULTILINE)
# IEEE arithmetic to the letter: products and sums as written, subnormal numbers kept, division rounded correctly.
STRICT = ["--std=c++17", "--fmad=false", "--ftz=false", "--prec-div=true", "--prec-sqrt=true"]
ARITHMETIC = re.compile(r"^\s*(?:@!?%p\d+\s+)?((?:add|sub|mul|mad|fma|div|rcp|sqrt)\.[\w.]*f(?:32|64))\b", re.MULTILINE)
MIN_MAX = re.compile(r"\b(?:min|max)\.[\w.]*f(?:32|64)\b")  # they drop NaN and order zeros; vmin and vmax do not
ARCHITECTURES = ["75", "80", "90", "newest"]
TYPES = {"float": "f32", "double": "f64"}


@dataclass(frozen=True, slots=True)
class Compiled:
    ptx: str
    log: str
    kernels: dict[tuple[str, str], str]  # the text of each, by op and type


@pytest.fixture(scope="module")
def nvrtc() -> Nvrtc:
    path = find()
    if path is None:
        pytest.skip(f"needs {PACKAGES[0]} (pip install {PACKAGES[0]})")
    return Nvrtc(path)


def compile_probe(nvrtc: Nvrtc, architecture: int, strict: list[str] = STRICT) -> Compiled:
    # The table and the list of blocks name the same ops, but not in the same order.
    names = LIST.findall((HEADERS / "activations.hpp").read_text())
    assert sorted(names) == sorted(OPS)
    options = [f"--gpu-architecture=sm_{architecture}", f"--include-path={HEADERS}", *strict]
    expressions = {(name, cxx): f"activation<{i}, {cxx}>" for i, name in enumerate(names) for cxx in TYPES}
    ptx, log, symbols = nvrtc.compile(PROBE, [*options, f"-DACTIVATIONS={len(OPS)}"], list(expressions.values()))
    bodies = [text.split("\n}\n")[0] for text in re.split(r"\.entry\s", ptx)[1:]]
    texts = {text.split("(", 1)[0].strip(): text for text in bodies}
    return Compiled(ptx, log, {key: texts[symbols[expression]] for key, expression in expressions.items()})


@pytest.fixture(scope="module", params=ARCHITECTURES)
def compiled(request: pytest.FixtureRequest, nvrtc: Nvrtc) -> Compiled:
    supported = nvrtc.architectures()
    architecture = supported[-1] if request.param == "newest" else int(request.param)
    if architecture not in supported:
        pytest.skip(f"this NVRTC does not compile for sm_{architecture}")
    return compile_probe(nvrtc, architecture)


def test_without_remarks(compiled: Compiled) -> None:
    assert compiled.log.strip() == ""


def test_arithmetic_is_rounded_to_nearest(compiled: Compiled) -> None:
    instructions = set(ARITHMETIC.findall(compiled.ptx))
    assert {"fma.rn.f32", "fma.rn.f64", "div.rn.f32", "div.rn.f64"} <= instructions
    assert {i for i in instructions if not re.fullmatch(r"\w+\.rn\.f(32|64)", i)} == set()
    assert re.findall(r"\.(?:ftz|approx|full)\b", compiled.ptx) == []
    assert MIN_MAX.findall(compiled.ptx) == []


def test_nothing_is_called_but_what_the_headers_hold(compiled: Compiled) -> None:
    assert ".extern" not in compiled.ptx


@pytest.mark.parametrize("cxx", TYPES)
def test_each_kernel_computes_in_its_type(compiled: Compiled, cxx: str) -> None:
    own, other = TYPES[cxx], TYPES["float" if cxx == "double" else "double"]
    for name, op in OPS.items():
        text = compiled.kernels[name, cxx]
        assert f".{own}" in text, name
        assert f".{other}" not in text, name
        if op.transcendental:
            assert f"fma.rn.{own}" in text, name
    assert "fma" not in compiled.kernels["relu", cxx]  # there is no product and sum to fuse, so none appeared


def test_contraction_would_be_noticed(nvrtc: Nvrtc) -> None:
    """The options matter, and the checks above see it."""
    loose = compile_probe(nvrtc, 90, ["--std=c++17", "--use_fast_math"])
    assert set(ARITHMETIC.findall(loose.ptx)) - set(ARITHMETIC.findall(compile_probe(nvrtc, 90).ptx))
    assert re.search(r"\.(?:ftz|approx|full)\b", loose.ptx)


def test_errors_are_reported(nvrtc: Nvrtc, tmp_path: Path) -> None:
    source = tmp_path / "wrong.cu"
    source.write_text("__global__ void kernel() { no_such_function(); }")
    with pytest.raises(CompilationError, match="no_such_function"):
        nvrtc.compile(source, [], [])
