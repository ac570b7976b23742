"""Image files as the arrays that a model expects."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fastnn.optional import need

Array = npt.NDArray[Any]

_BOX = 20  # MNIST's digits were fitted into so many pixels of 28


def read_image(
    path: str | os.PathLike[str], shape: tuple[int, int, int] = (3, 32, 32), *, invert: bool | None = None
) -> Array:
    """An image file, of any format that Pillow reads, as uint8 (C, H, W) of the given shape.

    Turned as its EXIF data say, put on white where it is transparent. With 3 channels, R, G, B: scaled to cover H x W,
    the middle cut out. With 1 channel, brought into the form of MNIST's digits:

    1. grey values, inverted if `invert`. None inverts where the border is lighter than mid-grey: MNIST is white on
       black, paper is black on white, and what lies at the border is the background, whatever is written.
    2. An image that has H x W pixels already is taken as it is. Of any other, the part that differs from the background
       is cut out, scaled so that its longer side is 20/28 of the image's shorter one, and put so that its centre of
       mass is at the pixel (H / 2, W / 2), as LeCun, Cortes and Burges did.

    ImportError without Pillow, FileNotFoundError and other OSErrors if the file cannot be opened, ValueError if it is
    no image.
    """
    channels, height, width = shape
    if channels not in (1, 3) or height < 1 or width < 1:
        raise ValueError(f"read_image: shape is {shape}; expected (1, H, W) or (3, H, W)")
    image = _opened(path)
    if channels == 3:
        ops = need("PIL.ImageOps", "reading images", "train")
        fitted = ops.fit(image.convert("RGB"), (width, height))
        return np.ascontiguousarray(np.moveaxis(np.asarray(fitted, np.uint8), 2, 0))
    grey = np.asarray(image.convert("L"), np.uint8)
    border = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
    if np.mean(border) > 127.5 if invert is None else invert:
        grey = 255 - grey
    return (grey if grey.shape == (height, width) else _as_digit(grey, height, width))[None]


def read_images(
    paths: Sequence[str | os.PathLike[str]], shape: tuple[int, int, int] = (3, 32, 32), *, invert: bool | None = None
) -> Array:
    """`read_image` of several files: uint8 (N, C, H, W)."""
    if isinstance(paths, str | os.PathLike):
        raise TypeError(f"read_images: paths is the one path {os.fspath(paths)!r}; expected a sequence of them")
    return (
        np.stack([read_image(path, shape, invert=invert) for path in paths])
        if paths
        else np.empty((0, *shape), np.uint8)
    )


def _opened(path: str | os.PathLike[str]) -> Any:
    """The image, its pixels read, in a mode that `convert` makes grey or RGB of without loss of range."""
    image_module = need("PIL.Image", "reading images", "train")
    ops = need("PIL.ImageOps", "reading images", "train")
    with open(path, "rb") as stream:
        try:
            image = image_module.open(stream)
            image.load()
            image = ops.exif_transpose(image)
        except (OSError, SyntaxError, ValueError, EOFError, image_module.DecompressionBombError) as error:
            reason = str(error).replace(repr(stream), "it")
            raise ValueError(f"{os.fspath(path)} is not an image that can be read: {reason}") from None
    if image.mode.startswith(("I", "F")):  # 16 bits and more: Pillow would cut them off at 255
        values = np.asarray(image, np.float64)
        top = 65535.0 if values.max(initial=0) > 255 else 255.0
        image = image_module.fromarray(np.clip(np.rint(values * (255 / top)), 0, 255).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = image_module.alpha_composite(image_module.new("RGBA", image.size, "white"), image)
    return image


def _as_digit(grey: Array, height: int, width: int) -> Array:
    """White on black of any size to a digit in a box about the centre of mass, on black."""
    image_module = need("PIL.Image", "reading images", "train")
    background = float(np.median(np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])))
    ink = np.clip(grey - background, 0, None) * (255 / max(1.0, 255 - background))
    result = np.zeros((height, width), np.uint8)
    marked = ink > 0.2 * ink.max(initial=0)  # noise of the paper is no ink
    if not marked.any():
        return result
    ys, xs = np.flatnonzero(marked.any(axis=1)), np.flatnonzero(marked.any(axis=0))
    piece = ink[ys[0] : ys[-1] + 1, xs[0] : xs[-1] + 1].astype(np.float32)
    factor = _BOX / 28 * min(height, width) / max(piece.shape)
    size = [max(1, round(length * factor)) for length in piece.shape]
    small = np.asarray(image_module.fromarray(piece).resize(size[::-1], image_module.Resampling.BILINEAR))
    total = small.sum()
    place = []
    for axis, length in enumerate((height, width)):
        middle = float((small.sum(axis=1 - axis) * np.arange(size[axis])).sum() / total)
        place.append(min(max(round(length / 2 - middle), 0), length - size[axis]))
    top, left = place
    result[top : top + size[0], left : left + size[1]] = np.clip(np.rint(small), 0, 255)
    return result
