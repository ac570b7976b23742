// The loops of softmax and log-softmax, forward and backward.
#pragma once
#include "columns.hpp"
#include "family.hpp"

namespace fastnn_cpu {

// Arrays of shape (outer, classes, inner), C-contiguous; the columns [begin, end) of outer * inner. `y` may be `x`.
// `room`: half_room(classes, inner) bytes of working memory for the 16-bit formats.
using SoftmaxForward = void (*)(const void* x, void* y, std::int64_t classes, std::int64_t inner, std::int64_t begin,
                                std::int64_t end, void* room);
// `dx` may be `dy` or `y`.
using SoftmaxBackward = void (*)(const void* dy, const void* y, void* dx, std::int64_t classes, std::int64_t inner,
                                 std::int64_t begin, std::int64_t end, void* room);

struct Softmax {  // [is it log-softmax?][dtype]
  SoftmaxForward forward[2][dtype_count];
  SoftmaxBackward backward[2][dtype_count];
};

}  // namespace fastnn_cpu

FASTNN_FAMILY(Softmax, softmax)
