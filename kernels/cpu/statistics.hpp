// What a training loop watches of activations, as reductions.
//
// Floor: every element read once; about 16 operations for `describe` (which goes over a block twice, in the first-level
// cache, so that the second moment is about the block's own mean), 2 for `inactive`.
#pragma once
#include "family.hpp"

namespace fastnn_cpu {

struct Description {
  double count, sum, squares;  // squares: sum of (y - sum / count)^2
  double minimum, maximum;     // NaN where one element is
  double inactive, low, high;  // how many are <= 0, and within the two bounds
};

constexpr std::int64_t describe_block = 2048;  // counts of so few are exact in float

struct Statistics {
  // A block: 0 < n <= describe_block elements. bounds: how many elements lie in [bounds[0], bounds[1]] and in
  // [bounds[2], bounds[3]]?
  void (*describe[dtype_count])(const void* y, std::int64_t n, const double* bounds, Description* result);
  // Adds to counts[c] how many y[o, c, i] <= 0 there are with begin <= o < end, y being C-contiguous.
  void (*inactive[dtype_count])(const void* y, std::int64_t begin, std::int64_t end, std::int64_t channels,
                                std::int64_t inner, double* counts);
};

// One description of all elements of two (Chan, Golub and LeVeque 1979).
static inline void merge(Description& to, const Description& from) {
  const double count = to.count + from.count, gap = from.sum / from.count - to.sum / to.count;
  to.squares += from.squares + gap * gap * (to.count * from.count / count);
  to.sum += from.sum;
  to.count = count;
  to.minimum = to.minimum == to.minimum && !(from.minimum >= to.minimum) ? from.minimum : to.minimum;
  to.maximum = to.maximum == to.maximum && !(from.maximum <= to.maximum) ? from.maximum : to.maximum;
  to.inactive += from.inactive;
  to.low += from.low;
  to.high += from.high;
}

}  // namespace fastnn_cpu

FASTNN_FAMILY(Statistics, statistics)
