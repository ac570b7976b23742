"""Options that several commands have, and the types of their values."""

from __future__ import annotations

import argparse
import contextlib
import datetime
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any


def number(low: float = -math.inf, high: float = math.inf, above: float | None = None) -> Callable[[str], float]:
    """The type of a real number within bounds; `above` is a bound that it must not reach."""

    def parse(text: str) -> float:
        value = float(text)
        if not low <= value <= high or (above is not None and not value > above):
            bound = f"above {above:g}" if above is not None else f"at least {low:g}"
            raise argparse.ArgumentTypeError(f"{text}; expected a number {bound}" + _upto(high))
        return value

    parse.__name__ = "number"  # argparse names it where float() fails
    return parse


def whole(low: int = 1, high: float = math.inf) -> Callable[[str], int]:
    """The type of an integer within bounds."""

    def parse(text: str) -> int:
        value = int(text)
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text}; expected an integer, at least {low}" + _upto(high))
        return value

    parse.__name__ = "integer"
    return parse


def _upto(high: float) -> str:
    return f", at most {high:g}" if high < math.inf else ""


def setting(text: str) -> tuple[str, Any]:
    """NAME=VALUE: the value as a number, a tuple of numbers, a bool, or the text it is."""
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise argparse.ArgumentTypeError(f"{text}; expected NAME=VALUE, such as hidden=256,128")
    parts = [literal(part) for part in value.split(",") if part]
    return name, tuple(parts) if "," in value else literal(value)


def literal(text: str) -> Any:
    """An int, a float, a bool, or the text."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return {"true": True, "false": False}.get(text.lower(), text)


def add_data(parser: argparse.ArgumentParser, default: str | None) -> None:
    """--data and --folder."""
    parser.add_argument(
        "--data",
        default=default,
        metavar="NAME",
        help="mnist, cifar10; spirals, clouds, moons or circles, which are generated; or a file of NumPy's (.npz) with "
        f"arrays x and y, and x_test and y_test if there are any{f' (default: {default})' if default else ''}",
    )
    parser.add_argument(
        "--folder", type=Path, metavar="DIR", help="where the files of mnist or cifar10 are (default: FASTNN_DATA)"
    )


def add_threads(parser: argparse.ArgumentParser) -> None:
    """--threads."""
    parser.add_argument("--threads", type=whole(), metavar="N", help="for fastnn and NumPy (default: one a core)")


def add_device(parser: argparse.ArgumentParser) -> None:
    """--device."""
    parser.add_argument(
        "--device", default="cpu", metavar="NAME", help="cpu; cuda, the GPU; cuda:1, that of number 1 (default: cpu)"
    )


def moved(model: Any, device: str) -> Any:
    """The model on the device that --device names; ValueError where there is none such."""
    try:
        return model.to(device=device)
    except RuntimeError as error:
        raise ValueError(f"--device {device}: {error}") from None


def limit_threads(threads: int | None) -> None:
    """Heed --threads."""
    if threads is None:
        return
    from fastnn.optional import need
    from fastnn.threads import set_num_threads

    set_num_threads(threads)
    need("threadpoolctl", "--threads", "train").threadpool_limits(threads)


def add_model(parser: argparse.ArgumentParser) -> None:
    """What a network is made of."""
    add = parser.add_argument
    zoo = "mlp, lenet5, alexnet4, vgg-small, resnet8, resnet14, resnet20 or mobilenet"
    add("--model", metavar="NAME", help=f"{zoo} (by the data)")
    add("--activation", metavar="NAME", help="of every hidden layer: relu, gelu, tanh ... (default: relu)")
    add("--dropout", type=number(0, 0.999), metavar="P", help="probability of dropping; 0: none (by the model)")
    add("--batch-norm", action=argparse.BooleanOptionalAction, default=None, help="batch norm (by the model)")
    add(
        "--option",
        type=setting,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        dest="options",
        help="an option of the model, such as hidden=512,256 (mlp), pool=avg (lenet5), shortcut=identity (resnet8)",
    )


def add_training(parser: argparse.ArgumentParser) -> None:
    """How a network is trained."""
    add, yes_or_no = parser.add_argument, argparse.BooleanOptionalAction
    add("--batch-size", type=whole(), metavar="N", help="samples a step (by data and model, like all that follow)")
    add("--lr", type=number(above=0), metavar="RATE", help="learning rate, at its highest")
    add("--optimizer", metavar="NAME", help="sgd (Nesterov momentum), adam, adamw or rmsprop")
    add("--momentum", type=number(0, 0.9999), metavar="M", help="of sgd")
    add("--weight-decay", type=number(0), metavar="L2", help="gradient of L2/2 |w|^2 (adamw: decoupled)")
    add("--schedule", metavar="NAME", help="of the learning rate after the warm-up: cosine, linear, step or constant")
    add("--warmup", type=number(0), metavar="EPOCHS", help="epochs over which the learning rate rises")
    add("--label-smoothing", type=number(0, 0.999), metavar="E", help="share of a label that all classes get")
    add("--augment", action=yes_or_no, default=None, help="images: random crops (pad 4), flips (not of digits)")


@contextlib.contextmanager
def output_folder(given: Path | None, what: str) -> Iterator[Path]:
    """The folder for results, made now, so that no run is in vain; it goes again if nothing has come into it."""
    folder = given or Path(f"fastnn-{what}-{datetime.datetime.now():%Y%m%d-%H%M%S}")
    there = folder.is_dir()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"--out: cannot create {folder}: {error.strerror}") from error
    try:
        yield folder
    finally:
        if not there:
            with contextlib.suppress(OSError):
                folder.rmdir()


TRAINING = (
    "batch_size", "lr", "optimizer", "momentum", "weight_decay", "schedule", "warmup", "label_smoothing", "augment",
)  # fmt: skip


_OWN = {"name": "--model", "input_shape": "--data", "classes": "--data", "dtype": "--dtype"}


def given_training(args: argparse.Namespace) -> dict[str, Any]:
    """The options of `add_training` that were given, and the number of epochs."""
    found = {name: getattr(args, name) for name in (*TRAINING, "epochs")}
    return {name: value for name, value in found.items() if value is not None}


def given_model(args: argparse.Namespace) -> dict[str, Any]:
    """The options of `add_model` that were given, as arguments of `fnn.models.create`."""
    for name, _ in args.options:
        if name in _OWN:
            raise ValueError(f"--option {name}: it follows from {_OWN[name]}; expected an option of the model")
    found = {name: getattr(args, name) for name in ("activation", "dropout", "batch_norm")}
    return {name: value for name, value in found.items() if value is not None} | dict(args.options)
