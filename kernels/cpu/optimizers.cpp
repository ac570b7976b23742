#include "optimizers.hpp"

#include "../include/optimizers.hpp"
#include "../include/reduce.hpp"
#include "storage.hpp"

FASTNN_BEGIN
namespace {

using namespace fastnn_cpu;

// Elements before the first whole vector that does not straddle cache lines. Arrays that NumPy allocates lie alike, 16
// bytes past a line, so that one of them stands for all.
template <int width, class T>
FASTNN_FN int until_aligned(const T* p) {
  const auto past = reinterpret_cast<std::uintptr_t>(p) % (width * sizeof(T));
  return past % sizeof(T) == 0 && past != 0 ? static_cast<int>((width * sizeof(T) - past) / sizeof(T)) : 0;
}

// Every operand is loaded, stepped and stored once. What the settings leave out is asked for every vector, not made a
// template: the branch is foreseen, and the memory is the limit. Two vectors at a time gained nothing, nor did
// prefetching.
template <template <class> class Rule, class T>
void step(void* const* arrays, std::int64_t begin, std::int64_t end, const void* settings) {
  using Memory = storage<T>;
  using V = typename Memory::V;
  using S = typename Memory::parameter;
  using State = storage<S>;
  using R = Rule<V>;
  const R rule(*static_cast<const typename R::settings*>(settings));
  T* const param = static_cast<T*>(arrays[0]);
  const T* const grad = static_cast<const T*>(arrays[1]);
  S* state[R::states];
  for (int k = 0; k < R::states; ++k) state[k] = static_cast<S*>(arrays[2 + k]);
  const auto partial = [&](std::int64_t i, int n) {
    V p = Memory::load_first(param + i, n), s[R::states];
    for (int k = 0; k < R::states; ++k) s[k] = rule.uses(k) ? State::load_first(state[k] + i, n) : V(S(0));
    rule.step(p, Memory::load_first(grad + i, n), s);
    Memory::store_first(param + i, p, n);
    for (int k = 0; k < R::states; ++k)
      if (rule.uses(k)) State::store_first(state[k] + i, s[k], n);
  };
  constexpr int width = lanes<V>;
  std::int64_t i = begin;
  const int head = rule.uses(0) ? until_aligned<width>(state[0] + i) : until_aligned<width>(param + i);
  if (head != 0 && head < end - i) {
    partial(i, head);
    i += head;
  }
  for (; i + width <= end; i += width) {
    V p = Memory::load(param + i), s[R::states];
    for (int k = 0; k < R::states; ++k) s[k] = rule.uses(k) ? State::load(state[k] + i) : V(S(0));
    rule.step(p, Memory::load(grad + i), s);
    Memory::store(param + i, p);
    for (int k = 0; k < R::states; ++k)
      if (rule.uses(k)) State::store(state[k] + i, s[k]);
  }
  if (i < end) partial(i, static_cast<int>(end - i));
}

// acc <- f(acc, |x|) over 16 elements at a time, the missing ones of the last 16 being 0; by turns in two accumulators,
// which do not wait for each other and are merged at the end.
template <class T, class F, class Merge>
FASTNN_FN lanes16 fold(const T* x, std::int64_t n, F f, Merge merge) {
  using Memory = storage<T>;
  const auto magnitude = [&](const lanes16& a) { return map16(a, [](vdouble v) { return vabs(v); }); };
  lanes16 acc = broadcast16(0), other = broadcast16(0);
  std::int64_t i = 0;
  for (; i + 2 * sum_lanes <= n; i += 2 * sum_lanes) {
    acc = map16(acc, magnitude(load16<Memory>(x + i)), f);
    other = map16(other, magnitude(load16<Memory>(x + i + sum_lanes)), f);
  }
  for (; i < n; i += sum_lanes) {
    const int left = n - i < sum_lanes ? static_cast<int>(n - i) : sum_lanes;
    acc = map16(acc, magnitude(load16_first<Memory>(x + i, left)), f);
  }
  return map16(acc, other, merge);
}

// vmax returns its second operand where one is NaN: one that is there already has to be kept by hand.
FASTNN_FN vdouble keep_largest(vdouble acc, vdouble x) { return select(acc == acc, vmax(acc, x), acc); }

// The norms that few ask for: cold, which makes code short rather than fast.
template <class T>
__attribute__((cold, noinline)) double other_power_sum(const T* x, std::int64_t n, double p) {
  const auto add = [](vdouble acc, vdouble v) { return acc + v; };
  if (p == 1) return total(fold(x, n, add, add));
  double lane[sum_lanes];
  if (p == __builtin_inf()) {
    const auto larger = [](vdouble acc, vdouble v) { return keep_largest(acc, v); };
    const lanes16 largest = fold(x, n, larger, larger);
    for (int k = 0; k < lanes16::parts; ++k) store(lane + k * lanes<vdouble>, largest.part[k]);
    double result = 0;
    for (const double value : lane) result = !(value <= result) && result == result ? value : result;
    return result;
  }
  double sum = 0;
  for (std::int64_t i = 0; i < n; i += sum_lanes) {
    const int count = n - i < sum_lanes ? static_cast<int>(n - i) : sum_lanes;
    const lanes16 values = load16_first<storage<T>>(x + i, count);
    for (int k = 0; k < lanes16::parts; ++k) store(lane + k * lanes<vdouble>, vabs(values.part[k]));
    for (int k = 0; k < count; ++k) sum += __builtin_pow(lane[k], p);
  }
  return sum;
}
template <class T>
double power_sum(const void* data, std::int64_t n, double p) {
  const T* const x = static_cast<const T*>(data);
  if (p != 2) return other_power_sum(x, n, p);
  const auto add = [](vdouble acc, vdouble v) { return acc + v; };
  return total(fold(x, n, [](vdouble acc, vdouble v) { return fmadd(v, v, acc); }, add));
}

template <class T>
void scale_all(void* data, std::int64_t begin, std::int64_t end, double factor) {
  using Memory = storage<T>;
  using V = typename Memory::V;
  T* const x = static_cast<T*>(data);
  const V by(static_cast<scalar_t<V>>(factor));
  constexpr int width = lanes<V>;
  std::int64_t i = begin;
  for (; i + width <= end; i += width) Memory::store(x + i, Memory::load(x + i) * by);
  if (i < end) {
    const int n = static_cast<int>(end - i);
    Memory::store_first(x + i, Memory::load_first(x + i, n) * by, n);
  }
}

constexpr Optimizers table = {{{step<optimizer::sgd, float>, step<optimizer::sgd, double>,
                                step<optimizer::sgd, binary16>, step<optimizer::sgd, bfloat16>},
                               {step<optimizer::rmsprop, float>, step<optimizer::rmsprop, double>,
                                step<optimizer::rmsprop, binary16>, step<optimizer::rmsprop, bfloat16>},
                               {step<optimizer::adam, float>, step<optimizer::adam, double>,
                                step<optimizer::adam, binary16>, step<optimizer::adam, bfloat16>}},
                              {power_sum<float>, power_sum<double>, power_sum<binary16>, power_sum<bfloat16>},
                              {scale_all<float>, scale_all<double>, scale_all<binary16>, scale_all<bfloat16>}};

}  // namespace
FASTNN_END

FASTNN_FAMILY_TABLE(Optimizers, optimizers, fastnn::table)
