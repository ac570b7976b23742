// L2, L1 and elastic-net penalties for one instruction set: w read once, and the gradient read and written in the same
// pass. Sums in double, squares exact. Which terms there are is known to the compiler: 0 times infinity is not a term.
#include "regularizers.hpp"

#include "softmax_loops.hpp"

FASTNN_BEGIN
namespace {

using namespace fastnn_cpu;

template <int terms, class T>
Sums penalty(const void* from, void* to, double quadratic, double linear, int64_t begin, int64_t end) {
  using V = vector_of<T>;
  using S = scalar_t<V>;
  constexpr bool has_squares = terms & 1, has_magnitudes = terms & 2;
  const T* const w = static_cast<const T*>(from) + begin;
  T* const grad = to ? static_cast<T*>(to) + begin : nullptr;
  const V slope(static_cast<S>(2.0 * quadratic)), step(static_cast<S>(linear)), zero(0.0f);
  compensated squares, magnitudes;
  const int64_t size = end - begin;
  for (int64_t i = 0; i < size; i += along::block) {
    const int64_t stop = size - i < along::block ? size : i + along::block;
    lanes16 square = broadcast16(0.0), magnitude = square;
    for (int64_t k = i; k < stop; k += sum_lanes)
      for (int part = 0; part < sum_lanes && k + part < stop; part += lanes<V>) {
        const int64_t at = k + part;
        const int n = along::count<V>(at, stop);
        const V v = load_some(w + at, n);
        if (grad) {
          V g = load_some(grad + at, n);
          if constexpr (has_squares) g = fmadd(slope, v, g);
          if constexpr (has_magnitudes) g = g + select(v > zero, step, select(v < zero, -step, v * zero));
          store_some(grad + at, g, n);
        }
        const wide<V> x = to_wide(v), size_of_x = to_wide(vabs(v));
        for (int j = 0; j < x.parts; ++j) {
          const int lane = part / lanes<vdouble> + j;
          if constexpr (has_squares) square.part[lane] = fmadd(x.part[j], x.part[j], square.part[lane]);
          if constexpr (has_magnitudes) magnitude.part[lane] = magnitude.part[lane] + size_of_x.part[j];
        }
      }
    squares.add(total(square));
    magnitudes.add(total(magnitude));
  }
  return {squares.value(), magnitudes.value()};
}

#define FASTNN_EACH_DTYPE(terms) \
  {penalty<terms, float>, penalty<terms, double>, penalty<terms, binary16>, penalty<terms, bfloat16>}
constexpr Regularizers table = {{FASTNN_EACH_DTYPE(1), FASTNN_EACH_DTYPE(2), FASTNN_EACH_DTYPE(3)}};

}  // namespace
FASTNN_END

FASTNN_FAMILY_TABLE(Regularizers, regularizers, (fastnn::table))
