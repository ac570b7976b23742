#include "convolution_plan.hpp"

#include <algorithm>

namespace fastnn_cpu {
namespace {

using i64 = std::int64_t;

constexpr i64 source_bytes = 256 << 10, weight_bytes = 512 << 10, total_bytes = 512 << 10;  // of scratch memory
constexpr i64 largest_plane_bytes = 1 << 20;  // beyond, lines are gathered
constexpr i64 alignment = 16;                 // numbers: a cache line, or two
constexpr i64 chunk_terms = 256;
constexpr i64 gathered_positions = 192;  // a multiple of every width of a register tile
constexpr i64 output_step = 24;          // likewise of every height
constexpr i64 panel_step = 32;           // and of what across_tile takes
constexpr i64 slices_most = 16, partial_bytes = 4 << 20;

i64 divide_up(i64 a, i64 b) { return (a + b - 1) / b; }
i64 floor_divide(i64 a, i64 b) { return (a < 0 ? a - b + 1 : a) / b; }
i64 at_most(i64 n, i64 limit, i64 step) { return n <= limit ? n : std::max(step, limit / step * step); }
// a b, or a very large number: planes may be beyond what 64 bits count before lines are gathered instead
i64 product(i64 a, i64 b) {
  constexpr i64 large = i64(1) << 50;
  return a != 0 && b > large / a ? large : a * b;
}
// n in parts of equal size, each of at most `part`
i64 even(i64 n, i64 part) { return divide_up(n, divide_up(n, part)); }

struct Span {
  i64 low, high;
};
template <i64 Tap::* axis>
Span span(const Window& w, i64 step) {
  Span s = {0, 0};
  for (i64 t = 0; t < w.taps; ++t) {
    const i64 at = floor_divide(w.tap[t].*axis, step);
    s.low = t == 0 ? at : std::min(s.low, at);
    s.high = t == 0 ? at : std::max(s.high, at);
  }
  return s;
}

i64 find_plane(Tiles& tiles, i64 row, i64 col) {
  const std::array<i64, 2> remainders = {row, col};
  const auto found = std::find(tiles.planes.begin(), tiles.planes.end(), remainders);
  if (found == tiles.planes.end()) {
    tiles.planes.push_back(remainders);
    return static_cast<i64>(tiles.planes.size()) - 1;
  }
  return found - tiles.planes.begin();
}

void use_planes(Layout& l, const Window& w, i64 images, i64 inner, i64 positions, i64 size, bool aligned,
                Tiles& tiles) {
  const Span rows = span<&Tap::row>(w, w.row_step), cols = span<&Tap::col>(w, w.col_step);
  const i64 more_rows = rows.high - rows.low, more_cols = cols.high - cols.low;
  tiles.offsets.resize(w.taps);
  std::vector<i64> plane(w.taps);
  for (i64 t = 0; t < w.taps; ++t) {
    const i64 row = w.tap[t].row, col = w.tap[t].col;
    plane[t] = find_plane(tiles, row - floor_divide(row, w.row_step) * w.row_step,
                          col - floor_divide(col, w.col_step) * w.col_step);
  }
  l.top = rows.low;
  l.left = cols.low;
  l.planes = static_cast<i64>(tiles.planes.size());
  l.tile_cols = even(w.cols, std::max<i64>(positions, 64));
  l.pitch = l.tile_cols + more_cols;
  if (aligned) {
    l.left = cols.low < 0 ? -divide_up(-cols.low, alignment) * alignment : cols.low;
    l.pitch = divide_up(l.tile_cols + cols.high - l.left, alignment) * alignment;
  }
  l.first_col = cols.low - l.left;
  l.tile_rows = std::clamp<i64>(positions / l.pitch, 1, w.rows);
  // all channels at once, if tiles do not become too small for it
  const i64 row_bytes = std::max<i64>(1, product(inner * l.planes * size, l.pitch));
  const i64 fitting = source_bytes / row_bytes - more_rows;
  if (fitting > 0 && product(fitting, l.pitch) >= std::min(gathered_positions, w.rows * l.pitch))
    l.tile_rows = std::min(l.tile_rows, fitting);
  l.tile_rows = even(w.rows, l.tile_rows);
  l.row_tiles = divide_up(w.rows, l.tile_rows);
  l.col_tiles = divide_up(w.cols, l.tile_cols);
  l.tiles = images * l.row_tiles * l.col_tiles;
  l.plane_rows = l.tile_rows + more_rows;
  l.kernel_rows = more_rows + 1;
  l.kernel_cols = more_cols + 1;
  l.line = (l.tile_rows - 1) * l.pitch + l.tile_cols;
  l.patches = 1;
  l.channel = product(product(l.planes, l.plane_rows), l.pitch);
  if (l.channel > largest_plane_bytes) return;  // gathered, then, and offsets need not fit 64 bits
  for (i64 t = 0; t < w.taps; ++t)
    tiles.offsets[t] = (plane[t] * l.plane_rows + floor_divide(w.tap[t].row, w.row_step) - l.top) * l.pitch +
                       floor_divide(w.tap[t].col, w.col_step) - l.left;
}

void use_lines(Layout& l, const Window& w, i64 images, i64 positions, i64 size, Tiles& tiles) {
  const i64 all = images * w.rows * w.cols, fitting = source_bytes / (size * std::max<i64>(1, w.taps));
  l.gathered = true;
  l.positions = std::min(at_most(positions, fitting, 48), all);
  l.patches = 2 * divide_up(l.positions, w.rows * w.cols) + 2;
  l.tiles = divide_up(all, l.positions);
  l.line = l.positions;
  l.channel = w.taps * l.positions;
  tiles.offsets.resize(w.taps);
  for (i64 t = 0; t < w.taps; ++t) tiles.offsets[t] = t * l.positions;
}

// In cycles per term and image, roughly: a vector of positions costs half a cycle per result, and gathering it some
// more the shorter the rows are. `images` 0: for ever so many, for whom it pays most.
bool gathering_pays(const Layout& l, const Window& w, i64 images, i64 outer, i64 size) {
  const i64 width = 64 / size;
  const double gathered = images == 0 ? static_cast<double>(w.rows * w.cols) / width
                                      : static_cast<double>(divide_up(images * w.rows * w.cols, width)) / images;
  const double planes = static_cast<double>(l.row_tiles * l.col_tiles * divide_up(l.line, width));
  const bool whole = w.taps == 1 && w.row_step == 1 && w.rows == w.source_rows && w.cols == w.source_cols;
  const double copy = w.col_step > 1 ? 24.0 : 4.0 + 100.0 / (whole ? w.rows * w.cols : w.cols);
  return gathered * (outer / 2.0 + copy) < planes * (outer / 2.0);
}

}  // namespace

Layout lay_out(const Window& w, i64 images, i64 inner, i64 outer, i64 positions, i64 size, bool aligned, bool planes,
               Tiles& tiles) {
  Layout l = {};
  use_planes(l, w, images, inner, positions, size, aligned, tiles);
  const i64 smallest_line = w.taps * 48, taps = std::max<i64>(1, w.taps);
  const auto fits = [&](i64 channel) { return source_bytes / (size * std::max<i64>(1, channel)); };
  const auto chunk = [&](i64 channel) {
    return std::clamp<i64>(chunk_terms / taps, 1, std::max<i64>(1, std::min(fits(channel), inner)));
  };
  positions = std::min(positions, gathered_positions);
  // Sums run over chunks, which must not depend on the number of images: wherever some number of them is gathered, all
  // have the chunks of full lines, and those planes that would need smaller ones are gathered too.
  const i64 line_chunk = chunk(taps * at_most(positions, source_bytes / (size * taps), 48));
  const bool some = w.taps > 0 && !planes && !aligned && gathering_pays(l, w, 0, outer, size);
  const bool gathers = some && (chunk(l.channel) < line_chunk || gathering_pays(l, w, images, outer, size));
  const bool large = w.taps > 0 && (l.channel > largest_plane_bytes ||
                                    (l.channel * size > largest_plane_bytes && l.channel > smallest_line));
  l.chunk = some || large ? line_chunk : chunk(l.channel);
  if (gathers || large) use_lines(l, w, images, positions, size, tiles);
  l.plane = reinterpret_cast<const i64(*)[2]>(tiles.planes.data());
  l.offset = tiles.offsets.data();
  const i64 fitting = fits(l.channel);
  l.block = at_most(inner, fitting, l.chunk);
  return l;
}

bool is_depthwise(const Correlation& c) {
  return c.inner == 1 && c.outer == 1 && c.col_step == 1 && c.window.row_step == 1 && c.window.col_step == 1 &&
         c.window.cols >= alignment;
}

bool is_across(const Correlation& c, i64 size) {
  const i64 terms = c.inner * c.window.taps;
  return c.outer % panel_step == 0 && terms >= 96 && c.window.cols >= 5 && c.outer * terms * size <= weight_bytes;
}

i64 plan_tasks(Correlation& c, i64 size, int threads) {
  const Layout& l = c.layout;
  const i64 terms = std::max<i64>(1, c.inner * c.window.taps);
  c.depthwise = is_depthwise(c) && !l.gathered && l.planes == 1 && c.window.taps == l.kernel_rows * l.kernel_cols;
  c.hold = c.outer * terms * size <= weight_bytes;
  c.across = is_across(c, size) && c.hold && !l.gathered && l.block == c.inner;
  c.outputs = l.block < c.inner ? at_most(c.outer, total_bytes / (l.line * size), output_step) : c.outer;
  // results of one tile are shared out where there are fewer tiles than would keep the threads busy
  const i64 wanted = threads > 1 ? 4 * threads : 1;
  const i64 step = c.across ? panel_step : output_step;
  while (l.tiles * c.groups * divide_up(c.outer, c.outputs) < wanted && c.outputs > step &&
         c.outputs * terms * l.line > (1 << 20))
    c.outputs = divide_up(divide_up(c.outputs, 2), step) * step;
  c.output_blocks = divide_up(c.outer, c.outputs);
  return l.tiles * c.groups * c.output_blocks;
}

i64 grain(const Correlation& c, i64 tasks, int threads) {
  if (threads == 1) return tasks;
  const i64 work = std::max<i64>(1, c.outputs * c.inner * c.window.taps * c.layout.line);
  const i64 worth = std::max(divide_up(1 << 20, work), divide_up(1024, c.layout.line));
  return std::min(worth, divide_up(tasks, 4 * threads));
}

i64 plan_tasks(WeightGradient& g, i64 size) {
  const Layout& l = g.layout;
  const i64 terms = std::max<i64>(1, l.block * g.window.taps);
  g.inner_blocks = divide_up(g.inner, l.block);
  g.output_blocks = divide_up(g.outer, g.outputs);
  const i64 blocks = g.groups * g.inner_blocks * g.output_blocks;
  const i64 room = partial_bytes / std::max<i64>(1, g.groups * g.outer * g.inner * g.window.taps * size);
  // the sixteen totals of a pair are added up once a slice
  const i64 worth = g.lanes ? l.tiles * l.line / (1 << 14) : g.outputs * terms * l.tiles * l.line / (1 << 20);
  g.slices = std::clamp<i64>(std::min({slices_most / blocks, room, worth, l.tiles}), 1, slices_most);
  return g.slices * blocks;
}

}  // namespace fastnn_cpu
