// Loss functions and their gradients by the scores, in one pass over memory.
#pragma once
#include "columns.hpp"
#include "family.hpp"

namespace fastnn_cpu {

// Losses over classes: arrays of shape (outer, classes, inner), C-contiguous, and one label, or one target for each
// class, for each of the outer * inner columns.
struct ClassLoss {
  const void* scores;
  void* gradient;              // like scores; null: not wanted
  const std::int64_t* labels;  // null: targets
  const void* targets;         // like scores
  const void* weight;          // of each class, in the dtype computed in; null: 1
  double* losses;              // of each column; null: not wanted
  double smoothing, margin, scale;
  std::int64_t ignored, classes, inner;
};

// Losses over pairs of elements. A weight is null for 1, or an array of the dtype computed in, with a step of 0 or 1.
struct ElementLoss {
  const void* x;
  const void* target;
  void* gradient;  // null: not wanted
  void* losses;    // in the dtype computed in; null: not wanted
  const void* weight;
  const void* positive_weight;
  std::int64_t weight_step, positive_weight_step;
  double scale;
};

// Each gives the sum of the losses of the columns, or elements, [begin, end), and `scale` times its gradient. `room`:
// half_room(classes, inner), or of one element each, bytes of working memory for the 16-bit formats.
using ClassLoop = double (*)(const ClassLoss&, std::int64_t begin, std::int64_t end, void* room);
using ElementLoop = double (*)(const ElementLoss&, std::int64_t begin, std::int64_t end, void* room);

struct Losses {
  ClassLoop cross_entropy[dtype_count];
  ClassLoop hinge[dtype_count];
  ElementLoop squared_error[dtype_count];
  ElementLoop binary_cross_entropy[dtype_count];
};

}  // namespace fastnn_cpu

FASTNN_FAMILY(Losses, losses)
