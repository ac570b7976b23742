"""Two result files side by side: ratios of times, and how much of them is noise.

Contenders whose version is the same in both files, np.copyto among them, run the same code: how far their times moved
is what the machine did, not the code. Within a file, quartiles tell how much the samples of one cell scatter.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from .results import Result
from .rows import PREFIX

Key = tuple[str, str, str, str, str]  # op, pass, dtype, shape, contender

COPY = "np.copyto"
ENOUGH = 9  # samples in both files: a median of fewer says little about noise


@dataclass(frozen=True, slots=True)
class Change:
    """One contender in one cell, before (A) and after (B)."""

    key: Key
    before: float
    after: float
    noise: float  # relative, at least the level of the whole comparison

    @property
    def ratio(self) -> float:
        return self.after / self.before

    @property
    def verdict(self) -> str:
        if abs(math.log(self.ratio)) <= math.log1p(self.noise):
            return "noise"
        return "faster" if self.ratio < 1 else "slower"


@dataclass(frozen=True, slots=True)
class Comparison:
    changes: list[Change]
    unchanged: list[str]  # contenders of the same version in both files
    drift: float  # median ratio of what is unchanged
    level: float  # 90th percentile of how far what is unchanged moved, relative
    warnings: list[str]


def _timings(result: Result) -> dict[Key, dict[str, Any]]:
    found: dict[Key, dict[str, Any]] = {}
    for cell in result["results"]:
        for name, timing in (cell["contenders"] | {COPY: cell["copy"]}).items():
            found[cell["op"], cell["pass"], cell["dtype"], cell["label"], name] = timing
    return found


def _scatter(timing: dict[str, Any]) -> float:
    """Relative standard error of a median, from the quartiles."""
    return 0.93 * float(timing["q3_s"] - timing["q1_s"]) / float(timing["median_s"]) / math.sqrt(timing["samples"])


def compare(before: Result, after: Result) -> Comparison:
    old, new = _timings(before), _timings(after)
    shared = [key for key in new if key in old]
    if not shared:
        raise ValueError("the two files have no function, shape and contender in common")
    versions = [side["machine"]["versions"] for side in (before, after)]
    same = [COPY] + [name for name in versions[1] if name != "fastnn" and versions[0].get(name) == versions[1][name]]
    still = [key for key in shared if key[4] in same and min(old[key]["samples"], new[key]["samples"]) >= ENOUGH]
    moved = np.array([new[key]["median_s"] / old[key]["median_s"] for key in still] or [1.0])
    level = float(np.quantile(np.abs(np.log(moved)), 0.9))
    changes = []
    for key in shared:
        if key[4].startswith(PREFIX):
            own = 2 * math.hypot(_scatter(old[key]), _scatter(new[key]))
            noise = max(math.expm1(level), own)
            changes.append(Change(key, float(old[key]["median_s"]), float(new[key]["median_s"]), noise))
    names = sorted({key[4] for key in still})
    return Comparison(changes, names, float(np.median(moved)), math.expm1(level), _differences(before, after))


def _differences(before: Result, after: Result) -> list[str]:
    said = []
    for what in ("cpu", "instruction_set", "cores"):
        a, b = before["machine"].get(what), after["machine"].get(what)
        if a != b:
            said.append(f"The {what.replace('_', ' ')} differs: {a} and {b}.")
    a, b = (side["settings"].get("threads") for side in (before, after))
    if a != b:
        said.append(f"The number of threads differs: {a} and {b}.")
    return said


def show(before: Result, after: Result, names: tuple[str, str], console: Console) -> None:
    found = compare(before, after)
    table = Table(title=f"B / A: {names[1]} against {names[0]}", box=SIMPLE_HEAD, pad_edge=False, padding=(0, 0, 0, 1))
    for title in ("op", "backend", "shape", "A \u00b5s", "B \u00b5s", "B / A", "noise", ""):
        left = title in ("op", "backend")
        table.add_column(title, justify="left" if left else "right", no_wrap=True)
    for change in found.changes:
        op, direction, dtype, label, name = change.key
        style = {"faster": "green", "slower": "red"}.get(change.verdict, "")
        table.add_row(
            f"{op}'" if direction == "backward" and not op.endswith("_backward") else op,
            name.removeprefix(PREFIX) + ("" if dtype == "float32" else f" {dtype}"),
            label,
            f"{1e6 * change.before:,.2f}",
            f"{1e6 * change.after:,.2f}",
            f"{change.ratio:.2f}",
            f"{change.noise:.0%}",
            change.verdict,
            style=style,
        )
    console.print(table)
    console.print("A dash (') marks the backward pass of an activation.", highlight=False)
    for side, result in zip("AB", (before, after), strict=True):
        machine = result["machine"]
        console.print(
            f"{side}: {machine['date']}, {machine['cpu']}, {machine['instruction_set']}, "
            f"fastnn {machine['versions'].get('fastnn', '?')}, commit {machine['commit'] or 'unknown'}",
            highlight=False,
        )
    console.print(
        f"Noise level: what runs the same code in both files ({', '.join(found.unchanged)}) moved by up to "
        f"{found.level:.1%} in nine cells of ten, {found.drift - 1:+.1%} at the median. Smaller changes mean nothing, "
        "and a cell whose own samples scatter more has a larger limit, given in its row.",
        highlight=False,
    )
    for warning in found.warnings:
        console.print(f"Warning: {warning}", style="yellow", highlight=False)
