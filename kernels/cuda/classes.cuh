// Walks along the classes of arrays (outer, classes, inner), one result for each of the outer * inner columns.
//
// Where a row of classes is contiguous and long, a block goes along it; elsewhere a thread goes down a column, and its
// neighbours down the columns beside it. What is read from memory once is found in a cache in the passes after the
// first, as long as the rows of the blocks that run together fit there.
#pragma once
#include "softmax.hpp"
#include "sums.cuh"

FASTNN_CUDA_BEGIN

template <class V>
FASTNN_FN V minus_infinity() {
  return from_bits<V>(bits_t<V>(format<V>::infinity | format<V>::sign));
}
struct larger_of {
  template <class V>
  FASTNN_FN V operator()(V a, V b) const {
    return vmax(a, b);
  }
};

// A thread's part of a column: f(lane_count, offset, class) for runs of neighbouring elements, and what all threads of
// the column know in the end.
struct by_row {
  i64 classes;

  template <class T, class F>
  __device__ __forceinline__ void each(const T*, F f) const {
    constexpr int n = lanes_together<T>;
    if (classes % n == 0)
      for (i64 c = threadIdx.x * n; c < classes; c += blockDim.x * n) f(lane_count<n>(), c, c);
    else
      for (i64 c = threadIdx.x; c < classes; c += blockDim.x) f(lane_count<1>(), c, c);
  }
  template <class V>
  __device__ __forceinline__ double total(summing<V>& sum) const {
    return sum.of_block();
  }
  __device__ __forceinline__ double total(double count) const { return block_sum(count); }
  template <class V>
  __device__ __forceinline__ V maximum(V v) const {
    return block_reduce(v, minus_infinity<V>(), larger_of());
  }
  __device__ __forceinline__ bool first() const { return threadIdx.x == 0; }
  FASTNN_FN i64 step() const { return 1; }  // from one class to the next
};
struct by_column {
  i64 classes, stride;

  template <class T, class F>
  __device__ __forceinline__ void each(const T*, F f) const {
    for (i64 c = 0; c < classes; ++c) f(lane_count<1>(), c * stride, c);
  }
  template <class V>
  __device__ __forceinline__ double total(summing<V>& sum) const {
    return sum.alone();
  }
  __device__ __forceinline__ double total(double count) const { return count; }
  template <class V>
  __device__ __forceinline__ V maximum(V v) const {
    return v;
  }
  __device__ __forceinline__ bool first() const { return true; }
  FASTNN_FN i64 step() const { return stride; }
};

// The sum of the terms that term(value, class) makes of x.
template <class Walk, class T, class F>
__device__ __forceinline__ double sum_along(const Walk& walk, const T* x, F term) {
  summing<compute_t<T>> sum;
  walk.each(x, [&](auto lanes, i64 at, i64 c) {
    constexpr int n = decltype(lanes)::value;
    const auto v = load_lanes<n>(x + at, 0, n);
    FASTNN_UNROLL
    for (int k = 0; k < n; ++k) sum.add(term(v.at[k], c + k));
  });
  return walk.total(sum);
}
// NaN does not count, but comes back with the exponential. Of 0 and -0 it is 0.
template <class Walk, class T>
__device__ __forceinline__ compute_t<T> maximum_along(const Walk& walk, const T* x) {
  using V = compute_t<T>;
  V most = minus_infinity<V>();
  walk.each(x, [&](auto lanes, i64 at, i64) {
    constexpr int n = decltype(lanes)::value;
    const auto v = load_lanes<n>(x + at, 0, n);
    FASTNN_UNROLL
    for (int k = 0; k < n; ++k) most = vmax(v.at[k], most);
  });
  return walk.maximum(most) + V(0);
}
// What is left of a row's exponentials once they are summed up, the maximum's apart.
template <class Walk, class T>
__device__ __forceinline__ softmax_sums<compute_t<T>> exponential_sums(const Walk& walk, const T* x,
                                                                       compute_t<T> maximum,
                                                                       const softmax_shift<compute_t<T>>& shift) {
  using V = compute_t<T>;
  double ties = 0;
  const double tail = sum_along(walk, x, [&](V v, i64) {
    const bool top = v == maximum;
    ties = top ? ties + 1 : ties;
    return select(top, V(0), softmax_exp(v, shift));
  });
  return {maximum, broadcast_wide<V>(tail), broadcast_wide<V>(walk.total(ties)), to_wide(softmax_exp(maximum, shift))};
}

// Calls line(walk, offset of the column, column) for every column.
template <bool rows, class F>
__device__ __forceinline__ void each_column(i64 outer, i64 classes, i64 inner, F line) {
  if constexpr (rows) {
    for (i64 row = blockIdx.x; row < outer; row += gridDim.x) line(by_row{classes}, row * classes, row);
  } else {
    for (i64 column = grid_thread(); column < outer * inner; column += grid_threads()) {
      const i64 o = column / inner;
      line(by_column{classes, inner}, o * classes * inner + (column - o * inner), column);
    }
  }
}

FASTNN_CUDA_END
