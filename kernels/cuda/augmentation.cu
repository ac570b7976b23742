// Augmentation of batches of images (N, C, H, W), with the bits of the CPU.
//
// mix reads two samples and writes one, 3 operations an element; cutout writes the boxes; crop copies; warp computes a
// place for every pixel, which all channels share, and reads four neighbours; resize multiplies as often as an axis has
// taps, rows of boxes anew for every one of their results: that is less than writing sums across down and reading them.
#include "indices.cuh"

FASTNN_CUDA_BEGIN

// y[n] = weights[n] x[n] + (1 - weights[n]) x[permutation[n]]; a block takes a piece of a sample.
template <class T>
__global__ void mix_samples(const T* x, T* y, const i64* permutation, const compute_t<T>* weights, i64 samples,
                            i64 inner, i64 piece) {
  using V = compute_t<T>;
  const i64 pieces = (inner + piece - 1) / piece;
  for (i64 task = blockIdx.x; task < samples * pieces; task += gridDim.x) {
    const i64 n = task / pieces, first = (task - n * pieces) * piece;
    const i64 count = inner - first < piece ? inner - first : piece;
    const V weight = weights[n], rest = V(1) - weight;
    elementwise(
        threadIdx.x, blockDim.x, count, [=](i64, V one, V other) { return fmadd(weight, one, rest * other); },
        y + n * inner + first, x + n * inner + first, x + permutation[n] * inner + first);
  }
}

// A block takes a plane.
template <class T>
__global__ void cutout_boxes(T* y, const i64* boxes, i64 planes, i64 channels, i64 height, i64 width,
                             compute_t<T> fill) {
  const T value = narrowed<T>(fill);
  for (i64 plane = blockIdx.x; plane < planes; plane += gridDim.x) {
    const i64* const box = boxes + 4 * (divided(plane, channels));
    const i64 columns = box[3] - box[2], count = (box[1] - box[0]) * columns;
    for (i64 i = threadIdx.x; i < count; i += blockDim.x) {
      i64 column;
      const i64 row = divided(i, columns, column);
      y[(plane * height + box[0] + row) * width + box[2] + column] = value;
    }
  }
}

struct image_frame {
  i64 count, channels, height, width, rows, columns;  // count: elements of the result
};

template <class T>
__global__ void crop_images(const T* x, T* y, const i64* places, image_frame f, compute_t<T> fill) {
  const T value = narrowed<T>(fill);
  for (i64 i = grid_thread(); i < f.count; i += grid_threads()) {
    i64 row, column;
    const i64 plane = divided(divided(i, f.columns, column), f.rows, row);
    const i64* const place = places + 3 * (divided(plane, f.channels));
    const i64 from_row = row + place[0], from_column = (place[2] ? f.columns - 1 - column : column) + place[1];
    const bool inside = from_row >= 0 && from_row < f.height && from_column >= 0 && from_column < f.width;
    y[i] = inside ? x[(plane * f.height + from_row) * f.width + from_column] : value;
  }
}

// Every pixel is looked up between four neighbours. A place outside is moved to the nearest one that reads nothing but
// fill; so is NaN.
template <class T>
__global__ void warp_images(const T* x, T* y, const double* maps, image_frame f, compute_t<T> fill) {
  using V = compute_t<T>;
  const i64 pixels = f.rows * f.columns, all = f.count / f.channels, plane_size = f.height * f.width;
  const double lowest = -1, lowermost = static_cast<double>(f.height), rightmost = static_cast<double>(f.width);
  for (i64 i = grid_thread(); i < all; i += grid_threads()) {
    i64 pixel, column;
    const i64 sample = divided(i, pixels, pixel), row = divided(pixel, f.columns, column);
    const double* const m = maps + 7 * sample;
    const double v = static_cast<double>(row) - static_cast<double>(f.rows - 1) / 2;
    const double u = static_cast<double>(column) - static_cast<double>(f.columns - 1) / 2;
    const double stretch = 1 + m[6] * (u * u + v * v);
    double across = (m[0] * u + m[1] * v) * stretch + m[4], along = (m[2] * u + m[3] * v) * stretch + m[5];
    across = across > lowest ? across : lowest;
    across = across < rightmost ? across : rightmost;
    along = along > lowest ? along : lowest;
    along = along < lowermost ? along : lowermost;
    const int left = static_cast<int>(across + 1) - 1, top = static_cast<int>(along + 1) - 1;
    const V right = static_cast<V>(across - left), down = static_cast<V>(along - top);
    const auto in = [](int a, i64 n) { return a >= 0 && a < n; };
    for (i64 channel = 0; channel < f.channels; ++channel) {
      const T* const plane = x + (sample * f.channels + channel) * plane_size;
      const auto get = [&](int r, int c) {
        return in(r, f.height) && in(c, f.width) ? widened(plane[r * f.width + c]) : fill;
      };
      const V p = get(top, left), q = get(top, left + 1), r = get(top + 1, left), s = get(top + 1, left + 1);
      const V upper = p + right * (q - p), lower = r + right * (s - r);
      y[(sample * f.channels + channel) * pixels + pixel] = narrowed<T>(upper + down * (lower - upper));
    }
  }
}

template <class T>
__global__ void resize_images(const T* x, T* y, const int* rows, const T* row_weights, const int* columns,
                              const T* column_weights, image_frame f, i64 row_taps, i64 column_taps) {
  using V = compute_t<T>;
  for (i64 i = grid_thread(); i < f.count; i += grid_threads()) {
    i64 row, column;
    const i64 plane = divided(divided(i, f.columns, column), f.rows, row), sample = divided(plane, f.channels);
    const T* const down = row_weights + sample * row_taps * f.rows + row;
    const T* const across = column_weights + sample * column_taps * f.columns + column;
    const T* line =
        x + (plane * f.height + rows[sample * f.rows + row]) * f.width + columns[sample * f.columns + column];
    V total = V(0);
    for (i64 k = 0; k < row_taps; ++k, line += f.width) {
      V sum = widened(across[0]) * widened(line[0]);
      for (i64 j = 1; j < column_taps; ++j) sum = sum + widened(across[j * f.columns]) * widened(line[j]);
      const V term = widened(down[k * f.rows]) * sum;
      total = k == 0 ? term : total + term;
    }
    y[i] = narrowed<T>(total);
  }
}

FASTNN_CUDA_END
