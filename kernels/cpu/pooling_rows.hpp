// What maxima and averages over windows of equal sizes have in common: the walk over planes, windows and rows.
//
// A window is reduced row by row, each row from left to right, and the results of its rows from top to bottom. So the
// first of equal maxima is found, and sums have one order, whatever the vectors. A policy P says what a reduction is:
//
//   memory, V, number            how x and y are stored, the vector computed with, and its scalar
//   state<U>                     what a reduction holds of U = V or number; start(v, at), add(state, v, at) for the next
//                                element of a row, join(state, row, offset) for the next row; `at`, the column, and
//                                `offset`, what a row's positions are ahead of the first row's, matter to maxima only
//   line                         memory for the states of a row of windows: load<U>(at), store(at, state)
//   target                       where results of a row of windows go: finish(target, state, at, room)
//
// Windows that share no rows and lie inside of theirs are reduced in registers (`direct`). For all others every row of x
// is reduced once, to a line that stays in the cache, and lines are joined (`staged`): what windows share vertically is
// not computed again, and padding concerns single columns of single rows.
//
// Vectors may reach beyond the row that they are about, where that is memory of the array: the elements after it are
// fetched anyway and give lanes that nobody reads, or that are stored and then written over by what belongs there, rows
// being in rising order. That is what makes short rows fast. At the end of the arrays they stop short.
//
// Rejected: rows of x copied between margins of padding (a load and a store more an element, border columns cost less);
// reducing columns first (finds other positions among equal maxima).
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
template <class V, int stride>
FASTNN_FN bits_t<V> columns_from(int64_t first) {
  using uint = typename format_of<V>::uint;
  uint step[lanes<V>];
  for (int i = 0; i < lanes<V>; ++i) step[i] = static_cast<uint>(i * stride);
  scalar_t<V> lane[lanes<V>];
  FASTNN_MEMCPY(lane, step, sizeof lane);
  return bits(load<V>(lane)) + bits_t<V>(static_cast<uint>(first));
}

// The lanes are neighbouring windows; `from` is the first element of the first.
template <class P, int stride, int kernel>
FASTNN_FN auto scan(const typename P::memory* from, int64_t first, int64_t n, int64_t dilation) {
  using V = typename P::V;
  using S = storage<typename P::memory>;
  using uint = typename format_of<V>::uint;
  const auto at = [&](int64_t k) { return columns_from<V, stride>(first) + bits_t<V>(static_cast<uint>(k)); };
  if constexpr (kernel != 0) {
    n = kernel;
    dilation = 1;
  }
  if constexpr (stride == 1) {
    auto state = P::template start<V>(S::load(from), at(0));
    for (int64_t k = 1; k < n; ++k) P::add(state, S::load(from + k * dilation), at(k * dilation));
    return state;
  } else {
    // Elements next to each other come from one pair of vectors.
    const auto pair = [&](int64_t k) { return deinterleave(S::load(from + k), S::load(from + k + lanes<V>)); };
    split<V> both = pair(0);
    auto state = P::template start<V>(both.even, at(0));
    if (dilation == 1) {
      for (int64_t k = 1; k < n; ++k) {
        if (k % 2 == 0) both = pair(k);
        P::add(state, k % 2 == 0 ? both.even : both.odd, at(k));
      }
    } else {
      for (int64_t k = 1; k < n; ++k) P::add(state, pair(k * dilation).even, at(k * dilation));
    }
    return state;
  }
}

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
  using V = typename P::V;
  const int64_t first = smaller(larger(inner_first, c0), c1), last = smaller(larger(inner_last, first), c1);
  int64_t c = first;
  if constexpr (stride != 0) {
    const int64_t reach = ((kernel ? kernel : a.kernel) - 1) * (kernel ? 1 : a.dilation) + stride * lanes<V>;
    const typename P::memory* from = row + (c * stride - a.before);
    for (; c < last && x_end - from >= reach; c += lanes<V>, from += stride * lanes<V>)
      line.store(c - c0, scan<P, stride, kernel>(from, c * stride - a.before, a.kernel, a.dilation));
    c = smaller(c, last);
  }
  for (int64_t k = c0; k < first; ++k) line.store(k - c0, scan_one<P>(row, span_of(a, k), a.dilation));
  for (; c < c1; ++c) line.store(c - c0, scan_one<P>(row, span_of(a, c), a.dilation));
}

template <class P>
using row_scanner = void (*)(const typename P::memory*, const typename P::memory*, const WindowAxis&, int64_t, int64_t,
                             int64_t, int64_t, typename P::line);
template <class P>
row_scanner<P> row_scanner_for(const WindowAxis& a) {
  if (a.stride == 1 && a.dilation == 1 && a.kernel == 3) return scan_row<P, 1, 3>;
  if (a.stride == 1) return scan_row<P, 1, 0>;
  if (a.stride == 2 && a.dilation == 1 && a.kernel == 3) return scan_row<P, 2, 3>;
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
  const bool inside = a.before == 0 && (a.out - 1) * a.stride + (a.kernel - 1) * a.dilation < a.in;
  return inside && a.stride == 2 && a.dilation == 1 && (a.kernel == 2 || a.kernel == 3) &&
         d.kernel * h.kernel <= direct_rows && h.kernel <= h.stride + 1;
}

template <class P, int stride, int kernel>
void direct(const pooling_walk<P>& walk) {
  using memory = typename P::memory;
  using V = typename P::V;
  using number = typename P::number;
  using uint = typename format<number>::uint;
  constexpr int64_t width = lanes<V>;
  const WindowAxis &depth = walk.w.axis[0], &height = walk.w.axis[1], &a = walk.w.axis[2];
  int64_t y = walk.begin * walk.y_rows() * a.out;
  const int64_t y_end = walk.y_end();
  for (int64_t plane = walk.begin; plane < walk.end; ++plane) {
    const memory* const first = walk.x + plane * walk.x_rows() * a.in;
    for (int64_t od = 0; od < depth.out; ++od) {
      const pooling_span d = span_of(depth, od);
      for (int64_t oh = 0; oh < height.out; ++oh, y += a.out) {
        const pooling_span h = span_of(height, oh);
        const memory* rows[direct_rows];
        uint offsets[direct_rows];
        int n = 0;
        const int64_t base = ((d.first + d.begin * depth.dilation) * height.in + h.first + h.begin * height.dilation) * a.in;
        for (int64_t j = d.begin; j < d.end; ++j)
          for (int64_t k = h.begin; k < h.end; ++k) {
            const int64_t row = (d.first + j * depth.dilation) * height.in + h.first + k * height.dilation;
            rows[n] = first + row * a.in;
            offsets[n++] = static_cast<uint>(row * a.in - base);
          }
        const auto target = walk.out.row(y, base, od, oh, 0);
        int64_t c = 0;
        if (n > 0) {
          const int64_t reach = kernel - 1 + stride * width, room = walk.x_end - rows[n - 1];
          for (; c < a.out && c * stride + reach <= room; c += width) {
            auto state = scan<P, stride, kernel>(rows[0] + c * stride, c * stride, kernel, 1);
            for (int r = 1; r < n; ++r)
              P::template join<V>(state, scan<P, stride, kernel>(rows[r] + c * stride, c * stride, kernel, 1),
                                  bits_t<V>(offsets[r]));
            P::template finish<V>(target, state, c, y_end - y - c);
          }
        }
        for (; c < a.out; ++c) {
          auto state = P::template empty<number>();
          for (int r = 0; r < n; ++r) {
            const auto row = scan_one<P>(rows[r], {c * stride, 0, kernel}, 1);
            if (r == 0)
              state = row;
            else
              P::template join<number>(state, row, offsets[r]);
          }
          P::template finish<number>(target, state, c, 1);
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
  // windows of which no element lies outside
  const int64_t inner_first = (a.before + a.stride - 1) / a.stride, slack = a.in - 1 - (a.kernel - 1) * a.dilation + a.before;
  const int64_t inner_last = slack < 0 ? 0 : slack / a.stride + 1;

  // So many rows that they do not fit: two lines, the result so far and the next row.
  const int64_t span = (height.kernel - 1) * height.dilation + 1;
  const bool ring = span <= ring_slots && depth.kernel * span <= ring_slots;
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
        for (int64_t oh = 0; oh < height.out; ++oh) {
          const pooling_span h = span_of(height, oh);
          const int64_t base = ((d.first + d.begin * depth.dilation) * height.in + h.first + h.begin * height.dilation) * a.in;
          const int64_t turn = ring ? (h.first % span + span) % span : 0;
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
                scanner(first + row * a.in, walk.x_end, a, inner_first, inner_last, c0, c1,
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
