// Linear layers of sessions: weights packed once, products of any number of rows, each finished in its registers.
//
// Panels: `panel` outputs side by side (the last one as many as are left, up to a multiple of `group`), input after
// input, the way register tiles read them: whole cache lines, one behind the other. So are they for every instruction
// set. `start` holds what sums start from, the bias or zeros, for as many outputs as the panels have.
//
// Numerics: y[r, o] = fma(x[r, in - 1], w[o, in - 1], ... fma(x[r, 0], w[o, 0], start[o])), one chain in the order of
// the inputs, then + residual, then the activation. So bits depend neither on rows, tiles and threads nor, where there
// is an FMA unit, on the instruction set.
//
// Floor: one row reads every weight once, at the speed of the cache they are in; many rows take 2 operations for each
// of rows x in x out.
#pragma once
#include "linear.hpp"

namespace fastnn_cpu {

// y = activation(x weight^T + bias + residual), contiguous, of one dtype. residual and activation may be null; relu is
// applied on its own.
struct Packed {
  const void *x, *start, *panels, *residual;
  void* y;
  std::int64_t rows, in, out;
  bool relu;
  Fused activation;
};

constexpr int packed_rows = 48;                                                // of a task
constexpr std::int64_t packed_panel(std::int64_t size) { return 256 / size; }  // outputs, of numbers of `size` bytes
constexpr std::int64_t packed_group(std::int64_t size) { return 64 / size; }

struct PackedLoops {
  // Rows [row, row + packed_rows), or as many as there are, of a panel's outputs. By dtype, float32 or float64.
  void (*run[2])(const Packed& job, std::int64_t row, std::int64_t panel);
};

}  // namespace fastnn_cpu

FASTNN_FAMILY(PackedLoops, packed)
