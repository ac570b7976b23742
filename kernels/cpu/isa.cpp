#include "runtime.hpp"

namespace fastnn_cpu {
namespace {

#if defined(__x86_64__)
bool v2() {
  return __builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("ssse3") && __builtin_cpu_supports("popcnt");
}
bool v3() {
  return v2() && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi") &&
         __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("f16c");
}
bool v4() {
  return v3() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}
const Isa sets[] = {{"v2", v2()}, {"v3", v3()}, {"v4", v4()}};
#elif defined(__aarch64__)
const Isa sets[] = {{"neon", true}};
#else
#error "fastnn has kernels for x86-64 and aarch64"
#endif
constexpr int count = sizeof(sets) / sizeof(sets[0]);
static_assert(count <= max_isas, "");

}  // namespace

int isa_count() noexcept { return count; }
const Isa& isa_at(int index) noexcept { return sets[index]; }

int best_isa() noexcept {
  int found = -1;
  for (int i = 0; i < count; ++i)
    if (sets[i].runnable) found = i;
  return found;
}

}  // namespace fastnn_cpu
