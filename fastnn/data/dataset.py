"""A data set: samples, labels, the classes' names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from fastnn.arguments import flag, real_number
from fastnn.arrays import host_only
from fastnn.random import Seed, default_rng

Array = npt.NDArray[Any]


class Dataset(Protocol):
    """What a loader takes: arrays `.x` (N, ...) and `.y` (N, ...), and their length."""

    @property
    def x(self) -> Array:
        """The samples."""
        ...

    @property
    def y(self) -> Array:
        """What they are labelled with."""
        ...

    def __len__(self) -> int:
        """The number of samples."""
        ...


class ArrayDataset:
    """Samples and their labels as two arrays; nothing is copied.

    x: array (N, ...); uint8 stands for x / 255, as everywhere in `fastnn.data`. y: array (N,) of ints, or (N, ...) of
    what a loss takes. classes: the names of the classes 0, 1 ..., where they have any. name: for messages and plots.
    """

    def __init__(
        self, x: npt.ArrayLike, y: npt.ArrayLike, classes: Sequence[str] | None = None, name: str = ""
    ) -> None:
        host_only("ArrayDataset", x=x, y=y)
        self.x: Array = np.asanyarray(x)
        self.y: Array = np.asanyarray(y)
        for title, array in (("x", self.x), ("y", self.y)):
            if array.dtype.kind in "OSUmMVc" and array.dtype.name != "bfloat16":
                raise TypeError(f"ArrayDataset: {title} has dtype {array.dtype}; expected numbers")
            if array.ndim == 0:
                raise ValueError(f"ArrayDataset: {title} is one number; expected an array of shape (N, ...)")
        if len(self.x) != len(self.y):
            raise ValueError(f"ArrayDataset: x has {len(self.x)} samples and y has {len(self.y)}; expected as many")
        if isinstance(classes, str):
            raise TypeError(f"ArrayDataset: classes is the str {classes!r}; expected a sequence of names")
        self.classes = None if classes is None else tuple(map(str, classes))
        self.name = name

    def __len__(self) -> int:
        """The number of samples."""
        return len(self.x)

    def __getitem__(self, index: Any) -> tuple[Any, Any]:
        """`(x[index], y[index])`, for any index of NumPy's along the first axis."""
        return self.x[index], self.y[index]

    def subset(self, indices: Any) -> ArrayDataset:
        """The data set of some samples: a slice is a view, a list of ints or a mask a copy."""
        return ArrayDataset(self.x[indices], self.y[indices], self.classes, self.name)

    def split(
        self, validation: float = 0.1, *, rng: Seed = 0, stratified: bool = False
    ) -> tuple[ArrayDataset, ArrayDataset]:
        """Part off a validation set at random: `train, validation = dataset.split(0.1)`.

        validation: its share of the samples, between 0 and 1, or, as an int, their number. rng: a seed or a NumPy
        generator; the default draws the same samples every time. stratified: every class, of integer labels, has the
        same share in both parts, to one sample. The samples keep their order.
        """
        count = self._count(validation)
        generator = default_rng(rng)
        if flag("split", "stratified", stratified):
            chosen = self._stratified(count, generator)
        else:
            chosen = np.zeros(len(self), bool)
            chosen[generator.permutation(len(self))[:count]] = True
        return self.subset(~chosen), self.subset(chosen)

    def _count(self, validation: float) -> int:
        if isinstance(validation, (int, np.integer)) and not isinstance(validation, bool):
            count = int(validation)
        else:
            count = round(len(self) * real_number("split", "validation", validation, above=0, below=1))
        if not 0 < count < len(self):
            raise ValueError(
                f"split: validation is {validation!r}, {count} of {len(self)} samples; expected some for both parts"
            )
        return count

    def _stratified(self, count: int, rng: np.random.Generator) -> npt.NDArray[np.bool_]:
        """A mask of `count` samples. What does not divide evenly goes to the classes with the largest remainders."""
        if self.y.ndim != 1 or self.y.dtype.kind not in "biu":
            raise TypeError(
                f"split: stratified=True, and y has dtype {self.y.dtype} and shape {self.y.shape}; "
                "expected ints of shape (N,)"
            )
        _, label, sizes = np.unique(self.y, return_inverse=True, return_counts=True)
        shares, remainders = np.divmod(sizes * count, len(self))
        shares[np.argsort(-remainders, kind="stable")[: count - shares.sum()]] += 1
        chosen = np.zeros(len(self), bool)
        order = rng.permutation(len(self))
        by_class = order[np.argsort(label[order], kind="stable")]
        for end, size, share in zip(np.cumsum(sizes), sizes, shares, strict=True):
            chosen[by_class[end - size : end - size + share]] = True
        return chosen

    def __repr__(self) -> str:
        """Name, number, shapes and dtypes; the numbers are in x and y."""
        shown = [
            f"{title}: {array.dtype}{array.shape[1:] or ''}".replace(",)", ")")
            for title, array in (("x", self.x), ("y", self.y))
        ]
        return f"<ArrayDataset {self.name + ', ' if self.name else ''}{len(self)} samples, {', '.join(shown)}>"


def as_dataset(title: str, data: Any) -> Dataset:
    """`data` itself if it has x, y and a length; a pair (x, y) as a data set."""
    if isinstance(data, tuple) and len(data) == 2:
        return ArrayDataset(*data)
    if not all(hasattr(data, name) for name in ("x", "y", "__len__")):
        raise TypeError(f"{title}: dataset is of type {type(data).__name__}; expected an ArrayDataset or a pair (x, y)")
    for name, array in (("x", data.x), ("y", data.y)):
        if not isinstance(array, np.ndarray):
            raise TypeError(f"{title}: {name} of dataset is of type {type(array).__name__}; expected a NumPy array")
        if array.ndim == 0 or len(array) != len(data):
            raise ValueError(
                f"{title}: {name} of dataset has shape {array.shape}, and dataset the length {len(data)}; expected "
                "as many samples"
            )
    found: Dataset = data
    return found
