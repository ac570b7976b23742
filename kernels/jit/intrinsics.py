"""The operations that formulas are written with, as Numba compiles them: the Python twin of include/simd.hpp.

A formula is a function of float32 or float64 scalars whose loop LLVM turns into vector code, so nothing here branches
or calls a library. Within a formula, `V = type(x)` is its number type and `V(0.5)` a number of that type: a bare `0.5`
is float64 and would widen everything it touches.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import errors
from numba.extending import intrinsic, overload

from fastnn.kernels.jit import coefficients

# What stands for a number inside formulas: Numba infers the type, float32 or float64.
Value = Any
Mask = Any
Bits = Any
Formula = Any

_constants: dict[str, tuple[Any, Any]] = {
    name: (value, coefficients.constants_float64[name]) for name, value in coefficients.constants_float32.items()
}


def formula(function: Any) -> Any:
    """Compile a function of scalars for use inside other formulas and loops. It is always inlined."""
    return njit(error_model="numpy", fastmath=False, boundscheck=False, forceinline=True)(function)


def by_type(float32: Formula, float64: Formula) -> Any:
    """Make a function of one number out of two formulas, one for each type."""

    def decorate(function: Any) -> Any:
        options = {"error_model": "numpy", "forceinline": True}

        @overload(function, jit_options=options, strict=False)
        def choose(x: Any) -> Any:
            _require_float(x)
            chosen = float32 if x == types.float32 else float64
            return lambda x: chosen(x)

        return function

    return decorate


def define(name: str, float32: float, float64: float) -> None:
    """Name a constant that differs between float32 and float64, for `constant`."""
    _constants[name] = (np.float32(float32), np.float64(float64))


define("bias", 127.0, 1023.0)
define("shifter", 1.5 * 2.0**23, 1.5 * 2.0**52)  # adding it leaves an integer in the low bits
define("shifter_and_bias", 1.5 * 2.0**23 + 127, 1.5 * 2.0**52 + 1023)
define("product_tiny", 2.25 * 2.0**-80, 2.25 * 2.0**-918)  # below it the error of a product may underflow
define("largest", float(np.finfo(np.float32).max), float(np.finfo(np.float64).max))


def constant_of(name: str, number: Any) -> float:
    """The value that `constant` gives for the Numba type `number`."""
    return float(_constants[name][number == types.float64])


def _literal(name: Any) -> str:
    if not isinstance(name, types.StringLiteral):
        raise errors.RequireLiteralValue("expected the name as a literal")
    return str(name.literal_value)


def _require_float(x: Any) -> None:
    if x not in (types.float32, types.float64):
        raise errors.TypingError(f"expected float32 or float64, got {x}; is a literal missing its V(...)?")


def _layout(x: Any) -> tuple[Any, Any]:
    """The unsigned integer type as wide as the float type `x`, in Numba's and in LLVM's terms."""
    return (types.uint32, ir.IntType(32)) if x == types.float32 else (types.uint64, ir.IntType(64))


def _llvm_float(x: Any) -> Any:
    return ir.FloatType() if x == types.float32 else ir.DoubleType()


def _number(x: Any, value: Any) -> Any:
    return ir.Constant(_llvm_float(x), float(value))


@intrinsic
def constant(typingctx: Any, x: Any, name: Any) -> Any:
    """The constant `name`, from coefficients.py or `define`, in the type of `x`."""
    _require_float(x)
    value = constant_of(_literal(name), x)
    return x(x, name), lambda context, builder, signature, arguments: _number(x, value)


def _sum(builder: Any, x: Any, variable: Any, table: Any) -> Any:
    sum = _number(x, table[-1])
    for coefficient in reversed(table[:-1]):
        sum = builder.fma(sum, variable, _number(x, coefficient))
    return sum


@intrinsic
def polynomial(typingctx: Any, x: Any, name: Any) -> Any:
    """Horner's rule over the fitted coefficients `name`."""
    _require_float(x)
    table = getattr(coefficients, str(x))[_literal(name)]
    return x(x, name), lambda context, builder, signature, arguments: _sum(builder, x, arguments[0], table)


@intrinsic
def polynomial_by_halves(typingctx: Any, x: Any, square: Any, name: Any, minus: Any) -> Any:
    """The same at x, or at -x where `minus`: even and odd terms by Horner's rule in `square`, half as long a chain."""
    _require_float(x)
    table = getattr(coefficients, str(x))[_literal(name)]
    odd = [-value for value in table[1::2]] if minus.literal_value else table[1::2]

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        even_sum = _sum(builder, x, arguments[1], table[::2])
        return builder.fma(_sum(builder, x, arguments[1], odd), arguments[0], even_sum)

    return x(x, x, name, minus), generate


def _fused(a: Any, b: Any, c: Any, product_sign: int, sum_sign: int) -> Any:
    _require_float(a)
    if not a == b == c:
        raise errors.TypingError(f"expected three numbers of one type, got {a}, {b}, {c}")

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        x, y, z = arguments
        return builder.fma(builder.fneg(x) if product_sign < 0 else x, y, builder.fneg(z) if sum_sign < 0 else z)

    return a(a, b, c), generate


@intrinsic
def fmadd(typingctx: Any, a: Any, b: Any, c: Any) -> Any:
    """The sum a b + c, rounded once."""
    return _fused(a, b, c, 1, 1)


@intrinsic
def fmsub(typingctx: Any, a: Any, b: Any, c: Any) -> Any:
    """The difference a b - c, rounded once."""
    return _fused(a, b, c, 1, -1)


@intrinsic
def fnmadd(typingctx: Any, a: Any, b: Any, c: Any) -> Any:
    """The difference c - a b, rounded once."""
    return _fused(a, b, c, -1, 1)


@intrinsic
def select(typingctx: Any, mask: Any, a: Any, b: Any) -> Any:
    """`a if mask else b` with both computed: no branch."""
    if a != b:
        raise errors.TypingError(f"expected two numbers of one type, got {a} and {b}")
    return a(types.boolean, a, b), lambda context, builder, signature, arguments: builder.select(*arguments)


@intrinsic
def bits(typingctx: Any, x: Any) -> Any:
    """The bits of a float as an unsigned integer."""
    _require_float(x)
    unsigned, llvm = _layout(x)
    return unsigned(x), lambda context, builder, signature, arguments: builder.bitcast(arguments[0], llvm)


@intrinsic
def from_bits(typingctx: Any, u: Any) -> Any:
    """The float whose bits an unsigned integer holds."""
    if u not in (types.uint32, types.uint64):
        raise errors.TypingError(f"expected uint32 or uint64, got {u}")
    x = types.float32 if u == types.uint32 else types.float64
    return x(u), lambda context, builder, signature, arguments: builder.bitcast(arguments[0], _llvm_float(x))


@intrinsic
def copysign(typingctx: Any, magnitude: Any, sign: Any) -> Any:
    """`magnitude` with the sign bit of `sign`, NaN and zeros included."""
    _require_float(magnitude)

    def generate(context: Any, builder: Any, _: Any, arguments: Any) -> Any:
        number = arguments[0].type
        signature = ir.FunctionType(number, [number, number])
        function = builder.module.declare_intrinsic("llvm.copysign", [number], signature)
        return builder.call(function, arguments)

    return magnitude(magnitude, magnitude), generate


@intrinsic
def exponent_of(typingctx: Any, shifted: Any) -> Any:
    """2^n from n + shifter_and_bias: the low bits of that sum are shifted into the exponent field."""
    _require_float(shifted)
    _, llvm = _layout(shifted)
    mantissa = 23 if shifted == types.float32 else 52

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        field = builder.shl(builder.bitcast(arguments[0], llvm), ir.Constant(llvm, mantissa))
        return builder.bitcast(field, _llvm_float(shifted))

    return shifted(shifted), generate


@intrinsic
def quadrant_code(typingctx: Any, shifted: Any, offset: Any) -> Any:
    """The low two bits of shifted + offset at the top of a number: 0, 2, -0 and -2."""
    _require_float(shifted)
    if not isinstance(offset, types.IntegerLiteral):
        raise errors.RequireLiteralValue("expected the offset as a literal")
    _, llvm = _layout(shifted)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        quadrant = builder.add(builder.bitcast(arguments[0], llvm), ir.Constant(llvm, offset.literal_value))
        return builder.bitcast(builder.shl(quadrant, ir.Constant(llvm, llvm.width - 2)), _llvm_float(shifted))

    return shifted(shifted, offset), generate


@intrinsic
def flip_sign(typingctx: Any, x: Any, sign: Any) -> Any:
    """`x`, negated where the sign bit of `sign` is set."""
    _require_float(x)
    _, llvm = _layout(x)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        value, other = (builder.bitcast(argument, llvm) for argument in arguments)
        bit = builder.and_(other, ir.Constant(llvm, 1 << (llvm.width - 1)))
        return builder.bitcast(builder.xor(value, bit), _llvm_float(x))

    return x(x, x), generate


@formula
def vmin(a: Value, b: Value) -> Value:
    """The smaller; `b` where either is NaN."""
    return select(a < b, a, b)


@formula
def vmax(a: Value, b: Value) -> Value:
    """The larger; `b` where either is NaN."""
    return select(a > b, a, b)


@formula
def clamp(x: Value, low: Value, high: Value) -> Value:
    """`x` between `low` and `high`; NaN stays."""
    return vmin(high, vmax(low, x))


@formula
def nearest(x: Value) -> Value:
    """`x` rounded to the nearest integer, ties to even, for |x| up to 2^22 (float64: 2^51)."""
    shifter = constant(x, "shifter")
    return (x + shifter) - shifter


@formula
def shifted_product(x: Value, c: Value) -> Value:
    """n + shifter_and_bias for the integer n nearest to x c."""
    return fmadd(x, c, constant(x, "shifter_and_bias"))


@formula
def round_to_integer(x: Value) -> tuple[Value, Value]:
    """(n, 2^n) for the integer n nearest to x."""
    shifter = constant(x, "shifter_and_bias")
    shifted = x + shifter
    return shifted - shifter, exponent_of(shifted)


@formula
def round_product(x: Value, c: Value) -> tuple[Value, Value]:
    """(n, 2^n) for the integer n nearest to x c."""
    shifted = shifted_product(x, c)
    return shifted - constant(x, "shifter_and_bias"), exponent_of(shifted)


@formula
def exp2_integer(n: Value) -> Value:
    """2^n for an integral n between 1 - bias and bias."""
    return exponent_of(n + constant(n, "shifter_and_bias"))


@formula
def scale(x: Value, n: Value) -> Value:
    """The product x 2^n where n is an exponent of normal numbers."""
    return x * exp2_integer(n)
