// Penalties on weights: the sum of squares, the sum of magnitudes, and their gradients added to another in place.
#pragma once
#include "family.hpp"

namespace fastnn_cpu {

struct Sums {
  double squares, magnitudes;
};
// The sums over the elements [begin, end) of w; grad (null: not wanted) += 2 quadratic w + linear sign(w).
using Regularizer = Sums (*)(const void* w, void* grad, double quadratic, double linear, std::int64_t begin,
                             std::int64_t end);

struct Regularizers {  // [is there a sum of squares, of magnitudes: 1, 2 or 3, less 1][dtype]
  Regularizer penalty[3][dtype_count];
};

}  // namespace fastnn_cpu

FASTNN_FAMILY(Regularizers, regularizers)
