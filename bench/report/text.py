"""What the terminal shows when a run is done."""

from __future__ import annotations

from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from .rows import Result, Row, groups, main_size, ns_text, rows, summary, ulp_text


def claim_table(claim: dict[str, Any], threads: int) -> Table:
    table = Table(title=f"C1: sigmoid against ReLU, {claim['size']:,} float32, threads: {threads}")
    table.add_column("library")
    for name in ("ReLU \u00b5s", "sigmoid \u00b5s", "sigmoid / ReLU"):
        table.add_column(name, justify="right")
    for row in sorted(claim["rows"], key=lambda row: float(row["sigmoid"]["median_s"])):
        mark = " (NumPy's)" if row["relu_is_numpys"] else ""
        table.add_row(
            row["library"],
            f"{1e6 * row['relu']['median_s']:,.0f}{mark}",
            f"{1e6 * row['sigmoid']['median_s']:,.0f}",
            f"{row['ratio']:.2f}",
            style="bold" if row["library"].startswith("fastnn ") else "",
        )
    table.add_section()
    table.add_row("np.copyto, the floor", f"{1e6 * claim['floor']['median_s']:,.0f}", "", "")
    return table


def _ratio(row: Row) -> Text:
    if row.ratio is None:
        return Text("-")
    style = "green" if row.ratio < 0.98 else "red" if row.ratio > 1.02 else ""
    return Text(f"{row.ratio:.2f}", style=style)


def op_table(key: tuple[str, int, str], group: list[Row]) -> Table:
    dtype, size, direction = key
    table = Table(title=f"{direction}, {size:,} x {dtype}", box=SIMPLE_HEAD, pad_edge=False, padding=(0, 0, 0, 1))
    table.add_column("op", no_wrap=True)
    for name in ("ns/el.", "GB/s", "copy", "ULP", "best rival", "ns/el.", "ULP", "ratio"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in group:
        ours = row.contenders.get(row.ours)
        theirs = row.contenders[row.best] if row.best else None
        table.add_row(
            row.op,
            *(
                (ns_text(ours["ns_per_element"]), f"{ours['gb_per_s']:.1f}", f"{ours['share_of_copy']:.0%}")
                if ours
                else "---"
            ),
            ulp_text(row.errors[row.ours].worst if row.ours in row.errors else None),
            row.best or "-",
            ns_text(theirs["ns_per_element"]) if theirs else "-",
            ulp_text(row.errors[row.best].worst if row.best in row.errors else None),
            _ratio(row),
        )
    return table


def show(result: Result, console: Console) -> None:
    """The claim and the tables of the main size; the page has the rest."""
    claim = result["c1"]
    console.print(claim_table(claim, result["settings"]["threads"]))
    for sentence in claim["verdict"]:
        console.print(sentence, highlight=False)
    console.print(
        "\nns/el.: nanoseconds per element. copy: share of the bandwidth of np.copyto. ULP: largest error, tails "
        "included. ratio: time over that of the fastest rival.",
        highlight=False,
    )
    found = rows(result)
    for key, group in groups(found):
        if key[1] == main_size(found):
            console.print()
            console.print(op_table(key, group))
    console.print()
    for sentence in summary(result):
        console.print(sentence, highlight=False)
    for name, why in result["absent"].items():
        console.print(f"Left out: {name}: {why}", style="yellow", highlight=False)
    for warning in result["warnings"]:
        console.print(f"Warning: {warning}", style="yellow", highlight=False)
