// Pooling of planes: contiguous arrays of (planes, depth, height, width), of which the first two spatial axes may have
// length 1. Every function works on the planes [begin, end) of arrays that are given whole.
#pragma once
#include "family.hpp"

namespace fastnn_cpu {

// What has loops for float and double only; the 16-bit formats come widened.
constexpr int wide_count = 2;
static_assert(dtype_float32 < wide_count && dtype_float64 < wide_count, "they come first");

// One spatial axis of windows of equal sizes: element k of window o lies at o * stride - before + k * dilation.
struct WindowAxis {
  std::int64_t in, out, kernel, stride, before, dilation;
};
// Windows of equal sizes. counts[axis][o], for averages: the elements of window o that the mean counts, followed by 16
// numbers that are not 0; even_width says that those of the last axis are all the same.
struct Windows {
  std::int64_t planes;
  WindowAxis axis[3];
  const double* counts[3];
  bool even_width;
};

// Windows of any sizes: window o of an axis is [start[o], stop[o]), not empty; both rise with o. Where `step` is not 0
// (maxima only) every plane has its own, `step` places behind those of the plane before.
struct RegionAxis {
  std::int64_t in, out;
  const std::int64_t *start, *stop;
  std::int64_t step;
};
struct Regions {
  std::int64_t planes;
  RegionAxis axis[3];
};

struct MaxPooling {
  // where: positions of the maxima within their plane; null if they are not wanted.
  void (*windows[wide_count])(const void* x, void* y, std::int64_t* where, const Windows&, std::int64_t begin,
                              std::int64_t end);
  void (*regions[dtype_count])(const void* x, void* y, std::int64_t* where, const Regions&, std::int64_t begin,
                               std::int64_t end);
  // dx = 0, then dx[where] += dy, in order; false at the first position outside of the plane.
  bool (*backward[dtype_count])(const void* dy, const std::int64_t* where, void* dx, std::int64_t outputs,
                                std::int64_t inputs, std::int64_t begin, std::int64_t end);
  // Are n positions places in a plane of so many inputs?
  bool (*inside)(const std::int64_t* where, std::int64_t n, std::int64_t inputs);
};

struct AveragePooling {
  void (*windows[wide_count])(const void* x, void* y, const Windows&, std::int64_t begin, std::int64_t end);
  void (*windows_backward[wide_count])(const void* dy, void* dx, const Windows&, std::int64_t begin, std::int64_t end);
  void (*regions[wide_count])(const void* x, void* y, const Regions&, std::int64_t begin, std::int64_t end);
  void (*regions_backward[wide_count])(const void* dy, void* dx, const Regions&, std::int64_t begin, std::int64_t end);
  // One mean a plane of n elements, and back.
  void (*whole[dtype_count])(const void* x, void* y, std::int64_t n, std::int64_t begin, std::int64_t end);
  void (*whole_backward[dtype_count])(const void* dy, void* dx, std::int64_t n, std::int64_t begin, std::int64_t end);
};

}  // namespace fastnn_cpu

FASTNN_FAMILY(MaxPooling, max_pooling)
FASTNN_FAMILY(AveragePooling, average_pooling)
