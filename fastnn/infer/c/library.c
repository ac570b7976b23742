/* What exported files are made of, beside the formulas of activations: pieces parted by empty lines, of which a file
   gets those that it uses. They are written for float; those of double follow by their names (see library.py). Sums run
   in the order of the kernels in kernels/, so that results have their bits. */

/* a b + c rounded once */
#define FMA_F32(a, b, c) fmaf(a, b, c)

/* a b + c where sums of products are chains of it */
#ifdef FASTNN_NO_FMA
#define CHAIN_F32(a, b, c) ((a) * (b) + (c))
#else
#define CHAIN_F32(a, b, c) fmaf(a, b, c)
#endif

static uint32_t bits_f32(float x) {
  uint32_t u;
  memcpy(&u, &x, sizeof u);
  return u;
}

static float from_bits_f32(uint32_t u) {
  float x;
  memcpy(&x, &u, sizeof x);
  return x;
}

/* 2^n from a sum that has n and the exponents' bias in its low bits */
static float exponent_of_f32(float shifted) {
  return from_bits_f32(bits_f32(shifted) << MANTISSA_F32);
}

/* the low two bits of shifted + offset at the top of a number: 0, 2, -0 and -2 */
static float quadrant_code_f32(float shifted, uint32_t offset) {
  return from_bits_f32((bits_f32(shifted) + offset) << (WIDTH_F32 - 2));
}

/* x, negated where the sign bit of sign is set */
static float flip_sign_f32(float x, float sign) {
  return from_bits_f32(bits_f32(x) ^ (bits_f32(sign) & SIGN_F32));
}

/* 16 sums as one: lane k and lane k + 8 first, then by halves */
static double total16(double *sums) {
  size_t width, k;
  for (width = 8; width > 0; width /= 2)
    for (k = 0; k < width; ++k) sums[k] += sums[k + width];
  return sums[0];
}

/* The sums of x - centre and of its square: lane i mod 16 takes element i, four terms are added up in the type of x,
   then in double. */
static void spread_f32(const float *x, size_t n, float centre, double *sum, double *squares) {
  double sums[16] = {0}, products[16] = {0};
  size_t i = 0, k, u;
  while (i < n) {
    const size_t runs = n - i >= 64 ? 4 : n - i >= 16 ? (n - i) / 16 : 1;
    for (k = 0; k < 16 && i + k < n; ++k) {
      float a = 0, b = 0;
      for (u = 0; u < runs; ++u) {
        const float d = x[i + 16 * u + k] - centre;
        a += d;
        b = FMA_F32(d, d, b);
      }
      sums[k] += (double)a;
      products[k] += (double)b;
    }
    i += 16 * runs;
  }
  *sum = total16(sums);
  *squares = total16(products);
}

/* Layer, group, instance and RMS norm of one row: ((x - mean) inv_std) gamma + beta; a gamma and a beta for every `run`
   elements. The mean is subtracted in two parts. */
static void row_norm_f32(const float *x, float *y, size_t n, const float *gamma, const float *beta, size_t run,
                         double eps, int centred) {
  const size_t some = n < 4 ? n : 4;
  double sum, squares, mean = 0.0, rest = 0.0, variance;
  float hi, lo, inv_std, shift = 0;
  size_t i;
  if (centred) {
    for (i = 0; i < some; ++i) shift += x[i];
    shift = some == 4 ? shift * (float)0.25 : shift / (float)some;
    if (!(shift - shift == 0)) shift = 0;
  }
  for (i = 0; i < 2; ++i) {
    spread_f32(x, n, shift, &sum, &squares);
    if (!centred) {
      variance = squares / (double)n;
      break;
    } else {
      const double step = sum / (double)n, spread = squares - sum * step;
      const double found = (double)shift + step, moved = found - (double)shift;
      mean = found;
      rest = ((double)shift - (found - moved)) + (step - moved);
      variance = spread < 0.0 ? 0.0 : spread / (double)n;
      if (!(squares <= DBL_MAX && sum * step > 8.0 * spread)) break; /* the first elements were close to the mean */
      shift = (float)mean;
    }
  }
  hi = (float)mean;
  rest = (mean - (double)hi) + rest;
  lo = rest - rest == 0.0 ? (float)rest : 0;
  inv_std = (float)(1.0 / sqrt(variance + eps));
  for (i = 0; i < n; ++i) y[i] = FMA_F32(((x[i] - hi) - lo) * inv_std, gamma[i / run], beta[i / run]);
}

/* a sum and its rounding errors */
typedef struct {
  double high, low;
} compensated;

static compensated sum_of(compensated s, double x) {
  const double sum = s.high + x, d = sum - s.high;
  s.low += (s.high - (sum - d)) + (x - d);
  s.high = sum;
  return s;
}

static double value_of(compensated s) {
  return s.high - s.high == 0.0 ? s.high + s.low : s.high;
}

/* log(1 + t) for t >= 0 */
static double log1p_nonnegative(double t) {
  const double sum = 1.0 + t;
  const double magic = from_bits_f64(bits_f64(SHIFTER_F64) | bits_f64(sum) >> 52);
  const double k = magic - (SHIFTER_F64 + 1023.0);
  const double fraction = from_bits_f64((bits_f64(sum) & ((UINT64_C(1) << 52) - 1)) | bits_f64(1.0));
  const double e = sum < 2.0 ? t : fraction - 1.0;
  const double log = FMA_F64(k, LN2_HI_F64, FMA_F64(k, LN2_LO_F64, log1p_unit_f64(e)));
  return t <= DBL_MAX ? log : t;
}

/* the exponential of element c of a column, less the maximum; of the maximum itself 0 where it is counted apart */
static float softmax_term_f32(const float *x, float *y, size_t at, float top, const float *shift, float *ties) {
  const float e = exponential_f32(x[at], shift[0], shift[1], shift[2]);
  if (ties) {
    const int highest = x[at] == top;
    *ties += highest ? (float)1 : (float)0;
    return highest ? (float)0 : e;
  }
  y[at] = e;
  return e;
}

/* The sum of the terms of a column of `n` elements, `stride` apart: of fours of floats, in double; of a long row on 16
   lanes, in blocks whose sums are added up with their rounding errors. */
static double softmax_sum_f32(const float *x, float *y, size_t n, size_t stride, int row, float top, const float *shift,
                              float *ties) {
  compensated all = {0.0, 0.0};
  size_t i = 0, k, u;
  if (row) {
    size_t begin;
    for (begin = 0; begin < n; begin += 1024) {
      const size_t end = n - begin < 1024 ? n : begin + 1024;
      double sums[16] = {0};
      for (i = begin; i < end;) {
        const size_t runs = FOURS_F32 && end - i >= 64 ? 4 : 1;
        for (k = 0; k < 16 && i + k < end; ++k) {
          float t[4];
          for (u = 0; u < runs; ++u) t[u] = softmax_term_f32(x, y, i + 16 * u + k, top, shift, ties);
          sums[k] += runs == 4 ? (double)((t[0] + t[1]) + (t[2] + t[3])) : (double)t[0];
        }
        i += 16 * runs;
      }
      all = sum_of(all, total16(sums));
    }
    return value_of(all);
  }
  if (FOURS_F32) {
    for (; i + 4 <= n; i += 4) {
      float t[4];
      for (u = 0; u < 4; ++u) t[u] = softmax_term_f32(x, y, (i + u) * stride, top, shift, ties);
      all.high += (double)((t[0] + t[1]) + (t[2] + t[3]));
    }
    for (; i < n; ++i) all.high += (double)softmax_term_f32(x, y, i * stride, top, shift, ties);
    return all.high;
  }
  for (; i < n; ++i) all = sum_of(all, (double)softmax_term_f32(x, y, i * stride, top, shift, ties));
  return value_of(all);
}

/* what the quotient q = 1 / sum lost when it was rounded */
static double reciprocal_rest_f32(double q, double sum) {
  (void)sum;
  return q - (double)(float)q;
}

static double reciprocal_rest_f64(double q, double sum) {
  const double p = q * sum;
  return ((1.0 - p) - FMA_F64(q, sum, -p)) / sum;
}

/* softmax or its logarithm along `n` elements that are `stride` apart */
static void softmax_f32(const float *x, float *y, size_t n, size_t stride, int log) {
  const int row = stride == 1 && n > 64;
  float top = -INFINITY, rest, shift[3], ties = 0, of_all;
  double sum;
  size_t i;
  int far;
  for (i = 0; i < n; ++i) top = x[i * stride] > top ? x[i * stride] : top;
  far = top < SOFTMAX_SUBTRACT_BELOW_F32 || top > SOFTMAX_SUBTRACT_ABOVE_F32;
  shift[0] = far ? top : 0;
  rest = top - shift[0];
  of_all = FMA_F32(rest, LOG2E_F32, SHIFTER_F32) - SHIFTER_F32;
  shift[1] = (of_all - SOFTMAX_ZERO_BELOW_F32) * LN2_HI_F32;
  shift[2] = (SHIFTER_AND_BIAS_F32 + SOFTMAX_LIFT_F32) - of_all;
  sum = softmax_sum_f32(x, y, n, stride, row, top, shift, log ? &ties : NULL);
  if (log) {
    const double of_top = (double)exponential_f32(top, shift[0], shift[1], shift[2]);
    const double logarithm = log1p_nonnegative(sum / of_top + ((double)ties - 1.0));
    const double a = (double)rest, whole = a + logarithm, d = whole - a;
    const float hi = (float)whole;
    const float lo = (float)((whole - (double)hi) + ((a - (whole - d)) + (logarithm - d)));
    for (i = 0; i < n; ++i) y[i * stride] = ((x[i * stride] - shift[0]) - hi) - lo;
  } else {
    const double q = 1.0 / sum;
    const float hi = (float)q, lo = (float)reciprocal_rest_f32(q, sum);
    for (i = 0; i < n; ++i) y[i * stride] = FMA_F32(y[i * stride], hi, y[i * stride] * lo);
  }
}

/* the largest of `pieces` numbers that lie `inner` apart */
static void maxout_f32(const float *x, float *y, size_t outer, size_t pieces, size_t inner) {
  size_t o, p, i;
  for (o = 0; o < outer; ++o, x += pieces * inner, y += inner)
    for (i = 0; i < inner; ++i) {
      y[i] = x[i];
      for (p = 1; p < pieces; ++p) y[i] = pooled_max_f32(y[i], x[p * inner + i]);
    }
}

/* a sigmoid(b) of halves a, b */
static void glu_f32(const float *x, float *y, size_t outer, size_t inner) {
  size_t o, i;
  for (o = 0; o < outer; ++o, x += 2 * inner, y += inner)
    for (i = 0; i < inner; ++i) y[i] = gating_glu_of_f32(x[i], x[inner + i]);
}

/* silu(a) b of halves a, b */
static void swiglu_f32(const float *x, float *y, size_t outer, size_t inner) {
  size_t o, i;
  for (o = 0; o < outer; ++o, x += 2 * inner, y += inner)
    for (i = 0; i < inner; ++i) y[i] = gating_swiglu_of_f32(x[i], x[inner + i]);
}

/* every stride-th row and column of an image, channels last, and channels of zeros */
static void padded_f32(const float *x, float *y, size_t own, size_t channels, size_t height, size_t width,
                       size_t stride) {
  size_t h, w, c;
  for (h = 0; h < height; h += stride)
    for (w = 0; w < width; w += stride, y += channels)
      for (c = 0; c < channels; ++c) y[c] = c < own ? x[(h * width + w) * own + c] : 0;
}

/* NaN comes out where it goes in */
static inline float larger_f32(float a, float b) {
  return a != a || a > b ? a : b;
}

static inline float smaller_f32(float a, float b) {
  return a != a || a < b ? a : b;
}

/* the means of `terms` numbers each, one after the other or where `places` says */
static void means_f32(const float *x, float *y, const uint32_t *places, size_t results, size_t terms) {
  size_t r, k;
  for (r = 0; r < results; ++r) {
    double sum = 0.0;
    for (k = r * terms; k < (r + 1) * terms; ++k) sum += (double)x[places ? places[k] : k];
    y[r] = (float)(sum / (double)terms);
  }
}

/* the largest likewise */
static void maxima_f32(const float *x, float *y, const uint32_t *places, size_t results, size_t terms) {
  size_t r, k;
  for (r = 0; r < results; ++r) {
    y[r] = -INFINITY;
    for (k = r * terms; k < (r + 1) * terms; ++k) y[r] = larger_f32(x[places ? places[k] : k], y[r]);
  }
}

/* (rows, inner) times (inner, columns) */
static void product_f32(const float *a, const float *b, float *y, size_t rows, size_t inner, size_t columns) {
  size_t i, k, j;
  for (i = 0; i < rows; ++i, a += inner, y += columns) {
    for (j = 0; j < columns; ++j) y[j] = 0;
    for (k = 0; k < inner; ++k)
      for (j = 0; j < columns; ++j) y[j] = CHAIN_F32(a[k], b[k * columns + j], y[j]);
  }
}
