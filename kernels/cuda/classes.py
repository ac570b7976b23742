"""How kernels over arrays (outer, classes, inner) are launched: see classes.cuh."""

from __future__ import annotations

from typing import Any

from fastnn.kernels.cuda.compiler import Family, blocks_for, launch, launch_rows

_ROW_FROM = 65  # classes from which a block takes a row


def expressions(*kernels: str) -> tuple[str, ...]:
    """Kernels whose last parameter says whether a block takes a row."""
    return tuple(f"{kernel}, {rows}>" for kernel in kernels for rows in ("false", "true"))


def launch_columns(family: Family, kernel: str, like: Any, *args: Any) -> None:
    """Start a kernel over the columns of arrays like this one; their shape is passed last."""
    outer, classes, inner = like.shape
    rows = inner == 1 and classes >= _ROW_FROM
    found = family.kernel(f"{kernel}, {'true' if rows else 'false'}>", like.dtype)
    if rows:
        threads = 32 * max(1, min(16, classes // 512))
        launch_rows(found, outer, *args, outer, classes, inner, threads=threads)
    else:
        threads = 32 * min(4, -(-outer * inner // 32))
        launch(found, blocks_for(outer * inner, threads), *args, outer, classes, inner, threads=threads)
