// Batch norm over x[outer, channels, inner]: see normalization.hpp for the formulas and how statistics are taken.
//
// Training reads x twice and writes y once; backward reads dy and x twice and writes dx once, and x once more behind an
// activation, whose input is computed again wherever it is needed. Nothing of x's size is kept in between.
// Rejected: running moments (Welford), a division an element.
#pragma once
#include "channels.cuh"
#include "fused.cuh"
#include "normalization.hpp"

FASTNN_CUDA_BEGIN

using namespace normalization;

// A channel's numbers in an array of compute_t: number j of channel c is at [j * channels + c].
enum batch_constant { batch_hi, batch_lo, batch_scale, batch_beta, batch_mean_dy, batch_slope, batch_rest };

FASTNN_FN bool is_finite(double x) { return x - x == 0.0; }

// A number near the mean of a channel, the same in every thread that asks: the mean of 32 elements from all over it, or
// of one each from 8 samples where its runs are short. Elements that lie together may all be far from the mean.
template <class T>
__device__ __forceinline__ compute_t<T> shift_of(const T* x, const channel_shape& s, i64 c) {
  double shift = 0;
  if (s.columns()) {
    const i64 some = s.outer < 8 ? s.outer : 8;
    for (i64 k = 0; k < some; ++k)
      shift += static_cast<double>(widened(x[(k * s.outer / some * s.channels + c) * s.inner + k % s.inner]));
    shift = shift / static_cast<double>(some);
  } else {
    const i64 total = s.outer * s.inner, q = (threadIdx.x % 32) * total / 32;
    shift = warp_sum(static_cast<double>(widened(x[(q / s.inner * s.channels + c) * s.inner + q % s.inner]))) / 32;
  }
  const auto rounded = static_cast<compute_t<T>>(shift);
  return is_finite(rounded) ? rounded : compute_t<T>(0);
}

// Sums of x - shift and its square.
template <class T>
struct statistics_pass {
  const T* x;
  channel_shape s;
  double* partial;

  template <int lanes>
  __device__ __forceinline__ void run(const channel_walk<lanes>& walk) const {
    using V = compute_t<T>;
    const V shift = shift_of(x, s, walk.channel < 0 ? 0 : walk.channel);
    adder<V, 2, lanes> sums;
    walk.each([&](i64 at, i64) {
      const auto v = load_lanes<lanes>(x + at, 0, lanes);
      sums.add([&](V(&sum)[2], int k) {
        const V d = v.at[k] - shift;
        sum[0] = sum[0] + d;
        sum[1] = fmadd(d, d, sum[1]);
      });
    });
    sums.flush();
    put_sums(s, walk, sums.sum, partial);
  }
};
template <class T>
__global__ void batch_statistics(const T* x, double* partial, i64 outer, i64 channels, i64 inner, i64 splits) {
  const channel_shape s = {outer, channels, inner, splits};
  each_share<T>(s, statistics_pass<T>{x, s, partial});
}

// What the statistics make of a channel: constants, and in training (`variance` is not null) the statistics themselves.
// In backward inv_std is known. Where the shift was a bad one the block takes the sums again, about the mean.
template <class T>
__global__ void batch_constants(const T* x, const double* partial, const compute_t<T>* gamma, const compute_t<T>* beta,
                                compute_t<T>* mean, compute_t<T>* inv_std, double* variance, compute_t<T>* constants,
                                i64 outer, i64 channels, i64 inner, i64 splits, double eps) {
  using V = compute_t<T>;
  const channel_shape s = {outer, channels, inner, splits};
  for (i64 c = blockIdx.x; c < channels; c += gridDim.x) {
    const V shift = shift_of(x, s, c);
    moments m = moments_of(shift, channel_sum(s, partial, 0, c), channel_sum(s, partial, 1, c), s.count());
    if (m.rough) {
      const V about = static_cast<V>(m.mean);
      double sum = 0, squares = 0;
      for (i64 q = threadIdx.x; q < outer * inner; q += blockDim.x) {
        const V d = widened(x[(q / inner * channels + c) * inner + q % inner]) - about;
        sum = sum + static_cast<double>(d);
        squares = fmadd(static_cast<double>(d), static_cast<double>(d), squares);
      }
      sum = block_sum(sum);
      m = moments_of(about, sum, block_sum(squares), s.count());
    }
    if (threadIdx.x != 0) continue;
    const centre<V> middle = centre_of<V>(m.mean, m.rest);
    if (variance != nullptr) {
      mean[c] = middle.hi;
      inv_std[c] = reciprocal_root<V>(m.variance, eps);
      variance[c] = m.variance;
    }
    constants[batch_hi * channels + c] = middle.hi;
    constants[batch_lo * channels + c] = middle.lo;
    constants[batch_scale * channels + c] = gamma[c] * inv_std[c];
    constants[batch_beta * channels + c] = beta[c];
  }
}

// The same from running averages.
template <class T>
__global__ void batch_given(const compute_t<T>* gamma, const compute_t<T>* beta, const compute_t<T>* mean,
                            const double* variance, compute_t<T>* constants, i64 channels, double eps) {
  using V = compute_t<T>;
  for (i64 c = grid_thread(); c < channels; c += grid_threads()) {
    constants[batch_hi * channels + c] = mean[c];
    constants[batch_lo * channels + c] = V(0);
    constants[batch_scale * channels + c] = gamma[c] * reciprocal_root<V>(variance[c], eps);
    constants[batch_beta * channels + c] = beta[c];
  }
}

// average = momentum factor batch + (1 - momentum) average, in double: see running_average in kernels/cpu.
template <class T, class B>
__global__ void update_average(T* average, const B* batch, i64 n, double factor, double momentum) {
  for (i64 c = grid_thread(); c < n; c += grid_threads()) {
    const double old = static_cast<double>(widened(average[c])), found = factor * static_cast<double>(batch[c]);
    average[c] = narrowed<T>(static_cast<compute_t<T>>(momentum * found + (1 - momentum) * old));
  }
}

// The activation and dropout behind batch norm; `drops` says whether there may be any.
template <class V, bool drops>
struct batch_fusion {
  V p, q, scale;
  draw dropout;  // threshold 0 for none

  template <class A, int lanes>
  __device__ __forceinline__ void forward(V (&y)[lanes], i64 at) const {
    FASTNN_UNROLL
    for (int k = 0; k < lanes; ++k) y[k] = A::forward(y[k], p, q);
    drop(y, at);
  }
  // dy becomes the gradient by z.
  template <class A, int lanes>
  __device__ __forceinline__ void backward(V (&dy)[lanes], const V (&z)[lanes], i64 at) const {
    drop(dy, at);
    FASTNN_UNROLL
    for (int k = 0; k < lanes; ++k) dy[k] = A::backward(dy[k], z[k], p, q);
  }
  template <int lanes>
  __device__ __forceinline__ void drop(V (&y)[lanes], i64 at) const {
    if constexpr (drops) {
      if (dropout.threshold == 0) return;
      bool kept[lanes];
      dropout.kept(static_cast<u64>(at), kept);
      FASTNN_UNROLL
      for (int k = 0; k < lanes; ++k) y[k] = scaled(y[k], kept[k], scale);
    }
  }
};

template <class T>
struct batch_channel {
  using V = compute_t<T>;
  V hi, lo, scale, beta;

  __device__ __forceinline__ batch_channel(const V* constants, i64 channels, i64 c)
      : hi(constants[batch_hi * channels + c]),
        lo(constants[batch_lo * channels + c]),
        scale(constants[batch_scale * channels + c]),
        beta(constants[batch_beta * channels + c]) {}
  template <int lanes>
  __device__ __forceinline__ lanes_of<T, lanes> forward(const lanes_of<T, lanes>& x) const {
    lanes_of<T, lanes> z;
    FASTNN_UNROLL
    for (int k = 0; k < lanes; ++k) z.at[k] = by_channel::forward(x.at[k], hi, lo, scale, beta);
    return z;
  }
};

template <class T, class A, bool drops>
struct apply_pass {
  const T* x;
  T* y;
  const compute_t<T>* constants;
  channel_shape s;
  batch_fusion<compute_t<T>, drops> fusion;

  template <int lanes>
  __device__ __forceinline__ void run(const channel_walk<lanes>& walk) const {
    if (walk.channel < 0) return;
    const batch_channel<T> c(constants, s.channels, walk.channel);
    walk.each([&](i64 at, i64) {
      auto z = c.forward(load_lanes<lanes>(x + at, 0, lanes));
      fusion.template forward<A>(z.at, at);
      store_lanes<lanes>(y + at, z, 0, lanes);
    });
  }
};
template <class T, class A, bool drops>
__global__ void batch_apply(const T* x, T* y, const compute_t<T>* constants, i64 outer, i64 channels, i64 inner,
                            i64 splits, compute_t<T> p, compute_t<T> q, compute_t<T> scale, u64 seed, u64 offset,
                            i64 threshold) {
  const channel_shape s = {outer, channels, inner, splits};
  each_share<T>(
      s, apply_pass<T, A, drops>{x, y, constants, s, {p, q, scale, {seed, offset, static_cast<u32>(threshold)}}});
}

// Sums of the gradient g by z, of g d and of d = x - mean.
template <class T, class A, bool drops>
struct gradient_sums_pass {
  const T *dy, *x;
  const compute_t<T>*constants, *mean;
  double* partial;
  channel_shape s;
  batch_fusion<compute_t<T>, drops> fusion;

  template <int lanes>
  __device__ __forceinline__ void run(const channel_walk<lanes>& walk) const {
    using V = compute_t<T>;
    const i64 channel = walk.channel < 0 ? 0 : walk.channel;
    const batch_channel<T> c(constants, s.channels, channel);
    const V centre = mean[channel];
    adder<V, 3, lanes> sums;
    walk.each([&](i64 at, i64) {
      const auto v = load_lanes<lanes>(x + at, 0, lanes);
      auto g = load_lanes<lanes>(dy + at, 0, lanes);
      fusion.template backward<A>(g.at, c.forward(v).at, at);
      sums.add([&](V(&sum)[3], int k) {
        const V d = v.at[k] - centre;
        sum[0] = sum[0] + g.at[k];
        sum[1] = fmadd(g.at[k], d, sum[1]);
        sum[2] = sum[2] + d;
      });
    });
    sums.flush();
    put_sums(s, walk, sums.sum, partial);
  }
};
template <class T, class A, bool drops>
__global__ void batch_gradient_sums(const T* dy, const T* x, const compute_t<T>* constants, const compute_t<T>* mean,
                                    double* partial, i64 outer, i64 channels, i64 inner, i64 splits, compute_t<T> p,
                                    compute_t<T> q, compute_t<T> scale, u64 seed, u64 offset, i64 threshold) {
  const channel_shape s = {outer, channels, inner, splits};
  each_share<T>(s, gradient_sums_pass<T, A, drops>{
                       dy, x, constants, mean, partial, s, {p, q, scale, {seed, offset, static_cast<u32>(threshold)}}});
}

// dgamma and dbeta, and the constants that dx takes beside those of forward. What the mean lost when it was rounded
// comes with the sum of d.
template <class T>
__global__ void batch_gradient_constants(const double* partial, const compute_t<T>* gamma, const compute_t<T>* inv_std,
                                         compute_t<T>* dgamma, compute_t<T>* dbeta, compute_t<T>* constants, i64 outer,
                                         i64 channels, i64 inner, i64 splits, i64 accumulate) {
  using V = compute_t<T>;
  const channel_shape s = {outer, channels, inner, splits};
  for (i64 c = blockIdx.x; c < channels; c += gridDim.x) {
    const double g = channel_sum(s, partial, 0, c), gd = channel_sum(s, partial, 1, c);
    const double n = s.count(), rest = channel_sum(s, partial, 2, c) / n;
    const double wide = static_cast<double>(inv_std[c]), by_gamma = (gd - rest * g) * wide;
    put_channel_sum(dgamma, by_gamma, c, accumulate);
    put_channel_sum(dbeta, g, c, accumulate);
    if (threadIdx.x != 0) continue;
    constants[batch_rest * channels + c] = static_cast<V>(rest);
    constants[batch_mean_dy * channels + c] = static_cast<V>(g / n);
    constants[batch_slope * channels + c] = static_cast<V>(by_gamma * wide / n);
    constants[batch_scale * channels + c] = static_cast<V>(static_cast<double>(gamma[c]) * wide);
  }
}

template <class T, class A, bool drops>
struct gradient_pass {
  const T *dy, *x;
  T* dx;
  const compute_t<T>*constants, *mean;
  channel_shape s;
  batch_fusion<compute_t<T>, drops> fusion;

  template <int lanes>
  __device__ __forceinline__ void run(const channel_walk<lanes>& walk) const {
    using V = compute_t<T>;
    if (walk.channel < 0) return;
    const batch_channel<T> c(constants, s.channels, walk.channel);
    const V hi = mean[walk.channel], rest = constants[batch_rest * s.channels + walk.channel],
            mean_dy = constants[batch_mean_dy * s.channels + walk.channel],
            slope = constants[batch_slope * s.channels + walk.channel];
    walk.each([&](i64 at, i64) {
      const auto v = load_lanes<lanes>(x + at, 0, lanes);
      auto g = load_lanes<lanes>(dy + at, 0, lanes);
      fusion.template backward<A>(g.at, c.forward(v).at, at);
      FASTNN_UNROLL
      for (int k = 0; k < lanes; ++k)
        g.at[k] = by_channel::backward(g.at[k], v.at[k], hi, rest, c.scale, mean_dy, slope);
      store_lanes<lanes>(dx + at, g, 0, lanes);
    });
  }
};
template <class T, class A, bool drops>
__global__ void batch_gradient(const T* dy, const T* x, T* dx, const compute_t<T>* constants, const compute_t<T>* mean,
                               i64 outer, i64 channels, i64 inner, i64 splits, compute_t<T> p, compute_t<T> q,
                               compute_t<T> scale, u64 seed, u64 offset, i64 threshold) {
  const channel_shape s = {outer, channels, inner, splits};
  each_share<T>(s, gradient_pass<T, A, drops>{
                       dy, x, dx, constants, mean, s, {p, q, scale, {seed, offset, static_cast<u32>(threshold)}}});
}

FASTNN_CUDA_END
