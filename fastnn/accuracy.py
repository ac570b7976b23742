"""Accuracy certificates: what `fastnn certify` has measured, as data, as a table, and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from fastnn.table import OPS

COMMITTED = Path(__file__).with_name("certificate.json")


@dataclass(frozen=True, slots=True)
class Record:
    """The accuracy of one pass of one op, in one dtype and one implementation.

    Errors are in ULP where the exact result is a normal number, in units of the smallest normal number below that, and
    relative to |dy| near a zero of the derivative. float16 and bfloat16 are compared with the rounded float32 result,
    so for them only `mismatches` counts.
    """

    op: str
    direction: str  # "forward", "backward", or "backward alpha": the gradient of the learned parameter
    dtype: str
    implementation: str  # backend and, for native, the instruction set
    patterns: int
    exhaustive: bool  # every float32 there is
    max_ulp: float
    at: float | None = None
    params: tuple[float, ...] = ()
    dy: float | None = None
    exact: float | None = None
    got: float | None = None
    promise: float | None = None  # None: reported without a promise
    subnormal: float = 0.0
    near_zero: float = 0.0
    near_zero_promise: float = 0.0
    mismatches: int = 0  # wrong NaN, infinity, sign of zero, or rounding to a half
    mismatch_at: float | None = None

    @property
    def ok(self) -> bool:
        """Is every promise kept?"""
        if self.promise is None:
            return self.mismatches == 0
        return (
            self.max_ulp <= self.promise
            and self.subnormal <= 1.0
            and self.near_zero <= self.near_zero_promise
            and self.mismatches == 0
        )


@dataclass(frozen=True, slots=True)
class Certificate:
    """Records, and the circumstances they were measured in."""

    header: dict[str, Any]
    records: tuple[Record, ...]

    @property
    def ok(self) -> bool:
        """Does every record keep its promise?"""
        return all(record.ok for record in self.records)

    def select(self, op: str) -> Certificate:
        """The records of one op."""
        return Certificate(self.header, tuple(record for record in self.records if record.op == op))

    def worst(
        self, op: str, direction: str = "forward", dtype: str = "float32", backend: str = "native"
    ) -> float | None:
        """The largest error in ULP over a backend's instruction sets, or None if it was not measured."""
        errors = [
            record.max_ulp
            for record in self.records
            if (record.op, record.direction, record.dtype) == (op, direction, dtype)
            and record.implementation.split()[0] == backend
        ]
        return max(errors, default=None)

    def __str__(self) -> str:
        """A table."""
        return "\n".join([*_header_lines(self.header), *_table(self.records)])

    def __repr__(self) -> str:
        """The table, so that an interactive session shows it."""
        return str(self)

    def save(self, path: Path) -> None:
        """Write JSON, one record a line."""
        lines = ",\n".join(json.dumps(_sparse(record), separators=(",", ":")) for record in self.records)
        header = json.dumps(self.header, indent=1)
        path.write_text(f'{{"header": {header},\n"records": [\n{lines}\n]}}\n', encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Certificate:
        """Read what `save` wrote."""
        data = json.loads(path.read_text(encoding="utf-8"))
        records = (Record(**{**entry, "params": tuple(entry.get("params", ()))}) for entry in data["records"])
        return cls(data["header"], tuple(records))


def accuracy(name: str | None = None) -> Certificate:
    """Return the committed accuracy certificate of one op, or of all.

    It shows as a table: the largest error in ULP of every pass, dtype and implementation, where it occurs, and how many
    arguments were tried. `fastnn certify` measures the same on this machine.
    """
    if name is not None and name not in OPS:
        raise ValueError(f"accuracy: name must be one of {', '.join(OPS)}; got {name!r}")
    if not COMMITTED.exists():
        hint = "`fastnn certify --exhaustive --write` makes it"
        raise FileNotFoundError(f"accuracy: {COMMITTED.name} is not installed; {hint}")
    certificate = Certificate.load(COMMITTED)
    return certificate if name is None else certificate.select(name)


def _sparse(record: Record) -> dict[str, Any]:
    """The fields that differ from their defaults."""
    defaults = {field.name: field.default for field in fields(Record)}
    return {key: value for key, value in asdict(record).items() if value != defaults[key]}


def _header_lines(header: dict[str, Any]) -> Iterable[str]:
    return [f"{key}: {value}" for key, value in header.items()]


_COLUMNS = ("op", "pass", "dtype", "implementation", "max ULP", "at", "exact", "patterns", "promise", "")


def _table(records: Iterable[Record]) -> list[str]:
    rows = [_COLUMNS, *map(_row, records)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS))]
    left = {0, 1, 2, 3, len(_COLUMNS) - 1}
    return [
        "  ".join(
            cell.ljust(width) if column in left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _row(record: Record) -> tuple[str, ...]:
    half = record.dtype in ("float16", "bfloat16")
    at = "" if record.at is None else f"{record.at:.9g}"
    if record.at is not None and record.params:
        at += " (" + ", ".join(f"{value:g}" for value in record.params) + ")"
    return (
        record.op,
        record.direction,
        record.dtype,
        record.implementation,
        "rounded" if half else f"{record.max_ulp:.3f}" if record.max_ulp < 1e4 else f"{record.max_ulp:.3g}",
        at,
        "" if record.exact is None else f"{record.exact:.9g}",
        f"{record.patterns:,}" + (" (all)" if record.exhaustive else ""),
        "-" if half or record.promise is None else f"{record.promise:g}",
        "ok" if record.ok else "FAIL: " + _reason(record),
    )


def _reason(record: Record) -> str:
    reasons = []
    if record.promise is not None and record.max_ulp > record.promise:
        reasons.append("ULP")
    if record.subnormal > 1.0:
        reasons.append(f"subnormal results {record.subnormal:.3g} smallest normals off")
    if record.near_zero > record.near_zero_promise:
        reasons.append(f"{record.near_zero:.3g} absolute near a zero of the derivative")
    if record.mismatches:
        where = "" if record.mismatch_at is None else f", as at {record.mismatch_at:.9g}"
        reasons.append(f"{record.mismatches} mismatches{where}")
    return "; ".join(reasons)
