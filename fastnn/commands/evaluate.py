"""Test a network that `fastnn train` has saved.

examples:
  fastnn evaluate fastnn-train-20260101-120000
  fastnn evaluate run/model.safetensors --data cifar10 --average flips
  fastnn evaluate run/int8.session
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from fastnn.commands import options
from fastnn.commands.options import whole

VIEWS = ("none", "flips", "ten-crop")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add("model", type=Path, metavar="MODEL", help="the folder of a model, or a file in it, a session or ONNX file too")
    options.add_data(parser, None)
    add("--average", choices=VIEWS, default="none", help="average over views of each image (default: none)")
    add("--batch-size", type=whole(), default=256, metavar="N", help="samples at a time (default: 256)")
    add("--json", action="store_true", help="print JSON")
    options.add_device(parser)
    options.add_threads(parser)


def run(args: argparse.Namespace) -> int:
    """Evaluate."""
    import numpy as np

    from fastnn import data
    from fastnn.commands import datasets, store
    from fastnn.functions.softmax import softmax
    from fastnn.train import predict

    options.limit_threads(args.threads)
    saved = store.load(args.model)
    options.moved(saved.model, args.device)
    name = args.data or saved.about["data"]
    samples = datasets.test_set(name, args.folder, int(saved.about.get("seed", 0)))
    _check(name, samples, saved)
    dtype = saved.dtype
    if args.average == "none":
        loader = data.Loader(samples, args.batch_size, shuffle=False, transforms=[saved.preprocess], dtype=dtype)
        probability = softmax(predict(saved.model, loader).astype(np.float64))
    else:
        side = saved.input_shape[-1]
        views = data.flips if args.average == "flips" else lambda x: data.ten_crop(x, side, padding=4)
        x = saved.preprocess.transform(samples.x).astype(dtype, copy=False)
        probability = data.average_over(saved.model, x, views, batch_size=args.batch_size)
    _show(_figures(name, samples.y, probability), saved.classes, args.json)
    return 0


def _check(name: str, samples: Any, saved: Any) -> None:
    if tuple(samples.x.shape[1:]) != saved.input_shape:
        raise ValueError(f"{name} has samples of shape {samples.x.shape[1:]}; the model takes {saved.input_shape}")
    if int(samples.y.max()) >= len(saved.classes):
        raise ValueError(f"{name} has the label {samples.y.max()}; the model knows {len(saved.classes)} classes")


def _figures(name: str, y: Any, probability: Any) -> dict[str, Any]:
    """Loss, accuracy, accuracy by class, and the most frequent mistakes."""
    import numpy as np

    count = probability.shape[1]
    answers = probability.argmax(1)
    confusion = np.zeros((count, count), np.int64)
    np.add.at(confusion, (y, answers), 1)
    there = confusion.sum(1)
    wrong = confusion - np.diag(np.diag(confusion))
    order = np.argsort(-wrong, axis=None, kind="stable")[:3]
    tiny = np.finfo(np.float64).tiny
    return {
        "data": name,
        "samples": len(y),
        "loss": float(-np.log(np.maximum(probability[np.arange(len(y)), y], tiny)).mean()),
        "accuracy": float(np.mean(answers == y)),
        "by_class": [float(confusion[k, k] / there[k]) if there[k] else None for k in range(count)],
        "mistakes": [
            {"is": int(at // count), "taken_for": int(at % count), "times": int(wrong.flat[at])}
            for at in order
            if wrong.flat[at]
        ],
    }


def _show(found: dict[str, Any], classes: list[str], as_json: bool) -> None:
    if as_json:
        print(json.dumps(found, indent=1))
        return
    print(f"{found['data']}, {found['samples']:,} test samples")
    print(f"accuracy {100 * found['accuracy']:.2f} %, loss {found['loss']:.4f}")
    width = max(map(len, classes))
    for name, share in zip(classes, found["by_class"], strict=True):
        print(f"  {name:<{width}}  {'-' if share is None else f'{100 * share:6.2f} %'}")
    for mistake in found["mistakes"]:
        print(f"{classes[mistake['is']]} taken for {classes[mistake['taken_for']]}: {mistake['times']} times")
