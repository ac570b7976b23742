"""Checkpoints: numbered generations in a folder, each whole or not there, safetensors beside JSON.

    run/latest -> 00000012
    run/00000012/model.safetensors   the weights, under PyTorch's names: `fnn.nn.load` takes them as they are
    run/00000012/state.safetensors   all other arrays: the optimiser's, the history's, the best weights
    run/00000012/state.json          everything else
    run/00000012/checksums.json      length and CRC-32 of the three

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
from fastnn.nn.serialization import load_state, save, write_atomically
from fastnn.train.packing import pack, unpack

__all__ = ["Checkpoints"]

_FORMAT, _VERSION = "fastnn checkpoint", 1
_FILES = ("model.safetensors", "state.safetensors", "state.json")
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

    def generations(self) -> list[Path]:
        """The folders of all generations, the newest first."""
        if not self.folder.is_dir():
            return []
        return sorted((each for each in self.folder.iterdir() if _NAME.fullmatch(each.name)), reverse=True)

    def save(self, model: Mapping[str, Any], state: Mapping[str, Any]) -> Path:
        """Write a generation: the model's arrays by name; the rest as nested dicts and lists, with arrays in them."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for leftover in self.folder.glob(".writing-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        for leftover in self.folder.glob(".latest-*"):
            leftover.unlink()
        older = self.generations()
        name = f"{int(older[0].name) + 1 if older else 1:08d}"
        draft = self.folder / f".writing-{name}-{os.getpid()}"
        draft.mkdir()
        tree, arrays = pack(state)
        save(model, draft / "model.safetensors")
        save(arrays, draft / "state.safetensors")
        text = json.dumps({"format": _FORMAT, "version": _VERSION, "state": tree}, indent=1, allow_nan=False)
        write_atomically(draft / "state.json", text.encode())
        sums = {each: _sum((draft / each).read_bytes()) for each in _FILES}
        write_atomically(draft / "checksums.json", json.dumps(sums, indent=1).encode())
        generation = self.folder / name
        os.rename(draft, generation)
        _to_disk(self.folder)
        self._point_to(name)
        for old in older[self.keep - 1 :]:
            self._remove(old)
        return generation

    def _point_to(self, name: str) -> None:
        link = self.folder / f".latest-{os.getpid()}"
        link.symlink_to(name, target_is_directory=True)
        os.replace(link, self.folder / "latest")
        _to_disk(self.folder)

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
    sums = _json(folder / "checksums.json")
    for name in _FILES:
        path = folder / name
        if not path.is_file():
            raise ValueError(f"checkpoint: {path} is missing")
        found, expected = _sum(path.read_bytes()), sums.get(name)
        if not isinstance(expected, dict) or found["bytes"] != expected.get("bytes"):
            told = expected.get("bytes") if isinstance(expected, dict) else "nothing"
            raise ValueError(f"checkpoint: {path} has {found['bytes']} bytes; checksums.json tells of {told}")
        if found != expected:
            raise ValueError(f"checkpoint: {path} is damaged: its checksum is not that in checksums.json")
    content = _json(folder / "state.json")
    if content.get("format") != _FORMAT or content.get("version") != _VERSION:
        raise ValueError(
            f"checkpoint: {folder / 'state.json'} is of format {content.get('format')!r}, version "
            f"{content.get('version')!r}; expected {_FORMAT!r}, version {_VERSION}"
        )
    try:
        state = unpack(content["state"], load_state(folder / "state.safetensors"))
    except KeyError as error:
        raise ValueError(f"checkpoint: {folder / 'state.safetensors'} has no {error}") from None
    return load_state(folder / "model.safetensors"), state


def _sum(data: bytes) -> dict[str, int]:
    return {"bytes": len(data), "crc32": zlib.crc32(data)}


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise ValueError(f"checkpoint: {path} is missing") from None
    except ValueError as error:
        raise ValueError(f"checkpoint: {path} is damaged: {error}") from None
    if not isinstance(content, dict):
        raise ValueError(f"checkpoint: {path} is damaged: it holds a {type(content).__name__}")
    return content


def _to_disk(folder: Path) -> None:
    """Names, too, have to reach the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
