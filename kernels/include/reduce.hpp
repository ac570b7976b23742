// Sums that come out alike on every instruction set: 16 partial sums in double, element i on lane i mod 16, added up in
// one order at the end. Widening a float costs less than fetching it, and a sum of floats in double has no error to
// speak of: no compensation, no pairwise scheme, and any number of elements.
#pragma once
#include "simd.hpp"

FASTNN_BEGIN

constexpr int sum_lanes = 16;

struct lanes16 {
  static constexpr int parts = sum_lanes / lanes<vdouble>;
  vdouble part[parts];
};

FASTNN_FN lanes16 broadcast16(double c) {
  lanes16 r;
  FASTNN_UNROLL
  for (int k = 0; k < lanes16::parts; ++k) r.part[k] = vdouble(c);
  return r;
}

// f of every part of one, two or three operands
template <class F>
FASTNN_FN lanes16 map16(const lanes16& a, F f) {
  lanes16 r;
  FASTNN_UNROLL
  for (int k = 0; k < lanes16::parts; ++k) r.part[k] = f(a.part[k]);
  return r;
}
template <class F>
FASTNN_FN lanes16 map16(const lanes16& a, const lanes16& b, F f) {
  lanes16 r;
  FASTNN_UNROLL
  for (int k = 0; k < lanes16::parts; ++k) r.part[k] = f(a.part[k], b.part[k]);
  return r;
}
template <class F>
FASTNN_FN lanes16 map16(const lanes16& a, const lanes16& b, const lanes16& c, F f) {
  lanes16 r;
  FASTNN_UNROLL
  for (int k = 0; k < lanes16::parts; ++k) r.part[k] = f(a.part[k], b.part[k], c.part[k]);
  return r;
}
FASTNN_FN lanes16 operator+(const lanes16& a, const lanes16& b) {
  return map16(a, b, [](vdouble x, vdouble y) { return x + y; });
}

// 16 numbers from vectors of floats (`at(k)` gives the elements from k on) or of doubles
template <class Load>
FASTNN_FN lanes16 gather16(vfloat, Load at) {
  lanes16 r;
  constexpr int each = lanes<vfloat> / lanes<vdouble>;
  FASTNN_UNROLL
  for (int k = 0; k < lanes16::parts / each; ++k) {
    const doubles d = widen(at(k * lanes<vfloat>));
    FASTNN_UNROLL
    for (int j = 0; j < each; ++j) r.part[k * each + j] = d.part[j];
  }
  return r;
}
template <class Load>
FASTNN_FN lanes16 gather16(vdouble, Load at) {
  lanes16 r;
  FASTNN_UNROLL
  for (int k = 0; k < lanes16::parts; ++k) r.part[k] = at(k * lanes<vdouble>);
  return r;
}

// 16 elements of storage S (cpu/storage.hpp) from p on, as doubles
template <class S, class T>
FASTNN_FN lanes16 load16(const T* p) {
  return gather16(typename S::V(), [&](int k) { return S::load(p + k); });
}
// the first n < 16 of them, and 0
template <class S, class T>
FASTNN_FN lanes16 load16_first(const T* p, int n) {
  using V = typename S::V;
  return gather16(V(), [&](int k) {
    return n - k >= lanes<V> ? S::load(p + k) : n > k ? S::load_first(p + k, n - k) : V(0.0f);
  });
}

// Lane k and lane k + 8 first, then by halves; the first steps are additions of whole vectors.
FASTNN_FN double total(const lanes16& sums) {
  lanes16 r = sums;
  FASTNN_UNROLL
  for (int width = lanes16::parts / 2; width > 0; width /= 2) FASTNN_UNROLL
  for (int k = 0; k < width; ++k) r.part[k] = r.part[k] + r.part[k + width];
  return fold_sum(r.part[0]);
}

FASTNN_END
