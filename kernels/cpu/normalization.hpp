// The interface of the normalisation loops. All arrays are C-contiguous; parameters and statistics are float beside the
// 16-bit formats, otherwise of x's dtype. y may be x, dx may be dy or x.
#pragma once
#include "dropout.hpp"
#include "family.hpp"
#include "pool.hpp"

namespace fastnn_cpu {

using Dropped = void (*)(const void* x, void* y, std::int64_t n, std::uint64_t first, const Draw& draw, double scale,
                         bool streaming);

// What is applied to a block of results while it lies in the first-level cache: an activation, then dropout. The loops
// are those of the dtype that is computed in, so that 16-bit results are rounded once.
struct Fusion {
  Loop forward = nullptr, backward = nullptr;  // of the activation; null for none
  bool saves_output = false;                   // does backward want the activation's output?
  int parameters = 0;
  const void* values[2] = {};  // of the parameters
  Dropped dropped = nullptr;   // null for none
  Draw draw = {};
  double scale = 1;  // of what is kept
};

// x[outer, channels, inner], statistics by channel. Backward: y is dx; with an activation, its gradient is put in dz,
// which may be dx if that is not x and not of 16 bits.
struct BatchNorm {
  std::int64_t outer = 0, channels = 0, inner = 0;
  const void *x = nullptr, *dy = nullptr;
  void *y = nullptr, *dz = nullptr;
  const void *gamma = nullptr, *beta = nullptr;
  void *mean = nullptr, *inv_std = nullptr;  // results of training, arguments of backward
  double* variance = nullptr;                // by channel: a result of training, an argument of inference
  double *dgamma = nullptr, *dbeta = nullptr;
  double eps = 0;
  Fusion fusion;
  bool streaming = false;     // write the result past the caches
  double* scratch = nullptr;  // as many as batch_scratch says
};

// x[samples, groups, channels, inner], statistics by sample and group, gamma and beta by group and channel.
struct RowNorm {
  std::int64_t samples = 0, groups = 0, channels = 0, inner = 0;
  bool centred = true;  // false: RMS norm, which has no mean
  const void *x = nullptr, *dy = nullptr;
  void* y = nullptr;
  const void *gamma = nullptr, *beta = nullptr;
  void *mean = nullptr, *inv_std = nullptr;
  double *dgamma = nullptr, *dbeta = nullptr;  // null where they are not wanted
  double eps = 0;
  bool streaming = false;
  double* scratch = nullptr;  // as many as row_scratch says
};

// The convention of running averages: see CONVENTION in the table of batch norm.
static inline double running_average(double old, double batch, double momentum) {
  return momentum * batch + (1 - momentum) * old;
}

using BatchPass = void (*)(const BatchNorm&, const fastnn::PoolApi&);
using RowPass = void (*)(const RowNorm&, const fastnn::PoolApi&);

struct Normalization {
  BatchPass batch_train[dtype_count], batch_infer[dtype_count], batch_backward[dtype_count],
      batch_backward_fused[dtype_count];
  RowPass row_forward[dtype_count], row_backward[dtype_count];
};

// Rows of `inner` elements shorter than this are not worth a reduction each: batch norm's loops then go along all of a
// sample's elements at once, each with its own sums.
constexpr std::int64_t short_row = 64;

constexpr std::int64_t max_rows = 16;       // channels in a unit of BatchGrid, unless columns
constexpr std::int64_t max_columns = 1024;  // elements in one step of a unit, if columns
constexpr std::int64_t together = 4;        // samples whose sums are updated at once

static inline std::int64_t ceiling(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }
static inline std::int64_t between(std::int64_t low, std::int64_t a, std::int64_t high) {
  return a > high ? high : a < low ? low : a;
}

// How batch norm's work is cut. It depends on the shape and the size of an element only, and so do the results.
//
// A unit is some neighbouring channels. Where they fit the second-level cache, one thread takes a unit through all of
// its passes while it lies there; otherwise every pass goes over pieces of it, each with its own partial sums.
struct BatchGrid {
  bool columns;                    // short rows
  std::int64_t block, units;       // channels in a unit
  std::int64_t segment, segments;  // elements of a row that are taken at a time
  std::int64_t steps;              // samples times segments
  std::int64_t steps_per_piece, pieces;
};

// reducing: statistics or sums are taken; otherwise (inference) every element is for itself.
static inline BatchGrid batch_grid(std::int64_t outer, std::int64_t channels, std::int64_t inner, std::int64_t item,
                                   bool reducing) {
  constexpr std::int64_t cache = 1 << 20, task = 1 << 16;
  BatchGrid g;
  g.columns = inner < short_row;
  g.segment = g.columns ? inner : between(1, inner, 16384);
  g.segments = g.columns ? 1 : ceiling(inner, g.segment);
  g.steps = outer * g.segments;
  const std::int64_t run = !reducing ? task : g.columns ? between(256, channels * inner / 8, max_columns) : 1024;
  g.block = between(1, run / g.segment, reducing && !g.columns ? between(1, channels, max_rows) : channels);
  g.units = ceiling(channels, g.block);
  const std::int64_t step_bytes = g.block * g.segment * item, unit_bytes = step_bytes * g.steps;
  if (!reducing)
    g.steps_per_piece = task * item / step_bytes;
  else if (unit_bytes <= (g.units < 16 ? cache : 4 * cache))
    g.steps_per_piece = g.steps;
  else
    g.steps_per_piece = cache / step_bytes;
  g.steps_per_piece = between(1, g.steps_per_piece, g.steps);
  g.pieces = ceiling(g.steps, g.steps_per_piece);
  return g;
}

// Where one thread takes a unit through all passes, sums are those of a channel, whatever the unit: so there more
// channels make a unit, for memory likes long runs, as long as there are some units for every thread.
static inline BatchGrid widened(BatchGrid g, std::int64_t channels, std::int64_t item, bool reducing, int threads) {
  constexpr std::int64_t cache = 2 << 20, run = 16384, units_of_thread = 4;
  if (!reducing || g.columns || g.pieces > 1) return g;
  const std::int64_t most = between(1, channels / (threads > 1 ? units_of_thread * threads : 1), max_rows);
  const std::int64_t fit = cache / (g.segment * item * g.steps), long_run = run / g.segment;
  g.block = between(g.block, fit < long_run ? fit : long_run, most > g.block ? most : g.block);
  g.units = ceiling(channels, g.block);
  return g;
}

// Of every channel, or of every element of a sample if columns, the loops want some numbers.
constexpr int batch_constants = 6;

static inline std::int64_t batch_scratch(const BatchGrid& g, std::int64_t channels, std::int64_t inner) {
  return batch_constants * channels * (g.columns ? inner : 1) + 3 * g.pieces * channels + g.units;
}

// Samples are cut into blocks whose sums for dgamma and dbeta are kept apart, where every element has its own.
static inline std::int64_t samples_per_block(std::int64_t samples, std::int64_t columns) {
  constexpr std::int64_t least = 1 << 15, most = 1 << 17;  // elements of a block, numbers of a block
  const std::int64_t blocks = between(1, between(1, most / columns, 16), ceiling(samples * columns, least));
  return ceiling(ceiling(samples, blocks), together) * together;
}

static inline std::int64_t row_scratch(std::int64_t samples, std::int64_t groups, std::int64_t channels,
                                       std::int64_t inner) {
  const std::int64_t columns = groups * channels;
  return 2 * columns * (inner == 1 ? ceiling(samples, samples_per_block(samples, columns)) : samples);
}

}  // namespace fastnn_cpu

FASTNN_FAMILY(Normalization, normalization)
