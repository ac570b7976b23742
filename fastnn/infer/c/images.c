/* Pieces for convolutions, pools and batch norm over images, channels last. Linear layers are convolutions, too. */

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
