// The gradient of averages over windows and regions, for one instruction set.
//
// The floor: dy is read once and dx written once.
//
// Rejected for regions: adding up rows of dy first and spreading the sum (twice as many rows are spread); products with
// a matrix of averages, which is what is quicker on narrow regions (0 times infinity is NaN).
#pragma once
#include "average_sums.hpp"

FASTNN_BEGIN
namespace {

using namespace fastnn_cpu;

// An axis the other way round, of windows or of regions (kernel 0): which of them hold element i.
struct held_by {
  int64_t first, last;
};
struct inverse_axis {
  int64_t in, out, kernel, stride, before, dilation;
  const double* counts;
  const int64_t *starts, *stops;

  static inverse_axis of(const Windows& w, int i) {
    const WindowAxis& a = w.axis[i];
    return {a.in, a.out, a.kernel, a.stride, a.before, a.dilation, w.counts[i], nullptr, nullptr};
  }
  static inverse_axis of(const Regions& r, int i) {
    const RegionAxis& a = r.axis[i];
    return {a.in, a.out, 0, 0, 0, 1, nullptr, a.start, a.stop};
  }
  FASTNN_FN int64_t start(int64_t o) const { return kernel != 0 ? o * stride - before : starts[o]; }
  FASTNN_FN int64_t stop(int64_t o) const { return kernel != 0 ? o * stride - before + kernel : stops[o]; }
  FASTNN_FN double count(int64_t o) const {
    return kernel != 0 ? counts[o] : static_cast<double>(stops[o] - starts[o]);
  }
  // i is the next element: are its windows others than those of the one before?
  FASTNN_FN bool move(int64_t i, held_by& h) const {
    if (dilation != 1) return true;
    const held_by old = h;
    while (h.last < out && start(h.last) <= i) ++h.last;
    while (h.first < h.last && stop(h.first) <= i) ++h.first;
    return old.first != h.first || old.last != h.last;
  }
  // f(o) for the windows that hold i, in rising order
  template <class F>
  FASTNN_FN void each(int64_t i, const held_by& h, F f) const {
    if (dilation == 1) {
      for (int64_t o = h.first; o < h.last; ++o) f(o);
    } else {
      for (int64_t k = kernel; k-- > 0;) {
        const int64_t at = i + before - k * dilation;
        if (at >= 0 && at % stride == 0 && at / stride < out) f(at / stride);
      }
    }
  }
  // The windows from the one to before the other hold element i, elements beside it, or none.
  int64_t first_of(int64_t i) const {
    if (kernel == 0) return below(stops, i);
    const int64_t at = i + before - (kernel - 1) * dilation;
    return at <= 0 ? 0 : (at + stride - 1) / stride;
  }
  int64_t last_of(int64_t i) const { return kernel == 0 ? below(starts, i) : smaller(out, (i + before) / stride + 1); }
  // how many of the rising bounds are at most i
  int64_t below(const int64_t* bounds, int64_t i) const {
    int64_t low = 0, high = out;
    while (low < high) {
      const int64_t middle = (low + high) / 2;
      if (bounds[middle] > i)
        high = middle;
      else
        low = middle + 1;
    }
    return low;
  }
  // to[i - i0] += g[o - o0] for every window o0 <= o < o1 and its elements i0 <= i < i0 + n
  void spread(double* to, int64_t i0, int64_t n, const double* g, int64_t o0, int64_t o1) const {
    if (kernel == 0) {
      for (int64_t o = o0; o < o1; ++o) {
        const int64_t last = smaller(stops[o], i0 + n);
        for (int64_t i = larger(starts[o], i0); i < last; ++i) to[i - i0] += g[o - o0];
      }
      return;
    }
    for (int64_t k = 0; k < kernel; ++k) {
      const int64_t shift = k * dilation - before - i0;  // element k of window o is number o * stride + shift here
      const int64_t first = larger(o0, shift >= 0 ? 0 : (stride - 1 - shift) / stride);
      const int64_t last = shift >= n ? first : smaller(o1, (n - 1 - shift) / stride + 1);
      for (int64_t o = first; o < last; ++o) to[o * stride + shift] += g[o - o0];
    }
  }
};

// How the gradients g of the windows [o0, o1) become those of the elements [i0, i0 + n): for windows of equal sizes, by
// sums over g with zeros between and around (`between`), which are vectors; 2 by 2, by doubling.
constexpr int64_t room_between = 3 * block;
template <class T>
struct even_spread {
  using V = typename storage<T>::V;
  using W = typename sums<V>::W;
  const inverse_axis& a;
  buffer<room_between> between;

  static bool fits(const inverse_axis& a) {
    return a.kernel != 0 && (a.kernel - 1) * a.dilation <= room_between - block;
  }
  bool doubles_columns() const { return a.kernel == 2 && a.stride == 2 && a.dilation == 1 && a.before == 0; }

  void write(const row_writer<T>& out, int64_t i0, int64_t n, const double* g, int64_t o0, int64_t o1) {
    if (doubles_columns()) {
      for (int64_t k = 0; k < o1 - o0; k += lanes<V>) {
        const V v = load_sums<V>(g + k).rounded();
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
      auto sum = load_sums<V>(between.at + i);
      for (int64_t k = a.dilation; k <= margin; k += a.dilation)
        each_part<V>(sum, [&](auto& part, int, int at) { part = part + load<W>(between.at + i + k + at); });
      out.put(i, sum.rounded());
    }
  }
};

// The same for regions as adaptive pooling has them: every vector of columns adds up the gradients of the regions it
// meets, each in the lanes that are in that region. Which they are is found out once for all rows.
template <class T>
struct region_spread {
  using V = typename storage<T>::V;
  using W = typename sums<V>::W;
  static constexpr int64_t width = lanes<W>, most_regions = 256;
  static constexpr int64_t most = (block + 2 * most_regions) / width + 2 * most_regions;  // meetings
  static constexpr int64_t line_room = 8192;
  alignas(64) double mask[most * width];                         // all bits where a column is in the region
  int64_t region[most], first[(block + sum_lanes) / width + 1];  // first meeting of each vector
  int64_t until[(block + sum_lanes) / width];                    // the vectors from this one on that one region fills
  buffer<line_room> lines;

  // Do all regions fit, and lines of so many rows? If so, they are listed.
  bool list(const inverse_axis& a, int64_t rows) {
    if (a.kernel != 0 || a.in > block || a.out > most_regions || rows * pitch(a) > line_room) return false;
    int64_t n = 0, low = 0, high = 0, v = 0;
    for (int64_t k = 0; k < pitch(a); k += width, ++v) {
      while (high < a.out && a.start(high) < k + width) ++high;
      while (low < high && a.stop(low) <= k) ++low;
      first[v] = n;
      for (int64_t o = low; o < high; ++o, ++n) {
        region[n] = o;
        for (int64_t c = 0; c < width; ++c) {
          const u64 bits = k + c >= a.start(o) && k + c < a.stop(o) ? ~u64(0) : 0;
          FASTNN_MEMCPY(mask + n * width + c, &bits, sizeof bits);
        }
      }
    }
    first[v] = n;
    for (int64_t u = v; u-- > 0;) {
      const int64_t o = region[first[u]], k = u * width;
      const bool alone = first[u + 1] - first[u] == 1 && a.start(o) <= k && k + width <= a.stop(o);
      const bool on = alone && u + 1 < v && until[u + 1] > u + 1 && region[first[u + 1]] == o;
      until[u] = alone ? (on ? until[u + 1] : u + 1) : u;
    }
    return true;
  }
  static int64_t pitch(const inverse_axis& a) { return (a.in + sum_lanes - 1) / sum_lanes * sum_lanes; }

  // A row of columns: of their regions' gradients g.
  void write(double* line, int64_t columns, const double* g) const {
    const int64_t vectors = (columns + width - 1) / width;
    for (int64_t v = 0; v < vectors;) {
      if (v < until[v]) {
        const W filled(g[region[first[v]]]);
        for (const int64_t end = until[v]; v < end; ++v) store(line + v * width, filled);
        continue;
      }
      W sum(0.0);
      for (int64_t n = first[v]; n < first[v + 1]; ++n)
        sum = sum + from_bits<W>(bits(W(g[region[n]])) & bits(load<W>(mask + n * width)));
      store(line + v * width, sum);
      ++v;
    }
  }
};

// A row of dx: the gradients of all windows that its elements are in, added up over rows of dy in vectors, then spread
// over the columns. Rows and slices that are in the same windows are equal.
template <class T>
class gradient {
 public:
  gradient(const void* dy, void* dx, int64_t planes, int64_t end, const inverse_axis& depth, const inverse_axis& height,
           const inverse_axis& width)
      : depth(depth),
        height(height),
        width(width),
        dy(static_cast<const T*>(dy)),
        dy_end(this->dy + planes * depth.out * height.out * width.out),
        dx(static_cast<T*>(dx)),
        dx_end(this->dx + end * depth.in * height.in * width.in) {}

  void run(int64_t begin, int64_t end) {
    const int64_t columns = width.in, first = width.first_of(0), last = width.last_of(columns - 1);
    const bool one_block = columns <= block;
    region_spread<T> regions;
    // regions that hold one row: at most so many, since no two of them have the same first row and the same last one
    const int64_t slots = 2 * height.out / height.in + 3, pitch = regions.pitch(width);
    if (regions.list(width, slots)) {
      int64_t made = 0;  // lines, one for each region of the height, in a ring
      const auto line = [&](int64_t oh) { return regions.lines.at + oh % slots * pitch; };
      each_row(begin, end, [&](const row& r) {
        for (made = r.ih == 0 ? 0 : made; made < r.h.last; ++made) {
          gather({r.plane, r.id, r.ih, r.d, {made, made + 1}, r.to}, 0, width.out);
          regions.write(line(made), columns, g.at);
        }
        const row_writer<T> out = {r.to, dx_end};
        for (int64_t k = 0; k < columns; k += lanes<V>) {
          auto sum = load_sums<V>(line(r.h.first) + k);
          for (int64_t oh = r.h.first + 1; oh < r.h.last; ++oh) sum = sum + load_sums<V>(line(oh) + k);
          out.put(k, sum.rounded());
        }
      });
    } else if (even_spread<T>::fits(width)) {
      even_spread<T> spread{width, {}};  // what is between the gradients of one block stays 0
      const int64_t margin = (width.kernel - 1) * width.dilation;
      each_row(begin, end, [&](const row& r) {
        for (int64_t i0 = 0; i0 < columns; i0 += block) {
          const int64_t n = smaller(block, columns - i0);
          const int64_t o0 = i0 == 0 ? first : width.first_of(i0),
                        o1 = larger(o0, one_block ? last : width.last_of(i0 + n - 1));
          if (!one_block) __builtin_memset(spread.between.at, 0, static_cast<std::size_t>(n + margin) * sizeof(double));
          gather(r, o0, o1 - o0);
          spread.write({r.to + i0, one_block ? dx_end : r.to + i0 + n}, i0, n, g.at, o0, o1);
        }
      });
    } else {
      buffer<block> sum;
      each_row(begin, end, [&](const row& r) {
        for (int64_t i0 = 0; i0 < columns; i0 += block) {
          const int64_t n = smaller(block, columns - i0), o1 = width.last_of(i0 + n - 1);
          __builtin_memset(sum.at, 0, static_cast<std::size_t>(n) * sizeof(double));
          for (int64_t o0 = width.first_of(i0); o0 < o1; o0 += block) {
            const int64_t m = smaller(block, o1 - o0);
            gather(r, o0, m);
            width.spread(sum.at, i0, n, g.at, o0, o0 + m);
          }
          const row_writer<T> out = {r.to + i0, r.to + i0 + n};
          for (int64_t k = 0; k < n; k += lanes<V>) out.put(k, load_sums<V>(sum.at + k).rounded());
        }
      });
    }
  }

 private:
  using V = typename storage<T>::V;
  using W = typename sums<V>::W;
  struct row {
    const T* plane;  // of dy
    int64_t id, ih;
    held_by d, h;
    T* to;
  };

  // Calls write(row) for every row of dx that is not as the one above.
  template <class F>
  FASTNN_FN void each_row(int64_t begin, int64_t end, F write) const {
    const int64_t columns = width.in, slice = height.in * columns;
    T* to = dx + begin * depth.in * slice;
    for (int64_t plane = begin; plane < end; ++plane) {
      const T* const from = dy + plane * depth.out * height.out * width.out;
      held_by d = {0, 0};
      for (int64_t id = 0; id < depth.in; ++id) {
        if (!depth.move(id, d) && id > 0) {
          __builtin_memcpy(to, to - slice, static_cast<std::size_t>(slice) * sizeof(T));
          to += slice;
          continue;
        }
        held_by h = {0, 0};
        for (int64_t ih = 0; ih < height.in; ++ih, to += columns) {
          if (height.move(ih, h) || ih == 0)
            write(row{from, id, ih, d, h, to});
          else
            __builtin_memcpy(to, to - columns, static_cast<std::size_t>(columns) * sizeof(T));
        }
      }
    }
  }

  // g: the gradients of the windows [o0, o0 + n), n at most room_between, of all rows that hold this one, divided.
  __attribute__((noinline)) void gather(const row& r, int64_t o0, int64_t n) {
    if (o0 != share_first || n > shares) {
      for (int64_t k = 0; k < n; ++k) share.at[k] = 1.0 / width.count(o0 + k);
      share_first = o0;
      shares = n;
    }
    struct {
      const T* from;
      double factor;
    } source[16];
    int sources = 0;
    bool fresh = true;
    const auto add = [&](bool last) {
      for (int64_t k = 0; k < n; k += lanes<V>) {
        auto sum = fresh ? sums<V>::of(V(0.0f)) : load_sums<V>(g.at + k);
        for (int i = 0; i < sources; ++i) {
          const auto v = sums<V>::of(load_before(source[i].from + k, dy_end));
          each_part<V>(sum, [&](auto& part, int j, int) { part = part + v.part[j] * W(source[i].factor); });
        }
        if (last) each_part<V>(sum, [&](auto& part, int, int at) { part = part * load<W>(share.at + k + at); });
        store_sums<V>(g.at + k, sum);
      }
      fresh = false;
      sources = 0;
    };
    depth.each(r.id, r.d, [&](int64_t od) {
      height.each(r.ih, r.h, [&](int64_t oh) {
        const double count = depth.count(od) * height.count(oh);
        if (count != last_count) {
          last_count = count;
          factor = 1.0 / count;
        }
        source[sources++] = {r.plane + (od * height.out + oh) * width.out + o0, factor};
        if (sources == 16) add(false);
      });
    });
    add(true);
  }

  const inverse_axis &depth, &height, &width;
  const T *const dy, *const dy_end;
  T *const dx, *const dx_end;
  buffer<room_between> g, share;  // share: 1 / count of the windows from share_first on
  int64_t share_first = 0, shares = 0;
  double last_count = 1.0, factor = 1.0;
};
template <class T, class Pooling>
void backward(const void* dy, void* dx, const Pooling& p, int64_t begin, int64_t end) {
  const inverse_axis depth = inverse_axis::of(p, 0), height = inverse_axis::of(p, 1), width = inverse_axis::of(p, 2);
  gradient<T>(dy, dx, p.planes, end, depth, height, width).run(begin, end);
}

}  // namespace
FASTNN_END
