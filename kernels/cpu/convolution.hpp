// Convolutions: what the loops are told. convolution_plan.cpp fills it in, convolution.cpp does it.
//
// Three passes over one geometry. A `Window` says what a grid of positions sees of the planes of a source. The forward
// pass sums up weight * source over a window and writes one result per position. The gradient by the input is the same
// with input and output changing places: stride s makes of it s * s windows, one for every remainder of row and column,
// each with the taps that reach it and results that are s apart. The gradient by the weights sums up dy * source over
// the positions.
#pragma once
#include <cstdint>

#include "family.hpp"

namespace fastnn_cpu {

// One element of the kernel: how far from the position it looks, and where its weight is.
struct Tap {
  std::int64_t row, col, weight;
};

// Position (i, j) of rows x cols sees, by every tap, element (i * row_step + tap.row, j * col_step + tap.col) of a
// plane of source_rows x source_cols: zero outside.
struct Window {
  std::int64_t rows, cols, source_rows, source_cols, row_step, col_step, taps;
  const Tap* tap;
};

// Two ways to have a tile's input in scratch memory.
//
// Planes: what a tile sees of a channel, zeros around it included, as one plane per remainder of row and column by the
// steps. Every tap is then one of the planes, shifted, and a tile one line through it. Results at the ends of its rows,
// where a line runs on into the next row, are computed and dropped.
//
// Gathered: for every tap a line of its own, without such ends, across rows and images. More to copy and nothing to
// drop: where planes are small and many results share what is copied; and where taps are so far apart that planes would
// be large.
struct Layout {
  bool gathered;
  std::int64_t tile_rows, tile_cols, row_tiles, col_tiles;  // planes: positions of a tile, tiles of an image
  std::int64_t top, left;  // row and column of the planes that a tile's first one is at
  std::int64_t plane_rows, pitch;
  std::int64_t first_col;                 // of the planes that a tile's first column sees
  std::int64_t kernel_rows, kernel_cols;  // how far the taps reach in the planes
  std::int64_t planes;
  const std::int64_t (*plane)[2];  // the remainders of row and column by the steps
  std::int64_t positions;          // gathered: of a tile
  std::int64_t tiles;              // of all images
  std::int64_t line;               // the longest line of a tile
  std::int64_t channel;            // numbers in scratch memory for one channel
  const std::int64_t* offset;      // of each tap in it
  std::int64_t patches;            // the most that a tile's positions consist of
  std::int64_t chunk;              // channels that are summed up by themselves
  std::int64_t block;              // channels in scratch memory at a time
};

// result[n, g, o, first_row + i * row_step, first_col + j * col_step] = activation(bias[g, o]
//   + sum over c and taps of weight[g, o, c, tap] * source[n, g, c] at the tap)
struct Correlation {
  Window window;
  Layout layout;
  const void *source, *weight, *bias;         // the bias is of the type computed in; null for none
  void *result, *before;                      // before: what the result was before the activation; null for none
  std::int64_t images, groups, inner, outer;  // inner, outer: channels of a group, in the source and in the result
  std::int64_t weight_group, weight_outer, weight_inner;  // steps
  std::int64_t result_rows, result_cols, first_row, first_col, row_step, col_step;
  Loop activation;  // of the type computed in; null for none
  int parameters;
  const void* parameter[4];
  bool depthwise;                       // one channel by itself, no steps, and a kernel without gaps
  bool hold;                            // all weights of a task lie in scratch memory, from task to task
  bool across;                          // the channels of the result are what fills vectors, not the positions
  std::int64_t outputs, output_blocks;  // channels of the result that are one task's
  int failed;                           // set where there is no memory
};

// partial[slice, g, o, c, tap] = sum over n and positions of dy[n, g, o] * source[n, g, c] at the tap, the tiles shared
// out among the slices
struct WeightGradient {
  Window window;
  Layout layout;
  const void *dy, *source;
  void *weight, *partial;  // weight[g, o, c, tap]; partial sums are of the type computed in, null for none
  bool accumulate;         // adds to weight
  std::int64_t images, groups, inner, outer;
  bool lanes;                           // few outputs a group: the positions are what fills vectors
  std::int64_t together;                // tiles, whole images, that are packed and gone through together
  std::int64_t outputs, output_blocks;  // that are one task's
  std::int64_t inner_blocks, slices;
  int failed;
};

// Bodies of parallel_for by dtype; the context is the struct.
struct Convolution {
  void (*correlate[dtype_count])(void* correlation, std::int64_t begin, std::int64_t end);     // tasks
  void (*weight_gradient[dtype_count])(void* gradient, std::int64_t begin, std::int64_t end);  // tasks
  void (*add_slices[dtype_count])(void* gradient, std::int64_t begin, std::int64_t end);       // groups * outer
  void (*bias_gradient[dtype_count])(void* gradient, std::int64_t begin, std::int64_t end);    // channels
};

// total[channel] (+)= sum over images and positions of dy[image, channel, position]
struct BiasGradient {
  const void* dy;
  void* total;
  std::int64_t images, channels, positions;
  bool accumulate;
  int failed;
};

}  // namespace fastnn_cpu

FASTNN_FAMILY(Convolution, convolution)
