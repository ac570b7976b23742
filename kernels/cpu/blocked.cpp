// The loops over blocked images, for one instruction set. Built once per set, with FASTNN_ISA_<set> defined.
//
// Tiles read a band of x where it lies, or, where windows reach past the edges, a copy of it in scratch memory with
// what is around it: zeros, or minus infinity for maxima. A copy costs one load and one store an element, beside as
// many terms as an element meets; the nine of a depthwise convolution are too few for that, which looks at every edge
// instead. Rejected: tiles of their own for the edges, which are narrow, so that sums wait for
// each other; margins around the images in the arena, which every step would have to fill anew; bands that fit a
// first-level cache, which gain nothing where sums are long.
#include "../include/blocked.hpp"

#include "blocked.hpp"
#include "convolution_pack.hpp"
#include "scratch.hpp"

FASTNN_BEGIN
namespace {

using V = vfloat;
using Tile = void (*)(const BlockedTerms&, const BlockedPair*, const float*, const float*, const float*, float*);

template <TileKind kind, int blocks, int pairs>
constexpr Tile tile_of() {
  if constexpr (blocks <= tile_blocks && pairs <= tile_pairs)
    return blocked_tile<V, kind, blocks, pairs>;
  else
    return nullptr;
}
template <TileKind kind, int blocks>
struct tiles_of {
  static constexpr Tile pairs[7] = {tile_of<kind, blocks, 1>(), tile_of<kind, blocks, 2>(), tile_of<kind, blocks, 3>(),
                                    tile_of<kind, blocks, 4>(), tile_of<kind, blocks, 5>(), tile_of<kind, blocks, 6>(),
                                    tile_of<kind, blocks, 7>()};
};
// Tiles that load as much as they compute gain nothing from more positions than hide the latency.
constexpr int small_pairs = tile_pairs < 4 ? tile_pairs : 4;
template <TileKind kind>
struct small_tiles_of {
  static constexpr Tile pairs[4] = {tile_of<kind, 1, 1>(), tile_of<kind, 1, 2>(), tile_of<kind, 1, 3>(),
                                    tile_of<kind, 1, 4>()};
};

void fill(float* to, i64 n, float value) {
  for (i64 i = 0; i < n; i += lanes<V>) store(to + i, V(value));
}

struct Worker {
  const Blocked& c;
  float* const room;
  const Tile* tiles[2];
  i64 most;
  BlockedTerms terms;

  Worker(const Blocked& c, float* room) : c(c), room(room) {
    tiles[0] = tiles[1] = c.kind == blocked_dense       ? tiles_of<TileKind::dense, 1>::pairs
                          : c.kind == blocked_depthwise ? small_tiles_of<TileKind::depthwise>::pairs
                                                        : small_tiles_of<TileKind::maximum>::pairs;
    if (c.kind == blocked_dense && tile_blocks == 2) tiles[1] = tiles_of<TileKind::dense, 2>::pairs;
    most = c.kind == blocked_dense ? tile_pairs : small_pairs;
    terms.tap = c.tap;
    terms.taps = c.taps;
    terms.channels = c.inner;
    terms.channel_step = c.planes ? c.plane : 1;
    terms.block_step = c.planes ? c.plane * block_channels : c.plane;
    terms.weight_step = c.inner * c.taps * block_channels;
    terms.low = c.low;
    terms.high = c.high;
  }

  void task(i64 index) {
    const i64 part = index % c.parts, bands = (c.out_rows + c.band - 1) / c.band;
    const i64 first = index / c.parts % bands * c.band, image = index / c.parts / bands;
    const i64 rows = c.out_rows - first < c.band ? c.out_rows - first : c.band;
    const i64 planes = c.planes ? c.inner : c.in_blocks, image_planes = planes * c.parts;
    const float* source = c.x + (image * image_planes + part * planes) * c.rows * c.cols * c.unit;
    if (c.copies) {
      copy(source, planes, first * c.stride[0] - c.before[0], (rows - 1) * c.stride[0] + reach(0));
      source = room;
    } else if (!c.runs) {
      source += first * c.stride[0] * c.cols * c.unit;
    }
    const i64 block = part * c.out_blocks, y_rows = c.pool ? c.out_rows / 2 : c.out_rows;
    const i64 y_cols = c.pool ? c.out_cols / 2 : c.out_cols, y_plane = y_rows * y_cols * block_channels;
    const i64 result =
        (image * c.parts * c.out_blocks + block) * y_plane + (c.pool ? first / 2 : first) * y_cols * block_channels;
    float* const y = c.y + result;
    if (c.kind == blocked_average) return average(source, first, rows, y);
    if (c.narrow) return narrow(source, rows, y);
    float* const to = c.pool ? room + c.room : y;
    const i64 size = rows * c.out_cols * block_channels;
    terms.y_block = c.pool ? size : y_plane;
    for (i64 b = 0, blocks; b < c.out_blocks; b += blocks) {
      blocks = c.kind == blocked_dense && c.out_blocks - b >= tile_blocks ? tile_blocks : 1;
      const float* const added = c.added == nullptr ? nullptr : c.added + result + b * y_plane;
      if (c.runs)
        runs(source, first, rows, (block + b) * terms.weight_step, (block + b) * block_channels, added, to);
      else
        tile(tiles[blocks - 1], source, rows, (block + b) * terms.weight_step, (block + b) * block_channels, added,
             to + b * terms.y_block);
    }
    for (i64 b = 0; b < c.out_blocks; ++b) {
      if (c.activation != nullptr) activate(to + b * terms.y_block, size);
      if (c.pool) pool(to + b * size, rows / 2, y + b * y_plane);
    }
  }

  // Of the rows [first, first + rows) of the results of a plane.
  void runs(const float* plane, i64 first, i64 rows, i64 weight, i64 bias, const float* added, float* y) const {
    const auto one = c.stride[1] == 1 ? depthwise_run<V, 1> : depthwise_run<V, 2>;
    const bool beyond = (c.out_cols - 1) * c.stride[1] + 3 - c.before[1] > c.cols;
    const i64 step = run_positions * c.stride[1] * block_channels, size = run_positions * block_channels;
    const i64 back =
        (c.out_cols % run_positions - run_positions) % run_positions;  // the last run repeats some of another
    for (i64 i = first; i < first + rows; ++i) {
      const float* x[3];
      i64 steps[3];
      for (int k = 0; k < 3; ++k) {
        const i64 row = i * c.stride[0] - c.before[0] + k;
        const bool outside = row < 0 || row >= c.rows;
        x[k] = outside ? run_zeros : plane + (row * c.cols - c.before[1]) * block_channels;
        steps[k] = outside ? 0 : step;
      }
      for (i64 at = 0; at < c.out_cols; at += run_positions) {
        if (c.out_cols - at < run_positions) {
          at += back;
          for (int k = 0; k < 3; ++k) x[k] += steps[k] / run_positions * back;
          y += back * block_channels;
          added += added == nullptr ? 0 : back * block_channels;
        }
        one(terms, x, at < c.before[1], beyond && at + run_positions == c.out_cols, c.weight + weight, c.bias + bias,
            added, y);
        for (int k = 0; k < 3; ++k) x[k] += steps[k];
        y += size;
        added += added == nullptr ? 0 : size;
      }
    }
  }

  void pool(const float* from, i64 rows, float* y) const {
    const i64 cols = c.out_cols / 2, row = c.out_cols * block_channels;
    for (i64 i = 0; i < rows; ++i)
      for (i64 j = 0; j < cols; ++j)
        for (int k = 0; k < block_channels; k += lanes<V>, y += lanes<V>) {
          const float* const at = from + 2 * (i * row + j * block_channels) + k;
          store(y, pooled_square(load<V>(at), load<V>(at + block_channels), load<V>(at + row),
                                 load<V>(at + row + block_channels)));
        }
  }

  // Up to eight results of a band, as lines across its rows, the ends of which are computed and dropped.
  void narrow(const float* source, i64 rows, float* y) {
    const auto one = c.outputs > 6 ? narrow_tile<V, 8> : c.outputs > 4 ? narrow_tile<V, 6> : narrow_tile<V, 4>;
    const i64 step = narrow_columns(c.outputs > 6 ? 8 : c.outputs > 4 ? 6 : 4) * lanes<V>;
    const i64 line = (rows - 1) * c.pitch + c.out_cols, pitch = c.pitch;
    float *const totals = room + c.room, *const pooled = totals + narrow_results * c.line;
    terms.y_block = c.line;
    for (i64 at = 0; at < line; at += step) one(terms, source + at, c.weight, c.bias, totals + at);
    if (c.activation != nullptr)
      for (i64 a = 0; a < c.outputs; ++a) activate(totals + a * c.line, line);
    const i64 cols = c.pool ? c.out_cols / 2 : c.out_cols;
    if (lanes<V> < block_channels) fill(y, (c.pool ? rows / 2 : rows) * cols * block_channels, 0.0f);
    for (i64 i = 0; i < (c.pool ? rows / 2 : rows); ++i, y += cols * block_channels) {
      const float* from = totals + i * pitch;
      if (c.pool) {
        from += i * pitch;
        for (i64 a = 0; a < c.outputs; ++a)
          for (i64 j = 0; j < cols; j += lanes<V>) {
            const float* const at = from + a * c.line + 2 * j;
            const auto top = deinterleave(load<V>(at), load<V>(at + lanes<V>));
            const auto bottom = deinterleave(load<V>(at + pitch), load<V>(at + pitch + lanes<V>));
            store(pooled + a * c.line + j, pooled_square(top.even, top.odd, bottom.even, bottom.odd));
          }
        from = pooled;
      }
      turn(y, block_channels, from, c.line, c.outputs, cols, true);
    }
  }

  i64 reach(int axis) const { return (c.kernel[axis] - 1) * c.dilation[axis] + 1; }

  // The rows [row, row + count) of some planes, with columns from -before on.
  void copy(const float* from, i64 planes, i64 row, i64 count) {
    const i64 left = c.before[1] < c.pitch ? c.before[1] : c.pitch;
    const i64 inside = c.cols < c.pitch - left ? c.cols : c.pitch - left, right = c.pitch - left - inside;
    const float outside = c.kind == blocked_maximum ? -__builtin_inff() : 0.0f;
    const float* const limit = c.x + c.images * c.parts * (c.planes ? c.inner : c.in_blocks) * c.rows * c.cols * c.unit;
    for (i64 p = 0; p < planes; ++p, from += c.rows * c.cols * c.unit) {
      float* to = room + p * c.plane;
      for (i64 i = row; i < row + count; ++i, to += c.pitch * c.unit) {
        if (i < 0 || i >= c.rows) {
          fill(to, c.pitch * c.unit, outside);
          continue;
        }
        fill(to, left * c.unit, outside);
        const float* const row = from + i * c.cols * c.unit;
        if (c.unit == 1)
          fastnn::copy(to + left, row, inside, 1, limit);
        else
#pragma GCC unroll 4
          for (i64 k = 0; k < inside * block_channels; k += lanes<V>)
            store(to + left * block_channels + k, load<V>(row + k));
        fill(to + (left + inside) * c.unit, right * c.unit, outside);
      }
    }
  }

  // One or two blocks of the results of a band.
  void tile(const Tile* by_pairs, const float* source, i64 rows, i64 weight, i64 bias, const float* added, float* y) {
    const i64 row_step = c.stride[0] * c.pitch * c.unit, col_step = c.stride[1] * c.unit;
    const bool down = c.out_cols == 1;  // pairs are of neighbours in a column
    const i64 lines = down ? 1 : rows, length = down ? rows : c.out_cols;
    const i64 line_step = down ? 0 : row_step, step = down ? row_step : col_step;
    terms.step = length == 1 ? 0 : step;
    i64 left = lines * ((length + 1) / 2), at = 0, result = 0;
    for (i64 tiles_left = (left + most - 1) / most; left > 0; --tiles_left) {
      const i64 pairs = (left + tiles_left - 1) / tiles_left;
      BlockedPair pair[7];
      for (i64 p = 0; p < pairs; ++p) {
        const i64 begin = at + 1 < length || length == 1 ? at : at - 1;
        pair[p] = {source + begin * step, result + begin * block_channels};
        at += 2;
        if (at >= length) {
          at = 0;
          source += line_step;
          result += length * block_channels;
        }
      }
      by_pairs[pairs - 1](terms, pair, c.weight + weight, c.bias + bias, added, y);
      left -= pairs;
    }
  }

  void average(const float* source, i64 first, i64 rows, float* y) const {
    for (i64 i = 0; i < rows; ++i)
      for (i64 j = 0; j < c.out_cols; ++j, y += block_channels)
        blocked_mean<V>(terms, source + (i * c.stride[0] * c.pitch + j * c.stride[1]) * block_channels,
                        c.counts[0][first + i] * c.counts[1][j], y);
  }

  void activate(float* y, i64 n) const {
    void* operands[6] = {y};
    for (int k = 0; k < c.parameters; ++k) operands[1 + k] = const_cast<void*>(c.parameter[k]);
    operands[1 + c.parameters] = y;
    c.activation(operands, n, 0);
  }
};

void run(void* context, std::int64_t begin, std::int64_t end) {
  auto& c = *static_cast<Blocked*>(context);
  const i64 numbers = c.room + c.more_room;
  float* const room = numbers == 0 ? nullptr : static_cast<float*>(scratch(numbers * 4));
  if (numbers > 0 && room == nullptr) {
    __atomic_store_n(&c.failed, 1, __ATOMIC_RELAXED);
    return;
  }
  Worker worker(c, room);
  for (i64 task = begin; task < end; ++task) worker.task(task);
}

void block(void* context, std::int64_t begin, std::int64_t end) {
  const auto& c = *static_cast<Blocked*>(context);
  const i64 plane = c.rows * c.cols, blocks = c.in_blocks;
  for (i64 task = begin; task < end; ++task) {
    const i64 first = task % blocks * block_channels, left = c.channels - first;
    const i64 channels = left < block_channels ? left : block_channels;
    float* const to = c.y + task * plane * block_channels;
    if (channels < block_channels) fill(to, plane * block_channels, 0.0f);
    turn(to, block_channels, c.x + (task / blocks * c.channels + first) * plane, plane, channels, plane, false);
  }
}
void unblock(void* context, std::int64_t begin, std::int64_t end) {
  const auto& c = *static_cast<Blocked*>(context);
  const i64 plane = c.rows * c.cols, blocks = c.in_blocks;
  for (i64 task = begin; task < end; ++task) {
    const i64 first = task % blocks * block_channels, left = c.channels - first;
    const i64 channels = left < block_channels ? left : block_channels;
    float* const to = c.y + (task / blocks * c.channels + first) * plane;
    turn(to, plane, c.x + task * plane * block_channels, block_channels, plane, channels, false);
  }
}

constexpr BlockedLoops table = {run, block, unblock};

}  // namespace
FASTNN_END

FASTNN_FAMILY_TABLE(BlockedLoops, blocked, fastnn::table)
