// Everything quantized but the matrix product, for one instruction set.
//
// The floor is reading and writing a byte an element; a multiplication takes it as an int32 lane, which costs a
// widening load, a multiply-add of pairs of 16-bit numbers and an addition for each tap of a depthwise convolution.
// Tried and rejected: the 8-bit pairwise product of SSSE3, which saturates; two taps in one 16-bit pair, whose merging
// costs what it saves.
#include "quantized.hpp"

#include "quantized_finish.hpp"

FASTNN_BEGIN
namespace {

using namespace fastnn_cpu;
using std::int64_t;

// f(V(), i) for vectors from begin on, then f(float(), i) for the elements that are left.
template <class F>
FASTNN_FN void each(int64_t begin, int64_t end, const F& f) {
  for (; begin + lanes<vfloat> <= end; begin += lanes<vfloat>) f(vfloat(0.0f), begin);
  for (; begin < end; ++begin) f(0.0f, begin);
}

FASTNN_FN int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }
FASTNN_FN int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

// `pixels` results side by side, whose windows lie between the first and the last column, or one anywhere: of one
// vector of channels. A vector of weights serves all of them.
template <class V, int pixels, bool checked>
FASTNN_FN void depthwise_at(const QuantizedJob& job, const u8* from, u8* to, int64_t top, int64_t left, int64_t c,
                            const finisher<V>& finish) {
  using B = bits_t<V>;
  const int64_t channels = job.channels, step = job.stride[1] * channels;
  const B outside(static_cast<u32>(job.x_zero));
  const s8* weight = job.weight + c;
  B sum[pixels];
  FASTNN_UNROLL
  for (int p = 0; p < pixels; ++p) sum[p] = load_bits(job.bias + c, V(0.0f));
  for (int64_t i = 0, h = top; i < job.kernel[0]; ++i, h += job.dilation[0]) {
    const bool row_inside = h >= 0 && h < job.height;
    const u8* const row = from + (row_inside ? h * job.width * channels : 0) + c;
    for (int64_t j = 0, k = left; j < job.kernel[1]; ++j, k += job.dilation[1], weight += channels) {
      const B w = widen_signed8<V>(weight);
      const bool inside = row_inside && (!checked || (k >= 0 && k < job.width));
      const u8* const tap = row + k * channels;
      if (inside) {
        FASTNN_UNROLL
        for (int p = 0; p < pixels; ++p) sum[p] = sum[p] + multiply16(widen8<V>(tap + p * step), w);
      } else {
        const B product = multiply16(outside, w);
        FASTNN_UNROLL
        for (int p = 0; p < pixels; ++p) sum[p] = sum[p] + product;
      }
    }
  }
  const V m = load<V>(job.multiplier + c);
  FASTNN_UNROLL
  for (int p = 0; p < pixels; ++p) narrow8(to + p * channels + c, finish(sum[p], m));
}

void depthwise(const QuantizedJob& job, int64_t begin, int64_t end) {
  constexpr int pixels = 4;
  const int64_t channels = job.channels, span = (job.kernel[1] - 1) * job.dilation[1];
  const finisher<vfloat> vectors(job.zero, job.low, job.high);
  const finisher<float> singles(job.zero, job.low, job.high);
  for (int64_t r = begin; r < end; ++r) {
    const int64_t image = r / job.rows, top = (r - image * job.rows) * job.stride[0] - job.before[0];
    const u8* const from = job.a + image * job.height * job.width * channels;
    for (int64_t q = 0, n; q < job.columns; q += n) {
      const int64_t left = q * job.stride[1] - job.before[1], last = left + (pixels - 1) * job.stride[1] + span;
      n = left >= 0 && last < job.width && q + pixels <= job.columns ? pixels : 1;
      u8* const to = job.y + (r * job.columns + q) * channels;
      each(0, channels, [&](auto v, int64_t c) {
        using V = decltype(v);
        if constexpr (lanes<V> == 1)
          for (int64_t p = 0; p < n; ++p)
            depthwise_at<V, 1, true>(job, from, to + p * channels, top, left + p * job.stride[1], c, singles);
        else if (n == 1)
          depthwise_at<V, 1, true>(job, from, to, top, left, c, vectors);
        else
          depthwise_at<V, pixels, false>(job, from, to, top, left, c, vectors);
      });
    }
  }
}

// Where fewer than sixteen bytes belong to the pixel the others are written as well, while those of the pixels that
// follow, which are done later, are there to take them.
void max_pool(const QuantizedJob& job, int64_t begin, int64_t end) {
  const int64_t channels = job.channels, row = job.width * channels, out_row = job.columns * channels;
  const u8* const stop = job.y + end * out_row;
  for (int64_t r = begin; r < end; ++r) {
    const int64_t image = r / job.rows, top = (r - image * job.rows) * job.stride[0] - job.before[0];
    const u8* const from = job.a + image * job.height * row;
    const u8* const last = from + job.height * row;
    u8* to = job.y + r * out_row;
    for (int64_t q = 0; q < job.columns; ++q, to += channels) {
      const int64_t left = q * job.stride[1] - job.before[1];
      for (int64_t c = 0; c < channels; c += 16) {
        const int64_t n = smaller(16, channels - c);
        vbytes best = {};
        for (int64_t i = 0, h = top; i < job.kernel[0]; ++i, h += job.dilation[0]) {
          if (h < 0 || h >= job.height) continue;
          for (int64_t j = 0, k = left; j < job.kernel[1]; ++j, k += job.dilation[1]) {
            if (k < 0 || k >= job.width) continue;
            const u8* const tap = from + h * row + k * channels + c;
            if (last - tap >= 16) {
              best = vmax(best, load_bytes(tap));
            } else {
              u8 rest[16] = {};
              for (int64_t l = 0; l < n; ++l) rest[l] = tap[l];
              best = vmax(best, load_bytes(rest));
            }
          }
        }
        if (stop - (to + c) >= 16) {
          store_bytes(to + c, best);
        } else {
          u8 rest[16];
          store_bytes(rest, best);
          for (int64_t l = 0; l < n; ++l) to[c + l] = rest[l];
        }
      }
    }
  }
}

void average_pool(const QuantizedJob& job, int64_t begin, int64_t end) {
  const int64_t channels = job.channels, row = job.width * channels;
  const finisher<vfloat> vectors(job.zero, job.low, job.high);
  const finisher<float> singles(job.zero, job.low, job.high);
  for (int64_t r = begin; r < end; ++r) {
    const int64_t image = r / job.rows, p = r - image * job.rows;
    const u8* const from = job.a + image * job.height * row;
    for (int64_t q = 0; q < job.columns; ++q) {
      const int64_t count = int64_t(job.bottom[p] - job.top[p]) * (job.right[q] - job.left[q]);
      const u32 start = static_cast<u32>(-count * job.x_zero);
      const float multiplier = job.multiplier[p * job.columns + q];
      u8* const to = job.y + (r * job.columns + q) * channels;
      each(0, channels, [&](auto v, int64_t c) {
        using V = decltype(v);
        bits_t<V> acc(start);
        for (int64_t h = job.top[p]; h < job.bottom[p]; ++h)
          for (int64_t k = job.left[q]; k < job.right[q]; ++k) acc = acc + widen8<V>(from + h * row + k * channels + c);
        if constexpr (lanes<V> == 1)
          narrow8(to + c, singles(acc, multiplier));
        else
          narrow8(to + c, vectors(acc, V(multiplier)));
      });
    }
  }
}

void add(const QuantizedJob& job, int64_t begin, int64_t end) {
  each(begin, end, [&](auto v, int64_t i) {
    using V = decltype(v);
    using B = bits_t<V>;
    const B a = multiply16(widen8<V>(job.a + i), B(static_cast<u32>(job.by_a)));
    const B b = multiply16(widen8<V>(job.b + i), B(static_cast<u32>(job.by_b)));
    narrow8(job.y + i, finisher<V>(job.zero, job.low, job.high)(a + b + B(static_cast<u32>(job.offset)), V(job.by)));
  });
}

void lookup(const QuantizedJob& job, int64_t begin, int64_t end) {
  for (int64_t i = begin; i < end; ++i) job.y[i] = job.table[job.a[i]];
}

void window(const QuantizedJob& job, int64_t begin, int64_t end) {
  const int64_t row = job.width * job.channels, out_row = job.columns * job.depth;
  const auto size = [](int64_t n) { return static_cast<std::size_t>(n); };
  for (int64_t r = begin; r < end; ++r) {
    const int64_t image = r / job.rows, h = (r - image * job.rows) * job.stride[0] - job.before[0];
    u8* const to = job.y + r * out_row;
    if (h < 0 || h >= job.height) {
      __builtin_memset(to, job.x_zero, size(out_row));
      continue;
    }
    const u8* const from = job.a + (image * job.height + h) * row;
    if (job.stride[1] == 1 && job.channels == job.depth && job.before[1] >= 0) {
      const int64_t before = smaller(job.before[1], job.columns), n = smaller(job.width, job.columns - before);
      __builtin_memset(to, job.x_zero, size(before * job.depth));
      FASTNN_MEMCPY(to + before * job.depth, from, size(n * job.depth));
      __builtin_memset(to + (before + n) * job.depth, job.x_zero, size((job.columns - before - n) * job.depth));
      continue;
    }
    for (int64_t q = 0; q < job.columns; ++q) {
      const int64_t k = q * job.stride[1] - job.before[1], n = k >= 0 && k < job.width ? job.channels : 0;
      FASTNN_MEMCPY(to + q * job.depth, from + (n ? k * job.channels : 0), size(n));
      __builtin_memset(to + q * job.depth + n, job.x_zero, size(job.depth - n));
    }
  }
}

// Calls f(image, first, last) for the positions [begin, end) of all images, image by image.
template <class F>
FASTNN_FN void by_image(int64_t positions, int64_t begin, int64_t end, const F& f) {
  while (begin < end) {
    const int64_t image = begin / positions, first = begin - image * positions;
    const int64_t last = smaller(positions, first + end - begin);
    f(image, first, last);
    begin += last - first;
  }
}

void quantize(const QuantizedJob& job, int64_t begin, int64_t end) {
  const int64_t channels = job.channels, positions = job.columns;
  by_image(positions, begin, end, [&](int64_t image, int64_t first, int64_t last) {
    const float* const from = reinterpret_cast<const float*>(job.a) + image * channels * positions;
    u8* const to = job.y + image * channels * positions;
    each(first, last, [&](auto v, int64_t s) {
      using V = decltype(v);
      const finisher<V> finish(job.zero, job.low, job.high);
      const auto at = [&](int64_t c) { return finish.rounded(load<V>(from + c * positions + s) * V(job.by)); };
      if (channels == 1) return narrow8(to + s, at(0));
      // four channels of a position are one word
      for (int64_t c = 0; c < channels; c += 4) {
        const int64_t n = smaller(4, channels - c);
        bits_t<V> words = at(c);
        if (n > 1) words = words | shl<8>(at(c + 1));
        if (n > 2) words = words | shl<16>(at(c + 2));
        if (n > 3) words = words | shl<24>(at(c + 3));
        u32 lane[lanes<V>];
        FASTNN_MEMCPY(lane, &words, sizeof lane);
        u8* pixel = to + s * channels + c;
        // the fourth byte of three channels is the first of the next position, which comes later
        for (int l = 0; l < lanes<V>; ++l, pixel += channels) {
          if (n == 4 || (n == 3 && channels == 3 && l + 1 < lanes<V>))
            FASTNN_MEMCPY(pixel, &lane[l], 4);
          else
            for (int64_t k = 0; k < n; ++k) pixel[k] = static_cast<u8>(lane[l] >> (8 * k));
        }
      }
    });
  });
}

void dequantize(const QuantizedJob& job, int64_t begin, int64_t end) {
  const int64_t channels = job.channels, positions = job.columns;
  by_image(positions, begin, end, [&](int64_t image, int64_t first, int64_t last) {
    const u8* const from = job.a + image * channels * positions;
    float* const to = reinterpret_cast<float*>(job.y) + image * channels * positions;
    for (int64_t c = 0; c < channels; ++c)
      for (int64_t s = first; s < last; ++s)
        to[c * positions + s] = static_cast<float>(from[s * channels + c] - job.zero) * job.by;
  });
}

void quantize_rows(const RowsJob& job, int64_t begin, int64_t end) {
  for (int64_t r = begin; r < end; ++r) {
    const float* const x = job.x + r * job.length;
    vfloat lows(0.0f), highs(0.0f);
    float low = 0, high = 0;
    each(0, job.length, [&](auto v, int64_t i) {
      using V = decltype(v);
      const V value = load<V>(x + i);
      if constexpr (lanes<V> == 1) {
        low = vmin(value, low);
        high = vmax(value, high);
      } else {
        lows = vmin(value, lows);
        highs = vmax(value, highs);
      }
    });
    if constexpr (lanes<vfloat> > 1) {
      low = vmin(-fold_max(-lows), low);
      high = vmax(fold_max(highs), high);
    }
    float scale = (high - low) / 255.0f, inverse = 1.0f / scale;
    constexpr float most = format<float>::largest;
    if (!(scale <= most && inverse <= most)) scale = inverse = 1.0f;
    const int zero = static_cast<int>(finisher<float>(0, 0, 255).rounded(-low * inverse));
    job.scale[r] = scale;
    job.zero[r] = zero;
    u8* const y = job.y + r * job.length;
    each(0, job.length, [&](auto v, int64_t i) {
      using V = decltype(v);
      narrow8(y + i, finisher<V>(zero, 0, 255).rounded(load<V>(x + i) * V(inverse)));
    });
  }
}

void finish_rows(const FinishJob& job, int64_t begin, int64_t end) {
  for (int64_t r = begin; r < end; ++r) {
    const int64_t row = r * job.outputs;
    // sums reach further than 16 bits, and the difference fits where the product may not: integers wrap
    const u32 zero = static_cast<u32>(job.zero[r]);
    for (int64_t n = 0; n < job.outputs; ++n) {
      const u32 exact = static_cast<u32>(job.acc[row + n]) - zero * static_cast<u32>(job.sums[n]);
      const float value = to_float<float>(exact) * (job.scale[r] * job.weight_scale[n]) + job.bias[n];
      job.y[row + n] = vmin(job.high, vmax(job.low, value));
    }
  }
}

constexpr Quantized table = {
    {depthwise, max_pool, average_pool, window, add, lookup, quantize, dequantize}, quantize_rows, finish_rows};

}  // namespace
FASTNN_END

FASTNN_FAMILY_TABLE(Quantized, quantized, fastnn::table)
