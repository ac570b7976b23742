"""Time against ONNX Runtime's, by network and batch, and cold starts, as one picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ..inference.contenders import NUMPY, ORT, ORT_INT8, OURS, OURS_INT8, TORCH
from . import canvas
from .canvas import DARK, LIGHT, Theme
from .inference import calls
from .results import Result

SHAPES = {OURS: "o", OURS_INT8: "D", ORT: "o", ORT_INT8: "D", TORCH: "o", NUMPY: "o"}
OPEN = (OURS_INT8, ORT_INT8)  # drawn hollow


def draw(result: Result, folder: Path) -> list[Path]:
    """The picture, light and dark."""
    matplotlib.rcParams["font.family"] = "DejaVu Sans"
    paths = []
    for theme in (LIGHT, DARK):
        path = folder / ("inference.png" if theme is LIGHT else "inference-dark.png")
        made = picture(result, theme)
        made.savefig(path, bbox_inches="tight", pad_inches=0.15, facecolor=theme.paper)
        paths.append(path)
    return paths


def picture(result: Result, theme: Theme) -> Figure:
    """A panel for each batch, times as multiples of ONNX Runtime's float32, and one for cold starts."""
    networks = list(dict.fromkeys(cell["network"] for cell in result["results"]))[::-1]
    least = min(cell["threads"] for cell in result["results"])
    found = calls(result, least)
    batches = list(dict.fromkeys(call.cell["batch"] for call in found))
    base = ORT if all(call.has(ORT) for call in found) else OURS
    panels = len(batches) + 1
    figure, axes = canvas.figure(theme, 2.2 + 2.9 * panels, 1.9 + 0.55 * len(networks), panels, sharey=True)
    for axis, batch in zip(axes, batches, strict=False):
        points = [
            (networks.index(call.cell["network"]), name, call.seconds(form) / call.seconds(base))
            for call in found
            if call.cell["batch"] == batch
            for name in SHAPES
            if (form := call.fastest(name) if name == TORCH else name) is not None and call.has(form)
        ]
        _dots(axis, theme, points, lambda value: f"{value:g}x")
        axis.axvline(1, color=theme.ink, linewidth=1.2, zorder=1)
        axis.set_title(f"batch {batch}", loc="left", color=theme.ink, fontsize=10)
        what = "ONNX Runtime's" if base == ORT else "fastnn's"
        axis.set_xlabel(f"time over {what}, log scale", color=theme.ink, fontsize=9)
    _starts(axes[-1], theme, result, networks)
    axes[0].set_yticks(range(len(networks)), networks)
    axes[0].set_ylim(-0.6, len(networks) - 0.4)
    names = [name for name in SHAPES if any(call.has(name) for call in found)]
    handles = [
        Line2D([], [], linestyle="", label={TORCH: "torch, its fastest form"}.get(name, name), **_marker(name, theme))
        for name in names
    ]
    figure.legend(
        handles=handles, loc="outside upper right", ncols=len(handles), frameon=False, labelcolor=theme.ink, fontsize=9
    )
    machine = result["machine"]
    below = f"{machine['cpu']}, {machine['date'][:10]}; medians, to the left is faster"
    title = f"Inference, {least} thread{'s' * (least > 1)}"
    canvas.titles(figure, theme, title, below)
    return figure


def _starts(axis: Any, theme: Theme, result: Result, networks: list[str]) -> None:
    points = [
        (networks.index(entry["network"]), name, 1e3 * entry["start"][name]["median_s"])
        for entry in result["fresh"]
        for name in SHAPES
        if name in entry["start"]
    ]
    floor = min(1e3 * entry["start"]["floor"]["median_s"] for entry in result["fresh"])
    _dots(axis, theme, points, lambda value: f"{value:g}", floor)
    axis.axvline(floor, color=theme.ink, linewidth=1.2, linestyle=(0, (4, 3)), zorder=1)
    axis.annotate(
        "import numpy", (floor, -0.55), xytext=(3, 0), textcoords="offset points", fontsize=8, color=theme.ink
    )
    axis.set_title("cold start", loc="left", color=theme.ink, fontsize=10)
    axis.set_xlabel("milliseconds from process to result, log scale", color=theme.ink, fontsize=9)


def _dots(axis: Any, theme: Theme, points: list[tuple[int, str, float]], text: Any, *lines: float) -> None:
    values = [*lines, *(value for _, _, value in points)]
    low, high = min(values) / 1.3, max(values) * 1.3
    axis.set_xlim(low, high)
    ticks = canvas.ticks(low, high)
    canvas.log_axis(axis, theme, ticks if len(ticks) < 7 else [each for each in ticks if str(each)[0] != "5"], text)
    for place, name, value in points:
        lift = 0.14 if name in OPEN else -0.14
        axis.plot(value, place + lift, **_marker(name, theme), zorder=4 if name in (OURS, OURS_INT8) else 3)
    for place in range(-1, max(place for place, _, _ in points) + 1):
        axis.axhline(place + 0.5, color=theme.grid, linewidth=0.8, zorder=0)


def _marker(name: str, theme: Theme) -> dict[str, Any]:
    colour = theme.hue(name)
    fill = theme.paper if name in OPEN else colour
    style = {"marker": SHAPES[name], "color": fill, "markeredgecolor": colour, "markeredgewidth": 1.8}
    return style | {"markersize": 8 if name in (OURS, OURS_INT8) else 6.5}
