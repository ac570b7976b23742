// What maxima and averages over windows of equal sizes have in common: the walk over planes, windows and rows.
//
// A window is reduced row by row, each row from left to right, and the results of its rows from top to bottom. So the
// first of equal maxima is found, and sums have one order, whatever the vectors. A policy P says what a reduction is:
//
//   memory, V, number            how x and y are stored, the vector computed with, and its scalar
//   state<U>                     what a reduction holds of U = V or number; start(v, at), add(state, v, at) for the
//   next
//                                element of a row, join(state, row, offset) for the next row; `at`, the column, and
//                                `offset`, what a row's positions are ahead of the first row's, matter to maxima only
//   line                         memory for the states of a row of windows: load<U>(at), store(at, state)
//   target                       where results of a row of windows go: finish(target, state, at, room)
//
// Windows two columns apart that share a row at most are reduced in registers (`direct`). For all others every row of x
// is reduced once, to a line that stays in the cache, and lines are joined (`staged`): what windows share vertically
// is not computed again, and padding concerns single columns of single rows.
//
// Vectors may reach beyond the row that they are about, where that is memory of the array: the elements after it are
// fetched anyway and give lanes that nobody reads, or that are stored and then written over by what belongs there, rows
// being in rising order. That is what makes short rows fast. At the end of the arrays they stop short.
//
// Rejected: rows of x copied between margins of padding (a load and a store more an element, border columns cost less);
// border columns in vectors, with what lies outside masked out (not faster than one at a time); border columns in
// lines of their own, so that no vector waits for numbers stored into it (a loop more a row costs more); reducing
// columns first (finds other positions among equal maxima).
#pragma once
#include "../include/pooling.hpp"
#include "pooling.hpp"
#include "storage.hpp"

FASTNN_BEGIN
namespace {

using fastnn_cpu::WindowAxis;
using fastnn_cpu::Windows;
using std::int64_t;

FASTNN_FN int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
FASTNN_FN int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

// One number of an array.
FASTNN_FN float get(const float* p) { return *p; }
FASTNN_FN double get(const double* p) { return *p; }
FASTNN_FN float get(const binary16* p) { return binary16_to_float<float>(p->raw); }
FASTNN_FN float get(const bfloat16* p) { return bfloat16_to_float<float>(p->raw); }
FASTNN_FN void put(float* p, float x) { *p = x; }
FASTNN_FN void put(double* p, double x) { *p = x; }
FASTNN_FN void put(binary16* p, float x) { p->raw = static_cast<u16>(float_to_binary16(x)); }
FASTNN_FN void put(bfloat16* p, float x) { p->raw = static_cast<u16>(float_to_bfloat16(x)); }

// 0, stride, 2 stride, ...
template <class V>
FASTNN_FN bits_t<V> steps(int64_t stride) {
  using uint = typename format_of<V>::uint;
  uint step[lanes<V>];
  for (int i = 0; i < lanes<V>; ++i) step[i] = static_cast<uint>(i) * static_cast<uint>(stride);
  scalar_t<V> lane[lanes<V>];
  FASTNN_MEMCPY(lane, step, sizeof lane);
  return bits(load<V>(lane));
}

// A row of windows in vectors, one window a lane. stride and kernel are constants, or 0: whatever the axis says.
template <class P, int stride, int kernel>
struct row_scan {
  using T = typename P::memory;
  using S = storage<T>;
  using V = typename P::V;
  using B = bits_t<V>;
  using uint = typename format_of<V>::uint;
  const WindowAxis& a;
  const B lane = steps<V>(step());

  FASTNN_FN int64_t step() const { return stride != 0 ? stride : a.stride; }
  FASTNN_FN int64_t length() const { return kernel != 0 ? kernel : a.kernel; }
  FASTNN_FN int64_t dilation() const { return kernel != 0 ? 1 : a.dilation; }
  // elements from the first one on that a vector of windows may touch
  FASTNN_FN int64_t reach() const {
    return (length() - 1) * dilation() + (stride != 0 ? stride * lanes<V> : step() * (lanes<V> - 1) + 1);
  }
  static FASTNN_FN V apart(const T* p, int64_t step) {
    T each[lanes<V>];
    for (int i = 0; i < lanes<V>; ++i) each[i] = p[i * step];
    return S::load(each);
  }

  // The windows whose first elements are at row[first], row[first + stride], ...
  FASTNN_FN auto at(const T* row, int64_t first) const {
    const T* const from = row + first;
    const int64_t n = length(), d = dilation();
    const auto where = [&](int64_t k) { return lane + B(static_cast<uint>(first + k)); };
    if constexpr (stride == 2) {  // elements next to each other come from one pair of vectors
      const auto pair = [&](int64_t k) { return deinterleave(S::load(from + k), S::load(from + k + lanes<V>)); };
      even_odd<V> both = pair(0);
      auto state = P::template start<V>(both.even, where(0));
      if (d == 1) {
        for (int64_t k = 1; k < n; ++k) {
          if (k % 2 == 0) both = pair(k);
          P::add(state, k % 2 == 0 ? both.even : both.odd, where(k));
        }
      } else {
        for (int64_t k = 1; k < n; ++k) P::add(state, pair(k * d).even, where(k * d));
      }
      return state;
    } else {
      const auto element = [&](int64_t k) {
        if constexpr (stride == 1)
          return S::load(from + k * d);
        else
          return apart(from + k * d, a.stride);
      };
      auto state = P::template start<V>(element(0), where(0));
      for (int64_t k = 1; k < n; ++k) P::add(state, element(k), where(k * d));
      return state;
    }
  }
};

// One window, of which the elements begin <= k < end lie in the row.
template <class P>
FASTNN_FN auto scan_one(const typename P::memory* row, const pooling_span& s, int64_t dilation) {
  using number = typename P::number;
  using uint = typename format<number>::uint;
  int64_t at = s.first + s.begin * dilation;
  if (s.begin == s.end) return P::template empty<number>();
  auto state = P::template start<number>(get(row + at), static_cast<uint>(at));
  for (int64_t k = s.begin + 1; k < s.end; ++k) {
    at += dilation;
    P::add(state, get(row + at), static_cast<uint>(at));
  }
  return state;
}

// The windows [c0, c1) of one row of x.
template <class P, int stride, int kernel>
void scan_row(const typename P::memory* row, const typename P::memory* x_end, const WindowAxis& a, int64_t inner_first,
              int64_t inner_last, int64_t c0, int64_t c1, typename P::line line) {
  const row_scan<P, stride, kernel> scan{a};
  const int64_t width = lanes<typename P::V>, step = scan.step(), room = x_end - row - scan.reach();
  const int64_t first = smaller(larger(inner_first, c0), c1), last = smaller(larger(inner_last, first), c1);
  int64_t c = first;
  for (int64_t at = c * step - a.before; c < last && at <= room; c += width, at += step * width)
    line.store(c - c0, scan.at(row, at));
  c = smaller(c, last);
  for (int64_t k = c0; k < c1; ++k) {
    if (k == first) k = c;
    if (k < c1) line.store(k - c0, scan_one<P>(row, span_of(a, k), a.dilation));
  }
}

template <class P>
using row_scanner = void (*)(const typename P::memory*, const typename P::memory*, const WindowAxis&, int64_t, int64_t,
                             int64_t, int64_t, typename P::line);
template <class P>
row_scanner<P> row_scanner_for(const WindowAxis& a) {
  if (a.stride == 1 && a.dilation == 1 && a.kernel == 3) return scan_row<P, 1, 3>;
  if (a.stride == 1) return scan_row<P, 1, 0>;
  if (a.stride == 2) return scan_row<P, 2, 0>;
  return scan_row<P, 0, 0>;
}

// What both walks know of the arrays.
template <class P>
struct pooling_walk {
  using memory = typename P::memory;
  const Windows& w;
  const memory *x, *x_end;
  typename P::outputs out;
  int64_t begin, end;  // planes
  int64_t x_rows() const { return w.axis[0].in * w.axis[1].in; }
  int64_t y_rows() const { return w.axis[0].out * w.axis[1].out; }
  int64_t y_end() const { return end * y_rows() * w.axis[2].out; }
};

constexpr int64_t direct_rows = 16;

template <class P>
bool may_be_direct(const Windows& w) {
  const WindowAxis &d = w.axis[0], &h = w.axis[1], &a = w.axis[2];
  return a.stride == 2 && a.dilation == 1 && (a.kernel == 2 || a.kernel == 3) && d.kernel * h.kernel <= direct_rows &&
         h.kernel <= h.stride + 1;
}

// Windows of which no element lies outside of the row: from the first to before the last.
struct inner_windows {
  int64_t first, last;
};
inner_windows inner_of(const WindowAxis& a) {
  const int64_t slack = a.in - 1 - (a.kernel - 1) * a.dilation + a.before;
  const int64_t first = smaller((a.before + a.stride - 1) / a.stride, a.out);
  return {first, smaller(larger(slack < 0 ? 0 : slack / a.stride + 1, first), a.out)};
}

template <class P, int stride, int kernel>
void direct(const pooling_walk<P>& walk) {
  using memory = typename P::memory;
  using V = typename P::V;
  using number = typename P::number;
  using uint = typename format<number>::uint;
  constexpr int64_t width = lanes<V>;
  const WindowAxis &depth = walk.w.axis[0], &height = walk.w.axis[1], &a = walk.w.axis[2];
  const int64_t down = height.dilation * a.in, deep = depth.dilation * height.in * a.in;  // from row to row
  int64_t y = walk.begin * walk.y_rows() * a.out;
  const int64_t y_end = walk.y_end();
  const row_scan<P, stride, kernel> scan{a};
  const int64_t inner_first = inner_of(a).first, inner_last = inner_of(a).last;
  for (int64_t plane = walk.begin; plane < walk.end; ++plane) {
    const memory* const first = walk.x + plane * walk.x_rows() * a.in;
    for (int64_t od = 0; od < depth.out; ++od) {
      const pooling_span d = span_of(depth, od);
      for (int64_t oh = 0; oh < height.out; ++oh, y += a.out) {
        const pooling_span h = span_of(height, oh);
        const int64_t base = (d.first * height.in + h.first) * a.in + d.begin * deep + h.begin * down;
        const memory* const top = first + base;
        const int64_t n = h.end - h.begin, m = n > 0 ? d.end - d.begin : 0;
        const auto target = walk.out.row(y, base, od, oh, 0);
        // what a row's own scan gives, and what has been found above it
        const auto reduce = [&](auto row_at, auto empty) {
          auto state = m > 0 ? row_at(top) : empty;
          for (int64_t j = 0; j < m; ++j)
            for (int64_t k = j == 0 ? 1 : 0; k < n; ++k) {
              const int64_t offset = j * deep + k * down;
              const auto row = row_at(top + offset);
              using U = typename decltype(state)::element;
              P::template join<U>(state, row, bits_t<U>(static_cast<uint>(offset)));
            }
          return state;
        };
        const int64_t room = m == 0 ? -1 : walk.x_end - top - (m - 1) * deep - (n - 1) * down - scan.reach();
        const auto some = [&](auto u, int64_t c, auto row_at) {
          using U = decltype(u);
          P::template finish<U>(target, reduce(row_at, P::template empty<U>()), c, lanes<U> == 1 ? 1 : y_end - y - c);
        };
        int64_t c = inner_first;
        for (; c < inner_last && c * stride - a.before <= room; c += width)
          some(V(), c, [&](const memory* row) { return scan.at(row, c * stride - a.before); });
        for (int64_t k = inner_first > 0 ? 0 : smaller(c, inner_last); k < a.out; ++k) {
          if (k == inner_first) k = smaller(c, inner_last);
          if (k >= a.out) break;
          const pooling_span span = span_of(a, k);
          some(number(), k, [&](const memory* row) { return scan_one<P>(row, span, 1); });
        }
      }
    }
  }
}

// Lines of one block of windows, in a ring: the rows that windows under each other share are kept.
constexpr int64_t ring_size = 6144, ring_slots = 128, margin = 16;

template <class P>
void staged(const pooling_walk<P>& walk) {
  using memory = typename P::memory;
  using V = typename P::V;
  using uint = typename format_of<V>::uint;
  constexpr int64_t width = lanes<V>;
  const WindowAxis &depth = walk.w.axis[0], &height = walk.w.axis[1], &a = walk.w.axis[2];
  const row_scanner<P> scanner = row_scanner_for<P>(a);
  const inner_windows inner = inner_of(a);

  // So many rows that they do not fit: two lines, the result so far and the next row.
  const int64_t span = (height.kernel - 1) * height.dilation + 1;
  const bool ring = span <= ring_slots && depth.kernel * span <= ring_slots;
  const int64_t advance = ring ? height.stride % span : 0;
  const int64_t slots = ring ? depth.kernel * span : 2;
  const int64_t block = smaller((a.out + margin - 1) / margin * margin, (ring_size / slots - margin) / margin * margin);
  const int64_t pitch = block + margin;
  alignas(64) typename P::template lines<ring_size> ring_memory;
  int64_t held[ring_slots];  // the row of x in each slot

  const bool whole_rows = block >= a.out;
  for (int64_t plane = walk.begin; plane < walk.end; ++plane) {
    const memory* const first = walk.x + plane * walk.x_rows() * a.in;
    for (int64_t c0 = 0; c0 < a.out; c0 += block) {
      const int64_t c1 = smaller(c0 + block, a.out);
      for (int64_t od = 0; od < depth.out; ++od) {
        const pooling_span d = span_of(depth, od);
        for (int64_t s = 0; s < slots; ++s) held[s] = -1;
        int64_t turn =
            ring ? (span - height.before % span) % span : 0;  // the slot of the row that a window begins with
        for (int64_t oh = 0; oh < height.out;
             ++oh, turn = turn + advance < span ? turn + advance : turn + advance - span) {
          const pooling_span h = span_of(height, oh);
          const int64_t base =
              ((d.first + d.begin * depth.dilation) * height.in + h.first + h.begin * height.dilation) * a.in;
          int64_t at[ring_slots];
          uint offsets[ring_slots];
          int64_t n = 0;
          for (int64_t j = d.begin; j < d.end; ++j)
            for (int64_t k = h.begin; k < h.end; ++k) {
              const int64_t row = (d.first + j * depth.dilation) * height.in + h.first + k * height.dilation;
              const uint offset = static_cast<uint>(row * a.in - base);
              int64_t slot = n;
              if (ring) {
                const int64_t step = turn + k * height.dilation;
                slot = j * span + (step < span ? step : step - span);
              }
              if (!ring || held[slot] != row) {
                scanner(first + row * a.in, walk.x_end, a, inner.first, inner.last, c0, c1,
                        ring_memory.line(slot * pitch));
                held[slot] = row;
              }
              if (!ring && n == 1) {
                const auto sum = ring_memory.line(0), next = ring_memory.line(pitch);
                for (int64_t c = 0; c < c1 - c0; c += width) {
                  auto state = sum.template load<V>(c);
                  P::template join<V>(state, next.template load<V>(c), bits_t<V>(offset));
                  sum.store(c, state);
                }
              } else {
                at[n] = slot * pitch;
                offsets[n++] = offset;
              }
            }
          const int64_t y = ((plane * depth.out + od) * height.out + oh) * a.out + c0;
          const auto target = walk.out.row(y, base, od, oh, c0);
          const int64_t room = whole_rows ? walk.y_end() - y : c1 - c0;
          for (int64_t c = 0; c < c1 - c0; c += width) {
            auto state = n > 0 ? ring_memory.line(at[0]).template load<V>(c) : P::template empty<V>();
            for (int64_t r = 1; r < n; ++r)
              P::template join<V>(state, ring_memory.line(at[r]).template load<V>(c), bits_t<V>(offsets[r]));
            P::template finish<V>(target, state, c, room - c);
          }
        }
      }
    }
  }
}

template <class P>
void pool(const pooling_walk<P>& walk) {
  if (may_be_direct<P>(walk.w)) {
    if (walk.w.axis[2].kernel == 2)
      direct<P, 2, 2>(walk);
    else
      direct<P, 2, 3>(walk);
  } else {
    staged<P>(walk);
  }
}

}  // namespace
FASTNN_END
