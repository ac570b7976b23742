"""Write a network as one C file, as ONNX, or as a session, which is ready to run and needs no code of the model.

MODEL is the folder that `fastnn train` has written or a file in it, a session (session.save), or an ONNX file.
The C file holds the weights, allocates nothing and needs C's own library only; a comment at its top says how to compile
and call it. It takes samples as the training's preprocessing leaves them, which the comment describes too.

examples:
  fastnn export run --c model.c
  fastnn export run --c model.c --header model.h --name digits --onnx model.onnx
  fastnn export run --int8 --session run/int8.session
  fastnn export model.onnx --c model.c --input-shape 3,32,32
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastnn.commands.options import literal, whole

if TYPE_CHECKING:
    from fastnn.infer import Session
    from fastnn.nn import Module


_CALIBRATION = 1024  # samples


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add("model", type=Path, metavar="MODEL", help="a trained model's folder, a session, or an ONNX file")
    add("--c", type=Path, metavar="FILE", help="write a C99 file")
    add("--header", type=Path, metavar="FILE", help="and its declarations, for programs that call it")
    add("--name", metavar="NAME", help="of the functions in the C file: NAME_run, NAME_sizes (default: the file's)")
    add("--onnx", type=Path, metavar="FILE", help="write an ONNX file")
    add("--session", type=Path, metavar="FILE", help="write a session, for fnn.load")
    add("--int8", action="store_true", help="in int8: smaller and faster; calibrated on the data it was trained on")
    add("--folder", type=Path, metavar="DIR", help="with --int8: where the files of mnist or cifar10 are")
    add("--batch", type=whole(), metavar="N", help="samples a call (default: any; in C one)")
    add("--input-shape", type=_shape, metavar="C,H,W", help="of one sample (default: what the model was made for)")
    add("--dtype", choices=("float32", "float64"), help="of input, result and weights (default: the model's)")


def _shape(text: str) -> tuple[int, ...]:
    lengths = tuple(literal(part) for part in text.split(","))
    if not all(type(length) is int and length > 0 for length in lengths):
        raise argparse.ArgumentTypeError(f"{text}; expected lengths such as 1,28,28")
    return lengths


def run(args: argparse.Namespace) -> int:
    """Export."""
    from fastnn.infer import Session, compile

    targets = [path for path in (args.c, args.header, args.onnx, args.session) if path is not None]
    if args.c is None and (args.header is not None or args.name is not None):
        raise ValueError("--header and --name are about a C file; expected --c FILE with them")
    if not targets:
        raise ValueError("nothing to write; expected --c FILE, --onnx FILE or --session FILE")
    if len({path.resolve() for path in (args.model, *targets)}) <= len(targets):
        raise ValueError("two of MODEL, --c, --header, --onnx and --session are the same file")
    model, shape, saved = _read(args)
    notes = "" if saved is None else _described(saved)
    if args.int8 and (saved is None or isinstance(model, Session)):
        raise ValueError(
            f"--int8 needs the folder of a trained model, and the data it was trained on; got {args.model}"
        )
    if args.int8 and (given := [name for name in ("onnx", "dtype") if getattr(args, name) is not None]):
        raise ValueError(f"--int8 is about sessions and C files; got --{given[0]} with it")
    if isinstance(model, Session):
        session = model
        given = [name for name in ("onnx", "batch", "input_shape", "dtype") if getattr(args, name) is not None]
        if given:
            option = f"--{given[0].replace('_', '-')}"
            raise ValueError(f"{args.model} is a session, which is compiled already; {option} needs the model")
    elif args.int8:
        session = _quantized(model, saved, shape, args)
        print(session.report)
    else:
        session = compile(model, shape, args.batch, args.dtype)
        if args.onnx is not None:
            from fastnn import onnx

            onnx.export(model, args.onnx, shape, batch=args.batch or "N")
    if args.c is not None:
        session.export_c(args.c, name=args.name, header=args.header, notes=notes)
    if args.session is not None:
        session.save(args.session)
    print(repr(session))
    for path in targets:
        print(f"{path}: {path.stat().st_size:,} bytes")
    return 0


def _read(args: argparse.Namespace) -> tuple[Module | Session, tuple[int, ...], Any]:
    """A model or a session; the shape of a sample; what is known about it, None for a file that stands alone."""
    from fastnn.commands import store
    from fastnn.infer.module import SessionModule

    path: Path = args.model
    if path.is_dir() or not path.exists() or (path.parent / store.ABOUT).exists():
        saved = store.load(path)
        model = saved.model.session if isinstance(saved.model, SessionModule) else saved.model
        return model, args.input_shape or saved.input_shape, saved
    if path.suffix == ".onnx":
        from fastnn import onnx

        loaded = onnx.load(path)
        shape = args.input_shape or getattr(loaded, "input_shape", None)
        if shape is None:
            raise ValueError(f"{path} leaves the shape of its input open; expected --input-shape, such as 3,224,224")
        return loaded, shape, None
    from fastnn.infer import load

    session = load(path)
    return session, session.input_shape, None


def _quantized(model: Any, saved: Any, shape: tuple[int, ...], args: argparse.Namespace) -> Session:
    """The model in int8, ranges from a thousand samples that it was trained on."""
    from fastnn.commands import datasets
    from fastnn.infer import quantize

    samples = datasets.load(saved.about["data"], args.folder, 0, int(saved.about.get("seed", 0))).train
    some = slice(None, None, max(1, len(samples.x) // _CALIBRATION))  # all over, lest they be sorted
    x = saved.preprocess.transform(samples.x[some]).astype("float32", copy=False)
    return quantize(model, (x, samples.y[some]), shape, args.batch, max_samples=None)


def _described(saved: Any) -> str:
    """The preprocessing and the classes of a trained model, for a reader of C."""
    lines = [f"x is what the training's preprocessing makes of a sample: {saved.preprocess!r}."]
    for name, array in saved.preprocess.state_dict().items():
        if name.endswith("_") and array.size <= 16:
            lines.append(f"{name}: {', '.join(f'{value:.9g}' for value in array.ravel())}")
        elif name.endswith("_"):
            lines.append(f"{name}: {array.size} numbers, in model.json")
    lines.append("Images of bytes are divided by 255 before that. y has a number for each class: "
                 + ", ".join(saved.classes))  # fmt: skip
    return "\n".join(lines)
