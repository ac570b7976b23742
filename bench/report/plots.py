"""The plots, each in a light and a dark version, drawn from a result file alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from . import canvas
from .canvas import DARK, LIGHT, Theme
from .results import Result
from .rows import PREFIX, Row, families, function_rows, main_size, ns_text, rows


def claim(result: Result, theme: Theme) -> Figure | None:
    """C1: for each library a bar from its ReLU to its sigmoid; its length on the log axis is their ratio."""
    if not result["c1"]:
        return None
    found = sorted(result["c1"]["rows"], key=lambda row: -float(row["sigmoid"]["median_s"]))
    floor = 1e6 * result["c1"]["floor"]["median_s"]
    figure, (axis,) = canvas.figure(theme, 9, 1.3 + 0.42 * len(found))
    times = [1e6 * row[name]["median_s"] for row in found for name in ("relu", "sigmoid")]
    low, high = min(*times, floor) / 1.25, max(times) * 1.9
    axis.set_xlim(low, high)
    canvas.log_axis(axis, theme, canvas.ticks(low, high), lambda value: f"{value:,.0f}" if value >= 1 else f"{value:g}")
    for place, row in enumerate(found):
        relu, sigmoid = (1e6 * row[name]["median_s"] for name in ("relu", "sigmoid"))
        colour = theme.hue(row["library"])
        axis.plot([relu, sigmoid], [place, place], color=colour, linewidth=9, alpha=0.35, solid_capstyle="butt")
        axis.plot(relu, place, "o", color=theme.paper, markeredgecolor=colour, markeredgewidth=2, markersize=8)
        axis.plot(sigmoid, place, "o", color=colour, markersize=9)
        text = f"  {row['ratio']:.1f}x" + ("  (ReLU: NumPy's)" if row["relu_is_numpys"] else "")
        axis.text(max(relu, sigmoid) * 1.04, place, text, va="center", color=theme.ink, fontsize=9)
    axis.axvline(floor, color=theme.ink, linewidth=1.2, linestyle=(0, (4, 3)), zorder=1)
    axis.annotate(
        f"np.copyto: {floor:,.0f} \u00b5s",
        (floor, len(found) - 0.5),
        xytext=(4, 0),
        textcoords="offset points",
        va="bottom",
        color=theme.ink,
        fontsize=8.5,
    )
    axis.set_yticks(range(len(found)), [row["library"] for row in found])
    for label in axis.get_yticklabels():
        if label.get_text().startswith(PREFIX):
            label.set_fontweight("bold")
    axis.set_ylim(-0.6, len(found) - 0.1)
    axis.set_xlabel("microseconds per call, log scale", color=theme.ink, fontsize=9)
    handles = [
        Line2D([], [], marker="o", linestyle="", color=theme.paper, markeredgecolor=theme.ink, label="ReLU"),
        Line2D([], [], marker="o", linestyle="", color=theme.ink, label="sigmoid"),
    ]
    figure.legend(
        handles=handles, loc="upper right", ncols=2, frameon=False, labelcolor=theme.ink, fontsize=9, borderaxespad=0.2
    )
    size = result["c1"]["size"]
    canvas.titles(figure, theme, f"Sigmoid against ReLU on {size:,} float32", _below(result))
    return figure


def _gain_axis(axis: Any, theme: Theme, bars: list[tuple[float, Row]], limits: tuple[float, float]) -> None:
    """Bars to the right where fastnn is faster than the fastest rival, to the left where it is slower."""
    axis.set_xlim(*limits)
    canvas.log_axis(axis, theme, canvas.ticks(*limits), lambda value: f"{value:g}x")
    for place, row in bars:
        gain = 1 / (row.ratio or 1)
        axis.barh(place, gain - 1, left=1, height=0.66, color=theme.hue("fastnn") if gain >= 1 else theme.bad)
        text = f"{gain:.{2 if gain < 2 else 1 if gain < 10 else 0}f}x {row.best}"
        axis.text(max(gain, 1.0) * 1.04, place, text, va="center", color=theme.ink, fontsize=8)
    axis.axvline(1, color=theme.ink, linewidth=1.2)
    axis.set_xlabel("speed relative to the fastest rival, log scale", color=theme.ink, fontsize=9)


def _gain_limits(found: list[Row], room: float) -> tuple[float, float]:
    gains = [1 / row.ratio for row in found if row.ratio]
    return min(0.8, *gains) / 1.35, max(2.0, *gains) * room


def speedup(result: Result, theme: Theme) -> Figure | None:
    """For each activation how many times as fast fastnn is as the fastest other library."""
    found = [row for row in _main(result) if row.ratio is not None]
    if not found:
        return None
    passes = list(dict.fromkeys(row.direction for row in found))
    ops = list(dict.fromkeys(row.op for row in found))
    width = 3.2 + 3.6 * len(passes)
    figure, axes = canvas.figure(theme, width, 1.5 + 0.3 * len(ops), len(passes), sharey=True)
    first = {row.op: row.ratio or 1.0 for row in found if row.direction == passes[0]}
    order = sorted(ops, key=lambda op: -first.get(op, 1.0))
    for axis, direction in zip(axes, passes, strict=True):
        bars = [(float(order.index(row.op)), row) for row in found if row.direction == direction]
        _gain_axis(axis, theme, bars, _gain_limits(found, 2.2))
        axis.set_title(direction, loc="left", color=theme.ink, fontsize=10)
        axis.set_yticks(range(len(order)), order)
        axis.set_ylim(-0.7, len(order) - 0.3)
    canvas.titles(figure, theme, f"fastnn against the fastest rival, {_what(found)}", _below(result))
    return figure


def functions(result: Result, theme: Theme) -> Figure | None:
    """The same for the other functions, family by family."""
    everything = [row for row in function_rows(result) if row.ratio is not None]
    found = [row for row in everything if row.dtype == everything[0].dtype]
    if not found:
        return None
    columns = _columns([group for _, group in families(found)])
    height = max(map(_height, columns))
    figure, axes = canvas.figure(theme, 8.2 * len(columns), 1.5 + 0.235 * height, len(columns))
    for axis, groups in zip(axes, columns, strict=True):
        place, bars, names = 0.0, [], []
        for group in groups:
            names.append((place, group[0].family, True))
            for row in group:
                place -= 1
                bars.append((place, row))
                names.append((place, f"{row.op}  {row.label}", False))
            place -= 1.4
        _gain_axis(axis, theme, bars, _gain_limits(found, 2.6))
        axis.set_yticks([place for place, _, _ in names], [text for _, text, _ in names], fontsize=8)
        for label, (_, _, heading) in zip(axis.get_yticklabels(), names, strict=True):
            label.set_fontweight("bold" if heading else "normal")
        axis.set_ylim(0.7 - height, 0.7)
    canvas.titles(figure, theme, f"fastnn against the fastest rival, {found[0].dtype}", _below(result))
    return figure


def _height(groups: list[list[Row]]) -> float:
    return sum(len(group) + 1.4 for group in groups)


def _columns(groups: list[list[Row]]) -> list[list[list[Row]]]:
    """One column of families, or two of about the same height where one would be too tall."""
    if _height(groups) < 30:
        return [groups]
    cut = min(range(1, len(groups)), key=lambda at: max(_height(groups[:at]), _height(groups[at:])), default=0)
    return [groups[:cut], groups[cut:]] if cut else [groups]


def sizes(result: Result, theme: Theme) -> Figure | None:
    """Nanoseconds per element of fastnn by op and size, a heat map a direction."""
    everything = rows(result)
    found = [row for row in everything if row.dtype == everything[0].dtype and row.ours in row.contenders]
    counts = sorted({row.size for row in found})
    if len(counts) < 2:
        return None
    passes, ops = (
        list(dict.fromkeys(values)) for values in zip(*((row.direction, row.op) for row in found), strict=True)
    )
    values = {(row.direction, row.op, row.size): float(row.contenders[row.ours]["ns_per_element"]) for row in found}
    large = max(counts)
    order = sorted(ops, key=lambda op: -values.get((passes[0], op, large), 0.0))
    figure, axes = canvas.figure(
        theme, 2.2 + 1.05 * len(counts) * len(passes), 1.5 + 0.3 * len(ops), len(passes), sharey=True
    )
    norm = LogNorm(min(values.values()), max(values.values()))
    colours = matplotlib.colormaps[theme.ramp]
    for axis, direction in zip(axes, passes, strict=True):
        grid = np.array([[values.get((direction, op, size), np.nan) for size in counts] for op in order])
        axis.pcolormesh(grid, norm=norm, cmap=colours, edgecolors=theme.paper, linewidth=1.5)
        for (y, x), value in np.ndenumerate(grid):
            if np.isfinite(value):
                red, green, blue, _ = colours(norm(value))
                bright = 0.3 * red + 0.59 * green + 0.11 * blue
                ink = "#111111" if bright > 0.5 else "#ffffff"
                axis.text(x + 0.5, y + 0.5, ns_text(value), ha="center", va="center", fontsize=8, color=ink)
        axis.set_xticks(np.arange(len(counts)) + 0.5, [f"{size:,}" for size in counts])
        axis.set_yticks(np.arange(len(order)) + 0.5, order)
        axis.set_title(direction, loc="left", color=theme.ink, fontsize=10)
        axis.set_xlabel("elements", color=theme.ink, fontsize=9)
    canvas.titles(figure, theme, f"{found[0].ours}: nanoseconds per element, {found[0].dtype}", _below(result))
    return figure


ZERO, WRONG = 0.25, 3e9  # where the accuracy plot puts an error of 0, and a wrong infinity or NaN


def accuracy(result: Result, theme: Theme) -> Figure | None:
    """Max ULP against ns per element: the lower left corner is where one wants to be."""
    found = _main(result)
    if not any(row.errors for row in found):
        return None
    passes = list(dict.fromkeys(row.direction for row in found))
    figure, axes = canvas.figure(theme, 1.6 + 4.4 * len(passes), 5.6, len(passes), sharey=True)
    libraries: dict[str, None] = {}
    for axis, direction in zip(axes, passes, strict=True):
        for row in found:
            if row.direction != direction:
                continue
            for name, timing in row.contenders.items():
                if name not in row.errors or (name.startswith(PREFIX) and name != row.ours):
                    continue
                libraries[name] = None
                mine = name == row.ours
                worst = min(max(row.errors[name].worst, ZERO), WRONG)
                axis.scatter(
                    timing["ns_per_element"],
                    worst,
                    s=46 if mine else 26,
                    marker="D" if mine else "o",
                    color=theme.hue(name),
                    alpha=0.95 if mine else 0.7,
                    linewidths=0.6,
                    edgecolors=theme.paper,
                    zorder=3 if mine else 2,
                )
        promise = 2 if direction == "forward" else 4
        axis.axhline(promise, color=theme.ink, linewidth=1, linestyle=(0, (4, 3)))
        where, text = axis.get_yaxis_transform(), f"fastnn promises {promise}"
        axis.text(0.99, promise * 1.15, text, transform=where, ha="right", color=theme.ink, fontsize=8.5)
        axis.set_yscale("log")
        axis.set_ylim(ZERO / 1.8, WRONG * 3)
        shown = [timing["ns_per_element"] for row in found for timing in row.contenders.values()]
        canvas.log_axis(axis, theme, canvas.ticks(min(shown) / 1.5, max(shown) * 1.5), lambda value: f"{value:g}")
        axis.set_yticks([ZERO, 1, 10, 1e2, 1e4, 1e6, WRONG], ["0", "1", "10", "100", "1e4", "1e6", "inf/NaN\nwrong"])
        axis.yaxis.set_minor_locator(NullLocator())
        axis.grid(axis="y", color=theme.grid, linewidth=0.8)
        axis.set_title(direction, loc="left", color=theme.ink, fontsize=10)
        axis.set_xlabel("nanoseconds per element, log scale", color=theme.ink, fontsize=9)
    axes[0].set_ylabel("largest error in ULP, tails included", color=theme.ink, fontsize=9)
    handles = [
        Line2D([], [], marker="D" if name.startswith(PREFIX) else "o", linestyle="", color=theme.hue(name), label=name)
        for name in libraries
    ]
    figure.legend(
        handles=handles, loc="outside right upper", frameon=False, labelcolor=theme.ink, fontsize=9, alignment="left"
    )
    canvas.titles(figure, theme, f"Accuracy and speed, one mark an op, {_what(found)}", _below(result))
    return figure


def _main(result: Result) -> list[Row]:
    found = rows(result)
    if not found:
        return []
    size, dtype = main_size(found), found[0].dtype
    return [row for row in found if row.size == size and row.dtype == dtype]


def _what(found: list[Row]) -> str:
    return f"{found[0].size:,} x {found[0].dtype}"


def _below(result: Result) -> str:
    machine, threads = result["machine"], result["settings"]["threads"]
    parts = (machine["cpu"], machine["instruction_set"], f"{threads} thread{'s' * (threads > 1)}", machine["date"][:10])
    return ", ".join(parts)


PLOTS: dict[str, tuple[str, Callable[[Result, Theme], Figure | None]]] = {
    "c1": ("Time of ReLU and of sigmoid in each library, beside a plain copy", claim),
    "speedup": ("Speed of fastnn relative to the fastest rival, activation by activation", speedup),
    "functions": ("Speed of fastnn relative to the fastest rival, function by function", functions),
    "sizes": ("Nanoseconds per element of fastnn by op and array size", sizes),
    "accuracy": ("Largest error against time per element, one mark an op and library", accuracy),
}


def draw(result: Result, folder: Path) -> dict[str, dict[str, Path]]:
    """Write every plot that the result has figures for; paths by plot and theme."""
    written: dict[str, dict[str, Path]] = {}
    if not result["results"]:
        return written
    for name, (_, plot) in PLOTS.items():
        for theme in (LIGHT, DARK):
            figure = plot(result, theme)
            if figure is None:
                break
            path = folder / (f"{name}.png" if theme is LIGHT else f"{name}-dark.png")
            figure.savefig(path, bbox_inches="tight", pad_inches=0.15, facecolor=theme.paper)
            written.setdefault(name, {})[theme.name] = path
    return written
