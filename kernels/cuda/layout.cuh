// Where the elements of arrays of one shape and any strides lie.
#pragma once
#include "device.cuh"

FASTNN_CUDA_BEGIN

constexpr int most_dimensions = 8;

template <int arrays>
struct places {
  i64 offset[arrays];
};

// As layout.py fills it in: the first dimension runs fastest, strides count elements.
template <int arrays>
struct layout {
  i64 count, dimensions;
  i64 shape[most_dimensions], strides[arrays][most_dimensions];

  FASTNN_FN places<arrays> places_of(i64 i) const {
    return count <= 0xffffffff ? walk<u32>(static_cast<u32>(i))
                               : walk<i64>(i);  // 64-bit division takes five times as long
  }

 private:
  template <class I>
  FASTNN_FN places<arrays> walk(I rest) const {
    places<arrays> r = {};
    FASTNN_CUDA_UNROLL
    for (int k = 0; k < most_dimensions; ++k) {
      if (k >= dimensions) break;
      const I length = static_cast<I>(shape[k]), next = rest / length;
      FASTNN_CUDA_UNROLL
      for (int a = 0; a < arrays; ++a) r.offset[a] += static_cast<i64>(rest - next * length) * strides[a][k];
      rest = next;
    }
    return r;
  }
};

FASTNN_CUDA_END
