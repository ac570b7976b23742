#include "blocked_run.hpp"

#include <algorithm>

namespace fastnn_cpu {
namespace {

using i64 = std::int64_t;

constexpr i64 block = 16;
constexpr int float32_number = 11;  // NumPy's, of its type
// Of what a band sees: half of a second-level cache; where every element is soon used up, of a first-level cache.
constexpr i64 band_bytes = 256 << 10, short_band_bytes = 24 << 10;
constexpr i64 parallel_from = 1 << 16;  // terms from which a second thread pays, of 16 each
constexpr i64 slack = 128;              // tiles reach past the ends of lines

i64 ceil_div(i64 a, i64 b) { return (a + b - 1) / b; }

i64 reach(const Blocked& c, int axis, i64 positions) {
  return (positions - 1) * c.stride[axis] + (c.kernel[axis] - 1) * c.dilation[axis] + 1;
}

// Rows of a band: pairs of them where they are pooled.
i64 even(const Blocked& c, i64 rows) { return c.pool ? ceil_div(rows, 2) * 2 : rows; }

void plan(Blocked& c, bool adds) {
  const bool dense = c.kind == blocked_dense;
  c.parts = dense ? c.groups : ceil_div(c.channels, block);
  c.inner = dense ? c.channels / c.groups : 1;
  c.in_blocks = ceil_div(c.inner, block);
  c.out_blocks = dense ? ceil_div(c.outputs / c.groups, block) : 1;
  c.unit = c.planes ? 1 : block;
  c.narrow = dense && c.planes && !adds && c.groups == 1 && c.outputs <= 8 && c.stride[0] == 1 && c.stride[1] == 1;
  c.runs = c.kind == blocked_depthwise && c.kernel[0] == 3 && c.kernel[1] == 3 && c.dilation[0] == 1 &&
           c.dilation[1] == 1 && c.stride[1] <= 2 && c.out_cols >= 8 && c.before[1] <= 1 &&
           reach(c, 1, c.out_cols) - c.before[1] <= c.cols + 1;
  const bool inside =
      c.before[0] == 0 && c.before[1] == 0 && reach(c, 0, c.out_rows) <= c.rows && reach(c, 1, c.out_cols) <= c.cols;
  c.copies = c.narrow || !(inside || c.runs);
  c.pitch = c.copies ? reach(c, 1, c.out_cols) : c.cols;
  const i64 planes = c.planes ? c.inner : c.in_blocks, row_bytes = planes * c.pitch * c.unit * 4;
  const i64 bytes = dense ? band_bytes : short_band_bytes;
  c.band = std::clamp<i64>(bytes / (row_bytes * c.stride[0]), 1, c.out_rows);
  c.band = even(c, ceil_div(c.out_rows, ceil_div(c.out_rows, c.band)));
  c.plane = (c.copies ? reach(c, 0, c.band) : c.rows) * c.pitch * c.unit;
  c.room = c.copies ? planes * c.plane + slack : 0;
  c.line = ceil_div(c.band * c.pitch + slack, block) * block;
  c.more_room = c.narrow ? 2 * c.line * 8 : c.pool ? c.out_blocks * c.band * c.out_cols * block : 0;
  c.taps = c.kernel[0] * c.kernel[1];
  for (i64 row = 0, t = 0; row < c.kernel[0]; ++row)
    for (i64 col = 0; col < c.kernel[1]; ++col)
      c.tap[t++] = (row * c.dilation[0] * c.pitch + col * c.dilation[1]) * c.unit;
}

bool run_tasks(const Runtime& runtime, Blocked& c) {
  const auto body = blocked(runtime.active_isa()).run;
  const i64 images = c.images * c.parts, terms = images * c.out_blocks * c.out_rows * c.out_cols * c.inner * c.taps;
  const int threads = terms < parallel_from ? 1 : runtime.pool->get_num_threads();
  if (threads > 1 && images * ceil_div(c.out_rows, c.band) < 4 * threads)
    c.band = std::min(c.band, even(c, ceil_div(images * c.out_rows, 4 * threads)));
  const i64 tasks = images * ceil_div(c.out_rows, c.band);
  if (threads > 1)
    runtime.pool->parallel_for(tasks, std::max<i64>(1, tasks / (8 * threads)), body, &c);
  else
    body(&c, 0, tasks);
  return c.failed == 0;
}

void turn(const Runtime& runtime, Blocked& c) {
  const BlockedLoops& loops = blocked(runtime.active_isa());
  const auto body = c.kind == blocked_block ? loops.block : loops.unblock;
  const i64 tasks = c.images * c.in_blocks, each = c.rows * c.cols * block;
  if (tasks * each < 128 * 1024)
    body(&c, 0, tasks);
  else
    runtime.pool->parallel_for(tasks, std::max<i64>(1, 16 * 1024 / each), body, &c);
}

bool run(const Operation* self, void* const* arrays) {
  const auto& step = *reinterpret_cast<const BlockedStep*>(self);
  Blocked c = step.job;
  c.x = static_cast<const float*>(arrays[0]);
  c.added = step.adds ? static_cast<const float*>(arrays[1]) : nullptr;
  c.y = static_cast<float*>(arrays[1 + step.adds]);
  c.activation = step.loops[step.runtime->active_isa()];
  if (c.kind < blocked_block) return run_tasks(*step.runtime, c);
  turn(*step.runtime, c);
  return true;
}

}  // namespace

void plan_step(BlockedStep& step) noexcept {
  Blocked& c = step.job;
  Operation& o = step.operation;
  const auto blocked_bytes = [&](i64 channels, i64 rows, i64 cols) {
    return c.images * ceil_div(channels, block) * rows * cols * block * 4;
  };
  const i64 planes_bytes = c.images * c.channels * c.rows * c.cols * 4, halves = c.pool ? 2 : 1;
  o.run = run;
  o.count = 2 + step.adds;
  o.work = planes_bytes;
  o.bytes[0] = c.planes ? planes_bytes : blocked_bytes(c.channels, c.rows, c.cols);
  o.bytes[1] = o.bytes[o.count - 1] = blocked_bytes(c.outputs, c.out_rows / halves, c.out_cols / halves);
  for (int k = 0; k < o.count; ++k) o.types[k] = float32_number;
  if (c.kind < blocked_block) {
    plan(c, step.adds);
    o.work = c.images * c.outputs * c.out_rows * c.out_cols * c.inner * c.taps;
    return;
  }
  c.in_blocks = ceil_div(c.channels, block);
  if (c.kind == blocked_unblock)
    o.bytes[1] = planes_bytes;
  else
    o.bytes[0] = planes_bytes;
}

}  // namespace fastnn_cpu
