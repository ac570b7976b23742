// A vector of V in double precision: the accumulators of a vector of sums, and what is computed from them.
#pragma once
#include "simd.hpp"

FASTNN_BEGIN

template <class V>
struct wide {
  static constexpr int parts = lanes<V> / lanes<vdouble>;
  vdouble part[parts];
};

FASTNN_FN wide<vfloat> to_wide(vfloat x) {
  const doubles d = widen(x);
  wide<vfloat> r;
  FASTNN_UNROLL
  for (int k = 0; k < r.parts; ++k) r.part[k] = d.part[k];
  return r;
}
FASTNN_FN vfloat to_narrow(const wide<vfloat>& x) {
  doubles d;
  FASTNN_UNROLL
  for (int k = 0; k < x.parts; ++k) d.part[k] = x.part[k];
  return narrow(d);
}
FASTNN_FN wide<vdouble> to_wide(vdouble x) { return {{x}}; }
FASTNN_FN vdouble to_narrow(const wide<vdouble>& x) { return x.part[0]; }

template <class V>
FASTNN_FN wide<V> broadcast_wide(double c) {
  wide<V> r;
  FASTNN_UNROLL
  for (int k = 0; k < r.parts; ++k) r.part[k] = vdouble(c);
  return r;
}
// f of every part of some operands
template <class F, class V, class... W>
FASTNN_FN wide<V> map(F f, const wide<V>& a, const W&... rest) {
  wide<V> r;
  FASTNN_UNROLL
  for (int k = 0; k < r.parts; ++k) r.part[k] = f(a.part[k], rest.part[k]...);
  return r;
}
template <class V>
FASTNN_FN wide<V> operator+(const wide<V>& a, const wide<V>& b) {
  return map([](vdouble x, vdouble y) { return x + y; }, a, b);
}
template <class V>
FASTNN_FN wide<V> operator-(const wide<V>& a, const wide<V>& b) {
  return map([](vdouble x, vdouble y) { return x - y; }, a, b);
}
template <class V>
FASTNN_FN wide<V> operator*(const wide<V>& a, const wide<V>& b) {
  return map([](vdouble x, vdouble y) { return x * y; }, a, b);
}
template <class V>
FASTNN_FN wide<V> operator/(const wide<V>& a, const wide<V>& b) {
  return map([](vdouble x, vdouble y) { return x / y; }, a, b);
}

// The lanes of a wide as numbers in memory, and back.
template <class V>
FASTNN_FN void store(double* p, const wide<V>& x) {
  FASTNN_UNROLL
  for (int k = 0; k < x.parts; ++k) store(p + k * lanes<vdouble>, x.part[k]);
}
template <class V>
FASTNN_FN wide<V> load_wide(const double* p) {
  wide<V> r;
  FASTNN_UNROLL
  for (int k = 0; k < r.parts; ++k) r.part[k] = load<vdouble>(p + k * lanes<vdouble>);
  return r;
}

FASTNN_END
