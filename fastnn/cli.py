"""The command `fastnn`: train, evaluate, predict, search, export; info, bench, certify, randomness."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from fastnn import commands as training


def main(argv: Sequence[str] | None = None) -> int:
    """Run a subcommand; the exit status is 0 for success, 1 for a promise that does not hold, 2 for wrong usage."""
    parser = argparse.ArgumentParser(
        prog="fastnn",
        description="Neural networks for NumPy: train and use them; what is installed, how fast and how exact it is.",
        epilog="examples: fastnn train | fastnn info | fastnn bench --quick | fastnn certify gelu",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    training.add_parsers(commands)
    _add_info(commands)
    _add_bench(commands)
    _add_certify(commands)
    _add_randomness(commands)
    args = parser.parse_args(argv)
    try:
        return int(args.run(args))
    except BrokenPipeError:  # the reader, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ImportError, OSError, TypeError, ValueError) as error:
        print(f"fastnn {args.command}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def _add_info(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("info", help="CPU, instruction sets, backends, threads, BLAS")
    parser.add_argument("--json", action="store_true", help="print JSON")

    def run(args: argparse.Namespace) -> int:
        from fastnn.info import main as info_main

        return info_main(["--json"] if args.json else [])

    parser.set_defaults(run=run)


def _add_bench(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    from fastnn.bench import cli as bench

    parser = commands.add_parser(
        "bench", help="speed, against every installed rival", formatter_class=argparse.RawDescriptionHelpFormatter
    )
    bench.add_arguments(parser)
    parser.set_defaults(run=bench.main)


def _add_certify(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    from fastnn import certify

    parser = commands.add_parser(
        "certify", help="accuracy, over float32 bit patterns", formatter_class=argparse.RawDescriptionHelpFormatter
    )
    certify.add_arguments(parser)
    parser.set_defaults(run=certify.main)


def _add_randomness(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    from fastnn import randomness

    parser = commands.add_parser("randomness", help="statistical tests of the masks of dropout")
    randomness.add_arguments(parser)
    parser.set_defaults(run=randomness.main)


if __name__ == "__main__":
    sys.exit(main())
