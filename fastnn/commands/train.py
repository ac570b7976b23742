"""Train a network and save it, with curves of the run and a report.

Without options it learns generated spirals, in seconds, and draws what it has learned. Every other default goes by data
and model: `fastnn train --data mnist` trains lenet5, `--data cifar10` resnet8, with a recipe known to work.

examples:
  fastnn train
  fastnn train --data mnist --model mlp --folder data
  fastnn train --data cifar10 --model alexnet4 --epochs 5 --activation gelu --checkpoint run
  fastnn train --data mine.npz --option hidden=64,64 --optimizer adam --lr 0.001
  fastnn train --data mnist --check
  fastnn train --data cifar10 --device cuda
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from fastnn.commands import options
from fastnn.commands.options import number, whole


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add, yes_or_no = parser.add_argument, argparse.BooleanOptionalAction
    options.add_data(parser, "spirals")
    options.add_model(parser)
    options.add_training(parser)
    add("--epochs", type=whole(), metavar="N", help="passes over the training set (by data and model)")
    add("--seed", type=whole(0), default=0, metavar="N", help="of weights, order, augmentation, dropout (default: 0)")
    add("--validation", type=number(0, 0.9), default=0.1, metavar="SHARE",
        help="share of the training set to watch the run on, 0 for none (default: 0.1)")  # fmt: skip
    add("--clip-grad-norm", type=number(above=0), metavar="NORM", help="scale gradients down to this norm")
    add("--early-stopping", type=whole(), metavar="N", help="stop after N epochs without improvement, keep the best")
    add("--dtype", choices=("float32", "float64"), default="float32", help="of weights and activations")
    options.add_device(parser)
    options.add_threads(parser)
    add("--checkpoint", type=Path, metavar="DIR", help="save the state there after each epoch, and go on from there")
    add("--resume", action=yes_or_no, default=True, help="go on from the checkpoint, if there is one (default)")
    add("--out", type=Path, metavar="DIR", help="folder for model and plots (default: ./fastnn-train-<date>-<time>)")
    add("--record", type=Path, metavar="FILE", help="add the result to this JSON file, under data and model")
    add("--check", action="store_true", help="only check, in seconds, whether this network can learn this data")
    add("--quiet", action="store_true", help="print the last lines only")


def run(args: argparse.Namespace) -> int:
    """Train; 0 on success, 1 where the run diverged or a check failed."""
    from fastnn.commands import training

    options.limit_threads(args.threads)
    say = _silent if args.quiet else _say
    job = training.prepare(args)
    say(*job.description())
    if args.check:
        report = job.check()
        print(report)
        return 0 if report.ok else 1
    if args.record:
        from fastnn.commands import record

        record.load(args.record)  # what is wrong with it is better said now than after the run
    with options.output_folder(args.out, "train") as folder:
        try:
            result = job.train(args, say)
        except KeyboardInterrupt:
            kept = args.checkpoint
            again = f"the same command goes on from {kept}" if kept else "with --checkpoint DIR a run can go on"
            print(f"interrupted; {again}", file=sys.stderr)
            return 130
        written = job.save(folder, result)
    if not training.on_terminal(args):
        say(*(f"- {finding}" for finding in result.history.findings))
    print(result.sentence)
    say(f"Written: {', '.join(str(path) for path in written)}")
    if args.record:
        record.add(args.record, job, result)
        say(f"Recorded in {args.record}")
    return 1 if result.history.diverged else 0


def _say(*lines: Any) -> None:
    for line in lines:
        print(line, flush=True)


def _silent(*lines: Any) -> None:
    pass
