/* Pieces for sessions of fnn.quantize: bytes, channels last; a byte q stands for scale (q - zero). All sums are exact,
   in int32_t; see kernels/reference/quantized.py. */

/* the nearest whole number of a float between -255 and 255, halves to even: adding 1.5 2^23 leaves it in the low bits */
static inline int32_t nearest_s32(float v) {
  return (int32_t)((v + 12582912.0f) - 12582912.0f);
}

/* how a sum becomes a byte: zero, and the bounds less zero */
typedef struct {
  int32_t zero;
  float low, high;
} byte_range;

static inline uint8_t requantized(int32_t sum, float multiplier, byte_range to) {
  float v = (float)sum * multiplier;
  v = v > to.low ? v : to.low;
  v = v < to.high ? v : to.high;
  return (uint8_t)(to.zero + nearest_s32(v));
}

static inline int32_t dot_u8(const uint8_t *x, const int8_t *w, size_t n) {
  int32_t sum = 0;
  size_t i;
  for (i = 0; i < n; ++i) sum += (int32_t)x[i] * (int32_t)w[i];
  return sum;
}

/* the sums of products with four neighbouring rows of weights */
static inline void four_dots_u8(const uint8_t *x, const int8_t *w, size_t n, int32_t sums[4]) {
  const int8_t *w1 = w + n, *w2 = w1 + n, *w3 = w2 + n;
  int32_t a = 0, b = 0, c = 0, d = 0;
  size_t i;
  for (i = 0; i < n; ++i) {
    const int32_t v = (int32_t)x[i];
    a += v * (int32_t)w[i];
    b += v * (int32_t)w1[i];
    c += v * (int32_t)w2[i];
    d += v * (int32_t)w3[i];
  }
  sums[0] = a;
  sums[1] = b;
  sums[2] = c;
  sums[3] = d;
}

/* outputs of one place: weights (outputs, n) */
static void products_u8(const uint8_t *x, uint8_t *y, const int8_t *w, const int32_t *bias, const float *multiplier,
                        size_t n, size_t outputs, byte_range to) {
  const size_t whole = outputs / 4 * 4;
  size_t o, k;
  for (o = 0; o < whole; o += 4) {
    int32_t sums[4];
    four_dots_u8(x, w + o * n, n, sums);
    for (k = 0; k < 4; ++k) y[o + k] = requantized(bias[o + k] + sums[k], multiplier[o + k], to);
  }
  for (o = whole; o < outputs; ++o) y[o] = requantized(bias[o] + dot_u8(x, w + o * n, n), multiplier[o], to);
}

/* (channels, places) of floats to (places, channels) of bytes; NaN becomes the least */
static void quantize_u8(const float *x, uint8_t *y, size_t channels, size_t places, float multiplier, int32_t zero) {
  const float low = (float)-zero, high = (float)(255 - zero);
  size_t c, i;
  for (i = 0; i < places; ++i)
    for (c = 0; c < channels; ++c) {
      float v = x[c * places + i] * multiplier;
      v = v > low ? v : low;
      v = v < high ? v : high;
      *y++ = (uint8_t)(zero + nearest_s32(v));
    }
}

/* and back */
static void dequantize_u8(const uint8_t *x, float *y, size_t channels, size_t places, float scale, int32_t zero) {
  size_t c, i;
  for (c = 0; c < channels; ++c)
    for (i = 0; i < places; ++i) *y++ = (float)((int32_t)x[i * channels + c] - zero) * scale;
}

static void linear_u8(const uint8_t *x, uint8_t *y, const int8_t *w, const int32_t *bias, const float *multiplier,
                      size_t rows, size_t inputs, size_t outputs, byte_range to) {
  size_t r;
  for (r = 0; r < rows; ++r) products_u8(x + r * inputs, y + r * outputs, w, bias, multiplier, inputs, outputs, to);
}

/* with a result of floats */
static void last_linear_u8(const uint8_t *x, float *y, const int8_t *w, const int32_t *bias, const float *multiplier,
                           size_t rows, size_t inputs, size_t outputs) {
  size_t r, o;
  for (r = 0; r < rows; ++r, x += inputs)
    for (o = 0; o < outputs; ++o) *y++ = (float)(bias[o] + dot_u8(x, w + o * inputs, inputs)) * multiplier[o];
}

/* Floats in rows that are quantized by their own ranges, in `bytes`; sums are those of the weights. */
static void dynamic_linear_u8(const float *x, float *y, uint8_t *bytes, const int8_t *w, const int32_t *sums,
                              const float *weight_scale, const float *bias, size_t rows, size_t inputs, size_t outputs,
                              float low, float high) {
  size_t r, o, i;
  for (r = 0; r < rows; ++r, x += inputs) {
    float least = 0, most = 0, scale, inverse, at;
    int32_t zero;
    for (i = 0; i < inputs; ++i) {
      least = x[i] < least ? x[i] : least;
      most = x[i] > most ? x[i] : most;
    }
    scale = (most - least) / 255.0f;
    inverse = 1.0f / scale;
    if (!(scale - scale == 0) || !(inverse - inverse == 0)) scale = inverse = 1;
    at = -least * inverse;
    zero = nearest_s32(at < 255.0f ? at : 255.0f);
    quantize_u8(x, bytes, 1, inputs, inverse, zero);
    for (o = 0; o < outputs; ++o) {
      const int32_t sum = dot_u8(bytes, w + o * inputs, inputs) - zero * sums[o];
      float v = (float)sum * (scale * weight_scale[o]);
      v += bias[o];
      v = v > low ? v : low;
      *y++ = v < high ? v : high;
    }
  }
}

/* Convolution: weights (outputs, rows, columns, channels of a group). What the kernel sees of a group is gathered in
   `patch`; where it reaches beyond the image it sees x_zero, which `bias` counts on. */
static void conv_u8(const uint8_t *x, uint8_t *y, uint8_t *patch, const int8_t *w, const int32_t *bias,
                    const float *multiplier, const conv_shape *s, int32_t x_zero, byte_range to) {
  const size_t channels = s->channels / s->groups, outputs = s->outputs / s->groups;
  const size_t line = s->kernel_width * channels, all = s->kernel_height * line;
  const int whole = s->groups == 1 && s->dilation_width == 1; /* the elements of a line lie side by side */
  size_t i, j, g, r, q;
  for (i = 0; i < s->out_height; ++i) {
    const span rows = span_of(i, s->stride_height, s->before_height, s->dilation_height, s->kernel_height, s->height);
    for (j = 0; j < s->out_width; ++j) {
      const span taps = span_of(j, s->stride_width, s->before_width, s->dilation_width, s->kernel_width, s->width);
      const size_t together = whole ? taps.end - taps.begin : 1;
      for (g = 0; g < s->groups; ++g, y += outputs) {
        const size_t first = g * outputs;
        memset(patch, (int)x_zero, all);
        for (r = rows.begin; r < rows.end; ++r)
          for (q = taps.begin; q < taps.end; q += together) {
            const size_t row = i * s->stride_height + r * s->dilation_height - s->before_height;
            const size_t column = j * s->stride_width + q * s->dilation_width - s->before_width;
            const uint8_t *from = x + (row * s->width + column) * s->channels + g * channels;
            memcpy(patch + r * line + q * channels, from, together * channels);
          }
        products_u8(patch, y, w + first * all, bias + first, multiplier + first, all, outputs, to);
      }
    }
  }
}

/* Every channel by itself: weights (rows, columns, channels). */
static void depthwise_u8(const uint8_t *x, uint8_t *y, const int8_t *w, const int32_t *bias, const float *multiplier,
                         const conv_shape *s, int32_t x_zero, byte_range to) {
  size_t i, j, r, q, c, k;
  for (i = 0; i < s->out_height; ++i) {
    const span rows = span_of(i, s->stride_height, s->before_height, s->dilation_height, s->kernel_height, s->height);
    for (j = 0; j < s->out_width; ++j) {
      const span taps = span_of(j, s->stride_width, s->before_width, s->dilation_width, s->kernel_width, s->width);
      for (c = 0; c < s->channels; c += 16) {
        const size_t lanes = s->channels - c < 16 ? s->channels - c : 16;
        const int8_t *weight = w + c;
        int32_t sum[16];
        for (k = 0; k < lanes; ++k) sum[k] = bias[c + k];
        for (r = 0; r < s->kernel_height; ++r)
          for (q = 0; q < s->kernel_width; ++q, weight += s->channels) {
            const size_t row = i * s->stride_height + r * s->dilation_height - s->before_height;
            const size_t column = j * s->stride_width + q * s->dilation_width - s->before_width;
            if (r >= rows.begin && r < rows.end && q >= taps.begin && q < taps.end) {
              const uint8_t *from = x + (row * s->width + column) * s->channels + c;
              for (k = 0; k < lanes; ++k) sum[k] += (int32_t)from[k] * (int32_t)weight[k];
            } else {
              for (k = 0; k < lanes; ++k) sum[k] += x_zero * (int32_t)weight[k];
            }
          }
        for (k = 0; k < lanes; ++k) *y++ = requantized(sum[k], multiplier[c + k], to);
      }
    }
  }
}

static void max_pool_u8(const uint8_t *x, uint8_t *y, size_t channels, const pool_axis *axes) {
  size_t p, q, h, w, c;
  for (p = 0; p < axes[0].out; ++p)
    for (q = 0; q < axes[1].out; ++q, y += channels) {
      const span height = span_of(p, axes[0].stride, axes[0].before, axes[0].dilation, axes[0].kernel, axes[0].length);
      const span width = span_of(q, axes[1].stride, axes[1].before, axes[1].dilation, axes[1].kernel, axes[1].length);
      memset(y, 0, channels);
      for (h = height.begin; h < height.end; ++h)
        for (w = width.begin; w < width.end; ++w) {
          const size_t row = p * axes[0].stride + h * axes[0].dilation - axes[0].before;
          const size_t column = q * axes[1].stride + w * axes[1].dilation - axes[1].before;
          const uint8_t *from = x + (row * axes[1].length + column) * channels;
          for (c = 0; c < channels; ++c) y[c] = from[c] > y[c] ? from[c] : y[c];
        }
    }
}

/* Means of the regions [bounds[2 p], bounds[2 p + 1]) of rows, then of columns; a multiplier for each. */
static void avg_pool_u8(const uint8_t *x, uint8_t *y, size_t channels, size_t width, size_t rows, size_t columns,
                        const size_t *bounds, const float *multiplier, int32_t x_zero, byte_range to) {
  const size_t *across = bounds + 2 * rows;
  size_t p, q, h, w, c;
  for (p = 0; p < rows; ++p)
    for (q = 0; q < columns; ++q)
      for (c = 0; c < channels; ++c) {
        int32_t sum = 0;
        for (h = bounds[2 * p]; h < bounds[2 * p + 1]; ++h)
          for (w = across[2 * q]; w < across[2 * q + 1]; ++w) sum += (int32_t)x[(h * width + w) * channels + c] - x_zero;
        *y++ = requantized(sum, multiplier[p * columns + q], to);
      }
}

/* every stride-th row and column of an image, and more channels */
static void padded_u8(const uint8_t *x, uint8_t *y, size_t own, size_t channels, size_t height, size_t width,
                      size_t stride, uint8_t fill) {
  size_t h, w, c;
  for (h = 0; h < height; h += stride)
    for (w = 0; w < width; w += stride)
      for (c = 0; c < channels; ++c) *y++ = c < own ? x[(h * width + w) * own + c] : fill;
}
