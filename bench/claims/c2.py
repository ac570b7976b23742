"""Claim C2: "on a GPU all non-linearities take about the same time, because moving the data dominates".

Every activation and dropout, forward and backward, on arrays far larger than the cache, beside a copy of as many bytes.
All sentences are made from the figures of a run; without one there is one sentence, "not measured".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

OURS = "fastnn"
PASSES = ("forward", "backward")
NEAR = 1.05  # slowest over fastest, in traffic: "about the same time"
SHARE = 0.9  # of the copy's bandwidth: "moving the data dominates"
NOT_MEASURED = "not measured"


def figures(results: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]] | None:
    """A row for each elementwise op, pass and dtype that fastnn was measured in; None where it was in none."""
    rows = [
        {
            "op": cell["op"],
            "pass": cell["pass"],
            "dtype": cell["dtype"],
            "size": cell["size"],
            "bytes": cell["bytes"],
            "copy_s": cell["copy"]["median_s"],
            "median_s": cell["contenders"][OURS]["median_s"],
            "share_of_copy": cell["contenders"][OURS]["share_of_copy"],
        }
        for cell in results
        if cell["family"] == "elementwise" and OURS in cell["contenders"]
    ]
    return rows or None


def verdict(rows: list[dict[str, Any]] | None, device: str | None = None) -> list[str]:
    """Plain sentences: are all the same, and does memory set their time?"""
    if not rows:
        return [NOT_MEASURED]
    said = []
    for dtype in dict.fromkeys(row["dtype"] for row in rows):
        for way in PASSES:
            found = [row for row in rows if (row["dtype"], row["pass"]) == (dtype, way)]
            if found:
                said.append(_sentence(found, dtype, way, device))
    return said


def holds(rows: list[dict[str, Any]] | None) -> bool | None:
    """Is the claim true of all passes and dtypes? None: not measured."""
    if not rows:
        return None
    keys = {(row["dtype"], row["pass"]) for row in rows}
    return all(_same(group) and _moved(group) for key in keys if (group := _group(rows, *key)))


def _group(rows: list[dict[str, Any]], dtype: str, way: str) -> list[dict[str, Any]]:
    return [row for row in rows if (row["dtype"], row["pass"]) == (dtype, way)]


def _spread(rows: list[dict[str, Any]]) -> float:
    shares = [float(row["share_of_copy"]) for row in rows]
    return max(shares) / min(shares)


def _same(rows: list[dict[str, Any]]) -> bool:
    return _spread(rows) <= NEAR


def _moved(rows: list[dict[str, Any]]) -> bool:
    return min(float(row["share_of_copy"]) for row in rows) >= SHARE


def _sentence(rows: list[dict[str, Any]], dtype: str, way: str, device: str | None) -> str:
    slow, fast = (choose(rows, key=lambda row: float(row["share_of_copy"])) for choose in (min, max))
    same = "take about the same time for their bytes" if _same(rows) else "do not take the same time"
    moved = "and moving the data dominates" if _moved(rows) else "and for some it is not memory that sets the time"
    where = f" on {device}" if device else ""
    return (
        f"{way.capitalize()}, {rows[0]['size']:,} {dtype}{where}: the {len(rows)} functions {same} "
        f"(fastest over slowest {_spread(rows):.2f}), {moved}: from {slow['share_of_copy']:.0%} ({slow['op']}) to "
        f"{fast['share_of_copy']:.0%} ({fast['op']}) of the bandwidth of a copy."
    )
