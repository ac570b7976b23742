// Losses and their gradients. Cross-entropy and hinge loss go along axis 1 of (outer, classes, inner), as softmax does.
//
// Scores are read from memory once, gradients written once. Operations an element: cross-entropy 40, hinge 6, squared
// error 3, binary cross-entropy 40. A label that is no class makes its loss and gradient NaN: only the host could raise
// an error, and it would have to wait for the device.
#include "classes.cuh"
#include "losses.hpp"

FASTNN_CUDA_BEGIN

// A factor that the host knows, or that lies on the device.
FASTNN_FN double known(double value, const double* on_device) { return on_device == nullptr ? value : *on_device; }

struct label_of {
  bool given, counts, valid;
  i64 number;

  FASTNN_FN label_of(const i64* labels, i64 column, i64 ignored, i64 classes)
      : given(labels != nullptr), counts(true), valid(true), number(0) {
    if (!given) return;
    number = labels[column];
    counts = number != ignored;
    valid = !counts || (number >= 0 && number < classes);
    if (!counts || !valid) number = 0;
  }
  // loss, or what stands in its place
  FASTNN_FN double of(double loss) const {
    return !valid ? static_cast<double>(from_bits<float>(0x7fc00000u)) : counts ? loss : 0.0;
  }
};

// With the target t of a class, T the sum of targets, L = log sum e^(x - max) and p = softmax, loss = T L +
// sum t (max - x), gradient = p T - t. A label's own target is added in double, at its place.
template <class T, bool rows>
__global__ void cross_entropy(const T* logits, const i64* labels, const T* targets, const compute_t<T>* weight,
                              T* gradient, double* losses, i64 ignored, double smoothing, double scale_value,
                              const double* scale_at, i64 outer, i64 classes, i64 inner) {
  using V = compute_t<T>;
  const double scale = known(scale_value, scale_at), spread_share = smoothing / static_cast<double>(classes);
  const V keep = static_cast<V>(1.0 - smoothing), share = static_cast<V>(spread_share), zero(0.0f);
  each_column<rows>(outer, classes, inner, [&](const auto& walk, i64 at, i64 column) {
    const T* const x = logits + at;
    const label_of label(labels, column, ignored, classes);
    const V maximum = maximum_along(walk, x);
    const softmax_shift<V> shift = softmax_shift_of(maximum);
    const bool spread = !label.given || smoothing != 0.0;
    const auto target = [&](i64 i, i64 c) {  // apart from the label
      const V t = targets == nullptr ? share : fmadd(widened(targets[at + i]), keep, share);
      return weight == nullptr ? t : t * weight[c];
    };
    double total = 0, loss = 0, own = 0, own_weight = 1;
    if (spread) {
      summing<V> all, part;
      walk.each(x, [&](auto lanes, i64 i, i64 c) {
        constexpr int n = decltype(lanes)::value;
        const auto v = load_lanes<n>(x + i, 0, n);
        FASTNN_UNROLL
        for (int k = 0; k < n; ++k) {
          const V t = target(i + k, c + k);
          all.add_exactly(static_cast<double>(t));
          if (t != zero) part.add_exactly(static_cast<double>(t) * static_cast<double>(maximum - v.at[k]));
        }
      });
      total = walk.total(all);
      loss = walk.total(part);
    }
    const softmax_sums<V> sums = exponential_sums(walk, x, maximum, shift);
    const V score = label.given ? widened(x[label.number * walk.step()]) : zero;
    if (label.given) {
      own_weight = !label.counts ? 0.0 : weight == nullptr ? 1.0 : static_cast<double>(weight[label.number]);
      own = own_weight * (1.0 - smoothing);
      total = total + own;
      if (own != 0.0) loss = loss + own * (static_cast<double>(maximum) - static_cast<double>(score));
    }
    loss = label.of(loss + total * sums.log().part[0]);
    if (walk.first()) losses[column] = loss;
    if (gradient == nullptr) return;
    const wide<V> wide_sum = sums.sum();
    const two_part<V> factor = quotient(broadcast_wide<V>(total * scale), wide_sum);
    const V negative = static_cast<V>(-scale);
    const double sum = wide_sum.part[0], e = static_cast<double>(softmax_exp(score, shift));
    const double wanted = own + (spread ? spread_share : 0.0) * own_weight;
    const V at_label = static_cast<V>((spread ? total * e / sum - wanted : (e - sum) / sum * own) * scale);
    walk.each(x, [&](auto lanes, i64 i, i64 c) {
      constexpr int n = decltype(lanes)::value;
      auto v = load_lanes<n>(x + i, 0, n);
      FASTNN_UNROLL
      for (int k = 0; k < n; ++k) {
        V d = times(softmax_exp(v.at[k], shift), factor);
        if (spread) d = fmadd(target(i + k, c + k), negative, d);
        if (label.given && c + k == label.number) d = at_label;
        v.at[k] = !label.valid ? static_cast<V>(loss) : label.counts ? d : zero;
      }
      store_lanes<n>(gradient + at + i, v, 0, n);
    });
  });
}

// The sum over the other classes of max(0, x - score + margin). Scores equal to the label's count the margin each, the
// label itself excepted: so infinite scores are compared, never subtracted from themselves.
template <class T, bool rows>
__global__ void hinge(const T* scores, const i64* labels, T* gradient, double* losses, i64 ignored, double margin_value,
                      double scale_value, const double* scale_at, i64 outer, i64 classes, i64 inner) {
  using V = compute_t<T>;
  const double scale = known(scale_value, scale_at);
  const V zero(0.0f), margin = static_cast<V>(margin_value), step = static_cast<V>(scale);
  each_column<rows>(outer, classes, inner, [&](const auto& walk, i64 at, i64 column) {
    const T* const x = scores + at;
    const label_of label(labels, column, ignored, classes);
    const V score = widened(x[label.number * walk.step()]);
    const auto excess = [&](V v) { return hinge_excess(v, score, margin); };
    double ties = 0, active = 0;
    const double sum = sum_along(walk, x, [&](V v, i64) {
      const V h = excess(v);
      ties = v == score ? ties + 1 : ties;
      active = h > zero ? active + 1 : active;
      return v == score ? zero : vmax(zero, h);
    });
    const double others = walk.total(ties) - 1.0, rest = walk.total(active) - (margin_value > 0.0 ? 1.0 : 0.0);
    const double loss = label.of(sum + others * margin_value);
    if (walk.first()) losses[column] = loss;
    if (gradient == nullptr) return;
    const V at_label = static_cast<V>(sum == sum ? rest * -scale : sum);
    walk.each(x, [&](auto lanes, i64 i, i64 c) {
      constexpr int n = decltype(lanes)::value;
      auto v = load_lanes<n>(x + i, 0, n);
      FASTNN_UNROLL
      for (int k = 0; k < n; ++k) {
        const V h = excess(v.at[k]), d = h > zero ? step : h == h ? zero : h;
        v.at[k] = !label.valid ? static_cast<V>(loss) : !label.counts ? zero : c + k == label.number ? at_label : d;
      }
      store_lanes<n>(gradient + at + i, v, 0, n);
    });
  });
}

// Losses of single elements: partial[block] is the sum of those that a block has seen. `term(i, x, target, sum)` gives
// loss and gradient of element i, and adds to the sum.
template <class V>
struct element_loss {
  V loss, gradient;
};
template <class T, class F>
__device__ __forceinline__ void element_losses(const T* x, const T* target, T* gradient, compute_t<T>* losses,
                                               double* partial, i64 count, F term) {
  using V = compute_t<T>;
  constexpr int n = lanes_together<T>;
  summing<V> sum;
  for_packs<n>(grid_thread(), grid_threads(), count, x, [&](i64 first, int begin, int end) {
    auto v = load_lanes<n>(x + first, begin, end);
    const auto t = load_lanes<n>(target + first, begin, end);
    lanes_of<V, n> each;
    FASTNN_UNROLL
    for (int k = 0; k < n; ++k)
      if (begin <= k && k < end) {
        const element_loss<V> r = term(first + k, v.at[k], t.at[k], sum);
        each.at[k] = r.loss;
        v.at[k] = r.gradient;
      }
    if (gradient != nullptr) store_lanes<n>(gradient + first, v, begin, end);
    if (losses != nullptr) store_lanes<n>(losses + first, each, begin, end);
  });
  const double total = sum.of_block();
  if (threadIdx.x == 0) partial[blockIdx.x] = total;
}

template <class T>
__global__ void squared_error(const T* x, const T* target, T* gradient, compute_t<T>* losses, double* partial, i64 n,
                              double scale) {
  using V = compute_t<T>;
  const V factor = static_cast<V>(2.0 * scale);
  element_losses(x, target, gradient, losses, partial, n, [&](i64, V v, V t, auto& sum) {
    const V d = v - t;
    sum.add_exactly(static_cast<double>(d) * static_cast<double>(d));
    return element_loss<V>{d * d, factor * d};
  });
}

// A weight is null for 1; it has one number for all elements, or one for each (step 1).
template <class T>
__global__ void binary_cross_entropy(const T* x, const T* target, const compute_t<T>* weight,
                                     const compute_t<T>* positive_weight, T* gradient, compute_t<T>* losses,
                                     double* partial, i64 n, i64 weight_step, i64 positive_step, double scale) {
  using V = compute_t<T>;
  const V factor = static_cast<V>(scale);
  element_losses(x, target, gradient, losses, partial, n, [&](i64 i, V v, V t, auto& sum) {
    const V w = weight == nullptr ? V(1) : weight[i * weight_step];
    const V p = positive_weight == nullptr ? V(1) : positive_weight[i * positive_step];
    const fastnn::binary_cross_entropy<V> r = binary_cross_entropy_of(v, t, p);
    const V loss = w * r.loss;
    sum.add(loss);
    return element_loss<V>{loss, w * r.gradient * factor};
  });
}

// How much the labels count, with their class's weight; labels that are no class count as others do not.
__global__ void count_labels(const i64* labels, const double* weight, double* partial, i64 n, i64 classes, i64 ignores,
                             i64 ignored) {
  summing<double> sum;
  for (i64 i = grid_thread(); i < n; i += grid_threads()) {
    const i64 label = labels[i];
    if (label < 0 || label >= classes || (ignores && label == ignored)) continue;
    sum.add(weight == nullptr ? 1.0 : weight[label]);
  }
  const double total = sum.of_block();
  if (threadIdx.x == 0) partial[blockIdx.x] = total;
}

FASTNN_CUDA_END
