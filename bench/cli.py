"""`fastnn bench`: measure, show, write JSON, plots and a page; or compare two result files."""

from __future__ import annotations

import argparse
import datetime
import importlib.util
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .problems import FAMILIES
from .problems.activations import SIZES, parse_size
from .problems.base import DTYPES, PASSES

NEEDS = ("rich", "matplotlib")
HINT = 'pip install "fastnn[bench]"'
RESULTS = "results.json"
TRAINING = "training.json"
DEVICE = "device.json"
INFERENCE = "inference.json"
TRAINING_EFFORT = {True: (2.0, 3), False: (20.0, 9)}  # with --quick and without: seconds a network, least samples
INFERENCE_QUICK: dict[str, Any] = {"batches": (1, 16), "threads": (1,), "cell_seconds": 0.3, "starts": 1}
PAGE = "index.html"


def _names(text: str) -> tuple[str, ...]:
    return tuple(name for name in (part.strip() for part in text.split(",")) if name)


def _sizes(text: str) -> tuple[int, ...]:
    return tuple(int(size) for size in _names(text))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `fastnn bench`."""
    parser.description = (
        "Measure every function, forward and backward, against every installed rival, and the claim that ReLU is\n"
        "three times faster than sigmoid. Writes results.json, index.html and plots."
    )
    add = parser.add_argument
    add("--quick", action="store_true", help="under a minute: one size, the native backend, fewer samples")
    add("--main", action="store_true", help="of the functions that are no activations only what has a target")
    add("--families", type=_names, metavar="A,B", help=f"of {', '.join(FAMILIES)} (default: all)")
    add("--ops", type=_names, metavar="A,B", help="only these functions, with their backward passes")
    add(
        "--sizes",
        metavar="N,M",
        help=f"numbers of elements for the activations, such as 64k or 2^24 (default: {','.join(map(str, SIZES))})",
    )
    add(
        "--pass",
        dest="directions",
        type=_names,
        default=PASSES,
        metavar="A,B",
        help=f"of {','.join(PASSES)} (default: both)",
    )
    add("--dtype", type=_names, default=("float32",), metavar="A,B", help=f"of {','.join(DTYPES)} (default: float32)")
    add("--rivals", type=_names, metavar="A,B", help='only these, or "none" (default: all that are installed)')
    add("--backends", type=_names, metavar="A,B", help="fastnn's backends in the tables (default: native,numba)")
    add("--threads", type=int, metavar="N", help="for every library (default: 1; with --inference 1 and 2, one by one)")
    add("--out", type=Path, metavar="DIR", help="folder for the results (default: ./fastnn-bench-<date>-<time>)")
    add("--training", action="store_true", help="measure a training step of whole networks instead, beside PyTorch's")
    add(
        "--inference",
        action="store_true",
        help="measure calls of whole networks instead, float32 and int8, cold starts and memory, beside ONNX Runtime's",
    )
    add(
        "--networks",
        type=_names,
        metavar="A,B",
        help="with --training or --inference: of mlp,lenet5,alexnet4,resnet8, and mobilenet for the latter",
    )
    add("--batches", type=_sizes, metavar="N,M", help="with --inference: samples a call (default: 1,16,256)")
    add(
        "--device",
        default="cpu",
        metavar="NAME",
        help="cuda: measure a GPU instead, by events, beside PyTorch, torch.compile and cuDNN: with --ops, --families, "
        "--pass, --dtype, --sizes (one, of the elementwise ops; default 2^28), --rivals (default: cpu)",
    )
    add("--compile", action="store_true", help="with --training or --inference: try torch.compile too (minutes)")
    add("--compare", nargs=2, type=Path, metavar=("A.json", "B.json"), help="measure nothing, compare two result files")


def main(args: argparse.Namespace) -> int:
    """Run the command; 0 on success, 2 on a usage error."""
    missing = [name for name in NEEDS if importlib.util.find_spec(name) is None]
    if missing:
        print(f"fastnn bench needs {' and '.join(missing)}: {HINT}", file=sys.stderr)
        return 2
    try:
        if args.compare:
            return _compare(*args.compare)
        if args.device != "cpu":
            return _device(args)
        if args.inference:
            return _inference(args)
        return _training(args) if args.training else _bench(args)
    except ValueError as error:
        print(f"fastnn bench: {error}", file=sys.stderr)
        return 2


def _compare(before: Path, after: Path) -> int:
    from rich.console import Console

    from .report import compare, results

    console = Console()
    compare.show(results.load(before), results.load(after), (str(before), str(after)), console)
    return 0


def _settings(args: argparse.Namespace) -> Any:
    from .rivals import RIVALS
    from .runner import Settings

    rivals = tuple(RIVALS) if args.rivals is None else () if args.rivals == ("none",) else args.rivals
    given = {
        "ops": args.ops,
        "families": args.families,
        "backends": args.backends,
        "sizes": tuple(parse_size(size) for size in args.sizes.split(",")) if args.sizes else None,
    }
    settings = Settings(
        directions=args.directions,
        dtypes=args.dtype,
        rivals=rivals,
        threads=_threads(args),
        mandatory=args.main,
        **{name: value for name, value in given.items() if value is not None},
    )
    return settings.quick() if args.quick else settings


def _threads(args: argparse.Namespace) -> int:
    return 1 if args.threads is None else int(args.threads)


def _default_folder() -> Path:
    return Path(f"fastnn-bench-{datetime.datetime.now():%Y%m%d-%H%M%S}")


def _folder(args: argparse.Namespace) -> Path:
    folder: Path = args.out or _default_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"--out: cannot create {folder}: {error.strerror}") from error
    return folder


def _watched(console: Any, work: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
    """What `work` returns, with a bar that shows how far it is."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        BarColumn(24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
    )
    # no refreshing thread: it would take turns with what is being measured
    with Progress(*columns, console=console, auto_refresh=False) as bar:
        task = bar.add_task("starting", total=None)

        def progress(what: str, done: int, of: int) -> None:
            bar.update(task, description=what, completed=done, total=of or None, refresh=True)

        return work(progress)


def _training(args: argparse.Namespace) -> int:
    from rich.console import Console

    from .report import training as report
    from .training import runner
    from .training.problems import NETWORKS

    seconds, samples = TRAINING_EFFORT[args.quick]
    names = args.networks or tuple(NETWORKS)
    settings = runner.Settings(names, _threads(args), args.compile, seconds, samples)
    folder = _folder(args)
    console = Console()
    result = _watched(console, lambda progress: runner.run(settings, progress))
    path = folder / TRAINING
    write(result, path)
    report.show(result, console)
    console.print(f"\nWritten: {path}", highlight=False)
    return 0


def _inference(args: argparse.Namespace) -> int:
    from rich.console import Console

    from .inference import runner
    from .machine import usable_cores
    from .report import inference as report
    from .report import inference_plot

    given = {
        "networks": args.networks,
        "batches": args.batches,
        "threads": None if args.threads is None else (args.threads,),
    }
    usual: dict[str, Any] = {"threads": (1, 2) if usable_cores() > 1 else (1,)} | (
        INFERENCE_QUICK if args.quick else {}
    )
    wanted = usual | {name: value for name, value in given.items() if value is not None}
    settings = runner.Settings(compiled=args.compile, **wanted)
    folder = _folder(args)
    console = Console()
    result = _watched(console, lambda progress: runner.run(settings, progress))
    path = folder / INFERENCE
    write(result, path)
    report.show(result, console)
    drawn = inference_plot.draw(result, folder)
    console.print(f"\nWritten: {path}, and {drawn[0]}.", highlight=False)
    return 0


def _device(args: argparse.Namespace) -> int:
    from rich.console import Console

    import fastnn

    from .claims import c2
    from .device import problems, runner
    from .report import device as report

    size = parse_size(args.sizes) if args.sizes else problems.SIZE
    settings = runner.Settings(
        device=args.device,
        ops=args.ops,
        families=args.families,
        directions=args.directions,
        dtypes=args.dtype,
        size=size,
        rivals=() if args.rivals == ("none",) else args.rivals,
        cell_seconds=0.3 if args.quick else 2.0,
        min_samples=3 if args.quick else 7,
    )
    console = Console()
    try:
        result = _watched(console, lambda progress: runner.run(settings, fastnn, progress))
    except (ImportError, RuntimeError) as error:
        print(f"C2: {c2.NOT_MEASURED}", f"fastnn bench: {error}", sep="\n", file=sys.stderr)
        return 2
    folder = _folder(args)
    path = folder / DEVICE
    write(result, path)
    report.show(result, console)
    drawn = report.draw(result, folder)
    console.print(f"\nWritten: {', '.join(map(str, [path, *drawn]))}", highlight=False)
    return 0


def _bench(args: argparse.Namespace) -> int:
    from rich.console import Console

    from . import runner
    from .report import html, plots, text

    settings = _settings(args)
    folder = _folder(args)
    console = Console()
    result = _watched(console, lambda progress: runner.run(settings, progress))
    path = folder / RESULTS
    write(result, path)
    text.show(result, console)
    drawn = plots.draw(result, folder)
    (folder / PAGE).write_text(html.page(result, drawn), encoding="utf-8")
    console.print(
        f"\nWritten: {folder / PAGE} (the report), {path}, and {2 * len(drawn)} plots beside them.", highlight=False
    )
    return 0


def write(result: dict[str, Any], path: Path) -> None:
    """As JSON proper, which knows no infinity: "inf" and "nan" are written as strings."""
    path.write_text(json.dumps(_plain(result), indent=1, allow_nan=False) + "\n", encoding="utf-8")


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)
