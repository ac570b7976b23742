// Operations that every value type builds from the ones of its own header.
#pragma once

FASTNN_BEGIN

// What follows is written on the sign bit, so that NaN and signed zeros come out alike on every instruction set.
template <class V>
FASTNN_FN V vabs(V x) {
  return from_bits<V>(bits(x) & bits_t<V>(format_of<V>::sign - 1));
}
template <class V>
FASTNN_FN V copysign(V magnitude, V sign) {
  const bits_t<V> s(format_of<V>::sign), rest(format_of<V>::sign - 1);
  return from_bits<V>((bits(magnitude) & rest) | (bits(sign) & s));
}
// The same for a magnitude that has no sign bit yet.
template <class V>
FASTNN_FN V with_sign_of(V magnitude, V sign) {
  return from_bits<V>(bits(magnitude) | (bits(sign) & bits_t<V>(format_of<V>::sign)));
}

// Adding 1.5 * 2^mantissa pushes the fraction out of the significand; the current rounding (nearest even) does the
// rest.
template <class V>
FASTNN_FN V nearest(V x) {
  const V shifter(format_of<V>::shifter);
  return (x + shifter) - shifter;
}

// nearest(x * c), the product not rounded on its own where there is an FMA unit
template <class V>
FASTNN_FN V nearest_product(V x, V c) {
  const V shifter(format_of<V>::shifter);
  return fmadd(x, c, shifter) - shifter;
}

// The same with 2^n at hand: n + bias is left in the low bits of `shifted`, a shift away from the exponent field.
template <class V>
struct rounded {
  V n, shifted;
};
template <class V>
FASTNN_FN rounded<V> round_to_integer(V x) {
  const V shifter(format_of<V>::shifter + format_of<V>::bias), shifted = x + shifter;
  return {shifted - shifter, shifted};
}
template <class V>
FASTNN_FN rounded<V> round_product(V x, V c) {
  const V shifter(format_of<V>::shifter + format_of<V>::bias), shifted = fmadd(x, c, shifter);
  return {shifted - shifter, shifted};
}
template <class V>
FASTNN_FN V exp2_of(rounded<V> r) {
  return from_bits<V>(shl<format_of<V>::mantissa>(bits(r.shifted)));
}

// 2^n for integral n with 1 - bias <= n <= bias: n + bias is shifted from the low bits of a sum into the exponent
// field.
template <class V>
FASTNN_FN V exp2_integer(V n) {
  const V biased = n + V(format_of<V>::shifter + format_of<V>::bias);
  return from_bits<V>(shl<format_of<V>::mantissa>(bits(biased)));
}

// a b - a * b without an FMA unit (Dekker 1971): both factors are cut in two halves whose products are exact.
template <class V>
FASTNN_FN V product_error_by_halves(V a, V b, V p) {
  constexpr int low = (format_of<V>::mantissa + 2) / 2;
  const bits_t<V> keep(~((typename format_of<V>::uint(1) << low) - 1));
  const V ah = from_bits<V>(bits(a) & keep), al = a - ah;
  const V bh = from_bits<V>(bits(b) & keep), bl = b - bh;
  return ((ah * bh - p) + ah * bl + al * bh) + al * bl;
}
template <class V>
FASTNN_FN V product_error(V a, V b, V p) {
  if constexpr (traits<V>::fused)
    return fmadd(a, b, -p);
  else
    return product_error_by_halves(a, b, p);
}

// a b + c rounded once, or nearly so: without an FMA unit the errors of product and sum are added at the end (Knuth's
// two-sum). For the few places where a bound would not hold on x86-64-v2 otherwise; elsewhere fmadd is cheaper.
template <class V>
FASTNN_FN V fmadd_once(V a, V b, V c) {
  if constexpr (traits<V>::fused) {
    return fmadd(a, b, c);
  } else {
    const V p = a * b, s = p + c, d = s - p;
    return s + (((p - (s - d)) + (c - d)) + product_error(a, b, p));
  }
}

// x, which the compiler must have in a register by now. It likes to make one masked operation on memory of a load, an
// operation and a select; the processor then waits for every cache line in turn, ten times as long for large arrays.
#if !defined(FASTNN_ISA_v4)
template <class V>
FASTNN_FN V fetched(V x) {
  return x;
}
#else
FASTNN_FN float fetched(float x) { return x; }
FASTNN_FN double fetched(double x) { return x; }
#endif

// The first n < lanes values from p, the other lanes = fill; and back. AVX-512 masks; the others go through memory.
#if !defined(FASTNN_ISA_v4)
template <class V>
FASTNN_FN V load_first(const scalar_t<V>* p, int n, V fill) {
  scalar_t<V> lane[lanes<V>];
  store(lane, fill);
  FASTNN_MEMCPY(lane, p, n * sizeof lane[0]);
  return load<V>(lane);
}
template <class V>
FASTNN_FN void store_first(scalar_t<V>* p, V x, int n) {
  scalar_t<V> lane[lanes<V>];
  store(lane, x);
  FASTNN_MEMCPY(p, lane, n * sizeof lane[0]);
}
#endif

// x 2^n where n is an exponent of normal numbers. AVX-512 has an instruction for it, which takes every n.
#if !defined(FASTNN_ISA_v4)
template <class V>
constexpr bool scales_any = false;
template <class V>
FASTNN_FN V scale(V x, V n) {
  return x * exp2_integer(n);
}
#else
template <class V>
constexpr bool scales_any = lanes<V> > 1;
FASTNN_FN float scale(float x, float n) { return x * exp2_integer(n); }
FASTNN_FN double scale(double x, double n) { return x * exp2_integer(n); }
#endif

// x 2^n for |n| <= 2 * bias and 1/2 <= |x| < 2, rounded once: the first factor leaves x normal.
template <class V>
FASTNN_FN V ldexp(V x, V n) {
  if constexpr (scales_any<V>) {
    return scale(x, n);
  } else {
    const V bias(format_of<V>::bias), first = vmin(bias, vmax(V(2.0f) - bias, n));
    return scale(scale(x, first), n - first);
  }
}

#if !defined(FASTNN_ISA_v2)
FASTNN_FN void store_bfloat16(u16* p, vfloat x) { narrow16(p, float_to_bfloat16(x)); }
#endif

FASTNN_END
