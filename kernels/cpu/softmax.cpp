// softmax and log-softmax, for one instruction set. Operations an element, forward: a comparison, 16 for the
// exponential, 4 for its sum in double, 2 for the quotient (3 for the logarithm's difference).
#include "softmax.hpp"

#include "softmax_loops.hpp"

FASTNN_BEGIN
namespace {

using namespace fastnn_cpu;

// What a walk knows of a column once it has seen all of it: enough to finish the output, whose exponentials stand in y
// where y can hold them.
template <class T, bool log>
struct halfway {
  softmax_shift<vector_of<T>> shift;
  two_part<vector_of<T>> factor;
};
template <class T>
struct halfway<T, true> {
  log_softmax_shift<vector_of<T>> total;
};

// `fetch(offset)` may fetch other memory meanwhile.
template <bool log, class Walk, class T, class Fetch>
FASTNN_FN halfway<T, log> begin_forward(const Walk& walk, const T* x, T* y, vector_of<T> maximum, Fetch fetch) {
  using V = vector_of<T>;
  const softmax_shift<V> shift = softmax_shift_of(maximum);
  if constexpr (log) {
    const softmax_sums<V> sums = exponential_sums(walk, x, maximum, shift, [&](int64_t at, V, int) { fetch(at); });
    return {log_softmax_shift_of(shift, sums.log())};
  } else {
    const wide<V> sum = walk.template sum<V>([&](int64_t at, int64_t, int n) {
      const V e = softmax_exp(load_logits(x + at, n), shift);
      fetch(at);
      if constexpr (keeps<T>) store_some(y + at, e, n);
      return e;
    });
    return {shift, quotient(broadcast_wide<V>(1.0), sum)};
  }
}
template <bool log, class Walk, class T>
FASTNN_FN void finish_forward(const Walk& walk, const T* x, T* y, const halfway<T, log>& half) {
  using V = vector_of<T>;
  each_vector<V>(walk, [&](int64_t at, int64_t, int n) {
    if constexpr (log) {
      store_some(y + at, log_softmax(load_logits(x + at, n), half.total), n);
    } else {
      V e = load_logits((keeps<T> ? y : x) + at, n);
      if constexpr (!keeps<T>) e = softmax_exp(e, half.shift);
      store_some(y + at, times(e, half.factor), n);
    }
  });
}
template <bool log, class T>
FASTNN_FN void forward_columns(const down& walk, const T* x, T* y) {
  finish_forward<log>(walk, x, y, begin_forward<log>(walk, x, y, walk.maximum(x), [](int64_t) {}));
}

// A row is finished one row late, and the maximum of the next one looked for before: what ends in one number, and in a
// division, has long come to its end when it is needed. The next row is fetched meanwhile.
template <bool log, class T>
FASTNN_FN void forward_rows(const T* x, T* y, int64_t classes, int64_t rows) {
  const along walk = {classes};
  vector_of<T> maximum = walk.maximum(x);
  halfway<T, log> before = {};
  for (int64_t row = 0; row < rows; ++row) {
    const T *const at = x + row * classes, *const next = row + 1 < rows ? at + classes : at;
    T *const to = y + row * classes, *const next_to = to + (next - at);
    const halfway<T, log> half = begin_forward<log>(walk, at, to, maximum, [&](int64_t i) {
      __builtin_prefetch(next + i);
      __builtin_prefetch(next_to + i, 1);
    });
    maximum = walk.maximum(next);
    if (row > 0) finish_forward<log>(walk, at - classes, to - classes, before);
    before = half;
  }
  finish_forward<log>(walk, x + (rows - 1) * classes, y + (rows - 1) * classes, before);
}

template <class T, bool log>
void forward(const void* from, void* to, int64_t classes, int64_t inner, int64_t begin, int64_t end) {
  using V = vector_of<T>;
  const T* const x = static_cast<const T*>(from);
  T* const y = static_cast<T*>(to);
  if (is_row(classes, inner)) return forward_rows<log>(x + begin * classes, y + begin * classes, classes, end - begin);
  if (is_tiled(classes)) {
    T tile[tile_elements];
    const tile_layout layout(classes, inner);
    const down walk = {classes, layout.stride, lanes<V>};
    layout.each(begin, end, [&](int64_t first, int columns) {
      layout.load(tile, x, first, columns);
      for (int j = 0; j < columns; j += lanes<V>) forward_columns<log>(walk, tile + j, tile + j);
      layout.store(y, tile, first, columns);
    });
    return;
  }
  by_columns<V>(classes, inner, begin, end,
                [&](int64_t at, int n, int64_t) { forward_columns<log>(down{classes, inner, n}, x + at, y + at); });
}

// softmax: dx = y (dy - sum of dy y); log-softmax: dx = dy - e^y sum of dy
template <class V, bool log>
FASTNN_FN V gradient(V dy, V y, V sum) {
  if constexpr (log)
    return fnmadd(exp_of_nonpositive(y), sum, dy);
  else
    return y * (dy - sum);
}

template <bool log, class Walk, class T>
FASTNN_FN void backward_along(const Walk& walk, const T* dy, const T* y, T* dx) {
  using V = vector_of<T>;
  const wide<V> sum = walk.template products<V>(
      [&](int64_t at, int64_t, int n) { return pair<V>{load_some(dy + at, n), log ? V(1.0f) : load_some(y + at, n)}; });
  const V total = to_narrow(sum);
  each_vector<V>(walk, [&](int64_t at, int64_t, int n) {
    store_some(dx + at, gradient<V, log>(load_some(dy + at, n), load_some(y + at, n), total), n);
  });
}

template <class T, bool log>
void backward(const void* incoming, const void* result, void* to, int64_t classes, int64_t inner, int64_t begin,
              int64_t end) {
  using V = vector_of<T>;
  const T *const dy = static_cast<const T*>(incoming), *const y = static_cast<const T*>(result);
  T* const dx = static_cast<T*>(to);
  if (is_row(classes, inner)) {
    for (int64_t row = begin; row < end; ++row)
      backward_along<log>(along{classes}, dy + row * classes, y + row * classes, dx + row * classes);
    return;
  }
  if (is_tiled(classes)) {
    T first_tile[tile_elements], second_tile[tile_elements];
    const tile_layout layout(classes, inner);
    const down walk = {classes, layout.stride, lanes<V>};
    layout.each(begin, end, [&](int64_t first, int columns) {
      layout.load(first_tile, dy, first, columns);
      layout.load(second_tile, y, first, columns);
      for (int j = 0; j < columns; j += lanes<V>)
        backward_along<log>(walk, first_tile + j, second_tile + j, first_tile + j);
      layout.store(dx, first_tile, first, columns);
    });
    return;
  }
  by_columns<V>(classes, inner, begin, end, [&](int64_t at, int n, int64_t) {
    backward_along<log>(down{classes, inner, n}, dy + at, y + at, dx + at);
  });
}

constexpr Softmax table = {
    {{forward<float, false>, forward<double, false>, forward<binary16, false>, forward<bfloat16, false>},
     {forward<float, true>, forward<double, true>, forward<binary16, true>, forward<bfloat16, true>}},
    {{backward<float, false>, backward<double, false>, backward<binary16, false>, backward<bfloat16, false>},
     {backward<float, true>, backward<double, true>, backward<binary16, true>, backward<bfloat16, true>}}};

}  // namespace
FASTNN_END

FASTNN_FAMILY_TABLE(Softmax, softmax, (fastnn::table))
