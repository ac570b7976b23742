// Averages over windows, regions and whole planes, and their gradients, for one instruction set.
//
// The floor: x is read once and y written once; backward the other way round. One addition an element and window, and
// one division (of sums of doubles: a multiplication by the reciprocal where the result is rounded to float anyway).
// Sums are kept in double, in an order that the shape alone decides: of floats they are exact but for some last bits of
// the double, and no window is too large.
//
// Rejected: sums in float (3 x 3 windows leave the bound of 2 ULP, and a sum may overflow where its mean does not).
#include "../include/reduce.hpp"
#include "pooling.hpp"
#include "pooling_rows.hpp"

FASTNN_BEGIN
namespace {

using namespace fastnn_cpu;

// The elements of U as doubles.
template <class U, bool vector = (lanes<U> > 1)>
struct sums {
  using element = U;
  using W = double;
  double part[1];
  FASTNN_FN static sums of(U v) { return {{static_cast<double>(v)}}; }
  FASTNN_FN U rounded() const { return static_cast<U>(part[0]); }
};
template <>
struct sums<vfloat, true> : doubles {
  using element = vfloat;
  using W = vdouble;
  FASTNN_FN static sums of(vfloat v) { return {widen(v)}; }
  FASTNN_FN vfloat rounded() const { return narrow(*this); }
};
template <>
struct sums<vdouble, true> {
  using element = vdouble;
  using W = vdouble;
  vdouble part[1];
  FASTNN_FN static sums of(vdouble v) { return {{v}}; }
  FASTNN_FN vdouble rounded() const { return part[0]; }
};
// f(i, part i, the number of elements before it)
template <class U, class F>
FASTNN_FN void each_part(sums<U>& s, F f) {
  using W = typename sums<U>::W;
  for (int i = 0; i < lanes<U> / lanes<W>; ++i) f(s.part[i], i, i * lanes<W>);
}

// What sums are divided by: count, times counts[c] in column c where counts is not null.
struct divisor {
  double count, reciprocal;
  const double* counts;
  template <class number, class W>
  FASTNN_FN W mean(W sum, int64_t c) const {
    if (counts != nullptr) return sum / (W(count) * load<W>(counts + c));
    return sizeof(number) == 8 ? sum / W(count) : sum * W(reciprocal);
  }
};

template <class T>
struct average {
  using memory = T;
  using V = typename storage<T>::V;
  using number = scalar_t<V>;
  template <class U>
  using state = sums<U>;

  template <class U>
  static FASTNN_FN state<U> start(U v, bits_t<U>) {
    return state<U>::of(v);
  }
  template <class U>
  static FASTNN_FN state<U> empty() {
    return state<U>::of(U(0.0f));
  }
  template <class U>
  static FASTNN_FN void add(state<U>& s, U v, bits_t<U> at) {
    join<U>(s, state<U>::of(v), at);
  }
  template <class U>
  static FASTNN_FN void join(state<U>& s, const state<U>& row, bits_t<U>) {
    each_part<U>(s, [&](auto& part, int i, int) { part = part + row.part[i]; });
  }

  struct line {
    double* sum;
    template <class U>
    FASTNN_FN state<U> load(int64_t c) const {
      state<U> s;
      each_part<U>(s, [&](auto& part, int, int at) { part = fastnn::load<typename state<U>::W>(sum + c + at); });
      return s;
    }
    template <class U, bool vector>
    FASTNN_FN void store(int64_t c, sums<U, vector> s) const {
      each_part<U>(s, [&](auto& part, int, int at) { fastnn::store(sum + c + at, part); });
    }
  };
  template <int64_t n>
  struct lines {
    double sum[n];
    typename average::line line(int64_t c) { return {sum + c}; }
  };

  struct target {
    T* y;
    divisor d;
  };
  struct outputs {
    T* y;
    const Windows& w;
    target row(int64_t at, int64_t, int64_t od, int64_t oh, int64_t c0) const {
      const double count = w.counts[0][od] * w.counts[1][oh] * (w.even_width ? w.counts[2][0] : 1.0);
      return {y + at, {count, 1.0 / count, w.even_width ? nullptr : w.counts[2] + c0}};
    }
  };
  template <class U>
  static FASTNN_FN void finish(const target& t, state<U> s, int64_t c, int64_t room) {
    each_part<U>(s, [&](auto& part, int, int at) { part = t.d.template mean<number>(part, c + at); });
    if constexpr (lanes<U> == 1)
      put(t.y + c, s.rounded());
    else if (room >= lanes<U>)
      storage<T>::store(t.y + c, s.rounded());
    else
      storage<T>::store_first(t.y + c, s.rounded(), static_cast<int>(room));
  }
};

template <class T>
void windows(const void* x, void* y, const Windows& w, int64_t begin, int64_t end) {
  const T* const first = static_cast<const T*>(x);
  const int64_t size = w.planes * w.axis[0].in * w.axis[1].in * w.axis[2].in;
  pool<average<T>>({w, first, first + size, {static_cast<T*>(y), w}, begin, end});
}

// Runs of doubles in the cache: sums of columns, and gradients. Vectors may end 16 elements behind them.
constexpr int64_t block = 1024;
template <int64_t n>
struct buffer {
  alignas(64) double at[n + sum_lanes];
};

// to[k] += from[k] * factor for n elements of an array that ends at `end`
template <class T, bool scaled>
FASTNN_FN void accumulate(double* to, const T* from, const T* end, int64_t n, double factor) {
  using S = storage<T>;
  using V = typename S::V;
  for (int64_t k = 0; k < n; k += lanes<V>) {
    const int64_t room = end - from - k;
    auto v = sums<V>::of(room >= lanes<V> ? S::load(from + k) : S::load_first(from + k, static_cast<int>(room)));
    each_part<V>(v, [&](auto& part, int, int at) {
      using W = typename sums<V>::W;
      if constexpr (scaled) part = part * W(factor);
      store(to + k + at, load<W>(to + k + at) + part);
    });
  }
}
// Rows are added up first, in vectors, for as many regions as fit; then the columns of each.
template <class T>
void regions(const void* x, void* y, const Regions& r, int64_t begin, int64_t end) {
  using number = scalar_t<typename storage<T>::V>;
  const RegionAxis &depth = r.axis[0], &height = r.axis[1], &width = r.axis[2];
  const int64_t inputs = depth.in * height.in * width.in;
  const T* const x_end = static_cast<const T*>(x) + r.planes * inputs;
  T* to = static_cast<T*>(y) + begin * depth.out * height.out * width.out;
  buffer<block> rows;
  for (int64_t plane = begin; plane < end; ++plane) {
    const T* const from = static_cast<const T*>(x) + plane * inputs;
    for (int64_t od = 0; od < depth.out; ++od)
      for (int64_t oh = 0; oh < height.out; ++oh, to += width.out) {
        const double count = depth.count[od] * height.count[oh];
        const auto add_rows = [&](int64_t first, int64_t n) {
          __builtin_memset(rows.at, 0, static_cast<std::size_t>(n) * sizeof(double));
          for (int64_t i = depth.start[od]; i < depth.stop[od]; ++i)
            for (int64_t j = height.start[oh]; j < height.stop[oh]; ++j)
              accumulate<T, false>(rows.at, from + (i * height.in + j) * width.in + first, x_end, n, 1.0);
        };
        for (int64_t ow = 0; ow < width.out;) {
          const int64_t first = width.start[ow];
          int64_t next = ow + 1;
          while (next < width.out && width.stop[next] - first <= block) ++next;
          if (width.stop[ow] - first <= block) {
            add_rows(first, width.stop[next - 1] - first);
            for (; ow < next; ++ow) {
              double sum = 0;
              for (int64_t k = width.start[ow]; k < width.stop[ow]; ++k) sum += rows.at[k - first];
              put(to + ow, static_cast<number>(sum / (count * width.count[ow])));
            }
          } else {
            double sum = 0;
            for (int64_t at = first; at < width.stop[ow]; at += block) {
              const int64_t n = smaller(block, width.stop[ow] - at);
              add_rows(at, n);
              for (int64_t k = 0; k < n; ++k) sum += rows.at[k];
            }
            put(to + ow, static_cast<number>(sum / (count * width.count[ow])));
            ++ow;
          }
        }
      }
  }
}

// Axes the other way round: which windows hold element i. `each` gives them in rising order; `move` says that i is the
// next element, and whether its windows differ from those of the one before; first_of and last_of enclose the windows
// of i and of all elements beside it.
struct held_by {
  int64_t first, last;
};
struct inverse_windows {
  static constexpr bool even = true;
  const WindowAxis& a;
  const double* count;
  FASTNN_FN bool move(int64_t i, held_by& h) const {
    if (a.dilation != 1) return true;
    const int64_t first = h.first, last = h.last;
    while (h.last < a.out && h.last * a.stride - a.before <= i) ++h.last;
    while (h.first < h.last && h.first * a.stride - a.before + a.kernel <= i) ++h.first;
    return first != h.first || last != h.last;
  }
  template <class F>
  FASTNN_FN void each(int64_t i, const held_by& h, F f) const {
    if (a.dilation == 1) {
      for (int64_t o = h.first; o < h.last; ++o) f(o);
    } else {
      for (int64_t k = a.kernel; k-- > 0;) {
        const int64_t at = i + a.before - k * a.dilation;
        if (at >= 0 && at % a.stride == 0 && at / a.stride < a.out) f(at / a.stride);
      }
    }
  }
  FASTNN_FN int64_t first_of(int64_t i) const {
    const int64_t at = i + a.before - (a.kernel - 1) * a.dilation;
    return at <= 0 ? 0 : (at + a.stride - 1) / a.stride;
  }
  FASTNN_FN int64_t last_of(int64_t i) const { return smaller(a.out, (i + a.before) / a.stride + 1); }
  // to[i - i0] += g[o - o0] for every window o0 <= o < o1 and its elements i0 <= i < i0 + n
  void spread(double* to, int64_t i0, int64_t n, const double* g, int64_t o0, int64_t o1) const {
    for (int64_t k = 0; k < a.kernel; ++k) {
      const int64_t shift = k * a.dilation - a.before - i0;  // element k of window o is number o * stride + shift here
      const int64_t first = larger(o0, shift >= 0 ? 0 : (a.stride - 1 - shift) / a.stride);
      const int64_t last = shift >= n ? first : smaller(o1, (n - 1 - shift) / a.stride + 1);
      for (int64_t o = first; o < last; ++o) to[o * a.stride + shift] += g[o - o0];
    }
  }
};
struct inverse_regions {
  static constexpr bool even = false;
  const RegionAxis& a;
  const double* count;
  FASTNN_FN bool move(int64_t i, held_by& h) const {
    const int64_t first = h.first, last = h.last;
    while (h.last < a.out && a.start[h.last] <= i) ++h.last;
    while (h.first < h.last && a.stop[h.first] <= i) ++h.first;
    return first != h.first || last != h.last;
  }
  template <class F>
  FASTNN_FN void each(int64_t, const held_by& h, F f) const {
    for (int64_t o = h.first; o < h.last; ++o) f(o);
  }
  FASTNN_FN int64_t first_of(int64_t i) const { return below(a.stop, i); }
  FASTNN_FN int64_t last_of(int64_t i) const { return below(a.start, i); }
  // how many of the rising bounds are at most i
  FASTNN_FN int64_t below(const int64_t* bounds, int64_t i) const {
    int64_t low = 0, high = a.out;
    while (low < high) {
      const int64_t middle = (low + high) / 2;
      if (bounds[middle] > i)
        high = middle;
      else
        low = middle + 1;
    }
    return low;
  }
  void spread(double* to, int64_t i0, int64_t n, const double* g, int64_t o0, int64_t o1) const {
    for (int64_t o = o0; o < o1; ++o) {
      const int64_t last = smaller(a.stop[o], i0 + n);
      for (int64_t i = larger(a.start[o], i0); i < last; ++i) to[i - i0] += g[o - o0];
    }
  }
};

// Rounds vectors of columns and stores them, also where fewer are left than a vector has.
template <class T>
struct row_writer {
  using S = storage<T>;
  using V = typename S::V;
  T *to, *end;
  FASTNN_FN void put(int64_t k, V v) const {
    const int64_t room = end - to - k;
    if (room >= lanes<V>)
      S::store(to + k, v);
    else if (room > 0)
      S::store_first(to + k, v, static_cast<int>(room));
  }
};

// How the gradients g of the windows [o0, o1) become those of the elements [i0, i0 + n): for windows of equal sizes, by
// sums over g with zeros between and around (`between`), which are vectors; 2 by 2, by doubling.
constexpr int64_t room_between = 3 * block;
template <class T>
struct even_spread {
  using V = typename storage<T>::V;
  using W = typename sums<V>::W;
  const WindowAxis& a;
  buffer<room_between> between;

  static bool fits(const WindowAxis& a) { return (a.kernel - 1) * a.dilation <= room_between - block; }
  bool doubles_columns() const { return a.kernel == 2 && a.stride == 2 && a.dilation == 1 && a.before == 0; }

  void write(const row_writer<T>& out, int64_t i0, int64_t n, const double* g, int64_t o0, int64_t o1) {
    if (doubles_columns()) {
      for (int64_t k = 0; k < o1 - o0; k += lanes<V>) {
        const V v = load_sums(g + k).rounded();
        const joined<V> both = interleave(v, v);
        out.put(2 * k, both.first);
        out.put(2 * k + lanes<V>, both.second);
      }
      if (n > 2 * (o1 - o0)) put(out.to + n - 1, scalar_t<V>(0));  // the column that is in no window
      return;
    }
    const int64_t margin = (a.kernel - 1) * a.dilation;
    double* const first = between.at + (o0 * a.stride - a.before - i0 + margin);
    if (a.stride == 1)
      __builtin_memcpy(first, g, static_cast<std::size_t>(o1 - o0) * sizeof(double));
    else
      for (int64_t o = 0; o < o1 - o0; ++o) first[o * a.stride] = g[o];
    for (int64_t i = 0; i < n; i += lanes<V>) {
      auto sum = load_sums(between.at + i);
      for (int64_t k = a.dilation; k <= margin; k += a.dilation)
        each_part<V>(sum, [&](auto& part, int, int at) { part = part + load<W>(between.at + i + k + at); });
      out.put(i, sum.rounded());
    }
  }
  static FASTNN_FN sums<V> load_sums(const double* from) {
    sums<V> s;
    each_part<V>(s, [&](auto& part, int, int at) { part = load<W>(from + at); });
    return s;
  }
};

// A row of dx: the gradients of all windows that its elements are in, added up over rows of dy in vectors, then spread
// over the columns. Rows that are in the same windows are equal.
template <class T, class Axis>
void backward(const void* dy, void* dx, const Axis& depth, const Axis& height, const Axis& width, bool even_width,
              int64_t planes, int64_t begin, int64_t end) {
  const int64_t outputs = depth.a.out * height.a.out * width.a.out, columns = width.a.in;
  const T* const dy_end = static_cast<const T*>(dy) + planes * outputs;
  T* const dx_end = static_cast<T*>(dx) + end * depth.a.in * height.a.in * columns;
  const double whole = even_width ? width.count[0] : 1.0;
  buffer<room_between> g;
  double last_count = 1.0, factor = 1.0;
  const auto gather = [&](const T* plane, int64_t id, const held_by& d, int64_t ih, const held_by& h, int64_t o0,
                          int64_t n) {
    __builtin_memset(g.at, 0, static_cast<std::size_t>(n) * sizeof(double));
    depth.each(id, d, [&](int64_t od) {
      height.each(ih, h, [&](int64_t oh) {
        const double count = depth.count[od] * height.count[oh] * whole;
        if (count != last_count) {
          last_count = count;
          factor = 1.0 / count;
        }
        accumulate<T, true>(g.at, plane + (od * height.a.out + oh) * width.a.out + o0, dy_end, n, factor);
      });
    });
    if (!even_width)
      for (int64_t k = 0; k < n; ++k) g.at[k] /= width.count[o0 + k];
  };
  const auto each_row =
      [&](auto write) {  // write(plane of dy, id, d, ih, h, row of dx) where it is not as the one above
        for (int64_t plane = begin; plane < end; ++plane) {
          const T* const from = static_cast<const T*>(dy) + plane * outputs;
          T* to = static_cast<T*>(dx) + plane * depth.a.in * height.a.in * columns;
          held_by d = {0, 0};
          for (int64_t id = 0; id < depth.a.in; ++id) {
            depth.move(id, d);
            held_by h = {0, 0};
            for (int64_t ih = 0; ih < height.a.in; ++ih, to += columns) {
              if (height.move(ih, h) || ih == 0)
                write(from, id, d, ih, h, to);
              else
                __builtin_memcpy(to, to - columns, static_cast<std::size_t>(columns) * sizeof(T));
            }
          }
        }
      };
  if constexpr (Axis::even) {
    if (even_spread<T>::fits(width.a)) {
      even_spread<T> spread{width.a, {}};
      const bool one_block = columns <= block;  // then what is between the gradients stays 0
      const int64_t first = width.first_of(0), last = width.last_of(columns - 1);
      const int64_t margin = (width.a.kernel - 1) * width.a.dilation;
      each_row([&](const T* from, int64_t id, const held_by& d, int64_t ih, const held_by& h, T* to) {
        for (int64_t i0 = 0; i0 < columns; i0 += block) {
          const int64_t n = smaller(block, columns - i0);
          const int64_t o0 = i0 == 0 ? first : width.first_of(i0),
                        o1 = larger(o0, one_block ? last : width.last_of(i0 + n - 1));
          if (!one_block) __builtin_memset(spread.between.at, 0, static_cast<std::size_t>(n + margin) * sizeof(double));
          gather(from, id, d, ih, h, o0, o1 - o0);
          spread.write({to + i0, one_block ? dx_end : to + i0 + n}, i0, n, g.at, o0, o1);
        }
      });
      return;
    }
  }
  buffer<block> sum;
  each_row([&](const T* from, int64_t id, const held_by& d, int64_t ih, const held_by& h, T* to) {
    for (int64_t i0 = 0; i0 < columns; i0 += block) {
      const int64_t n = smaller(block, columns - i0);
      __builtin_memset(sum.at, 0, static_cast<std::size_t>(n) * sizeof(double));
      const int64_t last = width.last_of(i0 + n - 1);
      for (int64_t o0 = width.first_of(i0); o0 < last; o0 += block) {
        const int64_t m = smaller(block, last - o0);
        gather(from, id, d, ih, h, o0, m);
        width.spread(sum.at, i0, n, g.at, o0, o0 + m);
      }
      const row_writer<T> out = {to + i0, to + i0 + n};
      for (int64_t k = 0; k < n; k += lanes<typename storage<T>::V>)
        out.put(k, even_spread<T>::load_sums(sum.at + k).rounded());
    }
  });
}
template <class T>
void windows_backward(const void* dy, void* dx, const Windows& w, int64_t begin, int64_t end) {
  const auto axis = [&](int i) { return inverse_windows{w.axis[i], w.counts[i]}; };
  backward<T>(dy, dx, axis(0), axis(1), axis(2), w.even_width, w.planes, begin, end);
}
template <class T>
void regions_backward(const void* dy, void* dx, const Regions& r, int64_t begin, int64_t end) {
  const auto axis = [&](int i) { return inverse_regions{r.axis[i], r.axis[i].count}; };
  backward<T>(dy, dx, axis(0), axis(1), axis(2), false, r.planes, begin, end);
}

template <class T>
void whole(const void* x, void* y, int64_t n, int64_t begin, int64_t end) {
  using S = storage<T>;
  using number = scalar_t<typename S::V>;
  for (int64_t plane = begin; plane < end; ++plane) {
    const T* const from = static_cast<const T*>(x) + plane * n;
    lanes16 sum = broadcast16(0.0);
    int64_t i = 0;
    for (; i + sum_lanes <= n; i += sum_lanes) sum = sum + load16<S>(from + i);
    if (i < n) sum = sum + load16_first<S>(from + i, static_cast<int>(n - i));
    put(static_cast<T*>(y) + plane, static_cast<number>(total(sum) / static_cast<double>(n)));
  }
}
template <class T>
void whole_backward(const void* dy, void* dx, int64_t n, int64_t begin, int64_t end) {
  using S = storage<T>;
  using V = typename S::V;
  using number = scalar_t<V>;
  for (int64_t plane = begin; plane < end; ++plane) {
    T* const to = static_cast<T*>(dx) + plane * n;
    const double mean = static_cast<double>(get(static_cast<const T*>(dy) + plane)) / static_cast<double>(n);
    const V v(static_cast<number>(mean));
    int64_t i = 0;
    for (; i + lanes<V> <= n; i += lanes<V>) S::store(to + i, v);
    if (i < n) S::store_first(to + i, v, static_cast<int>(n - i));
  }
}

constexpr AveragePooling table = {
    {windows<float>, windows<double>, windows<binary16>, windows<bfloat16>},
    {windows_backward<float>, windows_backward<double>, windows_backward<binary16>, windows_backward<bfloat16>},
    {regions<float>, regions<double>, regions<binary16>, regions<bfloat16>},
    {regions_backward<float>, regions_backward<double>, regions_backward<binary16>, regions_backward<bfloat16>},
    {whole<float>, whole<double>, whole<binary16>, whole<bfloat16>},
    {whole_backward<float>, whole_backward<double>, whole_backward<binary16>, whole_backward<bfloat16>}};

}  // namespace
FASTNN_END

FASTNN_FAMILY_TABLE(AveragePooling, average_pooling, fastnn::table)
