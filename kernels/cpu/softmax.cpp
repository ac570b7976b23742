// softmax and log-softmax, for one instruction set. Operations an element, forward: a comparison, 16 for the
// exponential, 4 for its sum in double, 2 for the quotient (3 for the logarithm's difference).
#include "softmax.hpp"

#include "halves.hpp"

FASTNN_BEGIN
namespace {

struct yes {
  static constexpr bool value = true;
};
struct no {
  static constexpr bool value = false;
};

// What a walk knows of a column once it has seen all of it: enough to finish the output, whose exponentials stand in y.
template <class T, bool log>
struct halfway {
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
    const auto sum = [&](auto subtracts) {
      return walk.template sum<V>([&](int64_t at, int64_t, int n) {
        const V e = softmax_exp<decltype(subtracts)::value>(load_logits(x + at, n), shift);
        fetch(at);
        store_some(y + at, e, n);
        return e;
      });
    };
    wide<V> total;
    if constexpr (Walk::one_column)
      total = all(shift.subtracted == V(0.0f)) ? sum(no()) : sum(yes());
    else
      total = sum(yes());
    return {quotient(broadcast_wide<V>(1.0), total)};
  }
}
template <bool log, class Walk, class T>
FASTNN_FN void finish_forward(const Walk& walk, const T* x, T* y, const halfway<T, log>& half) {
  using V = vector_of<T>;
  each_vector<V>(walk, [&](int64_t at, int64_t, int n) {
    if constexpr (log) {
      store_some(y + at, log_softmax(load_logits(x + at, n), half.total), n);
    } else {
      store_some(y + at, times(load_some(y + at, n), half.factor), n);
    }
  });
}
template <bool log, class T>
FASTNN_FN void forward_columns(const down& walk, const T* x, T* y) {
  finish_forward<log>(walk, x, y, begin_forward<log>(walk, x, y, walk.maximum(x), [](int64_t) {}));
}
template <bool log, class T>
__attribute__((noinline)) void forward_tile(T* tile, const tile_layout& layout, int columns) {
  constexpr int step = lanes<vector_of<T>>;
  const down walk = {layout.classes, layout.stride, step};
  for (int j = 0; j < columns; j += step) forward_columns<log>(walk, tile + j, tile + j);
}

// A row is finished one row late, and the maximum of the next one looked for before: what ends in one number, and in a
// division, has long come to its end when it is needed. The next row is fetched meanwhile.
template <bool log, class T>
__attribute__((noinline)) void forward_rows(const T* x, T* y, int64_t classes, int64_t rows) {
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
void forward(const void* from, void* to, int64_t classes, int64_t inner, int64_t begin, int64_t end, void*) {
  using V = vector_of<T>;
  const T* const x = static_cast<const T*>(from);
  T* const y = static_cast<T*>(to);
  if (is_row(classes, inner)) return forward_rows<log>(x + begin * classes, y + begin * classes, classes, end - begin);
  if (is_tiled(classes)) {
    T tile[tile_elements];
    const tile_layout layout(classes, inner);
    layout.each(begin, end, [&](int64_t first, int columns) {
      layout.load(tile, x, first, columns);
      forward_tile<log>(tile, layout, columns);
      layout.store(y, tile, first, columns);
    });
    return;
  }
  by_columns<V>(classes, inner, begin, end,
                [&](int64_t at, int n, int64_t) { forward_columns<log>(down{classes, inner, n}, x + at, y + at); });
}

template <bool log>
__attribute__((noinline)) void forward_halves(const halves& pieces, const void* x, void* y, int64_t begin,
                                              int64_t end) {
  pieces.each(begin, end, [&](int64_t first, int columns) {
    float* const at = pieces.first;
    pieces.load(at, x, first, columns);
    if (pieces.rows)
      forward_rows<log>(at, at, pieces.layout.classes, columns);
    else
      forward_tile<log>(at, pieces.layout, columns);
    pieces.store(y, at, first, columns);
  });
}
template <class T, bool log>
void forward_half(const void* x, void* y, int64_t classes, int64_t inner, int64_t begin, int64_t end, void* room) {
  forward_halves<log>(halves(half_format_of<T>, classes, inner, room), x, y, begin, end);
}

template <class V, bool log>
FASTNN_FN V gradient(V dy, V y, V sum) {
  if constexpr (log)
    return log_softmax_gradient(dy, y, sum);
  else
    return softmax_gradient(dy, y, sum);
}

template <bool log, class Walk, class T>
FASTNN_FN void backward_along(const Walk& walk, const T* dy, const T* y, T* dx) {
  using V = vector_of<T>;
  const wide<V> sum = walk.template sum<V>([&](int64_t at, int64_t, int n) {
    const V g = load_some(dy + at, n);
    return log ? g : g * load_some(y + at, n);
  });
  const V total = to_narrow(sum);
  each_vector<V>(walk, [&](int64_t at, int64_t, int n) {
    store_some(dx + at, gradient<V, log>(load_some(dy + at, n), load_some(y + at, n), total), n);
  });
}

template <bool log, class T>
__attribute__((noinline)) void backward_rows(const T* dy, const T* y, T* dx, int64_t classes, int64_t rows) {
  for (int64_t i = 0; i < rows * classes; i += classes) backward_along<log>(along{classes}, dy + i, y + i, dx + i);
}
// To where dy is
template <bool log, class T>
__attribute__((noinline)) void backward_tile(T* dy, const T* y, const tile_layout& layout, int columns) {
  constexpr int step = lanes<vector_of<T>>;
  const down walk = {layout.classes, layout.stride, step};
  for (int j = 0; j < columns; j += step) backward_along<log>(walk, dy + j, y + j, dy + j);
}

template <class T, bool log>
void backward(const void* incoming, const void* result, void* to, int64_t classes, int64_t inner, int64_t begin,
              int64_t end, void*) {
  using V = vector_of<T>;
  const T *const dy = static_cast<const T*>(incoming), *const y = static_cast<const T*>(result);
  T* const dx = static_cast<T*>(to);
  if (is_row(classes, inner)) {
    const int64_t at = begin * classes;
    return backward_rows<log>(dy + at, y + at, dx + at, classes, end - begin);
  }
  if (is_tiled(classes)) {
    T first_tile[tile_elements], second_tile[tile_elements];
    const tile_layout layout(classes, inner);
    layout.each(begin, end, [&](int64_t first, int columns) {
      layout.load(first_tile, dy, first, columns);
      layout.load(second_tile, y, first, columns);
      backward_tile<log>(first_tile, second_tile, layout, columns);
      layout.store(dx, first_tile, first, columns);
    });
    return;
  }
  by_columns<V>(classes, inner, begin, end, [&](int64_t at, int n, int64_t) {
    backward_along<log>(down{classes, inner, n}, dy + at, y + at, dx + at);
  });
}

template <bool log>
__attribute__((noinline)) void backward_halves(const halves& pieces, const void* dy, const void* y, void* dx,
                                               int64_t begin, int64_t end) {
  pieces.each(begin, end, [&](int64_t first, int columns) {
    float *const g = pieces.first, *const at = pieces.second;
    pieces.load(g, dy, first, columns);
    pieces.load(at, y, first, columns);
    if (pieces.rows)
      backward_rows<log>(g, at, g, pieces.layout.classes, columns);
    else
      backward_tile<log>(g, at, pieces.layout, columns);
    pieces.store(dx, g, first, columns);
  });
}
template <class T, bool log>
void backward_half(const void* dy, const void* y, void* dx, int64_t classes, int64_t inner, int64_t begin, int64_t end,
                   void* room) {
  backward_halves<log>(halves(half_format_of<T>, classes, inner, room), dy, y, dx, begin, end);
}

#define FASTNN_EACH_DTYPE(f, log) {f<float, log>, f<double, log>, f##_half<binary16, log>, f##_half<bfloat16, log>}
constexpr Softmax table = {{FASTNN_EACH_DTYPE(forward, false), FASTNN_EACH_DTYPE(forward, true)},
                           {FASTNN_EACH_DTYPE(backward, false), FASTNN_EACH_DTYPE(backward, true)}};

}  // namespace
FASTNN_END

FASTNN_FAMILY_TABLE(Softmax, softmax, (fastnn::table))
