// L2, L1 and elastic-net penalties: w is read once, and the gradient read and written in the same pass. 2 operations a
// term, and a conversion and multiply-add in double for each sum: squares are exact.
#include "sums.cuh"

FASTNN_CUDA_BEGIN

// partial: the sums of squares of all blocks, then those of magnitudes.
template <class T, bool has_squares, bool has_magnitudes>
__global__ void penalty(const T* w, T* grad, double* partial, i64 count, double quadratic, double linear) {
  using V = compute_t<T>;
  constexpr int n = lanes_together<T>;
  const V slope = static_cast<V>(2.0 * quadratic), step = static_cast<V>(linear), zero(0.0f);
  summing<V> squares, magnitudes;
  for_packs<n>(grid_thread(), grid_threads(), count, w, [&](i64 first, int begin, int end) {
    const auto v = load_lanes<n>(w + first, begin, end);  // 0 where there is no element
    FASTNN_UNROLL
    for (int k = 0; k < n; ++k) {
      const double x = static_cast<double>(v.at[k]);
      if (has_squares) squares.add_exactly(x * x);
      if (has_magnitudes) magnitudes.add_exactly(vabs(x));
    }
    if (grad == nullptr) return;
    auto g = load_lanes<n>(grad + first, begin, end);
    FASTNN_UNROLL
    for (int k = 0; k < n; ++k) {
      const V x = v.at[k];
      if (has_squares) g.at[k] = fmadd(slope, x, g.at[k]);
      if (has_magnitudes) g.at[k] = g.at[k] + (x > zero ? step : x < zero ? -step : x * zero);
    }
    store_lanes<n>(grad + first, g, begin, end);
  });
  const double square = squares.of_block(), magnitude = magnitudes.of_block();
  if (threadIdx.x == 0) {
    partial[blockIdx.x] = square;
    partial[gridDim.x + blockIdx.x] = magnitude;
  }
}

FASTNN_CUDA_END
