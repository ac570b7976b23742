// Tiles of the source, and weights, in scratch memory: widened, in the order in which register tiles want them.
#pragma once
#include "../include/convolution.hpp"
#include "../include/transpose.hpp"

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

FASTNN_FN i64 round_up(i64 n, i64 step) { return (n + step - 1) / step * step; }

// How many vectors a register tile takes of those that are left: no single one after full tiles.
FASTNN_FN i64 next_columns(i64 left, i64 most) {
  if (left <= most) return left;
  return left < 2 * most ? (left + 1) / 2 : most;
}

// How many rows a register tile takes of those that are left: there are tiles of an even number, and of one.
FASTNN_FN i64 next_rows(i64 left) {
  return left >= tile_rows ? tile_rows : left >= 6 ? 6 : left >= 4 ? 4 : left >= 2 ? 2 : 1;
}

// Positions of one image: `rows` rows of `length` from (row, col) on, the first of which is at `at` in the tile's line
// and the others `pitch` apart.
struct Patch {
  i64 at, pitch, image, row, col, rows, length;
};

// The positions of a tile; returns how many patches there are, at most three an image.
FASTNN_FN i64 patches_of(const Layout& l, const Window& w, i64 images, i64 tile, Patch* patch) {
  if (!l.gathered) {
    const i64 col = tile % l.col_tiles * l.tile_cols, row = tile / l.col_tiles % l.row_tiles * l.tile_rows;
    patch[0] = {0,
                l.pitch,
                tile / (l.col_tiles * l.row_tiles),
                row,
                col,
                w.rows - row < l.tile_rows ? w.rows - row : l.tile_rows,
                w.cols - col < l.tile_cols ? w.cols - col : l.tile_cols};
    return 1;
  }
  const i64 first = tile * l.positions, rest = images * w.rows * w.cols - first;
  const i64 positions = rest < l.positions ? rest : l.positions;
  i64 image = first / (w.rows * w.cols), row = first / w.cols % w.rows, col = first % w.cols, count = 0;
  for (i64 at = 0; at < positions; ++count) {
    const i64 left = positions - at;
    const bool whole = col == 0 && left >= w.cols;
    const i64 length = whole ? w.cols : w.cols - col < left ? w.cols - col : left;
    const i64 rows = !whole ? 1 : left / w.cols < w.rows - row ? left / w.cols : w.rows - row;
    patch[count] = {at, w.cols, image, row, col, rows, length};
    at += rows * length;
    row += rows;
    col = 0;
    if (row == w.rows) row = 0, ++image;
  }
  return count;
}
FASTNN_FN i64 line_of(const Patch& last) { return last.at + (last.rows - 1) * last.pitch + last.length; }

// What is packed is written in rising order and in whole vectors: each one may spill over into what comes next, and
// there is room for a vector at the end.
template <class V>
FASTNN_FN void clear(scalar_t<V>* to, i64 n) {
  if (n <= 0) return;
  store(to, V(scalar_t<V>(0)));
  for (i64 i = lanes<V>; i < n; i += lanes<V>) store(to + i, V(scalar_t<V>(0)));
}

// n numbers, `step` apart. `limit` is the end of the array they are in: vectors may be read up to there.
template <class T>
FASTNN_FN void copy(computed<T>* to, const T* from, i64 n, i64 step, const T* limit) {
  using S = storage<T>;
  using V = typename S::V;
  constexpr i64 width = lanes<V>;
  i64 i = 0;
  if (step == 1) {
    for (; i < n && limit - (from + i) >= width; i += width) store(to + i, S::load(from + i));
    if (i < n) store(to + i, S::load_first(from + i, static_cast<int>(n - i)));
  } else {
    if (step == 2)
      for (; i < n && limit - (from + 2 * i) >= 2 * width; i += width)
        store(to + i, deinterleave(S::load(from + 2 * i), S::load(from + 2 * i + width)).even);
    for (; i < n; ++i) to[i] = widened(from[i * step]);
  }
}

// Elements col + j * step, for j in [0, n), of rows of `length`: zero outside.
struct Cut {
  i64 col, step, n, begin, end;  // begin, end: which of them are inside

  Cut(i64 col, i64 step, i64 n, i64 length) : col(col), step(step), n(n) {
    begin = col >= 0 ? 0 : (step - 1 - col) / step;
    end = col >= length ? 0 : (length - col + step - 1) / step;
    if (begin > n) begin = n;
    if (end > n) end = n;
    if (end < begin) end = begin;
  }
  template <class T>
  FASTNN_FN void copy_row(computed<T>* to, const T* row, const T* limit) const {
    using V = typename storage<T>::V;
    clear<V>(to, begin);
    copy(to + begin, row + col + begin * step, end - begin, step, limit);
    clear<V>(to + end, n - end);
  }
};

// `count` rows of a plane, from `row` on and `row_step` apart, cut and laid out `pitch` apart: zero outside. `margins`
// says that rows are zero outside already.
template <class T>
FASTNN_FN void copy_rows(computed<T>* to, i64 pitch, const T* plane, const Window& w, i64 row, i64 row_step, i64 count,
                         const Cut& cut, const T* limit, bool margins) {
  using V = typename storage<T>::V;
  if (row_step == 1 && cut.step == 1 && cut.col == 0 && cut.n == w.source_cols && pitch == cut.n && row >= 0 &&
      row + count <= w.source_rows)
    return copy(to, plane + row * pitch, count * pitch, 1, limit);
  const i64 inside = cut.end - cut.begin;
  for (i64 i = 0; i < count; ++i, row += row_step, to += pitch) {
    const T* const from = plane + row * w.source_cols;
    if (row < 0 || row >= w.source_rows) {
      clear<V>(to, cut.n);
    } else if (cut.step == 1 && limit - (from + cut.col + cut.end) >= lanes<V>) {
      if (cut.begin > 0 && !margins) clear<V>(to, cut.begin);
      const T* const first = from + cut.col + cut.begin;
      for (i64 j = 0; j < inside; j += lanes<V>) store(to + cut.begin + j, storage<T>::load(first + j));
      if (cut.end < cut.n && !margins) clear<V>(to + cut.end, cut.n - cut.end);
    } else {
      cut.copy_row(to, from, limit);
    }
  }
}

// What a tile sees of one channel, as planes.
template <class T>
void pack_planes(computed<T>* to, const Layout& l, const Window& w, const T* plane, const Patch& patch, const T* limit,
                 bool margins) {
  const i64 rows = patch.rows + l.plane_rows - l.tile_rows;
  for (i64 p = 0; p < l.planes; ++p, to += l.plane_rows * l.pitch) {
    const Cut cut((patch.col + l.left) * w.col_step + l.plane[p][1], w.col_step, l.pitch, w.source_cols);
    const i64 row = (patch.row + l.top) * w.row_step + l.plane[p][0];
    copy_rows(to, l.pitch, plane, w, row, w.row_step, rows, cut, limit, margins);
  }
}

// What a tile sees of one channel, gathered: `source` is its plane of image 0, `step` leads to that of the next image.
template <class T>
void pack_lines(computed<T>* to, const Layout& l, const Window& w, const T* source, i64 step, const Patch* patch,
                i64 patches, const T* limit) {
  for (i64 t = 0; t < w.taps; ++t, to += l.positions)
    for (i64 r = 0; r < patches; ++r) {
      const Patch& a = patch[r];
      const Cut cut(a.col * w.col_step + w.tap[t].col, w.col_step, a.length, w.source_cols);
      copy_rows(to + a.at, a.pitch, source + a.image * step, w, a.row * w.row_step + w.tap[t].row, w.row_step, a.rows,
                cut, limit, false);
    }
}

// Channels of memory that is soon read (or written) are asked for bit by bit while a tile computes: they lie at
// distances that the processor does not look ahead by itself. Rejected where positions fill vectors: no gain.
template <int write>
struct Ahead {
  const char* at;
  i64 bytes, step, channels, share;

  Ahead() = default;
  // of planes of rows x cols; the rows [first, first + count)
  template <class T>
  Ahead(const T* plane, i64 rows, i64 cols, i64 first, i64 count, i64 channels, i64 times) : channels(channels) {
    constexpr i64 size = sizeof(T);
    if (first > rows) first = rows;
    at = reinterpret_cast<const char*>(plane + first * cols);
    bytes = (count < rows - first ? count : rows - first) * cols * size;
    step = rows * cols * size;
    share = (channels + times - 1) / times;
  }
  FASTNN_FN void fetch() {
    for (i64 n = 0; n < share && channels > 0; ++n, --channels, at += step)
      for (i64 i = 0; i < bytes; i += 64) __builtin_prefetch(at + i, write, 2);
  }
};

// `channels` channels of a tile; `source` is the plane of the first one in image 0. So many as are `packed` have been
// there before, and left their margins.
template <class T>
void pack(computed<T>* to, const Layout& l, const Window& w, const T* source, i64 step, i64 channels,
          const Patch* patch, i64 patches, const T* limit, i64 packed = 0) {
  for (i64 c = 0; c < channels; ++c, to += l.channel, source += w.source_rows * w.source_cols) {
    if (l.gathered)
      pack_lines(to, l, w, source, step, patch, patches, limit);
    else
      pack_planes(to, l, w, source + patch[0].image * step, patch[0], limit, c < packed);
  }
}
// Does packing a tile where another one was leave zeros at the ends of rows? So where rows are whole vectors.
FASTNN_FN bool keeps_margins(const Layout& l, const Window& w) {
  return !l.gathered && l.col_tiles == 1 && l.planes == 1 && w.col_step == 1 && w.source_cols % 16 == 0 &&
         l.left <= 0 && l.left + l.pitch >= w.source_cols;
}

// to[j * to_step + i] = from[i * from_step + j] for i < rows, j < columns, in blocks of vectors. `spill` says that what
// is behind the rows of a column may be overwritten, unless another block of rows is there.
template <class From, class To>
void turn(To* to, i64 to_step, const From* from, i64 from_step, i64 rows, i64 columns, bool spill) {
  using S = storage<From>;
  using V = typename S::V;
  constexpr int width = lanes<V>;
  for (i64 j = 0; j < columns; j += width) {
    const int n = columns - j < width ? static_cast<int>(columns - j) : width;
    for (i64 i = 0; i < rows; i += width) {
      const int m = rows - i < width ? static_cast<int>(rows - i) : width;
      V v[width];
      const From* const corner = from + i * from_step + j;
      if (m == width && n == width) {
#pragma GCC unroll 16
        for (int k = 0; k < width; ++k) v[k] = S::load(corner + k * from_step);
      } else {
        for (int k = 0; k < width; ++k)
          v[k] = k >= m       ? V(scalar_t<V>(0))
                 : n == width ? S::load(corner + k * from_step)
                              : S::load_first(corner + k * from_step, n);
      }
      interleave_rows(v);
      To* p = to + j * to_step + i;
      if (m == width || (spill && (i == 0 || i + width <= to_step)))
        for (int k = 0; k < n; ++k, p += to_step) storage<To>::store(p, v[k]);
      else
        for (int k = 0; k < n; ++k, p += to_step) storage<To>::store_first(p, v[k], m);
    }
  }
}

// The same for tiles of eight rows that follow each other, to_step = 8, where a vector holds sixteen numbers: whole
// vectors again, which spill over by up to eight.
template <class T>
void turn_eight(computed<T>* to, const T* from, i64 from_step, i64 columns) {
  using S = storage<T>;
  using V = typename S::V;
  for (i64 j = 0; j < columns; j += lanes<V>) {
    const int n = columns - j < lanes<V> ? static_cast<int>(columns - j) : lanes<V>;
    V v[8];
    if (n == lanes<V>) {
#pragma GCC unroll 8
      for (int k = 0; k < 8; ++k) v[k] = S::load(from + k * from_step + j);
    } else {
#pragma GCC unroll 8
      for (int k = 0; k < 8; ++k) v[k] = S::load_first(from + k * from_step + j, n);
    }
    interleave_rows(v);
#pragma GCC unroll 8
    for (int k = 0; k < 8; ++k) store(to + j * 8 + k * lanes<V>, v[k]);
  }
}
constexpr i64 weight_slack = 8 * 16;

// weight[o, c, tap] of the results of a register tile, as [c, tap, o]. `in_order` says that weight t is that of tap t.
template <class T>
void pack_weights(computed<T>* to, const T* weight, i64 outer_step, i64 inner_step, i64 rows, i64 inner,
                  const Window& w, bool in_order, const T* limit) {
  using V = typename storage<T>::V;
  if (in_order && (w.taps > 1 || inner_step == 1)) {
    const bool together = inner_step == w.taps;
    const i64 columns = together ? inner * w.taps : w.taps;
    for (i64 c = 0; c < (together ? 1 : inner); ++c, to += columns * rows, weight += inner_step) {
      if (rows == 8 && lanes<V> == 16)
        turn_eight(to, weight, outer_step, columns);
      else
        turn(to, rows, weight, outer_step, rows, columns, true);
    }
  } else if (w.taps == 1 && outer_step == 1) {
    for (i64 c = 0; c < inner; ++c) copy(to + c * rows, weight + c * inner_step + w.tap[0].weight, rows, 1, limit);
  } else {
    for (i64 c = 0; c < inner; ++c, to += w.taps * rows, weight += inner_step)
      for (i64 a = 0; a < rows; ++a)
        for (i64 t = 0; t < w.taps; ++t) to[t * rows + a] = widened(weight[a * outer_step + w.tap[t].weight]);
  }
}

}  // namespace
FASTNN_END
