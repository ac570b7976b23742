// The loops of all activations, as the instruction sets hand them over.
#pragma once
#include "family.hpp"

namespace fastnn_cpu {

struct Activation {
  const char* name;
  int parameters;
  Loop loops[pass_count][dtype_count];  // null where there is no such pass
};
struct Activations {
  const Activation* rows;
  int count;
};

}  // namespace fastnn_cpu

FASTNN_FAMILY(Activations, activations)
