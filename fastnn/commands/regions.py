"""Decision regions: what a network answers in every point of the plane."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fastnn.functions.softmax import softmax
from fastnn.optional import need
from fastnn.train import predict

if TYPE_CHECKING:
    from fastnn.commands.training import Job, Result

FINE = 300  # points a side


def draw(job: Job, path: Path, result: Result) -> Path:
    """The most probable class in its colour, paler where the network is less sure, and the test samples."""
    figure_of = need("matplotlib.figure", "drawing decision regions", "train").Figure
    colours = np.array(need("matplotlib", "drawing decision regions", "train").colormaps["tab10"].colors)
    x, y = job.data.test.x, job.data.test.y
    low, high = x.min(0), x.max(0)
    margin = 0.1 * (high - low)
    low, high = low - margin, high + margin
    axes_of = [np.linspace(low[axis], high[axis], FINE, dtype=np.float32) for axis in (0, 1)]
    points = np.stack(np.meshgrid(*axes_of), axis=-1).reshape(-1, 2)
    dtype = next(job.model.parameters()).dtype
    logits = predict(job.model, job.preprocess.transform(points).astype(dtype), batch_size=4096)
    probability = softmax(logits)
    best = probability.argmax(1)
    count = probability.shape[1]
    sure = ((probability.max(1) - 1 / count) / (1 - 1 / count))[:, None]
    colour = 1 - (0.15 + 0.4 * sure) * (1 - colours[best % len(colours)])
    figure = figure_of(figsize=(6.4, 6), layout="constrained")
    axes = figure.subplots()
    extent = (low[0], high[0], low[1], high[1])
    axes.imshow(colour.reshape(FINE, FINE, 3), origin="lower", extent=extent, aspect="auto", interpolation="bilinear")
    axes.scatter(*x.T, c=colours[y % len(colours)], s=14, edgecolors="white", linewidths=0.4)
    axes.set(xlabel="x1", ylabel="x2")
    title = (
        f"{job.about['name']} on {job.data.name}: {100 * result.test.accuracy:.1f} % of {len(x):,} test samples right"
    )
    axes.set_title(title, fontsize=11)
    figure.savefig(path, dpi=130)
    return path
