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

struct Augmentation {
  // y = weight a + (1 - weight) b, over n elements
  void (*mix[dtype_count])(const void* a, const void* b, void* y, std::int64_t n, double weight, bool streaming);
  // planes [begin, end) of x to y, which may be x
  void (*cutout[dtype_count])(const void* x, void* y, std::int64_t begin, std::int64_t end, const Cutout& cutout);
};

}  // namespace fastnn_cpu

FASTNN_FAMILY(Augmentation, augmentation)
