// Register tiles: the innermost loops of convolutions, over V.
//
// A convolution is a sum of products over k = (channel, row of the kernel, column of the kernel), in that order, for
// every result. Here `rows` results of one position (channels, which share what is loaded from the input) times
// `columns` vectors of neighbouring positions (which share the weights) stay in registers for a whole run of k.
//
// Per k: `columns` loads, `rows` broadcasts, rows * columns multiply-adds; the multiply-adds are the limit from about
// 4 x 2 on. The loads are unaligned: input that is shifted by one column per tap is not copied once per tap.
//
// Accuracy. A result is the sum of chunks, a chunk is summed up with one rounding per term (two where there is no FMA
// unit), then the chunks are added up. With n the longest chunk and m chunks, every product passes at most n + m + 1
// roundings (Higham 2002, section 3.1): |error| <= (n + m + 1) u sum |x w| to first order, u = 2^-24 for float. Chunks
// of about 256 terms hold n + m near the square root of what one running sum would have. The order depends on the
// shapes alone, and no operation on how many lanes V has.
//
// Rejected: Winograd's F(2x2, 3x3), with 2.25 times fewer multiplications: its error is relative to the largest product
// of a whole 4 x 4 patch of the input, not to the products of the result itself. Sums over vectors whose lanes are
// terms, added up at the end: their order depends on the width of V.
#pragma once
#include "simd.hpp"

FASTNN_BEGIN

// How many columns go with so many rows: as many registers as there are, less those for the loads and one broadcast.
#if defined(FASTNN_ISA_v4) || defined(FASTNN_ISA_neon)
constexpr int tile_rows = 8;
constexpr int tile_columns(int rows) { return rows == 1 ? 8 : rows <= 4 ? 6 : rows <= 6 ? 4 : 3; }
#else
constexpr int tile_rows = 6;
constexpr int tile_columns(int rows) { return rows == 1 ? 8 : rows == 2 ? 4 : rows <= 4 ? 3 : 2; }
#endif

constexpr int across_columns = 2;

template <class V, int rows, int columns>
struct registers {
  using number = scalar_t<V>;
  V sum[rows][columns];

  FASTNN_FN registers() {
#pragma GCC unroll 16
    for (int a = 0; a < rows; ++a)
#pragma GCC unroll 16
      for (int j = 0; j < columns; ++j) sum[a][j] = V(number(0));
  }
  // one term: `columns` vectors from x on times the factor of each row
  template <class Factor>
  FASTNN_FN void add(const number* x, Factor factor) {
    V v[columns];
#pragma GCC unroll 16
    for (int j = 0; j < columns; ++j) v[j] = load<V>(x + j * lanes<V>);
#pragma GCC unroll 16
    for (int a = 0; a < rows; ++a) {
      const V w(factor(a));
#pragma GCC unroll 16
      for (int j = 0; j < columns; ++j) sum[a][j] = fmadd(w, v[j], sum[a][j]);
    }
  }
  FASTNN_FN void put(number* y, long long pitch, long long gap, number bias) const {
#pragma GCC unroll 16
    for (int a = 0; a < rows; ++a)
#pragma GCC unroll 16
      for (int j = 0; j < columns; ++j) store(y + a * pitch + j * gap, sum[a][j] + V(bias));
  }
  // The first chunk sets the totals, the others are added; a bias, one number a row, comes last.
  FASTNN_FN void flush(number* total, long long pitch, bool first, const number* bias) const {
#pragma GCC unroll 16
    for (int a = 0; a < rows; ++a)
#pragma GCC unroll 16
      for (int j = 0; j < columns; ++j) {
        number* const p = total + a * pitch + j * lanes<V>;
        V s = first ? sum[a][j] : load<V>(p) + sum[a][j];
        if (bias != nullptr) s = s + V(bias[a]);
        store(p, s);
      }
  }
};

// Results of a convolution: term k takes the vectors at x + offset[k] and the weights of all rows at w + k * rows.
template <class V, int rows, int columns>
void correlation_tile(const scalar_t<V>* x, const int* offset, const scalar_t<V>* w, long long terms,
                      scalar_t<V>* total, long long pitch, bool first, const scalar_t<V>* bias) {
  registers<V, rows, columns> tile;
  for (long long k = 0; k < terms; ++k, w += rows)
    tile.add(x + offset[k], [w](int a) __attribute__((always_inline)) { return w[a]; });
  tile.flush(total, pitch, first, bias);
}

// The same the other way round: the results of `rows` neighbouring positions, whose vectors are channels. Nothing is
// computed past the ends of rows, but the results are to be turned over. Term k takes the `columns` vectors of weights
// at w + k * columns * lanes; a bias is one number a channel.
template <class V, int rows>
void across_tile(const scalar_t<V>* x, const int* offset, const scalar_t<V>* w, long long terms, scalar_t<V>* total,
                 bool first, const scalar_t<V>* bias) {
  constexpr int columns = across_columns;
  registers<V, rows, columns> tile;
  for (long long k = 0; k < terms; ++k, w += columns * lanes<V>) {
    const scalar_t<V>* const at = x + offset[k];
    tile.add(w, [at](int a) __attribute__((always_inline)) { return at[a]; });
  }
  if (bias != nullptr)
#pragma GCC unroll 16
    for (int a = 0; a < rows; ++a)
#pragma GCC unroll 16
      for (int j = 0; j < columns; ++j) {
        scalar_t<V>* const p = total + (a * columns + j) * lanes<V>;
        tile.sum[a][j] = (first ? tile.sum[a][j] : load<V>(p) + tile.sum[a][j]) + load<V>(bias + j * lanes<V>);
      }
  tile.flush(total, columns * lanes<V>, first || bias != nullptr, nullptr);
}

// Results of one channel convolved by itself, depthwise: `rows` rows times `columns` vectors. Neighbouring rows see the
// same rows of x, which are loaded once for all of them. The vectors are `gap` apart; w is [column, row] of the kernel.
template <class V, int kernel_rows, int rows, int columns>
FASTNN_FN registers<V, rows, columns> depthwise_tile(const scalar_t<V>* x, long long pitch, long long gap,
                                                     const scalar_t<V>* w, long long kernel_columns) {
  registers<V, rows, columns> tile;
  const scalar_t<V>* row[rows + kernel_rows - 1];
#pragma GCC unroll 16
  for (int i = 0; i < rows + kernel_rows - 1; ++i) row[i] = x + i * pitch;
  for (long long k = 0; k < kernel_columns; ++k, w += kernel_rows) {
    V weight[kernel_rows];
#pragma GCC unroll 16
    for (int i = 0; i < kernel_rows; ++i) weight[i] = V(w[i]);
#pragma GCC unroll 16
    for (int i = 0; i < rows + kernel_rows - 1; ++i) {
      V v[columns];
#pragma GCC unroll 16
      for (int j = 0; j < columns; ++j) v[j] = load<V>(row[i] + k + j * gap);
#pragma GCC unroll 16
      for (int a = 0; a < rows; ++a)
        if (i >= a && i - a < kernel_rows)
#pragma GCC unroll 16
          for (int j = 0; j < columns; ++j) tile.sum[a][j] = fmadd(weight[i - a], v[j], tile.sum[a][j]);
    }
  }
  return tile;
}

// ... of a block of height x width results, at least lanes<V> of them in a row.
template <class V, int kernel_rows, int rows>
FASTNN_FN void depthwise_rows(const scalar_t<V>* x, long long pitch, const scalar_t<V>* w, long long kernel_columns,
                              scalar_t<V> bias, long long width, scalar_t<V>* y, long long y_pitch) {
  constexpr int vector = lanes<V>;
  if (width < 2 * vector) {
    // the last vector of a row ends with the row, and repeats some of what the one before has computed
    const long long gap = width - vector;
    if (gap == 0)
      return depthwise_tile<V, kernel_rows, rows, 1>(x, pitch, 0, w, kernel_columns).put(y, y_pitch, 0, bias);
    return depthwise_tile<V, kernel_rows, rows, 2>(x, pitch, gap, w, kernel_columns).put(y, y_pitch, gap, bias);
  }
  for (long long at = 0; at < width; at += 2 * vector) {
    if (width - at < 2 * vector) at = width - 2 * vector;
    depthwise_tile<V, kernel_rows, rows, 2>(x + at, pitch, vector, w, kernel_columns)
        .put(y + at, y_pitch, vector, bias);
  }
}
template <class V, int kernel_rows>
void depthwise_block(const scalar_t<V>* x, long long pitch, const scalar_t<V>* w, long long kernel_columns,
                     scalar_t<V> bias, long long height, long long width, scalar_t<V>* y, long long y_pitch) {
  long long i = 0;
  for (; i + 4 <= height; i += 4)
    depthwise_rows<V, kernel_rows, 4>(x + i * pitch, pitch, w, kernel_columns, bias, width, y + i * y_pitch, y_pitch);
  for (; i < height; ++i)
    depthwise_rows<V, kernel_rows, 1>(x + i * pitch, pitch, w, kernel_columns, bias, width, y + i * y_pitch, y_pitch);
}

// Gradients of weights: the terms are the positions (i, j) of a plane of dy, the columns its channels, the rows the
// elements of x that a weight meets there, x[a] + i * x_pitch + j.
template <class V, int rows, int columns>
void gradient_tile(const scalar_t<V>* dy, long long dy_pitch, const scalar_t<V>* const* x, long long x_pitch,
                   long long height, long long width, scalar_t<V>* total, long long pitch, bool first) {
  registers<V, rows, columns> tile;
  const scalar_t<V>* at[rows];
  for (int a = 0; a < rows; ++a) at[a] = x[a];
  for (long long i = 0; i < height; ++i) {
    for (long long j = 0; j < width; ++j, dy += dy_pitch)
      tile.add(dy, [&at, j](int a) __attribute__((always_inline)) { return at[a][j]; });
    for (int a = 0; a < rows; ++a) at[a] += x_pitch;
  }
  tile.flush(total, pitch, first, nullptr);
}

// The same where there are few channels of dy: the positions fill sixteen lanes, whatever the width of V, one vector of
// them after the other. `rows` channels of dy meet what `columns` weights see; to the sixteen totals of each pair is
// added. Gone through are blocks of sixteen positions, then those of `rest` at the ends of rows.
constexpr int gradient_lanes = 16;
constexpr int lanes_columns(int rows) {
#if defined(FASTNN_ISA_v4) || defined(FASTNN_ISA_neon)
  return rows == 4 ? 6 : 9;
#else
  return rows == 4 ? 2 : rows == 2 ? 5 : 9;
#endif
}
struct LanesBlocks {
  const int *dy, *x;  // where each block is
  long long whole, all;
  int rest;
  long long dy_channel, total_row, total_column;
};

template <class V, int rows, int columns>
void gradient_lanes_tile(const LanesBlocks& s, const scalar_t<V>* dy, const scalar_t<V>* const* x, scalar_t<V>* total) {
  const V zero(scalar_t<V>(0));
  for (int first = 0; first < gradient_lanes; first += lanes<V>) {
    registers<V, rows, columns> tile;
    const scalar_t<V>*d[rows], *at[columns];
#pragma GCC unroll 16
    for (int a = 0; a < rows; ++a) d[a] = dy + a * s.dy_channel + first;
#pragma GCC unroll 16
    for (int c = 0; c < columns; ++c) at[c] = x[c] + first;
    const auto add = [&](long long k, auto get) __attribute__((always_inline)) {
      const long long i = s.dy[k], j = s.x[k];
      V v[rows];
#pragma GCC unroll 16
      for (int a = 0; a < rows; ++a) v[a] = get(d[a] + i);
#pragma GCC unroll 16
      for (int c = 0; c < columns; ++c) {
        const V u = get(at[c] + j);
#pragma GCC unroll 16
        for (int a = 0; a < rows; ++a) tile.sum[a][c] = fmadd(v[a], u, tile.sum[a][c]);
      }
    };
    for (long long k = 0; k < s.whole; ++k)
      add(k, [](const scalar_t<V>* p) __attribute__((always_inline)) { return load<V>(p); });
    // what is past the end of a row belongs to the next one, and 0 times it need not be 0
    const int left = s.rest - first < lanes<V> ? s.rest - first : lanes<V>;
    for (long long k = s.whole; k < s.all && left > 0; ++k)
      add(k,
          [left, zero](const scalar_t<V>* p) __attribute__((always_inline)) { return load_first<V>(p, left, zero); });
#pragma GCC unroll 16
    for (int a = 0; a < rows; ++a)
#pragma GCC unroll 16
      for (int c = 0; c < columns; ++c) {
        scalar_t<V>* const p = total + a * s.total_row + c * s.total_column + first;
        store(p, load<V>(p) + tile.sum[a][c]);
      }
  }
}

// The sixteen totals of a pair, added up by halves.
template <class V>
FASTNN_FN scalar_t<V> lanes_sum(const scalar_t<V>* total) {
  constexpr int parts = gradient_lanes / lanes<V>;
  V sum[parts];
  for (int k = 0; k < parts; ++k) sum[k] = load<V>(total + k * lanes<V>);
  for (int half = parts / 2; half > 0; half /= 2)
    for (int k = 0; k < half; ++k) sum[k] = sum[k] + sum[k + half];
  return fold_sum(sum[0]);
}

FASTNN_END
