#include "statistics.hpp"

#include "../include/reduce.hpp"
#include "storage.hpp"

FASTNN_BEGIN
namespace {

using namespace fastnn_cpu;

// 1 where m, else 0
template <class V>
FASTNN_FN V one_where(mask_t<V> m) {
  return select(m, V(1.0f), V(0.0f));
}

// The smallest, or the largest, lane.
template <class V, class F>
FASTNN_FN double fold(V x, F better) {
  scalar_t<V> lane[lanes<V>];
  store(lane, x);
  double found = lane[0];
  for (const scalar_t<V> value : lane) found = better(value, found) ? value : found;
  return found;
}

// The elements that are left when whole vectors are through, as doubles.
template <class T>
FASTNN_FN void last_ones(const T* y, int n, double* lane) {
  const lanes16 last = load16_first<storage<T>>(y, n);
  for (int k = 0; k < lanes16::parts; ++k) store(lane + k * lanes<vdouble>, last.part[k]);
}

template <class T>
void describe(const void* data, std::int64_t n, const double* bounds, Description* result) {
  using S = storage<T>;
  using V = typename S::V;
  using N = scalar_t<V>;
  const T* const y = static_cast<const T*>(data);
  const V zero(N(0)), low_from{N(bounds[0])}, low_to{N(bounds[1])}, high_from{N(bounds[2])}, high_to{N(bounds[3])};
  double left[sum_lanes];
  V least = from_bits<V>(bits_t<V>(format_of<V>::infinity)), most = -least;
  V inactive = zero, low = zero, high = zero, nan = zero;
  std::int64_t i = 0;
  for (; i + lanes<V> <= n; i += lanes<V>) {
    const V x = S::load(y + i);
    least = vmin(x, least);
    most = vmax(x, most);
    inactive = inactive + one_where<V>(x <= zero);
    low = low + one_where<V>((x >= low_from) & (x <= low_to));
    high = high + one_where<V>((x >= high_from) & (x <= high_to));
    nan = nan + one_where<V>(x != x);
  }
  Description d = {static_cast<double>(n),
                   0,
                   0,
                   fold(least, [](N a, double b) { return a < b; }),
                   fold(most, [](N a, double b) { return a > b; }),
                   static_cast<double>(fold_sum(inactive)),
                   static_cast<double>(fold_sum(low)),
                   static_cast<double>(fold_sum(high))};
  bool any_nan = fold_sum(nan) > 0;
  last_ones(y + i, static_cast<int>(n - i), left);
  for (int k = 0; k < n - i; ++k) {
    const double x = left[k];
    d.minimum = x < d.minimum ? x : d.minimum;
    d.maximum = x > d.maximum ? x : d.maximum;
    d.inactive += x <= 0;
    d.low += x >= bounds[0] && x <= bounds[1];
    d.high += x >= bounds[2] && x <= bounds[3];
    any_nan = any_nan || x != x;
  }
  if (any_nan) d.minimum = d.maximum = __builtin_nan("");

  lanes16 sums = broadcast16(0), squares = broadcast16(0);
  for (i = 0; i + sum_lanes <= n; i += sum_lanes) sums = sums + load16<S>(y + i);
  last_ones(y + i, static_cast<int>(n - i), left);
  d.sum = total(sums);
  for (int k = 0; k < n - i; ++k) d.sum += left[k];
  const double middle = d.sum / static_cast<double>(n);
  const vdouble mean(middle);
  const auto add_square = [mean](vdouble sum, vdouble x) { return fmadd(x - mean, x - mean, sum); };
  for (i = 0; i + sum_lanes <= n; i += sum_lanes) squares = map16(squares, load16<S>(y + i), add_square);
  d.squares = total(squares);
  for (int k = 0; k < n - i; ++k) d.squares += (left[k] - middle) * (left[k] - middle);
  *result = d;
}

constexpr std::int64_t columns_block = 512;  // channels counted at a time where they lie one behind the other

template <class T>
void inactive(const void* data, std::int64_t begin, std::int64_t end, std::int64_t channels, std::int64_t inner,
              double* counts) {
  using S = storage<T>;
  using V = typename S::V;
  using N = scalar_t<V>;
  constexpr std::int64_t exact = 1 << 20;  // a float counts that far, and further
  const T* const y = static_cast<const T*>(data);
  const V zero(N(0));
  if (inner > 1) {
    for (std::int64_t o = begin; o < end; ++o)
      for (std::int64_t c = 0; c < channels; ++c)
        for (std::int64_t first = 0; first < inner; first += exact) {
          const T* const p = y + (o * channels + c) * inner + first;
          const std::int64_t n = inner - first < exact ? inner - first : exact;
          V sum = zero;
          std::int64_t i = 0;
          for (; i + lanes<V> <= n; i += lanes<V>) sum = sum + one_where<V>(S::load(p + i) <= zero);
          double left[sum_lanes];
          last_ones(p + i, static_cast<int>(n - i), left);
          for (int k = 0; k < n - i; ++k) counts[c] += left[k] <= 0;
          counts[c] += static_cast<double>(fold_sum(sum));
        }
    return;
  }
  alignas(64) N count[columns_block];
  for (std::int64_t first = 0; first < channels; first += columns_block)
    for (std::int64_t row = begin; row < end; row += exact) {
      const std::int64_t n = channels - first < columns_block ? channels - first : columns_block,
                         stop = end - row < exact ? end : row + exact;
      for (N& each : count) each = 0;
      for (std::int64_t o = row; o < stop; ++o) {
        const T* const p = y + o * channels + first;
        std::int64_t c = 0;
        for (; c + lanes<V> <= n; c += lanes<V>)
          store(count + c, load<V>(count + c) + one_where<V>(S::load(p + c) <= zero));
        double left[sum_lanes];
        last_ones(p + c, static_cast<int>(n - c), left);
        for (int k = 0; k < n - c; ++k) count[c + k] += left[k] <= 0 ? N(1) : N(0);
      }
      for (std::int64_t c = 0; c < n; ++c) counts[first + c] += static_cast<double>(count[c]);
    }
}

constexpr Statistics table = {{describe<float>, describe<double>, describe<binary16>, describe<bfloat16>},
                              {inactive<float>, inactive<double>, inactive<binary16>, inactive<bfloat16>}};

}  // namespace
FASTNN_END

FASTNN_FAMILY_TABLE(Statistics, statistics, fastnn::table)
