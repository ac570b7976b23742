"""What importing fastnn costs and shows."""

from __future__ import annotations

import importlib
import inspect
import pydoc
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import fastnn as fnn
from fastnn.docstrings import backward_doc, forward_doc
from fastnn.table import FUNCTIONS, OPS

LAZY = [
    "numba",
    "ml_dtypes",
    "mpmath",
    "scipy",
    "torch",
    "pandas",
    "dask",
    "matplotlib",
    "rich",
    "pytest",
    "argparse",
    "subprocess",
]


def python(code: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, **options)


def test_optional_packages_are_not_imported() -> None:
    done = python(
        "import numpy, sys; before = set(sys.modules); import fastnn; "
        f"print(sorted({set(LAZY)} & (set(sys.modules) - before)))"
    )
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_importing_the_sources_says_what_to_do(tmp_path: Path) -> None:
    """A source folder without compiled kernels, in which somebody has started Python."""
    shutil.copytree(Path(fnn.__file__).parent, tmp_path / "fastnn", ignore=shutil.ignore_patterns("kernels", "bench"))
    (tmp_path / "meson.build").touch()
    done = python("import fastnn", cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)})
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode != 0 and last.startswith("ImportError: ")
    assert str(tmp_path) in last and "pip install ." in last and "--editable" in last


def test_a_missing_dependency_is_not_taken_for_a_missing_build(tmp_path: Path) -> None:
    (tmp_path / "numpy.py").write_text("raise ModuleNotFoundError('No module named numpy', name='numpy')")
    path = f"{tmp_path}:{Path(fnn.__file__).parents[1]}"
    done = python("import fastnn", cwd=tmp_path, env={"PYTHONPATH": path})
    assert "ModuleNotFoundError: No module named numpy" in done.stderr and "pip install" not in done.stderr


def test_names() -> None:
    functions = {name for op in OPS for name in (op, f"{op}_backward")} | set(FUNCTIONS)
    assert functions < set(fnn.__all__) <= set(dir(fnn))
    others = {"use", "backend", "info", "accuracy", "manual_seed", "set_num_threads", "get_num_threads"}
    assert others == set(fnn.__all__) - functions
    assert {"ufuncs", "__version__"} < set(dir(fnn))
    space: dict[str, Any] = {}
    exec("from fastnn import *", space)
    assert functions < set(space)
    assert isinstance(fnn.__version__, str) and fnn.__version__.split(".")[0].isdigit()
    with pytest.raises(AttributeError, match="module 'fastnn' has no attribute 'rleu'"):
        fnn.rleu  # noqa: B018


def test_guests_are_themselves_whatever_was_imported_before() -> None:
    done = python(
        "import fastnn.custom, fastnn.finite_differences, fastnn as fnn; from fastnn import activation, gradcheck; "
        "print(callable(fnn.gradcheck), fnn.gradcheck is gradcheck, fnn.activation is activation, "
        "issubclass(fnn.GradientError, AssertionError), {'activation', 'gradcheck', 'init'} < set(dir(fnn)))"
    )
    assert done.stdout.split() == ["True"] * 5, done.stdout + done.stderr


def test_names_are_functions_whatever_was_imported_before() -> None:
    """Modules of the same names do not take their place, and nothing is imported that is not asked for."""
    done = python(
        "import sys, fastnn as fnn; print('fastnn.functions.losses' in sys.modules, 'numpy.random' in sys.modules)\n"
        "import fastnn.accuracy, fastnn.info, fastnn.functions.linear, fastnn.functions.dropout\n"
        "import fastnn.functions.softmax\n"
        "import fastnn.functions as functions, types, pickle\n"
        "names = [getattr(fnn, name) for name in ('accuracy', 'info', 'linear', 'dropout', 'softmax')]\n"
        "names += [functions.linear, functions.dropout, functions.softmax]\n"
        "print(any(isinstance(each, types.ModuleType) for each in names), pickle.loads(pickle.dumps(fnn)) is not fnn)"
    )
    assert done.stdout.split() == ["False"] * 4, done.stdout + done.stderr


def test_families_offer_what_their_rows_are() -> None:
    from fastnn import functions

    for family, names in functions._FAMILIES.items():
        module = sys.modules.get(f"fastnn.functions.{family}") or importlib.import_module(f"fastnn.functions.{family}")
        assert sorted(module.__all__) == sorted(names.split())
    assert set(functions.__all__) == set(FUNCTIONS) <= set(dir(functions))


@pytest.mark.parametrize("op", OPS.values(), ids=OPS)
def test_signature_and_help(op: Any) -> None:
    for name, arrays, doc in (
        (op.name, ["x"], forward_doc(op)),
        (f"{op.name}_backward", ["dy", "saved"], backward_doc(op)),
    ):
        function = getattr(fnn, name)
        assert function.__name__ == name and function.__module__ == "fastnn"
        assert callable(function) and inspect.getdoc(function) == inspect.cleandoc(doc)
        signature = inspect.signature(function)
        assert list(signature.parameters) == [*arrays, *(param.name for param in op.params), "out"]
        assert signature.parameters["out"].kind is inspect.Parameter.KEYWORD_ONLY
        for param in op.params:
            default = signature.parameters[param.name].default
            assert default == (inspect.Parameter.empty if param.default is None else param.default)
        text = pydoc.plain(pydoc.render_doc(function))
        assert f"{name}{signature}" in text and op.source.split("(")[0].strip() in text
