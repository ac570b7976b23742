// Indices of elements, taken apart.
#pragma once
#include "device.cuh"

FASTNN_CUDA_BEGIN

// a / b and the rest, in 32 bits where they suffice: 64 cost five times as much.
FASTNN_FN i64 divided(i64 a, i64 b, i64& rest) {
  if (((a | b) >> 31) == 0) {
    const u32 q = static_cast<u32>(a) / static_cast<u32>(b);
    rest = static_cast<i64>(static_cast<u32>(a) - q * static_cast<u32>(b));
    return static_cast<i64>(q);
  }
  const i64 q = a / b;
  rest = a - q * b;
  return q;
}
FASTNN_FN i64 divided(i64 a, i64 b) {
  i64 rest;
  return divided(a, b, rest);
}

FASTNN_CUDA_END
