// softmax and log-softmax along axis 1 of (outer, classes, inner), and their gradients: see softmax.hpp.
//
// Each array is read once and the result written once, apart from what is found in a cache. 16 operations an element
// for the exponential, which softmax computes twice: that is less than writing it down and reading it back.
#include "classes.cuh"

FASTNN_CUDA_BEGIN

template <class T, bool log, bool rows>
__global__ void softmax_forward(const T* x, T* y, i64 outer, i64 classes, i64 inner) {
  using V = compute_t<T>;
  each_column<rows>(outer, classes, inner, [&](const auto& walk, i64 at, i64) {
    const T* const from = x + at;
    T* const to = y + at;
    const V maximum = maximum_along(walk, from);
    const softmax_shift<V> shift = softmax_shift_of(maximum);
    const auto put = [&](auto f) {
      walk.each(from, [&](auto lanes, i64 i, i64) {
        constexpr int n = decltype(lanes)::value;
        auto v = load_lanes<n>(from + i, 0, n);
        FASTNN_UNROLL
        for (int k = 0; k < n; ++k) v.at[k] = f(v.at[k]);
        store_lanes<n>(to + i, v, 0, n);
      });
    };
    if constexpr (log) {
      const auto total = log_softmax_shift_of(shift, exponential_sums(walk, from, maximum, shift).log());
      put([&](V v) { return log_softmax(v, total); });
    } else {
      const double sum = sum_along(walk, from, [&](V v, i64) { return softmax_exp(v, shift); });
      const two_part<V> factor = quotient(broadcast_wide<V>(1.0), broadcast_wide<V>(sum));
      put([&](V v) { return times(softmax_exp(v, shift), factor); });
    }
  });
}

template <class T, bool log, bool rows>
__global__ void softmax_backward(const T* dy, const T* y, T* dx, i64 outer, i64 classes, i64 inner) {
  using V = compute_t<T>;
  each_column<rows>(outer, classes, inner, [&](const auto& walk, i64 at, i64) {
    summing<V> sum;
    walk.each(dy, [&](auto lanes, i64 i, i64) {
      constexpr int n = decltype(lanes)::value;
      const auto g = load_lanes<n>(dy + at + i, 0, n), v = load_lanes<n>(y + at + i, 0, n);
      FASTNN_UNROLL
      for (int k = 0; k < n; ++k) sum.add(log ? g.at[k] : g.at[k] * v.at[k]);
    });
    const V total = static_cast<V>(walk.total(sum));
    walk.each(dy, [&](auto lanes, i64 i, i64) {
      constexpr int n = decltype(lanes)::value;
      auto g = load_lanes<n>(dy + at + i, 0, n);
      const auto v = load_lanes<n>(y + at + i, 0, n);
      FASTNN_UNROLL
      for (int k = 0; k < n; ++k)
        g.at[k] = log ? log_softmax_gradient(g.at[k], v.at[k], total) : softmax_gradient(g.at[k], v.at[k], total);
      store_lanes<n>(dx + at + i, g, 0, n);
    });
  });
}

FASTNN_CUDA_END
