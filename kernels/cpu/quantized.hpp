// Quantized arithmetic: uint8 images (images, height, width, channels), exact int32 sums, and float32 where they become
// uint8 again. kernels/reference/quantized.py says what each job computes, to the last bit.
#pragma once
#include "family.hpp"

namespace fastnn_cpu {

// zero + round(clip(float32(acc) * multiplier, low - zero, high - zero))
struct Requantization {
  const float* multiplier;
  int zero, low, high;
};

// Windows over an image: pixel (i, j) of window (p, q) is (p stride[0] - before[0] + i dilation[0], ...).
struct Sliding {
  std::int64_t height, width, channels, rows, columns;  // the last two of the result
  std::int64_t kernel[2], stride[2], before[2], dilation[2];
};

// Row r = b rows + p consists of the pieces x[b, starts[p] + segments[s] :][: 4 groups]; without starts a row is a
// sample. weight: blocks of 16 outputs, of pieces, of groups of 4 inputs, of 16 outputs times 4 inputs, filled up with
// 0 where a piece ends in between: nothing from `end` on is read. One of bytes, floats and sums is the result, in rows
// of `pitch` elements.
struct MatmulJob {
  const unsigned char *x, *end;
  const int *starts, *segments;
  std::int64_t rows, size, pieces, groups, outputs, pitch;  // size: bytes of a sample
  const signed char* weight;
  const int* bias;
  unsigned char* bytes;
  float* floats;
  int* sums;
  Requantization finish;
};
struct DepthwiseJob {
  const unsigned char* x;
  const signed char* weight;
  const int* bias;
  unsigned char* y;
  int x_zero;  // outside of the image
  Sliding at;
  Requantization finish;
};
struct MaxPoolJob {
  const unsigned char* x;
  unsigned char* y;
  Sliding at;
};
// Regions of rows [top[p], bottom[p]) and columns [left[q], right[q]); a multiplier for each region.
struct MeanJob {
  const unsigned char* x;
  unsigned char* y;
  std::int64_t height, width, channels, rows, columns;
  const int *top, *bottom, *left, *right;
  int x_zero;
  Requantization finish;
};
struct SumJob {
  const unsigned char *a, *b;
  unsigned char* y;
  int by_a, by_b, bias;
  Requantization finish;
};
struct LookupJob {
  const unsigned char *x, *table;
  unsigned char* y;
};
struct WindowJob {
  const unsigned char* x;
  unsigned char* y;
  std::int64_t height, width, channels, rows, columns, depth;  // the last three of y
  std::int64_t top, left, stride;
  unsigned char fill;
};
// Floats are (images, channels, positions), bytes (images, positions, channels).
struct ConvertJob {
  float* values;
  unsigned char* bytes;
  std::int64_t channels, positions;
  float by;
  int zero;
};
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

// Loops do the items [begin, end) of a job, a pointer to one of the above: rows of the result of all images, elements
// where there is only one axis.
using QuantizedLoop = void (*)(const void* job, std::int64_t begin, std::int64_t end);
struct Quantized {
  QuantizedLoop depthwise, max_pool, average_pool;  // rows
  QuantizedLoop add, lookup;                        // elements
  QuantizedLoop window;                             // rows
  QuantizedLoop quantize, dequantize;               // positions
  QuantizedLoop quantize_rows, finish_rows;         // rows
};

// rows
struct QuantizedProduct {
  QuantizedLoop matmul;
};

}  // namespace fastnn_cpu

FASTNN_FAMILY(Quantized, quantized)
FASTNN_FAMILY(QuantizedProduct, quantized_product)
