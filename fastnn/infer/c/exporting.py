"""A session as one C99 file: `session.export_c(path)`."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

import numpy as np

from fastnn.infer.c.library import ordered
from fastnn.infer.c.program import TYPES, Program
from fastnn.infer.c.steps import LAST_BITS, STEPS
from fastnn.infer.c.writer import Writer
from fastnn.nn.serialization import write_atomically

if TYPE_CHECKING:
    from fastnn.infer.session import Session

    FilePath = str | os.PathLike[str]

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,39}")


def export_c(
    session: Session, path: FilePath, *, name: str | None = None, header: FilePath | None = None, notes: str = ""
) -> None:
    """See Session.export_c."""
    where = os.fspath(path)
    name = identifier(os.path.basename(where)) if name is None else name
    if not isinstance(name, str):
        raise TypeError(f"export_c: name is a {type(name).__name__}; expected a text")
    if not _NAME.fullmatch(name):
        raise ValueError(f"export_c: name is {name!r}; expected a letter, then at most 39 letters, digits and _")
    files = sources(session, name, notes)
    write_atomically(where, files[0].encode())
    if header is not None:
        write_atomically(header, files[1].encode())


def identifier(file: str) -> str:
    """A name in C made of the name of a file."""
    name = re.sub(r"[^A-Za-z0-9_]+", "_", file.partition(".")[0]).strip("_")[:40]
    return name if _NAME.fullmatch(name) else f"model_{name}"[:40].rstrip("_")


def sources(session: Session, name: str, notes: str = "") -> tuple[str, str]:
    """The texts of the file and of its header."""
    graph = session._plan
    if graph.dtype.name not in ("float32", "float64"):
        raise TypeError(f"export_c: the session is in {graph.dtype}; expected float32 or float64: compile(dtype=...)")
    unknown = sorted({step.op for step in graph.steps} - STEPS.keys())
    if unknown:
        raise ValueError(f"export_c: there is no C for steps {', '.join(unknown)}")
    batch = session.batch or 1
    program = Writer(graph, batch).write(STEPS)
    begins, size = program.planned()
    about = _about(session, name, program, size, notes)
    return _file(session, name, program, begins, size, about), _header(session, name, size, about)


def _shape(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def _comment(text: str) -> str:
    """What may stand in a comment, whatever the model's modules are called."""
    return re.sub(r"[^A-Za-z0-9_.,:;()=+#> -]", "_", text)


def _about(session: Session, name: str, program: Program, size: int, notes: str) -> str:
    batch, kind = session.batch or 1, program.real
    inputs = _shape((*(() if batch == 1 else (batch,)), *session.input_shape))
    outputs = _shape((*(() if batch == 1 else (batch,)), *session.output_shape))
    apart = [str(number) for number, step in enumerate(session._plan.steps, 1) if step.op in LAST_BITS]
    numbers = ", #".join(apart)
    except_for = f"\n   Only of #{numbers} last bits differ, in which sums run in another order." if apart else ""
    steps = "\n".join(f"     {_comment(each.title)}" for each in program.operations if each.title[:1] == "#")
    upper, said = name.upper(), "".join(f"   {_comment(line)}\n" for line in notes.splitlines())
    said += "\n" if said else ""
    return f"""   A neural network, written by fastnn: do not edit, export it again.

     void {name}_run(const {kind} *x, {kind} *y, void *workspace);
         x: {inputs}, y: {outputs}, both in rows as in C, apart from each other; workspace: {upper}_WORKSPACE bytes,
         aligned for double, of any content, NULL if that is 0.
     void {name}_sizes(size_t sizes[3]);
         sizes: the elements of x and of y, and the bytes of the workspace, as {upper}_INPUTS, {upper}_OUTPUTS and
         {upper}_WORKSPACE say it.

   It allocates nothing, keeps no state, and needs the C library's math functions at most. Both functions may be called
   by any number of threads at a time; each needs a workspace of its own.

   Results are those of the fastnn session, bit for bit, from any compiler that keeps to IEEE arithmetic, which
   -ffast-math does not.{except_for}
   For speed let the processor fuse multiplication and addition: on x86-64 compile with
       cc -std=c99 -O3 -mavx2 -mfma -c {name}.c
   and link with -lm; aarch64 needs no such flag. Without such an instruction fmaf of the C library does it, slowly; for
   such targets FASTNN_NO_FMA rounds products of weights before they are added, whose results differ in the last bits.

{said}   Constants: {program.constant_bytes:,} bytes. Workspace: {size:,} bytes. Steps:
{steps}
"""


def _declarations(session: Session, name: str, size: int) -> str:
    batch, kind, upper = session.batch or 1, TYPES[session.dtype.name], name.upper()
    inputs, outputs = (batch * int(np.prod(shape)) for shape in (session.input_shape, session.output_shape))
    return f"""#define {upper}_INPUTS {inputs}
#define {upper}_OUTPUTS {outputs}
#define {upper}_WORKSPACE {size}

#ifdef __cplusplus
extern "C" {{
#endif
void {name}_sizes(size_t sizes[3]);
void {name}_run(const {kind} *x, {kind} *y, void *workspace);
#ifdef __cplusplus
}}
#endif
"""


def _header(session: Session, name: str, size: int, about: str) -> str:
    guard = f"FASTNN_{name.upper()}_H"
    declarations = _declarations(session, name, size)
    return f"/*\n{about}*/\n#ifndef {guard}\n#define {guard}\n\n#include <stddef.h>\n\n{declarations}\n#endif\n"


def _file(session: Session, name: str, program: Program, begins: dict[str, int], size: int, about: str) -> str:
    batch, kind, upper = session.batch or 1, program.real, name.upper()
    arrays = [
        f"{TYPES[program.arrays[each].dtype]} *const {each} = "
        f"({TYPES[program.arrays[each].dtype]} *)(void *)(memory + {begin});"
        for each, begin in begins.items()
    ]
    deep = "  " if batch == 1 else "    "
    arrays = [f"{deep}{line}" for line in arrays]
    steps: list[str] = []
    for operation in program.operations:
        if operation.title:
            steps += [f"{deep}}}"] * bool(steps) + [f"{deep}/* {_comment(operation.title)} */", f"{deep}{{"]
        steps += [f"{deep}  {line}" for line in operation.lines]
    steps += [f"{deep}}}"] * bool(steps)
    pieces = "\n".join(piece.text for piece in ordered(program.pieces))
    constants = "\n".join(program.constants)
    body = "\n".join([*arrays, *steps])
    if batch > 1:
        step = f"x += {upper}_INPUTS / {batch}, y += {upper}_OUTPUTS / {batch}"
        body = f"  for (size_t sample = 0; sample < {batch}; ++sample, {step}) {{\n{body}\n  }}"
    memory = "char *const memory = (char *)workspace;" if arrays else "(void)workspace;"
    return f"""/*
{about}*/

#include <float.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__FAST_MATH__)
#error "{name}: -ffast-math breaks the formulas; compile without it"
#endif
#if FLT_EVAL_METHOD == 1 || FLT_EVAL_METHOD == 2
#error "{name}: floats must be computed as floats; on x86 compile with -msse2 -mfpmath=sse"
#endif
#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#elif defined(__GNUC__)
#pragma GCC optimize("fp-contract=off", "no-trapping-math")
#endif

{_declarations(session, name, size)}
{pieces}
{constants}
void {name}_sizes(size_t sizes[3]) {{
  sizes[0] = {upper}_INPUTS;
  sizes[1] = {upper}_OUTPUTS;
  sizes[2] = {upper}_WORKSPACE;
}}

void {name}_run(const {kind} *x, {kind} *y, void *workspace) {{
  {memory}
{body}
}}
"""
