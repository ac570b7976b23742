// CUDA on the host, for the sources in kernels/cuda: one block after the other, the threads of a block as fibers that
// take turns at barriers and warp operations. It says where threads part at a barrier, where a shuffle reads a lane
// that takes no part, and where a launch passes arguments of other types than the kernel's. Every run is in a chosen
// order of threads: what depends on it lacks a barrier.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <type_traits>
#include <utility>
#include <vector>

#include <sys/mman.h>

#define __global__ static
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __constant__ static
#define __shared__ static  // blocks run one after the other

extern "C" double pow(double, double) noexcept;  // what kernels take of <cmath>, which is long to compile

struct alignas(16) uint4 {
  unsigned x, y, z, w;
};

namespace emulator {

struct position {
  unsigned x = 0;
};

// ---- fibers ----

extern "C" void emulator_switch(void** from, void* to);
#if defined(__x86_64__)
asm(R"(
.text
.type emulator_switch, @function
emulator_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
)");
constexpr int entry_word = 6, frame_words = 8;
#elif defined(__aarch64__)
asm(R"(
.text
.type emulator_switch, %function
emulator_switch:
  sub sp, sp, #160
  stp x19, x20, [sp, #0]
  stp x21, x22, [sp, #16]
  stp x23, x24, [sp, #32]
  stp x25, x26, [sp, #48]
  stp x27, x28, [sp, #64]
  stp x29, x30, [sp, #80]
  stp d8, d9, [sp, #96]
  stp d10, d11, [sp, #112]
  stp d12, d13, [sp, #128]
  stp d14, d15, [sp, #144]
  mov x9, sp
  str x9, [x0]
  mov sp, x1
  ldp x19, x20, [sp, #0]
  ldp x21, x22, [sp, #16]
  ldp x23, x24, [sp, #32]
  ldp x25, x26, [sp, #48]
  ldp x27, x28, [sp, #64]
  ldp x29, x30, [sp, #80]
  ldp d8, d9, [sp, #96]
  ldp d10, d11, [sp, #112]
  ldp d12, d13, [sp, #128]
  ldp d14, d15, [sp, #144]
  add sp, sp, #160
  ret
)");
constexpr int entry_word = 11, frame_words = 20;
#else
#error "the emulator switches fibers on x86-64 and aarch64"
#endif

constexpr std::size_t stack_bytes = 64 * 1024;
constexpr int most_threads = 1024, warp_lanes = 32;

enum class state { ready, at_barrier, at_warp, finished };
enum class operation { none, shuffle, ballot, sync };

struct fiber {
  void* stack_pointer = nullptr;
  char* stack = nullptr;
  state now = state::ready;
  int line = 0;  // of the barrier or warp operation it waits at
  operation what = operation::none;
  unsigned mask = 0;
  int source = 0;  // the lane a shuffle reads
  unsigned char value[16] = {}, result[16] = {};
};

// ---- a launch ----

struct argument {
  const void* value;
  int bytes, item;  // item: bytes of an element for arrays, else 0
  char kind;        // 'p' array, 'f' floating, 'i' integer, 'v' struct
};
struct launch {
  long long blocks, first_block, end_block;
  int threads, order;  // 0 forward, 1 reverse, 2 shuffled by `seed`
  unsigned seed;
  int count;
  const argument* arguments;
};

inline char message[512];  // what went wrong, or empty
inline position thread_index, block_index, block_size, grid_size;

struct scheduler {
  std::vector<fiber> fibers;
  std::vector<char*> stacks;  // not in use
  std::vector<int> order;
  void* home = nullptr;
  fiber* current = nullptr;
  void (*body)(void*) = nullptr;
  void* context = nullptr;

  char* new_stack() {
    if (stacks.empty()) {
      void* const memory = mmap(nullptr, stack_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
      if (memory == MAP_FAILED) std::fputs("emulator: no memory for stacks\n", stderr), __builtin_trap();
      return static_cast<char*>(memory);
    }
    char* const stack = stacks.back();
    stacks.pop_back();
    return stack;
  }
  int index_of(const fiber* f) const { return static_cast<int>(f - fibers.data()); }

  void resume(int i) {
    fiber& f = fibers[i];
    if (!f.stack) {
      f.stack = new_stack();
      void** const top = reinterpret_cast<void**>(f.stack + stack_bytes) - frame_words;
      std::memset(top, 0, frame_words * sizeof(void*));
      top[entry_word] = reinterpret_cast<void*>(&scheduler::enter);
      f.stack_pointer = top;
    }
    current = &f;
    thread_index.x = static_cast<unsigned>(i);
    emulator_switch(&home, f.stack_pointer);
    if (f.now == state::finished) {
      stacks.push_back(f.stack);
      f.stack = nullptr;
    }
  }
  void yield() { emulator_switch(&current->stack_pointer, home); }
  static void enter();

  // Everything about this block is over; its stacks are as good as new.
  [[noreturn]] void fail() {
    void* nowhere;
    emulator_switch(&nowhere, home);
    __builtin_unreachable();
  }

  bool run_block(int threads) {
    fibers.assign(threads, fiber());
    message[0] = 0;
    int finished = 0;
    while (finished < threads) {
      finished = 0;
      int waiting = 0, stuck = 0;
      for (const int i : order) {
        if (fibers[i].now == state::ready) resume(i);
        if (message[0]) return clean(false);
      }
      for (const fiber& f : fibers) {
        finished += f.now == state::finished;
        waiting += f.now == state::at_barrier;
        stuck += f.now == state::at_warp;
      }
      if (waiting == threads) {
        for (const fiber& f : fibers)
          if (f.line != fibers[0].line) {
            std::snprintf(message, sizeof message, "threads wait at different barriers: lines %d and %d",
                          fibers[0].line, f.line);
            return clean(false);
          }
        for (fiber& f : fibers) f.now = state::ready;
      } else if (finished < threads && finished + waiting + stuck == threads) {
        int first = 0;
        while (fibers[first].now == state::finished) ++first;
        std::snprintf(message, sizeof message,
                      "thread %d waits in line %d for others: of %d threads %d wait at a barrier, %d at a warp "
                      "operation, %d have left",
                      first, fibers[first].line, threads, waiting, stuck, finished);
        return clean(false);
      }
    }
    return true;
  }
  bool clean(bool result) {
    for (fiber& f : fibers)
      if (f.stack) {
        stacks.push_back(f.stack);
        f.stack = nullptr;
      }
    return result;
  }

  void barrier(int line) {
    current->now = state::at_barrier;
    current->line = line;
    yield();
  }

  // Waits until all lanes of the mask are here. The last one to come hands out the results.
  void together(unsigned mask, operation what, int source, int line) {
    fiber& self = *current;
    const int lane = index_of(&self) % warp_lanes, first = index_of(&self) - lane;
    if (!(mask >> lane & 1)) {
      std::snprintf(message, sizeof message, "line %d: lane %d is not in its own mask %08x", line, lane, mask);
      fail();
    }
    self.now = state::at_warp;
    self.line = line;
    self.what = what;
    self.mask = mask;
    self.source = source;
    for (int k = 0; k < warp_lanes; ++k) {
      if (!(mask >> k & 1)) continue;
      const fiber& other = fibers[first + k];
      const bool here = other.now == state::at_warp && other.line == line && other.what == what && other.mask == mask;
      if (!here) return yield();  // who waits for something else may come yet
    }
    unsigned ballot = 0;
    if (what == operation::ballot)
      for (int k = 0; k < warp_lanes; ++k) ballot |= unsigned(fibers[first + k].value[0] && mask >> k & 1) << k;
    for (int k = 0; k < warp_lanes; ++k) {
      if (!(mask >> k & 1)) continue;
      fiber& other = fibers[first + k];
      other.now = state::ready;
      if (what == operation::ballot) std::memcpy(other.result, &ballot, sizeof ballot);
      if (what != operation::shuffle) continue;
      if (!(mask >> other.source & 1)) {
        std::snprintf(message, sizeof message, "line %d: lane %d reads lane %d, which is not in the mask %08x", line, k,
                      other.source, mask);
        fail();
      }
      std::memcpy(other.result, fibers[first + other.source].value, sizeof other.result);
    }
  }

  template <class V>
  V shuffle(unsigned mask, V value, int source, int line) {
    static_assert(sizeof(V) <= 8 && std::is_arithmetic<V>::value, "CUDA shuffles numbers of 4 or 8 bytes");
    fiber& self = *current;
    std::memcpy(self.value, &value, sizeof value);
    together(mask, operation::shuffle, source, line);
    V result;
    std::memcpy(&result, self.result, sizeof result);
    return result;
  }
  unsigned ballot(unsigned mask, bool predicate, int line) {
    fiber& self = *current;
    self.value[0] = predicate;
    together(mask, operation::ballot, 0, line);
    unsigned result;
    std::memcpy(&result, self.result, sizeof result);
    return result;
  }
};
inline scheduler threads;

inline void scheduler::enter() {
  threads.body(threads.context);
  threads.current->now = state::finished;
  threads.yield();
}

template <class P>
bool fits(const argument& a, int number) {
  const bool pointer = std::is_pointer<P>::value, floating = std::is_floating_point<P>::value;
  const char kind = pointer ? 'p' : floating ? 'f' : std::is_integral<P>::value ? 'i' : 'v';
  int item = 0;
  if constexpr (std::is_pointer<P>::value && !std::is_void<std::remove_pointer_t<P>>::value)
    item = sizeof(std::remove_pointer_t<P>);
  const bool null = pointer && a.kind == 'i' && a.bytes == 8 && *static_cast<const std::uint64_t*>(a.value) == 0;
  if (null || (a.kind == kind && (pointer ? !item || a.item == item : a.bytes == static_cast<int>(sizeof(P)))))
    return true;
  std::snprintf(message, sizeof message,
                "argument %d is of kind '%c' with %d bytes (elements of %d), the kernel's of kind '%c' with %d bytes "
                "(elements of %d)",
                number, a.kind, a.bytes, a.item, kind, static_cast<int>(sizeof(P)), item);
  return false;
}

template <class... P, std::size_t... i>
const char* run(void (*kernel)(P...), const launch& l, std::index_sequence<i...>) {
  message[0] = 0;
  if (l.count != static_cast<int>(sizeof...(P))) {
    std::snprintf(message, sizeof message, "the launch passes %d arguments, the kernel takes %d", l.count,
                  static_cast<int>(sizeof...(P)));
    return message;
  }
  if (!(fits<P>(l.arguments[i], static_cast<int>(i)) && ...)) return message;
  if (l.threads < 1 || l.threads > most_threads || l.threads % warp_lanes || l.blocks < 1 || l.blocks > 0x7fffffff) {
    std::snprintf(message, sizeof message, "%lld blocks of %d threads cannot be launched", l.blocks, l.threads);
    return message;
  }
  auto body = [&] { kernel(*static_cast<const std::remove_const_t<P>*>(l.arguments[i].value)...); };
  threads.context = &body;
  threads.body = [](void* context) { (*static_cast<decltype(body)*>(context))(); };
  threads.order.resize(l.threads);
  for (int k = 0; k < l.threads; ++k) threads.order[k] = l.order == 1 ? l.threads - 1 - k : k;
  std::uint64_t random = l.seed;
  block_size.x = static_cast<unsigned>(l.threads);
  grid_size.x = static_cast<unsigned>(l.blocks);
  for (long long block = l.first_block; block < l.end_block; ++block) {
    if (l.order == 2)
      for (int k = l.threads - 1; k > 0; --k) {  // Fisher and Yates, by Knuth's linear congruential generator
        random = random * 6364136223846793005u + 1442695040888963407u;
        std::swap(threads.order[k], threads.order[(random >> 33) % (k + 1)]);
      }
    block_index.x = static_cast<unsigned>(block);
    if (!threads.run_block(l.threads)) {
      const std::size_t length = std::strlen(message);
      std::snprintf(message + length, sizeof message - length, " (block %lld)", block);
      return message;
    }
  }
  return nullptr;
}
template <class... P>
const char* run(void (*kernel)(P...), const launch& l) {
  return run(kernel, l, std::index_sequence_for<P...>());
}

}  // namespace emulator

#define EMULATOR_KERNEL(number, ...)                                                                           \
  extern "C" __attribute__((visibility("default"))) const char* emulator_##number(const emulator::launch* l) { \
    return emulator::run(__VA_ARGS__, *l);                                                                     \
  }

// ---- what kernels see ----

#define threadIdx emulator::thread_index
#define blockIdx emulator::block_index
#define blockDim emulator::block_size
#define gridDim emulator::grid_size

inline void __syncthreads(int line = __builtin_LINE()) { emulator::threads.barrier(line); }
inline void __syncwarp(unsigned mask = 0xffffffffu, int line = __builtin_LINE()) {
  emulator::threads.together(mask, emulator::operation::sync, 0, line);
}
inline int emulator_lane() { return static_cast<int>(threadIdx.x) % emulator::warp_lanes; }
template <class V>
V __shfl_sync(unsigned mask, V v, int source, int line = __builtin_LINE()) {
  return emulator::threads.shuffle(mask, v, source & 31, line);
}
template <class V>
V __shfl_xor_sync(unsigned mask, V v, int lanes, int line = __builtin_LINE()) {
  return emulator::threads.shuffle(mask, v, (emulator_lane() ^ lanes) & 31, line);
}
template <class V>
V __shfl_down_sync(unsigned mask, V v, int lanes, int line = __builtin_LINE()) {
  const int source = emulator_lane() + lanes;
  return emulator::threads.shuffle(mask, v, source < 32 ? source : emulator_lane(), line);
}
template <class V>
V __shfl_up_sync(unsigned mask, V v, int lanes, int line = __builtin_LINE()) {
  const int source = emulator_lane() - lanes;
  return emulator::threads.shuffle(mask, v, source >= 0 ? source : emulator_lane(), line);
}
inline unsigned __ballot_sync(unsigned mask, bool predicate, int line = __builtin_LINE()) {
  return emulator::threads.ballot(mask, predicate, line);
}
inline bool __any_sync(unsigned mask, bool predicate, int line = __builtin_LINE()) {
  return emulator::threads.ballot(mask, predicate, line) != 0;
}
inline bool __all_sync(unsigned mask, bool predicate, int line = __builtin_LINE()) {
  return emulator::threads.ballot(mask, predicate, line) == mask;
}
inline int __popc(unsigned u) { return __builtin_popcount(u); }
inline int __ffs(int u) { return __builtin_ffs(u); }
inline int __clz(int u) { return u ? __builtin_clz(static_cast<unsigned>(u)) : 32; }

// Integers only: sums of floating-point numbers would depend on who comes first.
template <class V>
V atomicAdd(V* p, std::common_type_t<V> v) {
  static_assert(std::is_integral<V>::value, "atomicAdd on floating-point numbers has no order");
  return std::exchange(*p, *p + v);
}
template <class V>
V atomicExch(V* p, std::common_type_t<V> v) {
  return std::exchange(*p, v);
}
template <class V>
V atomicMin(V* p, std::common_type_t<V> v) {
  static_assert(std::is_integral<V>::value, "");
  return std::exchange(*p, v < *p ? v : *p);
}
template <class V>
V atomicMax(V* p, std::common_type_t<V> v) {
  static_assert(std::is_integral<V>::value, "");
  return std::exchange(*p, v > *p ? v : *p);
}
template <class V>
V atomicOr(V* p, std::common_type_t<V> v) {
  return std::exchange(*p, *p | v);
}
template <class V>
V atomicCAS(V* p, std::common_type_t<V> expected, std::common_type_t<V> v) {
  return *p == expected ? std::exchange(*p, v) : *p;
}
