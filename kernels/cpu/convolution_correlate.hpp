// Forward pass and gradient by the input: tiles of results.
#pragma once
#include "convolution_pack.hpp"
#include "scratch.hpp"

FASTNN_BEGIN
namespace {

template <class V>
using CorrelationTile = void (*)(const scalar_t<V>*, const int*, const scalar_t<V>*, long long, scalar_t<V>*, long long,
                                 bool, const scalar_t<V>*);

template <class V, int rows, int columns>
constexpr CorrelationTile<V> correlation_tile_or_null() {
  if constexpr (columns <= tile_columns(rows))
    return correlation_tile<V, rows, columns>;
  else
    return nullptr;
}
template <class V, int rows>
struct correlation_tiles_of {
  static constexpr CorrelationTile<V> column[8] = {
      correlation_tile_or_null<V, rows, 1>(), correlation_tile_or_null<V, rows, 2>(),
      correlation_tile_or_null<V, rows, 3>(), correlation_tile_or_null<V, rows, 4>(),
      correlation_tile_or_null<V, rows, 5>(), correlation_tile_or_null<V, rows, 6>(),
      correlation_tile_or_null<V, rows, 7>(), correlation_tile_or_null<V, rows, 8>()};
};
template <class V>
const CorrelationTile<V>* correlation_tiles(i64 rows) {
  switch (rows) {
    case 1:
      return correlation_tiles_of<V, 1>::column;
    case 2:
      return correlation_tiles_of<V, 2>::column;
    case 3:
      return correlation_tiles_of<V, 3>::column;
    case 4:
      return correlation_tiles_of<V, 4>::column;
    case 5:
      return correlation_tiles_of<V, 5>::column;
    case 6:
      return correlation_tiles_of<V, 6>::column;
    case 7:
      return correlation_tiles_of < V, 7 <= tile_rows ? 7 : 1 > ::column;
    default:
      return correlation_tiles_of<V, tile_rows>::column;
  }
}

template <class T>
struct Correlator {
  using S = storage<T>;
  using V = typename S::V;
  using N = computed<T>;

  const Correlation& c;
  const Window& w;
  const Layout& l;
  i64 total_pitch;
  N *source, *weights, *totals;
  Run* run;
  int* offset;
  i64 weights_held = -1;  // which ones lie in scratch memory

  explicit Correlator(const Correlation& correlation) : c(correlation), w(c.window), l(c.layout) {}

  // False where there is no memory.
  bool prepare() {
    constexpr i64 slack = 8 * lanes<V>;  // vectors reach past the ends of lines
    total_pitch = round_up(l.line, lanes<V>);
    const i64 sources = round_up(l.block * l.channel + slack, 16);
    const i64 weight = round_up(c.outputs * c.weight_block * w.taps, 16);
    const i64 total = round_up((l.block < c.inner ? c.outputs : tile_rows) * total_pitch, 16);
    const i64 runs = l.gathered ? l.positions : l.tile_rows;
    char* at = static_cast<char*>(scratch((sources + weight + total) * static_cast<i64>(sizeof(N)) +
                                          runs * static_cast<i64>(sizeof(Run)) + l.chunk * w.taps * 4));
    if (at == nullptr) return false;
    source = reinterpret_cast<N*>(at);
    weights = source + sources;
    totals = weights + weight;
    run = reinterpret_cast<Run*>(totals + total);
    offset = reinterpret_cast<int*>(run + runs);
    clear<V>(source + l.block * l.channel, slack - lanes<V>);
    for (i64 k = 0; k < l.chunk * w.taps; ++k)
      offset[k] = static_cast<int>(k / w.taps * l.channel + l.offset[k % w.taps]);
    return true;
  }

  void task(i64 index) {
    const i64 group = index % c.groups, tile = index / c.groups % l.tiles, block = index / c.groups / l.tiles;
    const i64 first = block * c.outputs, outputs = c.outer - first < c.outputs ? c.outer - first : c.outputs;
    const i64 runs = runs_of(l, w, c.images, tile, run);
    const i64 line = run[runs - 1].at + run[runs - 1].length;
    const i64 plane = w.source_rows * w.source_cols, image = c.groups * c.inner * plane;
    const T* const from = static_cast<const T*>(c.source) + group * c.inner * plane;
    i64 begin = 0;
    do {  // once even where there is nothing to sum up
      const i64 end = c.inner - begin < l.block ? c.inner : begin + l.block;
      pack(source, l, w, from + begin * plane, image, end - begin, run, runs);
      hold_weights(block * c.groups + group, group, first, outputs, begin);
      for (i64 o = 0; o < outputs; o += tile_rows) {
        const i64 rows = outputs - o < tile_rows ? outputs - o : tile_rows;
        N* const total = totals + (l.block < c.inner ? o * total_pitch : 0);
        const bool last = end == c.inner;
        const N* const bias =
            last && c.bias != nullptr ? static_cast<const N*>(c.bias) + group * c.outer + first + o : nullptr;
        sum(o, rows, begin, end, line, total, bias);
        if (last)
          for (i64 a = 0; a < rows; ++a) finish(total + a * total_pitch, line, runs, group * c.outer + first + o + a);
      }
      begin = end;
    } while (begin < c.inner);
  }

  void hold_weights(i64 which, i64 group, i64 first, i64 outputs, i64 begin) {
    which = which * (c.inner + 1) + begin / c.weight_block;
    if (which == weights_held) return;
    const T* const from = static_cast<const T*>(c.weight) + group * c.weight_group + first * c.weight_outer +
                          begin / c.weight_block * c.weight_block * c.weight_inner;
    pack_weights(weights, from, c.weight_outer, c.weight_inner, outputs, held_channels(begin), w);
    weights_held = which;
  }
  i64 held_channels(i64 begin) const {
    const i64 rest = c.inner - begin / c.weight_block * c.weight_block;
    return rest < c.weight_block ? rest : c.weight_block;
  }

  // totals of `rows` results along the line, over the channels [begin, end)
  void sum(i64 o, i64 rows, i64 begin, i64 end, i64 line, N* total, const N* bias) {
    const CorrelationTile<V>* const tiles = correlation_tiles<V>(rows);
    const i64 most = tile_columns(static_cast<int>(rows)), vectors = round_up(line, lanes<V>) / lanes<V>;
    const N* const held = weights + o * held_channels(begin) * w.taps;
    i64 at = begin;
    do {
      const i64 next = end - at < l.chunk ? end : at + l.chunk;
      const N* const weight = held + at % c.weight_block * w.taps * rows;
      const N* const x = source + (at - begin) * l.channel;
      for (i64 v = 0; v < vectors;) {
        const i64 columns = next_columns(vectors - v, most);
        tiles[columns - 1](x + v * lanes<V>, offset, weight, (next - at) * w.taps, total + v * lanes<V>, total_pitch,
                           at == 0, next == c.inner ? bias : nullptr);
        v += columns;
      }
      at = next;
    } while (at < end);
  }

  // One line of totals is complete: activation, and out.
  void finish(N* total, i64 line, i64 runs, i64 channel) const {
    if (c.activation != nullptr) {
      void* operands[6] = {total};
      for (int k = 0; k < c.parameters; ++k) operands[1 + k] = const_cast<void*>(c.parameter[k]);
      operands[1 + c.parameters] = total;
      c.activation(operands, line, 0);
    }
    T* const result = static_cast<T*>(c.result);
    const auto address = [&](const Run& r) {
      const i64 plane = r.image * c.groups * c.outer + channel;
      return result + (plane * c.result_rows + c.first_row + r.row * c.row_step) * c.result_cols + c.first_col +
             r.col * c.col_step;
    };
    for (i64 r = 0; r < runs;) {
      const N* const from = total + run[r].at;
      T* const to = address(run[r]);
      i64 length = run[r].length;
      for (++r; c.col_step == 1 && r < runs && total + run[r].at == from + length && address(run[r]) == to + length;
           ++r)
        length += run[r].length;
      i64 i = 0;
      if (c.col_step == 1) {
        for (; i + lanes<V> <= length; i += lanes<V>) S::store(to + i, load<V>(from + i));
        if (i < length)
          S::store_first(to + i, load_first<V>(from + i, static_cast<int>(length - i), V(N(0))),
                         static_cast<int>(length - i));
      } else {
        for (; i < length; ++i) narrow_to(to + i * c.col_step, from[i]);
      }
    }
  }
};

template <class T>
void correlate(void* context, std::int64_t begin, std::int64_t end) {
  Correlation& c = *static_cast<Correlation*>(context);
  Correlator<T> correlator(c);
  if (!correlator.prepare()) {
    __atomic_store_n(&c.failed, 1, __ATOMIC_RELAXED);
    return;
  }
  for (i64 task = begin; task < end; ++task) correlator.task(task);
}

}  // namespace
FASTNN_END
