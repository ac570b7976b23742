"""Test time: predictions averaged over views of the same images, such as crops and flips."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fastnn import devices
from fastnn.arguments import flag, whole_number
from fastnn.arrays import host
from fastnn.data.crops import check_room, pair
from fastnn.data.moments import scaled
from fastnn.data.resizing import resize
from fastnn.data.transform import check_images
from fastnn.functions.softmax import softmax as probability
from fastnn.nn import Module, no_grad

Array = npt.NDArray[Any]
Views = Callable[[Array], Iterable[Array]]


def flips(x: Array) -> Iterator[Array]:
    """Images (N, C, H, W) as they are, and mirrored left to right."""
    check_images("flips", x)
    yield x
    yield np.ascontiguousarray(x[..., ::-1])


def five_crop(x: Array, size: int | tuple[int, int], *, padding: int = 0) -> Iterator[Array]:
    """The four corners of the images, and their middle: five arrays (N, C, *size).

    padding: so many rows and columns of zeros on all four sides first. `five_crop(x, 32, padding=4)` is the form for
    images of 32 x 32 pixels, which have no larger original to cut from.
    """
    check_images("five_crop", x)
    (h, w), border = pair("five_crop", "size", size), whole_number("five_crop", "padding", padding)
    if border < 0:
        raise ValueError(f"five_crop: padding is {border}; expected an int of at least 0")
    check_room("five_crop", (h, w), x.shape, border)
    if border:
        x = np.pad(x, ((0, 0), (0, 0), (border, border), (border, border)))
    bottom, right = x.shape[2] - h, x.shape[3] - w
    middle = round(bottom / 2), round(right / 2)
    for top, left in ((0, 0), (0, right), (bottom, 0), (bottom, right), middle):
        yield np.ascontiguousarray(x[:, :, top : top + h, left : left + w])


def ten_crop(x: Array, size: int | tuple[int, int], *, padding: int = 0) -> Iterator[Array]:
    """`five_crop` of the images, then of the mirrored images: ten arrays (N, C, *size).

    Source: Krizhevsky, Sutskever and Hinton (2012), section 4.1 (AlexNet).
    """
    for view in flips(x):
        yield from five_crop(view, size, padding=padding)


def scaled_crops(
    x: Array, size: int | tuple[int, int] = 224, short_sides: Sequence[int] = (224, 256, 384, 480, 640)
) -> Iterator[Array]:
    """`ten_crop` at several scales: the images resized so that their shorter side has each of these lengths.

    With the defaults these are the 5 scales x 10 crops of the lecture: fifty arrays (N, C, 224, 224).

    Source: CS231n 2017, lecture 6, after He et al. (2016), section 4.1.
    """
    check_images("scaled_crops", x)
    height, width = x.shape[2:]
    for side in short_sides:
        factor = whole_number("scaled_crops", "short_sides", side) / min(height, width)
        yield from ten_crop(resize(x, (round(height * factor), round(width * factor))), size)


def average_over(model: Any, x: Array, views: Views = flips, *, softmax: bool = True, batch_size: int = 128) -> Array:
    """The mean prediction for images `x` (N, C, H, W), of floats or uint8, over their views: array (N, classes).

        probabilities = fnn.data.average_over(model, x, lambda x: fnn.data.ten_crop(x, 32, padding=4))

    model: a module, which is evaluated in evaluation mode and left in the mode it was in, or any function from a batch
    to predictions; one on a device is given its batches there, and predictions come back. views: a function from a
    batch to batches of as many images, such as `flips`, or `five_crop`, `ten_crop`, `scaled_crops` with their
    arguments. softmax: average probabilities, the softmax of what the model gives, as AlexNet does; False averages what
    it gives. batch_size: images at a time. Sums are float64.
    """
    check_images("average_over", x[:0].astype(np.float32) if getattr(x, "dtype", None) == np.uint8 else x)
    probabilities = flag("average_over", "softmax", softmax)
    step = whole_number("average_over", "batch_size", batch_size)
    if step < 1 or len(x) == 0:
        raise ValueError(f"average_over: batch_size is {step}, x has shape {x.shape}; expected samples in both")
    if not callable(model):
        raise TypeError(f"average_over: model is of type {type(model).__name__}; expected a module or a function")
    modes = [(module, module.training) for module in model.modules()] if isinstance(model, Module) else []
    try:
        if modes:
            model.eval()
        place = devices.place(model) if isinstance(model, Module) else None
        moved = devices.mover(place)

        def predict(view: Array) -> Array:
            return host(model(moved(view)))

        with no_grad(), devices.current(place):
            pieces = [_mean(predict, x[at : at + step], views, probabilities) for at in range(0, len(x), step)]
    finally:
        for module, training in modes:
            module.training = training
    return np.concatenate(pieces)


def _mean(model: Callable[[Array], Any], x: Array, views: Views, softmax: bool) -> Array:
    x = scaled(x, np.float32) if x.dtype == np.uint8 else x
    total, count, dtype = np.zeros(()), 0, x.dtype
    for view in views(x):
        if len(view) != len(x):
            raise ValueError(f"average_over: views made {len(view)} images of {len(x)}; expected as many")
        y = np.asarray(model(view))
        total, count, dtype = total + (probability(y, axis=1) if softmax else y).astype(np.float64), count + 1, y.dtype
    if count == 0:
        raise ValueError("average_over: views made no view of x; expected at least one")
    return (total / count).astype(dtype)
