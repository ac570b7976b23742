// The loops of augmentation, for one instruction set. Built once per set, with FASTNN_ISA_<set> defined.
//
// Floor: mix reads two samples and writes one, 3 operations an element; cutout copies, and in place touches the boxes
// alone; crop copies; warp computes a place for every pixel and reads four neighbours for every element;
// resize does as many multiplications an element as an axis has taps, for each of the two axes.
#include "augmentation.hpp"

#include "storage.hpp"

FASTNN_BEGIN
namespace {

using fastnn_cpu::Augmentation;
using fastnn_cpu::Cutout;
using fastnn_cpu::Frame;
using fastnn_cpu::Resampling;
using std::int32_t;
using std::int64_t;

constexpr int64_t aligned_from = 512;  // elements

template <class T>
void mix_loop(const void* first, const void* second, void* to, int64_t n, double share, bool streaming) {
  using S = storage<T>;
  using V = typename S::V;
  constexpr int width = lanes<V>;
  const T *const a = static_cast<const T*>(first), *const b = static_cast<const T*>(second);
  T* const y = static_cast<T*>(to);
  const auto number = static_cast<scalar_t<V>>(share);
  const V weight(number), rest(1 - number);
  const auto mixed = [&](V one, V other) { return fmadd(weight, one, rest * other); };
  const auto partial = [&](int64_t i, int count) {
    S::store_first(y + i, mixed(S::load_first(a + i, count), S::load_first(b + i, count)), count);
  };
  int64_t i = 0;
  if (n >= aligned_from) {
    i = head_of(y);
    if (i != 0) partial(0, static_cast<int>(i));
    if (streaming && can_stream(y + i)) {
      for (; i + width <= n; i += width) S::stream(y + i, mixed(S::load(a + i), S::load(b + i)));
      stream_fence();
    }
  }
  for (; i + width <= n; i += width) S::store(y + i, mixed(S::load(a + i), S::load(b + i)));
  if (i < n) partial(i, static_cast<int>(n - i));
}

template <class T>
void cutout_loop(const void* from, void* to, int64_t begin, int64_t end, const Cutout& c) {
  const int64_t size = c.height * c.width;
  const T fill = *static_cast<const T*>(c.fill);
  for (int64_t plane = begin; plane < end; ++plane) {
    T* const y = static_cast<T*>(to) + plane * size;
    if (from != to) __builtin_memcpy(y, static_cast<const T*>(from) + plane * size, size * sizeof(T));
    const int64_t* const box = c.boxes + 4 * (plane / c.channels);
    for (int64_t row = box[0]; row < box[1]; ++row)
      for (int64_t column = box[2]; column < box[3]; ++column) y[row * c.width + column] = fill;
  }
}

template <class T>
void fill_line(T* to, int64_t n, T value) {
  for (int64_t i = 0; i < n; ++i) to[i] = value;
}

template <class T>
void crop_loop(const void* from, void* to, int64_t planes, const Frame& f, const int64_t* places) {
  const T fill = *static_cast<const T*>(f.fill);
  for (int64_t plane = 0; plane < planes; ++plane) {
    const T* const x = static_cast<const T*>(from) + plane * f.height * f.width;
    T* const y = static_cast<T*>(to) + plane * f.rows * f.columns;
    const int64_t* const place = places + 3 * (plane / f.channels);
    const int64_t top = place[0], left = place[1];
    // The columns of the piece that lie within the image.
    int64_t first = left < 0 ? -left : 0, last = f.width - left < f.columns ? f.width - left : f.columns;
    if (first > f.columns) first = f.columns;
    if (last < first) last = first;
    for (int64_t row = 0; row < f.rows; ++row) {
      T* const line = y + row * f.columns;
      if (row + top < 0 || row + top >= f.height) {
        fill_line(line, f.columns, fill);
        continue;
      }
      const T* const source = x + (row + top) * f.width + left;
      if (place[2] == 0) {
        fill_line(line, first, fill);
        __builtin_memcpy(line + first, source + first, (last - first) * sizeof(T));
        fill_line(line + last, f.columns - last, fill);
      } else {
        fill_line(line, f.columns - last, fill);
        T* const mirrored = line + (f.columns - last);
        for (int64_t i = 0; i < last - first; ++i) mirrored[i] = source[last - 1 - i];
        fill_line(line + (f.columns - first), first, fill);
      }
    }
  }
}

// The places of up to `span` pixels of a row are worked out first, so that every channel reads them. Neighbours outside
// of the image read a pixel of its border, which `fill` is chosen over: without a branch the loops are vectors.
constexpr int span = 64;

template <class T>
void warp_loop(const void* from, void* to, int64_t lines, const Frame& f, const double* maps) {
  const T fill = *static_cast<const T*>(f.fill);
  const int height = static_cast<int>(f.height), width = static_cast<int>(f.width);
  // A place outside is moved to the nearest one that reads nothing but fill; so is NaN.
  const double lowest = -1, lowermost = height, rightmost = width;
  const double middle = static_cast<double>(f.columns - 1) / 2;
  T down[span], right[span];
  int at[4][span], in[4][span];
  for (int64_t line = 0; line < lines; ++line) {
    const int64_t sample = line / f.rows, row = line % f.rows;
    const double* const m = maps + 7 * sample;
    const double a = m[0], c = m[2], e = m[4], g = m[5], k = m[6];
    const double v = static_cast<double>(row) - static_cast<double>(f.rows - 1) / 2, v2 = v * v, bv = m[1] * v,
                 dv = m[3] * v;
    for (int64_t start = 0; start < f.columns; start += span) {
      const int count = static_cast<int>(f.columns - start < span ? f.columns - start : span);
      const double first = static_cast<double>(start) - middle;
      for (int i = 0; i < count; ++i) {
        const double u = first + i, stretch = 1 + k * (u * u + v2);
        double x = (a * u + bv) * stretch + e, y = (c * u + dv) * stretch + g;
        x = x > lowest ? x : lowest;
        x = x < rightmost ? x : rightmost;
        y = y > lowest ? y : lowest;
        y = y < lowermost ? y : lowermost;
        const int left = static_cast<int>(x + 1) - 1, top = static_cast<int>(y + 1) - 1;  // both are at least -1
        right[i] = static_cast<T>(x - left);
        down[i] = static_cast<T>(y - top);
        const int l = left >= 0 && left < width, r = left + 1 < width, t = top >= 0 && top < height,
                  b = top + 1 < height;
        const int lefts = l ? left : left < 0 ? 0 : width - 1, rights = r ? left + 1 : width - 1;
        const int above = (t ? top : top < 0 ? 0 : height - 1) * width, below = (b ? top + 1 : height - 1) * width;
        at[0][i] = above + lefts, at[1][i] = above + rights, at[2][i] = below + lefts, at[3][i] = below + rights;
        in[0][i] = t & l, in[1][i] = t & r, in[2][i] = b & l, in[3][i] = b & r;
      }
      for (int64_t channel = 0; channel < f.channels; ++channel) {
        const int64_t plane = sample * f.channels + channel;
        const T* const x = static_cast<const T*>(from) + plane * f.height * f.width;
        T* const y = static_cast<T*>(to) + (plane * f.rows + row) * f.columns + start;
        for (int i = 0; i < count; ++i) {
          T p = x[at[0][i]], q = x[at[1][i]], r = x[at[2][i]], s = x[at[3][i]];
          p = in[0][i] ? p : fill;
          q = in[1][i] ? q : fill;
          r = in[2][i] ? r : fill;
          s = in[3][i] ? s : fill;
          const T upper = p + right[i] * (q - p), lower = r + right[i] * (s - r);
          y[i] = upper + down[i] * (lower - upper);
        }
      }
    }
  }
}

// First across, the rows that are needed, then down.
template <class T>
void resize_loop(const void* from, void* to, int64_t planes, const Frame& f, const Resampling& r) {
  T* const scratch = static_cast<T*>(r.scratch);
  for (int64_t plane = 0; plane < planes; ++plane) {
    const int64_t sample = plane / f.channels;
    const int32_t *const rows = r.rows + sample * f.rows, *const columns = r.columns + sample * f.columns;
    const T* const down = static_cast<const T*>(r.row_weights) + sample * r.row_taps * f.rows;
    const T* const across = static_cast<const T*>(r.column_weights) + sample * r.column_taps * f.columns;
    const T* const x = static_cast<const T*>(from) + plane * f.height * f.width;
    T* const y = static_cast<T*>(to) + plane * f.rows * f.columns;
    for (int64_t row = rows[0]; row < rows[f.rows - 1] + r.row_taps; ++row) {
      const T* const line = x + row * f.width;
      T* const __restrict__ result = scratch + row * f.columns;
      for (int64_t j = 0; j < f.columns; ++j) result[j] = across[j] * line[columns[j]];
      for (int64_t tap = 1; tap < r.column_taps; ++tap) {
        const T* const weight = across + tap * f.columns;
        for (int64_t j = 0; j < f.columns; ++j) result[j] += weight[j] * line[columns[j] + tap];
      }
    }
    for (int64_t i = 0; i < f.rows; ++i) {
      const T* const first = scratch + rows[i] * f.columns;
      T* const __restrict__ result = y + i * f.columns;
      for (int64_t j = 0; j < f.columns; ++j) result[j] = down[i] * first[j];
      for (int64_t tap = 1; tap < r.row_taps; ++tap) {
        const T weight = down[tap * f.rows + i];
        const T* const line = first + tap * f.columns;
        for (int64_t j = 0; j < f.columns; ++j) result[j] += weight * line[j];
      }
    }
  }
}

const Augmentation table = {
    {mix_loop<float>, mix_loop<double>, mix_loop<binary16>, mix_loop<bfloat16>},
    {cutout_loop<float>, cutout_loop<double>, cutout_loop<binary16>, cutout_loop<bfloat16>},
    {crop_loop<float>, crop_loop<double>},
    {warp_loop<float>, warp_loop<double>},
    {resize_loop<float>, resize_loop<double>},
};

}  // namespace
FASTNN_END

FASTNN_FAMILY_TABLE(Augmentation, augmentation, (fastnn::table))
