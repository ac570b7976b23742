// Steps of sessions that run one after the other without a return to Python.
#pragma once
#include <cstdint>

namespace fastnn_cpu {

// A kernel that knows everything but where its arrays lie; the first member of what it knows. Python objects that own
// one offer it as their attribute `operation`, a capsule of this name.
struct Operation {
  static constexpr int most = 4;
  // On inputs, then the result; on any thread, without the GIL. False where there is no memory.
  bool (*run)(const Operation* self, void* const* arrays);
  int count;                 // of its arrays
  int types[most];           // NumPy's numbers of their dtypes
  std::int64_t bytes[most];  // that they have at least
  std::int64_t work;         // operations on numbers, roughly
};
constexpr char kOperationCapsule[] = "fastnn.kernels.cpu.operation";

}  // namespace fastnn_cpu
