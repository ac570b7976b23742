// Tiles of the source, and weights, in scratch memory: widened, in the order in which register tiles want them.
#pragma once
#include "../include/convolution.hpp"

#include "convolution.hpp"
#include "storage.hpp"

FASTNN_BEGIN
namespace {

using namespace fastnn_cpu;
using i64 = std::int64_t;

template <class T>
using computed = scalar_t<typename storage<T>::V>;

FASTNN_FN float widened(float x) { return x; }
FASTNN_FN double widened(double x) { return x; }
FASTNN_FN float widened(binary16 x) { return binary16_to_float<float>(x.raw); }
FASTNN_FN float widened(bfloat16 x) { return bfloat16_to_float<float>(x.raw); }

FASTNN_FN void narrow_to(float* p, float x) { *p = x; }
FASTNN_FN void narrow_to(double* p, double x) { *p = x; }
FASTNN_FN void narrow_to(binary16* p, float x) { p->raw = static_cast<u16>(float_to_binary16(x)); }
FASTNN_FN void narrow_to(bfloat16* p, float x) { p->raw = static_cast<u16>(float_to_bfloat16(x)); }

// Zeros, in whole vectors: up to one vector behind them is overwritten too. What is packed is packed in rising order,
// with room for a vector at the end.
template <class V>
FASTNN_FN void clear(scalar_t<V>* to, i64 n) {
  for (i64 i = 0; i < n; i += lanes<V>) store(to + i, V(scalar_t<V>(0)));
}

// n numbers, `step` apart
template <class T>
FASTNN_FN void copy(computed<T>* to, const T* from, i64 n, i64 step) {
  using S = storage<T>;
  using V = typename S::V;
  if (step == 1) {
    i64 i = 0;
    for (; i + lanes<V> <= n; i += lanes<V>) store(to + i, S::load(from + i));
    if (i == n) return;
    if (n >= lanes<V>)
      store(to + n - lanes<V>, S::load(from + n - lanes<V>));
    else
      store(to, S::load_first(from, static_cast<int>(n)));
  } else if (step == 2) {
    for (i64 i = 0; i < n; ++i) to[i] = widened(from[2 * i]);
  } else {
    for (i64 i = 0; i < n; ++i) to[i] = widened(from[i * step]);
  }
}

// Elements first + j * step for j in [0, n) of a row of `length`, zero outside
template <class T>
FASTNN_FN void copy_clipped(computed<T>* to, const T* row, i64 length, i64 first, i64 n, i64 step) {
  using V = typename storage<T>::V;
  i64 begin = first >= 0 ? 0 : step == 1 ? -first : (-first + step - 1) / step;
  i64 end = first >= length ? 0 : step == 1 ? length - first : (length - first + step - 1) / step;
  begin = begin < n ? begin : n;
  end = end < n ? end : n;
  if (begin >= end) return clear<V>(to, n);
  clear<V>(to, begin);
  copy(to + begin, row + first + begin * step, end - begin, step);
  clear<V>(to + end, n - end);
}

FASTNN_FN i64 round_up(i64 n, i64 step) { return (n + step - 1) / step * step; }

// How many vectors a register tile takes of those that are left: no single one after full tiles.
FASTNN_FN i64 next_columns(i64 left, i64 most) {
  if (left <= most) return left;
  return left < 2 * most ? (left + 1) / 2 : most;
}

// Neighbouring positions of one row, which begin at `at` in the tile's line.
struct Run {
  i64 at, image, row, col, length;
};

// The positions of a tile; returns how many runs there are: as many as a tile has rows, or positions, at most.
FASTNN_FN i64 runs_of(const Layout& l, const Window& w, i64 images, i64 tile, Run* run) {
  if (l.gathered) {
    const i64 first = tile * l.positions, rest = images * w.rows * w.cols - first;
    const i64 positions = rest < l.positions ? rest : l.positions;
    i64 image = first / (w.rows * w.cols), row = first / w.cols % w.rows, col = first % w.cols, count = 0;
    for (i64 at = 0; at < positions; ++count) {
      const i64 length = w.cols - col < positions - at ? w.cols - col : positions - at;
      run[count] = {at, image, row, col, length};
      at += length;
      col = 0;
      if (++row == w.rows) row = 0, ++image;
    }
    return count;
  }
  const i64 col = tile % l.col_tiles * l.tile_cols, row = tile / l.col_tiles % l.row_tiles * l.tile_rows;
  const i64 image = tile / (l.col_tiles * l.row_tiles);
  const i64 length = w.cols - col < l.tile_cols ? w.cols - col : l.tile_cols;
  const i64 rows = w.rows - row < l.tile_rows ? w.rows - row : l.tile_rows;
  for (i64 i = 0; i < rows; ++i) run[i] = {i * l.pitch, image, row + i, col, length};
  return rows;
}

// One channel of a tile, from its plane of the tile's image.
template <class T>
void pack_planes(computed<T>* to, const Layout& l, const Window& w, const T* source, const Run& first, i64 rows) {
  using V = typename storage<T>::V;
  rows += l.plane_rows - l.tile_rows;
  for (i64 p = 0; p < l.planes; ++p, to += l.plane_rows * l.pitch) {
    const i64 top = (first.row + l.top) * w.row_step + l.plane[p][0];
    const i64 left = (first.col + l.left) * w.col_step + l.plane[p][1];
    if (w.row_step == 1 && w.col_step == 1 && left == 0 && l.pitch == w.source_cols && top >= 0 &&
        top + rows <= w.source_rows) {
      copy(to, source + top * l.pitch, rows * l.pitch, 1);
      continue;
    }
    for (i64 i = 0; i < rows; ++i) {
      const i64 row = top + i * w.row_step;
      if (row < 0 || row >= w.source_rows)
        clear<V>(to + i * l.pitch, l.pitch);
      else
        copy_clipped(to + i * l.pitch, source + row * w.source_cols, w.source_cols, left, l.pitch, w.col_step);
    }
  }
}

// One channel of a tile, gathered: `source` is its plane of image 0, `step` leads to that of the next image.
template <class T>
void pack_lines(computed<T>* to, const Layout& l, const Window& w, const T* source, i64 step, const Run* run,
                i64 runs) {
  using V = typename storage<T>::V;
  const bool whole = w.row_step == 1 && w.col_step == 1 && w.cols == w.source_cols;
  for (i64 t = 0; t < w.taps; ++t, to += l.positions)
    for (i64 r = 0; r < runs;) {
      const Run& a = run[r];
      const i64 row = a.row * w.row_step + w.tap[t].row, col = a.col * w.col_step + w.tap[t].col;
      i64 length = a.length;
      ++r;
      if (row < 0 || row >= w.source_rows) {
        clear<V>(to + a.at, length);
        continue;
      }
      if (whole && w.tap[t].col == 0)
        for (; r < runs && run[r].image == a.image && row + (run[r].row - a.row) < w.source_rows; ++r)
          length += run[r].length;
      const T* const from = source + a.image * step + row * w.source_cols;
      if (length > a.length)
        copy(to + a.at, from + col, length, 1);
      else
        copy_clipped(to + a.at, from, w.source_cols, col, length, w.col_step);
    }
}

// `channels` channels of a tile; `source` is the plane of the first one in image 0.
template <class T>
void pack(computed<T>* to, const Layout& l, const Window& w, const T* source, i64 step, i64 channels, const Run* run,
          i64 runs) {
  for (i64 c = 0; c < channels; ++c, to += l.channel, source += w.source_rows * w.source_cols) {
    if (l.gathered)
      pack_lines(to, l, w, source, step, run, runs);
    else
      pack_planes(to, l, w, source + run[0].image * step, run[0], runs);
  }
}

// weight[o, c, tap] for register tiles: tile by tile of results, and in it [channel, tap, result].
template <class T>
void pack_weights(computed<T>* to, const T* weight, i64 outer_step, i64 inner_step, i64 outer, i64 inner,
                  const Window& w) {
  for (i64 o = 0; o < outer; o += tile_rows) {
    const i64 rows = outer - o < tile_rows ? outer - o : tile_rows;
    for (i64 c = 0; c < inner; ++c, to += w.taps * rows)
      for (i64 a = 0; a < rows; ++a) {
        const T* const from = weight + (o + a) * outer_step + c * inner_step;
        for (i64 t = 0; t < w.taps; ++t) to[t * rows + a] = widened(from[w.tap[t].weight]);
      }
  }
}

}  // namespace
FASTNN_END
