"""The build: source distribution, wheel made from it, editable install, and what is said where none is possible."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
NUMPY = Path(np.__file__).parents[1]
LARGEST_WHEEL = 3_000_000
OF_PROCESSORS = {"avx512.hpp", "avx2.hpp", "sse4.hpp", "neon.hpp", "x86.hpp", "integers.hpp"}  # which devices skip
USE = """
import sys
sys.path[:0] = sys.argv[1:]
import numpy as np, fastnn as fnn
from fastnn.cli import main
x = np.linspace(-3, 3, 1001, dtype=np.float32)
assert np.array_equal(fnn.relu(x), np.maximum(x, 0)), "relu"
assert np.allclose(fnn.sigmoid(x), 1 / (1 + np.exp(-x))), "sigmoid"
assert np.array_equal(fnn.ufuncs.sigmoid(x), fnn.sigmoid(x)), "ufuncs"
assert main(["info"]) == 0
print(fnn.__file__)
"""


def run(*command: str | Path, cwd: Path, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("FASTNN_", "PYTHON", "GIT_"))}
    # The build finds its tools on the path, where an environment's are only once it is activated.
    clean["PATH"] = os.pathsep.join([sysconfig.get_path("scripts"), clean["PATH"]])
    return subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        env=clean | dict(env or {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=1800,
    )


def succeed(*command: str | Path, cwd: Path) -> str:
    done = run(*command, cwd=cwd)
    assert done.returncode == 0, done.stdout
    return done.stdout


def hook(name: str, tree: Path, out: Path, **settings: str | Path) -> Path:
    """Call the build backend in `tree`, as pip does."""
    out.mkdir(exist_ok=True)
    code = f"import mesonpy, sys; mesonpy.{name}(sys.argv[1], dict(part.split('=', 1) for part in sys.argv[2:]))"
    options = (f"{key.replace('_', '-')}={value}" for key, value in settings.items())
    succeed(sys.executable, "-c", code, out, *options, cwd=tree)
    (made,) = out.iterdir()
    return made


def isolated(code: str, *folders: Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run Python with nothing installed but what lies in `folders`, and NumPy."""
    return run(sys.executable, "-I", "-S", "-c", code, *folders, NUMPY, cwd=cwd)


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source tree as it is now, in a repository of its own: distributions are made from what is committed."""
    if shutil.which("git") is None:
        pytest.skip("a source distribution is made with git, which is not installed")
    copy = tmp_path_factory.mktemp("tree") / "fastnn"
    top = run("git", "rev-parse", "--show-toplevel", cwd=ROOT)
    if top.returncode == 0 and Path(top.stdout.strip()) == ROOT:
        names = succeed("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=ROOT).split("\0")
        for name in filter(None, names):
            if (ROOT / name).exists():  # not deleted
                (copy / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, copy / name)
    else:
        shutil.copytree(
            ROOT, copy, ignore=shutil.ignore_patterns("build", "dist", "__pycache__", ".*_cache", ".benchmarks")
        )
    who = ("-c", "user.name=test", "-c", "user.email=test@localhost", "-c", "commit.gpgsign=false")
    for command in (("init", "--quiet"), ("add", "--all"), (*who, "commit", "--quiet", "--message", "copy")):
        succeed("git", *command, cwd=copy)
    return copy


@pytest.fixture(scope="session")
def sdist(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return hook("build_sdist", tree, tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="session")
def unpacked(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    (top,) = folder.iterdir()
    return top


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("build")


@pytest.fixture(scope="session")
def wheel(unpacked: Path, build: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not any(map(shutil.which, (os.environ.get("CXX", "").split() or ["c++"])[:1] + ["g++", "clang++"])):
        pytest.skip("there is no C++ compiler to build with")
    return hook("build_wheel", unpacked, tmp_path_factory.mktemp("wheel"), build_dir=build)


def members(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_source_distribution_holds_the_tree(tree: Path, unpacked: Path) -> None:
    def files(folder: Path) -> set[str]:
        return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}

    assert files(unpacked) - {"PKG-INFO"} == {name for name in files(tree) if not name.startswith(".git/")}


def test_wheel_is_small_and_names_its_platform(wheel: Path) -> None:
    assert wheel.stat().st_size < LARGEST_WHEEL
    assert platform.machine() in wheel.name and "none-any" not in wheel.name


def device_sources(tree: Path) -> set[Path]:
    """The sources of kernels for CUDA, and the headers that they include on a device."""
    tree = tree.resolve()
    folders = tree / "kernels/cuda", tree / "kernels/include"
    found: set[Path] = set()
    ahead = [path for path in folders[0].iterdir() if path.suffix in (".cu", ".cuh")]
    while ahead:
        path = ahead.pop()
        if path in found or path.name in OF_PROCESSORS:
            continue
        found.add(path)
        for name in re.findall(r'^#\s*include "(.+)"', path.read_text(), re.MULTILINE):
            ahead += [(folder / name).resolve() for folder in (path.parent, *folders) if (folder / name).is_file()][:1]
    return found


def test_wheel_holds_the_package_and_nothing_else(tree: Path, wheel: Path) -> None:
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    modules = {f"fastnn/kernels/cpu/{path.stem}{suffix}" for path in tree.glob("kernels/cpu/*.pyx")}
    declarations = {"fastnn/functional.pyi", "fastnn/ufuncs.pyi"}
    sources = {str(path.relative_to(tree)) for path in tree.glob("fastnn/**/*.py")} - {"fastnn/declarations.py"}
    sources |= {f"fastnn/kernels/{path.name}" for path in tree.glob("kernels/*.py")} - {"fastnn/kernels/coeffs.py"}
    sources |= {f"fastnn/{path.relative_to(tree)}" for path in tree.glob("kernels/*/*.py*") if path.suffix != ".pyx"}
    sources |= {
        f"fastnn/{path.relative_to(tree)}"
        for path in tree.glob("bench/**/*.py")
        if not path.name.startswith(("test_", "conftest"))
    }
    data = {str(path.relative_to(tree)) for kind in ("*.json", "infer/c/*.c") for path in tree.glob(f"fastnn/{kind}")}
    data |= {"fastnn/py.typed"} | {f"fastnn/{path.relative_to(tree.resolve())}" for path in device_sources(tree)}
    unwanted = {name for name in sources if name.endswith((".pxd", ".pyc"))}
    info = {name for name in members(wheel) if name.startswith("fastnn-")}
    assert members(wheel) - info == modules | declarations | (sources - unwanted) | data
    assert {name.partition("/")[2] for name in info} >= {"METADATA", "RECORD", "entry_points.txt", "licenses/LICENSE"}


def test_metadata(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        metadata, entry_points = (
            archive.read(next(name for name in members(wheel) if name.endswith(f".dist-info/{file}"))).decode()
            for file in ("METADATA", "entry_points.txt")
        )
    lines = metadata.partition("\n\n")[0].splitlines()
    assert "License-Expression: Apache-2.0" in lines
    assert [line for line in lines if line.startswith("Requires-Dist") and "extra ==" not in line] == [
        "Requires-Dist: numpy>=1.25"
    ]
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert {f"Provides-Extra: {name}" for name in extras} <= set(lines)
    assert "fastnn = fastnn.cli:main" in entry_points


def test_compiled_for_every_instruction_set_and_for_no_machine_in_particular(wheel: Path, build: Path) -> None:
    commands = json.loads((build / "compile_commands.json").read_text())
    commands = [command for command in commands if not command["file"].endswith(".pyx")]  # Cython's part
    assert len(commands) >= 4
    for command in commands:
        flags = set(command["command"].split())
        assert not flags & {"-march=native", "-mtune=native", "-ffast-math", "-Ofast", "-ffinite-math-only"}, command
        assert {"-std=c++17", "-ffp-contract=off"} <= flags, command
        # what checks arguments is compiled for size, and loops for processors of long ago; other loops for speed
        small = ".pyx." in command["file"] or "-DFASTNN_ISA_v2" in flags
        assert flags & ({"-Os"} if small else {"-O2", "-O3"}), command
    kernels = [command["command"] for command in commands if command["file"].endswith("cpu/activations.cpp")]
    if platform.machine() in ("x86_64", "AMD64"):
        levels = [re.search(r"-march=x86-64-(v\d)", command) for command in kernels]
        assert sorted(level[1] for level in levels if level) == ["v2", "v3", "v4"]
    else:
        assert [("-DFASTNN_ISA_neon" in command) for command in kernels] == [True]


def test_wheel_from_the_source_distribution_works(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    done = isolated(USE, tmp_path / "site", cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    assert Path(done.stdout.splitlines()[-1]) == tmp_path / "site" / "fastnn" / "__init__.py"


def test_editable_install_works(unpacked: Path, wheel: Path, build: Path, tmp_path: Path) -> None:
    """Built in the wheel's folder, so that little is left to compile; it wins over the sources on the path."""
    editable = hook("build_editable", unpacked, tmp_path / "editable", build_dir=build)
    with zipfile.ZipFile(editable) as archive:
        archive.extractall(tmp_path / "site")
    code = f"import site, sys; site.addsitedir(sys.argv[1])\n{USE}"
    done = isolated(code, tmp_path / "site", unpacked, cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    assert Path(done.stdout.splitlines()[-1]) == unpacked / "fastnn" / "__init__.py"


@pytest.mark.parametrize("where", ["the source folder", "elsewhere"])
def test_import_without_a_build_says_what_to_do(tree: Path, tmp_path: Path, where: str) -> None:
    done = isolated(
        "import sys; sys.path[:0] = sys.argv[1:]; import fastnn", tree, cwd=tree if where != "elsewhere" else tmp_path
    )
    assert done.returncode != 0
    last = done.stdout.strip().splitlines()[-1]
    assert last.startswith("ImportError") and str(tree) in last
    assert "`pip install .`" in last and "--editable ." in last


def compiler(folder: Path, refused: str) -> Path:
    """The compiler of this machine, made to refuse an option as an older one would."""
    script = folder / "c++"
    check = f'case "$word" in {refused}) echo "unknown option $word" >&2; exit 1;; esac'
    script.write_text(f'#!/bin/sh\nfor word in "$@"; do {check}; done\nexec g++ "$@"\n')
    script.chmod(0o755)
    return script


@pytest.mark.parametrize("case", ["no compiler", "a broken compiler", "no C++17", "no x86-64-v2"])
def test_a_compiler_that_will_not_do(tmp_path: Path, case: str) -> None:
    if case == "no compiler":
        cxx, why = tmp_path / "missing", "there is no C and C++ compiler that works"
    elif case == "a broken compiler":
        cxx, why = compiler(tmp_path, "*"), "there is no C and C++ compiler that works"
    elif shutil.which("g++") is None:
        pytest.skip("needs g++ to play an older one")
    elif case == "no C++17":
        cxx, why = compiler(tmp_path, "-std=*17 | -std=*1z"), "which does not know -std=c++17"
    elif platform.machine() in ("x86_64", "AMD64"):
        cxx, why = compiler(tmp_path, "-march=x86-64-v*"), "which does not know -march=x86-64-v2"
    else:
        pytest.skip("only x86-64 has levels")
    done = run("meson", "setup", tmp_path / "build", ROOT, cwd=tmp_path, env={"CXX": str(cxx)})
    assert done.returncode != 0
    assert "ERROR: Problem encountered: fastnn needs a C++17 compiler: GCC 11, Clang 14 or newer" in done.stdout
    assert why in done.stdout
    for hint in ("apt install g++", "dnf install gcc-c++", "xcode-select --install", "CXX"):
        assert hint in done.stdout
