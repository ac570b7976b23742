// The loops over every activation, for one instruction set. Built once per set, with FASTNN_ISA_<set> defined.
#include "../include/activations.hpp"

#include "activations.hpp"
#include "storage.hpp"

FASTNN_BEGIN
namespace {

using namespace fastnn_cpu;

// The passes of an op as functions of one type: inputs are `arrays` arrays and then the parameters.
template <class Op>
struct forward_pass {
  static constexpr int arrays = 1;
  template <class... V>
  static FASTNN_FN auto apply(V... v) {
    return Op::forward(v...);
  }
};
template <class Op>
struct backward_pass {
  static constexpr int arrays = 2;
  template <class... V>
  static FASTNN_FN auto apply(V... v) {
    return Op::backward(v...);
  }
};
template <class Op>
struct parameter_gradient_pass {
  static constexpr int arrays = 2;
  template <class... V>
  static FASTNN_FN auto apply(V... v) {
    return Op::parameter_gradient(v...);
  }
};

// How many parameters an op has, read off the type of its forward.
template <class V, class... P>
constexpr int parameters_of(V (*)(V, P...)) {
  return sizeof...(P);
}

template <int... i>
struct indices {};
template <int n, int... i>
struct indices_below : indices_below<n - 1, n - 1, i...> {};
template <int... i>
struct indices_below<0, i...> {
  using type = indices<i...>;
};

constexpr std::int64_t aligned_from = 512;  // elements

// Where the operands of a loop lie: arrays, then parameters, then the output.
template <class T, class Out, int arrays, int parameters>
struct places {
  using parameter = typename storage<T>::parameter;
  const T* in[arrays];
  const parameter* par[parameters + 1];  // there are no arrays of length 0
  Out* out;

  FASTNN_FN explicit places(void* const* operands) {
    for (int k = 0; k < arrays; ++k) in[k] = static_cast<const T*>(operands[k]);
    for (int k = 0; k < parameters; ++k) par[k] = static_cast<const parameter*>(operands[arrays + k]);
    out = static_cast<Out*>(operands[arrays + parameters]);
  }
};

// The ends of a loop: `count` elements from i on, a vector's worth at most. The same formula as in whole vectors, so
// that an element gets the same bits wherever it lies; called, not inlined, and compiled for size (cold), since ends
// are little of the time and would be most of the code.
template <class Pass, class T, class Out, bool arrays_of_parameters, int... a, int... p>
__attribute__((noinline)) void ends(void* const* operands, std::int64_t i, int count, indices<a...>, indices<p...>) {
  using S = storage<T>;
  using P = storage<typename S::parameter>;
  using V = typename S::V;
  const places<T, Out, sizeof...(a), sizeof...(p)> at(operands);
  V y;
  if constexpr (arrays_of_parameters)
    y = Pass::apply(S::load_first(at.in[a] + i, count)..., P::load_first(at.par[p] + i, count)...);
  else
    y = Pass::apply(S::load_first(at.in[a] + i, count)..., V(*at.par[p])...);
  storage<Out>::store_first(at.out + i, y, count);
}

template <class Pass, class T, class Out, bool arrays_of_parameters, int... a, int... p>
FASTNN_FN void run(void* const* operands, std::int64_t n, bool streaming, indices<a...> arrays,
                   indices<p...> parameters) {
  using S = storage<T>;
  using P = storage<typename S::parameter>;
  using V = typename S::V;
  using O = storage<Out>;
  constexpr int width = lanes<V>;
  const places<T, Out, sizeof...(a), sizeof...(p)> at(operands);
  Out* const out = at.out;
  const V fixed[] = {V(arrays_of_parameters ? typename S::parameter(0) : *at.par[p])..., V(0.0f)};
  const auto whole = [&](std::int64_t i) {
    if constexpr (arrays_of_parameters)
      return Pass::apply(fetched(S::load(at.in[a] + i))..., P::load(at.par[p] + i)...);
    else
      return Pass::apply(fetched(S::load(at.in[a] + i))..., fixed[p]...);
  };
  std::int64_t i = 0;
  // Stores that straddle cache lines cost most, and arrays that NumPy allocates begin 16 bytes past one: align the
  // output. Inputs allocated alike are then aligned too. Short arrays are through before it pays; streaming needs it.
  if (n >= aligned_from) {
    i = head_of(out);
    if (i > 0) ends<Pass, T, Out, arrays_of_parameters>(operands, 0, static_cast<int>(i), arrays, parameters);
  }
  const bool past_caches = streaming && n >= aligned_from && can_stream(out + i);
  for (; i + 2 * width <= n; i += 2 * width) {
    const V first = whole(i), second = whole(i + width);
    if (past_caches) {
      O::stream(out + i, first);
      O::stream(out + i + width, second);
    } else {
      O::store(out + i, first);
      O::store(out + i + width, second);
    }
  }
  if (past_caches) stream_fence();
  for (; i < n; i += width)
    ends<Pass, T, Out, arrays_of_parameters>(operands, i, n - i < width ? static_cast<int>(n - i) : width, arrays,
                                             parameters);
}

template <class Pass, class T, int parameters, class Out = T>
void loop(void* const* operands, std::int64_t n, unsigned flags) {
  using arrays = typename indices_below<Pass::arrays>::type;
  using scalars = typename indices_below<parameters>::type;
  const bool streaming = flags & streaming_stores;
  if (parameters > 0 && (flags & parameter_arrays))
    run<Pass, T, Out, parameters != 0>(operands, n, streaming, arrays(), scalars());
  else
    run<Pass, T, Out, false>(operands, n, streaming, arrays(), scalars());
}

// The 16-bit formats: blocks of floats in the first-level cache, by the loop over float.
template <class To, class From>
FASTNN_FN void convert(To* to, const From* from, std::int64_t n) {
  constexpr int width = lanes<vfloat>;
  std::int64_t i = 0;
  for (; i + width <= n; i += width) storage<To>::store(to + i, storage<From>::load(from + i));
  if (i < n)
    storage<To>::store_first(to + i, storage<From>::load_first(from + i, static_cast<int>(n - i)),
                             static_cast<int>(n - i));
}
template <class T, class Out>
__attribute__((noinline)) void in_blocks(Loop wide, int arrays, int parameters, void* const* operands, std::int64_t n,
                                         unsigned flags) {
  constexpr std::int64_t block = 1024;
  alignas(64) float room[2][block];
  void* at[5];
  for (std::int64_t i = 0; i < n; i += block) {
    const std::int64_t count = n - i < block ? n - i : block;
    for (int k = 0; k < arrays; ++k) {
      convert(room[k], static_cast<const T*>(operands[k]) + i, count);
      at[k] = room[k];
    }
    for (int k = arrays; k < arrays + parameters; ++k)
      at[k] = static_cast<float*>(operands[k]) + (flags & parameter_arrays ? i : 0);
    Out* const out = static_cast<Out*>(operands[arrays + parameters]) + i;
    at[arrays + parameters] = room[0];
    wide(at, count, flags & parameter_arrays);
    convert(out, room[0], count);
  }
}

// Passes of so few operations that blocks would cost more than they do: the 16-bit formats have loops of their own. All
// others are as fast in blocks (bfloat16 is faster), in half the code.
template <class, class>
constexpr bool same = false;
template <class T>
constexpr bool same<T, T> = true;
template <class Op, class... Ops>
constexpr bool one_of = (same<Op, Ops> || ...);
template <class Op>
constexpr bool brief =
    one_of<Op, activation::relu, activation::leaky_relu, activation::prelu, activation::relu6, activation::hardtanh,
           activation::hardsigmoid, activation::hardswish, activation::softsign>;
template <class Pass>
constexpr bool brief_pass = false;
template <class Op>
constexpr bool brief_pass<forward_pass<Op>> = brief<Op>;
template <class Op>
constexpr bool brief_pass<backward_pass<Op>> = brief<Op> || one_of<Op, activation::sigmoid, activation::tanh>;

template <class Pass, class T, int parameters, class Out = T>
void half_loop(void* const* operands, std::int64_t n, unsigned flags) {
  if constexpr (brief_pass<Pass>)
    loop<Pass, T, parameters, Out>(operands, n, flags);
  else
    in_blocks<T, Out>(loop<Pass, float, parameters>, Pass::arrays, parameters, operands, n, flags);
}

template <class Op, class = void>
struct has_parameter_gradient {
  static constexpr bool value = false;
};
template <class Op>
struct has_parameter_gradient<Op, decltype(static_cast<void>(&Op::template parameter_gradient<vfloat>))> {
  static constexpr bool value = true;
};

template <class Row>
constexpr Activation row() {
  using Op = typename Row::type;
  constexpr int n = parameters_of(&Op::template forward<vfloat>);
  using F = forward_pass<Op>;
  using B = backward_pass<Op>;
  Activation r = {Row::name,
                  n,
                  {{loop<F, float, n>, loop<F, double, n>, half_loop<F, binary16, n>, half_loop<F, bfloat16, n>},
                   {loop<B, float, n>, loop<B, double, n>, half_loop<B, binary16, n>, half_loop<B, bfloat16, n>},
                   {}}};
  if constexpr (has_parameter_gradient<Op>::value) {
    using G = parameter_gradient_pass<Op>;
    // Its terms are summed, so that those of the 16-bit formats are not rounded to 16 bits.
    r.loops[pass_parameter_gradient][dtype_float32] = loop<G, float, n>;
    r.loops[pass_parameter_gradient][dtype_float64] = loop<G, double, n>;
    r.loops[pass_parameter_gradient][dtype_float16] = half_loop<G, binary16, n, float>;
    r.loops[pass_parameter_gradient][dtype_bfloat16] = half_loop<G, bfloat16, n, float>;
  }
  return r;
}

template <class Indices>
struct all;
template <int... i>
struct all<indices<i...>> {
  static constexpr Activation rows[] = {row<activation::at<i>>()...};
};
// Constant data: no code of this instruction set runs before it has been chosen.
constexpr Activations table = {all<indices_below<activation::count>::type>::rows, activation::count};

}  // namespace
FASTNN_END

FASTNN_FAMILY_TABLE(Activations, activations, fastnn::table)
