// Steps of the optimisers, in place, with the bits of the CPU: see optimizers.hpp. And sums of powers, for norms.
//
// Every operand is read and written once. What the settings leave out is asked for every pack, not made a template: all
// threads answer alike, and memory is the limit.
#include "optimizers.hpp"
#include "sums.cuh"

FASTNN_CUDA_BEGIN

template <class T, class Rule>
__device__ __forceinline__ void step(T* param, const T* grad, compute_t<T>* const (&state)[Rule::states], i64 count,
                                     const Rule& rule) {
  using V = compute_t<T>;
  constexpr int n = lanes_together<T>;
  for_packs<n>(grid_thread(), grid_threads(), count, param, [&](i64 first, int begin, int end) {
    auto p = load_lanes<n>(param + first, begin, end);
    const auto g = load_lanes<n>(grad + first, begin, end);
    lanes_of<V, n> s[Rule::states];
    FASTNN_UNROLL
    for (int j = 0; j < Rule::states; ++j)
      if (rule.uses(j)) s[j] = load_lanes<n>(state[j] + first, begin, end);
    FASTNN_UNROLL
    for (int k = 0; k < n; ++k) {
      V own[Rule::states];
      FASTNN_UNROLL
      for (int j = 0; j < Rule::states; ++j) own[j] = rule.uses(j) ? s[j].at[k] : V(0);
      rule.step(p.at[k], g.at[k], own);
      FASTNN_UNROLL
      for (int j = 0; j < Rule::states; ++j) s[j].at[k] = own[j];
    }
    store_lanes<n>(param + first, p, begin, end);
    FASTNN_UNROLL
    for (int j = 0; j < Rule::states; ++j)
      if (rule.uses(j)) store_lanes<n>(state[j] + first, s[j], begin, end);
  });
}

template <class T>
__global__ void sgd_step(T* param, const T* grad, compute_t<T>* velocity, i64 n, double lr, double momentum,
                         double dampening, double weight_decay, i64 nesterov, i64 first, i64 maximize) {
  const optimizer::sgd_settings s = {lr, momentum, dampening, weight_decay, nesterov != 0, first != 0, maximize != 0};
  step(param, grad, {velocity}, n, optimizer::sgd<compute_t<T>>(s));
}
template <class T>
__global__ void rmsprop_step(T* param, const T* grad, compute_t<T>* square_avg, compute_t<T>* grad_avg,
                             compute_t<T>* velocity, i64 n, double lr, double alpha, double eps, double weight_decay,
                             double momentum, i64 centered, i64 maximize) {
  const optimizer::rmsprop_settings s = {lr, alpha, eps, weight_decay, momentum, centered != 0, maximize != 0};
  step(param, grad, {square_avg, grad_avg, velocity}, n, optimizer::rmsprop<compute_t<T>>(s));
}
template <class T>
__global__ void adam_step(T* param, const T* grad, compute_t<T>* first, compute_t<T>* second, compute_t<T>* largest,
                          i64 n, double lr, double beta1, double beta2, double eps, double weight_decay,
                          double correction1, double root_correction2, i64 decoupled, i64 amsgrad, i64 maximize) {
  const optimizer::adam_settings s = {
      lr, beta1, beta2, eps, weight_decay, correction1, root_correction2, decoupled != 0, amsgrad != 0, maximize != 0};
  step(param, grad, {first, second, largest}, n, optimizer::adam<compute_t<T>>(s));
}

// x times a factor that the host knows, or that lies on the device.
template <class T>
__global__ void scale_all(T* x, i64 n, double value, const double* on_device) {
  using V = compute_t<T>;
  const V by = static_cast<V>(on_device == nullptr ? value : *on_device);
  elementwise(grid_thread(), grid_threads(), n, [=](i64, V v) { return v * by; }, x, x);
}

// Sums of |x|^p in double; for p = infinity the largest |x|, NaN where there is one.
template <class T>
__global__ void power_sums(const T* x, double* partial, i64 n, double p) {
  using V = compute_t<T>;
  double most = 0;
  summing<V> sum;
  const double infinity = from_bits<double>(format<double>::infinity);
  for_each(
      grid_thread(), grid_threads(), n,
      [&](i64, V v) {
        const double a = static_cast<double>(vabs(v));
        if (p == 2.0)
          sum.add_exactly(a * a);
        else if (p == 1.0)
          sum.add_exactly(a);
        else if (p == infinity)
          most = maximum()(most, a);
        else
          sum.add_exactly(pow(a, p));
      },
      x);
  const double total = p == infinity ? block_reduce(most, 0.0, maximum()) : sum.of_block();
  if (threadIdx.x == 0) partial[blockIdx.x] = total;
}
__global__ void largest(const double* x, double* to, i64 n) {
  double most = 0;
  for (i64 i = threadIdx.x; i < n; i += blockDim.x) most = maximum()(most, x[i]);
  most = block_reduce(most, 0.0, maximum());
  if (threadIdx.x == 0) *to = most;
}

FASTNN_CUDA_END
