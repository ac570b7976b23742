#include "runtime.hpp"

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

namespace fastnn_cpu {
namespace {

#if defined(__x86_64__)
bool v2() {
  return __builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("ssse3") && __builtin_cpu_supports("popcnt");
}
// Older versions of Clang have no names for these two.
bool f16c() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid(1, &a, &b, &c, &d) != 0 && (c >> 29 & 1) != 0;
}
bool avx_vnni() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid_count(7, 1, &a, &b, &c, &d) != 0 && (a >> 4 & 1) != 0;
}
bool v3() {
  return v2() && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi") &&
         __builtin_cpu_supports("bmi2") && f16c();
}
bool v4() {
  return v3() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}
const Isa sets[] = {{"v2", v2()}, {"v3", v3()}, {"v4", v4()}};
const bool dots[] = {false, v3() && avx_vnni(), v4() && __builtin_cpu_supports("avx512vnni")};
#elif defined(__aarch64__)
const Isa sets[] = {{"neon", true}};
#if defined(__linux__)
const bool dots[] = {(getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0};
#else
const bool dots[] = {false};
#endif
#else
#error "fastnn has kernels for x86-64 and aarch64"
#endif
constexpr int count = sizeof(sets) / sizeof(sets[0]);
static_assert(count <= max_isas, "");

}  // namespace

int isa_count() noexcept { return count; }
const Isa& isa_at(int index) noexcept { return sets[index]; }
bool has_dot(int index) noexcept { return dots[index]; }

int best_isa() noexcept {
  int found = -1;
  for (int i = 0; i < count; ++i)
    if (sets[i].runnable) found = i;
  return found;
}

}  // namespace fastnn_cpu
