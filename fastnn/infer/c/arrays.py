"""ONNX's operators over plain arrays as C: what moves numbers, what works on them one by one, reductions and products.

Where numbers go is not worked out a second time: the operator is done once on the places of its inputs. Other
operators (`STEPS` has those that there are) are those of layers with arguments that layers do not have.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from fastnn.infer.c.program import Value, as_loop
from fastnn.infer.c.writer import Writer
from fastnn.infer.graph import Array, Step
from fastnn.infer.steps import function

INEXACT = frozenset({"Exp", "Log", "Pow", "ReduceMean", "MatMul"})
"""Operators that NumPy sums in another order, or has functions of its own for: last bits differ."""
_INFIX = {"Add": "+", "Sub": "-", "Mul": "*", "Div": "/"}
_CALLS = {"Abs": "fabs", "Sqrt": "sqrt", "Exp": "exp", "Log": "log", "Pow": "pow"}


def _inputs(w: Writer, step: Step) -> list[Value]:
    return [w.input(step, False, number) for number in range(len(step.inputs))]


def _table(w: Writer, places: Array) -> str:
    return w.program.constant("places", places.astype(np.uint32))


# ---- numbers that move ----


def _moved(w: Writer, step: Step) -> Value:
    """Transpositions, slices and their kin, and constants among them."""
    xs, call = _inputs(w, step), function(step, w.graph.of(step))
    ends = np.cumsum([x.size for x in xs])

    def places(first: int) -> Array:
        """What the operator makes of inputs that are the places of their numbers, counted from `first`."""
        numbers = [np.arange(end - x.size, end, dtype=np.float64) + first for x, end in zip(xs, ends, strict=True)]
        return np.asarray(call(*(each.reshape(1, *x.shape) for each, x in zip(numbers, xs, strict=True)))).ravel()

    found, again = places(0), places(1)
    moves = again == found + 1
    if not (moves | (again == found)).all():
        raise ValueError(f"export_c: {step.op} of {', '.join(step.modules)} takes places from what it is given")
    y = w.output(step.shape)
    if not moves.all():
        fill = w.program.constant("fill", np.where(moves, 0, found).astype(w.graph.dtype))
        w.add(as_loop(y.size, f"{y.name}[i] = {fill}[i];"), *xs, y)
    for x, end in zip(xs, ends, strict=True):
        to = np.flatnonzero(moves & (found >= end - x.size) & (found < end))
        source = found[to].astype(np.int64) - (end - x.size)
        starts = np.flatnonzero(np.r_[True, (np.diff(to) != 1) | (np.diff(source) != 1)])[: len(to)]
        if len(starts) == y.size:
            w.add(as_loop(y.size, f"{y.name}[i] = {x.name}[{_table(w, source)}[i]];"), *xs, y)
        elif len(starts):
            lengths = np.diff(np.r_[starts, len(to)])
            table = _table(w, np.stack([to[starts], source[starts], lengths], 1).ravel())
            run = f"{y.name} + {table}[3 * i], {x.name} + {table}[3 * i + 1], {table}[3 * i + 2] * sizeof *{y.name}"
            w.add(as_loop(len(starts), f"memcpy({run});"), *xs, y)
    return y


# ---- numbers one by one ----


def _operand(w: Writer, step: Step, each: Any, xs: list[Value]) -> str:
    """An operand of element i of the result, as NumPy broadcasts it."""
    whole = (1, *step.shape)
    if isinstance(each, int):
        shape: tuple[int, ...] = (1, *xs[each].shape)
    else:
        constant = np.asarray(w.graph.of(step)[each] if isinstance(each, str) else np.array(each[2], each[0]))
        shape = constant.shape
        if constant.size == 1:
            return w.number(float(constant.reshape(-1)[0]))
    name = xs[each].name if isinstance(each, int) else w.program.constant("c", constant.astype(w.graph.dtype))
    places = np.broadcast_to(np.arange(math.prod(shape)).reshape(shape), whole).ravel()
    size, i = math.prod(shape), np.arange(places.size)
    if size == places.size:
        return f"{name}[i]"
    apart = int(np.argmax(places != 0)) or places.size  # as far as the first number goes
    if (places == i // apart % size).all():
        return f"{name}[i / {apart} % {size}]" if size > 1 else f"{name}[0]"
    return f"{name}[{_table(w, places)}[i]]"


def _elementwise(w: Writer, step: Step) -> Value:
    xs, op = _inputs(w, step), step.op
    given = [each for each in step.options["given"] if each is not None]
    terms = [_operand(w, step, each, xs) for each in given]
    y, end = w.output(step.shape), "f" if w.program.real == "float" else ""
    if op in _INFIX:
        text = f"{terms[0]} {_INFIX[op]} {terms[1]}"
    elif op == "Neg":
        text = f"-{terms[0]}"
    elif op in _CALLS:
        text = f"{_CALLS[op]}{end}({', '.join(terms)})"
    elif op == "Clip":  # low, high, either of which may be left away
        low, high = (each is not None for each in (*step.options["given"][1:3], None, None)[:2])
        text, rest = terms[0], iter(terms[1:])
        for there, bound in ((low, "larger"), (high, "smaller")):
            text = f"{w.program.use(bound)}({text}, {next(rest)})" if there else text
    else:
        bound, text = w.program.use("larger" if op == "Max" else "smaller"), terms[0]
        for term in terms[1:]:
            text = f"{bound}({text}, {term})"
    w.add(as_loop(y.size, f"{y.name}[i] = {text};"), *xs, y)
    return y


# ---- reductions and products ----


def _reduced(w: Writer, step: Step) -> Value:
    """Along some axes; the places of what goes into each result are a table, unless they follow one another."""
    (x,), given = _inputs(w, step), step.options
    found = given["given"][1][2] if len(given["given"]) > 1 and given["given"][1] else given["attributes"].get("axes")
    shape = (1, *x.shape)
    along = sorted(axis % len(shape) for axis in np.ravel(found).tolist()) if found else list(range(len(shape)))
    if not found and given["attributes"].get("noop_with_empty_axes", 0):
        along = []
    kept = [axis for axis in range(len(shape)) if axis not in along]
    places = np.arange(x.size).reshape(shape).transpose(*kept, *along).ravel()
    y, terms = w.output(step.shape), math.prod(shape[axis] for axis in along)
    table = "NULL" if (places == np.arange(x.size)).all() else _table(w, places)
    call = w.program.use("means" if step.op == "ReduceMean" else "maxima")
    w.add([f"{call}({x.name}, {y.name}, {table}, {x.size // terms}, {terms});"], x, y)
    return y


def _product(w: Writer, step: Step) -> Value:
    """Matrix products of stacks of matrices."""
    xs, given = _inputs(w, step), step.options["given"]
    names, shapes = [], []
    for each in given:
        if isinstance(each, int):
            names.append(xs[each].name)
            shapes.append((1, *xs[each].shape))
        else:
            constant = w.graph.of(step)[each]
            names.append(w.program.constant("c", constant))
            shapes.append(constant.shape)
    a, b = shapes
    if len(a) < 2 or len(b) < 2:
        raise ValueError(f"export_c: there is no C for MatMul of shapes {a} and {b}")
    stack = np.broadcast_shapes(a[:-2], b[:-2])
    y, (rows, inner, columns) = w.output(step.shape), (a[-2], a[-1], b[-1])
    starts = [
        np.broadcast_to(np.arange(math.prod(shape[:-2])).reshape(shape[:-2]), stack).ravel() * math.prod(shape[-2:])
        for shape in shapes
    ]
    tables = [_table(w, each) for each in starts]
    at = f"{names[0]} + {tables[0]}[i], {names[1]} + {tables[1]}[i], {y.name} + i * {rows * columns}"
    call = f"{w.program.use('product')}({at}, {rows}, {inner}, {columns});"
    w.add(as_loop(math.prod(stack), call), *xs, y)
    return y


STEPS: dict[str, Callable[[Writer, Step], Value]] = {
    **dict.fromkeys(("Concat", "Gather", "Pad", "Slice", "Transpose"), _moved),
    **dict.fromkeys((*_INFIX, *_CALLS, "Neg", "Clip", "Max", "Min"), _elementwise),
    **dict.fromkeys(("ReduceMax", "ReduceMean"), _reduced),
    "MatMul": _product,
}
