// Runs quantized kernels on pseudo-random bytes and prints a digest of all results, without Python: built for aarch64
// it runs in an emulator. Built for different instruction sets it must print the same.
//
// Arrays end where their memory ends, so that touching a byte behind them is a segmentation fault.
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "../../kernels/cpu/packed_int8.hpp"
#include "../../kernels/cpu/quantized.hpp"
#include "../../kernels/include/simd.hpp"

using namespace fastnn_cpu;

#ifndef FASTNN_PRODUCT
#define FASTNN_PRODUCT packed_int8
#endif
#define NAME_OF(family, isa) fastnn_##family##_##isa
#define NAME(family, isa) NAME_OF(family, isa)
extern "C" const Quantized* NAME(quantized, FASTNN_ISA)();
extern "C" const Int8Loops* NAME(FASTNN_PRODUCT, FASTNN_ISA)();

namespace {

std::uint64_t state = 1;
std::int64_t below(std::int64_t n) {
  state = state * 6364136223846793005u + 1442695040888963407u;
  return static_cast<std::int64_t>(state >> 33) % n;
}

std::uint64_t digest = 14695981039346656037u;

// Memory of so many numbers, behind which there is none.
template <class T>
struct Array {
  std::int64_t n;
  T* p;
  explicit Array(std::int64_t count) : n(count) {
    const std::size_t page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    bytes = (static_cast<std::size_t>(n) * sizeof(T) + page - 1) / page * page;
    start = static_cast<unsigned char*>(
        mmap(nullptr, bytes + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    if (start == MAP_FAILED || mprotect(start + bytes, page, PROT_NONE) != 0) std::abort();
    p = reinterpret_cast<T*>(start + bytes) - n;
  }
  Array(const Array&) = delete;
  ~Array() { munmap(start, bytes + static_cast<std::size_t>(sysconf(_SC_PAGESIZE))); }
  // from `low` on, often the ends of the range
  Array& fill(std::int64_t low, std::int64_t range, double by = 1) {
    for (std::int64_t i = 0; i < n; ++i)
      p[i] = static_cast<T>(by * static_cast<double>(low + (below(4) ? below(range) : below(2) * (range - 1))));
    return *this;
  }
  void keep() const {
    const auto* const u = reinterpret_cast<const unsigned char*>(p);
    for (std::size_t i = 0; i < static_cast<std::size_t>(n) * sizeof(T); ++i) digest = (digest ^ u[i]) * 1099511628211u;
  }

 private:
  std::size_t bytes;
  unsigned char* start;
};
using Bytes = Array<unsigned char>;

void images(const Quantized& q) {
  QuantizedJob job = {};
  const std::int64_t count = 1 + below(2);
  job.channels = job.depth = 1 + below(40);
  for (int i = 0; i < 2; ++i) {
    job.kernel[i] = 1 + below(3);
    job.stride[i] = 1 + below(2);
    job.dilation[i] = 1 + below(2);
    job.before[i] = below(job.kernel[i]);
    std::int64_t& size = i ? job.width : job.height;
    std::int64_t& out = i ? job.columns : job.rows;
    const std::int64_t span = (job.kernel[i] - 1) * job.dilation[i] + 1;
    size = span + below(7);
    out = (size + 2 * job.before[i] - span) / job.stride[i] + 1;
  }
  Bytes x(count * job.height * job.width * job.channels), y(count * job.rows * job.columns * job.depth), table(256);
  Array<signed char> weight(job.kernel[0] * job.kernel[1] * job.channels);
  Array<int> bias(job.channels), top(job.rows), bottom(job.rows), left(job.columns), right(job.columns);
  Array<float> multiplier(job.channels), means(job.rows * job.columns);
  job.a = x.fill(0, 256).p;
  job.y = y.p;
  job.weight = weight.fill(-127, 255).p;
  job.bias = bias.fill(-50000, 100001).p;
  job.table = table.fill(0, 256).p;
  job.x_zero = static_cast<int>(below(256));
  job.zero = static_cast<int>(below(256));
  job.low = static_cast<int>(below(100));
  job.high = 255 - static_cast<int>(below(100));
  job.multiplier = multiplier.fill(1, 100, 1.1e-4).p;
  const auto done = [&](QuantizedKernel kernel, std::int64_t items) {
    q.loops[kernel](job, 0, 1);
    q.loops[kernel](job, 1, items);
    y.keep();
  };
  const std::int64_t rows = count * job.rows;
  done(quantized_depthwise, rows);
  done(quantized_max_pool, rows);
  done(quantized_window, rows);
  for (std::int64_t p = 0; p < job.rows; ++p) {
    top.p[p] = static_cast<int>(p * job.height / job.rows);
    bottom.p[p] = static_cast<int>(((p + 1) * job.height + job.rows - 1) / job.rows);
  }
  for (std::int64_t p = 0; p < job.columns; ++p) {
    left.p[p] = static_cast<int>(p * job.width / job.columns);
    right.p[p] = static_cast<int>(((p + 1) * job.width + job.columns - 1) / job.columns);
  }
  job.top = top.p, job.bottom = bottom.p, job.left = left.p, job.right = right.p;
  job.multiplier = means.fill(1, 100, 1e-2).p;
  done(quantized_average_pool, rows);
  Bytes other(y.n), from(y.n);
  job.a = from.fill(0, 256).p, job.b = other.fill(0, 256).p;
  job.by_a = static_cast<int>(below(32768));
  job.by_b = static_cast<int>(below(65535)) - 32767;
  job.offset = static_cast<int>(below(1 << 23)) - (1 << 22);
  job.by = 3.0517578125e-05f;
  done(quantized_add, y.n);
  done(quantized_lookup, y.n);
}

void conversions(const Quantized& q) {
  QuantizedJob job = {};
  const std::int64_t count = 1 + below(3);
  job.channels = 1 + below(9);
  job.columns = 1 + below(70);
  job.by = 0.37f;
  job.zero = static_cast<int>(below(256));
  job.high = 255;
  const std::int64_t n = count * job.channels * job.columns;
  Array<float> values(n);
  Bytes bytes(n);
  job.a = reinterpret_cast<unsigned char*>(values.fill(-100000, 200001, 0.0123).p);
  values.p[0] = __builtin_nanf("");
  values.p[n / 2] = __builtin_inff();
  job.y = bytes.p;
  q.loops[quantized_quantize](job, 0, count * job.columns / 2);
  q.loops[quantized_quantize](job, count * job.columns / 2, count * job.columns);
  bytes.keep();
  job.a = bytes.p;
  job.y = reinterpret_cast<unsigned char*>(values.p);
  q.loops[quantized_dequantize](job, 0, count * job.columns);
  values.keep();

  const std::int64_t rows = 1 + below(3), length = 1 + below(70);
  Array<float> x(rows * length), scale(rows), weight_scale(length), bias(length), y(rows * length);
  Array<int> zero(rows), acc(rows * length), sums(length);
  Bytes made(rows * length);
  x.fill(-5000, 10001, 0.01);
  if (below(2)) x.p[below(x.n)] = __builtin_inff();
  q.quantize_rows({x.p, made.p, scale.p, zero.p, length}, 0, rows);
  made.keep(), scale.keep(), zero.keep();
  q.finish_rows({acc.fill(-1000000, 2000001).p, zero.p, sums.fill(-9999, 19999).p, scale.p,
                 weight_scale.fill(1, 100, 1e-4).p, bias.fill(-9, 19).p, y.p, length, 0.0f, 1e9f},
                0, rows);
  y.keep();
}

void products(const Int8Loops& loops) {
  Int8Product job = {};
  const std::int64_t samples = 1 + below(3);
  job.positions = 1 + below(9);
  job.segment_count = 1 + below(3);
  job.groups = 1 + below(9);
  job.outputs = 1 + below(90);
  job.stride = job.outputs;
  job.rows = samples * job.positions;
  job.size = (job.positions + job.segment_count) * 4 + 4 * job.groups;
  job.reach = 4 * (job.segment_count - 1) + 4 * job.groups;
  const std::int64_t blocks = (job.outputs + 15) / 16;
  Bytes x(samples * job.size), bytes(job.rows * job.outputs);
  Array<signed char> weight(blocks * job.segment_count * job.groups * 64);
  Array<int> starts(job.positions), segments(job.segment_count), bias(job.outputs), sums(bytes.n);
  Array<float> multiplier(job.outputs), floats(bytes.n);
  for (std::int64_t i = 0; i < job.positions; ++i) starts.p[i] = static_cast<int>(4 * i);
  for (std::int64_t i = 0; i < job.segment_count; ++i) segments.p[i] = static_cast<int>(4 * i);
  job.x = x.fill(0, 256).p, job.end = x.p + x.n;
  job.starts = starts.p, job.segments = segments.p;
  job.weight = weight.fill(-127, 255).p;
  job.bias = bias.fill(-90000, 180001).p;
  job.multiplier = multiplier.fill(1, 100, 1e-4).p;
  job.zero = static_cast<int>(below(256)), job.low = static_cast<int>(below(100)), job.high = 230;
  const auto done = [&](Int8Result result, void* y) {
    job.result = result, job.y = y;
    for (std::int64_t row = 0; row < job.rows; row += int8_rows)
      for (std::int64_t output = 0; output < job.outputs; output += int8_outputs) loops.run(job, row, output);
  };
  done(int8_sums, sums.p);
  done(int8_floats, floats.p);
  done(int8_bytes, bytes.p);
  sums.keep(), floats.keep(), bytes.keep();
}

}  // namespace

int main(int, char** arguments) {
  const int rounds = std::atoi(arguments[1]);
  for (int round = 0; round < rounds; ++round) {
    images(*NAME(quantized, FASTNN_ISA)());
    conversions(*NAME(quantized, FASTNN_ISA)());
    products(*NAME(FASTNN_PRODUCT, FASTNN_ISA)());
    if (round % 25 == 24) std::printf("%d %016llx\n", round + 1, static_cast<unsigned long long>(digest));
  }
  return 0;
}
