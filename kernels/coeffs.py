"""Fits the coefficients of vmath and writes them down once for C++ and once for Numba.

    python kernels/coeffs.py            prints every fit: interval, number of terms, achieved error
    python kernels/coeffs.py --write    writes include/coefficients.hpp and jit/coefficients.py
    python kernels/coeffs.py --check    fails if those two files are not what --write would write

Adding a fit is one entry in FITS, adding a constant one entry in CONSTANTS. Needs mpmath.
"""

from __future__ import annotations

import argparse
import struct
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from mpmath import matrix, mp, mpf

PRECISION = 180  # bits; the fits reach 2^-60, the linear systems lose some 60 more
BITS = {"float": 24, "double": 53}

Function = Callable[[mpf], mpf]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """A polynomial in z that stands for `target` on [low, high]. Entries of one name make one table.

    `weight` turns the error of the polynomial into the relative error of the function it serves; that product is what
    the exchange levels out. `terms` is the number of coefficients for each scalar type (a type left out has no table);
    with them that error stays below 2^-bits. `fixed` holds leading coefficients that are prescribed.
    """

    name: str
    doc: str
    target: Function
    weight: Function
    low: Callable[[], mpf]
    high: Callable[[], mpf]
    terms: dict[str, int]
    bits: dict[str, float]
    fixed: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Constant:
    """A number, in `parts` pieces named name_hi and name_lo (or plain name); the head keeps `head_bits` bits.

    `value` may differ by scalar type. With `cuts` it comes in pieces name_1, name_2, ... instead: each reaches down to
    2^-cut, one more takes the rest.
    """

    name: str
    value: Callable[[], mpf] | dict[str, float]
    parts: int = 1
    head_bits: dict[str, int] | None = None
    cuts: dict[str, tuple[int, ...]] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """The fraction bits of 0 < value < 1 in words of 32, the highest first, behind `zeros` words of 0."""

    name: str
    doc: str
    value: Callable[[], mpf]
    zeros: int
    count: int


def series_safe(closed: Function, series: Function, near: float = 1e-12) -> Function:
    """`closed`, which cancels at 0, with `series` in its place where |z| < near."""
    return lambda z: series(z) if abs(z) < near else closed(z)


# (exp(r) - 1 - r) / r^2
_exp_tail = series_safe(lambda r: (mp.expm1(r) - r) / r**2, lambda r: mpf(1) / 2 + r / 6 + r * r / 24)
# (tanh(r) - r) / r^3 with z = r^2
_tanh_tail = series_safe(
    lambda z: (mp.tanh(mp.sqrt(z)) / mp.sqrt(z) - 1) / z, lambda z: -mpf(1) / 3 + 2 * z / 15 - 17 * z * z / 315
)
# (log1p(e) - e) / e^2
_log1p_tail = series_safe(lambda e: (mp.log1p(e) - e) / e**2, lambda e: -mpf(1) / 2 + e / 3 - e * e / 4)
# (2 atanh(s) - 2 s) / s^3 with z = s^2
_atanh_tail = series_safe(
    lambda z: 2 * (mp.atanh(mp.sqrt(z)) / mp.sqrt(z) - 1) / z, lambda z: mpf(2) / 3 + 2 * z / 5 + 2 * z * z / 7
)
# (r - sin r) / r^3 and (cos r - 1 + r^2 / 2) / r^4 with z = r^2, on [0, pi / 4] and what a rounded quotient adds to it
_sin_tail = series_safe(
    lambda z: (1 - mp.sin(mp.sqrt(z)) / mp.sqrt(z)) / z, lambda z: mpf(1) / 6 - z / 120 + z * z / 5040
)
_cos_tail = series_safe(
    lambda z: (mp.cos(mp.sqrt(z)) - 1 + z / 2) / z**2, lambda z: mpf(1) / 24 - z / 720 + z * z / 40320
)
_quadrant = lambda: (mp.pi / 4 * mpf("1.001")) ** 2  # noqa: E731

# h(a) with 0.5 erfc(a / sqrt(2)) = exp(-a^2 / 2) h(a), and where gelu's derivative is 0
GAUSSIAN_CENTER = {"float": 3.6875, "double": 5.5}
GAUSSIAN_END = {"float": "13.3", "double": "38.6"}  # gelu has long been subnormal there


def _gaussian_ratio(a: mpf) -> mpf:
    return mp.erfc(a / mp.sqrt(2)) * mp.exp(a * a / 2) / 2


def _gelu_slope(a: mpf) -> mpf:
    return _gaussian_ratio(a) - a / mp.sqrt(2 * mp.pi)


@cache
def _gelu_zero() -> mpf:
    with mp.workprec(PRECISION):
        return mp.findroot(_gelu_slope, mpf("0.75179"))


def _gaussian(name: str, doc: str, scalar: str, terms: int, bits: float, shape: Function) -> Fit:
    """shape(a) - 1 in t = (a - c) / (a + c), which takes [0, infinity) to [-1, 1); error relative to shape(a)."""
    center = GAUSSIAN_CENTER[scalar]

    def at(t: mpf) -> mpf:
        return shape(center * (1 + t) / (1 - t))

    return Fit(
        name=name,
        doc=doc,
        target=lambda t: at(t) - 1,
        weight=lambda t: 1 / at(t),
        low=lambda: mpf(-1),
        high=lambda: (mpf(GAUSSIAN_END[scalar]) - center) / (mpf(GAUSSIAN_END[scalar]) + center),
        terms={scalar: terms},
        bits={scalar: bits},
    )


FITS: tuple[Fit, ...] = (
    Fit(
        name="exp_tail",
        doc="(exp(r) - 1 - r) / r^2, so that expm1(r) = r + r^2 q(r); error relative to expm1",
        target=_exp_tail,
        weight=series_safe(lambda r: r**2 / mp.expm1(r), lambda r: r),
        low=lambda: -mp.log(2) / 2 * mpf("1.0001"),
        high=lambda: mp.log(2) / 2 * mpf("1.0001"),
        terms={"float": 5, "double": 11},
        bits={"float": 26.1, "double": 61.6},
    ),
    Fit(
        name="tanh_tail",
        doc="(tanh(r) - r) / r^3 in z = r^2 for |r| <= 0.262, so that tanh(r) = r + r^3 p(z); error relative to tanh",
        target=_tanh_tail,
        weight=series_safe(lambda z: z * mp.sqrt(z) / mp.tanh(mp.sqrt(z)), lambda z: z),
        low=lambda: mpf(0),
        high=lambda: mpf("0.262") ** 2,
        terms={"float": 3, "double": 7},
        bits={"float": 27.8, "double": 56.6},
    ),
    Fit(
        name="log1p_tail",
        doc="(log1p(e) - e) / e^2 for 0 <= e <= 1, so that log1p(e) = e + e^2 p(e); error relative to log1p",
        target=_log1p_tail,
        weight=series_safe(lambda e: e**2 / mp.log1p(e), lambda e: e),
        low=lambda: mpf(0),
        high=lambda: mpf(1),
        terms={"float": 9},
        bits={"float": 27.4},
    ),
    Fit(
        name="atanh_tail",
        doc="(2 atanh(s) - 2 s) / s^3 in z = s^2, |s| <= 1/3: log1p(e) = e - s (e - z p(z)) for s = e / (2 + e), "
        "0 <= e <= 1; error relative to log1p",
        target=_atanh_tail,
        weight=series_safe(lambda z: z / (2 * mp.atanh(mp.sqrt(z)) / mp.sqrt(z)), lambda z: z / 2),
        low=lambda: mpf(0),
        high=lambda: mpf(1) / 9,
        terms={"float": 4, "double": 10},
        bits={"float": 27.7, "double": 59.4},
    ),
    Fit(
        name="sin_tail",
        doc="(r - sin(r)) / r^3 in z = r^2, |r| <= pi / 4, so that sin(r) = r - r z p(z); error relative to sin",
        target=_sin_tail,
        weight=series_safe(lambda z: z * mp.sqrt(z) / mp.sin(mp.sqrt(z)), lambda z: z),
        low=lambda: mpf(0),
        high=_quadrant,
        terms={"float": 3, "double": 6},
        bits={"float": 27.8, "double": 57.8},
    ),
    Fit(
        name="cos_tail",
        doc="(cos(r) - 1 + r^2 / 2) / r^4 in z = r^2, |r| <= pi / 4, so that cos(r) = 1 - z / 2 + z^2 p(z); "
        "error relative to cos",
        target=_cos_tail,
        weight=lambda z: z**2 / mp.cos(mp.sqrt(z)),
        low=lambda: mpf(0),
        high=_quadrant,
        terms={"float": 3, "double": 6},
        bits={"float": 32.9, "double": 63.9},
    ),
    *(
        _gaussian(
            "gaussian_tail_shape",
            "2 (1 + a) h(a) - 1 in t = (a - c) / (a + c), c = gaussian_center, for a >= 0, where "
            "0.5 erfc(a / sqrt(2)) = exp(-a^2 / 2) h(a); error relative to h",
            scalar,
            terms,
            bits,
            lambda a: 2 * (1 + a) * _gaussian_ratio(a),
        )
        for scalar, terms, bits in (("float", 10, 27.4), ("double", 23, 57.6))
    ),
    *(
        _gaussian(
            "gelu_slope_shape",
            "2 (h(a) - a / sqrt(2 pi)) / (z - a) - 1 in the same t, z = gelu_zero; error relative to the quotient",
            scalar,
            terms,
            bits,
            lambda a: 2 * _gelu_slope(a) / (_gelu_zero() - a),
        )
        for scalar, terms, bits in (("float", 9, 27.2), ("double", 20, 54.5))
    ),
)

CONSTANTS: tuple[Constant, ...] = (
    Constant(name="log2e", value=lambda: 1 / mp.log(2)),
    # n ln2_hi is exact for |n| up to 2^8 (2^11): room for both halves of ldexp's range, without an FMA unit too
    Constant(name="ln2", value=lambda: mp.log(2), parts=2, head_bits={"float": 16, "double": 42}),
    Constant(name="gaussian_center", value=GAUSSIAN_CENTER),
    Constant(name="half_gelu_zero", value=lambda: _gelu_zero() / 2, parts=2),
    # gelu_tanh's exponent is a (linear + cubic a^2); linear_hi is short so that its difference from that sum is exact
    Constant(
        name="gelu_tanh_linear",
        value=lambda: 2 * mp.sqrt(2 / mp.pi),
        parts=2,
        head_bits={"float": 20, "double": 48},
    ),
    Constant(name="gelu_tanh_cubic", value=lambda: 2 * mp.sqrt(2 / mp.pi) * mpf("0.044715"), parts=2),
    Constant(name="sqrt2", value=lambda: mp.sqrt(2), parts=2),
    # tanh reduces by halves of ln2
    Constant(name="two_log2e", value=lambda: 2 / mp.log(2)),
    Constant(name="half_ln2", value=lambda: mp.log(2) / 2, parts=2, head_bits={"float": 16, "double": 42}),
    Constant(name="sixth", value=lambda: mpf(1) / 6, parts=2),
    # the two numbers of Klambauer et al. 2017, to more digits
    Constant(name="selu_lambda", value=lambda: mpf("1.0507009873554804934193349852946"), parts=2),
    Constant(
        name="selu_lambda_alpha",
        value=lambda: mpf("1.0507009873554804934193349852946") * mpf("1.6732632423543772848170429916717"),
        parts=2,
    ),
    Constant(name="two_over_pi", value=lambda: 2 / mp.pi),
    Constant(name="half_pi", value=lambda: mp.pi / 2, parts=2),
    # n times a piece is exact for n up to 2^13 (2^20), the last piece apart; the first two together fill one number
    Constant(name="half_pi", value=lambda: mp.pi / 2, cuts={"float": (11, 23, 35), "double": (32, 52, 85)}),
)

WORDS: tuple[Words, ...] = (
    Words(
        name="two_over_pi_words",
        doc="2 / pi bit by bit, for the reduction of large arguments; the last word serves 2^1024",
        value=lambda: 2 / mp.pi,
        zeros=2,
        count=40,
    ),
)


def rounded(x: mpf, bits: int) -> mpf:
    """x to `bits` significant bits, ties to even; no fit comes near the end of a format's range."""
    with mp.workprec(bits):
        return +x


def _extrema(points: Sequence[mpf], errors: Sequence[mpf], wanted: int) -> list[int]:
    """Indices of `wanted` alternating extrema of the error, the largest ones; fewer where there are fewer."""
    runs: list[int] = []
    for i, e in enumerate(errors):
        if e == 0:
            continue
        if not runs or (errors[runs[-1]] > 0) != (e > 0):
            runs.append(i)
        elif abs(e) > abs(errors[runs[-1]]):
            runs[-1] = i
    while len(runs) > wanted:
        size = [abs(errors[i]) for i in runs]
        if len(runs) == wanted + 1:  # one too many: an end may go
            del runs[0 if size[0] < size[-1] else -1]
        else:  # the smallest goes with its smaller neighbour, so that signs still alternate
            k = size.index(min(size))
            if k in (0, len(runs) - 1):
                del runs[k]
            else:
                j = k - 1 if size[k - 1] < size[k + 1] else k + 1
                for index in sorted((k, j), reverse=True):
                    del runs[index]
    return runs


@dataclass(frozen=True, slots=True)
class Samples:
    """The grid of a fit: Chebyshev points, target and weight there; points of next to no weight are left out."""

    x: list[mpf]
    target: list[mpf]
    weight: list[mpf]


def sample(fit: Fit, count: int) -> Samples:
    low, high = fit.low(), fit.high()
    grid = [(low + high) / 2 - (high - low) / 2 * mp.cos(mp.pi * i / (count - 1)) for i in range(count)]
    weights = [abs(fit.weight(x)) for x in grid]
    kept = [(x, w) for x, w in zip(grid, weights, strict=True) if w > mpf("1e-4") * max(weights)]
    return Samples([x for x, _ in kept], [fit.target(x) for x, _ in kept], [w for _, w in kept])


def evaluate(coefficients: Sequence[mpf], x: mpf) -> mpf:
    total = mpf(0)
    for c in reversed(coefficients):
        total = total * x + c
    return total


def exchange(grid: Samples, fixed: Sequence[mpf], terms: int) -> list[mpf]:
    """Remez' exchange: the coefficients of x^k ... x^(terms - 1), k = len(fixed), that level the weighted error.

    Beyond fixed coefficients what is sought is x^k times a polynomial, so that the levels alternate in sign times
    sign(x)^k.
    """
    k = len(fixed)
    free = terms - k
    rest = [f - evaluate(fixed, x) for x, f in zip(grid.x, grid.target, strict=True)]
    flip = [-1 if x < 0 and k % 2 else 1 for x in grid.x]
    last = len(grid.x) - 1
    reference = [round(last * (1 - float(mp.cos(mp.pi * (i + 0.5) / (free + 1)))) / 2) for i in range(free + 1)]
    best: tuple[mpf, list[mpf]] | None = None
    for _ in range(40):
        system, right = matrix(free + 1, free + 1), matrix(free + 1, 1)
        for row, i in enumerate(reference):
            power = grid.x[i] ** k
            for column in range(free):
                system[row, column] = power
                power *= grid.x[i]
            system[row, free] = (-1) ** row * flip[i] / grid.weight[i]
            right[row] = rest[i]
        solution = mp.lu_solve(system, right)
        found = [solution[i] for i in range(free)]
        errors = [
            s * w * (evaluate(found, x) * x**k - f) for x, f, w, s in zip(grid.x, rest, grid.weight, flip, strict=True)
        ]
        worst = max(abs(e) for e in errors)
        if best is None or worst < best[0]:
            best = worst, found
        if worst <= abs(solution[free]) * mpf("1.0001"):
            break
        indices = _extrema(grid.x, errors, free + 1)
        if len(indices) < free + 1 or indices == reference:
            break  # rounding of the fixed coefficients dominates: nothing is left to level
        reference = indices
    assert best is not None
    return best[1]


@dataclass(frozen=True, slots=True)
class Fitted:
    coefficients: list[mpf]
    error: mpf  # largest weighted error of the rounded coefficients


def solve(fit: Fit, scalar: str) -> Fitted:
    """Coefficients rounded to the format one after the other; what one rounding spoils, the later ones make good."""
    terms = fit.terms[scalar]
    grid = sample(fit, 24 * terms + 1)
    done = [mpf(c) for c in fit.fixed]
    while len(done) < terms:
        done.append(rounded(exchange(grid, done, terms)[0], BITS[scalar]))
    return Fitted(done, error_of(fit, done, 1009))


def error_of(fit: Fit, coefficients: Sequence[mpf], count: int) -> mpf:
    """The largest weighted error over `count` points that are not those of the fit."""
    grid = sample(fit, count)
    return max(
        abs(w * (evaluate(coefficients, x) - f)) for x, f, w in zip(grid.x, grid.target, grid.weight, strict=True)
    )


def pieces(constant: Constant, scalar: str) -> dict[str, mpf]:
    value = mpf(constant.value[scalar]) if isinstance(constant.value, dict) else constant.value()
    bits = BITS[scalar]
    if constant.cuts:
        found: list[mpf] = []
        for cut in constant.cuts[scalar]:
            found.append(mp.ldexp(mp.floor(mp.ldexp(value, cut)), -cut))
            value -= found[-1]
        found.append(rounded(value, bits))
        return {f"{constant.name}_{k}": piece for k, piece in enumerate(found, 1)}
    if constant.parts == 1:
        return {constant.name: rounded(value, bits)}
    head = rounded(value, constant.head_bits[scalar] if constant.head_bits else bits)
    return {f"{constant.name}_hi": head, f"{constant.name}_lo": rounded(value - head, bits)}


def words(w: Words) -> list[int]:
    with mp.workprec(32 * w.count + 64):
        fraction = int(mp.floor(mp.ldexp(w.value(), 32 * (w.count - w.zeros))))
    return [(fraction >> 32 * k) & 0xFFFFFFFF for k in reversed(range(w.count))]


@dataclass(frozen=True, slots=True)
class Tables:
    """Everything that is written: tables[scalar][fit], constants[scalar][name] as exact Python floats; words[name]."""

    tables: dict[str, dict[str, list[float]]]
    constants: dict[str, dict[str, float]]
    words: dict[str, list[int]]


def tables() -> Tables:
    with mp.workprec(PRECISION):
        fitted = {
            scalar: {
                fit.name: [float(c) for c in solve(fit, scalar).coefficients] for fit in FITS if scalar in fit.terms
            }
            for scalar in BITS
        }
        constants = {
            scalar: {name: float(v) for c in CONSTANTS for name, v in pieces(c, scalar).items()} for scalar in BITS
        }
    return Tables(fitted, constants, {w.name: words(w) for w in WORDS})


def literal(x: float, scalar: str) -> str:
    """Digits that read back as exactly x."""
    text = format(x, ".9g" if scalar == "float" else ".17g")
    if scalar == "float":
        assert struct.unpack("f", struct.pack("f", float(text)))[0] == x
    else:
        assert float(text) == x
    if not any(c in text for c in ".e"):
        text += ".0"
    return text + ("f" if scalar == "float" else "")


def wrapped(items: Sequence[str], indent: str, width: int = 120) -> str:
    lines, line = [], indent
    for item in items:
        if len(line) + len(item) + 2 > width:
            lines.append(line.rstrip())
            line = indent
        line += f"{item}, "
    return "\n".join([*lines, line.rstrip().rstrip(",")])


def cpp(t: Tables) -> str:
    out = ["// Generated by coeffs.py; change the fits there.", "#pragma once", '#include "simd.hpp"']
    out += ["", "FASTNN_BEGIN", ""]
    for name, doc in {fit.name: fit.doc for fit in FITS}.items():
        out += [*(f"// {line}" for line in comment(doc)), "template <class S>", f"struct {name};"]
        for scalar in BITS:
            if name not in t.tables[scalar]:
                continue
            values = [literal(c, scalar) for c in t.tables[scalar][name]]
            out += [
                "template <>",
                f"struct {name}<{scalar}> {{",
                f"  static constexpr int size = {len(values)};",
                f"  FASTNN_FN static constexpr {scalar} at(int i) {{",
                f"    constexpr {scalar} c[] = {{",
                wrapped(values, "        "),
                "    };",
                "    return c[i];",
                "  }",
                "};",
            ]
        out.append("")
    for w in WORDS:
        values = [f"0x{u:08x}u" for u in t.words[w.name]]
        out += [*(f"// {line}" for line in comment(w.doc)), f"struct {w.name} {{"]
        out += [
            f"  static constexpr int zeros = {w.zeros}, size = {len(values)};",
            "  FASTNN_FN static u32 at(int i) {",
            "    static constexpr u32 c[] = {",
            wrapped(values, "        "),
            "    };",
            "    return c[i];",
            "  }",
            "};",
            "",
        ]
    out += ["template <class S>", "struct constants;"]
    for scalar in BITS:
        out += ["template <>", f"struct constants<{scalar}> {{"]
        out += [f"  static constexpr {scalar} {n} = {literal(v, scalar)};" for n, v in t.constants[scalar].items()]
        out += ["};"]
    return "\n".join([*out, "", "FASTNN_END", ""])


def comment(text: str, width: int = 117) -> list[str]:
    lines = [""]
    for word in text.split(" "):
        if len(lines[-1]) + len(word) + 1 > width:
            lines.append("")
        lines[-1] += (" " if lines[-1] else "") + word
    return lines


def python(t: Tables) -> str:
    out = [
        '"""Generated by coeffs.py; change the fits there. The numbers of coefficients.hpp under the same names."""',
        "",
        "from __future__ import annotations",
        "",
        "import numpy as np",
    ]
    for scalar, dtype in (("float", "float32"), ("double", "float64")):
        out += ["", f"{dtype}: dict[str, tuple[np.{dtype}, ...]] = {{"]
        for name, values in t.tables[scalar].items():
            out += [f'    "{name}": (', *(f"        np.{dtype}({v!r})," for v in values), "    ),"]
        out += ["}", f"constants_{dtype}: dict[str, np.{dtype}] = {{"]
        out += [f'    "{name}": np.{dtype}({v!r}),' for name, v in t.constants[scalar].items()]
        out += ["}"]
    for name, words_ in t.words.items():
        out += ["", f"{name}: tuple[np.uint32, ...] = (", *(f"    np.uint32({u:#x})," for u in words_), ")"]
    return "\n".join([*out, ""])


HERE = Path(__file__).parent


def written(t: Tables) -> dict[Path, str]:
    return {HERE / "include" / "coefficients.hpp": cpp(t), HERE / "jit" / "coefficients.py": python(t)}


def stale(t: Tables) -> list[Path]:
    return [path for path, text in written(t).items() if not path.exists() or path.read_text() != text]


def report() -> None:
    print(f"{'fit':<22}{'scalar':<8}{'interval':<26}{'terms':<7}relative error")
    for fit in FITS:
        for scalar in fit.terms:
            with mp.workprec(PRECISION):
                error = solve(fit, scalar).error
                interval = f"[{mp.nstr(fit.low(), 6)}, {mp.nstr(fit.high(), 6)}]"
                print(f"{fit.name:<22}{scalar:<8}{interval:<26}{fit.terms[scalar]:<7}2^{mp.nstr(mp.log(error, 2), 5)}")


def main() -> int:
    parser = argparse.ArgumentParser(description="Fit vmath's coefficients.")
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--write", action="store_true", help="write the generated files")
    group.add_argument("--check", action="store_true", help="fail if the generated files are not current")
    arguments = parser.parse_args()
    if arguments.write:
        for path, text in written(tables()).items():
            path.write_text(text)
    elif arguments.check:
        for path in (old := stale(tables())):
            print(f"{path.name} is stale: run coeffs.py --write", file=sys.stderr)
        return bool(old)
    else:
        report()
    return 0


if __name__ == "__main__":
    sys.exit(main())
