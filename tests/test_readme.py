"""What README.md says is so: its tables, its program, its links."""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fastnn.bench.report import readme
from fastnn.cli import main
from fastnn.table import FUNCTIONS, OPS

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def test_tables_come_from_the_committed_results() -> None:
    assert {kind for _, kind, _, _ in readme.TABLE.findall(TEXT)} >= {"claim", "speed", "accuracy"}
    for document in (ROOT / "README.md", ROOT / "bench" / "results" / "README.md"):
        text = document.read_text(encoding="utf-8")
        assert readme.TABLE.search(text)
        assert readme.filled(text, document.parent) == text, f"run: python -m fastnn.bench.report.readme {document}"


def test_the_program_runs(tmp_path: Path) -> None:
    program = "\n".join(re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL))
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


COMMANDS = [line for block in re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL) for line in block.splitlines()]


@pytest.mark.parametrize("line", [line for line in COMMANDS if line.startswith("fastnn ")])
def test_commands_are_understood(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What they do is tested where the commands are; here that each option exists and takes such a value."""
    seen = []

    def note(parser: argparse.ArgumentParser, *arguments: object) -> None:
        seen.append(plain(parser, *arguments))
        raise SystemExit(0)

    plain = argparse.ArgumentParser.parse_args
    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", note)
    with pytest.raises(SystemExit) as stop:
        main(line.split()[1:])
    assert stop.value.code == 0 and seen


def test_the_walk_through_of_inference(tmp_path: Path) -> None:
    """Word for word, in an empty folder: train, export, predict an image, int8, C."""
    if not list(Path(os.environ.get("FASTNN_DATA", "missing")).glob("**/*t10k-images*")):
        pytest.skip("needs the idx files of MNIST: set FASTNN_DATA to the folder that holds them")
    (block,) = (each for each in re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL) if "fastnn export digits" in each)
    place = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    said = {}
    for line in block.splitlines():
        if line.startswith("cc ") and shutil.which("cc") is None:
            continue
        done = subprocess.run(
            line, shell=True, cwd=tmp_path, capture_output=True, text=True, env=os.environ | {"PATH": place}
        )
        assert done.returncode == 0, f"{line}\n{done.stderr}"
        said[line] = done.stdout
    assert said["fastnn predict digits/fast.session digit.png"].startswith("digit.png  7 ")
    for file in ("int8.session", "model.onnx"):
        accuracy = re.search(r"accuracy ([\d.]+) %", said[f"fastnn evaluate digits/{file}"])
        assert accuracy and float(accuracy[1]) > 95


def test_every_function_is_named() -> None:
    section = TEXT.partition("## What there is")[2].partition("## Speed")[0]
    named = set(re.findall(r"`(\w+)`", section))
    named |= {f"{name[:-2]}{dims}" for name in named if name.endswith("1d") for dims in ("2d", "3d")}
    derived = {f"{name}{suffix}" for name in named for suffix in ("_backward", "_and_grad")}
    assert [name for name in (*OPS, *FUNCTIONS) if name not in named | derived] == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    missing = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link and not (ROOT / link).exists()]
    assert missing == []
