"""A session's plan as text."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastnn.infer.session import Session


def described(session: Session) -> str:
    """The steps in a table, a line about the whole below it."""
    graph, layout = session._graph, session._layout
    rows = [("step", "modules", "shape", "operations", "weights", "arena")]
    for place, step in enumerate(graph.steps):
        inputs = " ".join("x" if value == 0 else f"#{value}" for value in step.inputs)
        then = "" if step.activation is None or step.op == "activation" else f" + {step.activation[0]}"
        name = str(step.activation[0]) if step.op == "activation" and step.activation else step.op
        size = sum(array.nbytes for array in graph.of(step).values())
        where = layout.values.get(place + 1)
        rows.append(
            (
                f"#{place + 1} {name}{then} ({inputs})",
                ", ".join(step.modules),
                "x".join(map(str, step.shape)) or "()",
                f"{graph.operations(step):,}",
                f"{size:,}",
                "result" if where is None else f"{where:,}",
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            text.ljust(w) if k < 3 else text.rjust(w) for k, (text, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    total = sum(map(graph.operations, graph.steps))
    batch = "any" if session.batch is None else str(session.batch)
    lines.append(
        f"{graph.dtype}, batch {batch}; a sample: {total:,} operations, arena {layout.size:,} bytes "
        f"({layout.unshared:,} without sharing); weights {session.weight_bytes:,} bytes; arena now "
        f"{session.arena_bytes:,} bytes"
    )
    return "\n".join(line.rstrip() for line in lines)
