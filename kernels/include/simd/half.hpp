// float16 and bfloat16: stored in 16 bits, computed in float, rounded once to nearest even on the way out.
#pragma once

FASTNN_BEGIN

// binary16 in the low 16 bits of each lane -> float, exactly. The exponent field is shifted into place and the bias
// corrected by a multiplication, which also normalises subnormals; infinities and NaN get the exponent that stands for
// them.
template <class V>
FASTNN_FN V binary16_to_float(bits_t<V> h) {
  const bits_t<V> sign = shl<16>(h & bits_t<V>(0x8000u)), rest = shl<13>(h & bits_t<V>(0x7fffu));
  const V scaled = from_bits<V>(rest) * V(0x1p112f);
  const V special = from_bits<V>(bits(scaled) | bits_t<V>(format<float>::infinity));
  return from_bits<V>(bits(select(scaled >= V(65536.0f), special, scaled)) | sign);
}

// float -> binary16 in the low 16 bits. Normal results round by integer addition to the discarded bits; subnormal ones
// by adding a power of two whose last bit weighs 2^-24, the spacing of subnormal binary16.
template <class V>
FASTNN_FN bits_t<V> float_to_binary16(V x) {
  using B = bits_t<V>;
  const B sign = shr<16>(bits(x) & B(format<float>::sign));
  const V a = from_bits<V>(bits(x) & B(format<float>::sign - 1));
  const B odd = shr<13>(bits(a)) & B(1u);
  const V normal = from_bits<V>(shr<13>(bits(a) + odd + B(0xfffu - (112u << 23))));
  const V subnormal = from_bits<V>(bits(a + V(0.5f)) - bits(V(0.5f)));
  V h = select(a < V(0x1p-14f), subnormal, normal);
  h = select(a >= V(65520.0f), from_bits<V>(B(0x7c00u)), h);
  h = select(x != x, from_bits<V>(B(0x7e00u)), h);
  return bits(h) | sign;
}

template <class V>
FASTNN_FN V bfloat16_to_float(bits_t<V> h) {
  return from_bits<V>(shl<16>(h));
}
template <class V>
FASTNN_FN bits_t<V> float_to_bfloat16(V x) {
  using B = bits_t<V>;
  const B odd = shr<16>(bits(x)) & B(1u);
  const V rounded = from_bits<V>(shr<16>(bits(x) + odd + B(0x7fffu)));
  const V quiet = from_bits<V>(shr<16>(bits(x)) | B(0x40u));  // rounding up could turn a NaN into an infinity
  return bits(select(x != x, quiet, rounded));
}

FASTNN_END
