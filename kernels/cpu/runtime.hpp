// What all kernel modules share: threads, the instruction set in use, bfloat16's number, and the loops of the
// activations, which other kernels run on blocks that lie in the cache.
//
// The one Runtime of a process belongs to the module fastnn.kernels.cpu.runtime. runtime.pxd says how others reach it.
#pragma once
#include <atomic>

#include "loop.hpp"
#include "pool.hpp"

namespace fastnn_cpu {

constexpr int max_isas = 3;

struct Isa {
  const char* name;
  bool runnable;  // can this CPU (and operating system) run it?
};

// In rising order of preference.
int isa_count() noexcept;
const Isa& isa_at(int index) noexcept;
// Does the CPU have the dot products of bytes that belong to it: AVX-VNNI to v3, AVX-512 VNNI to v4, NEON's sdot?
bool has_dot(int index) noexcept;

struct Runtime {
  const fastnn::PoolApi* pool;
  // The instruction set that every loop uses: an index, or -1 where the CPU can run none. Changing it is for tests and
  // certificates, and takes effect with the next call.
  std::atomic<int> isa;
  // NumPy's number of ml_dtypes' bfloat16 once that has been imported; -1 before.
  std::atomic<int> bfloat16;
  // The loop of an activation, for fusing; null if there is none of that name or pass. Set by the activations' module.
  Loop (*activation_loop)(int isa, const char* name, int pass, int dtype);

  int active_isa() const noexcept { return isa.load(std::memory_order_relaxed); }
  void set_isa(int index) noexcept { isa.store(index, std::memory_order_relaxed); }
  int bfloat16_number() const noexcept { return bfloat16.load(std::memory_order_relaxed); }
  void set_bfloat16(int number) noexcept { bfloat16.store(number, std::memory_order_relaxed); }
};

constexpr char kRuntimeCapsule[] = "fastnn.kernels.cpu.runtime.api";

// The best of those that the CPU can run, or -1.
int best_isa() noexcept;

}  // namespace fastnn_cpu
