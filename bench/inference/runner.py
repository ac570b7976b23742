"""Measure: every network, batch and number of threads, all contenders in turns; then fresh processes, one by one."""

from __future__ import annotations

import gc
import importlib
import importlib.util
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .. import blas, machine
from ..runner import PACKAGES, Progress
from . import cold, installed, latency, peak
from .contenders import OURS, OURS_INT8, Ready, forms
from .files import Made
from .problems import BATCHES, NETWORKS, Array, Network, chosen

FORMAT, KIND = 1, "inference"
CLOSE, CLOSE_INT8 = 1e-4, 0.5  # differences of logits beside the largest; on noise int8 shows only that it works


@dataclass(frozen=True, slots=True)
class Settings:
    """What to measure, and how long."""

    networks: tuple[str, ...] = tuple(NETWORKS)
    batches: tuple[int, ...] = BATCHES
    threads: tuple[int, ...] = (1, 2)
    compiled: bool = False  # torch.compile too, which takes a minute a cell and a C++ compiler
    cell_seconds: float = 6.0
    starts: int = 11  # processes of each contender

    def __post_init__(self) -> None:
        chosen(self.networks)
        for name in ("threads", "batches"):
            if not getattr(self, name) or min(getattr(self, name)) < 1:
                raise ValueError(f"{name} must be at least 1, got {', '.join(map(str, getattr(self, name)))}")


def run(settings: Settings, progress: Progress) -> dict[str, Any]:
    """Everything `settings` asks for, as data that json can write."""
    started = time.monotonic()
    notes = machine.warnings()
    for name, what in (("onnxruntime", "ONNX Runtime"), ("onnx", "onnx, which models for ONNX Runtime need,")):
        if importlib.util.find_spec(name) is None:
            notes.append(f"{what} is not installed.")
    if not settings.compiled:
        notes.append("torch.compile was not measured: --compile asks for it.")
    networks = chosen(settings.networks)
    total, done = len(networks) * (len(settings.batches) * len(settings.threads) + 1), 0
    peaks, results, fresh = [], [], []
    absent: dict[str, str] = {}
    for threads in settings.threads:
        _threads(threads)
        peaks.append({"threads": threads, "gflops": peak.gflops()})
    with tempfile.TemporaryDirectory() as folder:
        for network in networks:
            progress(f"{network.name}: files", done, total)
            made = Made(network, Path(folder) / network.name)
            absent |= {f"{network.name}, {file}": why for file, why in made.missing.items()}
            rate = peak.copy_rate(_weight_bytes(made))
            for threads in settings.threads:
                _threads(threads)
                for batch in settings.batches:
                    progress(f"{network.name}, batch {batch}, threads {threads}", done, total)
                    done += 1
                    limits = next(each["gflops"] for each in peaks if each["threads"] == threads), rate
                    results.append(_measured(made, batch, threads, limits, settings, notes))
            progress(f"{network.name}: fresh processes", done, total)
            done += 1
            memory = {str(batch): cold.memory(made, batch) for batch in settings.batches}
            start = cold.starts(made, settings.starts)
            sizes = {
                name: (made.folder / file).stat().st_size for name, file in cold.SAVED.items() if cold.able(made, name)
            }
            fresh.append({"network": network.name, "start": start, "memory": memory, "file_bytes": sizes})
    progress("done", total, total)
    return {
        "format": FORMAT,
        "kind": KIND,
        "machine": machine.describe(PACKAGES),
        "settings": asdict(settings),
        "warnings": notes,
        "absent": absent,
        "seconds": round(time.monotonic() - started, 1),
        "peaks": peaks,
        "installed_bytes": installed.sizes(),
        "results": results,
        "fresh": fresh,
    }


def _threads(number: int) -> None:
    """For everybody in this process that has threads of its own; ONNX Runtime is told by session."""
    importlib.import_module("fastnn").set_num_threads(number)
    if importlib.util.find_spec("torch") is not None:
        importlib.import_module("torch").set_num_threads(number)
    blas.limit(number)


def _weight_bytes(made: Made) -> int:
    return sum(array.nbytes for array in made.plain.state_dict().values())


def _measured(
    made: Made, batch: int, threads: int, limits: tuple[float, float], settings: Settings, notes: list[str]
) -> dict[str, Any]:
    network, x = made.network, made.network.input(batch)
    ready, differences = _ready(made, x, threads, settings.compiled, notes)
    gc.collect()
    timings = latency.measure({name: one.run for name, one in ready.items()}, settings.cell_seconds, threads)
    operations, moved = _work(made, batch)
    floors = {"arithmetic": operations / limits[0] / 1e9, "memory": moved / limits[1]}
    bound = max(floors, key=floors.__getitem__)
    contenders: dict[str, dict[str, Any]] = {
        name: dict(timing)
        | {
            "samples_per_s": batch / timing["p50_s"],
            "gflops": 1e-9 * operations / timing["p50_s"],
            "share_of_peak": floors[bound] / timing["p50_s"],
            "difference": differences[name],
            "arena_bytes": ready[name].arena_bytes,
        }
        for name, timing in timings.items()
    }
    about = {"network": network.name, "about": network.about, "batch": batch, "threads": threads, "bound": bound}
    return about | {"operations": operations, "bytes": moved, "contenders": contenders}


def _ready(
    made: Made, x: Array, threads: int, compiled: bool, notes: list[str]
) -> tuple[dict[str, Ready], dict[str, float]]:
    """Those that run and agree, and how far their logits are from fastnn's, beside the largest of these."""
    ready: dict[str, Ready] = {}
    differences: dict[str, float] = {}
    want = np.asarray(made.model(x), float)
    for name, make in forms(made, compiled).items():
        try:
            one = make(made, x, threads)
            one.run()
            difference = float(np.abs(one.result() - want).max() / np.abs(want).max())
            if not difference <= (CLOSE_INT8 if name.endswith("int8") else CLOSE):
                raise ValueError(f"logits differ by {difference:.2g} of the largest")
        except Exception as error:
            if name in (OURS, OURS_INT8):
                raise
            why = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:160]}"
            notes.append(f"Failed: {name}, {made.network.name}, batch {len(x)}: {why}.")
            continue
        ready[name], differences[name] = one, difference
    return ready, differences


def _work(made: Made, batch: int) -> tuple[int, int]:
    """Of a call: operations, two for each multiplication with a weight, and the bytes of weights, input and result."""
    fnn: Any = importlib.import_module("fastnn")
    network: Network = made.network
    operations = 2 * fnn.nn.summary(made.plain, network.shape).operations
    return operations * batch, _weight_bytes(made) + 4 * batch * (int(np.prod(network.shape)) + 10)
