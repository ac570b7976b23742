"""The example learns: MNIST where its files are at hand, spirals everywhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
EXAMPLE = ROOT / "examples" / "mnist_numpy.py"
DATA = Path(os.environ.get("FASTNN_DATA", ROOT.parent / "shared" / "data"))


def outcome(cwd: Path, data: Path) -> tuple[str, list[float], float]:
    """What it printed, the loss by epoch, and the test accuracy in percent."""
    environment = os.environ | {"FASTNN_DATA": str(data), "OPENBLAS_NUM_THREADS": "1"}  # quick on a busy machine too
    done = subprocess.run([sys.executable, EXAMPLE], cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    losses = [float(loss) for loss in re.findall(r"^epoch \d+: loss (\S+),", done.stdout, re.MULTILINE)]
    accuracy = re.search(r"^test accuracy: (\S+)%$", done.stdout, re.MULTILINE)
    assert accuracy, done.stdout
    return done.stdout, losses, float(accuracy[1])


def test_mnist(tmp_path: Path) -> None:
    if not any(DATA.glob("**/train-images*")):
        pytest.skip("needs the idx files of MNIST: set FASTNN_DATA to the folder that holds them")
    text, losses, accuracy = outcome(tmp_path, DATA)
    assert "spirals" not in text
    assert accuracy >= 97
    assert losses == sorted(losses, reverse=True)


def test_spirals(tmp_path: Path) -> None:
    text, losses, accuracy = outcome(tmp_path, tmp_path)
    assert text.startswith(f"no train-images in {tmp_path} ") and "generated spirals instead of MNIST" in text
    assert accuracy >= 99
    assert losses[-1] < losses[0] / 3
