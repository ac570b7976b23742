"""The result as one HTML page that needs nothing else: plots embedded, tables sortable, light and dark."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path

from .plots import PLOTS
from .prose import ACCURACY, CLAIM, CLAIM_NOTE, FUNCTIONS, INTRODUCTION, METHOD, TABLES
from .results import Result
from .rows import (
    PREFIX,
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
from .style import CSS, SCRIPT
from .verdicts import held

Drawn = Mapping[str, Mapping[str, Path]]
GRADES = {None: "", True: "good", False: "bad"}


def page(result: Result, drawn: Drawn) -> str:
    machine = result["machine"]
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>fastnn bench, {escape(machine['date'][:10])}</title><style>{CSS}</style></head><body>",
        *_head(result),
        *_claim(result, drawn),
        *_overview(result, drawn),
        *_targets(result),
        *_functions(result),
        *_tables(result),
        *_figure("sizes", drawn),
        *_accuracy(drawn),
        *_method(result),
        f"<script>{SCRIPT}</script></body></html>",
    ]
    return "\n".join(parts)


def _paragraphs(sentences: Iterable[str]) -> list[str]:
    return [f"<p>{escape(sentence)}</p>" for sentence in sentences]


def _head(result: Result) -> list[str]:
    machine, threads = result["machine"], result["settings"]["threads"]
    caches = ", ".join(f"{name} {size}" for name, size in machine["caches"].items())
    facts = [
        machine["cpu"],
        f"{machine['cores']} usable core{'s' * (machine['cores'] != 1)}",
        f"instruction set {machine['instruction_set']}",
        caches,
        f"{threads} thread{'s' * (threads != 1)} for every library",
        machine["date"].replace("T", " "),
        f"commit {machine['commit'][:12]}{'+' * machine['commit'].endswith('+')}" if machine["commit"] else "",
    ]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    return [
        "<h1>fastnn bench</h1>",
        INTRODUCTION,
        f'<p class="faint">{escape(" · ".join(fact for fact in facts if fact))}<br>{escape(versions)}</p>',
        *(f'<div class="warning">{escape(warning)}</div>' for warning in result["warnings"]),
        *(f'<p class="faint">Left out: {escape(name)}: {escape(why)}</p>' for name, why in result["absent"].items()),
        '<nav><a href="#c1">Sigmoid against ReLU</a><a href="#overview">Overview</a><a href="#targets">Targets</a>'
        '<a href="#functions">Functions</a><a href="#tables">Activations</a><a href="#accuracy">Accuracy</a>'
        '<a href="#method">How it was measured</a></nav>',
    ]


def _figure(name: str, drawn: Drawn) -> list[str]:
    if name not in drawn:
        return []

    def data(path: Path) -> str:
        return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode("ascii")

    light, dark = drawn[name]["light"], drawn[name]["dark"]
    return [
        f'<figure><picture><source srcset="{data(dark)}" media="(prefers-color-scheme: dark)">'
        f'<img src="{data(light)}" alt="{escape(PLOTS[name][0])}"></picture></figure>'
    ]


def _claim(result: Result, drawn: Drawn) -> list[str]:
    claim = result["c1"]
    if not claim:
        return []
    body = []
    for row in sorted(claim["rows"], key=lambda row: float(row["sigmoid"]["median_s"])):
        relu, sigmoid = (1e6 * row[name]["median_s"] for name in ("relu", "sigmoid"))
        mark = " (NumPy's)" if row["relu_is_numpys"] else ""
        style = ' class="ours"' if row["library"].startswith(PREFIX) else ""
        body.append(
            f"<tr{style}><td>{escape(row['library'])}</td>{_cell(relu, f'{relu:,.0f}{mark}')}"
            f"{_cell(sigmoid, f'{sigmoid:,.0f}')}{_cell(row['ratio'], format(row['ratio'], '.2f'))}</tr>"
        )
    return [
        '<h2 id="c1">Is sigmoid three times slower than ReLU?</h2>',
        CLAIM,
        *_paragraphs(claim["verdict"]),
        *_figure("c1", drawn),
        '<div class="scroll"><table class="sortable"><thead><tr><th>library</th><th>ReLU, µs</th><th>sigmoid, µs</th>'
        f"<th>sigmoid / ReLU</th></tr></thead><tbody>{''.join(body)}</tbody></table></div>",
        CLAIM_NOTE.format(size=claim["size"], floor=1e6 * claim["floor"]["median_s"]),
    ]


def _overview(result: Result, drawn: Drawn) -> list[str]:
    return [
        '<h2 id="overview">Everything at a glance</h2>',
        *_paragraphs(summary(result)),
        *_figure("speedup", drawn),
        *_figure("functions", drawn),
    ]


def _targets(result: Result) -> list[str]:
    found = held(result)
    if not found:
        return []
    body = [
        f'<tr><td>{escape(one.name)}</td><td class="left">{escape(one.target.label)}</td>'
        f'<td class="left">{escape(one.against)}</td>'
        f"{_cell(one.ratio, '-' if one.ratio is None else f'{one.ratio:.2f}')}"
        f"{_cell(one.target.limit, f'{one.target.limit:g}')}"
        f'<td class="left {GRADES[one.met]}">{one.short}</td>'
        f'<td class="left wrap">{escape(one.reason)}</td></tr>'
        for one in found
    ]
    heads = _heads(("function", "shape", "against", "ratio", "target", "", "why"), left=(1, 2, 5, 6))
    return [
        '<h2 id="targets">Targets</h2>',
        '<p class="faint">Set beforehand, for one thread: fastnn\'s time over that of the named library.</p>',
        _sortable(heads, body),
    ]


def _functions(result: Result) -> list[str]:
    found = function_rows(result)
    if not found:
        return []
    parts = ['<h2 id="functions">Functions</h2>', FUNCTIONS]
    for (dtype, family), group in families(found):
        parts.append(f"<details open><summary>{escape(family)}, {escape(dtype)}</summary>")
        parts += [_family_table(group), "</details>"]
    return parts


def _family_table(group: list[Row]) -> str:
    names = list(dict.fromkeys(name for row in group for name in row.contenders))
    others = [name for name in names if name != group[0].ours]
    mine = ("fastnn µs", "rate", "of copy", "error, ULP", "memory")
    head = ["function", "shape", *mine, "best rival", "its µs", "its ULP", "ratio"]
    heads = _heads((*head, *others), left=(1,), edge=len(head))
    body = []
    for row in group:
        ours = row.contenders.get(row.ours)
        line = [f'<td>{escape(row.op)}</td><td class="left">{escape(row.label)}</td>']
        if ours:
            line += [
                _cell(ours["median_s"], us_text(ours["median_s"]), "ours"),
                _cell(ours.get("gflop_per_s", ours["gb_per_s"]), rate_text(ours)),
                _cell(ours["share_of_copy"], f"{ours['share_of_copy']:.0%}"),
            ]
        else:
            line += [_cell(None, "-")] * 3
        beyond = ours.get("beyond_bytes") if ours else None
        line += [_error(row, row.ours), _cell(beyond, bytes_text(beyond))]
        line += [
            f"<td>{escape(row.best or '-')}</td>",
            _microseconds(row, row.best),
            _error(row, row.best),
            _ratio(row),
        ]
        line += [_microseconds(row, name, "edge" if name == others[0] else "") for name in others]
        body.append(f"<tr>{''.join(line)}</tr>")
    return _sortable(heads, body)


def _tables(result: Result) -> list[str]:
    found = rows(result)
    if not found:
        return []
    parts = ['<h2 id="tables">Activations</h2>', TABLES]
    for (dtype, size, direction), group in groups(found):
        opened = " open" if size == main_size(found) else ""
        parts.append(f"<details{opened}><summary>{direction}, {size:,} x {escape(dtype)}</summary>")
        parts += [_table(group), "</details>"]
    return parts


def _heads(names: Iterable[str], left: Iterable[int] = (), edge: int | None = None) -> str:
    def style(index: int) -> str:
        return ' class="left"' if index in left else ' class="edge"' if index == edge else ""

    return "".join(f"<th{style(index)}>{escape(name)}</th>" for index, name in enumerate(names))


def _sortable(heads: str, body: Iterable[str]) -> str:
    return (
        f'<div class="scroll"><table class="sortable"><thead><tr>{heads}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def _ratio(row: Row) -> str:
    ratio = row.ratio
    grade = "" if ratio is None or 0.98 <= ratio <= 1.02 else "good" if ratio < 1 else "bad"
    return _cell(ratio, "-" if ratio is None else f"{ratio:.2f}", grade)


def _microseconds(row: Row, name: str | None, style: str = "") -> str:
    timing = row.contenders.get(name) if name else None
    return _cell(timing["median_s"], us_text(timing["median_s"]), style) if timing else _cell(None, "-", style)


def _cell(value: float | None, text: str, style: str = "") -> str:
    shown = "" if value is None or math.isinf(value) else repr(float(value))
    return f'<td data-value="{shown}"{f" class={style!r}" if style else ""}>{escape(text)}</td>'


def _error(row: Row, name: str | None) -> str:
    error = row.errors.get(name) if name else None
    if error is None:
        return _cell(None, "-")
    both = ulp_text(error.sample) if error.stress is None else f"{ulp_text(error.sample)} / {ulp_text(error.stress)}"
    return _cell(error.worst, both)


def _table(group: list[Row]) -> str:
    names = list(dict.fromkeys(name for row in group for name in row.contenders))
    others = [name for name in names if name != group[0].ours]
    head = ["op", "fastnn ns", "GB/s", "of copy", "ULP", "best rival", "its ns", "its ULP", "ratio", *others]
    heads = _heads(head, edge=len(head) - len(others))
    body = []
    for row in group:
        ours = row.contenders.get(row.ours)
        line = [f"<td>{escape(row.op)}</td>"]
        if ours:
            line += [
                _cell(ours["ns_per_element"], ns_text(ours["ns_per_element"]), "ours"),
                _cell(ours["gb_per_s"], f"{ours['gb_per_s']:.1f}"),
                _cell(ours["share_of_copy"], f"{ours['share_of_copy']:.0%}"),
            ]
        else:
            line += [_cell(None, "-")] * 3
        line += [
            _error(row, row.ours),
            f"<td>{escape(row.best or '-')}</td>",
            _time(row, row.best),
            _error(row, row.best),
            _ratio(row),
        ]
        line += [_time(row, name, "edge" if name == others[0] else "") for name in others]
        body.append(f"<tr>{''.join(line)}</tr>")
    return _sortable(heads, body)


def _time(row: Row, name: str | None, style: str = "") -> str:
    timing = row.contenders.get(name) if name else None
    if timing is None:
        return _cell(None, "-", style)
    return _cell(timing["ns_per_element"], ns_text(timing["ns_per_element"]), style)


def _accuracy(drawn: Drawn) -> list[str]:
    if "accuracy" not in drawn:
        return []
    return ['<h2 id="accuracy">Accuracy and speed together</h2>', ACCURACY, *_figure("accuracy", drawn)]


def _method(result: Result) -> list[str]:
    text = METHOD.format(threads=result["settings"]["threads"], seconds=result["seconds"])
    return ['<h2 id="method">How it was measured</h2>', text]
