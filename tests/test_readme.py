"""What README.md says is so: its tables, its program, its links."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from fastnn.bench.report import readme
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
