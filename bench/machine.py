"""What the figures depend on: the CPU, the software, the environment."""

from __future__ import annotations

import datetime
import importlib
import importlib.util
import os
import subprocess
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

# Variables that change what some library does; a comparison made under them is worth a warning.
DISTORTING = {
    "OPENBLAS_CORETYPE": "forces OpenBLAS (NumPy's and SciPy's matrix library) to kernels of another CPU",
    "OPENBLAS_L2_SIZE": "changes how OpenBLAS cuts matrices up",
    "NPY_DISABLE_CPU_FEATURES": "switches off vector code of NumPy",
    "NPY_ENABLE_CPU_FEATURES": "changes the vector code of NumPy",
    "FASTNN_ISA": "forces fastnn to one instruction set",
    "ATEN_CPU_CAPABILITY": "forces PyTorch to one instruction set",
    "ONEDNN_MAX_CPU_ISA": "limits PyTorch's oneDNN kernels",
    "OMP_NUM_THREADS": "limits threads",
    "MKL_NUM_THREADS": "limits threads",
    "OPENBLAS_NUM_THREADS": "limits threads",
    "NUMEXPR_NUM_THREADS": "limits threads",
    "NUMEXPR_MAX_THREADS": "limits threads",
    "FASTNN_NUM_THREADS": "limits threads",
    "XLA_FLAGS": "changes what JAX compiles",
    "LD_PRELOAD": "may replace the memory allocator or the mathematical library",
}


def warnings() -> list[str]:
    """Everything about this machine, now, that makes its figures doubtful."""
    found = [f"{name}={os.environ[name]} is set: it {why}." for name, why in DISTORTING.items() if os.environ.get(name)]
    if importlib.util.find_spec("threadpoolctl") is None:
        found.append("NumPy's matrix library uses as many threads as it likes: pip install threadpoolctl limits it.")
    if hasattr(os, "getloadavg"):
        load, cores = os.getloadavg()[0], usable_cores()
        if load > 0.5 * cores:
            found.append(f"The machine was busy at the start: load {load:.1f} on {cores} cores.")
    return found


def usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", *arguments]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _is_checkout(folder: Path) -> bool:
    try:
        return 'name = "fastnn"' in (folder / "pyproject.toml").read_text(encoding="utf-8")
    except OSError:
        return False


def commit() -> str | None:
    """The commit of the fastnn checkout we are in or were imported from, `+` if it was changed; None outside."""
    for start in (Path.cwd(), Path(__file__).resolve().parent):
        for folder in (start, *start.parents):
            if _is_checkout(folder) and (head := _git(folder, "rev-parse", "HEAD")):
                return head + ("+" if _git(folder, "status", "--porcelain", "--untracked-files=no") else "")
    return None


def version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def fastnn_info() -> dict[str, Any]:
    info = importlib.import_module("fastnn").info()
    return info if isinstance(info, dict) else dict(info.as_dict())


def describe(packages: Iterable[str]) -> dict[str, Any]:
    info = fastnn_info()
    versions = {name: found for name in packages if (found := version(name))}
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "cpu": str(info.get("cpu", {}).get("model", "unknown")),
        "cores": usable_cores(),
        "caches": info.get("cpu", {}).get("caches", {}),
        "instruction_set": str(info.get("instruction_sets", {}).get("chosen", "unknown")),
        "versions": versions,
        "commit": commit(),
        "fastnn": info,
    }
