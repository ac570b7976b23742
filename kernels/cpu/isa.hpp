// The instruction sets this build holds, which of them the CPU can run, and which one is in use.
#pragma once
#include "loop.hpp"

namespace fastnn_cpu {

constexpr int max_isas = 3;

struct Isa {
  const char* name;
  Activations (*activations)();
  bool runnable;  // can this CPU (and operating system) run it?
};

// In rising order of preference.
int isa_count() noexcept;
const Isa& isa_at(int index) noexcept;

// The one that every loop uses: an index, or -1 where the CPU can run none. Changing it is for tests and certificates,
// and takes effect with the next call.
int active_isa() noexcept;
void set_active_isa(int index) noexcept;

}  // namespace fastnn_cpu
