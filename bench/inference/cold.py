"""From the start of a process to the first result, and the memory of such processes: each contender in its own."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from . import files
from .files import Made

SCRIPT = Path(__file__).with_name("fresh.py")
SAVED = {  # by contender the file that it begins with
    "fastnn": files.SESSION,
    "fastnn int8": files.SESSION_INT8,
    "onnxruntime": files.ONNX,
    "onnxruntime .ort": files.ORT,
    "onnxruntime int8": files.ONNX_INT8,
    "torch": files.TORCH,
    "numpy": files.NUMPY,
    "floor": files.NUMPY,  # Python and NumPy alone: the file stays closed
}
MEMORY = ("fastnn", "fastnn int8", "onnxruntime", "onnxruntime int8", "torch", "numpy")  # a .ort file is no other model


def starts(made: Made, repeats: int) -> dict[str, dict[str, float | int]]:
    """Medians over `repeats` processes of each contender, in turns, at batch 1, one thread; the first is left out."""
    names = [name for name in SAVED if able(made, name)]
    given = _input(made, 1)
    found: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(repeats + 1):
        shift = turn % len(names)
        for name in names[shift:] + names[:shift]:
            start = time.monotonic()
            found[name].append(_run(made, name, given)["first"] - start)
    return {name: {"median_s": float(np.median(times[1:])), "best_s": min(times[1:])} for name, times in found.items()}


def memory(made: Made, batch: int) -> dict[str, dict[str, int]]:
    """Bytes of a process at its peak, and what came after the imports: weights, values; nothing where not Linux."""
    given, found = _input(made, batch), {}
    for name in MEMORY:
        if able(made, name) and (seen := _run(made, name, given))["peak_kib"]:
            peak, before = 1024 * seen["peak_kib"], 1024 * seen["imported_kib"]
            found[name] = {"process_bytes": peak, "beyond_bytes": peak - before}
    return found


def able(made: Made, name: str) -> bool:
    """Is there its file, and what reads it?"""
    package = "numpy" if name == "floor" else name.split()[0]
    return made.has(SAVED[name]) and importlib.util.find_spec(package) is not None


def _input(made: Made, batch: int) -> Path:
    path = made.folder / f"input-{batch}.npy"
    np.save(path, made.network.input(batch))
    return path


def _run(made: Made, name: str, given: Path) -> dict[str, Any]:
    command = [sys.executable, "-P", str(SCRIPT), name, made.path(SAVED[name]), str(given), "1"]
    cached = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}  # as installed
    done = subprocess.run(command, capture_output=True, text=True, env=cached)
    if done.returncode:
        raise RuntimeError(f"{name}, {made.network.name}: {(done.stderr.strip().splitlines() or ['no message'])[-1]}")
    seen: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    if not seen["finite"]:
        raise RuntimeError(f"{name}, {made.network.name}: a result is not finite")
    return seen
