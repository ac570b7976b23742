// Bias and activation in one pass over the products of linear layers and convolutions, and the activation's gradient.
#pragma once
#include "fused.cuh"
#include "indices.cuh"
#include "sums.cuh"

FASTNN_CUDA_BEGIN

// z = product + bias, y = activation(z) for rows of `columns`; z may be null, and the product may be where y or z goes.
template <class T, class A>
__global__ void finish_rows(const compute_t<T>* product, const compute_t<T>* bias, T* y, T* z, i64 count, i64 columns,
                            compute_t<T> p, compute_t<T> q) {
  using V = compute_t<T>;
  constexpr int n = lanes_together<T, V>;
  for_packs<n>(grid_thread(), grid_threads(), count, y, [&](i64 first, int begin, int end) {
    auto v = load_lanes<n>(product + first, begin, end);
    lanes_of<T, n> to;
    i64 column;
    divided(first + begin, columns, column);
    FASTNN_UNROLL
    for (int k = 0; k < n; ++k) {
      if (bias != nullptr && begin <= k && k < end) {
        v.at[k] = v.at[k] + bias[column];
        if (++column == columns) column = 0;
      }
      to.at[k] = v.at[k];
    }
    if (z != nullptr) store_lanes<n>(z + first, to, begin, end);
    FASTNN_UNROLL
    for (int k = 0; k < n; ++k) to.at[k] = A::forward(v.at[k], p, q);
    store_lanes<n>(y + first, to, begin, end);
  });
}

// The same for convolutions, whose products are (images, channels, positions) or, `turned`, (channels, images,
// positions).
template <class T, class A>
__global__ void finish_images(const compute_t<T>* product, const compute_t<T>* bias, T* y, T* z, i64 images,
                              i64 channels, i64 positions, i64 turned, compute_t<T> p, compute_t<T> q) {
  using V = compute_t<T>;
  const auto walk = [&](auto lanes, i64 packs) {
    constexpr int n = decltype(lanes)::value;
    for (i64 i = grid_thread(); i < images * channels * packs; i += grid_threads()) {
      i64 pack, channel;
      const i64 run = divided(i, packs, pack), image = divided(run, channels, channel);
      const i64 at = run * positions + pack * n;
      auto v = load_lanes<n>(product + (turned ? channel * images + image : run) * positions + pack * n, 0, n);
      lanes_of<T, n> to;
      const V offset = bias == nullptr ? V(0) : bias[channel];
      FASTNN_UNROLL
      for (int k = 0; k < n; ++k) to.at[k] = bias == nullptr ? v.at[k] : v.at[k] + offset;
      if (z != nullptr) store_lanes<n>(z + at, to, 0, n);
      FASTNN_UNROLL
      for (int k = 0; k < n; ++k) to.at[k] = A::forward(to.at[k], p, q);
      store_lanes<n>(y + at, to, 0, n);
    }
  };
  constexpr int n = lanes_together<T, V>;
  if (positions % n == 0)
    walk(lane_count<n>(), positions / n);
  else
    walk(lane_count<1>(), positions);
}

// The gradient by z of activation(z), from what backward saves, in the type that is computed in. dz may be dy.
template <class T, class A>
__global__ void slopes(const T* dy, const T* saved, compute_t<T>* dz, i64 count, compute_t<T> p, compute_t<T> q) {
  using V = compute_t<T>;
  elementwise(
      grid_thread(), grid_threads(), count, [=](i64, V g, V v) { return A::from_saved(g, v, p, q); }, dz, dy, saved);
}

FASTNN_CUDA_END
