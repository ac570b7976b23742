"""Results of `fastnn bench --training`, as rows, in the terminal and in the README."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..training.contenders import OURS
from ..training.problems import NETWORKS
from ..training.runner import FORMAT, KIND
from .results import Result

HEAD = ("batch", "fastnn, ms", "samples/s", "memory", "torch, ms", "samples/s", "memory", "its form", "ratio", "target")
HEADS = ("network", *HEAD, "")
SHORT = ("ms", "memory", "torch ms", "memory", "ratio", "target")  # where there is less room


def load(path: Path) -> Result:
    """A result file; ValueError that says what is wrong with it."""
    try:
        data: Any = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    if not isinstance(data, dict) or data.get("kind") != KIND or data.get("format") != FORMAT:
        raise ValueError(f"{path} is not a result file of fastnn bench --training, format {FORMAT}")
    return data


@dataclass(frozen=True, slots=True)
class Step:
    """A network's step: fastnn's, that of PyTorch's fastest form, and the target."""

    cell: dict[str, Any]

    @property
    def ours(self) -> dict[str, Any]:
        found: dict[str, Any] = self.cell["contenders"][OURS]
        return found

    @property
    def best(self) -> str | None:
        """The fastest form of PyTorch."""
        others = {name: each["median_s"] for name, each in self.cell["contenders"].items() if name != OURS}
        return min(others, key=others.__getitem__, default=None)

    @property
    def ratio(self) -> float | None:
        best = self.best
        return None if best is None else self.ours["median_s"] / self.cell["contenders"][best]["median_s"]

    @property
    def verdict(self) -> str:
        """Whether the target is met, and why it is not."""
        network = NETWORKS[self.cell["network"]]
        if self.ratio is None:
            return "not measured"
        if round(self.ratio, 2) <= network.limit:
            return "met"
        return f"missed: {network.reason}" if network.reason else "missed"

    def cells(self) -> tuple[str, ...]:
        """The row of a table."""
        network, best = NETWORKS[self.cell["network"]], self.best
        theirs: tuple[str, ...] = ("-",) * 4
        if best is not None:
            theirs = (*_figures(self.cell["contenders"][best]), best.removeprefix("torch ").replace("torch", "eager"))
        ratio = "-" if self.ratio is None else f"{self.ratio:.2f}"
        name = f"{network.name}: {self.cell['about']}"
        return (name, str(network.batch), *_figures(self.ours), *theirs, ratio, f"{network.limit:g}", self.verdict)


def _figures(timing: dict[str, Any]) -> tuple[str, str, str]:
    peak = timing["peak_bytes"]
    memory = "-" if peak is None else f"{peak / 2**20:.0f} MiB"
    milliseconds = 1e3 * timing["median_s"]
    time = f"{milliseconds:,.0f}" if milliseconds >= 100 else f"{milliseconds:#.3g}"
    return time, f"{timing['samples_per_s']:,.0f}", memory


def steps(result: Result) -> list[Step]:
    """The rows of a result."""
    return [Step(cell) for cell in result["results"]]


def show(result: Result, console: Any) -> None:
    """In the terminal."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    threads = result["settings"]["threads"]
    table = Table(title=f"A training step, threads: {threads}", box=SIMPLE_HEAD, pad_edge=False, padding=(0, 0, 0, 1))
    for index, name in enumerate(("network, batch", *SHORT, "")):
        table.add_column(name, justify="left" if index in (0, 7) else "right", no_wrap=True)
    for step in steps(result):
        name, batch, ours, _, memory, theirs, _, other, form, ratio, target, verdict = step.cells()
        form = form.replace("channels_last", "NHWC")
        cells = (ours, memory, f"{theirs} {form}".strip(" -") or "-", other, ratio, target)
        table.add_row(f"{name.partition(':')[0]}, {batch}", *cells, verdict.partition(":")[0])
    console.print(table)
    console.print(
        "A step is forward, loss, backward and optimiser (SGD, Nesterov momentum, weight decay). memory: the most a "
        "process held beyond its libraries. ratio: fastnn's time over that of PyTorch's fastest form (NHWC: images in "
        "memory format channels_last).",
        highlight=False,
    )
    for warning in result["warnings"]:
        console.print(f"Warning: {warning}", style="yellow", highlight=False)
