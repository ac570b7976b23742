// Convolutions over whole arrays: what the Cython module calls.
#pragma once
#include <cstdint>

#include "runtime.hpp"

namespace fastnn_cpu {

// x[images, groups * inner, rows, cols], y[images, groups * outer, out_rows, out_cols],
// weight[groups * outer, inner, kernel[0], kernel[1]]; padding is that before the first row and column.
struct Geometry {
  std::int64_t images, groups, inner, outer, rows, cols, out_rows, out_cols;
  std::int64_t kernel[2], stride[2], padding[2], dilation[2];
};

// These return false where there was no memory. z may be null; `accumulate` adds to what is there.
bool convolve(const Runtime& runtime, int dtype, const Geometry& geometry, const void* x, const void* weight,
              const void* bias, void* y, void* z, const char* activation, const void* const* parameter, int parameters);
bool input_gradient(const Runtime& runtime, int dtype, const Geometry& geometry, const void* dy, const void* weight,
                    void* dx);
bool weight_gradient(const Runtime& runtime, int dtype, const Geometry& geometry, const void* dy, const void* x,
                     void* dweight, bool accumulate);
bool bias_gradient(const Runtime& runtime, int dtype, const void* dy, std::int64_t images, std::int64_t channels,
                   std::int64_t positions, void* dbias, bool accumulate);

}  // namespace fastnn_cpu
