"""What all plots have in common: themes, colours of libraries, axes, titles."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter, NullLocator

DPI = 144
HUES = {
    "fastnn": ("#d9480f", "#ff922b"),
    "numpy": ("#4c6ef5", "#91a7ff"),
    "scipy": ("#0b7285", "#66d9e8"),
    "numexpr": ("#868e96", "#ced4da"),
    "torch": ("#c2255c", "#faa2c1"),
    "jax": ("#2b8a3e", "#8ce99a"),
    "onnxruntime": ("#7048e8", "#b197fc"),
}


@dataclass(frozen=True, slots=True)
class Theme:
    name: str
    index: int  # into HUES
    paper: str
    ink: str
    faint: str
    grid: str
    bad: str
    ramp: str  # colour map of the heat map

    def hue(self, library: str) -> str:
        return HUES.get(library.split()[0].rstrip(","), ("#495057", "#adb5bd"))[self.index]


LIGHT = Theme("light", 0, "#ffffff", "#1b1f24", "#6a737d", "#e3e6ea", "#868e96", "YlOrBr")
DARK = Theme("dark", 1, "#15181c", "#e6e8eb", "#9aa4af", "#2c323a", "#868e96", "cividis")


def figure(theme: Theme, width: float, height: float, columns: int = 1, **options: Any) -> tuple[Figure, Any]:
    drawing = Figure(figsize=(width, height), dpi=DPI, facecolor=theme.paper, layout="constrained")
    axes = drawing.subplots(1, columns, squeeze=False, **options)[0]
    for one in axes:
        one.set_facecolor(theme.paper)
        one.tick_params(colors=theme.ink, labelsize=9, length=0)
        for spine in one.spines.values():
            spine.set_visible(False)
        one.set_axisbelow(True)
    return drawing, axes


def titles(drawing: Figure, theme: Theme, title: str, below: str) -> None:
    drawing.suptitle(title, x=0.01, ha="left", color=theme.ink, fontsize=13, fontweight="bold")
    drawing.text(0.01, -0.01, below, ha="left", va="top", color=theme.faint, fontsize=8.5)


def log_axis(axis: Any, theme: Theme, ticks: list[float], text: Callable[[float], str]) -> None:
    axis.set_xscale("log")
    axis.set_xticks(ticks)
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: text(value)))
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.xaxis.set_minor_locator(NullLocator())
    axis.grid(axis="x", color=theme.grid, linewidth=0.8)


def ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten inside [low, high]; powers of ten only where that is enough."""
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    factors = (1, 2, 5) if math.log10(high / low) < 3.2 else (1,)
    return [f * 10.0**e for e in exponents for f in factors if low <= f * 10.0**e <= high]
