// How softmax and the losses made of it walk over memory: arrays of shape (outer, classes, inner), C-contiguous, one
// result for each of the outer * inner columns.
//
// Three ways. Where inner is 1 and classes are many: along each row, a vector of classes at a time. Else tiles of
// columns are copied into the first-level cache, turned over where inner is small, and walked down, a vector of columns
// at a time. Where classes are too many for a tile, columns are walked down where they lie. Which of them is a matter
// of the shape alone, so results are too.
//
// Bytes: each input read once from memory, each output written once, as long as a row fits the second-level cache.
// Rejected: one pass with a running maximum (a rescaling an element, for a read from the first-level cache); rows of
// few classes as masked vectors, a third of whose lanes and all of whose horizontal sums are wasted; walking down
// columns without a tile, whose strides make the lines of a strip fall on a few sets of the cache.
#pragma once
#include <cstdint>

#include "../include/reduce.hpp"
#include "../include/softmax.hpp"
#include "columns.hpp"
#include "storage.hpp"

FASTNN_BEGIN
namespace {

using namespace fastnn_cpu;
using std::int64_t;

template <class T>
using vector_of = typename storage<T>::V;

// n elements from p on, and zeros
template <class T>
FASTNN_FN vector_of<T> load_some(const T* p, int n) {
  return n == lanes<vector_of<T>> ? storage<T>::load(p) : storage<T>::load_first(p, n);
}
template <class T>
FASTNN_FN void store_some(T* p, vector_of<T> x, int n) {
  if (n == lanes<vector_of<T>>)
    storage<T>::store(p, x);
  else
    storage<T>::store_first(p, x, n);
}

template <class S>
constexpr S lowest = -__builtin_inf();
template <class T>
constexpr T minus_infinity = lowest<T>;
template <>
constexpr binary16 minus_infinity<binary16> = {0xfc00};
template <>
constexpr bfloat16 minus_infinity<bfloat16> = {0xff80};

// n elements from p on, and minus infinities, whose exponential is 0
template <class T>
FASTNN_FN vector_of<T> load_logits(const T* p, int n) {
  using V = vector_of<T>;
  if (n == lanes<V>) return storage<T>::load(p);
  if constexpr (sizeof(T) == sizeof(scalar_t<V>)) {
    return load_first<V>(p, n, V(lowest<T>));
  } else {
    T lane[lanes<V>];
    for (int k = 0; k < lanes<V>; ++k) lane[k] = minus_infinity<T>;
    __builtin_memcpy(lane, p, n * sizeof(T));
    return storage<T>::load(lane);
  }
}

template <class V>
struct pair {
  V a, b;
};

// A walk knows the elements of one column, or of a vector of columns, by their offsets from the first:
//   each(f)        calls f(offset, class, elements) for every vector
//   sum<V>(f)      the sum over classes of the terms that f(offset, class, elements) gives, in every lane it belongs to
//   products<V>(f) the sum over classes of a b for the pairs that f gives, the products in double
//   maximum(x)     of logits; NaN does not change it, but comes back with the exponential

// Floats are added up by fours before they are widened, which costs more than the additions: three roundings at most,
// however many they are.
template <class V>
constexpr bool by_fours = sizeof(scalar_t<V>) == 4;

// Down a vector of n columns: class c lies at c * stride.
struct down {
  static constexpr bool one_column = false;
  int64_t classes, stride;
  int n;

  template <class F>
  FASTNN_FN void each(F f) const {
    for (int64_t c = 0; c < classes; ++c) f(c * stride, c, n);
  }

  template <class V, class F>
  FASTNN_FN wide<V> sum(F f) const {
    const auto term = [&](int64_t c) { return f(c * stride, c, n); };
    if constexpr (by_fours<V>) {
      wide<V> sum = broadcast_wide<V>(0.0);
      int64_t c = 0;
      for (; c + 4 <= classes; c += 4) {
        const V t0 = term(c), t1 = term(c + 1), t2 = term(c + 2), t3 = term(c + 3);
        sum = sum + to_wide((t0 + t1) + (t2 + t3));
      }
      for (; c < classes; ++c) sum = sum + to_wide(term(c));
      return sum;
    } else {  // the rounding errors are kept
      V high(0.0f), low(0.0f);
      for (int64_t c = 0; c < classes; ++c) {
        const V t = term(c), sum = high + t, d = sum - high;
        low = low + ((high - (sum - d)) + (t - d));
        high = sum;
      }
      return to_wide(select(high - high == V(0.0f), high + low, high));  // infinity has none
    }
  }

  template <class V, class F>
  FASTNN_FN wide<V> products(F f) const {
    wide<V> sum = broadcast_wide<V>(0.0);
    for (int64_t c = 0; c < classes; ++c) {
      const pair<V> p = f(c * stride, c, n);
      sum = map([](vdouble a, vdouble b, vdouble s) { return fmadd(a, b, s); }, to_wide(p.a), to_wide(p.b), sum);
    }
    return sum;
  }

  template <class T>
  FASTNN_FN vector_of<T> maximum(const T* x) const {
    using V = vector_of<T>;
    V a(lowest<scalar_t<V>>), b = a;
    int64_t c = 0;
    for (; c + 2 <= classes; c += 2) {
      a = vmax(load_logits(x + c * stride, n), a);
      b = vmax(load_logits(x + (c + 1) * stride, n), b);
    }
    if (c < classes) a = vmax(load_logits(x + c * stride, n), a);
    return vmax(b, a);
  }
};

// A sum with its rounding errors
struct compensated {
  double high = 0.0, low = 0.0;

  FASTNN_FN void add(double x) {
    const double sum = high + x, d = sum - high;
    low += (high - (sum - d)) + (x - d);
    high = sum;
  }
  FASTNN_FN double value() const { return high - high == 0.0 ? high + low : high; }  // infinity has none
};

// Along a row. Sums have 16 lanes, and blocks that are added up with their rounding errors kept, so that the error does
// not grow with the row.
struct along {
  static constexpr bool one_column = true;
  static constexpr int64_t block = 1024;
  int64_t classes;

  template <class V, class F>
  FASTNN_FN void each_of(F f) const {
    int64_t i = 0;
    for (; i + lanes<V> <= classes; i += lanes<V>) f(i, i, lanes<V>);
    if (i < classes) f(i, i, static_cast<int>(classes - i));
  }

  // Adds up blocks of sums16(begin, end).
  template <class V, class Sums>
  FASTNN_FN wide<V> blocks(Sums sums16) const {
    compensated sum;
    for (int64_t i = 0; i < classes; i += block) sum.add(total(sums16(i, classes - i < block ? classes : i + block)));
    return broadcast_wide<V>(sum.value());
  }
  // How many of a vector's elements from i on are below end
  template <class V>
  static FASTNN_FN int count(int64_t i, int64_t end) {
    return end - i < lanes<V> ? static_cast<int>(end - i) : lanes<V>;
  }

  template <class V, class F>
  FASTNN_FN wide<V> sum(F f) const {
    return blocks<V>([&](int64_t i, int64_t end) {
      lanes16 sums = broadcast16(0.0);
      if constexpr (by_fours<V>)
        for (; i + 4 * sum_lanes <= end; i += 4 * sum_lanes)
          sums = sums + gather16(V(), [&](int k) {
                   V t[4];
                   FASTNN_UNROLL
                   for (int q = 0; q < 4; ++q) t[q] = f(i + q * sum_lanes + k, i + q * sum_lanes + k, lanes<V>);
                   return (t[0] + t[1]) + (t[2] + t[3]);
                 });
      for (; i + sum_lanes <= end; i += sum_lanes)
        sums = sums + gather16(V(), [&](int k) { return f(i + k, i + k, lanes<V>); });
      if (i < end)
        sums =
            sums + gather16(V(), [&](int k) { return i + k < end ? f(i + k, i + k, count<V>(i + k, end)) : V(0.0f); });
      return sums;
    });
  }

  template <class V, class F>
  FASTNN_FN wide<V> products(F f) const {
    return blocks<V>([&](int64_t i, int64_t end) {
      lanes16 sums = broadcast16(0.0);
      for (; i < end; i += sum_lanes) FASTNN_UNROLL
      for (int k = 0; k < sum_lanes && i + k < end; k += lanes<V>) {
        const pair<V> p = i + k + lanes<V> <= end ? f(i + k, i + k, lanes<V>) : f(i + k, i + k, count<V>(i + k, end));
        const wide<V> a = to_wide(p.a), b = to_wide(p.b);
        FASTNN_UNROLL
        for (int j = 0; j < a.parts; ++j) {
          vdouble& s = sums.part[k / lanes<vdouble> + j];
          s = fmadd(a.part[j], b.part[j], s);
        }
      }
      return sums;
    });
  }

  template <class T>
  FASTNN_FN vector_of<T> maximum(const T* x) const {
    using V = vector_of<T>;
    const V low(lowest<scalar_t<V>>);
    V m[4] = {low, low, low, low};
    int64_t i = 0;
    for (; i + 4 * lanes<V> <= classes; i += 4 * lanes<V>) FASTNN_UNROLL
    for (int k = 0; k < 4; ++k) m[k] = vmax(storage<T>::load(x + i + k * lanes<V>), m[k]);
    for (; i + lanes<V> <= classes; i += lanes<V>) m[0] = vmax(storage<T>::load(x + i), m[0]);
    if (i < classes) m[1] = vmax(load_logits(x + i, static_cast<int>(classes - i)), m[1]);
    return V(fold_max(vmax(vmax(m[3], m[2]), vmax(m[1], m[0]))));
  }
};

// each() of either walk, in vectors of V
template <class V, class F>
FASTNN_FN void each_vector(const down& walk, F f) {
  walk.each(f);
}
template <class V, class F>
FASTNN_FN void each_vector(const along& walk, F f) {
  walk.each_of<V>(f);
}

// The number of ones that a walk has counted in the lanes of `ones`
template <class V>
FASTNN_FN wide<V> counted(const down&, V ones) {
  return to_wide(ones);
}
template <class V>
FASTNN_FN wide<V> counted(const along&, V ones) {
  scalar_t<V> lane[lanes<V>];
  store(lane, ones);
  double sum = 0.0;
  for (int k = 0; k < lanes<V>; ++k) sum += lane[k];
  return broadcast_wide<V>(sum);
}

// The sums of exponentials of a walk, the maximum apart; each vector of exponentials goes to keep(offset, e, elements).
template <class Walk, class T, class Keep>
FASTNN_FN softmax_sums<vector_of<T>> exponential_sums(const Walk& walk, const T* x, vector_of<T> maximum,
                                                      const softmax_shift<vector_of<T>>& shift, Keep keep) {
  using V = vector_of<T>;
  const V zero(0.0f), one(1.0f);
  V ties = zero;
  const wide<V> tail = walk.template sum<V>([&](int64_t at, int64_t, int n) {
    const V v = load_logits(x + at, n), e = softmax_exp(v, shift);
    const mask_t<V> top = v == maximum;
    ties = ties + select(top, one, zero);
    keep(at, e, n);
    return select(top, zero, e);
  });
  return {maximum, tail, counted(walk, ties), to_wide(softmax_exp(maximum, shift))};
}

// Where columns lie in memory, and in a tile
struct tile_layout {
  int64_t classes, inner;
  int64_t stride;  // of the tile: columns that it has room for

  FASTNN_FN tile_layout(int64_t classes, int64_t inner, int64_t elements = tile_elements)
      : classes(classes), inner(inner) {
    const int64_t fit = elements / classes / tile_columns * tile_columns;
    stride = inner < tile_columns ? tile_columns : fit < widest_tile ? fit : widest_tile;
  }
  FASTNN_FN int64_t offset(int64_t column) const {
    const int64_t outer = column / inner;
    return outer * classes * inner + (column - outer * inner);
  }

  // Calls f(first column, columns) for tiles of the columns [begin, end).
  template <class F>
  FASTNN_FN void each(int64_t begin, int64_t end, F f) const {
    while (begin < end) {
      int64_t n = end - begin < stride ? end - begin : stride;
      if (inner >= tile_columns) {  // within one of the outer blocks
        const int64_t left = inner - begin % inner;
        n = left < n ? left : n;
      }
      f(begin, static_cast<int>(n));
      begin += n;
    }
  }
  template <class T>
  __attribute__((noinline)) void load(T* tile, const T* from, int64_t first, int columns) const {
    if (inner >= tile_columns) {
      const T* const p = from + offset(first);
      for (int64_t c = 0; c < classes; ++c) __builtin_memcpy(tile + c * stride, p + c * inner, columns * sizeof(T));
    } else {
      for (int j = 0; j < columns; ++j) {
        const T* const p = from + offset(first + j);
        for (int64_t c = 0; c < classes; ++c) tile[c * stride + j] = p[c * inner];
      }
    }
  }
  template <class T>
  __attribute__((noinline)) void store(T* to, const T* tile, int64_t first, int columns) const {
    if (inner >= tile_columns) {
      T* const p = to + offset(first);
      for (int64_t c = 0; c < classes; ++c) __builtin_memcpy(p + c * inner, tile + c * stride, columns * sizeof(T));
    } else {
      for (int j = 0; j < columns; ++j) {
        T* const p = to + offset(first + j);
        for (int64_t c = 0; c < classes; ++c) p[c * inner] = tile[c * stride + j];
      }
    }
  }
};

// Columns where they lie: calls f(offset, columns, first column) for vectors of V.
template <class V, class F>
FASTNN_FN void by_columns(int64_t classes, int64_t inner, int64_t begin, int64_t end, F f) {
  while (begin < end) {
    const int64_t outer = begin / inner, i = begin - outer * inner;
    int64_t n = inner - i < end - begin ? inner - i : end - begin;
    if (n > lanes<V>) n = lanes<V>;
    f(outer * classes * inner + i, static_cast<int>(n), begin);
    begin += n;
  }
}

}  // namespace
FASTNN_END
