// Maxima over windows, with or without their positions, and their gradient, for one instruction set.
//
// The floor: x is read once and y written once, and positions, 8 bytes each, where they are wanted. Backward reads dy
// and the positions once and writes dx once. One maximum, comparison and selection an element; with positions a
// comparison more and a selection.
#include "pooling.hpp"
#include "pooling_rows.hpp"

FASTNN_BEGIN
namespace {

using namespace fastnn_cpu;

template <class U, bool indexed>
struct best;
template <class U>
struct best<U, false> {
  using element = U;
  U value;
};
template <class U>
struct best<U, true> {
  using element = U;
  U value, where;  // the position, as the bits of a number
};

template <class T, bool indexed>
struct maximum {
  using memory = T;
  using V = typename storage<T>::V;
  using number = scalar_t<V>;
  template <class U>
  using state = best<U, indexed>;

  template <class U>
  static FASTNN_FN state<U> start(U v, bits_t<U> at) {
    if constexpr (indexed)
      return {v, from_bits<U>(at)};
    else
      return {v};
  }
  // of nothing; never looked at, since every window holds an element
  template <class U>
  static FASTNN_FN state<U> empty() {
    return start(U(-__builtin_inf()), bits_t<U>(0));
  }
  template <class U>
  static FASTNN_FN void add(state<U>& s, U v, bits_t<U> at) {
    if constexpr (indexed) {
      const mask_t<U> m = takes_over(s.value, v);
      if constexpr (lanes<U> == 1) {  // without a branch, which would often be mispredicted
        const bits_t<U> mask = bits_t<U>(0) - static_cast<bits_t<U>>(m);
        s.value = from_bits<U>(bits(s.value) ^ ((bits(s.value) ^ bits(v)) & mask));
        s.where = from_bits<U>(bits(s.where) ^ ((bits(s.where) ^ at) & mask));
      } else {
        s.value = select(m, v, s.value);
        s.where = select(m, from_bits<U>(at), s.where);
      }
    } else {
      s.value = pooled_max(s.value, v);
    }
  }
  template <class U>
  static FASTNN_FN void join(state<U>& s, const state<U>& row, bits_t<U> offset) {
    if constexpr (indexed)
      add<U>(s, row.value, bits(row.where) + offset);
    else
      add<U>(s, row.value, offset);
  }

  struct line {
    number *value, *where;
    template <class U>
    FASTNN_FN state<U> load(int64_t c) const {
      if constexpr (indexed)
        return {fastnn::load<U>(value + c), fastnn::load<U>(where + c)};
      else
        return {fastnn::load<U>(value + c)};
    }
    template <class U>
    FASTNN_FN void store(int64_t c, const best<U, indexed>& s) const {
      fastnn::store(value + c, s.value);
      if constexpr (indexed) fastnn::store(where + c, s.where);
    }
  };
  template <int64_t n>
  struct lines {
    number value[n], where[indexed ? n : 1];
    typename maximum::line line(int64_t c) { return {value + c, where + (indexed ? c : 0)}; }
  };

  struct target {
    T* y;
    int64_t *where, base;
  };
  struct outputs {
    T* y;
    int64_t* where;
    target row(int64_t at, int64_t base, int64_t, int64_t, int64_t) const {
      return {y + at, indexed ? where + at : nullptr, base};
    }
  };
  template <class U>
  static FASTNN_FN void finish(const target& t, const state<U>& s, int64_t c, int64_t room) {
    if constexpr (lanes<U> == 1) {
      put(t.y + c, s.value);
      if constexpr (indexed) store64(t.where + c, bits(s.where), t.base);
    } else if (room >= lanes<U>) {
      storage<T>::store(t.y + c, s.value);
      if constexpr (indexed) store64(t.where + c, bits(s.where), t.base);
    } else {
      storage<T>::store_first(t.y + c, s.value, static_cast<int>(room));
      if constexpr (indexed) {
        int64_t lane[lanes<U>];
        store64(lane, bits(s.where), t.base);
        FASTNN_MEMCPY(t.where + c, lane, static_cast<std::size_t>(room) * sizeof lane[0]);
      }
    }
  }
};

template <class T, bool indexed>
void windows_of(const void* x, void* y, int64_t* where, const Windows& w, int64_t begin, int64_t end) {
  const T* const first = static_cast<const T*>(x);
  const int64_t size = w.planes * w.axis[0].in * w.axis[1].in * w.axis[2].in;
  pool<maximum<T, indexed>>({w, first, first + size, {static_cast<T*>(y), where}, begin, end});
}
template <class T>
void windows(const void* x, void* y, int64_t* where, const Windows& w, int64_t begin, int64_t end) {
  if (where != nullptr)
    windows_of<T, true>(x, y, where, w, begin, end);
  else
    windows_of<T, false>(x, y, where, w, begin, end);
}

// Windows of two or three elements at irregular places: one at a time.
template <class T>
void regions(const void* x, void* y, int64_t* where, const Regions& r, int64_t begin, int64_t end) {
  using number = scalar_t<typename storage<T>::V>;
  using uint = typename format<number>::uint;
  const RegionAxis &depth = r.axis[0], &height = r.axis[1], &width = r.axis[2];
  const int64_t inputs = depth.in * height.in * width.in, outputs = depth.out * height.out * width.out;
  T* to = static_cast<T*>(y) + begin * outputs;
  if (where != nullptr) where += begin * outputs;
  for (int64_t plane = begin; plane < end; ++plane) {
    const T* const from = static_cast<const T*>(x) + plane * inputs;
    const int64_t d = plane * depth.step, h = plane * height.step, w = plane * width.step;
    for (int64_t od = 0; od < depth.out; ++od)
      for (int64_t oh = 0; oh < height.out; ++oh)
        for (int64_t ow = 0; ow < width.out; ++ow) {
          const int64_t left = width.start[w + ow], right = width.stop[w + ow];
          const int64_t top = (depth.start[d + od] * height.in + height.start[h + oh]) * width.in + left;
          auto found = maximum<number, true>::template start<number>(get(from + top), 0);
          for (int64_t i = depth.start[d + od]; i < depth.stop[d + od]; ++i)
            for (int64_t j = height.start[h + oh]; j < height.stop[h + oh]; ++j)
              for (int64_t k = left; k < right; ++k) {
                const int64_t at = (i * height.in + j) * width.in + k;
                maximum<number, true>::add(found, get(from + at), static_cast<uint>(at - top));
              }
          put(to++, found.value);
          if (where != nullptr) *where++ = top + static_cast<int64_t>(bits(found.where));
        }
  }
}

// In float and double: straight into dx. Planes are filled with 0 one by one, so that they are in the cache when the
// gradients come.
template <class T>
bool backward(const void* dy, const int64_t* where, void* dx, int64_t outputs, int64_t inputs, int64_t begin,
              int64_t end) {
  for (int64_t plane = begin; plane < end; ++plane) {
    T* const to = static_cast<T*>(dx) + plane * inputs;
    const T* const from = static_cast<const T*>(dy) + plane * outputs;
    const int64_t* const at = where + plane * outputs;
    __builtin_memset(to, 0, static_cast<std::size_t>(inputs) * sizeof(T));
    for (int64_t i = 0; i < outputs; ++i) {
      if (FASTNN_UNLIKELY(static_cast<u64>(at[i]) >= static_cast<u64>(inputs))) return false;
      to[at[i]] += from[i];
    }
  }
  return true;
}

// In 16 bits: added up in float, one piece of the plane after the other, and rounded once. Gradients come in runs; a
// piece looks at the runs that reach into it, which are few, as positions rise with the windows but for their size.
template <class T>
bool backward16(const void* dy, const int64_t* where, void* dx, int64_t outputs, int64_t inputs, int64_t begin,
                int64_t end) {
  using S = storage<T>;
  constexpr int64_t piece = 8192, most_runs = 512;
  alignas(64) float sum[piece];
  int64_t low[most_runs], high[most_runs];
  const int64_t run = larger((outputs + most_runs - 1) / most_runs, 64);
  for (int64_t plane = begin; plane < end; ++plane) {
    T* const to = static_cast<T*>(dx) + plane * inputs;
    const T* const from = static_cast<const T*>(dy) + plane * outputs;
    const int64_t* const at = where + plane * outputs;
    for (int64_t i = 0; i < outputs; ++i) {
      if (FASTNN_UNLIKELY(static_cast<u64>(at[i]) >= static_cast<u64>(inputs))) return false;
      const int64_t r = i / run;
      const bool opens = i == r * run;
      low[r] = opens ? at[i] : smaller(low[r], at[i]);
      high[r] = opens ? at[i] : larger(high[r], at[i]);
    }
    for (int64_t first = 0; first < inputs; first += piece) {
      const int64_t n = smaller(piece, inputs - first);
      __builtin_memset(sum, 0, static_cast<std::size_t>(n) * sizeof sum[0]);
      for (int64_t i = 0, r = 0; i < outputs; i += run, ++r) {
        if (low[r] >= first + n || high[r] < first) continue;
        const int64_t last = smaller(i + run, outputs);
        for (int64_t k = i; k < last; ++k)
          if (static_cast<u64>(at[k] - first) < static_cast<u64>(n)) sum[at[k] - first] += get(from + k);
      }
      int64_t k = 0;
      for (; k + lanes<vfloat> <= n; k += lanes<vfloat>) S::store(to + first + k, load<vfloat>(sum + k));
      for (; k < n; ++k) put(to + first + k, sum[k]);
    }
  }
  return true;
}

bool inside(const int64_t* where, int64_t n, int64_t inputs) {
  using B = bits_t<vdouble>;
  const u64 last = static_cast<u64>(inputs) - 1;
  B outside(0);  // in the top bit: of the position, or of its distance from the last
  int64_t i = 0;
  for (; i + lanes<vdouble> <= n; i += lanes<vdouble>) {
    vdouble v;
    FASTNN_MEMCPY(&v, where + i, sizeof v);
    outside = outside | bits(v) | (B(last) - bits(v));
  }
  int64_t lane[lanes<vdouble>];
  store64(lane, outside, 0);
  u64 all = 0;
  for (const int64_t each : lane) all |= static_cast<u64>(each);
  for (; i < n; ++i) all |= static_cast<u64>(where[i]) | (last - static_cast<u64>(where[i]));
  return all >> 63 == 0;
}

constexpr MaxPooling table = {{windows<float>, windows<double>},
                              {regions<float>, regions<double>, regions<binary16>, regions<bfloat16>},
                              {backward<float>, backward<double>, backward16<binary16>, backward16<bfloat16>},
                              inside};

}  // namespace
FASTNN_END

FASTNN_FAMILY_TABLE(MaxPooling, max_pooling, fastnn::table)
