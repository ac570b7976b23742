"""Results of `fastnn bench --inference`: rows for the terminal, the READMEs and the plot, held against the targets."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..inference.contenders import NUMPY, ORT, ORT_INT8, OURS, OURS_INT8, TORCH
from ..inference.runner import FORMAT, KIND
from ..targets import INFERENCE, START_LIMIT, START_REASON, InferenceTarget
from .results import Result

Cells = tuple[str, ...]
SPEED_HEAD: Cells = (
    *("network, batch", "fastnn, µs", "p99", "of peak", "ONNX Runtime, µs", "p99", "torch, µs", "its form"),
    *("numpy, µs", "ratio", "target", ""),
)
INT8_HEAD: Cells = (
    *("network, batch", "fastnn int8, µs", "p99", "of fastnn's float32", "target"),
    *("ONNX Runtime int8, µs", "p99", "ratio", "target", ""),
)
START_HEAD: Cells = (
    *("network", "fastnn, ms", "int8", "ONNX Runtime, ms", "its file", "torch, ms", "numpy, ms"),
    *("python, import numpy", "ratio", "target", ""),
)
MEMORY_HEAD: Cells = ("network, batch", "fastnn", "its arena", "ONNX Runtime", "torch", "numpy")


def load(path: Path) -> Result:
    """A result file; ValueError that says what is wrong with it."""
    try:
        data: Any = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    if not isinstance(data, dict) or data.get("kind") != KIND or data.get("format") != FORMAT:
        raise ValueError(f"{path} is not a result file of fastnn bench --inference, format {FORMAT}")
    return data


@dataclass(frozen=True, slots=True)
class Call:
    """A network, a batch and a number of threads: everybody's time."""

    cell: dict[str, Any]

    @property
    def name(self) -> str:
        return f"{self.cell['network']}, {self.cell['batch']}"

    def has(self, name: str | None) -> bool:
        return name in self.cell["contenders"]

    def seconds(self, name: str) -> float:
        return float(self.cell["contenders"][name]["p50_s"])

    def fastest(self, library: str) -> str | None:
        """The fastest form of a library."""
        found = [name for name in self.cell["contenders"] if name.split()[0] == library and "int8" not in name]
        return min(found, key=self.seconds, default=None)

    def ratio(self, name: str, against: str) -> float | None:
        return self.seconds(name) / self.seconds(against) if self.has(name) and self.has(against) else None

    def target(self, name: str, against: str) -> InferenceTarget | None:
        """What was meant to be, with one thread."""
        key = self.cell["network"], self.cell["batch"], name, against
        found = (one for one in INFERENCE if (one.network, one.batch, one.contender, one.against) == key)
        return next(found, None) if self.cell["threads"] == 1 else None

    def verdict(self, name: str, against: str) -> str:
        target, ratio = self.target(name, against), self.ratio(name, against)
        return "" if target is None else _verdict(ratio, target.limit, target.reason)

    def times(self, name: str | None) -> tuple[str, str]:
        """p50 and p99."""
        if name is None or not self.has(name):
            return "-", "-"
        timing = self.cell["contenders"][name]
        return micro(timing["p50_s"]), micro(timing["p99_s"])

    def speed(self) -> Cells:
        """A row of the table of float32."""
        share = self.cell["contenders"][OURS]["share_of_peak"]
        best = self.fastest(TORCH)
        form = "-" if best is None else best.removeprefix("torch ").replace("torch", "eager")
        peak = f"{share:.0%} {'FLOP' if self.cell['bound'] == 'arithmetic' else 'bytes'}"
        shown = _against(self, OURS, ORT)
        return (
            *(self.name, *self.times(OURS), peak, *self.times(ORT), self.times(best)[0], form, self.times(NUMPY)[0]),
            *(*shown, self.verdict(OURS, ORT)),
        )

    def int8(self) -> Cells:
        """A row of the table of int8."""
        own, other = _against(self, OURS_INT8, OURS), _against(self, OURS_INT8, ORT_INT8)
        said = dict.fromkeys((self.verdict(OURS_INT8, OURS), self.verdict(OURS_INT8, ORT_INT8)))
        parts = [each for each in said if each]
        verdict = "met" if parts == ["met"] else "; ".join(each for each in parts if each != "met")
        return (self.name, *self.times(OURS_INT8), *own, *self.times(ORT_INT8), *other, verdict)


def _against(call: Call, name: str, against: str) -> tuple[str, str]:
    """Ratio and limit."""
    ratio, target = call.ratio(name, against), call.target(name, against)
    return "-" if ratio is None else f"{ratio:.2f}", "" if target is None else f"{target.limit:g}"


def _verdict(ratio: float | None, limit: float, reason: str) -> str:
    if ratio is None:
        return "not measured"
    if round(ratio, 2) <= limit:
        return "met"
    return f"missed: {reason}" if reason else "missed"


def micro(seconds: float) -> str:
    """Microseconds, three digits."""
    return f"{1e6 * seconds:,.0f}" if seconds >= 1e-4 else f"{1e6 * seconds:.3g}"


def calls(result: Result, threads: int | None = None) -> list[Call]:
    """The rows of a result; of one number of threads."""
    return [Call(cell) for cell in result["results"] if threads in (None, cell["threads"])]


def first_start(entry: dict[str, Any]) -> tuple[str | None, float | None]:
    """ONNX Runtime's quicker file, and fastnn's time over that."""
    start = entry["start"]
    forms = [name for name in start if name.startswith(ORT) and "int8" not in name]
    best = min(forms, key=lambda name: start[name]["median_s"], default=None)
    return best, None if best is None else start[OURS]["median_s"] / start[best]["median_s"]


def starts(result: Result) -> Iterator[Cells]:
    """Rows of cold starts."""
    for entry in result["fresh"]:
        best, ratio = first_start(entry)
        start = {name: f"{1e3 * timing['median_s']:.0f}" for name, timing in entry["start"].items()}
        file = "-" if best is None else ".ort" if best.endswith(".ort") else ".onnx"
        times = *(start.get(name, "-") for name in (OURS, OURS_INT8, best or "")), file
        others = *(start.get(name, "-") for name in (TORCH, NUMPY, "floor")), "-" if ratio is None else f"{ratio:.2f}"
        yield (entry["network"], *times, *others, f"{START_LIMIT:g}", _verdict(ratio, START_LIMIT, START_REASON))


def memory(result: Result) -> Iterator[Cells]:
    """Rows of memory beyond the libraries: weights, values between layers, input."""
    arenas = {
        (cell["network"], str(cell["batch"])): cell["contenders"][OURS]["arena_bytes"] for cell in result["results"]
    }
    for entry in result["fresh"]:
        for batch, found in entry["memory"].items():
            sizes = [_size(found[name]["beyond_bytes"]) if name in found else "-" for name in (OURS, ORT, TORCH, NUMPY)]
            arena = _size(arenas[entry["network"], batch])
            yield (f"{entry['network']}, {batch}", sizes[0], arena, *sizes[1:])


def _size(count: int) -> str:
    return f"{count / 2**20:.0f} MiB" if count >= 10 * 2**20 else f"{count / 2**20:.2g} MiB"


def installed(result: Result) -> str:
    """One sentence on what must be installed, and what a process takes."""
    sizes = ", ".join(f"{name} {size / 1e6:,.0f} MB" for name, size in result["installed_bytes"].items())
    text = f"Installed, with all that is required: {sizes}."
    processes = {
        name: f"{name} {found['process_bytes'] / 2**20:,.0f} MiB"
        for entry in result["fresh"][:1]
        for name, found in next(iter(entry["memory"].values()), {}).items()
        if "int8" not in name
    }
    return f"{text} A process with {result['fresh'][0]['network']}: {', '.join(processes.values())}." * bool(processes)


def summary(result: Result) -> str:
    """How many targets are met."""
    said = [call.verdict(one.contender, one.against) for call in calls(result, 1) for one in _targets(call)]
    said += [_verdict(first_start(entry)[1], START_LIMIT, "") for entry in result["fresh"]]
    met, missed = (sum(each.startswith(word) for each in said) for word in ("met", "missed"))
    return f"Of {len(said)} targets {met} are met, {missed} missed, {len(said) - met - missed} not measured."


def missing(result: Result) -> list[str]:
    """Who was not measured, and why."""
    notes = [note for note in result["warnings"] if note.startswith(("Failed", "torch.compile")) or "installed" in note]
    return notes + [f"Failed: {name}: {why}." for name, why in result["absent"].items()]


def _targets(call: Call) -> Iterable[InferenceTarget]:
    return (one for one in INFERENCE if (one.network, one.batch) == (call.cell["network"], call.cell["batch"]))


def show(result: Result, console: Any) -> None:
    """In the terminal."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    def table(title: str, head: Cells, rows: Iterable[Cells]) -> None:
        made = Table(title=title, box=SIMPLE_HEAD, pad_edge=False, padding=(0, 0, 0, 1))
        for index, name in enumerate(head):
            made.add_column(name, justify="right" if 0 < index < len(head) - (not head[-1]) else "left", no_wrap=True)
        for row in rows:
            made.add_row(*(cell.partition(":")[0] for cell in row))
        console.print(made)

    def short(row: Cells) -> Cells:
        return (*row[:3], row[3].split()[0], row[4], row[6], *row[8:])

    for threads in dict.fromkeys(cell["threads"] for cell in result["results"]):
        found = calls(result, threads)
        head: Cells = ("", "fastnn", "p99", "peak", "ORT", "torch", "numpy", "ratio", "target", "")
        table(f"A call, float32, threads: {threads}; microseconds", head, (short(call.speed()) for call in found))
        if any(call.has(OURS_INT8) or call.has(ORT_INT8) for call in found):
            head = ("", "fastnn", "p99", "of float32", "target", "ORT", "p99", "ratio", "target", "")
            table(f"int8, threads: {threads}; microseconds", head, (call.int8() for call in found))
    head = ("", "fastnn", "int8", "ORT", "file", "torch", "numpy", "floor", "ratio", "target", "")
    table("From the start of a process to the first result; milliseconds", head, starts(result))
    for sentence in (
        installed(result),
        summary(result),
        "ratio: fastnn's median over that of ONNX Runtime (ORT). floor: Python and NumPy alone. peak: what "
        "arithmetic, or moving weights and images once, would take at the speed of a large matrix product, or of a "
        "copy of as many bytes, over fastnn's time.",
    ):
        console.print(sentence, highlight=False)
    for warning in (*result["warnings"], *(f"{name}: {why}" for name, why in result["absent"].items())):
        console.print(f"Warning: {warning}", style="yellow", highlight=False)
