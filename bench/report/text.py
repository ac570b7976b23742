"""What the terminal shows when a run is done."""

from __future__ import annotations

from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from .results import Result
from .rows import (
    Row,
    bytes_text,
    families,
    function_rows,
    groups,
    main_size,
    ns_text,
    rate_text,
    rows,
    summary,
    ulp_text,
    us_text,
)
from .verdicts import Held, held


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


def family_table(key: tuple[str, str], group: list[Row]) -> Table:
    dtype, family = key
    table = Table(title=f"{family}, {dtype}", box=SIMPLE_HEAD, pad_edge=False, padding=(0, 0, 0, 1))
    table.add_column("function", overflow="fold")
    table.add_column("shape", overflow="fold")
    for name in ("\u00b5s", "rate", "copy", "ULP", "memory", "best rival", "\u00b5s", "ULP", "ratio"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in group:
        ours = row.contenders.get(row.ours)
        mine: tuple[str, ...] = ("-",) * 3
        if ours:
            mine = us_text(ours["median_s"]), rate_text(ours), f"{ours['share_of_copy']:.0%}"
        table.add_row(
            row.op,
            row.label,
            *mine,
            ulp_text(row.errors[row.ours].worst if row.ours in row.errors else None),
            bytes_text(ours.get("beyond_bytes") if ours else None),
            row.best or "-",
            us_text(row.seconds(row.best)) if row.best else "-",
            ulp_text(row.errors[row.best].worst if row.best in row.errors else None),
            _ratio(row),
        )
    return table


def target_table(found: list[Held]) -> Table:
    table = Table(title="Targets", box=SIMPLE_HEAD, pad_edge=False, padding=(0, 0, 0, 1))
    for name in ("function", "shape", "against"):
        table.add_column(name, overflow="fold")
    for name in ("ratio", "target", ""):
        table.add_column(name, justify="right", no_wrap=True)
    for one in found:
        table.add_row(
            one.name,
            one.target.label,
            one.against,
            "-" if one.ratio is None else f"{one.ratio:.2f}",
            f"{one.target.limit:g}",
            Text(one.short, style={True: "green", False: "red", None: ""}[one.met]),
        )
    return table


LEGEND = """
\u00b5s: microseconds a call; ns/el.: nanoseconds an element. rate: memory moved a second, or arithmetic where that is \
counted. copy: share of the bandwidth of np.copyto. ULP: largest error, counted in the unit that the function promises \
its error in. memory: what a call allocates beyond its results. ratio: time over that of the fastest rival."""


def show(result: Result, console: Console) -> None:
    """The claim, the tables of the activations' main size and of the other functions; the page has the rest."""
    claim = result["c1"]
    if claim:
        console.print(claim_table(claim, result["settings"]["threads"]))
        for sentence in claim["verdict"]:
            console.print(sentence, highlight=False)
    console.print(LEGEND, highlight=False)
    found = rows(result)
    tables = [op_table(key, group) for key, group in groups(found) if key[1] == main_size(found)]
    tables += [family_table(key, group) for key, group in families(function_rows(result))]
    targets = held(result)
    for table in [*tables, *([target_table(targets)] if targets else [])]:
        console.print()
        console.print(table)
    for reason in dict.fromkeys(one.reason for one in targets if one.reason):
        who = ", ".join(one.name for one in targets if one.reason == reason)
        console.print(f"Missed by {who}: {reason}.", highlight=False)
    console.print()
    for sentence in summary(result):
        console.print(sentence, highlight=False)
    for name, why in result["absent"].items():
        console.print(f"Left out: {name}: {why}", style="yellow", highlight=False)
    for warning in result["warnings"]:
        console.print(f"Warning: {warning}", style="yellow", highlight=False)
