// Gradients of biases: sums over samples and positions of arrays (outer, channels, inner).
#pragma once
#include "channels.cuh"

FASTNN_CUDA_BEGIN

template <class T>
struct bias_pass {
  const T* dy;
  double* partial;
  channel_shape s;

  template <int lanes>
  __device__ __forceinline__ void run(const channel_walk<lanes>& walk) const {
    using V = compute_t<T>;
    adder<V, 1, lanes> sum;
    walk.each([&](i64 at, i64) {
      const auto g = load_lanes<lanes>(dy + at, 0, lanes);
      sum.add([&](V(&block)[1], int k) { block[0] = block[0] + g.at[k]; });
    });
    sum.flush();
    put_sums(s, walk, sum.sum, partial);
  }
};
template <class T>
__global__ void bias_sums(const T* dy, double* partial, i64 outer, i64 channels, i64 inner, i64 splits) {
  const channel_shape s = {outer, channels, inner, splits};
  each_share<T>(s, bias_pass<T>{dy, partial, s});
}
template <class P>
__global__ void bias_totals(const double* partial, P* dbias, i64 outer, i64 channels, i64 inner, i64 splits,
                            i64 accumulate) {
  const channel_shape s = {outer, channels, inner, splits};
  for (i64 c = blockIdx.x; c < channels; c += gridDim.x)
    put_channel_sum(dbias, channel_sum(s, partial, 0, c), c, accumulate);
}

FASTNN_CUDA_END
