// Packed products of pseudo-random numbers, in many shapes, and digests of all results, one of floats and one of
// integers, without Python: built for aarch64 it runs in an emulator. Every instruction set with an FMA unit must print
// the same, and all of them the same integers.
//
// Arrays end where their memory ends, so that touching a byte behind them is a segmentation fault; a border in front of
// results must stay as it was.
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <initializer_list>

#include "../../kernels/cpu/packed.hpp"
#include "../../kernels/cpu/packed_int8.hpp"
#include "../../kernels/include/simd.hpp"

using namespace fastnn_cpu;

#define NAME_OF(family, isa) fastnn_##family##_##isa
#define NAME(family, isa) NAME_OF(family, isa)
#if defined(FASTNN_DOT)
#define INT8 packed_int8_dot
#else
#define INT8 packed_int8
#endif
extern "C" const PackedLoops* NAME(packed, FASTNN_ISA)();
extern "C" const Int8Loops* NAME(INT8, FASTNN_ISA)();

namespace {

class Memory {
 public:
  Memory() {
    const std::size_t page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    void* const start = mmap(nullptr, capacity + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (start == MAP_FAILED) std::abort();
    end_ = static_cast<unsigned char*>(start) + capacity;
    if (mprotect(end_, page, PROT_NONE) != 0) std::abort();
  }
  template <class T>
  T* place(std::int64_t count) {
    bytes_ = static_cast<std::size_t>(count) * sizeof(T);
    if (bytes_ + border > capacity) std::abort();
    std::memset(end_ - bytes_ - border, 0xa5, border + bytes_);
    return reinterpret_cast<T*>(end_ - bytes_);
  }
  void digest(std::uint64_t& hash) const {
    for (std::size_t i = 1; i <= border; ++i)
      if ((end_ - bytes_)[-static_cast<std::ptrdiff_t>(i)] != 0xa5) std::abort();
    for (const unsigned char* p = end_ - bytes_; p < end_; ++p) hash = (hash ^ *p) * 1099511628211u;
  }

 private:
  static constexpr std::size_t capacity = 1 << 20, border = 256;
  unsigned char* end_;
  std::size_t bytes_ = 0;
};

std::uint64_t state = 1;
std::int64_t below(std::int64_t n) {
  state = state * 6364136223846793005u + 1442695040888963407u;
  return static_cast<std::int64_t>(state >> 33) % n;
}

template <class T>
T* numbers(Memory& memory, std::int64_t count) {
  T* const to = memory.place<T>(count);
  for (std::int64_t i = 0; i < count; ++i)
    to[i] = static_cast<T>((static_cast<double>(below(1 << 24)) - (1 << 23)) / 1000003.0);
  return to;
}

template <class T>
T* integers(Memory& memory, std::int64_t count, std::int64_t low, std::int64_t high) {
  T* const to = memory.place<T>(count);
  for (std::int64_t i = 0; i < count; ++i) {
    const std::int64_t chosen = below(6);
    to[i] = static_cast<T>(chosen == 0 ? low : chosen == 1 ? high : low + below(high - low + 1));
  }
  return to;
}

Memory at[7];
std::uint64_t floats = 14695981039346656037u, ints = floats;

template <class T>
void linear_layer(std::int64_t rows, std::int64_t in, std::int64_t out) {
  const std::int64_t group = packed_group(sizeof(T)), padded = (out + group - 1) / group * group;
  Packed job = {};
  job.x = numbers<T>(at[0], rows * in);
  job.start = numbers<T>(at[1], padded);
  job.panels = numbers<T>(at[2], padded * in);
  job.residual = below(2) ? numbers<T>(at[3], rows * out) : nullptr;
  job.y = at[4].place<T>(rows * out);
  job.rows = rows;
  job.in = in;
  job.out = out;
  job.relu = below(2) != 0;
  for (std::int64_t panel = 0; panel * packed_panel(sizeof(T)) < out; ++panel)
    for (std::int64_t row = 0; row < rows; row += packed_rows)
      NAME(packed, FASTNN_ISA)()->run[sizeof(T) / 8](job, row, panel);
  at[4].digest(floats);
}

void product(std::int64_t samples, std::int64_t positions, std::int64_t segments, std::int64_t length,
             std::int64_t outputs) {
  const std::int64_t groups = (length + 3) / 4, blocks = (outputs + 15) / 16, gap = below(6);
  Int8Product job = {};
  job.size = segments * length + gap;
  job.x = integers<unsigned char>(at[0], samples * job.size, 0, 255);
  job.end = job.x + samples * job.size;
  std::int32_t* const starts = at[1].place<std::int32_t>(positions);
  for (std::int64_t p = 0; p < positions; ++p) starts[p] = static_cast<std::int32_t>(below(gap + 1));
  std::int32_t* const begins = at[2].place<std::int32_t>(segments);
  for (std::int64_t s = 0; s < segments; ++s) begins[s] = static_cast<std::int32_t>(s * length);
  signed char* const weight = integers<signed char>(at[3], blocks * segments * groups * 64, -128, 127);
  for (std::int64_t i = 0; i < blocks * segments * groups * 64; ++i)
    if (i / 64 % groups * 4 + i % 4 >= length) weight[i] = 0;
  float* const multiplier = numbers<float>(at[5], outputs);
  for (std::int64_t n = 0; n < outputs; ++n) multiplier[n] *= 1e-3f;
  job.starts = starts;
  job.segments = begins;
  job.weight = weight;
  job.bias = integers<std::int32_t>(at[4], outputs, -100000, 100000);
  job.multiplier = multiplier;
  job.positions = positions;
  job.reach = (segments - 1) * length + 4 * groups;
  job.segment_count = segments;
  job.groups = groups;
  job.rows = samples * positions;
  job.outputs = job.stride = outputs;
  job.zero = static_cast<int>(below(256));
  job.low = static_cast<int>(below(100));
  job.high = 255 - static_cast<int>(below(100));
  for (const Int8Result result : {int8_sums, int8_floats, int8_bytes}) {
    job.result = result;
    job.y = at[6].place<unsigned char>(job.rows * outputs * (result == int8_bytes ? 1 : 4));
    for (std::int64_t output = 0; output < outputs; output += int8_outputs)
      for (std::int64_t row = 0; row < job.rows; row += int8_rows) NAME(INT8, FASTNN_ISA)()->run(job, row, output);
    at[6].digest(ints);
  }
}

}  // namespace

int main() {
  for (std::int64_t rows = 1; rows < 15; ++rows)
    for (std::int64_t out = 1; out < 150; out += 1 + below(20)) {
      linear_layer<float>(rows, below(40), out);
      linear_layer<double>(rows, below(40), out);
      const std::int64_t positions = 1 + below(9), segments = 1 + below(10);  // in this order
      product(rows, positions, segments, 1 + below(20), out);
    }
  linear_layer<float>(55, 1030, 70);
  linear_layer<double>(50, 1025, 33);
  product(3, 20, 1, 801, 70);
  std::printf("floats %016llx\nints %016llx\n", static_cast<unsigned long long>(floats),
              static_cast<unsigned long long>(ints));
  return 0;
}
