// Sums over whole arrays: a block takes elements far apart from each other and leaves one number; one block adds those
// up.
//
// Floats are added up by fours before they are widened, doubles with their rounding errors, as in kernels/cpu.
#pragma once
#include "device.cuh"

FASTNN_CUDA_BEGIN

// A sum of doubles with its rounding errors.
struct twofold {
  double high, low;

  FASTNN_FN void add(double x) {
    const double sum = high + x, d = sum - high;
    low += (high - (sum - d)) + (x - d);
    high = sum;
  }
  FASTNN_FN double value() const { return high - high == 0.0 ? high + low : high; }  // infinity has none
};
struct joining {
  FASTNN_FN twofold operator()(const twofold& a, const twofold& b) const {
    const double sum = a.high + b.high, d = sum - a.high;
    return {sum, (a.low + b.low) + ((a.high - (sum - d)) + (b.high - d))};
  }
};
__device__ __forceinline__ twofold __shfl_xor_sync(unsigned mask, const twofold& v, int distance) {
  return {::__shfl_xor_sync(mask, v.high, distance), ::__shfl_xor_sync(mask, v.low, distance)};
}

// The sum of terms of V: of floats, four of which are added up first, in double; of doubles, with their rounding
// errors.
template <class V>
struct summing {
  V block = V(0);
  double sum = 0;
  int filled = 0;

  FASTNN_FN void add(V t) {
    block = block + t;
    if (++filled == 4) flush();
  }
  FASTNN_FN void flush() {
    sum = sum + static_cast<double>(block);
    block = V(0);
    filled = 0;
  }
  FASTNN_FN void add_exactly(double t) { sum = sum + t; }  // what a float would round
  FASTNN_FN double alone() {
    flush();
    return sum;
  }
  __device__ __forceinline__ double of_block() { return block_sum(alone()); }
};
template <>
struct summing<double> {
  twofold sum = {0, 0};

  FASTNN_FN void add(double t) { sum.add(t); }
  FASTNN_FN void add_exactly(double t) { sum.add(t); }
  FASTNN_FN void flush() {}
  FASTNN_FN double alone() const { return sum.value(); }
  __device__ __forceinline__ double of_block() const {
    const twofold all = block_reduce(sum, twofold{0, 0}, joining());
    return all.value();
  }
};

// How many elements a loop takes at a time, as a type.
template <int n>
struct lane_count {
  static constexpr int value = n;
};

// f(first, begin, end) for the packs of n elements, `begin` to `end` of which are elements of an array.
template <int n, class T, class F>
__device__ __forceinline__ void for_packs(i64 thread, i64 threads, i64 count, const T* array, F f) {
  const cover<n> all = {count, head_of<n>(array)};
  const i64 packs = all.packs();
  for (i64 pack = thread; pack < packs; pack += threads) {
    const i64 first = all.first(pack);
    f(first, all.begin(first), all.end(first));
  }
}

// to[block] = the sum of x[i] for i = block, block + blocks ... in steps of a block's threads; `kinds` arrays of n
// each, one behind the other.
__global__ void add_up(const double* x, double* to, i64 n, i64 kinds) {
  for (i64 kind = 0; kind < kinds; ++kind) {
    summing<double> sum;
    for (i64 i = grid_thread(); i < n; i += grid_threads()) sum.add(x[kind * n + i]);
    const double total = sum.of_block();
    if (threadIdx.x == 0) to[kind * gridDim.x + blockIdx.x] = total;
  }
}

FASTNN_CUDA_END
