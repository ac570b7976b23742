"""Data sets by name, split and preprocessed as the commands use them."""

from __future__ import annotations

import difflib
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fastnn import data
from fastnn.data import ArrayDataset, Preprocessor

POINTS: dict[str, Callable[..., ArrayDataset]] = {
    "spirals": data.spirals,
    "clouds": data.clouds,
    "moons": data.moons,
    "circles": data.circles,
}
FILES: dict[str, Callable[..., ArrayDataset]] = {"mnist": data.mnist, "cifar10": data.cifar10}
POINTS_TRAINED, POINTS_TESTED = 3000, 1000
_LABELS = 2**31 - 1  # the largest
HELD_OUT = 0.1  # of the training set, where a test set is there; 0.2 where it is cut off too


@dataclass(frozen=True, slots=True)
class Data:
    """What a network learns from, is watched on, and is tested on."""

    name: str
    train: ArrayDataset
    validation: ArrayDataset | None
    test: ArrayDataset

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of a sample."""
        return tuple(self.train.x.shape[1:])

    @property
    def classes(self) -> int:
        """The number of classes."""
        return len(self.train.classes or ()) or int(self.train.y.max()) + 1

    @property
    def images(self) -> bool:
        """Whether samples are images."""
        return len(self.input_shape) == 3

    def fitted(self) -> Preprocessor:
        """Mean and standard deviation of the training set: a channel of images, a feature of anything else."""
        step = data.PerChannelStandardize() if self.images else data.Standardize()
        return step.fit(self.train.x)


def load(name: str, folder: Path | None = None, validation: float = HELD_OUT, seed: int = 0) -> Data:
    """A data set by name, or from an .npz file; `validation` is held out of the training set, 0 for none.

    The split depends on the data alone, so that accuracies of several runs compare; generated points on `seed`.
    """
    if name in POINTS:
        train, test = (
            POINTS[name](count, rng=np.random.default_rng((seed, part)))
            for part, count in enumerate((POINTS_TRAINED, POINTS_TESTED))
        )
    elif name in FILES:
        train, test = (FILES[name](split, folder) for split in ("train", "test"))
    else:
        train, test = _file(name)
    if validation:
        train, held = train.split(validation, stratified=True)
        return Data(name, train, held, test)
    return Data(name, train, None, test)


def test_set(name: str, folder: Path | None = None, seed: int = 0) -> ArrayDataset:
    """The part that a network is tested on."""
    return FILES[name]("test", folder) if name in FILES else load(name, folder, 0, seed).test


def _file(name: str) -> tuple[ArrayDataset, ArrayDataset]:
    path = Path(name)
    known = (*POINTS, *FILES)
    if path.suffix != ".npz":
        near = difflib.get_close_matches(name, known, 1)
        hint = f". Did you mean {near[0]!r}?" if near else f"; expected {', '.join(known)} or an .npz file"
        raise ValueError(f"unknown data {name!r}{hint}")
    arrays = _arrays(path)
    tested = "x_test" in arrays or "y_test" in arrays
    missing = [key for key in ("x", "y", *(("x_test", "y_test") if tested else ())) if key not in arrays]
    if missing:
        raise ValueError(f"{path} has no array {' and '.join(missing)}; it has {', '.join(arrays) or 'none'}")
    names = arrays.get("classes")
    if names is not None and names.ndim != 1:
        raise ValueError(f"{path}: classes has shape {names.shape}; expected a name for each class, 0 and up")
    classes = None if names is None else [str(each) for each in names]
    train = _labelled(path, arrays, "x", "y", classes)
    count = len(classes) if classes else int(train.y.max(initial=0)) + 1
    if count < 2:
        raise ValueError(f"{path}: y has {count} class; expected labels of two or more")
    parts = (
        (train, _labelled(path, arrays, "x_test", "y_test", classes)) if tested else train.split(0.2, stratified=True)
    )
    for part, x, y in zip(parts, ("x", "x_test"), ("y", "y_test"), strict=True):
        if part.x.shape[1:] != train.x.shape[1:]:
            raise ValueError(
                f"{path}: {x} has samples of shape {part.x.shape[1:]}; expected {train.x.shape[1:]}, as in x"
            )
        if int(part.y.max(initial=0)) >= count:
            raise ValueError(f"{path}: {y} has the label {part.y.max()}; expected 0 to {count - 1}")
    return parts


def _arrays(path: Path) -> dict[str, Any]:
    try:
        with open(path, "rb") as file, np.lib.npyio.NpzFile(file, allow_pickle=False) as archive:
            return dict(archive)
    except (zipfile.BadZipFile, EOFError, ValueError, zlib.error) as error:
        raise ValueError(f"{path} is damaged, or no file of np.savez with arrays of numbers: {error}") from None


def _labelled(path: Path, arrays: dict[str, Any], x_name: str, y_name: str, classes: list[str] | None) -> ArrayDataset:
    x, y = arrays[x_name], arrays[y_name]
    if x.ndim < 2 or 0 in x.shape:
        raise ValueError(
            f"{path}: {x_name} has shape {x.shape}; expected (N, features) or (N, channels, height, width)"
        )
    if y.ndim != 1 or y.dtype.kind not in "iu" or len(y) != len(x) or y.min() < 0 or y.max() > _LABELS:
        raise ValueError(
            f"{path}: {y_name} has shape {y.shape} and dtype {y.dtype}; expected {len(x)} integers, 0 to {_LABELS}"
        )
    if x.dtype.kind == "f":
        with np.errstate(over="ignore"):
            x = np.ascontiguousarray(x, np.float32)
        if not np.isfinite(x).all():
            row = int(np.argwhere(~np.isfinite(x))[0][0])
            raise ValueError(f"{path}: {x_name}[{row}] has NaN or infinity in it; expected finite float32 numbers")
    return ArrayDataset(x, y.astype(np.int64), classes=classes, name=path.stem)
