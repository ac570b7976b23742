// What is applied to results while they are in registers: an activation, then dropout; and the way back through both.
#pragma once
#include "activations.hpp"
#include "device.cuh"
#include "dropout.hpp"
#include "philox.hpp"

FASTNN_CUDA_BEGIN

struct none {
  template <class V>
  static FASTNN_FN V forward(V z, V, V) {
    return z;
  }
  template <class V>
  static FASTNN_FN V backward(V dy, V, V, V) {
    return dy;
  }
  template <class V>
  static FASTNN_FN V from_saved(V dy, V, V, V) {
    return dy;
  }
};
// An activation with so many parameters. backward starts from its input; from_saved from what Op::backward is given,
// input or output.
template <class Op, int parameters, bool saves_output>
struct fused {
  template <class V>
  static FASTNN_FN V forward(V z, V p, V q) {
    if constexpr (parameters == 0) return Op::forward(z);
    if constexpr (parameters == 1) return Op::forward(z, p);
    if constexpr (parameters == 2) return Op::forward(z, p, q);
  }
  template <class V>
  static FASTNN_FN V backward(V dy, V z, V p, V q) {
    return from_saved(dy, saves_output ? forward(z, p, q) : z, p, q);
  }
  template <class V>
  static FASTNN_FN V from_saved(V dy, V saved, V p, V q) {
    if constexpr (parameters == 0) return Op::backward(dy, saved);
    if constexpr (parameters == 1) return Op::backward(dy, saved, p);
    if constexpr (parameters == 2) return Op::backward(dy, saved, p, q);
  }
};

// Which elements are kept: those whose 16 random bits are at least `threshold`. See philox.hpp.
struct draw {
  u64 seed, offset;
  u32 threshold;

  // of the n elements from `first` on, which lie in one block of eight
  template <int n>
  FASTNN_FN void kept(u64 first, bool (&kept)[n]) const {
    u32 words[block_words];
    philox<u32>(seed, offset).block(first / block_halves, words);
    const int at = static_cast<int>(first % block_halves);
    FASTNN_UNROLL
    for (int k = 0; k < n; ++k) kept[k] = half_of(words, at + k) >= threshold;
  }
  static FASTNN_FN u32 half_of(const u32 (&words)[block_words], int at) {
    u32 word = words[0];  // chosen, not indexed: words stay in registers
    if (at / 2 == 1) word = words[1];
    if (at / 2 == 2) word = words[2];
    if (at / 2 == 3) word = words[3];
    return at % 2 == 0 ? word & 0xffffu : word >> 16;
  }
};

FASTNN_CUDA_END
