// What is around the products of linear layers, which are cuBLAS's: bias and activation in one pass over the result, the
// activation's gradient, rounding, and the gradient of the bias. Each array is read and written once.
#include "bias.cuh"
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

// The gradient by z of activation(z), from what backward saves, in the type that is computed in. dz may be dy.
template <class T, class A>
__global__ void slopes(const T* dy, const T* saved, compute_t<T>* dz, i64 count, compute_t<T> p, compute_t<T> q) {
  using V = compute_t<T>;
  elementwise(
      grid_thread(), grid_threads(), count, [=](i64, V g, V v) { return A::from_saved(g, v, p, q); }, dz, dy, saved);
}

// A product to where it is wanted, added to what is there if `accumulate`.
template <class T>
__global__ void store_product(const compute_t<T>* product, T* to, i64 count, i64 accumulate) {
  using V = compute_t<T>;
  if (accumulate)
    elementwise(grid_thread(), grid_threads(), count, [](i64, V v, V old) { return old + v; }, to, product, to);
  else
    elementwise(grid_thread(), grid_threads(), count, [](i64, V v) { return v; }, to, product);
}

FASTNN_CUDA_END
