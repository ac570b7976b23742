// Walks over x[outer, channels, inner], and sums of what belongs to a channel, in an order that the shape decides.
//
// A unit of work is a channel, or 32 neighbouring elements of a sample where a channel's run of them is short; its
// elements are cut into `splits` shares, so that few channels keep the whole device busy. A block takes a share of a
// unit at a time and writes its sums to `partial`; the kernel that uses them adds the shares up.
//
// Four terms are added up in the type that is computed in, those sums in double. So there is one conversion and one
// addition of doubles for four elements: less time than fetching them takes, even where the device has one unit for
// doubles beside 64 for floats.
#pragma once
#include "device.cuh"

FASTNN_CUDA_BEGIN

constexpr i64 short_run = 32;

struct channel_shape {
  i64 outer, channels, inner, splits;

  FASTNN_FN bool columns() const { return inner < short_run; }
  FASTNN_FN i64 width() const { return columns() ? inner : 1; }  // sums of a channel in a share
  FASTNN_FN i64 sums() const { return channels * width(); }
  FASTNN_FN i64 units() const { return columns() ? (sums() + 31) / 32 : channels; }
  FASTNN_FN double count() const { return static_cast<double>(outer * inner); }
};

// A thread's elements of a share of a unit, `lanes` neighbours at a time.
template <int lanes>
struct channel_walk {
  i64 channel, sum;  // which these elements belong to; channel -1 for none
  i64 split, at, sample, step_sample, steps, run, step, jump, wrap;

  __device__ channel_walk(const channel_shape& s, i64 task) {
    const i64 unit = task / s.splits;
    split = task % s.splits;
    i64 total = s.outer, first = threadIdx.x / 32, apart = blockDim.x / 32;
    channel = unit;
    sum = unit;
    run = 0;
    wrap = s.inner / lanes;
    if (s.columns()) {
      sum = unit * 32 + threadIdx.x % 32;
      channel = sum < s.sums() ? sum / s.inner : -1;
      run = sum % s.inner;
    } else {
      total = s.outer * wrap;
      first = threadIdx.x;
      apart = blockDim.x;
    }
    const i64 begin = total * split / s.splits + first, end = total * (split + 1) / s.splits;
    steps = channel < 0 || begin >= end ? 0 : (end - begin + apart - 1) / apart;
    sample = begin;
    step_sample = apart;
    step = 0;
    if (!s.columns()) {
      sample = begin / wrap;
      run = begin % wrap;
      step_sample = apart / wrap;
      step = apart % wrap;
    }
    at = (sample * s.channels + channel) * s.inner + run * lanes;
    jump = s.channels * s.inner;
  }
  // f(offset of the first of `lanes` elements, sample)
  template <class F>
  __device__ __forceinline__ void each(F f) const {
    i64 p = at, n = sample, i = run;
    for (i64 k = 0; k < steps; ++k) {
      f(p, n);
      n += step_sample;
      i += step;
      p += step_sample * jump + step * lanes;
      if (i >= wrap) {
        i -= wrap;
        ++n;
        p += jump - wrap * lanes;
      }
    }
  }
};

// The sums of `k` terms that f(block) adds to block[0] ... block[k - 1].
template <class V, int k, int lanes>
struct adder {
  V block[k] = {};
  double sum[k] = {};
  int filled = 0;

  __device__ __forceinline__ void flush() {
    FASTNN_UNROLL
    for (int j = 0; j < k; ++j) {
      sum[j] = sum[j] + static_cast<double>(block[j]);
      block[j] = V(0);
    }
    filled = 0;
  }
  // f(block, lane) for each lane
  template <class F>
  __device__ __forceinline__ void add(F f) {
    FASTNN_UNROLL
    for (int lane = 0; lane < lanes; ++lane) {
      f(block, lane);
      if (lane % 4 == 3) flush();
    }
    if (lanes % 4 != 0 && ++filled == 4 / lanes) flush();
  }
};

// Calls pass.run(walk) for every share, with as many lanes as the runs of a channel allow.
template <class T, class Pass>
__device__ __forceinline__ void each_share(const channel_shape& s, const Pass& pass) {
  constexpr int n = lanes_together<T>;
  const i64 tasks = s.units() * s.splits;
  if (s.columns() || s.inner % n != 0)
    for (i64 task = blockIdx.x; task < tasks; task += gridDim.x) pass.run(channel_walk<1>(s, task));
  else
    for (i64 task = blockIdx.x; task < tasks; task += gridDim.x) pass.run(channel_walk<n>(s, task));
}

// Writes the block's sums of a share: sum j of share s of channel c is at partial[(j * splits + s) * sums + c].
template <int k, int lanes>
__device__ __forceinline__ void put_sums(const channel_shape& s, const channel_walk<lanes>& walk,
                                         const double (&sums)[k], double* partial) {
  if (lanes > 1 || !s.columns()) {
    for (int j = 0; j < k; ++j) {
      const double total = block_sum(sums[j]);
      if (threadIdx.x == 0) partial[(j * s.splits + walk.split) * s.sums() + walk.sum] = total;
    }
    return;
  }
  if constexpr (lanes == 1) {
    __shared__ double part[32][32];
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
    for (int j = 0; j < k; ++j) {
      __syncthreads();
      part[warp][lane] = sums[j];
      __syncthreads();
      if (warp == 0 && walk.channel >= 0) {
        double total = part[0][lane];
        for (int w = 1; w < warps; ++w) total = total + part[w][lane];
        partial[(j * s.splits + walk.split) * s.sums() + walk.sum] = total;
      }
    }
  }
}

// Sum j of channel c, in every thread of the block.
__device__ __forceinline__ double channel_sum(const channel_shape& s, const double* partial, int j, i64 c) {
  const i64 width = s.width();
  double sum = 0;
  for (i64 q = threadIdx.x; q < s.splits * width; q += blockDim.x)
    sum = sum + partial[(j * s.splits + q / width) * s.sums() + c * width + q % width];
  return block_sum(sum);
}

// out[c] = the sum j of channel c, added to what is there if `accumulate`. Starts with a block a channel.
template <class P>
__device__ __forceinline__ void put_channel_sum(P* out, double sum, i64 c, i64 accumulate) {
  if (out != nullptr && threadIdx.x == 0) out[c] = static_cast<P>(accumulate ? sum + static_cast<double>(out[c]) : sum);
}

FASTNN_CUDA_END
