"""The tables of README.md and bench/results/README.md, made from committed results, so that no figure is typed by hand.

    python -m fastnn.bench.report.readme README.md bench/results/README.md

A table stands between `<!-- KIND: FILE -->` and `<!-- end -->`; the file is relative to the README. Kinds: claim, speed
targets and functions, from a result file of `fastnn bench`; training, from one of `fastnn bench --training`;
inference, inference-all, inference-int8, inference-start and inference-memory, from one of `fastnn bench --inference`;
trained, from one of `fastnn train --record`; accuracy, from a certificate; device, from one of `fastnn bench --device`,
which says "not measured" where there is no such file.
"""

from __future__ import annotations

import datetime
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from fastnn.accuracy import Certificate
from fastnn.commands import record

from . import device, inference, training
from .results import Result, load
from .rows import Row, bytes_text, families, function_rows, main_size, rate_text, rows, ulp_text, us_text
from .verdicts import held

KINDS = "claim|speed|targets|functions|accuracy|training|trained|device|inference(?:-(?:all|int8|start|memory))?"
TABLE = re.compile(rf"(<!-- ({KINDS}): (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)


def filled(text: str, folder: Path) -> str:
    """The README with its tables made anew."""

    def replace(match: re.Match[str]) -> str:
        begin, kind, name, end = match.groups()
        path = folder / name
        if kind == "accuracy":
            return begin + accuracy(Certificate.load(path)) + end
        if kind == "device":
            return begin + on_device(device.load(path)) + end
        if kind == "training":
            return begin + steps(training.load(path)) + end
        if kind.startswith("inference"):
            return begin + sessions(inference.load(path), kind) + end
        if kind == "trained":
            return begin + trained(record.load(path)) + end
        make = {"claim": claim, "speed": speed, "targets": targets, "functions": functions}[kind]
        return begin + make(load(path)) + end

    return TABLE.sub(replace, text)


def on_device(result: Result | None) -> str:
    """Claim C2, and the table, where there was a GPU to measure."""
    if result is None:
        return "\n".join((*device.sentences(None), ""))
    table = _markdown(device.HEADS, device.cells(result))
    return "\n".join((device.about(result), "", *device.sentences(result), "", *table, ""))


def machine(result: Result) -> str:
    """One sentence that names the machine."""
    about = result["machine"]
    date = datetime.datetime.fromisoformat(about["date"]).date()
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items() if name != "fastnn")
    threads = result["settings"]["threads"]
    said = f", {threads} thread{'s' * (threads != 1)}" if isinstance(threads, int) else ""
    return (
        f"Measured on {date} on {about['cpu']} ({about['cores']} cores, {about['instruction_set']}){said}; {versions}."
    )


def claim(result: Result) -> str:
    """Sigmoid against ReLU by library."""
    found = result["c1"]
    lines = [
        (
            row["library"],
            _microseconds(row["relu"]["median_s"]) + (" (NumPy's)" if row["relu_is_numpys"] else ""),
            _microseconds(row["sigmoid"]["median_s"]),
            f"{row['ratio']:.2f}",
        )
        for row in sorted(found["rows"], key=lambda row: float(row["sigmoid"]["median_s"]))
    ]
    lines.append(("np.copyto, the floor", _microseconds(found["floor"]["median_s"]), "", ""))
    table = _markdown(("library", "ReLU, µs", "sigmoid, µs", "sigmoid / ReLU"), lines)
    return "\n".join((machine(result), "", *table, "", *found["verdict"], ""))


def speed(result: Result) -> str:
    """Every op at the main size: fastnn and the fastest rival, time and error of both."""
    found = [row for row in rows(result) if row.dtype == "float32"]
    size = main_size(found)
    lines = []
    for op in dict.fromkeys(row.op for row in found):
        passes = {row.direction: row for row in found if row.op == op and row.size == size}
        lines.append((f"`{op}`", *_cells(passes.get("forward")), *_cells(passes.get("backward"))))
    half = ("fastnn, µs", "ULP", "best rival, µs", "ULP", "ratio")
    table = _markdown(("", *half, *(f"backward: {half[0]}", *half[1:])), lines)
    copy = next(row.copy["median_s"] for row in found if row.size == size)
    return "\n".join(
        (
            f"{machine(result)} {size:,} float32; copying them takes {_microseconds(copy)} µs.",
            "",
            *table,
            "",
        )
    )


def targets(result: Result) -> str:
    """Every speed target: what was measured, and whether that meets it."""
    lines = [
        (
            f"`{one.target.op}` {one.target.direction}",
            one.target.label,
            one.against,
            "-" if one.ratio is None else f"{one.ratio:.2f}",
            f"{one.target.limit:g}",
            one.verdict,
        )
        for one in held(result)
    ]
    table = _markdown(("", "shape", "against", "ratio", "target", ""), lines)
    return "\n".join((machine(result), "", *table, ""))


def functions(result: Result) -> str:
    """Every function that is no activation: fastnn and the fastest rival, time and error of both, memory."""
    found = [row for row in function_rows(result) if row.dtype == "float32"]
    parts = [machine(result), ""]
    head = ("shape", "fastnn, µs", "rate", "of copy", "error, ULP", "memory", "best rival, µs", "ULP", "ratio")
    for (_, family), group in families(found):
        table = _markdown((family, *head), (_line(row) for row in group))
        parts += [*table, ""]
    return "\n".join(parts)


def _line(row: Row) -> tuple[str, ...]:
    ours = row.contenders.get(row.ours)
    if ours is None:
        return (f"`{row.op}`", row.label, *"--------")
    mine = (us_text(ours["median_s"]), rate_text(ours), f"{ours['share_of_copy']:.0%}", _error(row, row.ours))
    memory = bytes_text(ours.get("beyond_bytes"))
    if row.best is None:
        return (f"`{row.op}`", row.label, *mine, memory, "-", "-", "-")
    theirs = (f"{us_text(row.seconds(row.best))} ({row.best})", _error(row, row.best), f"{row.ratio:.2f}")
    return (f"`{row.op}`", row.label, *mine, memory, *theirs)


def _cells(row: Row | None) -> tuple[str, ...]:
    if row is None or row.ours not in row.contenders:
        return ("-",) * 5
    ours = (_microseconds(row.seconds(row.ours)), _error(row, row.ours))
    if row.best is None:
        return (*ours, "-", "-", "-")
    return (*ours, f"{_microseconds(row.seconds(row.best))} ({row.best})", _error(row, row.best), f"{row.ratio:.2f}")


def _error(row: Row, name: str) -> str:
    return ulp_text(row.errors[name].worst if name in row.errors else None)


def steps(result: Result) -> str:
    """A training step of each network: fastnn and PyTorch's fastest form, with memory, against the target."""
    table = _markdown(training.HEADS, (step.cells() for step in training.steps(result)))
    return "\n".join((machine(result), "", *table, ""))


def sessions(result: Result, kind: str) -> str:
    """Calls of whole networks: float32 with one thread or several, int8, cold starts, memory."""
    if kind == "inference-start":
        table = _markdown(inference.START_HEAD, inference.starts(result))
        return "\n".join((machine(result), "", *table, "", inference.installed(result), ""))
    if kind == "inference-memory":
        table = _markdown(inference.MEMORY_HEAD, inference.memory(result))
        return "\n".join((*table, ""))
    if kind == "inference-int8":
        table = _markdown(inference.INT8_HEAD, (call.int8() for call in inference.calls(result, 1)))
        return "\n".join((*table, ""))
    several = sorted({cell["threads"] for cell in result["results"]})
    parts = [machine(result), ""]
    for threads in several if kind == "inference-all" else several[:1]:
        rate = next(each["gflops"] for each in result["peaks"] if each["threads"] == threads)
        parts.append(f"{threads} thread{'s' * (threads > 1)}; a large matrix product runs at {rate:,.0f} GFLOP/s.")
        parts += ["", *_markdown(inference.SPEED_HEAD, (call.speed() for call in inference.calls(result, threads))), ""]
    return "\n".join((*parts, " ".join((inference.summary(result), *inference.missing(result))), ""))


def trained(result: Result) -> str:
    """What each recorded training run came to, and the command that repeats it."""
    lines = [
        (
            f"`fastnn train --data {one['data']} --model {one['model']['name']} --seed {one['seed']}`",
            f"{one['parameters']:,}",
            str(one["epochs"]),
            f"{100 * one['test_accuracy']:.2f} %",
            f"{one['seconds']:,.0f} s",
            f"{one['samples_per_s']:,.0f}",
            f"{one['peak_bytes'] / 2**20:,.0f} MiB",
        )
        for one in result["results"].values()
    ]
    machines = {
        f"{one['machine']['cpu']}, {one['threads']} thread{'s' * (one['threads'] != 1)}, "
        f"{datetime.datetime.fromisoformat(one['machine']['date']).date()}": None
        for one in result["results"].values()
    }
    head = ("command", "parameters", "epochs", "test accuracy", "time", "samples/s", "memory")
    return "\n".join((f"Trained on {'; '.join(machines)}.", "", *_markdown(head, lines), ""))


def accuracy(certificate: Certificate) -> str:
    """The largest error of the native backend by op, over its instruction sets."""
    columns = [(direction, dtype) for dtype in ("float32", "float64") for direction in ("forward", "backward")]
    ops = dict.fromkeys(record.op for record in certificate.records)
    lines = [
        (f"`{op}`", *(_largest(certificate.worst(op, direction, dtype)) for direction, dtype in columns)) for op in ops
    ]
    table = _markdown(("", *(f"{dtype} {direction}" for direction, dtype in columns)), lines)
    everything = {record.op for record in certificate.records if record.exhaustive and record.dtype == "float32"}
    sampled = [f"`{op}`" for op in ops if op not in everything]
    note = "float32 over all 2^32 bit patterns on one instruction set at least, and over a sample on the others"
    if sampled:
        note += f"; {', '.join(sampled)} over a sample only"
    return "\n".join((*table, "", f"Largest error in ULP of any instruction set, {note}.", ""))


def _largest(error: float | None) -> str:
    return "-" if error is None else f"{error:.2f}"


def _microseconds(seconds: float) -> str:
    return f"{1e6 * seconds:,.0f}" if seconds >= 1e-5 else f"{1e6 * seconds:.2g}"


def _markdown(head: Sequence[str], lines: Iterable[Sequence[Any]]) -> list[str]:
    rule = ["---", *["---:"] * (len(head) - 1)]
    return [f"| {' | '.join(line)} |" for line in (head, rule, *lines)]


def main(paths: Iterable[Path]) -> int:
    """Rewrite READMEs in place."""
    for path in paths:
        path.write_text(filled(path.read_text(encoding="utf-8"), path.parent), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(map(Path, sys.argv[1:])))
