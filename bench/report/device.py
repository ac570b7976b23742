"""Results of `fastnn bench --device`: in the terminal, in the README, and the figure of claim C2."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from ..claims import c2
from ..device.contenders import OURS
from ..device.runner import FORMAT, KIND
from . import canvas
from .canvas import DARK, LIGHT, Theme
from .results import Result

RIVALS = ("torch", "torch.compile", "cuDNN")
HEADS = ("function", "shape", "fastnn, µs", "of a copy", *(f"{name}, µs" for name in RIVALS), "ratio to the best")
FIGURE = "c2"


def load(path: Path) -> Result | None:
    """A result file; None where there is none, for then nothing was measured; ValueError for anything else."""
    if not path.exists():
        return None
    data: Any = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(data, dict) or data.get("kind") != KIND or data.get("format") != FORMAT:
        raise ValueError(f"{path} is not a result file of fastnn bench --device, format {FORMAT}")
    return data


def cells(result: Result) -> list[tuple[str, ...]]:
    """The rows of the table."""
    return [_row(cell) for cell in result["results"] if OURS in cell["contenders"]]


def _row(cell: dict[str, Any]) -> tuple[str, ...]:
    found = cell["contenders"]
    ours = found[OURS]
    others = [found[name]["median_s"] if name in found else None for name in RIVALS]
    best = min((time for time in others if time is not None), default=None)
    return (
        f"{cell['op'].removesuffix('_backward')} {cell['pass']}",
        f"{cell['label']} {cell['dtype']}",
        _microseconds(ours["median_s"]),
        f"{ours['share_of_copy']:.0%}",
        *("-" if time is None else _microseconds(time) for time in others),
        "-" if best is None else f"{ours['median_s'] / best:.2f}",
    )


def _microseconds(seconds: float) -> str:
    value = 1e6 * seconds
    return f"{value:,.0f}" if value >= 100 else f"{value:#.3g}"


def about(result: Result) -> str:
    """One sentence that names the device."""
    device, versions = result["device"], result["machine"]["versions"]
    parts = [
        f"CUDA {_version(device['cuda_runtime'])}, driver {_version(device['cuda_driver'])}, CuPy {device['cupy']}"
    ]
    parts += [f"{name} {versions[name]}" for name in ("torch",) if name in versions]
    return f"Measured on {result['machine']['date'][:10]} on {device['name']}: {', '.join(parts)}."


def _version(number: int) -> str:
    return f"{number // 1000}.{number % 1000 // 10}"


def sentences(result: Result | None) -> list[str]:
    """The verdict on claim C2."""
    return c2.verdict(None) if result is None else c2.verdict(result["c2"], result["device"]["name"])


def show(result: Result, console: Any) -> None:
    """Print the table and the verdict."""
    from rich.table import Table

    table = Table(title=about(result))
    for place, name in enumerate(HEADS):
        table.add_column(name, justify="left" if place < 2 else "right")
    for row in cells(result):
        table.add_row(*row)
    console.print(table)
    for failure in result["failures"]:
        console.print(f"Failed: {failure}", highlight=False, markup=False)
    for sentence in sentences(result):
        console.print(f"C2: {sentence}", highlight=False)


def draw(result: Result, folder: Path) -> list[Path]:
    """The figure of claim C2, light and dark; none where it was not measured."""
    paths = []
    for theme, suffix in ((LIGHT, ""), (DARK, "-dark")):
        drawing = figure(result, theme)
        if drawing is not None:
            paths.append(folder / f"{FIGURE}{suffix}.png")
            drawing.savefig(paths[-1])
    return paths


def figure(result: Result, theme: Theme) -> Figure | None:
    """A dot for each op and pass: its share of the bandwidth of a copy."""
    if not result["c2"]:
        return None
    rows = [row for row in result["c2"] if row["dtype"] == result["c2"][0]["dtype"]]
    ops = list(dict.fromkeys(row["op"] for row in rows))
    drawing, (axis,) = canvas.figure(theme, 9, 1.5 + 0.25 * len(ops))
    for way, face in (("forward", theme.hue("fastnn")), ("backward", theme.paper)):
        found = [row for row in rows if row["pass"] == way]
        axis.plot(
            [100 * row["share_of_copy"] for row in found],
            [ops.index(row["op"]) for row in found],
            "o",
            color=face,
            markeredgecolor=theme.hue("fastnn"),
            label=way,
        )
    for share in (100.0, 100 * c2.SHARE):
        axis.axvline(share, color=theme.ink, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    axis.set_yticks(range(len(ops)), ops)
    axis.set_xlim(0, max(110.0, 105 * max(row["share_of_copy"] for row in rows)))
    axis.set_xlabel("% of the bandwidth of a copy", color=theme.ink, fontsize=9)
    axis.legend(frameon=False, labelcolor=theme.ink, fontsize=9, loc="lower left")
    title = f"Elementwise functions on {rows[0]['size']:,} {rows[0]['dtype']}"
    canvas.titles(drawing, theme, title, about(result))
    return drawing
