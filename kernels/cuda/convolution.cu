// Convolutions as products of matrices: columns are what every position sees, a row for each weight of a channel; the
// products are cuBLAS's. Where a group has one input channel (depthwise) there is too little to multiply, and kernels
// go over the taps themselves.
//
// Columns are written once and read once by the product: 2 kernel_rows kernel_columns numbers for one of the input.
#include "bias.cuh"
#include "finish.cuh"

FASTNN_CUDA_BEGIN

struct conv_shape {
  i64 images, channels, height, width, rows, columns;  // of x; rows, columns: of y
  i64 kernel_rows, kernel_columns, stride_rows, stride_columns, top, left, gap_rows, gap_columns;

  FASTNN_FN i64 taps() const { return kernel_rows * kernel_columns; }
  FASTNN_FN i64 positions() const { return rows * columns; }
};

// to[channel, tap, image, position] = what that position's window has under the tap, 0 outside of x.
template <class T>
__global__ void to_columns(const T* x, T* to, conv_shape s) {
  const i64 length = s.images * s.positions(), piece = 8 * blockDim.x, pieces = (length + piece - 1) / piece;
  const T zero = narrowed<T>(compute_t<T>(0));
  for (i64 task = blockIdx.x; task < s.channels * s.taps() * pieces; task += gridDim.x) {
    const i64 row = task / pieces, first = (task - row * pieces) * piece;
    const i64 channel = row / s.taps(), tap = row % s.taps();
    const i64 down = tap / s.kernel_columns * s.gap_rows - s.top;
    const i64 across = tap % s.kernel_columns * s.gap_columns - s.left;
    const i64 last = first + piece < length ? first + piece : length;
    for (i64 e = first + threadIdx.x; e < last; e += blockDim.x) {
      i64 j, i;
      const i64 image = divided(divided(e, s.columns, j), s.rows, i);
      const i64 h = i * s.stride_rows + down, w = j * s.stride_columns + across;
      const bool inside = h >= 0 && h < s.height && w >= 0 && w < s.width;
      to[row * length + e] = inside ? x[((image * s.channels + channel) * s.height + h) * s.width + w] : zero;
    }
  }
}

// f(tap, row, column of y) for the windows that hold pixel (h, w), in the order of the taps.
template <class F>
FASTNN_FN void each_holder(const conv_shape& s, i64 h, i64 w, F f) {
  for (i64 a = 0; a < s.kernel_rows; ++a) {
    i64 rest;
    const i64 down = h + s.top - a * s.gap_rows;
    if (down < 0) continue;
    const i64 i = divided(down, s.stride_rows, rest);
    if (rest != 0 || i >= s.rows) continue;
    for (i64 b = 0; b < s.kernel_columns; ++b) {
      const i64 across = w + s.left - b * s.gap_columns;
      if (across < 0) continue;
      const i64 j = divided(across, s.stride_columns, rest);
      if (rest == 0 && j < s.columns) f(a * s.kernel_columns + b, i, j);
    }
  }
}

// The way back: dx = the sums of all numbers in columns that come from one pixel.
template <class T>
__global__ void from_columns(const compute_t<T>* from, T* dx, conv_shape s) {
  using V = compute_t<T>;
  const i64 length = s.images * s.positions(), count = s.images * s.channels * s.height * s.width;
  for (i64 e = grid_thread(); e < count; e += grid_threads()) {
    i64 w, h, channel;
    const i64 image = divided(divided(divided(e, s.width, w), s.height, h), s.channels, channel);
    const V* const rows = from + channel * s.taps() * length + image * s.positions();
    V sum = V(0);
    each_holder(s, h, w, [&](i64 tap, i64 i, i64 j) { sum = sum + rows[tap * length + i * s.columns + j]; });
    dx[e] = narrowed<T>(sum);
  }
}

// Depthwise: output channel o sees input channel o / outputs, by weight[o, tap].
template <class T, class R>
__global__ void depthwise(const T* x, const T* weight, const compute_t<T>* bias, R* y, conv_shape s, i64 outputs) {
  using V = compute_t<T>;
  const i64 all = s.channels * outputs, count = s.images * all * s.positions();
  for (i64 e = grid_thread(); e < count; e += grid_threads()) {
    i64 j, i, o;
    const i64 image = divided(divided(divided(e, s.columns, j), s.rows, i), all, o);
    const T* const plane = x + (image * s.channels + divided(o, outputs)) * s.height * s.width;
    const T* const w = weight + o * s.taps();
    V sum = V(0);
    for (i64 a = 0; a < s.kernel_rows; ++a) {
      const i64 row = i * s.stride_rows + a * s.gap_rows - s.top;
      if (row < 0 || row >= s.height) continue;
      for (i64 b = 0; b < s.kernel_columns; ++b) {
        const i64 column = j * s.stride_columns + b * s.gap_columns - s.left;
        if (column < 0 || column >= s.width) continue;
        sum = fmadd(widened(w[a * s.kernel_columns + b]), widened(plane[row * s.width + column]), sum);
      }
    }
    y[e] = narrowed<R>(bias == nullptr ? sum : sum + bias[o]);
  }
}
template <class T>
__global__ void depthwise_input(const T* dy, const T* weight, T* dx, conv_shape s, i64 outputs) {
  using V = compute_t<T>;
  const i64 count = s.images * s.channels * s.height * s.width;
  for (i64 e = grid_thread(); e < count; e += grid_threads()) {
    i64 w, h, channel;
    const i64 image = divided(divided(divided(e, s.width, w), s.height, h), s.channels, channel);
    const i64 first = channel * outputs;
    V sum = V(0);
    each_holder(s, h, w, [&](i64 tap, i64 i, i64 j) {
      for (i64 o = first; o < first + outputs; ++o) {
        const T g = dy[((image * s.channels * outputs + o) * s.rows + i) * s.columns + j];
        sum = fmadd(widened(weight[o * s.taps() + tap]), widened(g), sum);
      }
    });
    dx[e] = narrowed<T>(sum);
  }
}
// A block takes a weight.
template <class T>
__global__ void depthwise_weight(const T* dy, const T* x, T* dweight, conv_shape s, i64 outputs, i64 accumulate) {
  using V = compute_t<T>;
  const i64 all = s.channels * outputs;
  for (i64 task = blockIdx.x; task < all * s.taps(); task += gridDim.x) {
    const i64 o = task / s.taps(), tap = task % s.taps(), channel = o / outputs;
    const i64 down = tap / s.kernel_columns * s.gap_rows - s.top;
    const i64 across = tap % s.kernel_columns * s.gap_columns - s.left;
    summing<V> sum;
    for (i64 e = threadIdx.x; e < s.images * s.positions(); e += blockDim.x) {
      i64 place, j;
      const i64 image = divided(e, s.positions(), place), i = divided(place, s.columns, j);
      const i64 h = i * s.stride_rows + down, w = j * s.stride_columns + across;
      if (h < 0 || h >= s.height || w < 0 || w >= s.width) continue;
      const V g = widened(dy[(image * all + o) * s.positions() + place]);
      sum.add(g * widened(x[((image * s.channels + channel) * s.height + h) * s.width + w]));
    }
    const double total = sum.of_block();
    if (threadIdx.x == 0)
      dweight[task] =
          narrowed<T>(static_cast<V>(accumulate ? total + static_cast<double>(widened(dweight[task])) : total));
  }
}

FASTNN_CUDA_END
