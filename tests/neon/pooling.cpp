// Pools arrays of pseudo-random numbers in every way and prints a digest of all results, without Python: built for
// aarch64 it runs in an emulator. Built for different instruction sets it must print the same.
//
// Arrays end where their memory ends, so that touching a byte behind them is a segmentation fault; a border in front of
// results must stay as it was.
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "../../kernels/cpu/pooling.hpp"
#include "../../kernels/include/simd.hpp"

using namespace fastnn_cpu;

#define NAME_OF(family, isa) fastnn_##family##_##isa
#define NAME(family, isa) NAME_OF(family, isa)
extern "C" const MaxPooling* NAME(max_pooling, FASTNN_ISA)();
extern "C" const AveragePooling* NAME(average_pooling, FASTNN_ISA)();

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
  unsigned char* place(std::size_t bytes) {
    if (bytes + border > capacity) std::abort();
    std::memset(end_ - bytes - border, 0xa5, border + bytes);
    return end_ - bytes;
  }
  bool intact(std::size_t bytes) const {
    for (std::size_t i = 1; i <= border; ++i)
      if ((end_ - bytes)[-static_cast<std::ptrdiff_t>(i)] != 0xa5) return false;
    return true;
  }

 private:
  static constexpr std::size_t capacity = 4 << 20, border = 256;
  unsigned char* end_;
};

std::uint64_t state = 1;
std::uint32_t next() {
  state = state * 6364136223846793005u + 1442695040888963407u;
  return static_cast<std::uint32_t>(state >> 33);
}
std::int64_t below(std::int64_t n) { return next() % n; }

// For maxima halves of whole numbers, many of them equal, with -0, -infinity and NaN here and there; for sums numbers
// that do not add up exactly.
void fill(unsigned char* to, int dtype, std::int64_t n, bool special) {
  for (std::int64_t i = 0; i < n; ++i) {
    double v = (static_cast<double>(below(41)) - 20) / 2;
    if (!special) v = (static_cast<double>(below(1 << 24)) - (1 << 23)) / 1000003.0;
    if (v == 0 && below(2)) v = -0.0;
    if (special && below(60) == 0) v = below(2) ? __builtin_nan("") : -__builtin_inf();
    const float f = static_cast<float>(v);
    std::uint32_t bits;
    std::memcpy(&bits, &f, 4);
    std::uint16_t half = static_cast<std::uint16_t>(bits >> 16);  // bfloat16, cut
    if (dtype == dtype_float16) half = static_cast<std::uint16_t>(fastnn::float_to_binary16(f));
    if (dtype == dtype_float32) std::memcpy(to + 4 * i, &f, 4);
    if (dtype == dtype_float64) std::memcpy(to + 8 * i, &v, 8);
    if (dtype >= dtype_float16) std::memcpy(to + 2 * i, &half, 2);
  }
}

std::uint64_t digest = 14695981039346656037u;
void add(const unsigned char* p, std::size_t bytes, int dtype) {
  static const std::uint64_t infinities[] = {0x7f800000u, 0x7ff0000000000000u, 0x7c00u, 0x7f80u};
  static const std::size_t sizes[] = {4, 8, 2, 2};
  const std::size_t item = dtype < 0 ? 8 : sizes[dtype];
  for (std::size_t i = 0; i < bytes; i += item) {
    std::uint64_t u = 0;
    std::memcpy(&u, p + i, item);  // little-endian, as are all of these machines
    if (dtype >= 0) {
      const std::uint64_t sign = std::uint64_t(1) << (8 * item - 1);
      if ((u & ~sign) > infinities[dtype]) u = infinities[dtype] + 1;  // one NaN is as good as another
    }
    digest = (digest ^ u) * 1099511628211u;
  }
}

[[noreturn]] void fail(const char* what, int round) {
  std::fprintf(stderr, "round %d: %s\n", round, what);
  std::exit(1);
}

}  // namespace

int main(int, char** arguments) {
  static const std::size_t sizes[] = {4, 8, 2, 2};
  const MaxPooling& maxima = *NAME(max_pooling, FASTNN_ISA)();
  const AveragePooling& averages = *NAME(average_pooling, FASTNN_ISA)();
  Memory memory[4];
  const int rounds = std::atoi(arguments[1]);
  for (int round = 0; round < rounds; ++round) {
    const int dtype = round % dtype_count;
    const std::size_t item = sizes[dtype];
    const bool wide = dtype < wide_count;
    Windows w = {};
    w.planes = 1 + below(3);
    w.even_width = true;
    std::vector<double> counts[3];
    std::vector<std::int64_t> starts[3], stops[3];
    std::int64_t x_size = w.planes, y_size = w.planes;
    for (int i = 0; i < 3; ++i) {
      WindowAxis& a = w.axis[i];
      const std::int64_t longest[] = {3, 14, below(4) ? 70 : 1500};
      if (i == 0 && below(2)) {
        a = {1, 1, 1, 1, 0, 1};
      } else {
        a.kernel = 1 + below(i == 2 && below(8) == 0 ? 40 : 4);
        a.stride = 1 + below(4);
        a.dilation = below(3) ? 1 : 1 + below(3);
        a.before = below(a.kernel);
        const std::int64_t span = (a.kernel - 1) * a.dilation + 1, after = below(a.kernel);
        a.in = (span > a.before + after ? span - a.before - after : 1) + below(longest[i]);
        if (a.dilation > 1 && a.in < a.dilation) a.in = a.dilation;  // so that no window misses the input
        a.out = (a.in + a.before + after - span) / a.stride + 1;
      }
      x_size *= a.in;
      y_size *= a.out;
      for (std::int64_t o = 0; o < a.out; ++o) {
        counts[i].push_back(static_cast<double>(1 + (i == 2 && o == 0 ? below(2) : 1)));
        w.even_width = w.even_width && (i < 2 || counts[i][0] == counts[i].back());
        starts[i].push_back(o * a.in / a.out);
        stops[i].push_back(((o + 1) * a.in + a.out - 1) / a.out);
      }
      for (int k = 0; k < 16; ++k) counts[i].push_back(1.0);
      w.counts[i] = counts[i].data();
    }
    const std::size_t x_bytes = static_cast<std::size_t>(x_size) * item,
                      y_bytes = static_cast<std::size_t>(y_size) * item;
    unsigned char* const x = memory[0].place(x_bytes);
    const auto keep = [&](unsigned char* p, std::size_t bytes, int type, int which) {
      add(p, bytes, type);
      if (!memory[which].intact(bytes)) fail("wrote before a result", round);
    };
    Regions r = {};
    r.planes = w.planes;
    for (int i = 0; i < 3; ++i) r.axis[i] = {w.axis[i].in, w.axis[i].out, starts[i].data(), stops[i].data(), 0};
    auto* const where = reinterpret_cast<std::int64_t*>(memory[2].place(static_cast<std::size_t>(y_size) * 8));

    // two calls, of the first plane and of the others, as threads make them
    const auto parts = [&](auto f) {
      f(std::int64_t(0), std::int64_t(1));
      f(std::int64_t(1), w.planes);
    };
    fill(x, dtype, x_size, true);
    unsigned char* y = memory[1].place(y_bytes);
    if (wide) {
      parts([&](std::int64_t a, std::int64_t b) { maxima.windows[dtype](x, y, nullptr, w, a, b); });
      keep(y, y_bytes, dtype, 1);
      y = memory[1].place(y_bytes);
      parts([&](std::int64_t a, std::int64_t b) { maxima.windows[dtype](x, y, where, w, a, b); });
      keep(y, y_bytes, dtype, 1);
      keep(reinterpret_cast<unsigned char*>(where), static_cast<std::size_t>(y_size) * 8, -1, 2);
    }
    parts([&](std::int64_t a, std::int64_t b) { maxima.regions[dtype](x, y, where, r, a, b); });
    keep(y, y_bytes, dtype, 1);
    keep(reinterpret_cast<unsigned char*>(where), static_cast<std::size_t>(y_size) * 8, -1, 2);
    fill(y, dtype, y_size, false);
    unsigned char* dx = memory[3].place(x_bytes);
    bool fine = true;
    parts([&](std::int64_t a, std::int64_t b) {
      fine &= maxima.backward[dtype](y, where, dx, y_size / w.planes, x_size / w.planes, a, b);
    });
    if (!fine || !maxima.inside(where, y_size, x_size / w.planes)) fail("a position outside of its plane", round);
    const std::int64_t which = below(y_size), old = where[which];
    for (const std::int64_t wrong : {x_size / w.planes, std::int64_t(-1), INT64_MIN, INT64_MAX}) {
      where[which] = wrong;
      if (maxima.inside(where, y_size, x_size / w.planes)) fail("a position outside of its plane is not found", round);
    }
    where[which] = old;
    keep(dx, x_bytes, dtype, 3);

    fill(x, dtype, x_size, false);
    if (wide) {
      y = memory[1].place(y_bytes);
      parts([&](std::int64_t a, std::int64_t b) { averages.windows[dtype](x, y, w, a, b); });
      keep(y, y_bytes, dtype, 1);
      y = memory[1].place(y_bytes);
      parts([&](std::int64_t a, std::int64_t b) { averages.regions[dtype](x, y, r, a, b); });
      keep(y, y_bytes, dtype, 1);
      fill(y, dtype, y_size, false);
      dx = memory[3].place(x_bytes);
      parts([&](std::int64_t a, std::int64_t b) { averages.windows_backward[dtype](y, dx, w, a, b); });
      keep(dx, x_bytes, dtype, 3);
      dx = memory[3].place(x_bytes);
      parts([&](std::int64_t a, std::int64_t b) { averages.regions_backward[dtype](y, dx, r, a, b); });
      keep(dx, x_bytes, dtype, 3);
    }
    const std::size_t planes_bytes = static_cast<std::size_t>(w.planes) * item;
    y = memory[1].place(planes_bytes);
    parts([&](std::int64_t a, std::int64_t b) { averages.whole[dtype](x, y, x_size / w.planes, a, b); });
    keep(y, planes_bytes, dtype, 1);
    dx = memory[3].place(x_bytes);
    parts([&](std::int64_t a, std::int64_t b) { averages.whole_backward[dtype](y, dx, x_size / w.planes, a, b); });
    keep(dx, x_bytes, dtype, 3);
    if (round % 25 == 24) std::printf("%d %016llx\n", round + 1, static_cast<unsigned long long>(digest));
  }
  return 0;
}
