// Sums of averages: vectors of V as doubles, rows of them in the cache, and the way back to memory.
#pragma once
#include "../include/reduce.hpp"
#include "pooling_rows.hpp"

FASTNN_BEGIN
namespace {

// The elements of U as doubles.
template <class U, bool vector = (lanes<U> > 1)>
struct sums {
  using element = U;
  using W = double;
  double part[1];
  FASTNN_FN static sums of(U v) { return {{static_cast<double>(v)}}; }
  FASTNN_FN U rounded() const { return static_cast<U>(part[0]); }
};
template <>
struct sums<vfloat, true> : doubles {
  using element = vfloat;
  using W = vdouble;
  FASTNN_FN static sums of(vfloat v) { return {widen(v)}; }
  FASTNN_FN vfloat rounded() const { return narrow(*this); }
};
template <>
struct sums<vdouble, true> {
  using element = vdouble;
  using W = vdouble;
  vdouble part[1];
  FASTNN_FN static sums of(vdouble v) { return {{v}}; }
  FASTNN_FN vdouble rounded() const { return part[0]; }
};
// f(i, part i, the number of elements before it)
template <class U, class F>
FASTNN_FN void each_part(sums<U>& s, F f) {
  using W = typename sums<U>::W;
  for (int i = 0; i < lanes<U> / lanes<W>; ++i) f(s.part[i], i, i * lanes<W>);
}

template <class U, bool vector>
FASTNN_FN sums<U, vector> operator+(sums<U, vector> a, const sums<U, vector>& b) {
  for (std::size_t i = 0; i < sizeof a.part / sizeof a.part[0]; ++i) a.part[i] = a.part[i] + b.part[i];
  return a;
}
template <class V>
FASTNN_FN sums<V> load_sums(const double* from) {
  sums<V> s;
  each_part<V>(s, [&](auto& part, int, int at) { part = load<typename sums<V>::W>(from + at); });
  return s;
}
template <class V>
FASTNN_FN void store_sums(double* to, sums<V> s) {
  each_part<V>(s, [&](auto& part, int, int at) { store(to + at, part); });
}
// A vector of an array that ends at `end`: what lies behind that is 0.
template <class T>
FASTNN_FN typename storage<T>::V load_before(const T* from, const T* end) {
  using S = storage<T>;
  const int64_t room = end - from;
  return room >= lanes<typename S::V> ? S::load(from) : S::load_first(from, room > 0 ? static_cast<int>(room) : 0);
}

// Runs of doubles in the cache: sums of columns, and gradients. Vectors may end 16 elements behind them.
constexpr int64_t block = 1024;
template <int64_t n>
struct buffer {
  alignas(64) double at[n + sum_lanes];
};

// Rounds vectors of columns and stores them, also where fewer are left than a vector has.
template <class T>
struct row_writer {
  using S = storage<T>;
  using V = typename S::V;
  T *to, *end;
  FASTNN_FN void put(int64_t k, V v) const {
    const int64_t room = end - to - k;
    if (room >= lanes<V>)
      S::store(to + k, v);
    else if (room > 0)
      S::store_first(to + k, v, static_cast<int>(room));
  }
};

}  // namespace
FASTNN_END
