// softmax and log-softmax, for one instruction set. Operations an element, forward: a comparison, 16 for the
// exponential, 4 for its sum in double, 2 for the quotient (3 for the logarithm's difference).
#include "softmax.hpp"

#include "softmax_loops.hpp"

FASTNN_BEGIN
namespace {

using namespace fastnn_cpu;

// What there is to do while a sum is on its way through the divider: nothing, or look for the maximum of the next row,
// whose memory is fetched beforehand.
struct nothing {
  FASTNN_FN void fetch(int64_t) const {}
  FASTNN_FN void meanwhile() const {}
};
template <class T>
struct next_row {
  const along& walk;
  const T* x;
  T* y;
  vector_of<T>& maximum;

  FASTNN_FN void fetch(int64_t at) const {
    __builtin_prefetch(x + at);
    __builtin_prefetch(y + at, 1);
  }
  FASTNN_FN void meanwhile() const { maximum = walk.maximum(x); }
};

template <bool log, class Walk, class T, class Next>
FASTNN_FN void forward_along(const Walk& walk, const T* x, T* y, vector_of<T> maximum, const Next& next) {
  using V = vector_of<T>;
  const softmax_shift<V> shift = softmax_shift_of(maximum);
  if constexpr (log) {
    const softmax_sums<V> sums = exponential_sums(walk, x, maximum, shift, [&](int64_t at, V, int) { next.fetch(at); });
    const log_softmax_shift<V> total = log_softmax_shift_of(shift, sums.log());
    next.meanwhile();
    each_vector<V>(
        walk, [&](int64_t at, int64_t, int n) { store_some(y + at, log_softmax(load_logits(x + at, n), total), n); });
  } else {
    const wide<V> sum = walk.template sum<V>([&](int64_t at, int64_t, int n) {
      const V e = softmax_exp(load_logits(x + at, n), shift);
      next.fetch(at);
      if constexpr (keeps<T>) store_some(y + at, e, n);
      return e;
    });
    const two_part<V> factor = quotient(broadcast_wide<V>(1.0), sum);
    next.meanwhile();
    each_vector<V>(walk, [&](int64_t at, int64_t, int n) {
      V e = load_logits((keeps<T> ? y : x) + at, n);
      if constexpr (!keeps<T>) e = softmax_exp(e, shift);
      store_some(y + at, times(e, factor), n);
    });
  }
}

template <class T, bool log>
void forward(const void* from, void* to, int64_t classes, int64_t inner, int64_t begin, int64_t end) {
  using V = vector_of<T>;
  const T* const x = static_cast<const T*>(from);
  T* const y = static_cast<T*>(to);
  if (is_row(classes, inner)) {
    const along walk = {classes};
    V maximum = walk.maximum(x + begin * classes);
    for (int64_t row = begin; row < end; ++row) {
      const int64_t next = row + 1 < end ? row + 1 : begin;
      forward_along<log>(walk, x + row * classes, y + row * classes, maximum,
                         next_row<T>{walk, x + next * classes, y + next * classes, maximum});
    }
    return;
  }
  if (is_tiled(classes)) {
    T tile[tile_elements];
    const tile_layout layout(classes, inner);
    const down walk = {classes, layout.stride, lanes<V>};
    layout.each(begin, end, [&](int64_t first, int columns) {
      layout.load(tile, x, first, columns);
      for (int j = 0; j < columns; j += lanes<V>)
        forward_along<log>(walk, tile + j, tile + j, walk.maximum(tile + j), nothing());
      layout.store(y, tile, first, columns);
    });
    return;
  }
  by_columns<V>(classes, inner, begin, end, [&](int64_t at, int n, int64_t) {
    const down walk = {classes, inner, n};
    forward_along<log>(walk, x + at, y + at, walk.maximum(x + at), nothing());
  });
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
