"""Coarse to fine: which learning rate and how much dropout? And why random trials find more than a grid of as many.

    pip install ".[train,search]" && python examples/search_learning_rate.py [FOLDER]

Trains a small network on generated spirals many times, briefly, on all cores. Pictures go to FOLDER, if one is named.
"""

from __future__ import annotations

import sys
from pathlib import Path

import fastnn as fnn
from fastnn.train.search import plots, search


def network(dropout: float) -> fnn.nn.Module:
    """The function that a search calls with what it has drawn must be importable: processes import it by name."""
    return fnn.models.create("mlp", input_shape=(2,), classes=3, hidden=(32, 32), dropout=dropout)


def main(folder: Path | None) -> None:
    """Search by a grid, at random, and at random once more, about the best."""
    data = fnn.data.spirals(1200, rng=0).split(0.25)
    space = {"lr": search.loguniform(1e-5, 1e1), "dropout": search.uniform(0.0, 0.8)}
    studies = []
    for strategy in ("grid", "random"):
        studies.append(search((network, data), space, strategy=strategy, trials=9, epochs=4, batch_size=32))
        print(*studies[-1].summary(), sep="\n", end="\n\n")
    finer = search.refine(studies[-1])
    print("and around the best:", ", ".join(f"{name} {each}" for name, each in finer.items()))
    study = search((network, data), finer, trials=9, epochs=10, batch_size=32)
    print(*study.summary(), sep="\n")
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        plots.layout(studies, folder / "grid-and-random.png")
        plots.values(study, folder / "values.png")
        print(f"Written: {folder / 'grid-and-random.png'}, {folder / 'values.png'}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
