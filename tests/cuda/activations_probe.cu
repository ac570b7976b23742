// Every activation as a CUDA thread, a kernel for each op of the list and type: what tests/test_cuda_headers.py
// compiles.
#include "activations.hpp"

static_assert(fastnn::activation::count == ACTIVATIONS, "the list of blocks is not the table");

struct forward {
  template <class Op, class... V>
  static FASTNN_FN auto call(V... v) -> decltype(Op::forward(v...)) {
    return Op::forward(v...);
  }
};
struct backward {
  template <class Op, class... V>
  static FASTNN_FN auto call(V... v) -> decltype(Op::backward(v...)) {
    return Op::backward(v...);
  }
};
struct parameter_gradient {
  template <class Op, class... V>
  static FASTNN_FN auto call(V... v) -> decltype(Op::parameter_gradient(v...)) {
    return Op::parameter_gradient(v...);
  }
};

// Whether a pass of an op takes these arguments.
template <class Pass, class Op, class... V>
FASTNN_FN constexpr auto takes(int) -> decltype(Pass::template call<Op>(V()...), true) {
  return true;
}
template <class Pass, class Op, class... V>
FASTNN_FN constexpr bool takes(long) {
  return false;
}

// The pass with as many parameters as it has, 0 for a pass that the op has not.
template <class Pass, class Op, class V, class... Arrays>
FASTNN_FN V apply(const V* p, Arrays... v) {
  if constexpr (takes<Pass, Op, Arrays...>(0))
    return Pass::template call<Op>(v...);
  else if constexpr (takes<Pass, Op, Arrays..., V>(0))
    return Pass::template call<Op>(v..., p[0]);
  else if constexpr (takes<Pass, Op, Arrays..., V, V>(0))
    return Pass::template call<Op>(v..., p[0], p[1]);
  else
    return V(0);
}

template <int i, class V>
__global__ void activation(const V* x, const V* dy, const V* saved, const V* parameters, V* y, V* dx, V* dparameter) {
  using Op = typename fastnn::activation::at<i>::type;
  const unsigned thread = blockIdx.x * blockDim.x + threadIdx.x;
  y[thread] = apply<forward, Op>(parameters, x[thread]);
  dx[thread] = apply<backward, Op>(parameters, dy[thread], saved[thread]);
  dparameter[thread] = apply<parameter_gradient, Op>(parameters, dy[thread], saved[thread]);
}
