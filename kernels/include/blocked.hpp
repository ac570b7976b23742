// Register tiles over images whose channels lie in blocks of sixteen: convolutions and pools, over V.
//
// A result of a convolution is one chain: the bias, then fma(w, x, sum) for every term in order, block of input
// channels by block of input channels, in it row by row and column by column of the kernel, then channel by channel;
// what is added to the result (a shortcut) comes last. The order depends on nothing but the shapes, and no lane meets
// another: the same bits from every width of V and from every tile.
//
// Sixteen channels of a result fill vectors; what varies within a tile is the position. So a term costs a load for each
// vector of weights, which all positions share, and a broadcast for each position, which the blocks share. Broadcasts
// read single numbers at any distance from each other: the source may be blocked, or planes. Positions come in pairs
// a fixed step apart, and pairs from anywhere, also across the ends of rows: a register for the address of each pair
// and two for the term reach all of them.
//
// Floor: a multiply-add for sixteen channels, position and term. Processors that start two of them load two vectors in
// the same time: tiles of two blocks, or of one and many positions, are limited by the multiply-adds.
//
// Where there are hardly any results, positions fill the vectors, and a tile has all results: `narrow_tile`. Rejected
// for more: rows of small images fill half a vector, and the results have to be turned over. Winograd's transforms: see
// convolution.hpp. A tap for every term where blocks are not full, one loop for two: no gain. Sums in chunks, which are
// more accurate for long ones: the chain is what every processor, and an exported C file, computes without a thought
// for registers.
#pragma once
#include "convolution.hpp"
#include "pooling.hpp"
#include "wide.hpp"

FASTNN_BEGIN

constexpr int block_channels = 16;
template <class V>
constexpr int block_parts = block_channels / lanes<V>;

// How large tiles may be: as many sums as there are registers, less those for weights and one broadcast.
#if defined(FASTNN_ISA_v4)
constexpr int tile_blocks = 2, tile_pairs = 7;
#elif defined(FASTNN_ISA_v2)
constexpr int tile_blocks = 1, tile_pairs = 1;
#else
constexpr int tile_blocks = 1, tile_pairs = 3;
#endif

// Two neighbouring positions: where the source of the first one begins, and the offset of its result. Where a line has
// an odd number of them, the last pair repeats one of the pair before it.
struct BlockedPair {
  const float* x;
  long long y;
};

// What a tile does with its terms: sums over all channels of the source, of each channel by itself; maxima.
enum class TileKind { dense, depthwise, maximum };

// What the tiles of a step share. Term (b, t, c) reads x[b * block_step + tap[t] + c * channel_step], for the second of
// a pair `step` further on. Weights are 16 a term, those of the next block of results `weight_step` further on. Results
// are brought between `low` and `high`, which makes relu and relu6 free; NaN stays.
struct BlockedTerms {
  const long long* tap;
  long long taps, channels, block_step, channel_step, step, weight_step, y_block;
  float low, high;
};

// f(offset in x, weights) for every term of a dense convolution, in order.
template <class F>
FASTNN_FN void each_term(const BlockedTerms& s, const float* w, F f) {
  long long block = 0;
  for (long long rest = s.channels; rest > 0; rest -= block_channels, block += s.block_step) {
    const long long channels = rest < block_channels ? rest : block_channels;
    for (long long t = 0; t < s.taps; ++t) {
      long long at = block + s.tap[t];
      for (long long c = 0; c < channels; ++c, at += s.channel_step, w += block_channels) f(at, w);
    }
  }
}

// Results of `pairs` pairs times `blocks` blocks. `added`, where it is not null, lies as y does.
template <class V, TileKind kind, int blocks, int pairs>
void blocked_tile(const BlockedTerms& s, const BlockedPair* pair, const float* w, const float* bias, const float* added,
                  float* y) {
  constexpr int parts = block_parts<V>;
  V sum[2 * pairs][blocks][parts];
#pragma GCC unroll 16
  for (int b = 0; b < blocks; ++b)
#pragma GCC unroll 16
    for (int k = 0; k < parts; ++k) {
      const V v = kind == TileKind::maximum ? V(-__builtin_inff()) : load<V>(bias + b * block_channels + k * lanes<V>);
#pragma GCC unroll 16
      for (int p = 0; p < 2 * pairs; ++p) sum[p][b][k] = v;
    }
  const float* x[pairs];
#pragma GCC unroll 16
  for (int p = 0; p < pairs; ++p) x[p] = pair[p].x;
  const long long step = s.step, weight_step = s.weight_step;
  const auto term = [&](long long at, const float* w) __attribute__((always_inline)) {
    V weight[blocks][parts];
#pragma GCC unroll 16
    for (int b = 0; b < blocks; ++b)
#pragma GCC unroll 16
      for (int k = 0; k < parts; ++k)
        if (kind != TileKind::maximum) weight[b][k] = load<V>(w + b * weight_step + k * lanes<V>);
#pragma GCC unroll 16
    for (int p = 0; p < 2 * pairs; ++p) {
      const float* const from = x[p / 2] + (p % 2 == 0 ? at : at + step);
      V v;
      if (kind == TileKind::dense) v = V(*from);
#pragma GCC unroll 16
      for (int k = 0; k < parts; ++k) {
        if (kind != TileKind::dense) v = load<V>(from + k * lanes<V>);
#pragma GCC unroll 16
        for (int b = 0; b < blocks; ++b)
          sum[p][b][k] = kind == TileKind::maximum ? pooled_max(sum[p][b][k], v) : fmadd(weight[b][k], v, sum[p][b][k]);
      }
    }
  };
  if (kind == TileKind::dense)
    each_term(s, w, term);
  else
    for (long long t = 0; t < s.taps; ++t, w += block_channels) term(s.tap[t], w);
  const V low(s.low), high(s.high);
#pragma GCC unroll 16
  for (int p = 0; p < 2 * pairs; ++p)
#pragma GCC unroll 16
    for (int b = 0; b < blocks; ++b)
#pragma GCC unroll 16
      for (int k = 0; k < parts; ++k) {
        const long long i =
            pair[p / 2].y + b * s.y_block + k * lanes<V> + (p % 2 == 0 || step == 0 ? 0 : block_channels);
        V v = sum[p][b][k];
        if (kind != TileKind::maximum) {
          if (added != nullptr) v = v + load<V>(added + i);
          v = vmin(high, vmax(low, v));
        }
        store(y + i, v);
      }
}

// Depthwise convolutions of 3 x 3: neighbours in a row, which share what they see, so that a load serves three of them.
#if defined(FASTNN_ISA_v4) || defined(FASTNN_ISA_neon)
constexpr int run_positions = 8;
#else
constexpr int run_positions = 4;
#endif
// What `run_positions` of them see of a row: x[i] is where row i of the three begins, and zeros where it is none of the
// image's; `left` and `right` say that the first and the last column are none.
constexpr int run_columns(int stride) { return (run_positions - 1) * stride + 3; }
alignas(64) constexpr float run_zeros[run_columns(2) * block_channels] = {};
template <class V, int stride>
void depthwise_run(const BlockedTerms& s, const float* const (&x)[3], bool left, bool right, const float* w,
                   const float* bias, const float* added, float* y) {
  constexpr int columns = run_columns(stride);
  const V low(s.low), high(s.high);
  for (int part = 0; part < block_channels; part += lanes<V>) {
    V sum[run_positions];
#pragma GCC unroll 16
    for (int p = 0; p < run_positions; ++p) sum[p] = load<V>(bias + part);
#pragma GCC unroll 16
    for (int i = 0; i < 3; ++i)
#pragma GCC unroll 32
      for (int j = 0; j < columns; ++j) {
        const float* const from =
            (j == 0 && left) || (j == columns - 1 && right) ? run_zeros : x[i] + j * block_channels;
        const V v = fetched(load<V>(from + part));  // once, not for each of the three
#pragma GCC unroll 16
        for (int k = 0; k < 3; ++k)
          if (j >= k && (j - k) % stride == 0 && (j - k) / stride < run_positions) {
            V& a = sum[(j - k) / stride];
            a = fmadd(load<V>(w + (3 * i + k) * block_channels + part), v, a);
          }
      }
#pragma GCC unroll 16
    for (int p = 0; p < run_positions; ++p) {
      V v = sum[p];
      if (added != nullptr) v = v + load<V>(added + p * block_channels + part);
      store(y + p * block_channels + part, vmin(high, vmax(low, v)));
    }
  }
}

// The first `rows` results at `columns` vectors of neighbouring positions, for a source in planes; y holds planes too.
constexpr int narrow_columns(int rows) {
#if defined(FASTNN_ISA_v4) || defined(FASTNN_ISA_neon)
  return rows > 6 ? 3 : rows > 4 ? 4 : 6;
#else
  return rows > 6 ? 1 : rows > 4 ? 2 : 3;
#endif
}
constexpr int narrow_results = 8;
template <class V, int rows>
void narrow_tile(const BlockedTerms& s, const float* x, const float* w, const float* bias, float* y) {
  constexpr int columns = narrow_columns(rows);
  registers<V, rows, columns> tile;
  for (int a = 0; a < rows; ++a)
    for (int j = 0; j < columns; ++j) tile.sum[a][j] = V(bias[a]);
  each_term(s, w, [&](long long at, const float* weight) __attribute__((always_inline)) {
    tile.add(x + at, [weight](int a) __attribute__((always_inline)) { return weight[a]; });
  });
  for (int a = 0; a < rows; ++a)
    for (int j = 0; j < columns; ++j)
      store(y + a * s.y_block + j * lanes<V>, vmin(V(s.high), vmax(V(s.low), tile.sum[a][j])));
}

// The maximum of two by two neighbours: of two vectors of each of two rows, the even elements beside the odd ones.
template <class V>
FASTNN_FN V pooled_square(V a, V b, V c, V d) {
  return pooled_max(pooled_max(pooled_max(a, b), c), d);
}

// Averages: the elements of a window in order, summed up in double, which has no error to speak of, divided, rounded.
template <class V>
FASTNN_FN void blocked_mean(const BlockedTerms& s, const float* x, double count, float* y) {
  for (int k = 0; k < block_channels; k += lanes<V>) {
    wide<V> sum = broadcast_wide<V>(0);
    for (long long t = 0; t < s.taps; ++t) sum = sum + to_wide(load<V>(x + s.tap[t] + k));
    store(y + k, to_narrow(sum / broadcast_wide<V>(count)));
  }
}

FASTNN_END
