// Functions whose output has a part of the input's channels: maxout, glu, swiglu.
#pragma once
#include "family.hpp"

namespace fastnn_cpu {

// Arrays of shape (outer, parts, inner), C-contiguous, and of shape (outer, inner): the elements [begin, end) of the
// latter.
using GatingForward = void (*)(const void* x, void* y, std::int64_t parts, std::int64_t inner, std::int64_t begin,
                               std::int64_t end);
using GatingBackward = void (*)(const void* dy, const void* x, void* dx, std::int64_t parts, std::int64_t inner,
                                std::int64_t begin, std::int64_t end);

enum GatingOp : int { gating_maxout, gating_glu, gating_swiglu, gating_count };

struct Gating {
  GatingForward forward[gating_count][dtype_count];
  GatingBackward backward[gating_count][dtype_count];
};

}  // namespace fastnn_cpu

FASTNN_FAMILY(Gating, gating)
