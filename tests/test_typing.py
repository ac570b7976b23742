"""Types: what mypy says of the package and of programs that use it, and whether the declarations are true."""

from __future__ import annotations

import ast
import inspect
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import fastnn as fnn
from fastnn.kernels.cpu import activations, runtime, threads

ROOT = Path(__file__).resolve().parents[1]
PROGRAMS = (ROOT / "tests" / "typing_sample.py", *sorted((ROOT / "examples").glob("*.py")))


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python files laid out as they are installed, with the declarations that the build adds."""
    site = tmp_path_factory.mktemp("site")
    for source, name in (("fastnn", "fastnn"), ("kernels", "fastnn/kernels"), ("bench", "fastnn/bench")):
        shutil.copytree(ROOT / source, site / name, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
    subprocess.run([sys.executable, "-B", ROOT / "fastnn" / "declarations.py", site / "fastnn"], check=True)
    return site


def test_mypy_finds_nothing(package: Path, tmp_path: Path) -> None:
    for program in PROGRAMS:
        shutil.copy(program, package)
    modules = [word for program in PROGRAMS for word in ("--module", program.stem)]
    options = ["--config-file", str(ROOT / "pyproject.toml"), "--cache-dir", str(tmp_path), "--package", "fastnn"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MYPY")}
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *options, *modules], cwd=package, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_declared_signatures_are_the_real_ones(package: Path) -> None:
    text = (package / "fastnn" / "functional.pyi").read_text(encoding="utf-8")
    declared = {node.name: node.args for node in ast.parse(text).body if isinstance(node, ast.FunctionDef)}
    assert declared.keys() < set(fnn.__all__)
    for name, arguments in declared.items():
        real = inspect.signature(getattr(fnn, name)).parameters.values()
        names = [argument.arg for argument in arguments.args]
        defaults = [ast.literal_eval(value) for value in arguments.defaults]
        assert [(p.name, p.kind, p.default) for p in real] == [
            *(
                (name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default)
                for name, default in zip(
                    names, [inspect.Parameter.empty] * (len(names) - len(defaults)) + defaults, strict=True
                )
            ),
            ("out", inspect.Parameter.KEYWORD_ONLY, None),
        ], name


def test_every_ufunc_is_declared(package: Path) -> None:
    text = (package / "fastnn" / "ufuncs.pyi").read_text(encoding="utf-8")
    declared = {node.target.id for node in ast.walk(ast.parse(text)) if isinstance(node, ast.AnnAssign)}  # type: ignore[union-attr]
    assert declared == set(fnn.ufuncs.__all__)


@pytest.mark.parametrize("module", [activations, runtime, threads])
def test_compiled_modules_hold_what_is_declared(module: ModuleType) -> None:
    path = ROOT / "kernels" / "cpu" / f"{module.__name__.rpartition('.')[2]}.pyi"
    body = ast.parse(path.read_text(encoding="utf-8")).body
    names = [node.name for node in body if isinstance(node, (ast.FunctionDef, ast.ClassDef))]
    assert names
    assert [name for name in names if not hasattr(module, name)] == []
