// The loops of the dropout family over contiguous memory.
#pragma once
#include "family.hpp"

namespace fastnn_cpu {

// What is drawn: the stream, and the bound that 16 random bits must reach for an element to be kept, from 1 to
// 65535: where everything or nothing is kept, nothing need be drawn.
struct Draw {
  std::uint64_t seed, offset;
  std::uint32_t threshold;
};

// y = scale x + shift where kept, `dropped` elsewhere.
struct Affine {
  double scale, shift, dropped;
};

struct Dropout {
  // n elements, the first of which has number `first`; y may be x.
  void (*scaled[dtype_count])(const void* x, void* y, std::int64_t n, std::uint64_t first, const Draw& draw,
                              double scale, bool streaming);
  void (*affine[dtype_count])(const void* x, void* y, std::int64_t n, std::uint64_t first, const Draw& draw,
                              const Affine& formula, bool streaming);
  // y = scale x, nothing dropped: for whole channels and samples.
  void (*times[dtype_count])(const void* x, void* y, std::int64_t n, double scale);
  // Whether elements are kept: 1 or 0.
  void (*mask)(unsigned char* kept, std::int64_t n, std::uint64_t first, const Draw& draw);
  // The words of n blocks from number `first` on, four each.
  void (*blocks)(std::uint32_t* words, std::int64_t n, std::uint64_t first, std::uint64_t seed, std::uint64_t offset);
};

constexpr char kDropoutCapsule[] = "fastnn.kernels.cpu.dropout.loops";

}  // namespace fastnn_cpu

FASTNN_FAMILY(Dropout, dropout)
