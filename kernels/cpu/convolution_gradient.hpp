// Gradients by the weights and the bias.
#pragma once
#include "../include/reduce.hpp"

#include "convolution_pack.hpp"
#include "scratch.hpp"

FASTNN_BEGIN
namespace {

template <class V>
using GradientTile = void (*)(const scalar_t<V>*, long long, const scalar_t<V>* const*, long long, long long, long long,
                              scalar_t<V>*, long long, bool);

constexpr i64 gradient_columns = 2;  // three are hardly faster
template <class V, int rows>
struct gradient_tiles_of {
  static constexpr GradientTile<V> column[gradient_columns] = {gradient_tile<V, rows, 1>, gradient_tile<V, rows, 2>};
};
template <class V>
const GradientTile<V>* gradient_tiles(i64 rows) {
  return rows == tile_rows ? gradient_tiles_of<V, tile_rows>::column
         : rows == 6       ? gradient_tiles_of<V, 6>::column
         : rows == 4       ? gradient_tiles_of<V, 4>::column
         : rows == 2       ? gradient_tiles_of<V, 2>::column
                           : gradient_tiles_of<V, 1>::column;
}

template <class T>
struct WeightAdder {
  using V = typename storage<T>::V;
  using N = computed<T>;

  const WeightGradient& g;
  const Window& w;
  const Layout& l;
  const T *source_end, *dy_end;
  i64 width;      // numbers per weight in `totals`: the outputs, or lanes for each
  i64 positions;  // of a tile
  bool in_place;  // dy is not packed
  N *source, *dy, *totals;
  Patch* patch;
  int* block_at;    // in dy and in x
  i64 blocks_most;  // of sixteen positions
  i64 packed = 0;   // channels of the first tile in scratch memory whose margins are zero
  LanesBlocks blocks;
  i64 blocks_of[3] = {};  // tiles, height, length
  Ahead<0> next_source = {}, next_dy = {};

  explicit WeightAdder(const WeightGradient& gradient) : g(gradient), w(g.window), l(g.layout) {
    source_end = static_cast<const T*>(g.source) + g.images * g.groups * g.inner * w.source_rows * w.source_cols;
    dy_end = static_cast<const T*>(g.dy) + g.images * g.groups * g.outer * w.rows * w.cols;
  }

  // False where there is no memory.
  bool prepare() {
    constexpr i64 slack = 8 * lanes<V>;
    width = g.lanes ? g.outputs * gradient_lanes : round_up(g.outputs, lanes<V>);
    const i64 sources = round_up(g.together * l.block * l.channel + slack, 16);
    const i64 total = round_up(l.block * w.taps * width, 16);
    positions = l.gathered ? l.positions : l.tile_rows * l.tile_cols;
    in_place = g.lanes && !l.gathered && sizeof(T) == sizeof(N);
    blocks_most = g.together * (positions / gradient_lanes + (l.gathered ? 1 : l.tile_rows));
    const i64 dys = round_up((in_place ? 0 : positions * (g.lanes ? g.outputs * g.together : width)) + slack, 16);
    char* at =
        static_cast<char*>(scratch((sources + total + dys) * static_cast<i64>(sizeof(N)) +
                                   l.patches * static_cast<i64>(sizeof(Patch)) + (g.lanes ? blocks_most * 8 : 0)));
    if (at == nullptr) return false;
    source = reinterpret_cast<N*>(at);
    totals = source + sources;
    dy = totals + total;
    patch = reinterpret_cast<Patch*>(dy + dys);
    block_at = reinterpret_cast<int*>(patch + l.patches);
    clear<V>(dy, dys - slack);
    return true;
  }

  void task(i64 index) {
    const i64 inner_block = index % g.inner_blocks;
    index /= g.inner_blocks;
    const i64 output_block = index % g.output_blocks;
    index /= g.output_blocks;
    const i64 group = index % g.groups, slice = index / g.groups;
    const i64 begin = inner_block * l.block, end = g.inner - begin < l.block ? g.inner : begin + l.block;
    const i64 first = output_block * g.outputs;
    const i64 outputs = g.outer - first < g.outputs ? g.outer - first : g.outputs;
    const i64 plane = w.source_rows * w.source_cols, image = g.groups * g.inner * plane;
    const T* const from = static_cast<const T*>(g.source) + (group * g.inner + begin) * plane;
    clear<V>(totals, (end - begin) * w.taps * width);
    const i64 last = l.tiles * (slice + 1) / g.slices;
    for (i64 tile = l.tiles * slice / g.slices; tile < last; tile += g.together) {
      const i64 tiles = last - tile < g.together ? last - tile : g.together;
      i64 patches = 0;
      for (i64 k = 0; k < tiles; ++k) {
        patches = patches_of(l, w, g.images, tile + k, patch);
        pack(source + k * l.block * l.channel, l, w, from, image, end - begin, patch, patches, source_end,
             k == 0 ? packed : 0);
        if (packed < end - begin && keeps_margins(l, w)) packed = end - begin;
        if (!in_place) pack_dy(dy + k * outputs * positions, group * g.outer + first, outputs, patches);
      }
      if (tiles > 1) patches_of(l, w, g.images, tile, patch);
      i64 height = patch[0].rows, length = patch[0].length;
      if (l.gathered || (length == l.pitch && (!in_place || length == w.cols))) {
        length = line_of(patch[patches - 1]);
        height = 1;
      }
      const i64 channel = group * g.outer + first;
      if (tile + tiles < last && !l.gathered) {
        Patch p = {};
        patches_of(l, w, g.images, tile + tiles, &p);
        const i64 pairs = outputs * (end - begin) * w.taps,
                  times = g.lanes ? pairs / 24 + 1 : pairs / (tile_rows * width) + 1;
        next_source = {from + p.image * image, w.source_rows, w.source_cols, p.row * w.row_step,
                       p.rows * w.row_step,    end - begin,   times};
        next_dy = {dy_at(p, channel) - p.row * w.cols - p.col, w.rows, w.cols, p.row, p.rows, outputs, times};
      }
      if (g.lanes)
        add_lanes(tiles, channel, end - begin, outputs, height, length);
      else
        add(end - begin, outputs, height, length);
    }
    finish(slice, group, begin, end, first, outputs);
  }

  const T* dy_at(const Patch& p, i64 channel) const {
    const i64 plane = p.image * g.groups * g.outer + channel;
    return static_cast<const T*>(g.dy) + (plane * w.rows + p.row) * w.cols + p.col;
  }
  // [position, output]; [output, position] where positions fill vectors
  void pack_dy(N* to, i64 channel, i64 outputs, i64 patches) {
    const i64 plane = w.rows * w.cols;
    for (i64 r = 0; r < patches; ++r) {
      const Patch& p = patch[r];
      const T* from = dy_at(p, channel);
      const bool together = p.length == w.cols;
      const i64 rows = together ? 1 : p.rows, length = together ? p.rows * p.length : p.length;
      for (i64 i = 0; i < rows; ++i, from += w.cols) {
        if (g.lanes)
          for (i64 a = 0; a < outputs; ++a)
            for (i64 j = 0; j < length; ++j) to[a * positions + j] = widened(from[a * plane + j]);
        else
          turn(to, width, from, plane, outputs, length, true);
        to += length * (g.lanes ? 1 : width);
      }
    }
  }

  // What the weights of rows [q, q + rows) meet at the first position of the tile
  void first_elements(const N** x, i64 q, i64 rows) const {
    for (i64 a = 0; a < rows; ++a) x[a] = source + (q + a) / w.taps * l.channel + l.offset[(q + a) % w.taps];
  }

  void add(i64 channels, i64 outputs, i64 height, i64 length) {
    const i64 vectors = round_up(outputs, lanes<V>) / lanes<V>;
    const N* x[tile_rows];
    for (i64 q = 0, rows; q < channels * w.taps; q += rows) {
      rows = next_rows(channels * w.taps - q);
      first_elements(x, q, rows);
      next_source.fetch();
      next_dy.fetch();
      const GradientTile<V>* const tiles = gradient_tiles<V>(rows);
      for (i64 v = 0; v < vectors;) {
        const i64 columns = next_columns(vectors - v, gradient_columns);
        tiles[columns - 1](dy + v * lanes<V>, width, x, l.pitch, height, length, totals + q * width + v * lanes<V>,
                           width, false);
        v += columns;
      }
    }
  }

  void set_blocks(i64 tiles, i64 outputs, i64 height, i64 length) {
    const i64 plane = w.rows * w.cols, dy_row = in_place ? w.cols : length;
    const i64 dy_image = in_place ? g.groups * g.outer * plane : outputs * positions;
    blocks = {block_at,
              block_at + blocks_most,
              0,
              length / gradient_lanes * height * tiles,
              static_cast<int>(length % gradient_lanes),
              in_place ? plane : positions,
              gradient_lanes,
              width};
    for (i64 k = 0; k < tiles; ++k)
      for (i64 i = 0; i < height; ++i)
        for (i64 j = 0; j < length; j += gradient_lanes) {
          long long& next = length - j < gradient_lanes ? blocks.all : blocks.whole;
          block_at[next] = static_cast<int>(k * dy_image + i * dy_row + j);
          block_at[blocks_most + next++] = static_cast<int>(k * l.block * l.channel + i * l.pitch + j);
        }
  }
  void add_lanes(i64 tiles, i64 channel, i64 channels, i64 outputs, i64 height, i64 length) {
    const i64 count = channels * w.taps;
    if (blocks_of[0] != tiles || blocks_of[1] != height || blocks_of[2] != length) {
      blocks_of[0] = tiles, blocks_of[1] = height, blocks_of[2] = length;
      set_blocks(tiles, outputs, height, length);
    }
    const N* x[lanes_columns(1)];
    for (i64 o = 0; o < outputs;) {  // outside: dy stays in the first-level cache
      const i64 rows = outputs - o >= 4 ? 4 : outputs - o >= 2 ? 2 : 1, most = lanes_columns(static_cast<int>(rows));
      const N* const d = in_place ? reinterpret_cast<const N*>(dy_at(patch[0], channel + o)) : dy + o * positions;
      for (i64 q = 0; q < count;) {
        const i64 columns = count - q >= most ? most : count - q >= 3 && most > 3 ? 3 : 1;
        first_elements(x, q, columns);
        next_source.fetch();
        next_dy.fetch();
        lanes_tile(rows, columns)(blocks, d, x, totals + q * width + o * gradient_lanes);
        q += columns;
      }
      o += rows;
    }
  }
  using LanesTile = void (*)(const LanesBlocks&, const N*, const N* const*, N*);
  template <int rows, int columns>
  static constexpr LanesTile lanes_tile_or_null() {
    if constexpr (columns <= lanes_columns(rows))
      return gradient_lanes_tile<V, rows, columns>;
    else
      return nullptr;
  }
  template <int rows>
  static LanesTile lanes_tile_of(i64 columns) {
    return columns == 1   ? lanes_tile_or_null<rows, 1>()
           : columns == 3 ? lanes_tile_or_null<rows, 3>()
                          : lanes_tile_or_null<rows, lanes_columns(rows)>();
  }
  static LanesTile lanes_tile(i64 rows, i64 columns) {
    return rows == 4 ? lanes_tile_of<4>(columns) : rows == 2 ? lanes_tile_of<2>(columns) : lanes_tile_of<1>(columns);
  }

  void finish(i64 slice, i64 group, i64 begin, i64 end, i64 first, i64 outputs) {
    const i64 all = g.inner * w.taps, mine = (end - begin) * w.taps;
    const i64 at = (group * g.outer + first) * all + begin * w.taps;
    if (g.lanes)
      for (i64 q = 0; q < mine; ++q)
        for (i64 a = 0; a < outputs; ++a) totals[q * width + a] = lanes_sum<V>(totals + q * width + a * gradient_lanes);
    if (g.partial != nullptr)
      turn(static_cast<N*>(g.partial) + slice * g.groups * g.outer * all + at, all, totals, width, mine, outputs,
           false);
    else
      turn(static_cast<T*>(g.weight) + at, all, totals, width, mine, outputs, false);
  }
};

template <class T>
void weight_gradient(void* context, std::int64_t begin, std::int64_t end) {
  WeightGradient& g = *static_cast<WeightGradient*>(context);
  WeightAdder<T> adder(g);
  if (!adder.prepare()) {
    __atomic_store_n(&g.failed, 1, __ATOMIC_RELAXED);
    return;
  }
  for (i64 task = begin; task < end; ++task) adder.task(task);
}

template <class T>
void add_slices(void* context, std::int64_t begin, std::int64_t end) {
  using S = storage<T>;
  using V = typename S::V;
  const WeightGradient& g = *static_cast<WeightGradient*>(context);
  const i64 all = g.groups * g.outer * g.inner * g.window.taps;
  const computed<T>* const partial = static_cast<const computed<T>*>(g.partial);
  T* const weight = static_cast<T*>(g.weight);
  for (i64 i = begin; i < end; i += lanes<V>) {
    const int n = end - i < lanes<V> ? static_cast<int>(end - i) : lanes<V>;
    V sum = load<V>(partial + i);  // there is room for a vector behind the partial sums
    for (i64 s = 1; s < g.slices; ++s) sum = sum + load<V>(partial + s * all + i);
    if (g.accumulate) sum = S::load_first(weight + i, n) + sum;
    S::store_first(weight + i, sum, n);
  }
}

// Image by image, as dy lies in memory.
template <class T>
void bias_gradient(void* context, std::int64_t begin, std::int64_t end) {
  using S = storage<T>;
  BiasGradient& b = *static_cast<BiasGradient*>(context);
  lanes16* const sums = static_cast<lanes16*>(scratch((end - begin) * static_cast<i64>(sizeof(lanes16))));
  if (sums == nullptr) {
    __atomic_store_n(&b.failed, 1, __ATOMIC_RELAXED);
    return;
  }
  for (i64 image = 0; image < b.images; ++image)
    for (i64 channel = begin; channel < end; ++channel) {
      lanes16 sum = image == 0 ? broadcast16(0.0) : sums[channel - begin];
      const T* const dy = static_cast<const T*>(b.dy) + (image * b.channels + channel) * b.positions;
      i64 i = 0;
      for (; i + sum_lanes <= b.positions; i += sum_lanes) sum = sum + load16<S>(dy + i);
      if (i < b.positions) sum = sum + load16_first<S>(dy + i, static_cast<int>(b.positions - i));
      sums[channel - begin] = sum;
    }
  for (i64 channel = begin; channel < end; ++channel) {
    computed<T>& to = static_cast<computed<T>*>(b.total)[channel];
    const computed<T> sum = static_cast<computed<T>>(total(sums[channel - begin]));
    to = b.accumulate ? to + sum : sum;
  }
}

}  // namespace
FASTNN_END
