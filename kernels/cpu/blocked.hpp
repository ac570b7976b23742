// Images whose channels lie in blocks of sixteen, (N, ceil(C / 16), H, W, 16) of float32: what the loops are told.
//
// The last block is filled up with channels that nobody reads: no loop mixes channels but the dense convolution, and
// that reads those that there are. blocked_run.cpp fills in what follows from the geometry, blocked.cpp does it.
#pragma once
#include <cstdint>

#include "family.hpp"

namespace fastnn_cpu {

enum BlockedKind : int {
  blocked_dense,
  blocked_depthwise,
  blocked_maximum,
  blocked_average,
  blocked_block,
  blocked_unblock
};

struct Blocked {
  const float* x;
  const float* added;  // to the result before the activation; null for nothing; y where out_cols is even and no runs
  float* y;
  // Weights: for every block of 16 channels of the result, term by term, 16 numbers. The bias has 16 a block.
  const float *weight, *bias;
  const double* counts[2];  // averages: the divisor of a window is that of its row times that of its column
  Loop activation;          // null for none
  const void* parameter[4];
  int parameters;
  float low, high;  // what results are brought between before that

  int kind;
  bool pool;    // the result is the maxima over squares of 2 by 2, of what out_rows and out_cols count before
  bool planes;  // x is (N, C, H, W)
  std::int64_t images, groups, channels, rows, cols, outputs, out_rows, out_cols;  // of all groups
  std::int64_t kernel[2], stride[2], before[2], dilation[2];

  // What follows from it. A task is a band of rows of the results of one part: a group, or a block of channels.
  std::int64_t parts, inner, in_blocks, out_blocks;  // of a part: channels that are summed over, blocks
  std::int64_t unit;                                 // numbers from one column of x to the next
  bool runs;                                         // depthwise, 3 x 3: neighbours share what they see
  bool narrow;                                       // positions fill vectors, not channels
  bool copies;                                       // what a band sees lies in scratch memory, with what is around x
  std::int64_t pitch, plane;                         // of what is read: columns of a row, numbers of a plane
  std::int64_t room, more_room;                      // numbers of scratch memory: for copies, for results
  std::int64_t line;                                 // narrow: room for one result of a band
  std::int64_t taps, band;                           // elements of the kernel; rows of results that are a band
  long long* tap;                                    // for as many numbers as the kernel has elements
  int failed;
};

struct BlockedLoops {
  void (*run)(void* blocked, std::int64_t begin, std::int64_t end);      // tasks: parts of bands of images
  void (*block)(void* blocked, std::int64_t begin, std::int64_t end);    // planes to blocks; tasks: blocks of images
  void (*unblock)(void* blocked, std::int64_t begin, std::int64_t end);  // and back
};

}  // namespace fastnn_cpu

FASTNN_FAMILY(BlockedLoops, blocked)
