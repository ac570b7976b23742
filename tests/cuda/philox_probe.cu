// Dropout as CUDA threads, one block of random words each: what tests/test_philox.py compiles.
#include "dropout.hpp"
#include "philox.hpp"

extern "C" __global__ void dropout(const float* x, float* y, unsigned long long n, unsigned long long seed,
                                   unsigned long long offset, unsigned threshold, float scale) {
  const unsigned long long number = blockIdx.x * static_cast<unsigned long long>(blockDim.x) + threadIdx.x;
  fastnn::u32 words[fastnn::block_words];
  fastnn::philox<fastnn::u32>(seed, offset).block(number, words);
  for (int k = 0; k < fastnn::block_halves; ++k) {
    const unsigned long long i = number * fastnn::block_halves + k;
    const unsigned half = words[k / 2] >> (k % 2 * 16) & 0xffffu;
    if (i < n) y[i] = fastnn::scaled(x[i], half >= threshold, scale);
  }
}
