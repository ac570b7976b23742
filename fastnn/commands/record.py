"""Results of `fastnn train --record FILE`: one JSON file, by data and model."""

from __future__ import annotations

import json
import resource
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastnn.commands.training import Job, Result

FORMAT, KIND = 1, "trained"


def load(path: Path) -> dict[str, Any]:
    """The file, or an empty one; ValueError where it is something else."""
    try:
        found: Any = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if not path.absolute().parent.is_dir():
            raise ValueError(f"--record: there is no folder for {path}") from None
        return {"format": FORMAT, "kind": KIND, "results": {}}
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from None
    known = isinstance(found, dict) and (found.get("kind"), found.get("format")) == (KIND, FORMAT)
    if not known or not isinstance(found.get("results"), dict):
        raise ValueError(f"{path} is not a file of `fastnn train --record`, format {FORMAT}")
    return dict(found)


def add(path: Path, job: Job, result: Result) -> None:
    """Put a run in, in place of one of the same data and model."""
    from fastnn.bench import machine
    from fastnn.nn.serialization import write_atomically
    from fastnn.threads import get_num_threads

    found = load(path)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    history = result.history
    found["results"][f"{job.data.name}/{job.about['name']}"] = {
        "data": job.data.name,
        "model": job.about,
        "parameters": sum(parameter.size for parameter in job.model.parameters()),
        "training": asdict(job.recipe),
        "samples": {"train": len(job.data.train), "test": len(job.data.test)},
        "seed": job.seed,
        "threads": get_num_threads(),
        "epochs": len(history),
        "test_accuracy": result.test.accuracy,
        "test_loss": result.test.loss,
        "seconds": round(result.seconds, 1),
        "samples_per_s": round(result.samples_per_second, 1),
        "peak_bytes": peak,
        "diverged": history.diverged,
        "curve": {
            name: [round(float(value), 5) for value in column]
            for name, column in history.epochs.items()
            if name in ("loss", "accuracy", "validation_loss", "validation_accuracy")
        },
        "machine": machine.describe(("fastnn", "numpy")),
    }
    write_atomically(path, json.dumps(found, indent=1, allow_nan=True).encode() + b"\n")
