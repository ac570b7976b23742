"""float16 and bfloat16 in memory, float32 in formulas: include/simd/half.hpp, as instructions.

Where the processor does not convert float16 itself, integer arithmetic does, which every loop vectorises.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

_I16, _I32, _F32 = ir.IntType(16), ir.IntType(32), ir.FloatType()


def _converts(context: Any) -> bool:
    """Has the processor that code is generated for instructions for float16?"""
    triple, _, features = context.codegen().magic_tuple()
    return "aarch64" in triple or "arm64" in triple or {"+avx", "+f16c"} <= set(features.split(","))


def load_half(context: Any, builder: Any, dtype: str, bits: Any) -> Any:
    """The float32 that is equal to the 16-bit number with these bits."""
    if dtype == "float16" and _converts(context):
        return builder.fpext(builder.bitcast(bits, ir.HalfType()), _F32)
    wide = builder.zext(bits, _I32)
    if dtype == "bfloat16":
        return _float(builder, builder.shl(wide, _int(16)))
    sign = builder.shl(builder.and_(wide, _int(0x8000)), _int(16))
    rest = builder.shl(builder.and_(wide, _int(0x7FFF)), _int(13))
    # The exponent field is in place, its bias is corrected by a multiplication, which also normalises subnormals.
    scaled = builder.fmul(_float(builder, rest), ir.Constant(_F32, 2.0**112))
    special = builder.or_(_bits(builder, scaled), _int(0x7F800000))
    beyond = builder.fcmp_ordered(">=", scaled, ir.Constant(_F32, 65536.0))
    magnitude = builder.select(beyond, special, _bits(builder, scaled))
    return _float(builder, builder.or_(magnitude, sign))


def store_half(context: Any, builder: Any, dtype: str, x: Any) -> Any:
    """The bits of the 16-bit number nearest to a float32, ties to even."""
    if dtype == "float16" and _converts(context):
        return builder.bitcast(builder.fptrunc(x, ir.HalfType()), _I16)
    bits = _bits(builder, x)
    nan = builder.fcmp_unordered("uno", x, x)
    if dtype == "bfloat16":
        odd = builder.and_(builder.lshr(bits, _int(16)), _int(1))
        rounded = builder.lshr(builder.add(bits, builder.add(odd, _int(0x7FFF))), _int(16))
        quiet = builder.or_(builder.lshr(bits, _int(16)), _int(0x40))  # rounding up could make an infinity of it
        return builder.trunc(builder.select(nan, quiet, rounded), _I16)
    sign = builder.lshr(builder.and_(bits, _int(0x80000000)), _int(16))
    magnitude = builder.and_(bits, _int(0x7FFFFFFF))
    a = _float(builder, magnitude)
    # Normal results round by integer addition to the bits that go, subnormal ones by adding a number whose last bit
    # weighs as much as theirs.
    odd = builder.and_(builder.lshr(magnitude, _int(13)), _int(1))
    rounded = builder.add(builder.add(magnitude, odd), _int(0xFFF - (112 << 23)))
    normal = builder.lshr(rounded, _int(13))
    half = ir.Constant(_F32, 0.5)
    subnormal = builder.sub(_bits(builder, builder.fadd(a, half)), _int(0x3F000000))
    h = builder.select(builder.fcmp_ordered("<", a, ir.Constant(_F32, 2.0**-14)), subnormal, normal)
    h = builder.select(builder.fcmp_ordered(">=", a, ir.Constant(_F32, 65520.0)), _int(0x7C00), h)
    h = builder.select(nan, _int(0x7E00), h)
    return builder.trunc(builder.or_(h, sign), _I16)


def _int(value: int) -> Any:
    return ir.Constant(_I32, value & 0xFFFFFFFF)


def _float(builder: Any, bits: Any) -> Any:
    return builder.bitcast(bits, _F32)


def _bits(builder: Any, x: Any) -> Any:
    return builder.bitcast(x, _I32)
