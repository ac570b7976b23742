"""What a network that `fastnn train` has saved sees in image files.

An image of any size and format is brought into the form of the training images: scaled and cropped, or, for MNIST,
made grey, white on black, and centred as its digits are.

examples:
  fastnn predict run cat.jpg dog.png
  fastnn predict run digit.png --top 3 --json
  fastnn predict run/int8.session digit.png
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from fastnn.commands import options
from fastnn.commands.options import whole


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add("model", type=Path, metavar="MODEL", help="the folder of a model, or a file in it, a session or ONNX file too")
    add("images", type=Path, nargs="+", metavar="IMAGE", help="image files")
    add("--top", type=whole(), default=3, metavar="K", help="how many classes to name (default: 3)")
    add("--average", action="store_true", help="average over the image and its mirror image")
    add("--invert", action=argparse.BooleanOptionalAction, default=None,
        help="grey images: dark on light or not (default: by the border)")  # fmt: skip
    add("--json", action="store_true", help="print JSON")
    options.add_device(parser)
    options.add_threads(parser)


def run(args: argparse.Namespace) -> int:
    """Predict."""
    from fastnn import data
    from fastnn.commands import store
    from fastnn.functions.softmax import softmax
    from fastnn.train import predict

    options.limit_threads(args.threads)
    saved = store.load(args.model)
    options.moved(saved.model, args.device)
    if len(saved.input_shape) != 3 or saved.input_shape[0] not in (1, 3):
        raise ValueError(f"{args.model} takes samples of shape {saved.input_shape}, not images")
    pixels = data.read_images(args.images, saved.input_shape, invert=args.invert)
    dtype = saved.dtype
    x = saved.preprocess.transform(pixels).astype(dtype, copy=False)
    probability = data.average_over(saved.model, x) if args.average else softmax(predict(saved.model, x))
    found = [_best(row, saved.classes, args.top) for row in probability]
    if args.json:
        print(
            json.dumps([{"image": str(path)} | best for path, best in zip(args.images, found, strict=True)], indent=1)
        )
        return 0
    width = max(len(str(path)) for path in args.images)
    for path, best in zip(args.images, found, strict=True):
        parts = [f"{each['class']} {100 * each['probability']:.1f} %" for each in best["classes"]]
        print(f"{path!s:<{width}}  {', '.join(parts)}")
    return 0


def _best(probability: Any, classes: list[str], count: int) -> dict[str, Any]:
    order = (-probability).argsort(kind="stable")[:count]
    return {"classes": [{"class": classes[k], "probability": round(float(probability[k]), 6)} for k in order]}
