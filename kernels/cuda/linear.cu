// What is around the products of linear layers, which are cuBLAS's: bias and activation (finish.cuh), rounding, and the
// gradient of the bias. Each array is read and written once.
#include "bias.cuh"
#include "finish.cuh"

FASTNN_CUDA_BEGIN

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
