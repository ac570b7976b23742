/* What exported files are made of, beside the formulas of activations: pieces parted by empty lines, of which a file
   gets those that it uses. They are written for float; those of double follow by their names (see library.py). Sums run
   in the order of the kernels in kernels/, so that results have their bits. */

/* a b + c rounded once, which is what gives the session's bits; see NO_FMA above */
#define FMA_F32(a, b, c) fmaf(a, b, c)

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

/* the maximum so far and the next element: a NaN takes over and stays, of equal elements the first stays */
static float pooled_max_f32(float best, float v) {
  return v != v ? v : v > best ? v : best;
}

/* shapes of a convolution: of input, result, kernel; x_channel and x_place are how far channels and neighbouring places
   of x lie apart */
typedef struct {
  size_t channels, height, width, outputs, out_height, out_width, kernel_height, kernel_width;
  size_t stride_height, stride_width, before_height, before_width, dilation_height, dilation_width, groups;
  size_t x_channel, x_place;
} conv_shape;

/* which of `kernel` elements of a window, the first at o * stride - before, lie inside: begin <= k < end */
typedef struct {
  size_t begin, end;
} span;

static span span_of(size_t o, size_t stride, size_t before, size_t dilation, size_t kernel, size_t length) {
  span s = {0, kernel};
  while (s.begin < kernel && o * stride + s.begin * dilation < before) ++s.begin;
  while (s.end > s.begin && o * stride + (s.end - 1) * dilation >= before + length) --s.end;
  return s;
}

/* Up to 16 outputs of one place: a chain of products each, which begins with the bias and goes through blocks of 16
   input channels, in them through the kernel's rows, columns and the block's channels. x is the first channel of the
   first row and column inside. */
static inline void conv_place_f32(const float *x, float *y, const float *w, const float *bias, const conv_shape *s,
                                  span rows, span taps, size_t lanes) {
  const size_t channels = s->channels / s->groups, window = s->kernel_height * s->kernel_width;
  float sum[16];
  size_t block, i, j, c, k;
  for (k = 0; k < lanes; ++k) sum[k] = bias[k];
  for (block = 0; block < channels; block += 16) {
    const size_t some = channels - block < 16 ? channels - block : 16;
    for (i = rows.begin; i < rows.end; ++i)
      for (j = taps.begin; j < taps.end; ++j) {
        const size_t row = (i - rows.begin) * s->dilation_height, column = (j - taps.begin) * s->dilation_width;
        const float *from = x + block * s->x_channel + (row * s->width + column) * s->x_place;
        const float *weight = w + (block * window + (i * s->kernel_width + j) * some) * lanes;
        for (c = 0; c < some; ++c, from += s->x_channel, weight += lanes)
          for (k = 0; k < lanes; ++k) sum[k] = CHAIN_F32(weight[k], *from, sum[k]);
      }
  }
  for (k = 0; k < lanes; ++k) y[k] = sum[k];
}

/* The same for four places side by side, all columns of the kernel inside: what compilers keep in registers. */
static inline void conv_four_f32(const float *x, float *y, const float *w, const float *bias, const conv_shape *s,
                                 span rows, size_t lanes) {
  const size_t channels = s->channels / s->groups, window = s->kernel_height * s->kernel_width;
  const size_t apart = s->stride_width * s->x_place;
  float sum[4][16];
  size_t block, i, j, c, t, k;
  for (k = 0; k < lanes; ++k)
    for (t = 0; t < 4; ++t) sum[t][k] = bias[k];
  for (block = 0; block < channels; block += 16) {
    const size_t some = channels - block < 16 ? channels - block : 16;
    for (i = rows.begin; i < rows.end; ++i)
      for (j = 0; j < s->kernel_width; ++j) {
        const size_t row = (i - rows.begin) * s->dilation_height, column = j * s->dilation_width;
        const float *from = x + block * s->x_channel + (row * s->width + column) * s->x_place;
        const float *weight = w + (block * window + (i * s->kernel_width + j) * some) * lanes;
        for (c = 0; c < some; ++c, from += s->x_channel, weight += lanes) {
          const float v[4] = {from[0], from[apart], from[2 * apart], from[3 * apart]};
          for (k = 0; k < lanes; ++k)
            for (t = 0; t < 4; ++t) sum[t][k] = CHAIN_F32(weight[k], v[t], sum[t][k]);
        }
      }
  }
  for (t = 0; t < 4; ++t)
    for (k = 0; k < lanes; ++k) y[t * s->outputs + k] = sum[t][k];
}

/* Convolution, also that of a linear layer: results channels last. Weights lie as they are read: by groups, then blocks
   of 16 outputs, in them along the chain, the outputs of a block side by side. */
static void conv_f32(const float *x, float *y, const float *w, const float *bias, const conv_shape *s) {
  const size_t channels = s->channels / s->groups, outputs = s->outputs / s->groups;
  const size_t terms = channels * s->kernel_height * s->kernel_width, past = s->before_width + s->width;
  size_t g, o, i, j;
  for (g = 0; g < s->groups; ++g, x += channels * s->x_channel)
    for (o = 0; o < outputs; o += 16) {
      const size_t lanes = outputs - o < 16 ? outputs - o : 16, first = g * outputs + o;
      const float *weight = w + first * terms;
      for (i = 0; i < s->out_height; ++i) {
        const span rows = span_of(i, s->stride_height, s->before_height, s->dilation_height, s->kernel_height, s->height);
        const size_t row = i * s->stride_height + rows.begin * s->dilation_height - s->before_height;
        for (j = 0; j < s->out_width;) {
          const span taps = span_of(j, s->stride_width, s->before_width, s->dilation_width, s->kernel_width, s->width);
          const size_t reach = (j + 3) * s->stride_width + (s->kernel_width - 1) * s->dilation_width;
          const size_t column = j * s->stride_width + taps.begin * s->dilation_width - s->before_width;
          const size_t place = i * s->out_width + j;
          const float *from = x + (row * s->width + column) * s->x_place;
          float *to = y + place * s->outputs + first;
          const int four = j * s->stride_width >= s->before_width && reach < past && j + 4 <= s->out_width;
          if (rows.begin == rows.end || taps.begin == taps.end) from = x; /* nothing but the bias */
          if (four && lanes == 16)
            conv_four_f32(from, to, weight, bias + first, s, rows, 16);
          else if (four)
            conv_four_f32(from, to, weight, bias + first, s, rows, lanes);
          else if (lanes == 16)
            conv_place_f32(from, to, weight, bias + first, s, rows, taps, 16);
          else
            conv_place_f32(from, to, weight, bias + first, s, rows, taps, lanes);
          j += four ? 4 : 1;
        }
      }
    }
}

/* Convolution of every channel by itself, x and y channels last: a chain of products by the kernel's rows and columns,
   which begins with the bias. */
static void depthwise_f32(const float *x, float *y, const float *w, const float *bias, const conv_shape *s) {
  size_t i, j, r, q, c;
  for (i = 0; i < s->out_height; ++i) {
    const span rows = span_of(i, s->stride_height, s->before_height, s->dilation_height, s->kernel_height, s->height);
    for (j = 0; j < s->out_width; ++j, y += s->channels) {
      const span taps = span_of(j, s->stride_width, s->before_width, s->dilation_width, s->kernel_width, s->width);
      for (c = 0; c < s->channels; ++c) y[c] = bias[c];
      for (r = rows.begin; r < rows.end; ++r)
        for (q = taps.begin; q < taps.end; ++q) {
          const size_t row = i * s->stride_height + r * s->dilation_height - s->before_height;
          const size_t column = j * s->stride_width + q * s->dilation_width - s->before_width;
          const float *from = x + (row * s->width + column) * s->channels;
          const float *weight = w + (r * s->kernel_width + q) * s->channels;
          for (c = 0; c < s->channels; ++c) y[c] = CHAIN_F32(weight[c], from[c], y[c]);
        }
    }
  }
}

/* (channels, places) to (places, channels) or back */
static void turned_f32(const float *x, float *y, size_t rows, size_t columns) {
  size_t i, j;
  for (i = 0; i < rows; ++i)
    for (j = 0; j < columns; ++j) y[j * rows + i] = x[i * columns + j];
}

/* an axis of pooling windows */
typedef struct {
  size_t length, out, kernel, stride, before, dilation;
} pool_axis;

/* Maxima over windows of the axes depth, height and width, channels last. */
static void max_pool_f32(const float *x, float *y, size_t channels, const pool_axis *axes) {
  size_t o, p, q, d, h, w, c;
  for (o = 0; o < axes[0].out; ++o)
    for (p = 0; p < axes[1].out; ++p)
      for (q = 0; q < axes[2].out; ++q, y += channels) {
        const span depth = span_of(o, axes[0].stride, axes[0].before, axes[0].dilation, axes[0].kernel, axes[0].length);
        const span height = span_of(p, axes[1].stride, axes[1].before, axes[1].dilation, axes[1].kernel, axes[1].length);
        const span width = span_of(q, axes[2].stride, axes[2].before, axes[2].dilation, axes[2].kernel, axes[2].length);
        int first = 1;
        for (d = depth.begin; d < depth.end; ++d)
          for (h = height.begin; h < height.end; ++h)
            for (w = width.begin; w < width.end; ++w, first = 0) {
              const size_t slice = o * axes[0].stride + d * axes[0].dilation - axes[0].before;
              const size_t row = p * axes[1].stride + h * axes[1].dilation - axes[1].before;
              const size_t column = q * axes[2].stride + w * axes[2].dilation - axes[2].before;
              const float *from = x + ((slice * axes[1].length + row) * axes[2].length + column) * channels;
              if (first)
                for (c = 0; c < channels; ++c) y[c] = from[c];
              else
                for (c = 0; c < channels; ++c) y[c] = pooled_max_f32(y[c], from[c]);
            }
      }
}

static float mean_f32(double sum, double count, int even_width, double width) {
  return (float)(even_width ? sum * (1.0 / count) : sum / (count * width));
}

static double mean_f64(double sum, double count, int even_width, double width) {
  return even_width ? sum / count : sum / (count * width);
}

/* Averages over windows, channels last: sums in double, by rows, then of rows. counts are what sums are divided by,
   axis after axis; where those of the last axis are equal a sum is multiplied by the reciprocal. */
static void avg_pool_f32(const float *x, float *y, size_t channels, const pool_axis *axes, const double *counts,
                         int even_width) {
  const double *count_height = counts + axes[0].out, *count_width = count_height + axes[1].out;
  size_t o, p, q, d, h, w, c, k;
  for (o = 0; o < axes[0].out; ++o)
    for (p = 0; p < axes[1].out; ++p)
      for (q = 0; q < axes[2].out; ++q, y += channels) {
        const span depth = span_of(o, axes[0].stride, axes[0].before, axes[0].dilation, axes[0].kernel, axes[0].length);
        const span height = span_of(p, axes[1].stride, axes[1].before, axes[1].dilation, axes[1].kernel, axes[1].length);
        const span width = span_of(q, axes[2].stride, axes[2].before, axes[2].dilation, axes[2].kernel, axes[2].length);
        const double rows = counts[o] * count_height[p], count = even_width ? rows * count_width[0] : rows;
        for (c = 0; c < channels; c += 16) {
          const size_t lanes = channels - c < 16 ? channels - c : 16;
          double sum[16] = {0}, line[16];
          int first = 1;
          for (d = depth.begin; d < depth.end; ++d)
            for (h = height.begin; h < height.end; ++h, first = 0) {
              for (w = width.begin; w < width.end; ++w) {
                const size_t slice = o * axes[0].stride + d * axes[0].dilation - axes[0].before;
                const size_t row = p * axes[1].stride + h * axes[1].dilation - axes[1].before;
                const size_t column = q * axes[2].stride + w * axes[2].dilation - axes[2].before;
                const float *from = x + ((slice * axes[1].length + row) * axes[2].length + column) * channels + c;
                if (w == width.begin)
                  for (k = 0; k < lanes; ++k) line[k] = (double)from[k];
                else
                  for (k = 0; k < lanes; ++k) line[k] += (double)from[k];
              }
              for (k = 0; k < lanes; ++k) sum[k] = first ? line[k] : sum[k] + line[k];
            }
          for (k = 0; k < lanes; ++k) y[c + k] = mean_f32(sum[k], count, even_width, count_width[q]);
        }
      }
}

/* The same for images that the session has in blocks: the elements of a window are added up one after the other. */
static void window_mean_f32(const float *x, float *y, size_t channels, const pool_axis *axes, const double *counts) {
  size_t p, q, h, w, c, k;
  for (p = 0; p < axes[0].out; ++p)
    for (q = 0; q < axes[1].out; ++q, y += channels) {
      const span height = span_of(p, axes[0].stride, axes[0].before, axes[0].dilation, axes[0].kernel, axes[0].length);
      const span width = span_of(q, axes[1].stride, axes[1].before, axes[1].dilation, axes[1].kernel, axes[1].length);
      for (c = 0; c < channels; c += 16) {
        const size_t lanes = channels - c < 16 ? channels - c : 16;
        double sum[16] = {0};
        for (h = height.begin; h < height.end; ++h)
          for (w = width.begin; w < width.end; ++w) {
            const size_t row = p * axes[0].stride + h * axes[0].dilation - axes[0].before;
            const size_t column = q * axes[1].stride + w * axes[1].dilation - axes[1].before;
            const float *from = x + (row * axes[1].length + column) * channels + c;
            for (k = 0; k < lanes; ++k) sum[k] += (double)from[k];
          }
        for (k = 0; k < lanes; ++k) y[c + k] = (float)(sum[k] / (counts[p] * counts[axes[0].out + q]));
      }
    }
}

/* Averages over regions [start, stop) of every axis, channels last. Wide regions are summed on 16 lanes, a row after
   the other; of others the columns are added up first, then those of a region. */
static void adaptive_pool_f32(const float *x, float *y, size_t channels, const size_t *lengths, const size_t *outs,
                              const size_t *bounds, int wide) {
  const size_t *height = bounds + 2 * outs[0], *width = height + 2 * outs[1];
  size_t o, p, q, c, d, h, w, k;
  for (o = 0; o < outs[0]; ++o)
    for (p = 0; p < outs[1]; ++p)
      for (q = 0; q < outs[2]; ++q)
        for (c = 0; c < channels; ++c) {
          const size_t rows = (bounds[2 * o + 1] - bounds[2 * o]) * (height[2 * p + 1] - height[2 * p]);
          const size_t begin = width[2 * q], end = width[2 * q + 1];
          double sums[16] = {0}, sum = 0.0;
          for (w = begin; w < end && !wide; ++w) {
            double column = 0.0;
            for (d = bounds[2 * o]; d < bounds[2 * o + 1]; ++d)
              for (h = height[2 * p]; h < height[2 * p + 1]; ++h)
                column += (double)x[((d * lengths[1] + h) * lengths[2] + w) * channels + c];
            sum += column;
          }
          if (wide) {
            for (d = bounds[2 * o]; d < bounds[2 * o + 1]; ++d)
              for (h = height[2 * p]; h < height[2 * p + 1]; ++h)
                for (w = begin, k = 0; w < end; ++w, k = (k + 1) % 16)
                  sums[k] += (double)x[((d * lengths[1] + h) * lengths[2] + w) * channels + c];
            sum = total16(sums);
          }
          y[((o * outs[1] + p) * outs[2] + q) * channels + c] = (float)(sum / (double)(rows * (end - begin)));
        }
}

/* The average of every channel, channels last: 16 sums in double. */
static void global_avg_pool_f32(const float *x, float *y, size_t channels, size_t places) {
  size_t c, i;
  for (c = 0; c < channels; ++c) {
    double sums[16] = {0};
    for (i = 0; i < places; ++i) sums[i % 16] += (double)x[i * channels + c];
    y[c] = (float)(total16(sums) / (double)places);
  }
}

/* Maxima over regions of each channel, rows [starts, stops) and columns, (channels, height, width). */
static void region_max_f32(const float *x, float *y, const size_t *bounds, size_t channels, size_t height, size_t width,
                           size_t out_height, size_t out_width, int each) {
  size_t c, i, j, h, w;
  for (c = 0; c < channels; ++c, x += height * width) {
    const size_t *rows = bounds + (each ? c * 2 * (out_height + out_width) : 0), *columns = rows + 2 * out_height;
    for (i = 0; i < out_height; ++i)
      for (j = 0; j < out_width; ++j) {
        float best = x[rows[2 * i] * width + columns[2 * j]];
        for (h = rows[2 * i]; h < rows[2 * i + 1]; ++h)
          for (w = columns[2 * j]; w < columns[2 * j + 1]; ++w) best = pooled_max_f32(best, x[h * width + w]);
        *y++ = best;
      }
  }
}

/* Batch norm: (x - mean) scale + beta, a number each for a channel, channels last. */
static void batch_norm_f32(const float *x, float *y, const float *mean, const float *scale, const float *beta,
                           size_t channels, size_t places) {
  size_t i, c;
  for (i = 0; i < places; ++i, x += channels, y += channels)
    for (c = 0; c < channels; ++c) y[c] = FMA_F32(x[c] - mean[c], scale[c], beta[c]);
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
