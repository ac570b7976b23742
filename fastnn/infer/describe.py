"""A session's plan as text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastnn.infer.graph import Step

if TYPE_CHECKING:
    from fastnn.infer.session import Session


def described(session: Session) -> str:
    """The steps in a table, a line about the whole below it.

    A step is what it does, in a few words, and the values it does it with: x, or the number of the step that made them.
    Its shape is (C, H, W) whatever the layout, which is "blocks" where the channels lie in blocks of 16. Operations are
    those of one sample, weights and places in the arena are in bytes.
    """
    graph, layout = session._plan, session._layout
    rows = [("step", "modules", "shape", "layout", "operations", "weights", "arena")]
    for place, step in enumerate(graph.steps):
        inputs = ", ".join("x" if value == 0 else f"#{value}" for value in step.inputs)
        size = sum(array.nbytes for array in graph.of(step).values())
        where = layout.values.get(place + 1)
        shape = step.options.get("y", step.shape)
        rows.append(
            (
                f"#{place + 1} {_words(step)} ({inputs})",
                ", ".join(step.modules),
                "x".join(map(str, shape)) or "()",
                "" if step.op == "unblock" or len(step.shape) < 4 else "blocks",
                f"{graph.operations(step):,}",
                f"{size:,}",
                "result" if where is None else f"{where:,}",
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            text.ljust(w) if k < 4 else text.rjust(w) for k, (text, w) in enumerate(zip(row, widths, strict=True))
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


def _words(step: Step) -> str:
    """What is done, with what has been fused into it."""
    name = step.op.removeprefix("blocked_")
    if step.op == "activation" and step.activation is not None:
        return str(step.activation[0])
    if step.options.get("depthwise"):
        name = "depthwise " + name
    if "kernel" in step.options:
        name += " " + "x".join(map(str, step.options["kernel"]))
        if max(step.options["stride"]) > 1:
            name += "/" + "x".join(map(str, dict.fromkeys(step.options["stride"])))
    if step.op == "blocked_conv" and len(step.inputs) > 1:
        name += " + add"
    if step.activation is not None:
        name += f" + {step.activation[0]}"
    return name + " + max_pool 2x2" * ("sums" in step.options)
