"""Pictures of a search: the value over each hyper-parameter, and where its trials lie."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from fastnn.optional import need
from fastnn.train.search.spaces import Choice
from fastnn.train.search.study import Record, Study

_GOOD, _BEST, _LOST = "#1f5fa8", "#d1622b", "#b8bec6"


def values(study: Study, path: str | os.PathLike[str]) -> Path:
    """The value of every trial over each hyper-parameter, in log scale where it was drawn so."""
    names = list(study.space)
    figure = _figure(4.2 * len(names), 3.8)
    best = study.best
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False, sharey=True)[0], names, strict=True):
        place = _scale(axes.xaxis, study.space[name])
        told = [record for record in study.complete if record is not best]
        axes.scatter([place(each.parameters[name]) for each in told], [each.value for each in told], color=_GOOD, s=26)
        axes.scatter(place(best.parameters[name]), best.value, color=_BEST, s=70, marker="*", label="best", zorder=3)
        for lost in study.trials:
            if lost.value is None:  # pruned or failed: a mark at the lower edge
                axes.axvline(place(lost.parameters[name]), 0, 0.04, color=_LOST, linewidth=1.5)
        axes.set(xlabel=name)
        axes.grid(alpha=0.25)
    found = [record.value for record in study.complete if record.value is not None]
    if study.minimize and min(found) > 0 and max(found) > 20 * min(found):
        axes.set_yscale("log")
    first = figure.axes[0]
    first.set_ylabel("value" + (" (lower is better)" if study.minimize else " (higher is better)"))
    first.legend(frameon=False, fontsize=8)
    return _saved(figure, path)


def layout(studies: Study | Sequence[Study], path: str | os.PathLike[str]) -> Path:
    """Where trials lie, for each two hyper-parameters: several studies, such as grid and random, side by side.

    The best are orange, the others the bluer the worse they did; crosses were pruned or failed. Marks along the axes
    show how many different values of each were tried: the reason why random search finds more.
    """
    shown = [studies] if isinstance(studies, Study) else list(studies)
    pairs = list(itertools.combinations(shown[0].space, 2))
    if not pairs:
        raise ValueError("layout: there is one hyper-parameter; expected at least two")
    figure = _figure(4.4 * len(shown), 4.2 * len(pairs))
    rows = figure.subplots(len(pairs), len(shown), squeeze=False)
    for (first, second), row in zip(pairs, rows, strict=True):
        for study, axes in zip(shown, row, strict=True):
            across = _scale(axes.xaxis, study.space[first])
            up = _scale(axes.yaxis, study.space[second])
            _scatter(axes, study, [(across(r.parameters[first]), up(r.parameters[second])) for r in study.trials])
            counts = [len({record.parameters[name] for record in study.trials}) for name in (first, second)]
            axes.set(xlabel=f"{first}: {counts[0]} values", ylabel=f"{second}: {counts[1]} values")
            axes.set_title(f"{study.strategy}, {len(study.trials)} trials", fontsize=10)
    return _saved(figure, path)


def draw(study: Study, folder: Path) -> list[Path]:
    """Every picture that the study has something for."""
    written = [values(study, folder / "values.png")] if study.complete else []
    if len(study.space) > 1 and len(study.space) < 5:
        written.append(layout(study, folder / "layout.png"))
    return written


def _scatter(axes: Any, study: Study, points: list[tuple[float, float]]) -> None:
    ranks = {record.number: place for place, record in enumerate(study.complete)}
    last = max(1, len(ranks) - 1)
    for record, point in zip(study.trials, points, strict=True):
        share = _share(record, ranks, last)
        colour = _LOST if share is None else (*_mix(share), 1.0)
        axes.scatter(*point, color=colour, s=34, marker="x" if share is None else "o", linewidths=1.2)
        axes.plot([point[0]] * 2, [0, 0.03], color=_GOOD, transform=axes.get_xaxis_transform(), linewidth=1)
        axes.plot([0, 0.03], [point[1]] * 2, color=_GOOD, transform=axes.get_yaxis_transform(), linewidth=1)


def _share(record: Record, ranks: dict[int, int], last: int) -> float | None:
    return None if record.value is None else ranks[record.number] / last


def _mix(share: float) -> tuple[float, ...]:
    """From the colour of the best to that of the others by rank."""
    ends = [tuple(int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)) for colour in (_BEST, _GOOD)]
    return tuple(low + math.sqrt(share) * (high - low) for low, high in zip(*ends, strict=True))


def _scale(axis: Any, each: Any) -> Callable[[Any], Any]:
    """Set an axis up for a range, both ends on it; what turns a value into a place on it."""
    axes, name = axis.axes, axis.axis_name
    limits = getattr(axes, f"set_{name}lim")
    if isinstance(each, Choice):
        axis.set_ticks(range(len(each.values)), [str(value) for value in each.values])
        limits(-0.5, len(each.values) - 0.5)
        return each.values.index
    low, high = each.low, each.high
    if each.log:
        getattr(axes, f"set_{name}scale")("log")
        margin = (high / low) ** 0.04
        limits(low / margin, high * margin)
    else:
        margin = 0.04 * (high - low)
        limits(low - margin, high + margin)
    return lambda value: value


def _figure(width: float, height: float) -> Any:
    made = need("matplotlib.figure", "drawing a search", "search").Figure(figsize=(width, height), layout="constrained")
    return made


def _saved(figure: Any, path: str | os.PathLike[str]) -> Path:
    where = Path(path)
    figure.savefig(where, dpi=130)
    return where
