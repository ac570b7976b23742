// softmax and log-softmax over V: e^(x - max) and the logarithm of the sum, without x - max being rounded.
//
// Rounding x - max costs up to |x - max| / 2 ULP of the exponential, 50 of them in the tail. So nothing is subtracted
// from x: e^x = 2^n (1 + t) is reduced as it stands, and the maximum enters as the integer N = round(max / ln2), by
// which all exponents of a row are lowered: e^x 2^-N is between 0 and a small number. Only where |x| is too large for
// that reduction is max subtracted, which is exact there (Sterbenz 1974) for all x whose exponential is not 0. A
// common factor 2^lift keeps exponentials normal wherever their quotient by the sum is not 0.
//
// Rejected: the error term of the subtraction by two-sum, five operations an element more; max of the whole row as
// first argument of ldexp, which needs two scalings.
#pragma once
#include "vmath.hpp"
#include "wide.hpp"

FASTNN_BEGIN

template <class S>
struct softmax_range;
template <>
struct softmax_range<float> {
  static constexpr int lift = 25, zero_below = 152;  // e^x 2^-N is 0 from 2^-zero_below on: lift + bias
  static constexpr float subtract_below = -105.0f, subtract_above = 210.0f;
};
template <>
struct softmax_range<double> {
  static constexpr int lift = 54, zero_below = 1077;
  static constexpr double subtract_below = -709.5, subtract_above = 1419.0;
};

// What a row's maximum makes of e^x.
template <class V>
struct softmax_shift {
  V subtracted;    // from x: 0, or the maximum
  V low;           // x is at least this from here on, where the exponential is 0
  V shifter, top;  // shifter + bias + lift - N; and N times ln2, about
};
template <class V>
FASTNN_FN softmax_shift<V> softmax_shift_of(V maximum) {
  using C = constants<scalar_t<V>>;
  using R = softmax_range<scalar_t<V>>;
  const V zero(0.0f);
  const mask_t<V> far = (maximum < V(R::subtract_below)) | (maximum > V(R::subtract_above));
  const V subtracted = select(far, maximum, zero), n = nearest_product(maximum - subtracted, V(C::log2e));
  return {subtracted, (n - V(scalar_t<V>(R::zero_below))) * V(C::ln2_hi),
          V(format_of<V>::shifter + format_of<V>::bias + R::lift) - n, maximum - subtracted};
}
// e^(x - max) 2^lift up to a factor that is the same for a whole row. NaN where x or the shift is.
// Where nothing is subtracted it need not be.
template <bool subtracts = true, class V>
FASTNN_FN V softmax_exp(V x, const softmax_shift<V>& k) {
  using C = constants<scalar_t<V>>;
  const V u = vmax(k.low, subtracts ? x - k.subtracted : x);
  const V shifted = fmadd(u, V(C::log2e), k.shifter);
  const V n = shifted - k.shifter;
  const V r = fnmadd(n, V(C::ln2_lo), fnmadd(n, V(C::ln2_hi), u)), r2 = r * r;
  const V t = fmadd(r2, polynomial<exp_tail>(r, r2), r),
          power = from_bits<V>(shl<format_of<V>::mantissa>(bits(shifted)));
  return fmadd(power, t, power);
}

// log(1 + t) for t >= 0: 1 + t = 2^k (1 + e) with e in [0, 1), where e is t itself for k = 0.
template <class V>
FASTNN_FN V log1p_nonnegative(V t) {
  using C = constants<scalar_t<V>>;
  using B = bits_t<V>;
  constexpr int mantissa = format_of<V>::mantissa;
  const V sum = V(1.0f) + t;
  // The exponent field in the low bits of 2^mantissa, as a number
  const V magic = from_bits<V>(bits(V(format_of<V>::shifter)) | shr<mantissa>(bits(sum)));
  const V k = magic - V(format_of<V>::shifter + format_of<V>::bias);
  const V fraction = from_bits<V>((bits(sum) & B((typename format_of<V>::uint(1) << mantissa) - 1)) | bits(V(1.0f)));
  const V e = select(sum < V(2.0f), t, fraction - V(1.0f));
  const V log = fmadd(k, V(C::ln2_hi), fmadd(k, V(C::ln2_lo), log1p_unit(e)));
  return select(t <= V(format_of<V>::largest), log, t);  // infinity, NaN
}

// What is left of a row once it is summed up, from `tail`, the sum of the exponentials of what is below the maximum,
// and `ties`, how often that occurs: nothing is lost where the maximum dominates.
template <class V>
struct softmax_sums {
  V maximum;
  wide<V> tail, ties, top;  // top: the exponential of the maximum

  FASTNN_FN wide<V> sum() const {
    return map([](vdouble t, vdouble n, vdouble e) { return fmadd(n, e, t); }, tail, ties, top);
  }
  // log of the sum of e^(x - max)
  FASTNN_FN wide<V> log() const {
    return map([](vdouble t, vdouble n, vdouble e) { return log1p_nonnegative(t / e + (n - vdouble(1.0))); }, tail,
               ties, top);
  }
};

// A double as the sum of two V, so that e * factor is right but for one rounding of the product.
template <class V>
struct two_part {
  V hi, lo;
};
FASTNN_FN two_part<vfloat> split(const wide<vfloat>& x) {
  const vfloat hi = to_narrow(x);
  return {hi, to_narrow(x - to_wide(hi))};
}
FASTNN_FN two_part<vdouble> split(const wide<vdouble>& x) { return {x.part[0], vdouble(0.0)}; }

// numerator / sum in two parts
FASTNN_FN two_part<vfloat> quotient(const wide<vfloat>& numerator, const wide<vfloat>& sum) {
  return split(numerator / sum);
}
FASTNN_FN two_part<vdouble> quotient(const wide<vdouble>& numerator, const wide<vdouble>& sum) {
  const vdouble n = numerator.part[0], s = sum.part[0], q = n / s, p = q * s;
  return {q, ((n - p) - product_error(q, s, p)) / s};
}
template <class V>
FASTNN_FN V times(V e, const two_part<V>& factor) {
  return fmadd_once(e, factor.hi, e * factor.lo);
}

// log-softmax: y = ((x - subtracted) - hi) - lo, with hi + lo = log of the sum of e^(x - subtracted)
template <class V>
struct log_softmax_shift {
  V subtracted, hi, lo;
};
template <class V>
FASTNN_FN log_softmax_shift<V> log_softmax_shift_of(const softmax_shift<V>& k, const wide<V>& log) {
  const wide<V> a = to_wide(k.top), sum = a + log, d = sum - a;  // two-sum (Knuth)
  const V hi = to_narrow(sum);
  return {k.subtracted, hi, to_narrow((sum - to_wide(hi)) + ((a - (sum - d)) + (log - d)))};
}
template <class V>
FASTNN_FN V log_softmax(V x, const log_softmax_shift<V>& k) {
  return ((x - k.subtracted) - k.hi) - k.lo;
}

// Gradients, `sum` being that of dy y, for log-softmax that of dy: dx = y (dy - sum), and dy - e^y sum.
template <class V>
FASTNN_FN V softmax_gradient(V dy, V y, V sum) {
  return y * (dy - sum);
}
template <class V>
FASTNN_FN V log_softmax_gradient(V dy, V y, V sum) {
  return fnmadd(exp_of_nonpositive(y), sum, dy);
}

FASTNN_END
