// The losses for one instruction set. Operations an element: cross-entropy, 25 (softmax and what tells the maximum
// apart), hinge 6, squared error 3, binary cross-entropy 40.
#include "../include/losses.hpp"

#include "class_losses.hpp"

FASTNN_BEGIN
namespace {

using namespace fastnn_cpu;

template <class T>
double cross_entropy(const ClassLoss& job, int64_t begin, int64_t end) {
  return by_lines<T>(job, begin, end, [&](const auto& walk, const T* x, T* g, const T* q, int64_t first, int n) {
    return cross_entropy_along(job, walk, x, g, q, chosen_along(job, walk, x, first, job.labels ? n : 0));
  });
}

template <class T>
double hinge(const ClassLoss& job, int64_t begin, int64_t end) {
  return by_lines<T>(job, begin, end, [&](const auto& walk, const T* x, T* g, const T*, int64_t first, int n) {
    return hinge_along(job, walk, x, g, chosen_along(job, walk, x, first, n));
  });
}

template <class T>
double squared_error(const ElementLoss& job, int64_t begin, int64_t end) {
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

#define FASTNN_EACH_DTYPE(f) {f<float>, f<double>, f<binary16>, f<bfloat16>}
constexpr Losses table = {FASTNN_EACH_DTYPE(cross_entropy),
                          FASTNN_EACH_DTYPE(hinge),
                          FASTNN_EACH_DTYPE(squared_error),
                          FASTNN_EACH_DTYPE(binary_cross_entropy_loss)};

}  // namespace
FASTNN_END

FASTNN_FAMILY_TABLE(Losses, losses, (fastnn::table))
