#include "convolution_run.hpp"

#include <algorithm>
#include <new>
#include <vector>

#include "convolution_plan.hpp"
#include "scratch.hpp"

namespace fastnn_cpu {
namespace {

using i64 = std::int64_t;

constexpr i64 tile_positions = 1024;
constexpr i64 gradient_outputs = 64, gradient_bytes = 64 << 10;  // of dy, turned over
constexpr i64 gradient_total_bytes = 256 << 10;

i64 number_size(int dtype) { return dtype == dtype_float64 ? 8 : 4; }

i64 modulo(i64 a, i64 b) { return ((a % b) + b) % b; }

bool run(const Runtime& runtime, int dtype, Correlation& c) {
  Tiles tiles;
  const i64 size = number_size(dtype);
  c.layout =
      lay_out(c.window, c.images, c.inner, c.outer, tile_positions, size, is_depthwise(c), is_across(c, size), tiles);
  const int threads = runtime.pool->get_num_threads();
  const i64 tasks = plan_tasks(c, size, threads);
  const auto body = convolution(runtime.active_isa()).correlate[dtype];
  if (threads == 1)
    body(&c, 0, tasks);
  else
    runtime.pool->parallel_for(tasks, grain(c, tasks, threads), body, &c);
  return c.failed == 0;
}

std::vector<Tap> taps_of(const Geometry& g) {
  std::vector<Tap> taps;
  for (i64 row = 0; row < g.kernel[0]; ++row)
    for (i64 col = 0; col < g.kernel[1]; ++col)
      taps.push_back({row * g.dilation[0] - g.padding[0], col * g.dilation[1] - g.padding[1], row * g.kernel[1] + col});
  return taps;
}

Window window_of(const Geometry& g, const std::vector<Tap>& taps) {
  return {g.out_rows, g.out_cols, g.rows, g.cols, g.stride[0], g.stride[1], static_cast<i64>(taps.size()), taps.data()};
}

// Do vectors hold more that counts if positions fill them, not outputs? Rows of positions end with a vector that is not
// full, and tiles of them load more: optimised for size, GCC loads x once for every channel of dy.
bool lanes_pay(const WeightGradient& g) {
  const auto rounded = [](i64 n) { return (n + 15) / 16 * 16; };
  return 3 * g.outer * rounded(g.window.cols) < 2 * rounded(g.outer) * g.window.cols || g.outer == 1;
}

// std::bad_alloc is what these functions can meet.
template <class F>
bool guarded(F f) {
  try {
    return f();
  } catch (const std::bad_alloc&) {
    return false;
  }
}

}  // namespace

bool convolve(const Runtime& runtime, int dtype, const Geometry& g, const void* x, const void* weight, const void* bias,
              void* y, void* z, const char* activation, const void* const* parameter, int parameters) {
  return guarded([&] {
    const std::vector<Tap> taps = taps_of(g);
    Correlation c = {};
    c.window = window_of(g, taps);
    c.source = x;
    c.weight = weight;
    c.bias = bias;
    c.result = y;
    c.before = z;
    c.images = g.images;
    c.groups = g.groups;
    c.inner = g.inner;
    c.outer = g.outer;
    c.weight_inner = static_cast<i64>(taps.size());
    c.weight_outer = g.inner * c.weight_inner;
    c.weight_group = g.outer * c.weight_outer;
    c.result_rows = g.out_rows;
    c.result_cols = g.out_cols;
    c.row_step = c.col_step = 1;
    if (activation != nullptr) {
      const int computed = dtype == dtype_float64 ? dtype_float64 : dtype_float32;
      c.activation = runtime.activation_loop(runtime.active_isa(), activation, pass_forward, computed);
      c.parameters = parameters;
      std::copy(parameter, parameter + parameters, c.parameter);
    }
    return run(runtime, dtype, c);
  });
}

bool input_gradient(const Runtime& runtime, int dtype, const Geometry& g, const void* dy, const void* weight,
                    void* dx) {
  return guarded([&] {
    Correlation c = {};
    c.source = dy;
    c.weight = weight;
    c.result = dx;
    c.images = g.images;
    c.groups = g.groups;
    c.inner = g.outer;
    c.outer = g.inner;
    c.weight_outer = g.kernel[0] * g.kernel[1];
    c.weight_inner = g.inner * c.weight_outer;
    c.weight_group = g.outer * c.weight_inner;
    c.result_rows = g.rows;
    c.result_cols = g.cols;
    c.row_step = g.stride[0];
    c.col_step = g.stride[1];
    // Element y of x meets tap k at (y + padding - k dilation) / stride, where that is integral.
    std::vector<Tap> taps;
    for (c.first_row = 0; c.first_row < std::min(g.rows, g.stride[0]); ++c.first_row)
      for (c.first_col = 0; c.first_col < std::min(g.cols, g.stride[1]); ++c.first_col) {
        taps.clear();
        for (i64 row = 0; row < g.kernel[0]; ++row)
          for (i64 col = 0; col < g.kernel[1]; ++col) {
            const i64 y = c.first_row + g.padding[0] - row * g.dilation[0];
            const i64 x = c.first_col + g.padding[1] - col * g.dilation[1];
            if (modulo(y, g.stride[0]) == 0 && modulo(x, g.stride[1]) == 0)
              taps.push_back({y / g.stride[0], x / g.stride[1], row * g.kernel[1] + col});
          }
        c.window = {(g.rows - c.first_row - 1) / g.stride[0] + 1,
                    (g.cols - c.first_col - 1) / g.stride[1] + 1,
                    g.out_rows,
                    g.out_cols,
                    1,
                    1,
                    static_cast<i64>(taps.size()),
                    taps.data()};
        if (!run(runtime, dtype, c)) return false;
      }
    return true;
  });
}

bool weight_gradient(const Runtime& runtime, int dtype, const Geometry& geometry, const void* dy, const void* x,
                     void* dweight, bool accumulate) {
  return guarded([&] {
    const std::vector<Tap> taps = taps_of(geometry);
    const i64 size = number_size(dtype);
    WeightGradient g = {};
    g.window = window_of(geometry, taps);
    g.dy = dy;
    g.source = x;
    g.weight = dweight;
    g.accumulate = accumulate;
    g.images = geometry.images;
    g.groups = geometry.groups;
    g.inner = geometry.inner;
    g.outer = geometry.outer;
    g.lanes = lanes_pay(g);
    g.outputs = std::min(g.outer, gradient_outputs);
    const i64 width = g.lanes ? 16 * g.outputs : g.outputs;
    const i64 positions = g.lanes ? tile_positions : std::max<i64>(16, gradient_bytes / (width * size));
    Tiles tiles;
    g.layout = lay_out(g.window, g.images, g.inner, 0, positions, size, g.lanes, false, tiles);
    const i64 fitting = gradient_total_bytes / (g.window.taps * width * size);
    Layout& l = g.layout;
    l.block = std::min(l.block, std::max<i64>(1, fitting));
    const bool whole = g.lanes && !l.gathered && l.row_tiles == 1 && l.col_tiles == 1;
    const i64 near = (i64(1) << 30) / (g.groups * g.outer * g.window.rows * g.window.cols);  // offsets are 32-bit
    g.together = whole ? std::clamp<i64>(std::min({tile_positions / l.line, g.images, near}), 1, tile_positions) : 1;
    const i64 tasks = plan_tasks(g, size);
    const i64 weights = g.groups * g.outer * g.inner * g.window.taps;
    if (g.slices > 1 || accumulate) {
      g.partial = scratch((g.slices * weights + 16) * size, scratch_shared);
      if (g.partial == nullptr) return false;
    }
    const Convolution& loops = convolution(runtime.active_isa());
    const bool threads = runtime.pool->get_num_threads() > 1;
    if (threads)
      runtime.pool->parallel_for(tasks, 1, loops.weight_gradient[dtype], &g);
    else
      loops.weight_gradient[dtype](&g, 0, tasks);
    if (g.failed != 0) return false;
    if (g.partial != nullptr) loops.add_slices[dtype](&g, 0, weights);
    return true;
  });
}

bool bias_gradient(const Runtime& runtime, int dtype, const void* dy, i64 images, i64 channels, i64 positions,
                   void* dbias, bool accumulate) {
  BiasGradient b = {dy, dbias, images, channels, positions, accumulate, 0};
  const auto body = convolution(runtime.active_isa()).bias_gradient[dtype];
  const i64 each = std::max<i64>(1, images * positions), threads = runtime.pool->get_num_threads();
  if (threads > 1 && each * channels >= 128 * 1024)
    runtime.pool->parallel_for(channels, std::max(32 * 1024 / each, channels / (4 * threads)), body, &b);
  else
    body(&b, 0, channels);
  return b.failed == 0;
}

}  // namespace fastnn_cpu
