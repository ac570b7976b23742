// Pooling: the step of a maximum, and which elements of an axis a window covers.
#pragma once
#include "simd.hpp"

FASTNN_BEGIN

// The maximum so far, and the next element of the window in row-major order. A NaN always takes over and is never
// replaced by a number; of equal elements (-0 and 0 are) the first stays. vmax(v, best) is v > best ? v : best, which
// gets all of it right but a NaN in v.
//
// Rejected: !(v <= best), one comparison, which lets a number replace NaN.
template <class V>
FASTNN_FN mask_t<V> takes_over(V best, V v) {
  return (v > best) | (v != v);
}
template <class V>
FASTNN_FN V pooled_max(V best, V v) {
  return select(v != v, v, vmax(v, best));
}

// Where window o of an axis begins (perhaps below 0), and which of its elements k, at first + k * dilation, lie inside:
// begin <= k < end.
struct pooling_span {
  long long first, begin, end;
};
template <class Axis>
FASTNN_FN pooling_span span_of(const Axis& a, long long o) {
  const long long first = o * a.stride - a.before;
  long long begin = 0, end = a.kernel;
  const auto steps = [&](long long length) {  // a division costs more than a small window
    return a.dilation == 1 ? length : (length + a.dilation - 1) / a.dilation;
  };
  if (FASTNN_UNLIKELY(first < 0)) begin = steps(-first);
  if (FASTNN_UNLIKELY(first + (a.kernel - 1) * a.dilation >= a.in)) end = first < a.in ? steps(a.in - first) : 0;
  return {first, begin < end ? begin : end, end};
}

FASTNN_END
