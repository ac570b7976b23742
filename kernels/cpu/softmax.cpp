// softmax and log-softmax, for one instruction set. Operations an element, forward: a comparison, 16 for the
// exponential, 4 for its sum in double, 2 for the quotient (3 for the logarithm's difference).
#include "softmax.hpp"

#include "softmax_loops.hpp"

FASTNN_BEGIN
namespace {

using namespace fastnn_cpu;

template <class T, bool log>
FASTNN_FN void forward_columns(const T* x, T* y, std::int64_t classes, std::int64_t stride, int n) {
  using V = vector_of<T>;
  const V maximum = column_maximum(x, classes, stride, n);
  const softmax_shift<V> shift = softmax_shift_of(maximum);
  if constexpr (log) {
    const softmax_sums<V> sums = column_sums(x, classes, stride, n, maximum, shift, [](std::int64_t, V) {});
    const log_softmax_shift<V> total = log_softmax_shift_of(shift, sums.log());
    for (std::int64_t c = 0; c < classes; ++c)
      store_columns(y + c * stride, log_softmax(load_columns(x + c * stride, n), total), n);
  } else {
    const wide<V> sum = column_sum(x, classes, stride, n, shift, [&](std::int64_t c, V e) {
      if constexpr (keeps<T>) store_columns(y + c * stride, e, n);
    });
    const two_part<V> factor = quotient(broadcast_wide<V>(1.0), sum);
    for (std::int64_t c = 0; c < classes; ++c) {
      V e = load_columns((keeps<T> ? y : x) + c * stride, n);
      if constexpr (!keeps<T>) e = softmax_exp(e, shift);
      store_columns(y + c * stride, times(e, factor), n);
    }
  }
}

// The maximum of the next row is looked for while this row's sum is on its way through the divider.
template <class T, bool log>
FASTNN_FN void forward_row(const T* x, T* y, std::int64_t n, vector_of<T> maximum, const T* next,
                           vector_of<T>& next_maximum) {
  using V = vector_of<T>;
  const softmax_shift<V> shift = softmax_shift_of(maximum);
  if constexpr (log) {
    const softmax_sums<V> sums = row_sums(x, n, maximum, shift, [](std::int64_t, V, int) {});
    const log_softmax_shift<V> total = log_softmax_shift_of(shift, sums.log());
    next_maximum = row_maximum(next, n);
    by_vectors<V>(n, [&](std::int64_t i, int count) {
      store_columns(y + i, log_softmax(load_columns(x + i, count), total), count);
    });
  } else {
    const double sum = exp_sum(x, n, shift, [&](std::int64_t i, V e, int count) {
      if constexpr (keeps<T>) store_columns(y + i, e, count);
      __builtin_prefetch(next + i);
      __builtin_prefetch(y + (next - x) + i, 1);
    });
    const two_part<V> factor = quotient(broadcast_wide<V>(1.0), broadcast_wide<V>(sum));
    next_maximum = row_maximum(next, n);
    by_vectors<V>(n, [&](std::int64_t i, int count) {
      V e = load_columns((keeps<T> ? y : x) + i, count);
      if constexpr (!keeps<T>) e = softmax_exp(e, shift);
      store_columns(y + i, times(e, factor), count);
    });
  }
}

template <class T, bool log>
void forward(const void* from, void* to, std::int64_t classes, std::int64_t inner, std::int64_t begin,
             std::int64_t end) {
  using V = vector_of<T>;
  const T* const x = static_cast<const T*>(from);
  T* const y = static_cast<T*>(to);
  if (is_row(classes, inner)) {
    V maximum = row_maximum(x + begin * classes, classes);
    for (std::int64_t row = begin; row < end; ++row) {
      const std::int64_t next = row + 1 < end ? row + 1 : begin;
      forward_row<T, log>(x + row * classes, y + row * classes, classes, maximum, x + next * classes, maximum);
    }
    return;
  }
  if (is_tiled(classes)) {
    T tile[tile_elements];
    const tile_layout layout(classes, inner);
    layout.each(begin, end, [&](std::int64_t first, int columns) {
      layout.load(tile, x, first, columns);
      for (int j = 0; j < columns; j += lanes<V>)
        forward_columns<T, log>(tile + j, tile + j, classes, layout.stride, lanes<V>);
      layout.store(y, tile, first, columns);
    });
    return;
  }
  by_columns(classes, inner, lanes<V>, begin, end, [&](std::int64_t at, int n, std::int64_t) {
    forward_columns<T, log>(x + at, y + at, classes, inner, n);
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
template <class V, bool log>
FASTNN_FN wide<V> gradient_term(V dy, V y) {
  if constexpr (log)
    return to_wide(dy);
  else
    return to_wide(dy) * to_wide(y);
}

template <class T, bool log>
FASTNN_FN void backward_columns(const T* dy, const T* y, T* dx, std::int64_t classes, std::int64_t stride, int n) {
  using V = vector_of<T>;
  wide<V> sum = broadcast_wide<V>(0.0);
  for (std::int64_t c = 0; c < classes; ++c)
    sum = sum + gradient_term<V, log>(load_first_columns(dy + c * stride, n), load_first_columns(y + c * stride, n));
  const V total = to_narrow(sum);
  for (std::int64_t c = 0; c < classes; ++c) {
    const V g = load_first_columns(dy + c * stride, n), v = load_first_columns(y + c * stride, n);
    store_columns(dx + c * stride, gradient<V, log>(g, v, total), n);
  }
}
template <class T, bool log>
FASTNN_FN void backward_row(const T* dy, const T* y, T* dx, std::int64_t n) {
  using V = vector_of<T>;
  compensated sum;
  for (std::int64_t i = 0; i < n; i += sum_block) {
    const std::int64_t end = n - i < sum_block ? n : i + sum_block;
    lanes16 sums = broadcast16(0.0);
    for (std::int64_t k = i; k < end; k += sum_lanes) {
      const int left = static_cast<int>(end - k < sum_lanes ? end - k : sum_lanes);
      const lanes16 g = left == sum_lanes ? load16<storage<T>>(dy + k) : load16_first<storage<T>>(dy + k, left);
      if constexpr (log) {
        sums = sums + g;
      } else {
        const lanes16 v = left == sum_lanes ? load16<storage<T>>(y + k) : load16_first<storage<T>>(y + k, left);
        sums = map16(g, v, sums, [](vdouble a, vdouble b, vdouble c) { return fmadd(a, b, c); });
      }
    }
    sum.add(total(sums));
  }
  const V all(static_cast<scalar_t<V>>(sum.value()));
  by_vectors<V>(n, [&](std::int64_t i, int count) {
    const V g = load_first_columns(dy + i, count), v = load_first_columns(y + i, count);
    store_columns(dx + i, gradient<V, log>(g, v, all), count);
  });
}

template <class T, bool log>
void backward(const void* incoming, const void* result, void* to, std::int64_t classes, std::int64_t inner,
              std::int64_t begin, std::int64_t end) {
  using V = vector_of<T>;
  const T *const dy = static_cast<const T*>(incoming), *const y = static_cast<const T*>(result);
  T* const dx = static_cast<T*>(to);
  if (is_row(classes, inner)) {
    for (std::int64_t row = begin; row < end; ++row)
      backward_row<T, log>(dy + row * classes, y + row * classes, dx + row * classes, classes);
    return;
  }
  if (is_tiled(classes)) {
    T first_tile[tile_elements], second_tile[tile_elements];
    const tile_layout layout(classes, inner);
    layout.each(begin, end, [&](std::int64_t first, int columns) {
      layout.load(first_tile, dy, first, columns);
      layout.load(second_tile, y, first, columns);
      for (int j = 0; j < columns; j += lanes<V>)
        backward_columns<T, log>(first_tile + j, second_tile + j, first_tile + j, classes, layout.stride, lanes<V>);
      layout.store(dx, first_tile, first, columns);
    });
    return;
  }
  by_columns(classes, inner, lanes<V>, begin, end, [&](std::int64_t at, int n, std::int64_t) {
    backward_columns<T, log>(dy + at, y + at, dx + at, classes, inner, n);
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
