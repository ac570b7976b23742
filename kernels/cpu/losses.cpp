// The losses for one instruction set. Operations an element: cross-entropy, 25 (softmax and what tells the maximum
// apart), hinge 6, squared error 3, binary cross-entropy 40.
#include "../include/losses.hpp"

#include "class_losses.hpp"

FASTNN_BEGIN
namespace {

template <class T>
double cross_entropy(const ClassLoss& job, const half_format* format, int64_t begin, int64_t end, void* room) {
  return by_lines<T>(job, format, begin, end, room,
                     [&](const auto& walk, const T* x, T* g, const T* q, int64_t first, int n) {
                       const chosen<T> label = chosen_along(job, walk, x, first, job.labels ? n : 0);
                       return cross_entropy_along(job, walk, x, g, q, label);
                     });
}

template <class T>
double hinge(const ClassLoss& job, const half_format* format, int64_t begin, int64_t end, void* room) {
  return by_lines<T>(job, format, begin, end, room,
                     [&](const auto& walk, const T* x, T* g, const T*, int64_t first, int n) {
                       return hinge_along(job, walk, x, g, chosen_along(job, walk, x, first, n));
                     });
}

template <class T>
double squared_error(const ElementLoss& job, int64_t begin, int64_t end, void*) {
  using V = vector_of<T>;
  using S = scalar_t<V>;
  const T *const x = static_cast<const T*>(job.x) + begin, *const t = static_cast<const T*>(job.target) + begin;
  T* const g = job.gradient ? static_cast<T*>(job.gradient) + begin : nullptr;
  S* const losses = job.losses ? static_cast<S*>(job.losses) + begin : nullptr;
  const V scale(static_cast<S>(2.0 * job.scale));
  const wide<V> sum = along{end - begin}.products<V>([&](int64_t i, int64_t, int n) {
    const V d = load_some(x + i, n) - load_some(t + i, n);
    if (g) store_some(g + i, scale * d, n);
    if (losses) store_some(losses + i, d * d, n);
    return pair<V>{d, d};
  });
  double lane[lanes<V>];
  store(lane, sum);
  return lane[0];
}

template <class T>
double binary_cross_entropy_loss(const ElementLoss& job, int64_t begin, int64_t end) {
  using V = vector_of<T>;
  using S = scalar_t<V>;
  const T *const x = static_cast<const T*>(job.x) + begin, *const t = static_cast<const T*>(job.target) + begin;
  T* const g = job.gradient ? static_cast<T*>(job.gradient) + begin : nullptr;
  S* const losses = job.losses ? static_cast<S*>(job.losses) + begin : nullptr;
  const V scale(static_cast<S>(job.scale));
  const auto weight = [&](const void* array, int64_t step, int64_t i, int n) {
    if (!array) return V(1.0f);
    const S* const p = static_cast<const S*>(array);
    return step ? load_some(p + begin + i, n) : V(*p);
  };
  const wide<V> sum = along{end - begin}.sum<V>([&](int64_t i, int64_t, int n) {
    const V w = weight(job.weight, job.weight_step, i, n);
    const V p = weight(job.positive_weight, job.positive_weight_step, i, n);
    const binary_cross_entropy<V> r = binary_cross_entropy_of(load_logits(x + i, n), load_some(t + i, n), p);
    const V loss = w * r.loss;
    if (g) store_some(g + i, w * r.gradient * scale, n);
    if (losses) store_some(losses + i, loss, n);
    return loss;
  });
  double lane[lanes<V>];
  store(lane, sum);
  return lane[0];
}

// A loop over 16-bit elements: that over float, for pieces widened into working memory
template <double (*loop)(const ElementLoss&, int64_t, int64_t)>
__attribute__((noinline)) double element_halves(const ElementLoss& job, const half_format& format, int64_t begin,
                                                int64_t end, void* room) {
  const int64_t step = half_elements(1, 1);
  float *const x = static_cast<float*>(room), *const t = x + step;
  compensated sum;
  for (int64_t i = begin; i < end; i += step) {
    const int64_t n = end - i < step ? end - i : step;
    const auto from = [&](const void* p, int64_t step) {
      return p ? static_cast<const float*>(p) + i * step : nullptr;
    };
    format.widen(x, 0, static_cast<const u16*>(job.x) + i, 0, 1, n);
    format.widen(t, 0, static_cast<const u16*>(job.target) + i, 0, 1, n);
    ElementLoss piece = job;
    piece.x = x, piece.target = t, piece.gradient = job.gradient ? x : nullptr;
    piece.losses = job.losses ? static_cast<float*>(job.losses) + i : nullptr;
    piece.weight = from(job.weight, job.weight_step);
    piece.positive_weight = from(job.positive_weight, job.positive_weight_step);
    sum.add(loop(piece, 0, n));
    if (job.gradient) format.narrow(static_cast<u16*>(job.gradient) + i, 0, x, 0, 1, n);
  }
  return sum.value();
}

// The loops of each dtype
template <class T, double (*loop)(const ClassLoss&, const half_format*, int64_t, int64_t, void*)>
double over_classes(const ClassLoss& job, int64_t begin, int64_t end, void* room) {
  if constexpr (sizeof(T) == 2)
    return loop(job, &half_format_of<T>, begin, end, room);
  else
    return loop(job, nullptr, begin, end, room);
}
template <class T, double (*loop)(const ElementLoss&, int64_t, int64_t)>
double over_elements(const ElementLoss& job, int64_t begin, int64_t end, void* room) {
  if constexpr (sizeof(T) == 2)
    return element_halves<loop>(job, half_format_of<T>, begin, end, room);
  else
    return loop(job, begin, end);
}

#define FASTNN_EACH_DTYPE(over, f) \
  {over<float, f<float>>, over<double, f<double>>, over<binary16, f<float>>, over<bfloat16, f<float>>}
constexpr Losses table = {
    FASTNN_EACH_DTYPE(over_classes, cross_entropy),
    FASTNN_EACH_DTYPE(over_classes, hinge),
    {squared_error<float>, squared_error<double>, squared_error<binary16>, squared_error<bfloat16>},
    FASTNN_EACH_DTYPE(over_elements, binary_cross_entropy_loss)};

}  // namespace
FASTNN_END

FASTNN_FAMILY_TABLE(Losses, losses, (fastnn::table))
