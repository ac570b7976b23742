// Cross-entropy and hinge loss over a column, or a vector of columns: what a walk (softmax_loops.hpp) is walked for.
#pragma once
#include "../include/losses.hpp"
#include "halves.hpp"
#include "losses.hpp"

FASTNN_BEGIN
namespace {

// The labels of a vector of columns, or of one row in every lane, with the scores that they point to.
template <class T>
struct chosen {
  using V = vector_of<T>;
  static constexpr int n = lanes<V>;
  int64_t at[n];     // offset of the score; -1: ignored, or there is no such column
  double weight[n];  // 0 where it is ignored
  V score;

  FASTNN_FN chosen(const ClassLoss& job, const T* x, int64_t first, int columns, int64_t step, bool is_row) {
    T lane[n] = {};
    for (int j = 0; j < n; ++j) {
      const int k = is_row ? 0 : j;
      at[j] = -1;
      weight[j] = 0.0;
      if (k >= columns || job.labels[first + k] == job.ignored) continue;
      const int64_t label = job.labels[first + k];
      at[j] = label * step + k;
      weight[j] = job.weight ? static_cast<const scalar_t<V>*>(job.weight)[label] : 1.0;
      lane[j] = x[at[j]];
    }
    score = storage<T>::load(lane);
  }
  // The lanes that count are 1, the others 0.
  FASTNN_FN V counts() const {
    scalar_t<V> lane[n];
    for (int j = 0; j < n; ++j) lane[j] = at[j] >= 0;
    return load<V>(lane);
  }
  // Writes each lane of x to the place of its label.
  FASTNN_FN void write(T* to, const wide<V>& x) const {
    T lane[n];
    storage<T>::store(lane, to_narrow(x));
    for (int j = 0; j < n; ++j)
      if (at[j] >= 0) to[at[j]] = lane[j];
  }
};

FASTNN_FN vdouble where_not_zero(vdouble factor, vdouble product) {
  return select(factor == vdouble(0.0), vdouble(0.0), product);
}

// The first n lanes, and zeros
template <class V>
FASTNN_FN V first_lanes(V x, int n) {
  if (n == lanes<V>) return x;
  scalar_t<V> lane[lanes<V>];
  store(lane, x);
  return load_first<V>(lane, n, V(0.0f));
}

// What each class is to be, apart from the label: its share of the smoothing, or its target, times its weight.
template <class T>
struct spread_targets {
  using V = vector_of<T>;
  const ClassLoss& job;
  const T* targets;  // of this column
  V keep, share;

  FASTNN_FN spread_targets(const ClassLoss& job, const T* targets)
      : job(job),
        targets(targets),
        keep(static_cast<scalar_t<V>>(1.0 - job.smoothing)),
        share(static_cast<scalar_t<V>>(job.smoothing / static_cast<double>(job.classes))) {}
  FASTNN_FN V weight(const down&, int64_t c, int) const { return V(static_cast<const scalar_t<V>*>(job.weight)[c]); }
  FASTNN_FN V weight(const along&, int64_t c, int n) const {
    return load_some(static_cast<const scalar_t<V>*>(job.weight) + c, n);
  }
  template <class Walk>
  FASTNN_FN V at(const Walk& walk, int64_t at, int64_t c, int n) const {
    const V t = targets ? fmadd(load_some(targets + at, n), keep, share) : share;
    return first_lanes(job.weight ? t * weight(walk, c, n) : t, n);
  }
};

// Cross-entropy of softmax: with the target t of a class, T the sum of targets, L = log sum e^(x - max) and p =
// softmax, loss = T L + sum t (max - x), gradient = p T - t. A label's own target is added in double, at its place. x
// may be g. Whether targets are spread over the classes is asked at run time: a template of it would double what is by
// far the largest function of the losses.
template <class Walk, class T>
FASTNN_FN wide<vector_of<T>> cross_entropy_along(const ClassLoss& job, const Walk& walk, const T* x, T* g,
                                                 const T* targets, const chosen<T>& label) {
  using V = vector_of<T>;
  const V maximum = walk.maximum(x);
  const softmax_shift<V> shift = softmax_shift_of(maximum);
  const spread_targets<T> target(job, targets);
  const bool labelled = job.labels != nullptr, spread = !labelled || job.smoothing != 0.0;
  wide<V> total = broadcast_wide<V>(0.0), loss = total, own = total;
  if (spread) {
    const auto each = [&](int64_t at, int64_t c, int n) { return target.at(walk, at, c, n); };
    total = walk.template products<V>([&](int64_t at, int64_t c, int n) { return pair<V>{each(at, c, n), V(1.0f)}; });
    loss = walk.template products<V>([&](int64_t at, int64_t c, int n) {
      const V t = each(at, c, n), difference = maximum - load_some(x + at, n);
      return pair<V>{t, select(t == V(0.0f), V(0.0f), difference)};
    });
  }
  const softmax_sums<V> sums = exponential_sums(walk, x, maximum, shift, [&](int64_t at, V e, int n) {
    if (g) store_some(g + at, e, n);
  });
  if (labelled) {
    own = load_wide<V>(label.weight) * broadcast_wide<V>(1.0 - job.smoothing);
    total = total + own;
    loss = loss + map(where_not_zero, own, own * (to_wide(maximum) - to_wide(label.score)));
  }
  loss = loss + total * sums.log();
  const V counts = labelled ? label.counts() : V(1.0f);
  const mask_t<V> counted = counts == V(1.0f);
  if (g) {
    const wide<V> scale = broadcast_wide<V>(job.scale), sum = sums.sum();
    const two_part<V> factor = quotient(total * scale, sum);
    const V negative(static_cast<scalar_t<V>>(-job.scale));
    const auto each = [&](int64_t at, int n) { return times(load_some(g + at, n), factor); };
    const auto put = [&](int64_t at, V d, int n) { store_some(g + at, select(counted, d, V(0.0f)), n); };
    if (spread)
      each_vector<V>(walk, [&](int64_t at, int64_t c, int n) {
        put(at, fmadd(target.at(walk, at, c, n), negative, each(at, n)), n);
      });
    else
      each_vector<V>(walk, [&](int64_t at, int64_t, int n) { put(at, each(at, n), n); });
    if (labelled) {
      const wide<V> e = to_wide(softmax_exp(label.score, shift));
      const wide<V> share = broadcast_wide<V>(spread ? job.smoothing / static_cast<double>(job.classes) : 0.0);
      const wide<V> wanted = own + share * load_wide<V>(label.weight);
      label.write(g, (spread ? total * e / sum - wanted : (e - sum) / sum * own) * scale);
    }
  }
  const wide<V> mask = to_wide(counts);
  return map(where_not_zero, mask, loss);
}

// Hinge loss: sum over the other classes of max(0, x - score + margin). Scores equal to the label's count the margin
// each, the label itself excepted: so infinite scores are compared, never subtracted from themselves.
template <class Walk, class T>
FASTNN_FN wide<vector_of<T>> hinge_along(const ClassLoss& job, const Walk& walk, const T* x, T* g,
                                         const chosen<T>& label) {
  using V = vector_of<T>;
  const V zero(0.0f), one(1.0f), margin(static_cast<scalar_t<V>>(job.margin));
  const V scale(static_cast<scalar_t<V>>(job.scale));
  V active = zero, ties = zero;
  const auto excess = [&](V v) { return hinge_excess(v, label.score, margin); };
  const wide<V> sum = walk.template sum<V>([&](int64_t at, int64_t, int n) {
    const V v = load_logits(x + at, n), h = excess(v);
    const mask_t<V> tie = v == label.score;
    ties = ties + select(tie, one, zero);
    active = active + select(h > zero, one, zero);
    return select(tie, zero, vmax(zero, h));
  });
  const wide<V> others = counted(walk, ties) - broadcast_wide<V>(1.0);
  const V counts = label.counts();
  const wide<V> mask = to_wide(counts);
  if (g) {
    const mask_t<V> in = counts == one;
    each_vector<V>(walk, [&](int64_t at, int64_t, int n) {
      const V h = excess(load_logits(x + at, n));
      const V d = select(h > zero, scale, select(h == h, zero, h));
      store_some(g + at, select(in, d, zero), n);
    });
    const wide<V> rest = counted(walk, active) - broadcast_wide<V>(job.margin > 0.0 ? 1.0 : 0.0);
    label.write(g, map([](vdouble count, vdouble loss) { return select(loss == loss, count, loss); },
                       rest * broadcast_wide<V>(-job.scale), sum));
  }
  return map(where_not_zero, mask, sum + others * broadcast_wide<V>(job.margin));
}

// Calls line(walk, scores, gradient or null, targets or null, first column, columns) for columns, rows or vectors; what
// it returns are the losses, which are added up.
template <class T, class Line>
struct lines {
  using V = vector_of<T>;
  const ClassLoss& job;
  Line line;
  compensated sum = {};

  FASTNN_FN void enter(const wide<V>& losses, int64_t first, int n) {
    double lane[lanes<V>];
    store(lane, losses);
    compensated all = sum;  // in registers
    for (int j = 0; j < n; ++j) all.add(lane[j]);
    sum = all;
    if (job.losses)
      for (int j = 0; j < n; ++j) job.losses[first + j] = lane[j];
  }
  // Columns side by side; those of a tile have room for whole vectors.
  __attribute__((noinline)) void columns(const T* x, T* g, const T* q, int64_t stride, int64_t first, int count,
                                         bool is_tile) {
    for (int j = 0; j < count; j += lanes<V>) {
      const int n = count - j < lanes<V> ? count - j : lanes<V>;
      const down walk = {job.classes, stride, is_tile ? lanes<V> : n};
      enter(line(walk, x + j, g ? g + j : nullptr, q ? q + j : nullptr, first + j, n), first + j, n);
    }
  }
  // A tile of scores becomes one of gradients.
  void tile(T* x, const T* q, int64_t stride, int64_t first, int count) {
    columns(x, job.gradient ? x : nullptr, q, stride, first, count, true);
  }
  __attribute__((noinline)) void rows(const T* x, T* g, const T* q, int64_t first, int64_t end) {
    const along walk = {job.classes};
    for (int64_t at = 0; first < end; ++first, at += job.classes)
      enter(line(walk, x + at, g ? g + at : nullptr, q ? q + at : nullptr, first, 1), first, 1);
  }
};
// How labels of a walk are looked up: n of them side by side, or one for the whole row.
template <class T>
FASTNN_FN chosen<T> chosen_along(const ClassLoss& job, const down& walk, const T* x, int64_t first, int n) {
  return chosen<T>(job, x, first, n, walk.stride, false);
}
template <class T>
FASTNN_FN chosen<T> chosen_along(const ClassLoss& job, const along&, const T* x, int64_t first, int n) {
  return chosen<T>(job, x, first, n, 1, true);
}

// The sum of the losses of the columns [begin, end), of T as it is or, where there is a format, of 16-bit arrays.
template <class T, class Line>
FASTNN_FN double by_lines(const ClassLoss& job, const half_format* format, int64_t begin, int64_t end, void* room,
                          Line line) {
  const int64_t classes = job.classes, inner = job.inner;
  lines<T, Line> all{job, line};
  if constexpr (sizeof(T) == sizeof(float)) {
    if (format) {
      const halves pieces(*format, classes, inner, room);
      pieces.each(begin, end, [&](int64_t first, int columns) {
        T *const x = pieces.first, *const q = job.targets ? pieces.second : nullptr;
        pieces.load(x, job.scores, first, columns);
        if (q) pieces.load(q, job.targets, first, columns);
        if (pieces.rows)
          all.rows(x, job.gradient ? x : nullptr, q, first, first + columns);
        else
          all.tile(x, q, pieces.layout.stride, first, columns);
        if (job.gradient) pieces.store(job.gradient, x, first, columns);
      });
      return all.sum.value();
    }
  }
  const T *const x = static_cast<const T*>(job.scores), *const q = static_cast<const T*>(job.targets);
  T* const g = static_cast<T*>(job.gradient);
  if (is_row(classes, inner)) {
    const int64_t at = begin * classes;
    all.rows(x + at, g ? g + at : nullptr, q ? q + at : nullptr, begin, end);
  } else if (is_tiled(classes)) {
    alignas(64) T tile[tile_elements], target_tile[tile_elements];
    const tile_layout layout(classes, inner);
    layout.each(begin, end, [&](int64_t first, int columns) {
      layout.load(tile, x, first, columns);
      if (q) layout.load(target_tile, q, first, columns);
      all.tile(tile, q ? target_tile : nullptr, layout.stride, first, columns);
      if (g) layout.store(g, tile, first, columns);
    });
  } else {
    by_columns<vector_of<T>>(classes, inner, begin, end, [&](int64_t at, int n, int64_t first) {
      all.columns(x + at, g ? g + at : nullptr, q ? q + at : nullptr, inner, first, n, false);
    });
  }
  return all.sum.value();
}

}  // namespace
FASTNN_END
