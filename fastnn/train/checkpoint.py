"""Checkpoints: numbered generations in a folder, each whole or not there, safetensors beside JSON.

    run/latest -> 00000012
    run/00000012/model.safetensors   the weights, under PyTorch's names: `fnn.nn.load` takes them as they are
    run/00000012/state.safetensors   all other arrays: the optimiser's, the history's, the best weights
    run/00000012/state.json          everything else, and the checksums of all three

A generation is written into a folder of another name, every file to the disk, and then renamed; only then does the
link `latest` move, and only then is the oldest removed. So a process that is killed at any moment, or a power cut,
leaves the old generation or the new one, whole.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import warnings
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastnn.arguments import flag, whole_number
from fastnn.nn.serialization import load_state, serialized
from fastnn.train.packing import pack, unpack

__all__ = ["Checkpoints"]

_FORMAT, _VERSION = "fastnn checkpoint", 1
_ARRAYS = ("model.safetensors", "state.safetensors")
_NAME = re.compile(r"\d{8}")


class Checkpoints:
    """Where and how often the state of a run is saved.

    folder: made if it is not there. epochs: save after every so many epochs. steps: and also after every so many steps,
    in the middle of epochs; None: not. keep: how many generations stay. fallback: where the newest generation is
    damaged take the one before, with a warning; otherwise that is an error, which names the file.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        epochs: int = 1,
        steps: int | None = None,
        keep: int = 2,
        fallback: bool = False,
    ) -> None:
        title = "Checkpoints"
        if not isinstance(folder, str | os.PathLike):
            raise TypeError(f"{title}: folder is of type {type(folder).__name__}; expected a path")
        self.folder = Path(folder)
        self.epochs = whole_number(title, "epochs", epochs)
        self.steps = None if steps is None else whole_number(title, "steps", steps)
        self.keep = whole_number(title, "keep", keep)
        self.fallback = flag(title, "fallback", fallback)
        for name, value in (("epochs", self.epochs), ("steps", self.steps), ("keep", self.keep)):
            if value is not None and value < 1:
                raise ValueError(f"{title}: {name} is {value}; expected 1 or more")
        if self.folder.exists() and not self.folder.is_dir():
            raise ValueError(f"{title}: folder is {os.fspath(folder)!r}, which is a file; expected a folder")

    def prepare(self) -> None:
        """Make the folder and write to it, now: a run must not learn after its first epoch that it cannot be saved."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            trial = self.folder / f".writing-{os.getpid()}"
            trial.mkdir(exist_ok=True)
            trial.rmdir()
        except OSError as error:
            raise ValueError(
                f"Checkpoints: folder is {os.fspath(self.folder)!r}, which cannot be written to: {error.strerror}"
            ) from error

    def generations(self) -> list[Path]:
        """The folders of all generations, the newest first."""
        if not self.folder.is_dir():
            return []
        return sorted((each for each in self.folder.iterdir() if _NAME.fullmatch(each.name)), reverse=True)

    def save(self, model: Mapping[str, Any], state: Mapping[str, Any]) -> Path:
        """Write a generation: the model's arrays by name; the rest as nested dicts and lists, with arrays in them."""
        tree, arrays = pack(state)
        files = {"model.safetensors": serialized(model), "state.safetensors": serialized(arrays)}
        content = {
            "format": _FORMAT,
            "version": _VERSION,
            "files": {name: _sum(data) for name, data in files.items()},
            "checksum": _sum_of_tree(tree),
            "state": tree,
        }
        files["state.json"] = json.dumps(content, indent=1, allow_nan=False).encode()
        self.folder.mkdir(parents=True, exist_ok=True)
        self._clear()
        older = self.generations()
        name = f"{int(older[0].name) + 1 if older else 1:08d}"
        draft = self.folder / f".writing-{name}-{os.getpid()}"
        draft.mkdir()
        for each, data in files.items():
            with open(draft / each, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        _to_disk(draft)
        os.rename(draft, self.folder / name)
        link = self.folder / f".latest-{os.getpid()}"
        link.symlink_to(name, target_is_directory=True)
        os.replace(link, self.folder / "latest")
        _to_disk(self.folder)
        for old in older[self.keep - 1 :]:
            self._remove(old)
        return self.folder / name

    def _clear(self) -> None:
        """Remove what a process that was killed has left of its last attempt."""
        for leftover in self.folder.glob(".writing-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        for leftover in self.folder.glob(".latest-*"):
            leftover.unlink()

    def _remove(self, generation: Path) -> None:
        """By way of another name, so that no half of a generation has the name of a whole one."""
        doomed = self.folder / f".writing-old-{generation.name}"
        os.rename(generation, doomed)
        shutil.rmtree(doomed, ignore_errors=True)

    def load(self) -> tuple[dict[str, Any], dict[str, Any]] | None:
        """Model and state of the newest generation; None where there is none.

        ValueError, naming the file, for one that is damaged, unless `fallback`.
        """
        generations = self.generations()
        for k, generation in enumerate(generations):
            try:
                return read(generation)
            except ValueError as error:
                if not self.fallback or k + 1 == len(generations):
                    hint = f" {generations[k + 1]} is older; fallback=True takes it" if k + 1 < len(generations) else ""
                    raise ValueError(f"{error}.{hint}" if hint else str(error)) from None
                warnings.warn(f"{error}; going back to {generations[k + 1]}", RuntimeWarning, stacklevel=2)
        return None

    def __repr__(self) -> str:
        """Folder and how often."""
        return f"Checkpoints({os.fspath(self.folder)!r}, epochs={self.epochs}, steps={self.steps}, keep={self.keep})"


def read(generation: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Model and state of one generation; ValueError, naming the file, for one that is missing or damaged."""
    folder = Path(generation)
    path = folder / "state.json"
    data = _bytes(path)
    try:
        content = json.loads(data)
        told, version = (content["format"], content["version"]), (_FORMAT, _VERSION)
        files, checksum, tree = content["files"], content["checksum"], content["state"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"checkpoint: {path} is damaged: {type(error).__name__}: {error}") from None
    if told != version:
        raise ValueError(f"checkpoint: {path} is of format {told[0]!r}, version {told[1]!r}; expected {version}")
    if _sum_of_tree(tree) != checksum:
        raise ValueError(f"checkpoint: {path} is damaged: its content has another checksum than it says")
    for name in _ARRAYS:
        found, expected = _sum(_bytes(folder / name)), files.get(name)
        if found != expected:
            raise ValueError(
                f"checkpoint: {folder / name} is damaged: it has {found['bytes']} bytes and the CRC-32 "
                f"{found['crc32']}; state.json tells of {expected}"
            )
    model, arrays = (load_state(folder / name) for name in _ARRAYS)
    return model, unpack(tree, arrays)


def _bytes(path: Path) -> bytes:
    if not path.is_file():
        raise ValueError(f"checkpoint: {path} is missing")
    return path.read_bytes()


def _sum_of_tree(tree: Any) -> int:
    """Of what it holds, however it is laid out in the file."""
    return zlib.crc32(json.dumps(tree, sort_keys=True, allow_nan=False).encode())


def _sum(data: bytes) -> dict[str, int]:
    return {"bytes": len(data), "crc32": zlib.crc32(data)}


def _to_disk(folder: Path) -> None:
    """Names, too, have to reach the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
