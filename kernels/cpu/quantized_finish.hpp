// From exact int32 sums to numbers from 0 to 255. What is added to round leaves the integer in the low bits.
#pragma once
#include "../include/simd.hpp"

FASTNN_BEGIN
namespace {

template <class V>
struct finisher {
  V low, high, shifter;
  bits_t<V> offset;
  FASTNN_FN finisher(int zero, int least, int most)
      : low(static_cast<float>(least - zero)),
        high(static_cast<float>(most - zero)),
        shifter(format<float>::shifter),
        offset(fastnn::bits(format<float>::shifter) - static_cast<u32>(zero)) {}
  FASTNN_FN bits_t<V> rounded(V product) const {
    return fastnn::bits(vmin(vmax(product, low), high) + shifter) - offset;
  }
  FASTNN_FN bits_t<V> operator()(bits_t<V> acc, V multiplier) const { return rounded(to_float<V>(acc) * multiplier); }
};

}  // namespace
FASTNN_END
