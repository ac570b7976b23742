"""Search for hyper-parameters: train often and briefly, say what works best, what to doubt and where to look next.

Options of training and model take ranges: LOW:HIGH, drawn uniformly, or in log scale for lr and weight-decay; or
A,B,C, a choice. Without a range, lr (1e-5 to 1) and weight-decay (1e-6 to 1e-2) are searched.

examples:
  fastnn search --data mnist --model mlp --trials 20 --epochs 2
  fastnn search --range lr=1e-4:1 --range dropout=0:0.5 --range optimizer=sgd,adam --strategy tpe
  fastnn search --data mnist --storage mnist.journal --trials 50 --dask tcp://10.0.0.1:8786
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fastnn.commands import options
from fastnn.commands.options import literal, number, whole

LOG = ("lr", "weight_decay")
USUAL = {"lr": (1e-5, 1.0), "weight_decay": (1e-6, 1e-2)}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    options.add_data(parser, "spirals")
    options.add_model(parser)
    options.add_training(parser)
    add("--range", type=_range, action="append", default=[], metavar="NAME=RANGE", dest="ranges",
        help="what to search: NAME=LOW:HIGH or NAME=A,B,C; may be given several times")  # fmt: skip
    add("--strategy", choices=("random", "grid", "tpe"), default="random", help="(default: random)")
    add("--trials", type=whole(), default=20, metavar="N", help="how many points to try (default: 20)")
    add("--epochs", type=whole(), metavar="N", help="of each trial (default: a tenth of a training run's)")
    add("--measure", choices=("loss", "accuracy"), default="accuracy", help="of the validation set (default: accuracy)")
    add("--samples", type=whole(), metavar="N", help="train on so many samples only")
    add("--validation", type=number(0.01, 0.9), default=0.1, metavar="SHARE", help="share to judge on (default: 0.1)")
    add("--seed", type=whole(0), default=0, metavar="N", help="(default: 0)")
    add("--processes", type=whole(), metavar="N", help="trials at a time (default: one a core)")
    add("--dask", metavar="ADDRESS", help="run the trials on this cluster of Dask, by its scheduler's address")
    add("--storage", type=Path, metavar="FILE", help="keep the search there, and go on with it")
    add("--pruning", action=argparse.BooleanOptionalAction, default=True, help="end hopeless trials early (default)")
    add("--out", type=Path, metavar="DIR", help="folder for results and plots (default: ./fastnn-search-<date>-<time>)")
    add("--quiet", action="store_true", help="print the last lines only")


def _range(text: str) -> tuple[str, Any]:
    """NAME=LOW:HIGH or NAME=A,B,C."""
    name, equals, value = text.partition("=")
    name = name.replace("-", "_")
    low, colon, high = value.partition(":")
    if not equals or not name.isidentifier() or not value:
        raise argparse.ArgumentTypeError(f"{text}; expected NAME=LOW:HIGH or NAME=A,B,C")
    if not colon:
        return name, [literal(part) for part in value.split(",")]
    ends = literal(low), literal(high)
    if not all(isinstance(end, (int, float)) and not isinstance(end, bool) for end in ends):
        raise argparse.ArgumentTypeError(f"{text}; expected two numbers, LOW:HIGH")
    return name, ends


def run(args: argparse.Namespace) -> int:
    """Search."""
    from fastnn.commands import trials

    space = _space(args)
    job, epochs = trials.job(args, space)
    if not args.quiet:
        ranges = ", ".join(f"{name} {each}" for name, each in space.items())
        print(f"{args.trials} trials of {epochs} epochs by {args.strategy} search: {ranges}", flush=True)

    def tell(record: Any, finished: int, wanted: int) -> None:
        from fastnn.train.search.study import value_text

        values = ", ".join(f"{name} {value_text(value)}" for name, value in record.parameters.items())
        came = f"{args.measure} {record.value:.4g}" if record.value is not None else f"{record.state}: {record.reason}"
        print(f"{finished:>{len(str(wanted))}}/{wanted}  {values}  {came}  {record.seconds:.1f} s", flush=True)

    with options.output_folder(args.out, "search") as folder:
        try:
            study = _searched(args, job, space, () if args.quiet else (tell,))
        except KeyboardInterrupt:
            kept = args.storage
            again = f"the same command goes on with {kept}" if kept else "with --storage FILE it can go on"
            print(f"interrupted; {again}", file=sys.stderr)
            return 130
        return _report(study, folder)


def _searched(args: argparse.Namespace, job: Any, space: dict[str, Any], callbacks: tuple[Any, ...]) -> Any:
    from fastnn.train.search import search

    with _executor(args.dask) as executor:
        return search(
            job,
            space,
            strategy=args.strategy,
            trials=args.trials,
            processes=args.processes,
            executor=executor,
            storage=args.storage,
            pruning=args.pruning,
            seed=args.seed,
            direction="maximize" if args.measure == "accuracy" else "minimize",
            callbacks=callbacks,
        )


def _report(study: Any, folder: Path) -> int:
    from fastnn.train.search import plots, search

    print(*study.summary(), sep="\n")
    if not study.complete:
        return 1
    finer = ", ".join(f"{name} {each}" for name, each in search.refine(study).items())
    print(f"Where to look next, more finely: {finer}.")
    (folder / "search.json").write_text(json.dumps(study.as_dict(), indent=1) + "\n", encoding="utf-8")
    written = [folder / "search.json"]
    with contextlib.suppress(ImportError):
        written += plots.draw(study, folder)
    print(f"Written: {', '.join(map(str, written))}")
    return 0


def _space(args: argparse.Namespace) -> dict[str, Any]:
    """The ranges given, or the usual ones."""
    from fastnn.train.search import search

    given = dict(args.ranges) or {name: ends for name, ends in USUAL.items() if getattr(args, name) is None}
    if not given:
        raise ValueError("there is nothing to search: lr and weight-decay are given, and no --range")
    space: dict[str, Any] = {}
    for name, values in given.items():
        if isinstance(values, list):
            space[name] = search.choice(values)
        elif all(isinstance(end, int) for end in values) and name not in LOG:
            space[name] = search.integer(*values)
        else:
            make = search.loguniform if name in LOG else search.uniform
            space[name] = make(*map(float, values))
    return space


@contextlib.contextmanager
def _executor(address: str | None) -> Iterator[Any]:
    """A cluster's client, or None."""
    if address is None:
        yield None
        return
    from fastnn.optional import need

    distributed = need("distributed", "--dask", "search")
    try:
        client = distributed.Client(address, timeout="10s")
    except (OSError, TimeoutError, ValueError) as error:
        raise ValueError(f"--dask: cannot reach a scheduler at {address}: {error}") from None
    with client:
        yield client
