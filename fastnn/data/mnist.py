"""MNIST in its original format, four idx files."""

from __future__ import annotations

import gzip
import os
import zlib
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from fastnn.data import files
from fastnn.data.dataset import ArrayDataset

Array = npt.NDArray[Any]
Split = Literal["train", "test"]

CLASSES = tuple("0123456789")
SIDE = 28

# The original address, http://yann.lecun.com/exdb/mnist/, refuses downloads. The first of these is where torchvision
# looks (torchvision/datasets/mnist.py), the second where TensorFlow's data sets do (tensorflow_datasets, mnist.py).
ADDRESSES = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
SHA256 = {
    "train-images-idx3-ubyte.gz": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    "train-labels-idx1-ubyte.gz": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    "t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "t10k-labels-idx1-ubyte.gz": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
}


class _Pair(NamedTuple):
    images: Path
    labels: Path


def mnist(split: Split = "train", folder: str | os.PathLike[str] | None = None, download: bool = True) -> ArrayDataset:
    """MNIST: handwritten digits, white on black. x: uint8 (N, 1, 28, 28), y: int64 (N,).

    split: "train" (60,000) or "test" (10,000). folder: where the idx files are, gzipped or not, in it or one folder
    below; without it they are looked for in the folder FASTNN_DATA, then in the cache (FASTNN_CACHE, else
    ~/.cache/fastnn). What is not there is downloaded, checked, and kept in `folder` or the cache.

    FileNotFoundError if the files are not there and download is False, ConnectionError if they cannot be downloaded,
    ValueError if a file is truncated, corrupt or another one; the message names it.

    Source: LeCun, Cortes and Burges (1998), The MNIST database of handwritten digits.
    """
    prefix = {"train": "train", "test": "t10k"}.get(split)
    if prefix is None:
        raise ValueError(f'mnist: split is {split!r}; expected "train" or "test"')
    roots = files.folders(folder)
    pair = files.find(roots, lambda place: _pair(place, prefix)) or _downloaded(roots, prefix, download)
    images, labels = read_idx(pair.images), read_idx(pair.labels)
    if images.shape[1:] != (SIDE, SIDE):
        raise ValueError(f"{pair.images} has the shape {images.shape}; expected (N, {SIDE}, {SIDE})")
    if labels.ndim != 1:
        raise ValueError(f"{pair.labels} has the shape {labels.shape}; expected (N,)")
    if len(images) != len(labels):
        raise ValueError(f"{pair.images} has {len(images)} images and {pair.labels} {len(labels)} labels")
    if labels.max(initial=0) >= len(CLASSES):
        raise ValueError(f"{pair.labels} has the label {labels.max()} in it; expected 0 to {len(CLASSES) - 1}")
    return ArrayDataset(images[:, None], labels.astype(np.int64), CLASSES, "mnist")


def read_idx(path: Path) -> Array:
    """An idx file of bytes, gzipped or not: two zeros, 8 for bytes, the number of axes, big-endian lengths, data."""
    try:
        with open(path, "rb") as plain:
            zipped = plain.read(2) == b"\x1f\x8b"
        opener: Any = gzip.open if zipped else open
        data = bytearray()
        with opener(path, "rb") as stream:
            for block in files.blocks_of(stream):
                data += block
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path} is truncated or corrupt: {error}; expected a gzipped idx file") from None
    if len(data) < 4 or data[:3] != b"\0\0\x08" or data[3] not in (1, 3):
        expected = "00 00 08 03 (images) or 00 00 08 01 (labels)"
        raise ValueError(f"{path} begins with the bytes {data[:4].hex(' ') or '(none)'}; expected {expected}")
    start = 4 + 4 * data[3]
    shape = tuple(int.from_bytes(data[i : i + 4], "big") for i in range(4, start, 4))
    found, wanted = len(data) - start, int(np.prod(shape, dtype=object))
    if found != wanted:
        kind = "truncated" if found < wanted else "too long"
        raise ValueError(f"{path} is {kind}: {max(found, 0)} bytes of data; its header says {shape}, {wanted} bytes")
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)


def _pair(place: Path, prefix: str) -> _Pair | None:
    """The two files of a split, if both are there."""
    found = []
    for name in (f"{prefix}-images-idx3-ubyte", f"{prefix}-labels-idx1-ubyte"):
        path = next((path for path in (place / name, place / f"{name}.gz") if path.is_file()), None)
        if path is None:
            return None
        found.append(path)
    return _Pair(*found)


def _downloaded(roots: list[Path], prefix: str, download: bool) -> _Pair:
    names = [name for name in SHA256 if name.startswith(prefix)]
    listed, place = " and ".join(names), roots[-1]
    if not download:
        raise FileNotFoundError(files.missing("MNIST", listed, roots, "download is False"))
    try:
        for name in names:
            if not (place / name).is_file():
                files.download(files.Remote(tuple(base + name for base in ADDRESSES), SHA256[name]), place / name)
    except ConnectionError as error:
        raise ConnectionError(files.missing("MNIST", listed, roots, str(error))) from None
    return _Pair(*(place / name for name in names))
