"""CIFAR-10 in its original binary format."""

from __future__ import annotations

import os
import tarfile
import zlib
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from fastnn.data import files
from fastnn.data.dataset import ArrayDataset

Array = npt.NDArray[Any]
Split = Literal["train", "test"]

FOLDER = "cifar-10-batches-bin"
NAMES = "batches.meta.txt"
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
BATCHES = {"train": tuple(f"data_batch_{k}.bin" for k in range(1, 6)), "test": ("test_batch.bin",)}
IMAGE = (3, 32, 32)
RECORD = 1 + 3 * 32 * 32  # the label, then the red, the green and the blue plane, each by rows
RECORDS = 10_000  # a batch

# From https://www.cs.toronto.edu/~kriz/cifar.html, which gives the MD5 c32a1d4ab5d03f1284b67883e8d87530 for it.
ADDRESS = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
SHA256 = "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9dddda3db29a59bca1dd"


def cifar10(
    split: Split = "train", folder: str | os.PathLike[str] | None = None, download: bool = True
) -> ArrayDataset:
    """CIFAR-10: small colour photographs in 10 classes. x: uint8 (N, 3, 32, 32), channels R, G, B; y: int64 (N,).

    split: "train" (50,000) or "test" (10,000). folder: where `cifar-10-batches-bin` is, in it or one folder below, or
    that folder itself; without it, it is looked for in the folder FASTNN_DATA, then in the cache (FASTNN_CACHE, else
    ~/.cache/fastnn). What is not there is downloaded (162 MiB), checked, and unpacked in `folder` or the cache.

    FileNotFoundError if the files are not there and download is False, ConnectionError if they cannot be downloaded,
    ValueError if a file is truncated, corrupt or another one; the message names it.

    Source: Krizhevsky (2009), Learning multiple layers of features from tiny images.
    """
    if split not in BATCHES:
        raise ValueError(f'cifar10: split is {split!r}; expected "train" or "test"')
    roots = files.folders(folder)
    place = files.find(roots, lambda place: _place(place, split)) or _downloaded(roots, split, download)
    names = BATCHES[split]
    x, y = np.empty((len(names) * RECORDS, *IMAGE), np.uint8), np.empty(len(names) * RECORDS, np.int64)
    for start, name in zip(range(0, len(x), RECORDS), names, strict=True):
        _read(place / name, x[start : start + RECORDS], y[start : start + RECORDS])
    return ArrayDataset(x, y, _classes(place / NAMES), "cifar10")


def _read(path: Path, x: Array, y: Array) -> None:
    size, wanted = path.stat().st_size, RECORDS * RECORD
    if size != wanted:
        kind = "truncated" if size < wanted else "too long"
        raise ValueError(f"{path} is {kind}: {size} bytes; expected {RECORDS} records of {RECORD}, {wanted} bytes")
    records = np.fromfile(path, np.uint8).reshape(RECORDS, RECORD)
    x[...] = records[:, 1:].reshape(x.shape)
    y[...] = records[:, 0]
    if y.max() >= len(CLASSES):
        at = int(y.argmax())
        raise ValueError(f"{path} has the label {y[at]} in record {at}; expected 0 to {len(CLASSES) - 1}")


def _classes(path: Path) -> tuple[str, ...]:
    if not path.is_file():
        return CLASSES
    names = tuple(path.read_text(encoding="utf-8", errors="replace").split())
    if len(names) != len(CLASSES):
        raise ValueError(f"{path} has {len(names)} names of classes in it; expected {len(CLASSES)}")
    return names


def _place(place: Path, split: str) -> Path | None:
    """The folder of the batches, which `place` is or holds."""
    for folder in (place / FOLDER, place):
        if all((folder / name).is_file() for name in BATCHES[split]):
            return folder
    return None


def _downloaded(roots: list[Path], split: str, download: bool) -> Path:
    listed, place = f"the folder {FOLDER} with {' '.join(BATCHES[split])}", roots[-1]
    if not download:
        raise FileNotFoundError(files.missing("CIFAR-10", listed, roots, "download is False"))
    try:
        with files.downloaded(files.Remote((ADDRESS,), SHA256), place) as archive:
            _unpack(archive, place / FOLDER)
    except ConnectionError as error:
        raise ConnectionError(files.missing("CIFAR-10", listed, roots, str(error))) from None
    return place / FOLDER


def _unpack(archive: Path, target: Path) -> None:
    """Take the batches, plain files of known names, out of the archive, and nothing else."""
    wanted = {f"{FOLDER}/{name}": name for name in (*BATCHES["train"], *BATCHES["test"], NAMES)}
    target.mkdir(parents=True, exist_ok=True)
    try:
        with tarfile.open(archive, "r:gz") as tar:
            for member in tar:
                name = wanted.get(member.name)
                stream = tar.extractfile(member) if name and member.isreg() else None
                if stream is not None:
                    files.write(target / wanted.pop(member.name), files.blocks_of(stream))
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise ValueError(f"{ADDRESS} is truncated or corrupt: {error}") from None
    if wanted:
        raise ValueError(f"{ADDRESS} has no {', '.join(wanted)} in it")
