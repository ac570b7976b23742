"""A trained model on disk: `model.safetensors`, its weights; `model.json`, what it is and what goes before it.

Sessions and ONNX files made of it, beside these two, are used as it is: `model.json` says what goes before them too.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from fastnn import data, infer, models, nn, onnx
from fastnn.data import Preprocessor
from fastnn.infer.module import SessionModule
from fastnn.nn.serialization import write_atomically

FORMAT = 1
WEIGHTS, ABOUT = "model.safetensors", "model.json"


@dataclass(frozen=True, slots=True)
class Saved:
    """A model, what goes before it, and what is known about it."""

    model: nn.Module
    preprocess: Preprocessor
    about: dict[str, Any]

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of a sample."""
        return tuple(self.about["model"]["input_shape"])

    @property
    def dtype(self) -> np.dtype[Any]:
        """That of the samples it takes."""
        if isinstance(self.model, SessionModule):
            return self.model.session.dtype
        return next((parameter.dtype for parameter in self.model.parameters()), np.dtype(np.float32))

    @property
    def classes(self) -> list[str]:
        """The classes' names, or numbers."""
        return self.about["classes"] or [str(number) for number in range(self.about["model"]["classes"])]


def save(folder: Path, model: nn.Module, preprocess: Preprocessor, about: dict[str, Any]) -> None:
    """Write both files, each whole or not at all; `about` has "model", the arguments of `fnn.models.create`."""
    state = {key: np.asarray(value).tolist() for key, value in preprocess.state_dict().items()}
    nn.save(model, folder / WEIGHTS, {"fastnn": json.dumps(about["model"])})
    text = json.dumps({"format": FORMAT} | about | {"preprocess": state}, indent=1, allow_nan=False)
    write_atomically(folder / ABOUT, text.encode() + b"\n")


def load(path: Path) -> Saved:
    """A model from its folder, one of its files, or a session or ONNX file there; ValueError says what is wrong."""
    if not path.exists():
        raise FileNotFoundError(
            f"{path}: there is no such folder or file; expected a folder that `fastnn train` has written"
        )
    folder = path if path.is_dir() else path.parent
    file = folder / ABOUT
    try:
        about: Any = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{path}: there is no {ABOUT}; expected a folder that `fastnn train` has written"
        ) from None
    except ValueError as error:
        raise ValueError(f"{file} is not JSON: {error}") from None
    if not isinstance(about, dict) or not {"format", "model", "preprocess", "classes", "data"} <= about.keys():
        raise ValueError(f"{file} does not describe a model of `fastnn train`")
    if about["format"] != FORMAT:
        raise ValueError(f"{file} has format {about['format']}; this version of fastnn reads format {FORMAT}")
    try:
        model, preprocess = create(about["model"]), data.from_state(about["preprocess"])
        saved = Saved(model.eval(), preprocess, about)
        fits = len(saved.classes) == about["model"]["classes"] and isinstance(about["data"], str)
        int(about.get("seed", 0))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{file} does not describe a model of `fastnn train`: {error}") from None
    if not fits:
        raise ValueError(f"{file} does not describe a model of `fastnn train`: its classes or data are not as expected")
    if path.is_file() and path.name not in (WEIGHTS, ABOUT):
        return replace(saved, model=_exported(path, saved))
    nn.load(model, folder / WEIGHTS)
    return saved


def _exported(path: Path, saved: Saved) -> nn.Module:
    """What `fastnn export` has made of the model."""
    model = onnx.load(path) if path.suffix == ".onnx" else SessionModule(infer.load(path))
    with nn.no_grad():
        given = np.zeros((1, *saved.input_shape), replace(saved, model=model).dtype)
        shape = model(given).shape
    if shape != (1, len(saved.classes)):
        raise ValueError(f"{path} makes {shape} of a sample; {ABOUT} beside it says {(1, len(saved.classes))}")
    return model


def create(about: dict[str, Any]) -> nn.Module:
    """The network that was described, with new weights."""
    options: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in about.items()}
    return models.create(options.pop("name"), **options)
