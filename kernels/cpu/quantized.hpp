// Quantized arithmetic, all but products of matrices: uint8 images (images, height, width, channels), exact int32 sums,
// and float32 where they become uint8 again. kernels/reference/quantized.py says what each kernel computes, to the last
// bit.
#pragma once
#include "family.hpp"

namespace fastnn_cpu {

// What kernels are told; each uses its part.
struct QuantizedJob {
  const unsigned char *a, *b;  // inputs
  unsigned char* y;            // where floats are one or the other, they are (images, channels, columns)
  // An image (height, width, channels) and that of the result, (rows, columns, depth).
  std::int64_t height, width, channels, rows, columns, depth;
  // Pixel (i, j) of window (p, q) is (p stride[0] - before[0] + i dilation[0], q stride[1] - before[1] + j
  // dilation[1]).
  std::int64_t kernel[2], stride[2], before[2], dilation[2];
  // Of means: regions of rows [top[p], bottom[p]) and columns [left[q], right[q]).
  const int *top, *bottom, *left, *right;
  const signed char* weight;
  const int* bias;
  const unsigned char* table;
  // acc -> zero + round(clip(float32(acc) * multiplier, low - zero, high - zero)). One multiplier for each channel or
  // region, or, where that is null, `by`.
  const float* multiplier;
  float by;
  int zero, low, high;
  int x_zero;              // of pixels outside of the image
  int by_a, by_b, offset;  // acc = by_a a + by_b b + offset
};

// Loops do the items [begin, end): rows of the result of all images; elements or positions where there is only one
// axis.
enum QuantizedKernel : int {
  quantized_depthwise,
  quantized_max_pool,
  quantized_average_pool,
  quantized_window,
  quantized_add,
  quantized_lookup,
  quantized_quantize,
  quantized_dequantize,
  quantized_kernels
};

// Rows of floats, each with a scale of its own, and of the sums of their products with weights.
struct RowsJob {
  const float* x;
  unsigned char* y;
  float* scale;
  int* zero;
  std::int64_t length;
};
struct FinishJob {
  const int *acc, *zero, *sums;
  const float *scale, *weight_scale, *bias;
  float* y;
  std::int64_t outputs;
  float low, high;
};

struct Quantized {
  void (*loops[quantized_kernels])(const QuantizedJob& job, std::int64_t begin, std::int64_t end);
  void (*quantize_rows)(const RowsJob& job, std::int64_t begin, std::int64_t end);
  void (*finish_rows)(const FinishJob& job, std::int64_t begin, std::int64_t end);
};

}  // namespace fastnn_cpu

FASTNN_FAMILY(Quantized, quantized)
