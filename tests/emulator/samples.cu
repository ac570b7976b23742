// Kernels with known results and known faults, for the tests of the emulator itself.
#include "device.cuh"

FASTNN_CUDA_BEGIN

// y[i] = x[last - i] by way of shared memory; without the barrier, what another thread has not written yet is read.
template <bool with_barrier>
__global__ void reversed(float* y, const float* x) {
  __shared__ float kept[1024];
  kept[threadIdx.x] = x[threadIdx.x];
  if (with_barrier) __syncthreads();
  y[threadIdx.x] = kept[blockDim.x - 1 - threadIdx.x];
}
__global__ void parting(float* y) {
  if (threadIdx.x < 40) __syncthreads();
  y[threadIdx.x] = 1;
}
__global__ void two_barriers(float* y) {
  if (threadIdx.x < 32)
    __syncthreads();
  else
    __syncthreads();
  y[threadIdx.x] = 1;
}
__global__ void leaving(float* y, i64 n) {
  if (threadIdx.x >= n) return;
  y[threadIdx.x] = __shfl_xor_sync(0xffffffffu, y[threadIdx.x], 1);
}
__global__ void strangers(float* y) {
  if (threadIdx.x < 16) y[threadIdx.x] = __shfl_sync(0xffffu, y[threadIdx.x], 20);
}
__global__ void outside(float* y, i64 i) { y[i] = 1; }

// Everything the other families build on, with results that are easy to tell.
__global__ void warps(int* y) {
  const int i = threadIdx.x, lane = i % 32;
  int* const to = y + i * 6;
  to[0] = __shfl_sync(0xffffffffu, i, 5);
  to[1] = __shfl_down_sync(0xffffffffu, i, 3);
  to[2] = __shfl_up_sync(0xffffffffu, i, 3);
  to[3] = __popc(__ballot_sync(0xffffffffu, lane % 3 == 0));
  to[4] = lane < 8 ? __shfl_xor_sync(0xffu, i, 4) : -1;
  __syncwarp();
  to[5] = warp_sum(lane);
}
template <class T>
__global__ void sums(double* totals, compute_t<T>* largest, const T* x, i64 rows, i64 columns) {
  for (i64 row = blockIdx.x; row < rows; row += gridDim.x) {
    double sum = 0;
    compute_t<T> most = -format<compute_t<T>>::largest;
    for_each(
        threadIdx.x, blockDim.x, columns,
        [&](i64, compute_t<T> v) {
          sum = sum + double(v);
          most = maximum()(most, v);
        },
        x + row * columns);
    const double total = block_sum(sum);
    most = block_max(most);
    if (threadIdx.x == 0) {
      totals[row] = total;
      largest[row] = most;
    }
  }
}
__global__ void indices(int* seen, const float* x, i64 n) {
  for_each(grid_thread(), grid_threads(), n, [&](i64 i, float) { atomicAdd(seen + i, 1); }, x);
}

FASTNN_CUDA_END
