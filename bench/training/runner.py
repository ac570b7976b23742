"""Measure the steps: every contender of a network in turns, then each one's memory by itself."""

from __future__ import annotations

import gc
import importlib.util
import time
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from .. import machine
from ..runner import PACKAGES, Progress
from ..timing import Task, measure
from . import memory
from .contenders import OURS, forms, state_of
from .problems import NETWORKS, Network, chosen

FORMAT, KIND = 1, "training"
WARMUP = 5  # steps, before anything is timed


@dataclass(frozen=True, slots=True)
class Settings:
    """What to measure, and how long."""

    networks: tuple[str, ...] = tuple(NETWORKS)
    threads: int = 1
    compiled: bool = False  # torch.compile too, which takes a minute a network and a C++ compiler
    cell_seconds: float = 20.0
    min_samples: int = 9

    def __post_init__(self) -> None:
        chosen(self.networks)
        if self.threads < 1:
            raise ValueError(f"threads must be at least 1, got {self.threads}")


def run(settings: Settings, progress: Progress) -> dict[str, Any]:
    """Everything `settings` asks for, as data that json can write."""
    started = time.monotonic()
    notes = machine.warnings()
    if importlib.util.find_spec("torch") is None:
        notes.append("PyTorch is not installed: there is nothing to compare with.")
    networks = chosen(settings.networks)
    results = []
    for done, network in enumerate(networks):
        progress(f"{network.name}, batch {network.batch}", done, len(networks))
        results.append(_measured(network, settings, notes))
    progress("done", len(networks), len(networks))
    return {
        "format": FORMAT,
        "kind": KIND,
        "machine": machine.describe(PACKAGES),
        "settings": asdict(settings),
        "warnings": notes,
        "seconds": round(time.monotonic() - started, 1),
        "results": results,
    }


def _measured(network: Network, settings: Settings, notes: list[str]) -> dict[str, Any]:
    state = state_of(network)
    tasks: dict[str, Task] = {}
    logits: dict[str, np.ndarray[Any, Any]] = {}
    for name, make in forms(network, settings.compiled).items():
        try:
            step, look = make(state, settings.threads)
            logits[name] = look()
            for _ in range(WARMUP):
                step()
        except Exception as error:
            if name == OURS:
                raise
            notes.append(f"Failed: {name}, {network.name}: {type(error).__name__}: {str(error).splitlines()[0][:160]}.")
            continue
        tasks[name] = Task(step)
    gc.collect()
    timings = measure(
        tasks, budget=settings.cell_seconds, min_samples=settings.min_samples, settle=settings.threads > 1
    )
    contenders: dict[str, Any] = {}
    for name, timing in timings.items():
        contenders[name] = timing.as_dict() | {
            "samples_per_s": network.batch / timing.median,
            "peak_bytes": memory.measured(network.name, name, settings.threads),
            "logits_difference": float(np.abs(logits[name] - logits[OURS]).max()),
        }
    about = {"network": network.name, "about": network.about, "batch": network.batch, "shape": list(network.shape)}
    return about | {"parameters": int(_parameters(state)), "contenders": contenders}


def _parameters(state: dict[str, Any]) -> int:
    learned = [name for name in state if name.rpartition(".")[2] in ("weight", "bias")]
    return sum(int(np.size(state[name])) for name in learned)
