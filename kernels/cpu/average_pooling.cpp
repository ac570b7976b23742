// Averages over windows, regions and whole planes, and their gradients, for one instruction set.
//
// The floor: x is read once and y written once; backward the other way round. One addition an element and window, and
// one division (of sums of doubles: a multiplication by the reciprocal where the result is rounded to float anyway).
// Sums are kept in double, in an order that the shape alone decides: of floats they are exact but for some last bits of
// the double, and no window is too large.
//
// Rejected: sums in float (3 x 3 windows leave the bound of 2 ULP, and a sum may overflow where its mean does not).
#include "average_gradient.hpp"
#include "average_sums.hpp"
#include "pooling.hpp"

FASTNN_BEGIN
namespace {

using namespace fastnn_cpu;

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

// n elements more in the lanes of a sum
template <class T>
FASTNN_FN void add_run(lanes16& sum, const T* from, int64_t n) {
  using S = storage<T>;
  int64_t i = 0;
  for (; i + sum_lanes <= n; i += sum_lanes) sum = sum + load16<S>(from + i);
  if (i < n) sum = sum + load16_first<S>(from + i, static_cast<int>(n - i));
}

// Regions. Where they are wide, each is added up in the 16 lanes of a whole plane, row by row; else rows are added up
// first, in vectors, then the columns of each region. Sums of a plane are divided together, in vectors, where they fit:
// vectors that were divided row by row would wait for the single sums to leave the store queue.
template <class T>
void regions(const void* x, void* y, const Regions& r, int64_t begin, int64_t end) {
  using V = typename storage<T>::V;
  const RegionAxis &depth = r.axis[0], &height = r.axis[1], &width = r.axis[2];
  const int64_t inputs = depth.in * height.in * width.in, outputs = depth.out * height.out * width.out;
  const T* const x_end = static_cast<const T*>(x) + r.planes * inputs;
  T* const y_end = static_cast<T*>(y) + end * outputs;
  const bool wide = width.in >= sum_lanes * width.out;
  const bool fits = outputs <= block && (wide || width.in <= block);
  buffer<block> columns, found, counts;

  // Calls f(od, oh, o0, o1, results so far) for all rows of a plane, or pieces of rows whose columns fit: of one region
  // at least, as narrow ones are at most 18 long.
  const auto each_piece = [&](auto f) {
    int64_t done = 0;
    for (int64_t od = 0; od < depth.out; ++od)
      for (int64_t oh = 0; oh < height.out; ++oh)
        for (int64_t o0 = 0, o1 = width.out; o0 < width.out; done += o1 - o0, o0 = o1) {
          if (!fits) {
            o1 = o0 + 1;
            while (o1 < width.out && o1 - o0 < block && (wide || width.stop[o1] - width.start[o0] <= block)) ++o1;
          }
          f(od, oh, o0, o1, done);
        }
  };
  const auto count = [&](int64_t od, int64_t oh, int64_t o0, int64_t o1, int64_t at) {
    const int64_t rows = (depth.stop[od] - depth.start[od]) * (height.stop[oh] - height.start[oh]);
    for (int64_t o = o0; o < o1; ++o)
      counts.at[at + o - o0] = static_cast<double>(rows * (width.stop[o] - width.start[o]));
  };
  const auto divide = [&](const row_writer<T>& to, int64_t n) {
    for (int64_t k = 0; k < n; k += lanes<V>) {
      auto mean = load_sums<V>(found.at + k);
      each_part<V>(mean, [&](auto& part, int, int at) { part = part / load<typename sums<V>::W>(counts.at + k + at); });
      to.put(k, mean.rounded());
    }
  };

  if (fits) each_piece(count);
  for (int64_t plane = begin; plane < end; ++plane) {
    const T* const from = static_cast<const T*>(x) + plane * inputs;
    T* const to = static_cast<T*>(y) + plane * outputs;
    each_piece([&](int64_t od, int64_t oh, int64_t o0, int64_t o1, int64_t done) {
      const auto each_row = [&](int64_t column, auto f) {
        for (int64_t i = depth.start[od]; i < depth.stop[od]; ++i) {
          const T* row = from + (i * height.in + height.start[oh]) * width.in + column;
          for (int64_t j = height.start[oh]; j < height.stop[oh]; ++j, row += width.in) f(row);
        }
      };
      double* const sums_of = found.at + (fits ? done : 0);
      if (wide) {
        for (int64_t o = o0; o < o1; ++o) {
          lanes16 sum = broadcast16(0.0);
          each_row(width.start[o], [&](const T* row) { add_run(sum, row, width.stop[o] - width.start[o]); });
          sums_of[o - o0] = total(sum);
        }
      } else {
        const int64_t first = width.start[o0], n = width.stop[o1 - 1] - first;
        for (int64_t k = 0; k < n; k += lanes<V>) {
          auto sum = sums<V>::of(V(0.0f));
          each_row(first + k, [&](const T* row) { sum = sum + sums<V>::of(load_before(row, x_end)); });
          store_sums<V>(columns.at + k, sum);
        }
        for (int64_t o = o0; o < o1; ++o) {
          double sum = 0.0;
          for (int64_t k = width.start[o] - first; k < width.stop[o] - first; ++k) sum += columns.at[k];
          sums_of[o - o0] = sum;
        }
      }
      if (!fits) {
        count(od, oh, o0, o1, 0);
        divide({to + done, to + done + (o1 - o0)}, o1 - o0);
      }
    });
    if (fits) divide({to, y_end}, outputs);
  }
}

template <class T>
void whole(const void* x, void* y, int64_t n, int64_t begin, int64_t end) {
  using number = scalar_t<typename storage<T>::V>;
  for (int64_t plane = begin; plane < end; ++plane) {
    const T* const from = static_cast<const T*>(x) + plane * n;
    lanes16 sum = broadcast16(0.0);
    add_run(sum, from, n);
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
    {windows<float>, windows<double>},
    {backward<float, Windows>, backward<double, Windows>},
    {regions<float>, regions<double>},
    {backward<float, Regions>, backward<double, Regions>},
    {whole<float>, whole<double>, whole<binary16>, whole<bfloat16>},
    {whole_backward<float>, whole_backward<double>, whole_backward<binary16>, whole_backward<bfloat16>}};

}  // namespace
FASTNN_END

FASTNN_FAMILY_TABLE(AveragePooling, average_pooling, fastnn::table)
