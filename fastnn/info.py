"""What fastnn runs on here: CPU, instruction sets, backends, threads, BLAS. ``fastnn info`` prints it."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from fastnn import threads

__all__ = ["Info", "info"]

# Variables of others that change what fastnn, or NumPy's BLAS beneath it, does.
RELATED = ("OMP_NUM_THREADS", "OPENBLAS_CORETYPE", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "PYTHON_GIL")


@dataclass(frozen=True, slots=True, repr=False)
class Info:
    """What ``fastnn.info()`` found. Prints as a report; `as_dict` gives the same as plain data."""

    versions: dict[str, str]
    cpu: dict[str, Any]
    instruction_sets: dict[str, Any]
    threads: dict[str, Any]
    backends: dict[str, str]
    blas: dict[str, Any]
    environment: dict[str, str]
    warnings: list[str]

    def as_dict(self) -> dict[str, Any]:
        """Return everything as nested dictionaries that the json module can write."""
        return asdict(self)

    def __repr__(self) -> str:
        lines: list[str] = []
        for section, content in self.as_dict().items():
            if section == "warnings":
                lines += [f"warning: {warning}" for warning in content]
                continue
            lines.append(section.replace("_", " ").replace("cpu", "CPU").replace("blas", "BLAS"))
            for key, value in content.items():
                name = key if section == "environment" else key.replace("_", " ")
                lines.append(f"  {name:<20} {_text(value)}")
            if not content:
                lines.append("  nothing set")
        return "\n".join(lines)


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_text(item)}" for key, item in value.items()) or "unknown"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_text, value)) or "none"
    return "none" if value is None else str(value)


def info() -> Info:
    """Describe this machine and what fastnn makes of it."""
    from fastnn.kernels.cpu import runtime

    choice = threads.current()
    environment = {
        name: value for name, value in sorted(os.environ.items()) if name.startswith("FASTNN_") or name in RELATED
    }
    warnings = []
    if "OPENBLAS_CORETYPE" in environment:
        warnings.append(
            f"OPENBLAS_CORETYPE={environment['OPENBLAS_CORETYPE']} forces the kernels of NumPy's matrix products; "
            "unset it before you measure anything"
        )
    return Info(
        versions=_versions(),
        cpu={
            "model": _cpu_model(),
            "architecture": platform.machine(),
            "usable_cores": threads.affinity_cores(),
            "cgroup_quota": threads.cgroup_quota(),
            "caches": _caches(),
        },
        instruction_sets={
            "built": list(runtime.built()),
            "runnable": list(runtime.isas()),
            "chosen": runtime.isa(),
        },
        threads={"number": choice.number, "from": choice.source, "default": threads.default_num_threads()},
        backends=_backends(),
        blas=_blas(),
        environment=environment,
        warnings=warnings,
    )


def _version(*distributions: str) -> str | None:
    """Return "name version" of the first of these distributions that is installed, without importing it."""
    from importlib.metadata import PackageNotFoundError, version

    for name in distributions:
        try:
            return f"{name} {version(name)}"
        except PackageNotFoundError:
            continue
    return None


def _versions() -> dict[str, str]:
    fastnn = _version("fastnn")
    gil = getattr(sys, "_is_gil_enabled", lambda: True)()  # Python 3.13 and later can do without
    return {
        "fastnn": fastnn.partition(" ")[2] if fastnn else "not installed as a distribution",
        "python": f"{platform.python_version()} ({platform.python_implementation()}{'' if gil else ', free-threaded'})",
        "numpy": np.__version__,
        "system": " ".join((platform.system(), platform.machine(), *platform.libc_ver())).strip(),
    }


def _backends() -> dict[str, str]:
    return {
        "native": "available",
        "numba": _version("numba") or "not installed",
        "cuda": _cuda(),
        "reference": f"numpy {np.__version__}",
    }


def _cuda() -> str:
    """CuPy's version, and the devices where it has been imported: nobody waits here for it to find them."""
    module = sys.modules.get("cupy")
    found = _version("cupy-cuda13x", "cupy-cuda12x", "cupy")
    if module is None:
        return found or 'cupy not installed: pip install "fastnn[cuda]"'
    found = found or f"cupy {module.__version__}"
    runtime = module.cuda.runtime
    try:
        names = [runtime.getDeviceProperties(k)["name"].decode() for k in range(runtime.getDeviceCount())]
    except runtime.CUDARuntimeError as error:
        return f"{found}, no device: {error}"
    return f"{found} on {', '.join(names) or 'no device'}"


def _blas() -> dict[str, Any]:
    """Describe NumPy's BLAS: what NumPy was built with, and what threadpoolctl (where installed) finds at work."""
    config: Any = np.show_config(mode="dicts")
    built = config.get("Build Dependencies", {}).get("blas", {})
    result: dict[str, Any] = {"name": built.get("name"), "version": built.get("version")}
    try:
        from threadpoolctl import threadpool_info
    except ImportError:
        return result
    for library in threadpool_info():
        # SciPy brings an OpenBLAS of its own: NumPy's is the one among its files.
        if library["user_api"] == "blas" and "numpy" in library["filepath"]:
            result |= {"kernels": library.get("architecture"), "threads": library["num_threads"]}
    return result


def _cpu_model() -> str:
    if sys.platform == "darwin":
        return _sysctl("machdep.cpu.brand_string") or platform.processor()
    try:
        with open("/proc/cpuinfo", errors="replace") as lines:
            for line in lines:
                name, _, value = line.partition(":")
                if name.strip() in ("model name", "Model", "cpu model"):
                    return value.strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _caches(folder: str = "/sys/devices/system/cpu/cpu0/cache") -> dict[str, str]:
    """Return the caches that the first core reaches, by name (L1d, L1i, L2, L3), as far as the system tells."""
    from pathlib import Path

    if sys.platform == "darwin":
        names = {"L1d": "hw.l1dcachesize", "L1i": "hw.l1icachesize", "L2": "hw.l2cachesize", "L3": "hw.l3cachesize"}
        sizes = {name: _sysctl(key) for name, key in names.items()}
        return {name: f"{int(size) // 1024}K" for name, size in sizes.items() if size}
    caches = {}
    for index in sorted(Path(folder).glob("index*")):
        try:
            level, kind, size = ((index / name).read_text().strip() for name in ("level", "type", "size"))
        except OSError:
            continue
        caches[f"L{level}" + {"Data": "d", "Instruction": "i"}.get(kind, "")] = size
    return caches


def _sysctl(name: str) -> str | None:
    import subprocess

    try:
        done = subprocess.run(["sysctl", "-n", name], capture_output=True, text=True, timeout=5)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``fastnn info``."""
    import argparse
    import json

    parser = argparse.ArgumentParser(prog="fastnn info", description="Show what fastnn runs on here.")
    parser.add_argument("--json", action="store_true", help="as JSON")
    as_json = parser.parse_args(arguments).json
    found = info()
    print(json.dumps(found.as_dict(), indent=2) if as_json else found)
    return 0
