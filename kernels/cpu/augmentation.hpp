// The loops of augmentation over batches of images.
#pragma once
#include "family.hpp"

namespace fastnn_cpu {

// Planes of height x width elements, `channels` of them a sample; of sample n the box (top, bottom, left, right) at
// boxes + 4 n is overwritten.
struct Cutout {
  std::int64_t channels, height, width;
  const std::int64_t* boxes;
  const void* fill;  // one element
};

// Planes of height x width pixels, fewer than 2^31, `channels` of them a sample, become such of rows x columns.
struct Frame {
  std::int64_t channels, height, width, rows, columns;
  const void* fill;  // one element, for what lies outside
};

// For every row and every column of the result the first pixel that it is made of, and the weights of that one and the
// next: `taps` lists of weights, one after the other.
struct Resampling {
  const std::int32_t *rows, *columns;
  const void *row_weights, *column_weights;
  std::int64_t row_taps, column_taps;
  void* scratch;  // height x columns elements
};

struct Augmentation {
  // y = weight a + (1 - weight) b, over n elements
  void (*mix[dtype_count])(const void* a, const void* b, void* y, std::int64_t n, double weight, bool streaming);
  // planes [begin, end) of x to y, which may be x
  void (*cutout[dtype_count])(const void* x, void* y, std::int64_t begin, std::int64_t end, const Cutout& cutout);
  // `planes` of y, for float32 and float64; of sample n at places + 3 n: top, left, whether it is mirrored
  void (*crop[2])(const void* x, void* y, std::int64_t planes, const Frame& frame, const std::int64_t* places);
  // `lines` of y, the rows of a sample one after the other, all channels at once; the map of sample n at maps + 7 n
  void (*warp[2])(const void* x, void* y, std::int64_t lines, const Frame& frame, const double* maps);
  // `planes` of y, for float32 and float64
  void (*resize[2])(const void* x, void* y, std::int64_t planes, const Frame& frame, const Resampling& resampling);
};

}  // namespace fastnn_cpu

FASTNN_FAMILY(Augmentation, augmentation)
