#include "packed.hpp"

#include "../include/activations.hpp"

FASTNN_BEGIN
namespace {

using namespace fastnn_cpu;
using i64 = std::int64_t;

constexpr int registers =
#if defined(FASTNN_ISA_v4) || defined(FASTNN_ISA_neon)
    32;
#else
    16;
#endif

// Inputs of a panel that all rows of a task go through before the next ones, so that they stay in the second-level
// cache. Tried and rejected: as few as the first level holds; sums that come and go cost more than they save.
constexpr i64 block = 1024;
constexpr int most_rows = 6;  // of a tile

// What surrounds a tile's sums: where they start, what is added in the end, where they go. Rows are `stride` apart,
// but those of `start`.
template <class N>
struct Ends {
  const N* start;
  i64 start_stride;
  const N* residual;
  N* y;
  i64 stride;
  bool relu;
};

template <class V, int rows, int vectors, class N = scalar_t<V>>
FASTNN_FN void tile(const N* x, i64 x_stride, const N* w, i64 width, i64 depth, const Ends<N>& ends) {
  const auto each = [](auto f) {
    FASTNN_UNROLL
    for (int r = 0; r < rows; ++r) FASTNN_UNROLL
    for (int v = 0; v < vectors; ++v) f(r, v);
  };
  V sum[rows][vectors];
  each([&](int r, int v) { sum[r][v] = load<V>(ends.start + r * ends.start_stride + v * lanes<V>); });
  for (i64 k = 0; k < depth; ++k, w += width) {
    V weight[vectors];
    FASTNN_UNROLL
    for (int v = 0; v < vectors; ++v) weight[v] = load<V>(w + v * lanes<V>);
    FASTNN_UNROLL
    for (int r = 0; r < rows; ++r) {
      const V each_x(x[r * x_stride + k]);
      FASTNN_UNROLL
      for (int v = 0; v < vectors; ++v) sum[r][v] = fmadd(each_x, weight[v], sum[r][v]);
    }
  }
  if (ends.residual != nullptr)
    each([&](int r, int v) { sum[r][v] = sum[r][v] + load<V>(ends.residual + r * ends.stride + v * lanes<V>); });
  if (ends.relu) each([&](int r, int v) { sum[r][v] = activation::relu::forward(sum[r][v]); });
  each([&](int r, int v) { store(ends.y + r * ends.stride + v * lanes<V>, sum[r][v]); });
}

// A few rows across a panel of `width` outputs, as many vectors side by side as there are registers for.
template <class V, int rows, class N = scalar_t<V>>
void across(const N* x, i64 x_stride, const N* w, i64 width, i64 depth, Ends<N> ends) {
  constexpr int most = packed_panel(sizeof(N)) / lanes<V>, least = packed_group(sizeof(N)) / lanes<V>;
  constexpr int room = rows * 8 + 9 <= registers ? 8 : rows * 4 + 5 <= registers ? 4 : 2;
  constexpr i64 wide = (room < most ? room : most) * lanes<V>;
  constexpr i64 narrow = room < least ? wide : least * lanes<V>;
  for (i64 step, left = width; left > 0; left -= step) {
    step = left < wide ? narrow : wide;
    if (step == wide)
      tile<V, rows, wide / lanes<V>>(x, x_stride, w, width, depth, ends);
    else
      tile<V, rows, narrow / lanes<V>>(x, x_stride, w, width, depth, ends);
    w += step;
    ends.start += step;
    ends.y += step;
    if (ends.residual != nullptr) ends.residual += step;
  }
}

template <class N>
void copy_rows(const N* from, i64 from_stride, N* to, i64 to_stride, i64 rows, i64 count) {
  for (i64 r = 0; r < rows; ++r)
    for (i64 i = 0; i < count; ++i) to[r * to_stride + i] = from[r * from_stride + i];
}

// The same for any number of rows, and for a panel that has fewer outputs than its width: those in a place of their
// own, whole vectors.
template <class V, class N = scalar_t<V>>
void block_of(const N* x, i64 in, const N* w, i64 width, i64 depth, Ends<N> ends, i64 rows, i64 count) {
  constexpr decltype(&across<V, 1>) tiles[] = {across<V, 1>, across<V, 2>, across<V, 3>,
                                               across<V, 4>, nullptr,      across<V, 6>};
  alignas(64) N sums[most_rows * packed_panel(sizeof(N))], added[most_rows * packed_panel(sizeof(N))];
  for (i64 left = rows, n; left > 0; left -= n) {
    n = left == 5 ? 3 : left == 7 || left == 8 ? 4 : left < most_rows ? left : most_rows;
    if (count == width) {
      tiles[n - 1](x, in, w, width, depth, ends);
    } else {
      Ends<N> edge = {ends.start, 0, nullptr, sums, width, ends.relu};
      if (ends.start_stride != 0) {
        copy_rows(ends.start, ends.start_stride, sums, width, n, count);
        edge.start = sums;
        edge.start_stride = width;
      }
      if (ends.residual != nullptr) {
        copy_rows(ends.residual, ends.stride, added, width, n, count);
        edge.residual = added;
      }
      tiles[n - 1](x, in, w, width, depth, edge);
      copy_rows(sums, width, ends.y, ends.stride, n, count);
    }
    x += n * in;
    ends.start += n * ends.start_stride;
    ends.y += n * ends.stride;
    if (ends.residual != nullptr) ends.residual += n * ends.stride;
  }
}

template <class V>
void run(const Packed& job, i64 row, i64 panel) {
  using N = scalar_t<V>;
  constexpr i64 columns = packed_panel(sizeof(N)), group = packed_group(sizeof(N));
  const i64 rows = job.rows - row < packed_rows ? job.rows - row : packed_rows, in = job.in, first = panel * columns;
  const i64 count = job.out - first < columns ? job.out - first : columns, width = (count + group - 1) / group * group;
  const i64 at = row * job.out + first;
  const N *const x = static_cast<const N*>(job.x) + row * in, *const w = static_cast<const N*>(job.panels) + first * in;
  N* const y = static_cast<N*>(job.y) + at;
  Ends<N> ends = {static_cast<const N*>(job.start) + first, 0, nullptr, y, job.out, false};
  for (i64 k = 0; k == 0 || k < in; k += block) {
    const i64 depth = in - k < block ? in - k : block;
    if (k + depth == in) {
      if (job.residual != nullptr) ends.residual = static_cast<const N*>(job.residual) + at;
      ends.relu = job.relu;
    }
    block_of<V>(x + k, in, w + k * width, width, depth, ends, rows, count);
    ends.start = y;
    ends.start_stride = job.out;
  }
  if (job.activation.loop == nullptr) return;
  const bool together = count == job.out;
  for (i64 r = 0; r < (together ? 1 : rows); ++r) {
    void* const to = y + r * job.out;
    void* operands[4] = {to};
    int k = 1;
    for (int i = 0; i < job.activation.count; ++i) operands[k++] = const_cast<void*>(job.activation.params[i]);
    operands[k] = to;
    job.activation.loop(operands, together ? rows * count : count, 0);
  }
}

constexpr PackedLoops table = {{run<vfloat>, run<vdouble>}};

}  // namespace
FASTNN_END

FASTNN_FAMILY_TABLE(PackedLoops, packed, fastnn::table)
