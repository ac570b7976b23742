"""The commands that train and use networks: `fastnn train`, `evaluate`, `predict`, `search`, `export`.

What they import, they import when they run: the command line itself must start quickly.
"""

from __future__ import annotations

import argparse
from types import ModuleType

from fastnn.commands import evaluate, export, predict, search, train

COMMANDS: tuple[tuple[str, ModuleType, str], ...] = (
    ("train", train, "train a network on MNIST, CIFAR-10, generated points or data of your own"),
    ("evaluate", evaluate, "loss and accuracy of a trained network"),
    ("predict", predict, "what a trained network sees in image files"),
    ("search", search, "search for hyper-parameters"),
    ("export", export, "write a network as one C file, as ONNX, or as a session"),
)


def add_parsers(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the commands and their options."""
    for name, module, text in COMMANDS:
        parser = commands.add_parser(
            name, help=text, description=module.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        module.add_arguments(parser)
        parser.set_defaults(run=module.run)
