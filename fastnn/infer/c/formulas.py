"""The formulas of activations as C, translated from the Python in which `fastnn.kernels.jit` writes them for Numba.

Those are the formulas of kernels/include once more, operation for operation, so that C made of them has the kernels'
bits. Their source is read, not imported (Numba need not be there), and no number is typed again. What they are written
with, the intrinsics, is C by hand in library.c.
"""

from __future__ import annotations

import ast
import importlib.util
import runpy
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fastnn.infer.c.library import Piece, helper, literal, suffix

_MODULES = ("activations", "exp", "erfc", "gelu_tanh", "trig", "gating", "rows")
_TUPLES = {2: "pair", 3: "triple", 4: "quadruple", 5: "quintuple"}
_OPERATORS: dict[type, str] = {
    ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.BitAnd: "&", ast.BitOr: "|", ast.LShift: "<<",
    ast.RShift: ">>", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!=",
}  # fmt: skip
_HELPERS = frozenset({"bits", "from_bits", "exponent_of", "quadrant_code", "flip_sign"})
_CASTS = {"_U64": "uint64_t", "np.uint64": "uint64_t", "np.int64": "int64_t", "np.float64": "double"}


class Term(NamedTuple):
    """A C expression and its type; `whole` if it needs no parentheses."""

    text: str
    type: str
    whole: bool = True

    @property
    def inner(self) -> str:
        return self.text if self.whole else f"({self.text})"


@dataclass(slots=True)
class _Module:
    """What the translator knows of a module: functions, blocks of activations, and where names come from."""

    functions: dict[str, ast.FunctionDef] = field(default_factory=dict)
    blocks: dict[str, ast.ClassDef] = field(default_factory=dict)
    imported: dict[str, tuple[str, str]] = field(default_factory=dict)  # a module and a name in it, or ""
    values: dict[str, ast.expr] = field(default_factory=dict)


@cache
def _sources() -> tuple[dict[str, _Module], dict[str, tuple[Any, Any]], dict[str, Any]]:
    """The modules, the constants by name in float32 and float64, and the tables of coefficients."""
    package = importlib.util.find_spec("fastnn.kernels")
    assert package is not None and package.submodule_search_locations
    folder = Path(package.submodule_search_locations[0]) / "jit"
    tables = runpy.run_path(str(folder / "coefficients.py"))
    wide = tables["constants_float64"]
    constants = {name: (value, wide[name]) for name, value in tables["constants_float32"].items()}
    modules = {}
    for name in ("intrinsics", *_MODULES):
        module = modules[name] = _Module()
        for node in ast.parse((folder / f"{name}.py").read_text(encoding="utf-8")).body:
            match node:
                case ast.FunctionDef():
                    module.functions[node.name] = node
                case ast.ClassDef():
                    module.blocks[node.name] = node
                case ast.Assign(targets=[ast.Name(id=target)]):
                    module.values[target] = node.value
                case ast.ImportFrom(module=str(source)) if source.startswith("fastnn.kernels.jit"):
                    for each in node.names:
                        last = source.rpartition(".")[2]
                        where = (each.name, "") if last == "jit" else (last, each.name)
                        module.imported[each.asname or each.name] = where
                case ast.Expr(value=ast.Call(func=ast.Name(id="define"), args=[ast.Constant(value=str(key)), *pair])):
                    first, second = (eval(ast.unparse(each), {"np": np, "float": float}) for each in pair)
                    constants[key] = np.float32(first), np.float64(second)
    return modules, constants, tables


def names() -> list[str]:
    """The activations for which there is a formula."""
    return list(_sources()[0]["activations"].blocks)


def constant(name: str, real: str) -> str | None:
    """A number that formulas name, if there is one of that name, as a literal."""
    pair = _sources()[1].get(name)
    return None if pair is None else literal(float(pair[real == "double"]), real)


def activation(name: str, real: str) -> Piece:
    """The function y = f(x, parameters) of an activation, over `real`: float or double."""
    modules = _sources()[0]
    for statement in modules["activations"].blocks[name].body:
        match statement:
            case ast.FunctionDef(name="forward"):
                return _translated("activations", statement, f"activation_{name}", real)
            case ast.Assign(targets=[ast.Tuple()], value=ast.Tuple(elts=[ast.Attribute(value=ast.Name(id=other)), *_])):
                return activation(other, real)
    raise LookupError(name)


def formula(module: str, name: str, real: str) -> Piece:
    """A function of one of the modules by its name."""
    modules = _sources()[0]
    source = modules[module]
    while name in source.imported:
        module, name = source.imported[name]
        source = modules[module]
    function = source.functions[name]
    for decorator in function.decorator_list:
        match decorator:
            case ast.Call(func=ast.Name(id="by_type"), args=[ast.Name(id=narrow), ast.Name(id=wide)]):
                chosen = source.functions[narrow if real == "float" else wide]
                return _translated(module, chosen, name, real)
    plain = name.lstrip("_")
    own = module in ("intrinsics", "exp", "erfc", "rows") and plain == name
    return _translated(module, function, plain if own else f"{module}_{plain}", real)


@cache
def _polynomial(table: str, form: str, real: str) -> Piece:
    """Horner's rule; by halves: even and odd terms apart, in the square, as the kernels do."""
    kind, name = "float32" if real == "float" else "float64", f"{table}_{form}" if form else table
    numbers = [literal(float(each), real) for each in _sources()[2][kind][table]]
    fma = f"FMA_{suffix(real).upper()}"

    def horner(terms: list[str], variable: str) -> str:
        text = terms[-1]
        for term in reversed(terms[:-1]):
            text = f"{fma}({text}, {variable}, {term})"
        return text

    title = f"{name}_{suffix(real)}"
    if not form:
        body = f"  return {horner(numbers, 'x')};\n"
        text = f"/* fitted coefficients by Horner's rule */\nstatic inline {real} {title}({real} x) {{\n{body}}}\n"
    else:
        sign = "-" if form == "at_minus" else ""
        text = (
            f"/* the same at {sign}x: even and odd terms apart */\n"
            f"static inline {real} {title}({real} x, {real} square) {{\n"
            f"  const {real} even = {horner(numbers[::2], 'square')};\n"
            f"  const {real} odd = {horner(numbers[1::2], 'square')};\n"
            f"  return {fma}({sign}odd, x, even);\n}}\n"
        )
    return Piece(title, text, (helper("fma", real),))


@cache
def _tuple_type(real: str, count: int) -> Piece:
    name = f"{_TUPLES[count]}_{suffix(real)}"
    return Piece(name, f"typedef struct {{\n  {real} {', '.join('abcde'[:count])};\n}} {name};\n", ())


_PIECES: dict[tuple[str, str, str], Piece] = {}


def _translated(module: str, function: ast.FunctionDef, name: str, real: str) -> Piece:
    key = module, name, real
    if key not in _PIECES:
        _PIECES[key] = _Translation(module, function, f"{name}_{suffix(real)}", real).piece()
    return _PIECES[key]


class _Translation:
    """One function on its way to C: types of names, what it needs, lines."""

    def __init__(self, module: str, function: ast.FunctionDef, title: str, real: str) -> None:
        self.module, self.function, self.title, self.real = module, function, title, real
        self.types: dict[str, str] = {}
        self.needs: dict[str, Piece] = {}
        self.lines: list[str] = []
        self.records = 0
        names = [each for each in ast.walk(function) if isinstance(each, ast.Name)]
        stored = [each.id for each in names if isinstance(each.ctx, ast.Store)]
        self.changing = {each for each in stored if stored.count(each) > 1}

    def piece(self) -> Piece:
        parameters = []
        for each in self.function.args.args:
            if each.arg == "near":  # whoever calls does not know
                continue
            self.types[each.arg] = self.annotated(each.annotation)
            parameters.append(f"{self.types[each.arg]} {each.arg}")
        result = self.result()
        doc = ast.get_docstring(self.function)
        self.block(self.function.body, "  ")
        read = {node.id for node in ast.walk(self.function) if isinstance(node, ast.Name)}
        idle = [each.arg for each in self.function.args.args if each.arg in self.types and each.arg not in read]
        self.lines[:0] = [f"  (void){name};" for name in idle]
        comment = f"/* {doc.splitlines()[0].rstrip('.')} */\n" if doc else ""
        text = (
            f"{comment}static inline {result} {self.title}({', '.join(parameters)}) {{\n"
            + "\n".join(self.lines)
            + "\n}\n"
        )
        return Piece(self.title, text, tuple(self.needs.values()), result)

    def annotated(self, node: ast.expr | None) -> str:
        kind = ast.unparse(node) if node is not None else "Value"
        return {"float": "double", "int": "int64_t", "bool": "int", "Unsigned": "uint64_t"}.get(kind, self.real)

    def result(self) -> str:
        match self.function.returns:
            case ast.Subscript(value=ast.Name(id="tuple"), slice=ast.Tuple(elts=parts)):
                return self.need(_tuple_type(self.annotated(parts[0]), len(parts)))
        return self.annotated(self.function.returns)

    def need(self, piece: Piece) -> str:
        self.needs[piece.name] = piece
        return piece.name

    # ---- statements ----

    def block(self, body: list[ast.stmt], indent: str) -> None:
        for statement in body:
            self.statement(statement, indent)

    def statement(self, node: ast.stmt, indent: str) -> None:
        put = self.lines.append
        match node:
            case ast.Expr(value=ast.Constant()) | ast.Assign(targets=[ast.Name(id="V")]):
                return
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                term = self.term(value)
                put(f"{indent}{self.left(name, term.type)} = {term.text};")
            case ast.Assign(targets=[ast.Tuple(elts=targets)], value=ast.Tuple(elts=values)):
                for target, value in zip(targets, values, strict=True):
                    self.statement(ast.Assign([target], value), indent)
            case ast.Assign(targets=[ast.Tuple(elts=targets)], value=value):
                term, record = self.term(value), f"parts{self.records or ''}"
                self.records += 1
                put(f"{indent}const {term.type} {record} = {term.text};")
                kind = "double" if term.type.endswith("f64") else "float"
                for target, member in zip(targets, "abcde", strict=False):
                    if isinstance(target, ast.Name) and target.id != "_":
                        put(f"{indent}{self.left(target.id, kind)} = {record}.{member};")
            case ast.AugAssign(target=ast.Name(id=name), op=op, value=value):
                put(f"{indent}{name} {_OPERATORS[type(op)]}= {self.term(value).text};")
            case ast.Return(value=ast.Tuple(elts=values)):
                terms = ", ".join(self.term(value).text for value in values)
                put(f"{indent}const {self.result()} result = {{{terms}}};")
                put(f"{indent}return result;")
            case ast.Return(value=ast.expr() as value):
                put(f"{indent}return {self.term(value).text};")
            case ast.If(test=test, body=body, orelse=[]):
                put(f"{indent}if ({self.term(test).text}) {{")
                self.block(body, indent + "  ")
                put(f"{indent}}}")
            case _:
                raise self.unknown(node)

    def unknown(self, node: ast.AST) -> NotImplementedError:
        """For who writes a formula of a shape that none had before."""
        return NotImplementedError(f"kernels/jit/{self.module}.py: there is no C yet for `{ast.unparse(node)}`")

    def left(self, name: str, kind: str) -> str:
        """A variable on the left of =, declared where it comes first."""
        if name in self.types:
            return name
        self.types[name] = kind
        return f"{kind} {name}" if name in self.changing else f"const {kind} {name}"

    # ---- expressions ----

    def term(self, node: ast.expr) -> Term:
        match node:
            case ast.Name(id=name) if name in self.types:
                return Term(name, self.types[name])
            case ast.Name(id=name):
                return self.term(_sources()[0][self.module].values[name])
            case ast.Constant(value=bool(value)):
                return Term(str(int(value)), "int")
            case ast.Constant(value=int(value)):
                return Term(str(value), "int64_t")
            case ast.Constant(value=float(value)):
                return Term(literal(value, "double"), "double")
            case ast.BinOp(op=ast.Pow()):  # of numbers
                return Term(literal(float(eval(ast.unparse(node))), "double"), "double")
            case ast.BinOp(left=left, op=op, right=right):
                a, b = self.term(left), self.term(right)
                sign = "&&" if isinstance(op, ast.BitAnd) and a.type == "int" else _OPERATORS[type(op)]
                return Term(f"{a.inner} {sign} {b.inner}", _joined(a.type, b.type), False)
            case ast.Compare(left=left, ops=[op], comparators=[right]):
                return Term(f"{self.term(left).inner} {_OPERATORS[type(op)]} {self.term(right).inner}", "int", False)
            case ast.BoolOp(op=op, values=values):
                known = [self.term(value).inner for value in values if ast.unparse(value) != "near"]
                return Term((" && " if isinstance(op, ast.And) else " || ").join(known), "int", len(known) == 1)
            case ast.UnaryOp(op=op, operand=operand):
                a = self.term(operand)
                sign = {ast.USub: "-", ast.Invert: "~", ast.Not: "!"}[type(op)]
                return Term(_signed(sign, a), "int" if sign == "!" else a.type)
            case ast.Subscript(value=ast.Name(id="_WORDS"), slice=index):
                table = self.need(_words())
                return Term(f"(uint64_t){table}[{self.term(index).text}]", "uint64_t")
            case ast.Call(func=ast.Call(func=ast.Name(id="type"))):
                return self.cast(self.real, node.args[0])
            case ast.Call(func=function, args=args):
                return self.call(ast.unparse(function), args)
        raise self.unknown(node)

    def cast(self, kind: str, node: ast.expr) -> Term:
        match node:
            case (
                ast.Constant(value=float(value)) | ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=float(value)))
            ):
                sign = -1.0 if isinstance(node, ast.UnaryOp) else 1.0
                return Term(literal(sign * value, kind), kind)
            case ast.Constant(value=int(value)):
                return Term(f"UINT64_C({value:#x})" if kind == "uint64_t" else str(value), kind)
        if kind == "uint64_t" and not any(isinstance(each, (ast.Name, ast.Call)) for each in ast.walk(node)):
            return Term(f"UINT64_C({eval(ast.unparse(node)):#x})", kind)
        a = self.term(node)
        return a if a.type == kind else Term(f"({kind}){a.inner}", kind)

    def call(self, name: str, args: list[ast.expr]) -> Term:
        if name == "V":
            return self.cast(self.real, args[0])
        if name in _CASTS:
            return self.cast(_CASTS[name], args[0])
        if name == "constant":
            kind = self.term(args[0]).type
            return Term(str(constant(_text(args[1]), kind)), kind)
        if name == "near_or_far":
            return self.near_or_far(args)
        if name in ("polynomial", "polynomial_by_halves"):
            terms = [self.term(each) for each in args[: 2 if name.endswith("halves") else 1]]
            form = "" if len(terms) == 1 else "at_minus" if args[3].value else "by_halves"  # type: ignore[attr-defined]
            title = self.need(_polynomial(_text(args[len(terms)]), form, terms[0].type))
            return Term(f"{title}({', '.join(term.text for term in terms)})", terms[0].type)
        terms = [self.term(each) for each in args if ast.unparse(each) != "near"]
        kind = terms[0].type
        if name == "select":
            return Term(f"{terms[0].inner} ? {terms[1].inner} : {terms[2].inner}", terms[1].type, False)
        if name in ("fmadd", "fmsub", "fnmadd"):
            self.need(helper("fma", kind))
            a, b, c = terms
            first, last = (
                _signed("-", a) if name == "fnmadd" else a.text,
                _signed("-", c) if name == "fmsub" else c.text,
            )
            return Term(f"FMA_{suffix(kind).upper()}({first}, {b.text}, {last})", kind)
        text = ", ".join(term.text for term in terms)
        if name in ("abs", "copysign"):
            return Term(f"{'fabs' if name == 'abs' else name}{'f' if kind == 'float' else ''}({text})", kind)
        if name in _HELPERS:
            real = "double" if kind in ("double", "uint64_t") else "float"
            piece = helper(name, real)
            self.need(piece)
            result = {"bits": "uint64_t" if real == "double" else "uint32_t"}.get(name, real)
            return Term(f"{piece.name}({text})", result)
        piece = self.resolved(name, kind)
        return Term(f"{self.need(piece)}({text})", piece.result)

    def resolved(self, name: str, kind: str) -> Piece:
        """The function that a name means in this module."""
        place, dot, member = name.partition(".")
        module = _sources()[0][self.module].imported[place][0] if dot else self.module
        return formula(module, member or name, "double" if kind == "double" else self.real)

    def near_or_far(self, args: list[ast.expr]) -> Term:
        near, far = (self.resolved(ast.unparse(each), self.real) for each in args[:2])
        x, rest = self.term(args[4]), [self.term(each).text for each in args[4:]]
        text = ", ".join(rest)
        size = f"fabs{'f' if self.real == 'float' else ''}({x.text})"
        return Term(
            f"{size} <= {self.term(args[2]).inner} ? {self.need(near)}({text}) : {self.need(far)}({text})",
            self.real,
            False,
        )


@cache
def _words() -> Piece:
    """2 / pi bit by bit."""
    words = [f"{int(word):#010x}u" for word in _sources()[2]["two_over_pi_words"]]
    rows = ",\n".join("  " + ", ".join(words[at : at + 8]) for at in range(0, len(words), 8))
    return Piece("two_over_pi", f"/* 2 / pi bit by bit */\nstatic const uint32_t two_over_pi[] = {{\n{rows}\n}};\n", ())


def _joined(a: str, b: str) -> str:
    for kind in ("double", "float", "uint64_t", "int64_t"):
        if kind in (a, b):
            return kind
    return "int"


def _signed(sign: str, term: Term) -> str:
    return f"{sign}({term.text})" if term.text.startswith(sign) else f"{sign}{term.inner}"


def _text(node: ast.expr) -> str:
    assert isinstance(node, ast.Constant)
    return str(node.value)
