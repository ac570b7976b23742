// What a training loop watches of activations. `describe` reads y twice: for mean, extremes and counts, then for the
// squares about the mean. 8 operations an element, sums in double.
#include "channels.cuh"
#include "sums.cuh"

FASTNN_CUDA_BEGIN

struct smaller_of {
  FASTNN_FN double operator()(double a, double b) const { return vmin(a, b); }
};
struct larger_of_two {
  FASTNN_FN double operator()(double a, double b) const { return vmax(a, b); }
};
enum described { sum_of, inactive_of, low_of, high_of, nan_of, least_of, most_of, described_count };

// Every block's sums, counts, smallest and largest number, each kind one behind the other.
template <class T>
__global__ void describe_elements(const T* y, double* partial, i64 n, double low_from, double low_to, double high_from,
                                  double high_to) {
  using V = compute_t<T>;
  const double infinity = from_bits<double>(format<double>::infinity);
  double of[described_count] = {0, 0, 0, 0, 0, infinity, -infinity};
  summing<V> sum;
  for_each(
      grid_thread(), grid_threads(), n,
      [&](i64, V v) {
        const double x = static_cast<double>(v);
        sum.add_exactly(x);
        of[inactive_of] += x <= 0;
        of[low_of] += x >= low_from && x <= low_to;
        of[high_of] += x >= high_from && x <= high_to;
        of[nan_of] += x != x;
        of[least_of] = vmin(x, of[least_of]);
        of[most_of] = vmax(x, of[most_of]);
      },
      y);
  of[sum_of] = sum.of_block();
  for (int j = inactive_of; j <= nan_of; ++j) of[j] = block_sum(of[j]);
  of[least_of] = block_reduce(of[least_of], infinity, smaller_of());
  of[most_of] = block_reduce(of[most_of], -infinity, larger_of_two());
  if (threadIdx.x == 0)
    for (int j = 0; j < described_count; ++j) partial[j * gridDim.x + blockIdx.x] = of[j];
}

// result: mean, standard deviation, minimum, maximum, how many are <= 0, in the first range, in the second.
__global__ void describe_first(const double* partial, double* result, i64 blocks, double n) {
  const double infinity = from_bits<double>(format<double>::infinity);
  double of[described_count];
  for (int j = 0; j < described_count; ++j) {
    summing<double> sum;
    double least = infinity, most = -infinity;
    for (i64 i = threadIdx.x; i < blocks; i += blockDim.x) {
      const double x = partial[j * blocks + i];
      sum.add(x);
      least = vmin(x, least);
      most = vmax(x, most);
    }
    of[j] = j == least_of  ? block_reduce(least, infinity, smaller_of())
            : j == most_of ? block_reduce(most, -infinity, larger_of_two())
                           : sum.of_block();
  }
  if (threadIdx.x != 0) return;
  const double nan = from_bits<double>(format<double>::infinity + 1);
  const bool any_nan = of[nan_of] > 0;
  const double results[] = {
      of[sum_of] / n, 0,          any_nan ? nan : of[least_of], any_nan ? nan : of[most_of], of[inactive_of],
      of[low_of],     of[high_of]};
  for (int j = 0; j < 7; ++j) result[j] = results[j];
}
template <class T>
__global__ void describe_squares(const T* y, const double* result, double* partial, i64 n) {
  using V = compute_t<T>;
  const double mean = result[0];
  summing<V> sum;
  for_each(
      grid_thread(), grid_threads(), n,
      [&](i64, V v) {
        const double d = static_cast<double>(v) - mean;
        sum.add_exactly(d * d);
      },
      y);
  const double total = sum.of_block();
  if (threadIdx.x == 0) partial[blockIdx.x] = total;
}
__global__ void describe_second(const double* squares, double* result, double n) {
  if (grid_thread() == 0) result[1] = vsqrt(squares[0] / n);
}

// How many elements of each channel of y (samples, channels, positions) are <= 0.
template <class T>
struct inactive_pass {
  const T* y;
  double* partial;
  channel_shape s;

  template <int lanes>
  __device__ __forceinline__ void run(const channel_walk<lanes>& walk) const {
    double count[1] = {0};
    walk.each([&](i64 at, i64) {
      const auto v = load_lanes<lanes>(y + at, 0, lanes);
      FASTNN_UNROLL
      for (int k = 0; k < lanes; ++k) count[0] += v.at[k] <= compute_t<T>(0);
    });
    put_sums(s, walk, count, partial);
  }
};
template <class T>
__global__ void inactive_counts(const T* y, double* partial, i64 outer, i64 channels, i64 inner, i64 splits) {
  const channel_shape s = {outer, channels, inner, splits};
  each_share<T>(s, inactive_pass<T>{y, partial, s});
}
__global__ void inactive_totals(const double* partial, double* counts, i64 outer, i64 channels, i64 inner, i64 splits) {
  const channel_shape s = {outer, channels, inner, splits};
  for (i64 c = blockIdx.x; c < channels; c += gridDim.x) put_channel_sum(counts, channel_sum(s, partial, 0, c), c, 0);
}

FASTNN_CUDA_END
