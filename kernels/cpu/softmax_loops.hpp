// How softmax and the losses made of it walk over memory: arrays of shape (outer, classes, inner), C-contiguous, one
// result for each of the outer * inner columns.
//
// Three ways. Where inner is 1 and classes are many: along each row, 16 classes at a time. Else tiles of columns are
// copied into the first-level cache, turned over where inner is small, and walked down, a vector of columns at a time.
// Where classes are too many for a tile, columns are walked down where they lie. Which of them is a matter of the shape
// alone, so results are too.
//
// Bytes: each input read once from memory, each output written once, as long as a row fits the second-level cache.
// Rejected: one pass with a running maximum (a rescaling an element, for a read from the first-level cache); rows of few
// classes as masked vectors, a third of whose lanes and all of whose horizontal sums are wasted; walking down columns
// without a tile, whose strides make the lines of a strip fall on a few sets of the cache.
#pragma once
#include <cstdint>

#include "../include/reduce.hpp"
#include "../include/softmax.hpp"
#include "storage.hpp"

FASTNN_BEGIN
namespace {

constexpr std::int64_t row_classes = 64;  // rows of more than that are walked along
constexpr std::int64_t tile_elements = 8192, tile_columns = 16, widest_tile = 128;

// Can a vector of results be kept in an output array of T, to be finished later?
template <class T>
constexpr bool keeps = sizeof(T) >= 4;

template <class T>
using vector_of = typename storage<T>::V;

template <class S>
constexpr S lowest = -__builtin_inf();
template <class T>
FASTNN_FN T minus_infinity() {
  return lowest<T>;
}
template <>
FASTNN_FN binary16 minus_infinity<binary16>() {
  return {0xfc00};
}
template <>
FASTNN_FN bfloat16 minus_infinity<bfloat16>() {
  return {0xff80};
}

// n elements from p on, and minus infinities, whose exponential is 0.
template <class T>
FASTNN_FN vector_of<T> load_columns(const T* p, int n) {
  using V = vector_of<T>;
  if (n == lanes<V>) return storage<T>::load(p);
  if constexpr (sizeof(T) >= 4) {
    return load_first<V>(p, n, V(lowest<T>));
  } else {
    T lane[lanes<V>];
    for (int k = 0; k < lanes<V>; ++k) lane[k] = minus_infinity<T>();
    __builtin_memcpy(lane, p, n * sizeof(T));
    return storage<T>::load(lane);
  }
}
// The same with zeros.
template <class T>
FASTNN_FN vector_of<T> load_first_columns(const T* p, int n) {
  return n == lanes<vector_of<T>> ? storage<T>::load(p) : storage<T>::load_first(p, n);
}
template <class T>
FASTNN_FN void store_columns(T* p, vector_of<T> x, int n) {
  if (n == lanes<vector_of<T>>)
    storage<T>::store(p, x);
  else
    storage<T>::store_first(p, x, n);
}

// ---- down the columns ----

// The larger of x and the maximum so far, which NaN does not change: it comes back with the exponentials.
template <class T>
FASTNN_FN vector_of<T> column_maximum(const T* x, std::int64_t classes, std::int64_t stride, int n) {
  using V = vector_of<T>;
  V a(lowest<scalar_t<V>>), b = a;
  std::int64_t c = 0;
  for (; c + 2 <= classes; c += 2) {
    a = vmax(load_columns(x + c * stride, n), a);
    b = vmax(load_columns(x + (c + 1) * stride, n), b);
  }
  if (c < classes) a = vmax(load_columns(x + c * stride, n), a);
  return vmax(b, a);
}

// The sum over classes of term(c), a vector of V. Floats are added up by fours before they are widened, which costs more
// than the additions: three roundings at most, however many they are. Doubles keep the rounding errors of their sums.
template <class V>
constexpr int addends = sizeof(scalar_t<V>) == 4 ? 4 : 1;

template <class V, class Term>
FASTNN_FN wide<V> class_sum(std::int64_t classes, Term term) {
  if constexpr (addends<V> == 4) {
    wide<V> sum = broadcast_wide<V>(0.0);
    std::int64_t c = 0;
    for (; c + 4 <= classes; c += 4) {
      const V t0 = term(c), t1 = term(c + 1), t2 = term(c + 2), t3 = term(c + 3);
      sum = sum + to_wide((t0 + t1) + (t2 + t3));
    }
    for (; c < classes; ++c) sum = sum + to_wide(term(c));
    return sum;
  } else {
    V high(0.0f), low(0.0f);
    for (std::int64_t c = 0; c < classes; ++c) {
      const V t = term(c), sum = high + t, d = sum - high;
      low = low + ((high - (sum - d)) + (t - d));
      high = sum;
    }
    return to_wide(select(high - high == V(0.0f), high + low, high));  // an infinite sum has no rounding error
  }
}

// The sum of the exponentials of a vector of columns; each goes to keep(c, e).
template <class T, class Keep>
FASTNN_FN wide<vector_of<T>> column_sum(const T* x, std::int64_t classes, std::int64_t stride, int n,
                                        const softmax_shift<vector_of<T>>& shift, Keep keep) {
  using V = vector_of<T>;
  return class_sum<V>(classes, [&](std::int64_t c) {
    const V e = softmax_exp(load_columns(x + c * stride, n), shift);
    keep(c, e);
    return e;
  });
}
// The same with the maximum apart.
template <class T, class Keep>
FASTNN_FN softmax_sums<vector_of<T>> column_sums(const T* x, std::int64_t classes, std::int64_t stride, int n,
                                                 vector_of<T> maximum, const softmax_shift<vector_of<T>>& shift,
                                                 Keep keep) {
  using V = vector_of<T>;
  const V zero(0.0f), one(1.0f);
  V ties = zero;
  const wide<V> tail = class_sum<V>(classes, [&](std::int64_t c) {
    const V v = load_columns(x + c * stride, n), e = softmax_exp(v, shift);
    const mask_t<V> top = v == maximum;
    ties = ties + select(top, one, zero);
    keep(c, e);
    return select(top, zero, e);
  });
  return {maximum, tail, to_wide(ties), to_wide(softmax_exp(maximum, shift))};
}

FASTNN_FN bool is_row(std::int64_t classes, std::int64_t inner) { return inner == 1 && classes > row_classes; }
FASTNN_FN bool is_tiled(std::int64_t classes) { return classes * tile_columns <= tile_elements; }

// Where columns lie in memory, and in a tile.
struct tile_layout {
  std::int64_t classes, inner;
  std::int64_t stride;  // of the tile: columns that it has room for

  FASTNN_FN tile_layout(std::int64_t classes, std::int64_t inner) : classes(classes), inner(inner) {
    const std::int64_t fit = tile_elements / classes / tile_columns * tile_columns;
    stride = inner < tile_columns ? tile_columns : fit < widest_tile ? fit : widest_tile;
  }
  FASTNN_FN std::int64_t offset(std::int64_t column) const {
    const std::int64_t outer = column / inner;
    return outer * classes * inner + (column - outer * inner);
  }

  // Calls f(first column, columns) for tiles of the columns [begin, end).
  template <class F>
  FASTNN_FN void each(std::int64_t begin, std::int64_t end, F f) const {
    while (begin < end) {
      std::int64_t n = end - begin < stride ? end - begin : stride;
      if (inner >= tile_columns) {  // within one of the outer blocks
        const std::int64_t left = inner - begin % inner;
        n = left < n ? left : n;
      }
      f(begin, static_cast<int>(n));
      begin += n;
    }
  }
  template <class T>
  FASTNN_FN void load(T* tile, const T* from, std::int64_t first, int columns) const {
    if (inner >= tile_columns) {
      const T* const p = from + offset(first);
      for (std::int64_t c = 0; c < classes; ++c) __builtin_memcpy(tile + c * stride, p + c * inner, columns * sizeof(T));
    } else {
      for (int j = 0; j < columns; ++j) {
        const T* const p = from + offset(first + j);
        for (std::int64_t c = 0; c < classes; ++c) tile[c * stride + j] = p[c * inner];
      }
    }
  }
  template <class T>
  FASTNN_FN void store(T* to, const T* tile, std::int64_t first, int columns) const {
    if (inner >= tile_columns) {
      T* const p = to + offset(first);
      for (std::int64_t c = 0; c < classes; ++c) __builtin_memcpy(p + c * inner, tile + c * stride, columns * sizeof(T));
    } else {
      for (int j = 0; j < columns; ++j) {
        T* const p = to + offset(first + j);
        for (std::int64_t c = 0; c < classes; ++c) p[c * inner] = tile[c * stride + j];
      }
    }
  }
};

// Columns where they lie: calls f(offset, columns, first column) for vectors of at most `width` of them.
template <class F>
FASTNN_FN void by_columns(std::int64_t classes, std::int64_t inner, int width, std::int64_t begin, std::int64_t end,
                          F f) {
  while (begin < end) {
    const std::int64_t outer = begin / inner, i = begin - outer * inner;
    std::int64_t n = inner - i < end - begin ? inner - i : end - begin;
    if (n > width) n = width;
    f(outer * classes * inner + i, static_cast<int>(n), begin);
    begin += n;
  }
}

// ---- along a row ----

// Calls f(i, elements) for every vector of V of n elements.
template <class V, class F>
FASTNN_FN void by_vectors(std::int64_t n, F f) {
  std::int64_t i = 0;
  for (; i + lanes<V> <= n; i += lanes<V>) f(i, lanes<V>);
  if (i < n) f(i, static_cast<int>(n - i));
}

// The highest of n numbers, halved until one is left.
template <int n, class S>
FASTNN_FN S highest(S* lane) {
  if constexpr (n == 1) {
    return lane[0];
  } else {
    for (int k = 0; k < n / 2; ++k) lane[k] = vmax(lane[k + n / 2], lane[k]);
    return highest<n / 2>(lane);
  }
}
template <class V>
FASTNN_FN scalar_t<V> highest_lane(V x) {
  scalar_t<V> lane[lanes<V>];
  store(lane, x);
  return highest<lanes<V>>(lane);
}
template <class T>
FASTNN_FN vector_of<T> row_maximum(const T* x, std::int64_t n) {
  using V = vector_of<T>;
  const V low(lowest<scalar_t<V>>);
  V m[4] = {low, low, low, low};
  std::int64_t i = 0;
  for (; i + 4 * lanes<V> <= n; i += 4 * lanes<V>)
    for (int k = 0; k < 4; ++k) m[k] = vmax(storage<T>::load(x + i + k * lanes<V>), m[k]);
  for (; i + lanes<V> <= n; i += lanes<V>) m[0] = vmax(storage<T>::load(x + i), m[0]);
  const V all = vmax(vmax(m[3], m[2]), vmax(m[1], m[0]));
  const V last = i < n ? load_columns(x + i, static_cast<int>(n - i)) : low;
  return V(highest_lane(vmax(last, all)));
}

// Sums in double of f(i, elements), a vector of V, over a row: 16 lanes, and blocks of 1024 elements whose sums are
// added up with their rounding errors kept, so that the error does not grow with the row.
constexpr std::int64_t sum_block = 1024;

struct compensated {
  double high = 0.0, low = 0.0;

  FASTNN_FN void add(double x) {
    const double sum = high + x, d = sum - high;
    low += (high - (sum - d)) + (x - d);
    high = sum;
  }
  // An infinite or NaN sum has no rounding error.
  FASTNN_FN double value() const { return high - high == 0.0 ? high + low : high; }
};

template <class V, class Term>
FASTNN_FN lanes16 sum16(std::int64_t begin, std::int64_t end, Term term) {
  lanes16 sums = broadcast16(0.0);
  std::int64_t i = begin;
  if constexpr (addends<V> == 4)
    for (; i + 4 * sum_lanes <= end; i += 4 * sum_lanes)
      sums = sums + gather16(V(), [&](int k) {
               const std::int64_t at = i + k;
               const V a = term(at, lanes<V>), b = term(at + sum_lanes, lanes<V>);
               const V c = term(at + 2 * sum_lanes, lanes<V>), d = term(at + 3 * sum_lanes, lanes<V>);
               return (a + b) + (c + d);
             });
  for (; i + sum_lanes <= end; i += sum_lanes)
    sums = sums + gather16(V(), [&](int k) { return term(i + k, lanes<V>); });
  if (i < end)
    sums = sums + gather16(V(), [&](int k) {
             const std::int64_t left = end - i - k;
             return left > 0 ? term(i + k, left < lanes<V> ? static_cast<int>(left) : lanes<V>) : V(0.0f);
           });
  return sums;
}
template <class V, class Term>
FASTNN_FN double row_sum(std::int64_t n, Term term) {
  compensated sum;
  for (std::int64_t i = 0; i < n; i += sum_block) sum.add(total(sum16<V>(i, n - i < sum_block ? n : i + sum_block, term)));
  return sum.value();
}

// The sum of the exponentials of a row; each vector of them goes to keep(i, e, elements).
template <class T, class Keep>
FASTNN_FN double exp_sum(const T* x, std::int64_t n, const softmax_shift<vector_of<T>>& shift, Keep keep) {
  using V = vector_of<T>;
  return row_sum<V>(n, [&](std::int64_t i, int count) {
    const V e = softmax_exp(load_columns(x + i, count), shift);
    keep(i, e, count);
    return e;
  });
}
// The same with the maximum apart, and every result in every lane.
template <class T, class Keep>
FASTNN_FN softmax_sums<vector_of<T>> row_sums(const T* x, std::int64_t n, vector_of<T> maximum,
                                              const softmax_shift<vector_of<T>>& shift, Keep keep) {
  using V = vector_of<T>;
  const V zero(0.0f), one(1.0f);
  V ties = zero;
  const double tail = row_sum<V>(n, [&](std::int64_t i, int count) {
    const V v = load_columns(x + i, count), e = softmax_exp(v, shift);
    const mask_t<V> top = v == maximum;
    ties = ties + select(top, one, zero);
    keep(i, e, count);
    return select(top, zero, e);
  });
  scalar_t<V> lane[lanes<V>];
  store(lane, ties);
  double tied = 0.0;
  for (int k = 0; k < lanes<V>; ++k) tied += lane[k];
  return {maximum, broadcast_wide<V>(tail), broadcast_wide<V>(tied), to_wide(softmax_exp(maximum, shift))};
}

}  // namespace
FASTNN_END
