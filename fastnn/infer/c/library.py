"""Pieces of C: functions and types with what they need, from the C files here and from the formulas."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import NamedTuple

_NUMBERS = {
    "float": {"MANTISSA": "23", "WIDTH": "32", "SIGN": "UINT32_C(0x80000000)", "FOURS": "1"},
    "double": {"MANTISSA": "52", "WIDTH": "64", "SIGN": "UINT64_C(0x8000000000000000)", "FOURS": "0"},
}
_TO_DOUBLE = (  # tables of places stay as they are
    (r"\bfloat\b", "double"),
    (r"(?<!const )\buint32_t\b", "uint64_t"),
    (r"\bfmaf\b", "fma"),
    ("_f32", "_f64"),
    ("_F32", "_F64"),
)
_FORMULAS = {
    "exponential": ("rows", "exponential"),
    "log1p_unit": ("exp", "log1p_unit"),
    "gating_glu_of": ("gating", "_glu_of"),
    "gating_swiglu_of": ("gating", "_swiglu_of"),
}


class Piece(NamedTuple):
    """A definition in C, and those that have to come before it."""

    name: str
    text: str
    needs: tuple[Piece, ...] = ()
    result: str = "float"


def suffix(real: str) -> str:
    """How the functions of a type end."""
    return "f32" if real == "float" else "f64"


def literal(value: float, real: str) -> str:
    """A number exactly: in decimal where that is short, else in hexadecimal."""
    end = "f" if real == "float" else ""
    if math.isnan(value):
        return "NAN"
    if math.isinf(value):
        return "INFINITY" if value > 0 else "-INFINITY"
    if abs(value) < 1e6 and (value * 256).is_integer():
        return repr(value) + end
    digits, _, power = value.hex().partition("p")
    return f"{digits.rstrip('0').rstrip('.')}p{int(power)}{end}"


@cache
def _texts() -> dict[str, str]:
    """The pieces of the C files beside this one, by name."""
    found = {}
    files = [Path(__file__).parent / name for name in ("library.c", "images.c", "quantized.c")]
    for text in [text for file in files for text in file.read_text(encoding="utf-8").split("\n\n")[1:]]:
        code = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL).strip()
        name = re.match(r"(?:#ifdef \w+\n)?#define (\w+)|typedef .*?(\w+);$|static [\w ]+?(\w+)\(", code, re.DOTALL)
        assert name, code
        found[name[1] or name[2] or name[3]] = text.strip() + "\n"
    return found


@cache
def helper(name: str, real: str) -> Piece:
    """A piece of C by its name without the ending for the type; "fma" and "chain" are macros."""
    for title in (f"{name}_f32", f"{name.upper()}_F32", name):
        own = title.replace("32", "64") if real == "double" else title
        if own in _texts():
            return _piece(own, _texts()[own])
        if title in _texts():
            return _piece(own, _texts()[title])
    raise LookupError(name)


def _piece(title: str, text: str) -> Piece:
    """With the numbers in it, and for double made from that for float."""
    from fastnn.infer.c import formulas

    if title.lower().endswith("f64") and title not in text:
        for narrow, wide in _TO_DOUBLE:
            text = re.sub(narrow, wide, text)

    def number(match: re.Match[str]) -> str:
        real = "float" if match[2] == "32" else "double"
        return _NUMBERS[real].get(match[1]) or formulas.constant(match[1].lower(), real) or match[0]

    text = re.sub(r"\b([A-Z0-9_]+)_F(32|64)\b", number, text)
    needs = []
    for word in dict.fromkeys(re.findall(r"\w+", re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL))):
        base, _, bits = word.rpartition("_")
        real = "double" if bits.lower() == "f64" else "float"
        if word == title:
            continue
        if base in _FORMULAS:
            needs.append(formulas.formula(*_FORMULAS[base], real))
        elif base in ("FMA", "CHAIN"):
            needs.append(helper(base.lower(), real))
        elif word in _texts() or f"{base}_f32" in _texts():
            needs.append(helper(base if bits in ("f32", "f64") else word, real))
    return Piece(title, text, tuple(needs), "double" if title.endswith("f64") else "float")


def ordered(pieces: Iterable[Piece]) -> list[Piece]:
    """All that is needed, everything after what it needs."""
    found: dict[str, Piece] = {}

    def add(piece: Piece) -> None:
        if piece.name not in found:
            for each in piece.needs:
                add(each)
            found[piece.name] = piece

    for piece in pieces:
        add(piece)
    return list(found.values())
