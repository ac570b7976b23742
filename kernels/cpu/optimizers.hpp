// Steps of the optimisers over contiguous memory, and what clipping gradients by their norm takes.
//
// Floor of a step: param, grad and each state read once, param and states written once; sgd 20 bytes a float32 element,
// rmsprop 20, adam 28 (no streaming stores: every line that is written has been read).
#pragma once
#include "../include/optimizer_settings.hpp"
#include "family.hpp"

namespace fastnn_cpu {

enum Optimizer : int { optimizer_sgd, optimizer_rmsprop, optimizer_adam, optimizer_count };

struct Optimizers {
  // On the elements [begin, end). arrays: param, grad (of the dtype), then the states (float beside 16-bit params),
  // null where the settings leave them out.
  void (*step[optimizer_count][dtype_count])(void* const* arrays, std::int64_t begin, std::int64_t end,
                                             const void* settings);
  // The sum of |x|^p over n elements, for p = infinity the largest |x|; NaN if there is one among them.
  double (*power_sum[dtype_count])(const void* x, std::int64_t n, double p);
  // x <- factor x
  void (*scale[dtype_count])(void* x, std::int64_t begin, std::int64_t end, double factor);
};

}  // namespace fastnn_cpu

FASTNN_FAMILY(Optimizers, optimizers)
