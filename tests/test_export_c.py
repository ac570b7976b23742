"""The C file has the session's bits from every compiler that is there, no warning, and no code in names."""

from __future__ import annotations

import ctypes
import math
import platform
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_infer_session import LAYERS, batch, lively
from test_quantize import LAYERS as QUANTIZED
from test_quantize import data

import fastnn as fnn
from fastnn import cli, nn
from fastnn.infer.c import exporting, formulas
from fastnn.infer.c.library import ordered
from fastnn.infer.c.steps import LAST_BITS, STEPS
from fastnn.infer.steps import KINDS, arrays
from fastnn.kernels.cpu import runtime
from fastnn.table import OPS

Array = Any
STRICT = ["-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow", "-Werror"]
FUSED = ["-O3", "-mavx2", "-mfma"] if platform.machine() == "x86_64" else ["-O3"]
needs_c = pytest.mark.skipif(shutil.which("gcc") is None, reason="there is no gcc")
CROSS = shutil.which("aarch64-linux-gnu-gcc"), shutil.which("qemu-aarch64")
MAIN = """#include <stdio.h>
#include "{name}.h"
static {kind} x[{upper}_INPUTS], y[{upper}_OUTPUTS];
static double memory[{upper}_WORKSPACE / sizeof(double) + 1];
int main(void) {{
  while (fread(x, sizeof x, 1, stdin) == 1) {{
    {name}_run(x, y, memory);
    fwrite(y, sizeof y, 1, stdout);
  }}
  return 0;
}}
"""


def shared(folder: Path, names: list[str], flags: list[str], compiler: str = "gcc") -> ctypes.CDLL:
    """The files of these names, compiled without a warning and loaded."""

    def compiled(name: str) -> str:
        target = str(folder / f"{name}.o")
        subprocess.run([compiler, *STRICT, *flags, "-fPIC", "-c", str(folder / f"{name}.c"), "-o", target], check=True)
        return target

    library = str(folder / f"{names[0]}.so")
    with ThreadPoolExecutor(2) as pool:
        objects = list(pool.map(compiled, names))
    subprocess.run([compiler, "-shared", *objects, "-o", library, "-lm"], check=True)
    return ctypes.CDLL(library)


def run(library: ctypes.CDLL, name: str, session: fnn.infer.Session, x: Array) -> Array:
    """The C function's results for the samples of x, in a workspace full of NaN."""
    sizes = (ctypes.c_size_t * 3)()
    getattr(library, f"{name}_sizes")(sizes)
    count = session.batch or 1
    assert [*sizes][:2] == [count * math.prod(session.input_shape), count * math.prod(session.output_shape)]
    y, memory = np.full((len(x), *session.output_shape), np.nan, session.dtype), np.full(sizes[2] + 64, 255, np.uint8)
    call = getattr(library, f"{name}_run")
    call.restype = None
    for at in range(0, len(x), count):
        call(*(ctypes.c_void_p(array.ctypes.data) for array in (x[at], y[at], memory)))
    assert (memory[sizes[2] :] == 255).all()
    return y


def assert_same(got: Array, want: Array, exact: bool = True) -> None:
    """The same bits where the session's processor fuses multiplication and addition; else close."""
    if runtime.isa() == "v2" or not exact:
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)
    else:
        np.testing.assert_array_equal(got, want)


# ---- formulas ----


@needs_c
@pytest.mark.skipif(runtime.isa() == "v2", reason="without a fused multiply-add kernels have other bits")
@pytest.mark.parametrize("real", ["float", "double"])
def test_activations_have_the_kernels_bits(real: str, tmp_path: Path) -> None:
    dtype, bits = ("float32", "uint32") if real == "float" else ("float64", "uint64")
    assert set(formulas.names()) == set(OPS)
    pieces = [formulas.activation(name, real) for name in OPS]
    text = "#include <math.h>\n#include <stdint.h>\n#include <string.h>\n#include <stddef.h>\n"
    text += "".join(piece.text for piece in ordered(pieces))
    for name, piece in zip(OPS, pieces, strict=True):
        given = "".join(f", p[{k}]" for k in range(len(OPS[name].params)))
        text += f"void {name}_all(const {real} *x, {real} *y, size_t n, const {real} *p);\n"
        text += f"void {name}_all(const {real} *x, {real} *y, size_t n, const {real} *p) {{\n  (void)p;\n"
        text += f"  for (size_t i = 0; i < n; ++i) y[i] = {piece.name}(x[i]{given});\n}}\n"
    (tmp_path / "all.c").write_text(text)
    library = shared(tmp_path, ["all"], [*FUSED, "-fno-trapping-math"])
    step = 4099 if real == "float" else 2**46 - 27
    x = np.arange(0, 2 ** int(bits[4:]) - step, step, dtype=bits).view(dtype)
    x = np.concatenate([x, np.linspace(-30, 30, 100001).astype(dtype)])
    for name in OPS:
        given = np.array([0.7, 1.3][: len(OPS[name].params)], dtype)
        with np.errstate(all="ignore"):
            want = getattr(fnn, name)(x, *given.tolist())
        got = np.empty_like(x)
        call = getattr(library, f"{name}_all")
        call(
            *(ctypes.c_void_p(a.ctypes.data) for a in (x, got)),
            ctypes.c_size_t(x.size),
            ctypes.c_void_p(given.ctypes.data),
        )
        differ = (got.view(bits) != want.view(bits)) & ~(np.isnan(got) & np.isnan(want))
        assert not differ.any(), f"{name}: {x[differ][:3]} gives {got[differ][:3]}, expected {want[differ][:3]}"


# ---- sessions ----


@needs_c
def test_every_kind_of_step(tmp_path: Path) -> None:
    sessions = [fnn.compile(lively(make()), shape) for make, shape, _ in LAYERS]
    sessions.append(fnn.compile(nn.Sequential(nn.Softmax(), nn.LogSoftmax()), 1500))  # rows, in blocks
    sessions.append(fnn.compile(nn.FractionalMaxPool2d(output_ratio=0.7, seed=1), (4, 9, 8), batch=2))
    double = nn.Sequential(nn.MaxPool2d(2), nn.AvgPool2d(2), nn.InstanceNorm2d(4), nn.Softmax(1), nn.LogSoftmax())
    sessions.append(fnn.compile(double, (4, 9, 8), dtype=np.float64))
    sessions.append(fnn.compile(lively(fnn.models.create("lenet5", activation="gelu", dtype=np.float64)), (1, 28, 28)))
    check_all(sessions, tmp_path)


@needs_c
def test_quantized_sessions(tmp_path: Path) -> None:
    sessions = [fnn.quantize(lively(make()), data(shape, 64)) for make, shape, _ in QUANTIZED]
    sessions.append(fnn.quantize(lively(fnn.models.create("mlp", hidden=(16,))), input_shape=(1, 28, 28)))
    sessions.append(fnn.quantize(lively(fnn.models.create("mobilenet", width=4)), data((3, 32, 32), 4)))
    shortcut = fnn.models.create("resnet8", input_shape=(3, 8, 8), shortcut="identity")
    sessions.append(fnn.quantize(lively(shortcut), data((3, 8, 8), 4)))
    check_all(sessions, tmp_path)


@needs_c
def test_graphs_of_onnx(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    from test_infer_onnx import GRAPHS, file_of

    sessions = []
    for nodes, constants, shape, steps in GRAPHS.values():
        session = fnn.compile(fnn.onnx.load(file_of(nodes, constants, ("N", *shape), tmp_path)))
        if set(steps) <= STEPS.keys():
            sessions.append(session)
            continue
        with pytest.raises(ValueError, match="export_c: there is no C for steps Gemm"):
            session.export_c(tmp_path / "model.c")
    check_all(sessions, tmp_path)


def test_images_of_one_pixel(tmp_path: Path) -> None:
    """In blocks they lie as they do without: plans read the one as the other."""
    model = nn.Sequential(nn.Conv2d(48, 48, 1, 2, groups=8), nn.Residual(nn.Conv2d(48, 48, 3, padding=1)), nn.ReLU())
    session = fnn.compile(model.eval(), (48, 2, 2))
    assert (3, 1, 1, 16) in [shape for step in session._plan.steps for shape in step.inputs_as]
    session.export_c(tmp_path / "pixel.c")
    x = np.random.default_rng(0).standard_normal((1, 48, 2, 2)).astype(np.float32)
    got = run(shared(tmp_path, ["pixel"], ["-O1"]), "pixel", session, x)
    np.testing.assert_allclose(got, session(x), rtol=1e-5, atol=1e-6)


def check_all(sessions: list[fnn.infer.Session], folder: Path) -> None:
    """Export each, compile all, run each."""
    names = [f"model{k}" for k in range(len(sessions))]
    for name, session in zip(names, sessions, strict=True):
        session.export_c(folder / f"{name}.c")
    library = shared(folder, names, ["-O0"])
    for name, session in zip(names, sessions, strict=True):
        x = batch(session.input_shape, session.batch or 1, session.dtype)
        exact = not any(step.op in LAST_BITS for step in session._plan.steps)
        assert exact == ("last bits" not in (folder / f"{name}.c").read_text().partition("FASTNN_NO_FMA")[0])
        assert_same(run(library, name, session, x), session(x), exact)
    session.save(folder / "kept")  # and again from a file
    fnn.load(folder / "kept").export_c(folder / "again.c", name=name)
    assert (folder / "again.c").read_text() == (folder / f"{name}.c").read_text()


MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "mlp": ("mlp", {"activation": "gelu", "hidden": (64, 32)}),
    "lenet5": ("lenet5", {"activation": "tanh", "pool": "avg"}),
    "alexnet4": ("alexnet4", {}),
    "vgg_small": ("vgg-small", {"width": 4, "activation": "silu"}),
    "resnet8": ("resnet8", {}),
    "resnet14": ("resnet14", {"shortcut": "identity", "activation": "mish"}),
    "resnet20": ("resnet20", {"activation": "elu"}),
    "mobilenet": ("mobilenet", {"width": 8}),
}


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, fnn.infer.Session]]:
    """A folder of C files with headers, and the sessions that they are of."""
    folder, sessions = tmp_path_factory.mktemp("zoo"), {}
    for name, (model, options) in MODELS.items():
        made = lively(fnn.models.create(model, **options))
        sessions[name] = fnn.compile(made, fnn.models.input_shape(model))
    sessions["bytes"] = fnn.quantize(lively(fnn.models.create("resnet8")), data((3, 32, 32), 4))
    for name, session in sessions.items():
        session.export_c(folder / f"{name}.c", header=folder / f"{name}.h")
    return folder, sessions


def test_the_zoo_is_all_there() -> None:
    assert {model for model, _ in MODELS.values()} == set(fnn.models.names())


@needs_c
def test_the_zoo(zoo: tuple[Path, dict[str, fnn.infer.Session]]) -> None:
    folder, sessions = zoo
    library = shared(folder, list(sessions), ["-O2", *FUSED[1:]])
    for name, session in sessions.items():
        x = batch(session.input_shape, 2)
        assert_same(run(library, name, session, x), session(x))


@pytest.mark.skipif(None in CROSS, reason="there is no aarch64-linux-gnu-gcc, or no qemu-aarch64")
@pytest.mark.parametrize("name", ["lenet5", "resnet8", "bytes"])
def test_aarch64(name: str, zoo: tuple[Path, dict[str, fnn.infer.Session]]) -> None:
    folder, sessions = zoo
    session, x = sessions[name], batch(sessions[name].input_shape, 1)
    (folder / "main.c").write_text(MAIN.format(name=name, upper=name.upper(), kind="float"))
    program, sources = str(folder / f"{name}.aarch64"), [str(folder / "main.c"), str(folder / f"{name}.c")]
    subprocess.run(["aarch64-linux-gnu-gcc", *STRICT, "-O2", "-static", *sources, "-o", program, "-lm"], check=True)
    done = subprocess.run(["qemu-aarch64", program], input=x.tobytes(), stdout=subprocess.PIPE, check=True)
    assert_same(np.frombuffer(done.stdout, np.float32).reshape(1, 10), session(x))


@needs_c
@pytest.mark.skipif(shutil.which("clang") is None, reason="there is no clang")
def test_clang(zoo: tuple[Path, dict[str, fnn.infer.Session]]) -> None:
    folder, sessions = zoo
    session, x = sessions["lenet5"], batch((1, 28, 28), 1)
    assert_same(run(shared(folder, ["lenet5"], FUSED, "clang"), "lenet5", session, x), session(x))


@needs_c
def test_without_fused_operations(zoo: tuple[Path, dict[str, fnn.infer.Session]]) -> None:
    """Close to the session where the target cannot fuse; with GNU's C, which would fuse on its own, the same bits."""
    folder, sessions = zoo
    session, x = sessions["lenet5"], batch((1, 28, 28), 1)
    target = str(folder / "apart.so")
    for flags in (["-DFASTNN_NO_FMA"], ["-std=gnu99", *FUSED]):
        options = [*STRICT, *flags, "-shared", "-fPIC", str(folder / "lenet5.c"), "-o", target, "-lm"]
        subprocess.run(["gcc", *options], check=True)
        got = run(ctypes.CDLL(shutil.copy(target, folder / f"{len(flags)}.so")), "lenet5", session, x)
        if flags[0].startswith("-D"):
            np.testing.assert_allclose(got, session(x), rtol=1e-4, atol=1e-5)
        else:
            assert_same(got, session(x))


@pytest.mark.skipif(shutil.which("g++") is None, reason="there is no g++")
def test_as_cpp(zoo: tuple[Path, dict[str, fnn.infer.Session]]) -> None:
    flags = ["-std=c++17", *STRICT[1:], "-fsyntax-only", "-x", "c++"]
    files = [str(zoo[0] / f"{name}.c") for name in ("lenet5", "resnet14", "mlp")]
    subprocess.run(["g++", *flags, *files, str(zoo[0] / "mlp.h")], check=True)


# ---- names, files ----


@needs_c
def test_hostile_names(tmp_path: Path) -> None:
    """Nothing that a model or its file is called becomes code."""
    evil = nn.Linear(3, 2)
    model = nn.Sequential(evil, nn.ReLU())
    model._modules['*/ int injected; /* \\\n??/ "'] = model._modules.pop("0")
    session = fnn.compile(model, 3)
    path = tmp_path / "7 up*;#include.model.c"
    session.export_c(path, notes="*/ #error no /*\n??/\n#error no \\")
    assert exporting.identifier(path.name) == "model_7_up_include"
    assert "injected;" in path.read_text() and "*/ int" not in path.read_text()
    (tmp_path / "named.c").write_text(path.read_text())
    x = batch((3,))
    assert_same(run(shared(tmp_path, ["named"], ["-O1"]), "model_7_up_include", session, x), session(x))


@pytest.mark.parametrize(
    ("given", "kind", "message"),
    [
        ({"name": "a b"}, ValueError, "name is 'a b'; expected a letter"),
        ({"name": "x;"}, ValueError, "name is 'x;'"),
        ({"name": "y\n"}, ValueError, "name is 'y.n'"),
        ({"name": 3}, TypeError, "name is a int; expected a text"),
    ],
)
def test_what_no_name_can_be(given: dict[str, Any], kind: type[Exception], message: str, tmp_path: Path) -> None:
    session = fnn.compile(nn.Linear(3, 2), 3)
    with pytest.raises(kind, match=message):
        session.export_c(tmp_path / "model.c", **given)
    assert not list(tmp_path.iterdir())


def test_names_of_files() -> None:
    names = {
        "model.c": "model",
        "1.c": "model_1",
        "a-b.x.c": "a_b",
        "__.c": "model",
        "é.c": "model",
        "x" * 50: "x" * 40,
    }
    assert {file: exporting.identifier(file) for file in names} == names


def test_half_precision_has_no_c(tmp_path: Path) -> None:
    session = fnn.compile(nn.Linear(3, 2), 3, dtype=np.float16)
    with pytest.raises(TypeError, match=r"float16; expected float32 or float64: compile\(dtype=...\)"):
        session.export_c(tmp_path / "model.c")


def test_every_step_has_c() -> None:
    assert KINDS.keys() - set(arrays.OPERATORS) <= STEPS.keys()


# ---- the command ----


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    assert cli.main(["train", "--epochs", "1", "--option", "hidden=8", "--out", str(folder), "--quiet"]) == 0
    return folder


@needs_c
def test_the_command(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    c, header, kept = tmp_path / "spirals.c", tmp_path / "spirals.h", tmp_path / "spirals.session"
    assert cli.main(["export", str(trained), "--c", str(c), "--header", str(header), "--session", str(kept)]) == 0
    said = capsys.readouterr().out
    assert "(N, 2) -> (N, 3)" in said and f"{c}: {c.stat().st_size:,} bytes" in said
    assert "Standardize.mean_: " in c.read_text() and "void spirals_run" in header.read_text()
    session, x = fnn.load(kept), batch((2,))
    assert_same(run(shared(tmp_path, ["spirals"], FUSED), "spirals", session, x), session(x))
    again = tmp_path / "again.c"
    assert cli.main(["export", str(kept), "--c", str(again), "--name", "spirals"]) == 0
    assert again.read_text().partition("#include")[2] == c.read_text().partition("#include")[2]


def test_the_command_with_onnx(trained: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    onnx, direct, through = (str(tmp_path / name) for name in ("a.onnx", "a.c", "b.c"))
    assert cli.main(["export", str(trained), "--onnx", onnx, "--c", direct, "--name", "a", "--batch", "2"]) == 0
    assert cli.main(["export", onnx, "--c", through, "--name", "a", "--batch", "2"]) == 0
    texts = [Path(path).read_text().partition("#include")[2] for path in (direct, through)]
    assert "#define A_INPUTS 4" in texts[0] and len(texts[0]) == len(texts[1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "nothing to write; expected --c FILE, --onnx FILE or --session FILE"),
        (["--header", "x.h", "--session", "y"], "--header and --name are about a C file"),
        (["--c", "same", "--onnx", "same"], "are the same file"),
        (["--c", "x.c", "--name", "no name"], "name is 'no name'"),
    ],
)
def test_wrong_usage(options: list[str], message: str, trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["export", str(trained), *options]) == 2
    assert message in capsys.readouterr().err


def test_a_session_is_compiled_already(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept, missing = tmp_path / "kept", tmp_path / "missing"
    fnn.compile(nn.Linear(3, 2), 3).save(kept)
    assert cli.main(["export", str(kept), "--c", str(tmp_path / "a.c"), "--batch", "2"]) == 2
    assert "is a session, which is compiled already; --batch needs the model" in capsys.readouterr().err
    assert cli.main(["export", str(missing), "--c", str(tmp_path / "a.c")]) == 2
    assert "there is no such folder or file" in capsys.readouterr().err
