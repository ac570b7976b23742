// Products of uint8 rows with int8 weights, exact in int32: linear layers and, by way of offsets, convolutions.
//
// A row consists of segments, pieces of memory of 4 `groups` bytes: a linear layer has one, a convolution of images
// whose channels lie together one for each element of its kernel. So no row is ever copied together. Weights are as
// kernels/int8_weights.py packs them: block by block of 16 outputs, segment by segment, four inputs of the 16 outputs
// side by side.
//
// Floor: with dot-product instructions a quarter of the time of float32, in arithmetic and in weights to be read.
#pragma once
#include "family.hpp"

namespace fastnn_cpu {

enum Int8Result { int8_sums, int8_floats, int8_bytes };

// acc[n] = bias[n] + sum over segments s and k < 4 groups of weight[n, s, k] x[sample, starts[p] + segments[s] + k],
// and of it, in y[sample, p, n], an int32, a float32 multiplier[n] acc[n], or the byte
// zero + round(clip(multiplier[n] acc[n], low - zero, high - zero)). Rows are all (sample, p), one after the other.
// Behind `end` nothing is read; weights there are zero. starts: null for zeros.
struct Int8Product {
  const unsigned char *x, *end;
  const std::int32_t *starts, *segments;
  const signed char* weight;
  const std::int32_t* bias;
  const float* multiplier;
  void* y;
  std::int64_t size, positions, reach;  // of a sample: bytes, rows; the furthest segment's end
  std::int64_t segment_count, groups;
  std::int64_t rows, outputs, stride;  // y: rows are `stride` elements apart
  Int8Result result;
  int zero, low, high;
};

constexpr int int8_rows = 48, int8_outputs = 64;  // of a task

struct Int8Loops {
  void (*run)(const Int8Product& job, std::int64_t row, std::int64_t output);
};

}  // namespace fastnn_cpu

FASTNN_FAMILY(Int8Loops, packed_int8)

// The same compiled with dot-product instructions; isa.cpp says whether the CPU knows them.
#if defined(__x86_64__)
extern "C" const fastnn_cpu::Int8Loops* fastnn_packed_int8_dot_v3();
extern "C" const fastnn_cpu::Int8Loops* fastnn_packed_int8_dot_v4();
namespace fastnn_cpu {
static inline const Int8Loops& packed_int8_dot(int isa) {
  return *(isa == 2 ? fastnn_packed_int8_dot_v4() : isa == 1 ? fastnn_packed_int8_dot_v3() : fastnn_packed_int8_v2());
}
}  // namespace fastnn_cpu
#else
extern "C" const fastnn_cpu::Int8Loops* fastnn_packed_int8_dot_neon();
namespace fastnn_cpu {
static inline const Int8Loops& packed_int8_dot(int) { return *fastnn_packed_int8_dot_neon(); }
}  // namespace fastnn_cpu
#endif
