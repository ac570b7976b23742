// Normalisation over the value type V: y = (x - mean) / sqrt(variance + eps) gamma + beta and its gradient.
//
// Statistics are sums of d = x - shift and of d^2, where the shift is the mean of the first few elements. Four terms
// are added up in the type that is computed in, those sums in double. With n elements,
//   mean = shift + sum(d) / n,   variance = (sum(d^2) - sum(d)^2 / n) / n,
// and what cancels in the second is (mean - shift)^2 / variance, about 1 for any data whose first elements are not
// outliers; where they are (`rough`), the sums are taken once more, about the mean just found. Neither a large mean,
// beside which x - shift is exact, nor a large number of elements can hurt.
//
// A mean of 1e4 is off by 5e-4 as a float, which a standard deviation of 1e-2 makes 5 per cent of. So loops subtract
// the mean in two parts, hi + lo: x - hi is exact wherever it matters, (x - hi) - lo rounded once.
#pragma once
#include "simd.hpp"

FASTNN_BEGIN
namespace normalization {

struct moments {
  double mean, rest;  // the mean is their sum, more exactly than a double can say
  double variance;    // biased
  bool rough;
};

FASTNN_FN moments moments_of(double shift, double sum, double squares, double n) {
  const double step = sum / n, spread = squares - sum * step;
  const double mean = shift + step, moved = mean - shift;
  const double rest = (shift - (mean - moved)) + (step - moved);  // Knuth's two-sum
  const double variance = spread < 0.0 ? 0.0 : spread / n;        // NaN stays
  return {mean, rest, variance, squares <= format<double>::largest && sum * step > 8.0 * spread};
}

template <class P>
FASTNN_FN P reciprocal_root(double variance, double eps) {
  return static_cast<P>(1.0 / vsqrt(variance + eps));
}

// The mean in two parts of the type that is computed in.
template <class P>
struct centre {
  P hi, lo;
};
template <class P>
FASTNN_FN centre<P> centre_of(double mean, double rest) {
  const P hi = static_cast<P>(mean);
  const double low = (mean - static_cast<double>(hi)) + rest;
  return {hi, low - low == 0.0 ? static_cast<P>(low) : P(0)};  // an infinite mean has no rest
}

template <class V>
FASTNN_FN V centred(V x, V hi, V lo) {
  return (x - hi) - lo;
}

// Batch norm: one scale = gamma inv_std and one beta for a whole channel.
struct by_channel {
  template <class V>
  static FASTNN_FN V forward(V x, V hi, V lo, V scale, V beta) {
    return fmadd(centred(x, hi, lo), scale, beta);
  }
  // With t = x - mean and sums over the n elements of a channel,
  //   dx = scale (dy - sum(dy) / n - t inv_std^2 sum(dy t) / n).
  // The sums are those of dbeta and dgamma = inv_std sum(dy t); slope = inv_std^2 sum(dy t) / n.
  template <class V>
  static FASTNN_FN V backward(V dy, V x, V hi, V lo, V scale, V mean_dy, V slope) {
    return scale * fnmadd(centred(x, hi, lo), slope, dy - mean_dy);
  }
};

// Layer, group, instance and RMS norm: statistics of a row, whose elements may have a gamma and beta each.
struct by_row {
  template <class V>
  static FASTNN_FN V forward(V x, V hi, V lo, V inv_std, V gamma, V beta) {
    return fmadd(centred(x, hi, lo) * inv_std, gamma, beta);
  }
  // The same gradient for g = dy gamma, which is what the normalised row receives.
  template <class V>
  static FASTNN_FN V backward(V dy, V x, V hi, V lo, V inv_std, V gamma, V mean_g, V slope) {
    return backward_of(dy, centred(x, hi, lo), inv_std, gamma, mean_g, slope);
  }
  template <class V>
  static FASTNN_FN V backward_of(V dy, V t, V inv_std, V gamma, V mean_g, V slope) {
    return inv_std * fnmadd(t, slope, fmsub(dy, gamma, mean_g));
  }
};

}  // namespace normalization
FASTNN_END
