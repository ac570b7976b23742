"""The documentation of the public functions, made from the op table."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from fastnn.function import Argument, Function
from fastnn.op import Op, Param

_X = "x : array of float32, float64, float16 or bfloat16, of any shape and strides; integers and bools become floats"
_BROADCAST = (
    "One number, an array with one value per channel (1-D, as long as axis 1 of x), or an array that broadcasts to x's "
    "shape."
)
_ERRORS = """Raises
------
TypeError
    For a dtype or a kind of argument that is not supported.
ValueError
    For a value or a shape that is not valid. Nothing has been written then."""


def forward_doc(op: Op) -> str:
    """The docstring of `fastnn.<name>`."""
    parts = [
        f"{op.title}.",
        f"y = {op.formula}",
        _section("Parameters", _X, *map(_parameter, op.params), _out("x")),
        _section("Returns", "y : array of x's shape and dtype"),
        _ERRORS,
        _section("Notes", *_values(op), _accuracy(op), f"Source: {op.source}."),
        _section("Examples", _forward_example(op)),
    ]
    return "\n\n".join(parts) + "\n"


def backward_doc(op: Op) -> str:
    """The docstring of `fastnn.<name>_backward`."""
    variable = "x" if op.saves == "input" else "y"
    saved = f"saved : the {op.saves} {variable} of the forward pass, an array"
    returns = ["dx : array of saved's shape and dtype"]
    for param in op.params:
        if param.learned:
            text = f"the gradient of {param.name}, in its shape, summed over the axes it broadcasts along"
            returns.append(f"d{param.name} : {text}")
    parts = [
        f"Gradient of {op.name}: dx = dy * dy/dx, in terms of the {op.saves} of the forward pass.",
        f"dy/dx = {op.derivative}",
        _section(
            "Parameters",
            "dy : gradient of the loss by y, an array of saved's shape and dtype",
            saved,
            *map(_parameter, op.params),
            _out("dy or saved"),
        ),
        _section("Returns", *returns),
        _ERRORS,
        _section(
            "Notes",
            "NaN in dy or saved gives NaN. The product with dy follows IEEE arithmetic: infinity times 0 is NaN.",
            _backward_accuracy(op),
            f"Source: {op.source}.",
        ),
        _section("Examples", _backward_example(op)),
    ]
    return "\n\n".join(parts) + "\n"


def ufunc_doc(op: Op, which: str) -> str:
    """The docstring of the ufunc of one pass; NumPy puts the signature in front."""
    params = [param.name for param in op.params]
    inputs = ", ".join(["x" if which == "forward" else "dy, saved", *params])
    if which == "forward":
        text = f"{op.title}.\n\ny = {op.formula}"
    elif which == "backward":
        text = f"Gradient of {op.name}: dx = dy * dy/dx, in terms of the {op.saves} of the forward pass."
        text += f"\n\ndy/dx = {op.derivative}"
    else:
        name = params[op.learned or 0]
        text = f"Gradient of {op.name} by {name}: dy * dy/d{name}, element by element.\n\ndy/dx = {op.derivative}"
    required = " None has a default value, and none is checked." if params else ""
    return f"{text}\n\nThe inputs are {inputs}.{required} See fastnn.{op.name}.\n"


def function_doc(row: Function, function: Callable[..., Any]) -> str:
    """The docstring of a function that is not elementwise."""
    arguments = [_argument(argument, _default(function, argument.name)) for argument in row.arguments]
    bounds = ", ".join(
        f"{result.name} within {ulp:g} ULP" for result, ulp in zip(row.returns, row.ulps, strict=True) if ulp
    )
    unit = " of the magnitude that its error is counted in" if row.scale is not None else ""
    accuracy = [f"In float32 and float64: {bounds}{unit}; float16 and bfloat16 are rounded once."] if bounds else []
    parts = [
        f"{row.title}.",
        row.formula,
        _section("Parameters", *arguments),
        _section("Returns", *(_argument(result, None) for result in row.returns)),
        _ERRORS,
        _section("Notes", *row.notes, *accuracy, f"Cost: {row.bytes}; {row.operations}.", f"Source: {row.source}."),
    ]
    return "\n\n".join(parts) + "\n"


def _argument(argument: Argument, default: str | None) -> str:
    return f"{argument.name} : {argument.doc.rstrip('.')}{f' (default {default})' if default else ''}"


def _default(function: Callable[..., Any], name: str) -> str | None:
    """The default value of an argument, as Python writes it; None where there is none, or none worth saying."""
    function = getattr(function, "__wrapped__", function)
    code, defaults = function.__code__, function.__defaults__ or ()
    positional = code.co_varnames[: code.co_argcount]
    known = dict(zip(positional[len(positional) - len(defaults) :], defaults, strict=True))
    known |= function.__kwdefaults__ or {}
    return None if known.get(name) is None else repr(known[name])


def fill(text: str, width: int, *, initial_indent: str = "", subsequent_indent: str = "") -> str:
    """Break a text into lines; textwrap takes longer for all of them than everything else at import."""
    lines, line = [], initial_indent
    for word in text.split():
        if len(line) + len(word) >= width and line.strip():
            lines.append(line.rstrip())
            line = subsequent_indent
        line += word + " "
    return "\n".join([*lines, line.rstrip()])


def _section(title: str, *entries: str) -> str:
    lines = [title, "-" * len(title)]
    for entry in entries:
        if title == "Examples":
            lines.append(entry)
            continue
        head, separator, text = entry.partition(" : ")
        if separator and head.replace("_", "").isalnum():
            lines += [head, fill(_sentence(text), 88, initial_indent="    ", subsequent_indent="    ")]
        else:
            lines.append(fill(entry, 92))
    return "\n".join(lines)


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:].rstrip(".") + "."


def _parameter(param: Param) -> str:
    default = "required" if param.default is None else f"default {param.default:g}"
    kind = _BROADCAST if param.learned else f"A number: {param.range}."
    return f"{param.name} : {param.doc} ({default}). {kind}"


def _out(inputs: str) -> str:
    return f"out : array of the result's shape and dtype to write into; it may be {inputs} itself"


def _value(value: float) -> str:
    return {math.inf: "inf", -math.inf: "-inf"}.get(value, f"{value:.7g}")


def _values(op: Op) -> list[str]:
    """The special values, at the parameters that make them so."""
    defaults = ", ".join(f"{p.name}={v:g}" for p, v in zip(op.params, op.parameters_default, strict=True))
    pairs = ", ".join(f"{op.name}({_value(x)}) = {_value(y)}" for x, y in op.special)
    return [f"NaN gives NaN. {pairs}{f' (with {defaults})' if defaults else ''}."]


def _accuracy(op: Op) -> str:
    return (
        f"float32 and float64 results are within {op.forward_ulp:g} ULP of the exact value wherever that is a normal "
        "number; float16 and bfloat16 are the float32 result, rounded once."
    )


def _backward_accuracy(op: Op) -> str:
    text = (
        f"float32 and float64 results are within {op.backward_ulp:g} ULP wherever the exact value is a normal number; "
        "float16 and bfloat16 are the float32 result, rounded once."
    )
    if op.zeros:
        variable = "x" if op.scale is None else f"{op.params[0].name} x"
        zeros = ", ".join(f"{zero:.6g}" for zero in op.zeros)
        text += (
            f" Within {op.near:g} of the derivative's own zero at {variable} = {zeros} the bound is absolute: 2^-22 "
            "|dy| in float32, 2^-51 |dy| in float64."
        )
    return text


def _example_arguments(op: Op) -> str:
    pairs = zip(op.params, op.parameters_default, strict=True)
    return "".join(f", {value:g}" for param, value in pairs if param.default is None)


def _forward_example(op: Op) -> str:
    return (
        ">>> import numpy as np, fastnn as fnn\n"
        ">>> x = np.linspace(-3, 3, 7, dtype=np.float32)\n"
        f">>> y = fnn.{op.name}(x{_example_arguments(op)})"
    )


def _backward_example(op: Op) -> str:
    saved = op.saved_for_backward("x", "y")
    result = "dx" if op.learned is None else f"dx, d{op.params[op.learned].name}"
    call = f"fnn.{op.name}_backward(np.ones_like(y), {saved}{_example_arguments(op)})"
    return f"{_forward_example(op)}\n>>> {result} = {call}"
