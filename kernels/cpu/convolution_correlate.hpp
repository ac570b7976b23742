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
  return rows == tile_rows ? correlation_tiles_of<V, tile_rows>::column
         : rows == 6       ? correlation_tiles_of<V, 6>::column
         : rows == 4       ? correlation_tiles_of<V, 4>::column
         : rows == 2       ? correlation_tiles_of<V, 2>::column
                           : correlation_tiles_of<V, 1>::column;
}

template <class V>
using AcrossTile = void (*)(const scalar_t<V>*, const int*, const scalar_t<V>*, long long, scalar_t<V>*, bool,
                            const scalar_t<V>*);
template <class V>
struct across_tiles {
  static constexpr AcrossTile<V> rows[8] = {
      across_tile<V, 1>, across_tile<V, 2>, across_tile<V, 3>,        across_tile<V, 4>, across_tile<V, 5>,
      across_tile<V, 6>, across_tile < V,   7 <= tile_rows ? 7 : 1 >, across_tile < V,   8 <= tile_rows ? 8 : 1 > };
};

constexpr i64 second_level_cache = 1 << 20;  // about

template <class T>
struct Correlator {
  using S = storage<T>;
  using V = typename S::V;
  using N = computed<T>;

  const Correlation& c;
  const Window& w;
  const Layout& l;
  const T *source_end, *weight_end;
  static constexpr i64 panel = across_columns * lanes<V>;
  i64 total_pitch;
  N *source, *weights, *totals;
  Patch* patch;
  int* offset;
  bool in_order = true;  // weight t is that of tap t
  i64 packed = 0;        // channels in scratch memory whose margins are zero
  i64 held = -1;         // whose weights lie in scratch memory

  explicit Correlator(const Correlation& correlation) : c(correlation), w(c.window), l(c.layout) {
    source_end = static_cast<const T*>(c.source) + c.images * c.groups * c.inner * w.source_rows * w.source_cols;
    weight_end = static_cast<const T*>(c.weight) + c.groups * c.weight_group;
    for (i64 t = 0; t < w.taps; ++t) in_order = in_order && w.tap[t].weight == t;
  }

  // False where there is no memory.
  bool prepare() {
    constexpr i64 slack = 8 * lanes<V>;  // register tiles reach past the ends of lines
    total_pitch = round_up(l.line, lanes<V>);
    const i64 sources = round_up(l.block * l.channel + slack, 16);
    const i64 weight = c.hold ? c.outputs * c.inner * w.taps : tile_rows * l.block * w.taps;
    const i64 weights_size = round_up(weight + weight_slack, 16);
    const i64 lines = l.block < c.inner ? c.outputs : c.across ? 2 * panel : tile_rows;
    const i64 total = round_up(lines * total_pitch, 16);
    const i64 numbers = sources + weights_size + total, offsets = l.chunk * w.taps;
    char* at = static_cast<char*>(
        scratch(numbers * static_cast<i64>(sizeof(N)) + l.patches * static_cast<i64>(sizeof(Patch)) + offsets * 4));
    if (at == nullptr) return false;
    source = reinterpret_cast<N*>(at);
    weights = source + sources;
    totals = weights + weights_size;
    patch = reinterpret_cast<Patch*>(totals + total);
    offset = reinterpret_cast<int*>(patch + l.patches);
    clear<V>(source + l.block * l.channel, slack - lanes<V>);
    for (i64 k = 0; k < offsets; ++k) offset[k] = static_cast<int>(k / w.taps * l.channel + l.offset[k % w.taps]);
    return true;
  }

  void task(i64 index) {
    const i64 group = index % c.groups, tile = index / c.groups % l.tiles, block = index / c.groups / l.tiles;
    const i64 first = block * c.outputs, outputs = c.outer - first < c.outputs ? c.outer - first : c.outputs;
    const i64 patches = patches_of(l, w, c.images, tile, patch), line = line_of(patch[patches - 1]);
    const i64 plane = w.source_rows * w.source_cols, image = c.groups * c.inner * plane;
    const T* const from = static_cast<const T*>(c.source) + group * c.inner * plane;
    if (c.depthwise && has_depthwise_loop() && patch[0].length >= lanes<V>)
      return depthwise_task(from, image, patches, group);
    if (c.hold) hold_weights(block * c.groups + group, group, first, outputs);
    if (c.across) {
      pack_source(from, image, c.inner, patches);
      Ahead<0> ahead = ahead_of(index + 1, outputs / panel * ((c.inner + l.chunk - 1) / l.chunk) * patch[0].rows);
      for (i64 o = 0; o < outputs; o += panel)
        across(patch[0], weights + o * c.inner * w.taps, group * c.outer + first + o, ahead);
      return;
    }
    i64 begin = 0;
    do {  // once even where there is nothing to sum up
      const i64 end = c.inner - begin < l.block ? c.inner : begin + l.block;
      const bool last = end == c.inner;
      pack_source(from + begin * plane, image, end - begin, patches);
      for (i64 o = 0, rows; o < outputs; o += rows) {
        rows = next_rows(outputs - o);
        const i64 channel = group * c.outer + first + o;
        const N* weight = weights;
        if (c.hold)
          weight += (o * c.inner + begin * rows) * w.taps;
        else
          pack_weights_of(weights, group, first + o, rows, begin, end);
        N* const total = totals + (l.block < c.inner ? o * total_pitch : 0);
        const N* const bias = last && c.bias != nullptr ? static_cast<const N*>(c.bias) + channel : nullptr;
        sum(rows, begin, end, line, weight, total, bias);
        if (last)
          for (i64 a = 0; a < rows; ++a) finish(total + a * total_pitch, line, patch, patches, channel + a);
      }
      begin = end;
    } while (begin < c.inner);
  }

  Ahead<0> ahead_of(i64 index, i64 times) const {
    Patch next = {};
    patches_of(l, w, c.images, index / c.groups % l.tiles, &next);
    const i64 channel = (next.image * c.groups + index % c.groups) * c.inner;
    return {static_cast<const T*>(c.source) + channel * w.source_rows * w.source_cols,
            w.source_rows,
            w.source_cols,
            next.row * w.row_step,
            next.rows * w.row_step,
            index < c.groups * l.tiles ? c.inner : 0,
            times};
  }
  Ahead<1> ahead_in(const Patch& p, i64 channel, i64 times) const {
    const T* const plane = address(c.result, p, channel) - p.row * c.row_step * c.result_cols;
    return {plane, c.result_rows, c.result_cols, p.row * c.row_step, p.rows * c.row_step, panel, times};
  }

  // A panel of channels of one patch, position by position.
  void across(const Patch& p, const N* weight, i64 channel, Ahead<0>& ahead) {
    const N* const bias = c.bias == nullptr ? nullptr : static_cast<const N*>(c.bias) + channel;
    const i64 parts = (p.length + tile_rows - 1) / tile_rows;
    Ahead<1> results = ahead_in(p, channel, p.rows * ((c.inner + l.chunk - 1) / l.chunk));
    for (i64 begin = 0; begin < c.inner; begin += l.chunk) {
      const i64 channels = c.inner - begin < l.chunk ? c.inner - begin : l.chunk;
      const N* const x = source + begin * l.channel;
      N* total = totals;
      for (i64 i = 0; i < p.rows; ++i) {
        ahead.fetch();
        results.fetch();
        for (i64 part = 0, j = 0; part < parts; ++part) {
          const i64 next = p.length * (part + 1) / parts;
          across_tiles<V>::rows[next - j - 1](x + i * l.pitch + j, offset, weight, channels * w.taps, total, begin == 0,
                                              begin + channels == c.inner ? bias : nullptr);
          total += (next - j) * panel;
          j = next;
        }
      }
      weight += channels * w.taps * panel;
    }
    const i64 positions = p.rows * p.length, plane = c.result_rows * c.result_cols;
    if constexpr (sizeof(T) == sizeof(N))
      if (c.row_step == 1 && c.col_step == 1 && p.length == c.result_cols) {
        T *const y = address(c.result, p, channel), *const z = c.before == nullptr ? y : address(c.before, p, channel);
        turn(z, plane, totals, panel, positions, panel, false);
        for (i64 a = 0; a < panel; ++a) finish_rows(z + a * plane, y + a * plane, positions);
        return;
      }
    Patch whole = p;
    whole.pitch = p.length;
    N* const turned = totals + panel * total_pitch;
    turn(turned, total_pitch, totals, panel, positions, panel, true);
    for (i64 a = 0; a < panel; ++a) finish(turned + a * total_pitch, positions, &whole, 1, channel + a);
  }

  void pack_source(const T* from, i64 image, i64 channels, i64 patches) {
    pack(source, l, w, from, image, channels, patch, patches, source_end, packed);
    if (packed < channels && keeps_margins(l, w)) packed = channels;
  }

  // Their rows are unrolled.
  bool has_depthwise_loop() const { return l.kernel_rows == 3 || l.kernel_rows == 5 || l.kernel_rows == 7; }
  void depthwise_task(const T* from, i64 image, i64 patches, i64 group) {
    const Patch p = patch[0];
    const i64 plane = w.source_rows * w.source_cols;
    if (c.images * c.groups * plane * static_cast<i64>(sizeof(T)) > second_level_cache) {
      // The next plane follows this one, at a distance that the processor does not look ahead by itself.
      const char* const next = reinterpret_cast<const char*>(from + p.image * image + plane);
      const char* const result =
          reinterpret_cast<const char*>(address(c.result, p, group) + c.result_rows * c.result_cols);
      for (i64 i = 0; i < p.rows * p.length * static_cast<i64>(sizeof(T)); i += 64) {
        __builtin_prefetch(next + i, 0, 2);
        __builtin_prefetch(result + i, 1, 2);
      }
    }
    pack_source(from, image, 1, patches);
    for (i64 t = 0; t < w.taps; ++t) {
      const i64 row = l.offset[t] / l.pitch, col = l.offset[t] % l.pitch - l.first_col;
      weights[col * l.kernel_rows + row] =
          widened(static_cast<const T*>(c.weight)[group * c.weight_group + w.tap[t].weight]);
    }
    const auto block = l.kernel_rows == 3   ? depthwise_block<V, 3>
                       : l.kernel_rows == 5 ? depthwise_block<V, 5>
                                            : depthwise_block<V, 7>;
    const N bias = c.bias == nullptr ? N(0) : static_cast<const N*>(c.bias)[group];
    if constexpr (sizeof(T) == sizeof(N)) {
      T *const y = address(c.result, p, group), *const z = c.before == nullptr ? y : address(c.before, p, group);
      const i64 pitch = c.row_step * c.result_cols;
      const bool together = pitch == p.length;
      block(source + l.first_col, l.pitch, weights, l.kernel_cols, bias, p.rows, p.length, z, pitch);
      for (i64 i = 0; i < (together ? 1 : p.rows); ++i)
        finish_rows(z + i * pitch, y + i * pitch, together ? p.rows * p.length : p.length);
    } else {
      patch[0].pitch = p.length;
      block(source + l.first_col, l.pitch, weights, l.kernel_cols, bias, p.rows, p.length, totals, p.length);
      finish(totals, p.rows * p.length, patch, patches, group);
    }
  }

  void pack_weights_of(N* to, i64 group, i64 o, i64 rows, i64 begin, i64 end) const {
    const T* const from =
        static_cast<const T*>(c.weight) + group * c.weight_group + o * c.weight_outer + begin * c.weight_inner;
    pack_weights(to, from, c.weight_outer, c.weight_inner, rows, end - begin, w, in_order, weight_end);
  }
  void hold_weights(i64 which, i64 group, i64 first, i64 outputs) {
    if (which == held) return;
    held = which;
    for (i64 o = 0, rows; o < outputs; o += rows) {
      rows = c.across ? panel : next_rows(outputs - o);
      pack_weights_of(weights + o * c.inner * w.taps, group, first + o, rows, 0, c.inner);
    }
  }

  // totals of `rows` results along the line, over the channels [begin, end)
  void sum(i64 rows, i64 begin, i64 end, i64 line, const N* weight, N* total, const N* bias) {
    const CorrelationTile<V>* const tiles = correlation_tiles<V>(rows);
    const i64 most = tile_columns(static_cast<int>(rows)), vectors = round_up(line, lanes<V>) / lanes<V>;
    i64 at = begin;
    do {
      const i64 next = end - at < l.chunk ? end : at + l.chunk;
      const N* const x = source + (at - begin) * l.channel;
      for (i64 v = 0; v < vectors;) {
        const i64 columns = next_columns(vectors - v, most);
        tiles[columns - 1](x + v * lanes<V>, offset, weight, (next - at) * w.taps, total + v * lanes<V>, total_pitch,
                           at == 0, next == c.inner ? bias : nullptr);
        v += columns;
      }
      weight += (next - at) * w.taps * rows;
      at = next;
    } while (at < end);
  }

  void finish_rows(N* z, N* y, i64 n) const {
    if (c.activation != nullptr)
      activate(z, y, n);
    else if (z != y)
      put(y, z, n);
  }
  void activate(N* z, N* y, i64 n) const {
    void* operands[6] = {z};
    for (int k = 0; k < c.parameters; ++k) operands[1 + k] = const_cast<void*>(c.parameter[k]);
    operands[1 + c.parameters] = y;
    c.activation(operands, n, 0);
  }
  T* address(void* of, const Patch& p, i64 channel) const {
    const i64 plane = p.image * c.groups * c.outer + channel, row = c.first_row + p.row * c.row_step;
    return static_cast<T*>(of) + (plane * c.result_rows + row) * c.result_cols + c.first_col + p.col * c.col_step;
  }
  // One line of totals is complete: activation, and out.
  void finish(N* total, i64 line, const Patch* patch, i64 patches, i64 channel) const {
    if (c.before != nullptr) spread(c.before, total, patch, patches, channel);
    if (c.activation != nullptr) activate(total, total, line);
    spread(c.result, total, patch, patches, channel);
  }
  void spread(void* result, const N* total, const Patch* patch, i64 patches, i64 channel) const {
    const i64 pitch = c.row_step * c.result_cols;
    for (i64 r = 0; r < patches; ++r) {
      const Patch& p = patch[r];
      T* to = address(result, p, channel);
      const N* from = total + p.at;
      if (c.col_step == 1 && p.pitch == p.length && pitch == p.length)
        put(to, from, p.rows * p.length);
      else if (c.col_step == 1)
        for (i64 i = 0; i < p.rows; ++i, from += p.pitch, to += pitch) put(to, from, p.length);
      else
        for (i64 i = 0; i < p.rows; ++i, from += p.pitch, to += pitch)
          for (i64 j = 0; j < p.length; ++j) narrow_to(to + j * c.col_step, from[j]);
    }
  }
  static FASTNN_FN void put(T* to, const N* from, i64 n) {
    i64 i = 0;
    for (; i + lanes<V> <= n; i += lanes<V>) S::store(to + i, load<V>(from + i));
    if (i == n) return;
    if (n >= lanes<V>)
      S::store(to + n - lanes<V>, load<V>(from + n - lanes<V>));
    else
      S::store_first(to, load<V>(from), static_cast<int>(n));
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
