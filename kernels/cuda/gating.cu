// maxout, glu and swiglu and their gradients, over x (outer, parts, inner): see gating.hpp. Each array is read or
// written once; a pack of neighbours along inner at a time where it is long enough.
#include "gating.hpp"
#include "sums.cuh"

FASTNN_CUDA_BEGIN

// f(lanes, offset in y, offset in x of part 0), over arrays y (outer, inner) and x (outer, parts, inner)
template <class T, class F>
__device__ __forceinline__ void each_gate(i64 outer, i64 parts, i64 inner, F f) {
  constexpr int n = lanes_together<T>;
  const auto walk = [&](auto lanes, i64 packs) {
    constexpr int width = decltype(lanes)::value;
    for (i64 p = grid_thread(); p < outer * packs; p += grid_threads()) {
      const i64 o = p / packs, i = (p - o * packs) * width;
      f(lanes, o * inner + i, o * parts * inner + i);
    }
  };
  if (inner % n == 0)
    walk(lane_count<n>(), inner / n);
  else
    walk(lane_count<1>(), inner);
}

template <class T, class Op>
__global__ void gate_forward(const T* x, T* y, i64 outer, i64 inner) {
  each_gate<T>(outer, 2, inner, [&](auto lanes, i64 to, i64 from) {
    constexpr int n = decltype(lanes)::value;
    auto a = load_lanes<n>(x + from, 0, n);
    const auto b = load_lanes<n>(x + from + inner, 0, n);
    FASTNN_UNROLL
    for (int k = 0; k < n; ++k) a.at[k] = Op::forward(a.at[k], b.at[k]);
    store_lanes<n>(y + to, a, 0, n);
  });
}
template <class T, class Op>
__global__ void gate_backward(const T* dy, const T* x, T* dx, i64 outer, i64 inner) {
  each_gate<T>(outer, 2, inner, [&](auto lanes, i64 at, i64 from) {
    constexpr int n = decltype(lanes)::value;
    auto a = load_lanes<n>(x + from, 0, n), b = load_lanes<n>(x + from + inner, 0, n);
    const auto g = load_lanes<n>(dy + at, 0, n);
    FASTNN_UNROLL
    for (int k = 0; k < n; ++k) {
      compute_t<T> by_a, by_b;
      Op::backward(g.at[k], a.at[k], b.at[k], by_a, by_b);
      a.at[k] = by_a;
      b.at[k] = by_b;
    }
    store_lanes<n>(dx + from, a, 0, n);
    store_lanes<n>(dx + from + inner, b, 0, n);
  });
}

template <class T>
__global__ void maxout_forward(const T* x, T* y, i64 outer, i64 pieces, i64 inner) {
  each_gate<T>(outer, pieces, inner, [&](auto lanes, i64 to, i64 from) {
    constexpr int n = decltype(lanes)::value;
    auto best = load_lanes<n>(x + from, 0, n);
    for (i64 piece = 1; piece < pieces; ++piece) {
      const auto v = load_lanes<n>(x + from + piece * inner, 0, n);
      FASTNN_UNROLL
      for (int k = 0; k < n; ++k) best.at[k] = is_larger(v.at[k], best.at[k]) ? v.at[k] : best.at[k];
    }
    store_lanes<n>(y + to, best, 0, n);
  });
}
template <class T>
__global__ void maxout_backward(const T* dy, const T* x, T* dx, i64 outer, i64 pieces, i64 inner) {
  using V = compute_t<T>;
  each_gate<T>(outer, pieces, inner, [&](auto lanes, i64 at, i64 from) {
    constexpr int n = decltype(lanes)::value;
    const auto g = load_lanes<n>(dy + at, 0, n);
    auto best = load_lanes<n>(x + from, 0, n);
    i64 found[n] = {};
    for (i64 piece = 1; piece < pieces; ++piece) {
      const auto v = load_lanes<n>(x + from + piece * inner, 0, n);
      FASTNN_UNROLL
      for (int k = 0; k < n; ++k)
        if (is_larger(v.at[k], best.at[k])) {
          best.at[k] = v.at[k];
          found[k] = piece;
        }
    }
    for (i64 piece = 0; piece < pieces; ++piece) {
      FASTNN_UNROLL
      for (int k = 0; k < n; ++k) best.at[k] = found[k] == piece ? g.at[k] : V(0);
      store_lanes<n>(dx + from + piece * inner, best, 0, n);
    }
  });
}

FASTNN_CUDA_END
