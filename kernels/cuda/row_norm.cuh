// Layer, group, instance and RMS norm over x[samples, groups, channels, inner]: a row is a sample's group, contiguous.
//
// A block takes a row through all of its passes: x is fetched from memory once and found in a cache after that.
// dgamma and dbeta are sums over samples, of a pass of its own over dy and x.
#pragma once
#include "channels.cuh"
#include "normalization.hpp"
#include "sums.cuh"

FASTNN_CUDA_BEGIN

using namespace normalization;

struct row_shape {
  i64 groups, channels, inner;

  FASTNN_FN i64 length() const { return channels * inner; }
  // the first gamma of a row
  FASTNN_FN i64 parameter(i64 row) const { return row % groups * channels; }
};

// f(lanes, offset) for a row's elements, shared among the threads of the block.
template <class T, class F>
__device__ __forceinline__ void along_row(const row_shape& s, F f) {
  constexpr int n = lanes_together<T>;
  const i64 length = s.length();
  if (length % n == 0 && (s.inner == 1 || s.inner % n == 0))
    for (i64 i = threadIdx.x * n; i < length; i += blockDim.x * n) f(lane_count<n>(), i);
  else
    for (i64 i = threadIdx.x; i < length; i += blockDim.x) f(lane_count<1>(), i);
}
// One gamma for each of n elements from i on.
template <int n, class V>
__device__ __forceinline__ void parameters_at(const V* p, const row_shape& s, i64 i, V (&to)[n]) {
  const i64 first = s.inner == 1 ? i : i / s.inner;
  FASTNN_UNROLL
  for (int k = 0; k < n; ++k) to[k] = p[s.inner == 1 ? first + k : first];
}

// The sums of terms of a row, four of which are added up in V first. f(block, lanes, offset).
template <int k, class V, class F, class T>
__device__ __forceinline__ void row_sums(const row_shape& s, const T*, double (&sums)[k], F f) {
  V block[k] = {};
  int filled = 0;
  for (int j = 0; j < k; ++j) sums[j] = 0;
  const auto flush = [&] {
    FASTNN_UNROLL
    for (int j = 0; j < k; ++j) {
      sums[j] = sums[j] + static_cast<double>(block[j]);
      block[j] = V(0);
    }
    filled = 0;
  };
  along_row<T>(s, [&](auto lanes, i64 i) {
    f(block, lanes, i, flush);
    filled += decltype(lanes)::value;
    if (filled >= 4) flush();
  });
  flush();
  for (int j = 0; j < k; ++j) sums[j] = block_sum(sums[j]);
}

template <class T>
__device__ __forceinline__ moments row_moments(const T* x, const row_shape& s, compute_t<T> shift, bool centred) {
  using V = compute_t<T>;
  double sums[2];
  row_sums<2, V>(s, x, sums, [&](V(&block)[2], auto lanes, i64 i, const auto& flush) {
    constexpr int n = decltype(lanes)::value;
    const auto v = load_lanes<n>(x + i, 0, n);
    FASTNN_UNROLL
    for (int k = 0; k < n; ++k) {
      const V d = v.at[k] - shift;
      block[0] = block[0] + d;
      block[1] = fmadd(d, d, block[1]);
      if (k == 3) flush();
    }
  });
  const double n = static_cast<double>(s.length());
  if (!centred) return {0, 0, sums[1] / n, false};
  return moments_of(shift, sums[0], sums[1], n);
}

template <class T>
__global__ void row_norm(const T* x, T* y, const compute_t<T>* gamma, const compute_t<T>* beta, compute_t<T>* mean,
                         compute_t<T>* inv_std, i64 rows, i64 groups, i64 channels, i64 inner, i64 centred,
                         double eps) {
  using V = compute_t<T>;
  const row_shape s = {groups, channels, inner};
  const i64 length = s.length();
  for (i64 row = blockIdx.x; row < rows; row += gridDim.x) {
    const T* const from = x + row * length;
    T* const to = y + row * length;
    V shift = V(0);
    if (centred) {  // the mean of 32 elements from all over the row
      const double about = warp_sum(static_cast<double>(widened(from[(threadIdx.x % 32) * length / 32]))) / 32;
      shift = about - about == 0.0 ? static_cast<V>(about) : V(0);
      shift = shift - shift == V(0) ? shift : V(0);
    }
    moments m = row_moments(from, s, shift, centred);
    if (m.rough) m = row_moments(from, s, static_cast<V>(m.mean), centred);
    const centre<V> middle = centre_of<V>(m.mean, m.rest);
    const V scale = reciprocal_root<V>(m.variance, eps);
    if (threadIdx.x == 0) {
      if (mean != nullptr) mean[row] = middle.hi;
      inv_std[row] = scale;
    }
    const i64 first = s.parameter(row);
    along_row<T>(s, [&](auto lanes, i64 i) {
      constexpr int n = decltype(lanes)::value;
      auto v = load_lanes<n>(from + i, 0, n);
      V weight[n], offset[n];
      parameters_at(gamma + first, s, i, weight);
      parameters_at(beta + first, s, i, offset);
      FASTNN_UNROLL
      for (int k = 0; k < n; ++k) v.at[k] = by_row::forward(v.at[k], middle.hi, middle.lo, scale, weight[k], offset[k]);
      store_lanes<n>(to + i, v, 0, n);
    });
  }
}

// dx, unless that is null; and what the row's mean lost when it was rounded, for the sums over samples.
template <class T>
__global__ void row_gradient(const T* dy, const T* x, T* dx, const compute_t<T>* gamma, const compute_t<T>* mean,
                             const compute_t<T>* inv_std, compute_t<T>* rests, i64 rows, i64 groups, i64 channels,
                             i64 inner) {
  using V = compute_t<T>;
  const row_shape s = {groups, channels, inner};
  const i64 length = s.length();
  for (i64 row = blockIdx.x; row < rows; row += gridDim.x) {
    const T *const incoming = dy + row * length, *const from = x + row * length;
    T* const to = dx == nullptr ? nullptr : dx + row * length;
    const V* const weights = gamma + s.parameter(row);
    const V hi = mean != nullptr ? mean[row] : V(0);
    double sums[3];  // of g = dy gamma, g d and d = x - mean
    row_sums<3, V>(s, x, sums, [&](V(&block)[3], auto lanes, i64 i, const auto& flush) {
      constexpr int n = decltype(lanes)::value;
      const auto v = load_lanes<n>(from + i, 0, n), g = load_lanes<n>(incoming + i, 0, n);
      V weight[n];
      parameters_at(weights, s, i, weight);
      FASTNN_UNROLL
      for (int k = 0; k < n; ++k) {
        const V d = v.at[k] - hi, weighted = g.at[k] * weight[k];
        block[0] = block[0] + weighted;
        block[1] = fmadd(weighted, d, block[1]);
        block[2] = block[2] + d;
        if (k == 3) flush();
      }
    });
    const double n_elements = static_cast<double>(length), scale = static_cast<double>(inv_std[row]);
    const double rest = mean != nullptr ? sums[2] / n_elements : 0.0;
    const V lo = static_cast<V>(rest), inv = inv_std[row],
            mean_g = mean != nullptr ? static_cast<V>(sums[0] / n_elements) : V(0),
            slope = static_cast<V>((sums[1] - rest * sums[0]) * scale * scale / n_elements);
    if (threadIdx.x == 0) rests[row] = lo;
    if (to == nullptr) continue;
    along_row<T>(s, [&](auto lanes, i64 i) {
      constexpr int n = decltype(lanes)::value;
      const auto v = load_lanes<n>(from + i, 0, n);
      auto g = load_lanes<n>(incoming + i, 0, n);
      V weight[n];
      parameters_at(weights, s, i, weight);
      FASTNN_UNROLL
      for (int k = 0; k < n; ++k) g.at[k] = by_row::backward(g.at[k], v.at[k], hi, lo, inv, weight[k], mean_g, slope);
      store_lanes<n>(to + i, g, 0, n);
    });
  }
}

// Sums over samples of dy (x - mean) inv_std and of dy, for each of groups * channels.
template <class T>
struct row_parameters_pass {
  const T *dy, *x;
  const compute_t<T>*mean, *inv_std, *rests;
  double* partial;
  channel_shape s;
  i64 groups, channels;

  template <int lanes>
  __device__ __forceinline__ void run(const channel_walk<lanes>& walk) const {
    using V = compute_t<T>;
    const i64 group = walk.channel < 0 ? 0 : walk.channel / channels;
    adder<V, 2, lanes> sums;
    walk.each([&](i64 at, i64 sample) {
      const i64 row = sample * groups + group;
      const V hi = mean != nullptr ? mean[row] : V(0), lo = rests[row], inv = inv_std[row];
      const auto v = load_lanes<lanes>(x + at, 0, lanes), g = load_lanes<lanes>(dy + at, 0, lanes);
      sums.add([&](V(&sum)[2], int k) {
        sum[0] = fmadd(g.at[k], centred(v.at[k], hi, lo) * inv, sum[0]);
        sum[1] = sum[1] + g.at[k];
      });
    });
    sums.flush();
    put_sums(s, walk, sums.sum, partial);
  }
};
template <class T>
__global__ void row_parameter_sums(const T* dy, const T* x, const compute_t<T>* mean, const compute_t<T>* inv_std,
                                   const compute_t<T>* rests, double* partial, i64 samples, i64 groups, i64 channels,
                                   i64 inner, i64 splits) {
  const channel_shape s = {samples, groups * channels, inner, splits};
  each_share<T>(s, row_parameters_pass<T>{dy, x, mean, inv_std, rests, partial, s, groups, channels});
}
template <class T>
__global__ void row_parameter_gradients(const double* partial, compute_t<T>* dgamma, compute_t<T>* dbeta, i64 samples,
                                        i64 columns, i64 inner, i64 splits, i64 accumulate) {
  const channel_shape s = {samples, columns, inner, splits};
  for (i64 c = blockIdx.x; c < columns; c += gridDim.x) {
    put_channel_sum(dgamma, channel_sum(s, partial, 0, c), c, accumulate);
    put_channel_sum(dbeta, channel_sum(s, partial, 1, c), c, accumulate);
  }
}

FASTNN_CUDA_END
