// Loops over 16-bit arrays as loops over float: a piece at a time is widened into the first-level cache, or the second
// where columns are long, and rounded once on its way back. Rejected: loops of their own for each format, which double
// the code and compute each exponential twice, having nowhere to keep it.
#pragma once
#include "softmax_loops.hpp"

FASTNN_BEGIN
namespace {

// `rows` rows of n elements, between floats and 16-bit elements with strides of their own
struct half_format {
  void (*widen)(float* to, int64_t to_stride, const u16* from, int64_t stride, int64_t rows, int64_t n);
  void (*narrow)(u16* to, int64_t to_stride, const float* from, int64_t stride, int64_t rows, int64_t n);
};

template <class To, class From>
void convert(To* to, int64_t to_stride, const From* from, int64_t stride, int64_t rows, int64_t n) {
  for (; rows > 0; --rows, to += to_stride, from += stride)
    along{n}.each_of<vfloat>([&](int64_t i, int64_t, int k) { store_some(to + i, load_some(from + i, k), k); });
}
template <class T>
void widen_halves(float* to, int64_t to_stride, const u16* from, int64_t stride, int64_t rows, int64_t n) {
  convert(to, to_stride, reinterpret_cast<const T*>(from), stride, rows, n);
}
template <class T>
void narrow_halves(u16* to, int64_t to_stride, const float* from, int64_t stride, int64_t rows, int64_t n) {
  convert(reinterpret_cast<T*>(to), to_stride, from, stride, rows, n);
}
template <class T>
constexpr half_format half_format_of = {widen_halves<T>, narrow_halves<T>};

// Pieces of arrays of shape (outer, classes, inner): whole rows, or tiles
struct halves {
  const half_format& format;
  tile_layout layout;
  bool rows;
  float *first, *second;  // room for a piece each
  u16* raw;

  halves(const half_format& format, int64_t classes, int64_t inner, void* room)
      : format(format), layout(classes, inner, half_elements(classes, inner)), rows(is_row(classes, inner)) {
    const int64_t n = half_elements(classes, inner);
    first = static_cast<float*>(room);
    second = first + n;
    raw = reinterpret_cast<u16*>(second + n);
    const int64_t fit = n / classes;  // enough of them to forget the cost of a piece
    layout.stride = rows ? fit : fit < widest_tile ? fit / tile_columns * tile_columns : widest_tile;
  }

  // Calls f(first column, columns) for the pieces of the columns [begin, end).
  template <class F>
  FASTNN_FN void each(int64_t begin, int64_t end, F f) const {
    layout.each(begin, end, f);
  }
  void load(float* to, const void* array, int64_t column, int columns) const {
    const u16* const from = static_cast<const u16*>(array);
    const int64_t classes = layout.classes, inner = layout.inner, stride = layout.stride;
    if (rows) return format.widen(to, 0, from + column * classes, 0, 1, columns * classes);
    if (inner >= tile_columns) return format.widen(to, stride, from + layout.offset(column), inner, classes, columns);
    layout.load(raw, from, column, columns);
    format.widen(to, 0, raw, 0, 1, classes * stride);
  }
  void store(void* array, const float* from, int64_t column, int columns) const {
    u16* const to = static_cast<u16*>(array);
    const int64_t classes = layout.classes, inner = layout.inner, stride = layout.stride;
    if (rows) return format.narrow(to + column * classes, 0, from, 0, 1, columns * classes);
    if (inner >= tile_columns) return format.narrow(to + layout.offset(column), inner, from, stride, classes, columns);
    format.narrow(raw, 0, from, 0, 1, classes * stride);
    layout.store(to, raw, column, columns);
  }
};

}  // namespace
FASTNN_END
