"""fastnn.info() and the command that prints it."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np

import fastnn as fnn
from fastnn.info import _caches, main


def test_info_says_what_is_in_force(monkeypatch):
    before = fnn.get_num_threads()
    fnn.set_num_threads(2)
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    monkeypatch.setenv("FASTNN_SOMETHING", "x")
    found = fnn.info()
    fnn.set_num_threads(before)
    plain = found.as_dict()
    assert json.loads(json.dumps(plain)) == plain
    assert plain["threads"]["number"] == 2 and plain["threads"]["from"] == "set_num_threads"
    assert plain["versions"]["numpy"] == np.__version__
    assert plain["environment"]["FASTNN_SOMETHING"] == "x"
    sets = plain["instruction_sets"]
    assert sets["chosen"] in sets["runnable"] and set(sets["runnable"]) <= set(sets["built"])
    assert set(plain["backends"]) == {"native", "numba", "cuda", "reference"}
    assert any("OPENBLAS_CORETYPE=Haswell" in warning for warning in plain["warnings"])
    text = repr(found)
    assert "instruction sets" in text and "set_num_threads" in text and "warning: OPENBLAS_CORETYPE" in text


def test_info_does_not_import_backends(tmp_path):
    code = "import fastnn as fnn, sys; fnn.info(); print([m for m in ('numba', 'cupy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.stdout.strip() == "[]", done.stderr


def test_info_command_as_json(capsys):
    assert main(["--json"]) == 0
    assert json.loads(capsys.readouterr().out) == fnn.info().as_dict()
    assert main([]) == 0
    assert capsys.readouterr().out.startswith("versions\n")


def test_caches_and_model_from_the_system(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    for index, (level, kind, size) in enumerate(
        [("1", "Data", "48K"), ("1", "Instruction", "32K"), ("2", "Unified", "1M")]
    ):
        folder = tmp_path / f"index{index}"
        folder.mkdir()
        for name, text in (("level", level), ("type", kind), ("size", size)):
            (folder / name).write_text(text + "\n")
    (tmp_path / "index3").mkdir()  # one that does not tell
    assert _caches(str(tmp_path)) == {"L1d": "48K", "L1i": "32K", "L2": "1M"}
    assert _caches(str(tmp_path / "missing")) == {}
