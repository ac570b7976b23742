#include "packed_int8.hpp"

#include "../include/simd/dots.hpp"
#include "quantized_finish.hpp"

FASTNN_BEGIN
namespace {

using namespace fastnn_cpu;
using i64 = std::int64_t;
using vbits = bits_t<vfloat>;

constexpr int block = 16, per_block = block / lanes<vfloat>;  // outputs; vectors of them
// A tile's sums, and what they are made from, fill the registers.
#if defined(FASTNN_ISA_v4) && defined(FASTNN_DOT)
constexpr int most_rows = 6, most_blocks = 4;
#elif defined(FASTNN_ISA_v4)
constexpr int most_rows = 4, most_blocks = 4;
#elif defined(FASTNN_ISA_neon)
constexpr int most_rows = 6, most_blocks = 1;
#elif defined(FASTNN_DOT)
constexpr int most_rows = 6, most_blocks = 1;
#else
constexpr int most_rows = 2, most_blocks = 1;
#endif

FASTNN_FN u32 four(const unsigned char* p) {
  u32 u;
  FASTNN_MEMCPY(&u, p, sizeof u);
  return u;
}

// Sums are int32; memory that they lie in is called float because that is what vectors store.
//
// Sums of a few rows, whose memory begins at `from`, and blocks of weights that are `apart` bytes apart.
template <int rows, int blocks>
void tile(const Int8Product& job, const unsigned char* const* from, const signed char* weight, i64 apart,
          const float* start, float* to) {
  constexpr int vectors = blocks * per_block;
  vbits sum[rows][vectors];
  FASTNN_UNROLL
  for (int r = 0; r < rows; ++r) FASTNN_UNROLL
  for (int v = 0; v < vectors; ++v) sum[r][v] = load_bits(start + v * lanes<vfloat>, vfloat());
  bool ends = false;  // does a row get to the end of x?
  for (int r = 0; r < rows; ++r) ends |= job.end - from[r] < job.reach;
  for (i64 s = 0; s < job.segment_count; ++s) {
    const unsigned char* at[rows];
    FASTNN_UNROLL
    for (int r = 0; r < rows; ++r) at[r] = from[r] + job.segments[s];
    u32 last[rows];
    i64 groups = job.groups;
    bool again = ends;
    if (ends) {
      --groups;
      for (int r = 0; r < rows; ++r) {
        const unsigned char* const p = at[r] + 4 * groups;
        last[r] = 0;
        FASTNN_MEMCPY(&last[r], p, job.end - p < 4 ? job.end - p : 4);
      }
    }
    for (;;) {
      for (i64 g = 0; g < groups; ++g, weight += 4 * block) {
        decltype(load_weights(weight)) w[vectors];
        FASTNN_UNROLL
        for (int v = 0; v < vectors; ++v)
          w[v] = load_weights(weight + v / per_block * apart + v % per_block * 4 * lanes<vfloat>);
        FASTNN_UNROLL
        for (int r = 0; r < rows; ++r) {
          const auto q = quad(four(at[r] + 4 * g));
          FASTNN_UNROLL
          for (int v = 0; v < vectors; ++v) sum[r][v] = dot(q, w[v], sum[r][v]);
        }
      }
      if (!again) break;
      again = false;
      groups = 1;
      for (int r = 0; r < rows; ++r) at[r] = reinterpret_cast<const unsigned char*>(&last[r]);
    }
  }
  FASTNN_UNROLL
  for (int r = 0; r < rows; ++r) FASTNN_UNROLL
  for (int v = 0; v < vectors; ++v) store(to + r * int8_outputs + v * lanes<vfloat>, from_bits<vfloat>(sum[r][v]));
}

template <int rows>
void across(const Int8Product& job, const unsigned char* const* from, const signed char* weight, i64 apart,
            const float* start, float* to, int blocks) {
  while (blocks > 0) {
    const int step = blocks < most_blocks ? 1 : most_blocks;
    (step == 1 ? tile<rows, 1> : tile<rows, most_blocks>)(job, from, weight, apart, start, to);
    blocks -= step;
    weight += step * apart;
    start += step * block;
    to += step * block;
  }
}

// What quads that count from -128 leave out.
void add_offsets(const signed char* weight, i64 groups, float* start) {
  vbits sum[per_block];
  for (int v = 0; v < per_block; ++v) sum[v] = load_bits(start + v * lanes<vfloat>, vfloat());
  for (i64 g = 0; g < groups; ++g, weight += 4 * block)
    for (int v = 0; v < per_block; ++v)
      sum[v] = sum[v] - dot(quad(0u), load_weights(weight + v * 4 * lanes<vfloat>), vbits(0u));
  for (int v = 0; v < per_block; ++v) store(start + v * lanes<vfloat>, from_bits<vfloat>(sum[v]));
}

// n < 16 bytes, in sizes that the compiler knows: twice half of them or more.
FASTNN_FN void copy_bytes(unsigned char* to, const unsigned char* from, int n) {
  if (n >= 8) {
    FASTNN_MEMCPY(to, from, 8);
    FASTNN_MEMCPY(to + n - 8, from + n - 8, 8);
  } else if (n >= 4) {
    FASTNN_MEMCPY(to, from, 4);
    FASTNN_MEMCPY(to + n - 4, from + n - 4, 4);
  } else {
    if (n >= 2) FASTNN_MEMCPY(to, from, 2);
    if (n & 1) to[n - 1] = from[n - 1];
  }
}

void finish(const Int8Product& job, const float* sums, i64 row, i64 output, int count) {
  const i64 at = row * job.stride + output;
  if (job.result == int8_sums) {
    FASTNN_MEMCPY(static_cast<int*>(job.y) + at, sums, count * sizeof(int));
    return;
  }
  const finisher<vfloat> bytes(job.zero, job.low, job.high);
  for (int i = 0; i < count; i += lanes<vfloat>) {
    const int n = count - i < lanes<vfloat> ? count - i : lanes<vfloat>;
    const float* const by = job.multiplier + output + i;
    const vfloat m = n == lanes<vfloat> ? load<vfloat>(by) : load_first<vfloat>(by, n, vfloat(0.0f));
    const vfloat product = to_float<vfloat>(load_bits(sums + i, vfloat())) * m;
    if (job.result == int8_floats) {
      store_first(static_cast<float*>(job.y) + at + i, product, n);
    } else {
      unsigned char* const y = static_cast<unsigned char*>(job.y) + at + i;
      const vbits made = bytes.rounded(product);
      if (n == lanes<vfloat>) {
        narrow8(y, made);
      } else {
        unsigned char part[lanes<vfloat>];
        narrow8(part, made);
        copy_bytes(y, part, n);
      }
    }
  }
}

void run(const Int8Product& job, i64 row, i64 output) {
  alignas(64) float start[int8_outputs] = {}, sums[most_rows * int8_outputs];
  const i64 rows = job.rows - row < int8_rows ? job.rows - row : int8_rows;
  const int count = static_cast<int>(job.outputs - output < int8_outputs ? job.outputs - output : int8_outputs);
  const int blocks = (count + block - 1) / block;
  const i64 groups = job.segment_count * job.groups, apart = groups * 4 * block;
  const signed char* const weight = job.weight + output / block * apart;
  FASTNN_MEMCPY(start, job.bias + output, count * sizeof(int));
  if (offset_quads)
    for (int b = 0; b < blocks; ++b) add_offsets(weight + b * apart, groups, start + b * block);
  i64 sample = row / job.positions, p = row % job.positions;
  for (i64 r = 0, n; r < rows; r += n) {
    n = rows - r >= most_rows ? most_rows : rows - r >= 2 ? 2 : 1;
    const unsigned char* from[most_rows];
    for (i64 k = 0; k < n; ++k) {
      from[k] = job.x + sample * job.size + (job.starts == nullptr ? 0 : job.starts[p]);
      if (++p == job.positions) ++sample, p = 0;
    }
    (n == 1 ? across<1> : n == 2 ? across<2> : across<most_rows>)(job, from, weight, apart, start, sums, blocks);
    for (i64 k = 0; k < n; ++k) finish(job, sums + k * int8_outputs, row + r + k, output, count);
  }
}

constexpr Int8Loops table = {run};

}  // namespace
FASTNN_END

#if defined(FASTNN_DOT)
FASTNN_FAMILY_TABLE(Int8Loops, packed_int8_dot, fastnn::table)
#else
FASTNN_FAMILY_TABLE(Int8Loops, packed_int8, fastnn::table)
#endif
