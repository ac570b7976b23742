// Batch norm over x[outer, channels, inner], in passes over units of channels: see BatchGrid.
#pragma once
#include "normalization_loops.hpp"

FASTNN_BEGIN
namespace {

// What every pass looks at: the shape, how it is cut, the scratch memory, and walks along a unit's elements.
template <class T>
struct Batch {
  using P = parameter_of<T>;
  const BatchNorm& args;
  const BatchGrid grid;
  const bool backwards;
  const int64_t spread;  // constants of a channel: one, or one for each of its elements
  const T *const x, *const dy;
  T* const y;
  double* const partials;

  // The scratch memory's numbers of every channel.
  enum Constant { hi, lo, scale, beta, mean_dy, slope };

  Batch(const BatchNorm& a, const fastnn::PoolApi& pool, bool reducing)
      : args(a),
        grid(widened(batch_grid(a.outer, a.channels, a.inner, sizeof(T), reducing), a.channels, sizeof(T), reducing,
                     pool.get_num_threads())),
        backwards(reducing),
        spread(grid.columns ? a.inner : 1),
        x(static_cast<const T*>(a.x)),
        dy(static_cast<const T*>(a.dy)),
        y(static_cast<T*>(a.y)),
        partials(a.scratch + batch_constants * a.channels * spread) {}

  bool threads() const { return args.outer * args.channels * args.inner >= parallel_from; }
  int64_t first(int64_t unit) const { return unit * grid.block; }
  int64_t end(int64_t unit) const { return between(0, (unit + 1) * grid.block, args.channels); }
  int64_t first_step(int64_t piece) const { return piece * grid.steps_per_piece; }
  int64_t end_step(int64_t piece) const { return between(0, (piece + 1) * grid.steps_per_piece, grid.steps); }

  static const P* parameter(const void* p) { return static_cast<const P*>(p); }
  P* constant(Constant which) const { return reinterpret_cast<P*>(args.scratch) + which * args.channels * spread; }
  void set(Constant which, int64_t c, P value) const {
    P* const p = constant(which) + c * spread;
    for (int64_t i = 0; i < spread; ++i) p[i] = value;
  }
  double* partial(int64_t piece, int sum) const { return partials + (3 * piece + sum) * args.channels; }
  double sum_of(int sum, int64_t c) const {
    double total = 0;
    for (int64_t piece = 0; piece < grid.pieces; ++piece) total += partial(piece, sum)[c];
    return total;
  }
  double* flag(int64_t unit) const { return partials + 3 * grid.pieces * args.channels + unit; }

  // f(at, n, channel, ahead) for every run of one channel's elements; the next run begins `ahead` elements later, 0 for
  // unknown. What was read last is still in the cache, and first if `backwards`.
  template <class F>
  FASTNN_FN void rows(int64_t unit, int64_t begin, int64_t last, bool backwards, F f) const {
    const int64_t c0 = first(unit), count = end(unit) - c0;
    const int64_t jump = backwards ? -(args.channels + count - 1) : args.channels - count + 1;
    for (int64_t k = 0; k < last - begin; ++k) {
      const int64_t step = backwards ? last - 1 - k : begin + k;
      const int64_t n = step / grid.segments, from = (step - n * grid.segments) * grid.segment;
      const int64_t length = between(0, args.inner - from, grid.segment);
      const int64_t at = (n * args.channels + c0) * args.inner + from;
      const int64_t next = grid.segments == 1 && k + 1 < last - begin ? jump * args.inner : 0;
      for (int64_t c = 0; c < count; ++c) f(at + c * args.inner, length, c0 + c, c + 1 < count ? args.inner : next);
    }
  }

  // Sums of a piece of a unit about `hi`: total[k][c].
  template <class Terms>
  void row_sums(const Terms& terms, int64_t unit, int64_t begin, int64_t last, double* out) const {
    lanes16 sums[max_rows][Terms::count];
    const int64_t c0 = first(unit);
    for (auto& of_channel : sums)
      for (auto& sum : of_channel) sum = broadcast16(0.0);
    rows(unit, begin, last, false, [&](int64_t at, int64_t n, int64_t c, int64_t ahead) __attribute__((always_inline)) {
      add_run(terms, at, n, static_cast<double>(constant(hi)[c]), sums[c - c0], ahead);
    });
    for (int64_t c = c0; c < end(unit); ++c)
      for (int k = 0; k < Terms::count; ++k) out[k * args.channels + c] = total(sums[c - c0][k]);
  }

  // The same where elements of a sample have sums of their own, updated by several samples at once.
  template <class Terms>
  void column_sums(const Terms& terms, int64_t unit, int64_t begin, int64_t last, double* out) const {
    const int64_t c0 = first(unit), j0 = c0 * args.inner, n = end(unit) * args.inner - j0;
    const int64_t sample = args.channels * args.inner;
    alignas(64) double sums[Terms::count][max_columns] = {};
    const auto add = [&](int64_t step, auto samples, int64_t j, auto load) {
      lanes16 local[Terms::count];
      for (int k = 0; k < Terms::count; ++k) local[k] = load16<storage<double>>(sums[k] + j);
      load.at = j0 + j;
      const auto centre = load;
      load.at += step * sample;
      add_block(terms, local, load, sample, samples, [&](int k) { return centre(constant(hi), k); });
      for (int k = 0; k < Terms::count; ++k) store16(sums[k] + j, local[k]);
    };
    for (int64_t step = begin; step < last; step += together) {
      const int64_t samples = between(1, last - step, together);
      int64_t j = 0;
      if (samples == together)
        for (; j + sum_lanes <= n; j += sum_lanes) add(step, fixed<together>(), j, load_whole{0});
      for (; j + sum_lanes <= n; j += sum_lanes) add(step, samples, j, load_whole{0});
      if (j < n) add(step, samples, j, load_partial{0, static_cast<int>(n - j)});
    }
    for (int k = 0; k < Terms::count; ++k)
      for (int64_t c = c0; c < end(unit); ++c) {
        double sum = 0;
        for (int64_t i = 0; i < args.inner; ++i) sum += sums[k][(c - c0) * args.inner + i];
        out[k * args.channels + c] = sum;
      }
  }

  template <class Terms>
  void accumulate(const Terms& terms, int64_t unit, int64_t begin, int64_t last, double* out) const {
    if (grid.columns)
      column_sums(terms, unit, begin, last, out);
    else
      row_sums(terms, unit, begin, last, out);
  }

  // run(at, n, constants...) for every run of a piece of a unit
  template <class To, class Run, class... Constants>
  FASTNN_FN void write(To& to, int64_t unit, int64_t piece, Run run, Constants... which) const {
    if (grid.columns) {
      const int64_t j0 = first(unit) * args.inner, n = end(unit) * args.inner - j0;
      for (int64_t step = first_step(piece); step < end_step(piece); ++step)
        run(step * args.channels * args.inner + j0, n, each<P>(constant(which) + j0)...);
    } else {
      rows(unit, first_step(piece), end_step(piece), backwards,
           [&](int64_t at, int64_t n, int64_t c, int64_t ahead) __attribute__((always_inline)) {
             to.expect(ahead);
             run(at, n, same<P, vector_of<T>>(constant(which)[c])...);
           });
    }
  }
  void write_forward(Writer<T, true>& to, int64_t unit, int64_t piece) const {
    const auto f = [](auto... v) { return by_channel::forward(v...); };
    const auto run = [&](int64_t at, int64_t n, const auto&... constants)
                         __attribute__((always_inline)) { to.run(at, n, f, each<T>(x + at), constants...); };
    write(to, unit, piece, run, hi, lo, scale, beta);
  }
};

// The passes of training: statistics, then y. In backward with an activation they are made once more, with the bits
// they had, and what is written is the activation's gradient.
template <class T>
struct Forward {
  using B = Batch<T>;
  using P = typename B::P;
  const B b;
  const bool again_for_gradient;

  Forward(const BatchNorm& a, const fastnn::PoolApi& pool, bool in_backward)
      : b(a, pool, true), again_for_gradient(in_backward) {}

  // A shift for every channel: the mean of its first elements.
  void start(int64_t unit) const {
    const BatchNorm& a = b.args;
    if (!b.grid.columns) {
      for (int64_t c = b.first(unit); c < b.end(unit); ++c) b.set(B::hi, c, shift_of(b.x + c * a.inner, a.inner));
      return;
    }
    const int64_t samples = between(1, sum_lanes / a.inner, a.outer);
    for (int64_t c = b.first(unit); c < b.end(unit); ++c) b.set(B::hi, c, 0);
    b.accumulate(spread_terms<T>{b.x}, unit, 0, samples, b.partials);
    for (int64_t c = b.first(unit); c < b.end(unit); ++c) {
      const auto shift = static_cast<P>(b.partials[c] / static_cast<double>(samples * a.inner));
      b.set(B::hi, c, finite(shift) ? shift : 0);
    }
  }
  void sums(int64_t unit, int64_t piece) const {
    b.accumulate(spread_terms<T>{b.x}, unit, b.first_step(piece), b.end_step(piece), b.partial(piece, 0));
  }
  // From sums to constants; or, where the shift was a bad one, to a better one.
  bool combine(int64_t unit, bool again) const {
    const BatchNorm& a = b.args;
    const double n = static_cast<double>(a.outer * a.inner);
    double* const rough = b.partial(0, 2);
    bool some = false;
    for (int64_t c = b.first(unit); c < b.end(unit); ++c) {
      if (again && rough[c] == 0) continue;
      const double shift = b.constant(B::hi)[c * b.spread];
      const moments m = moments_of(shift, b.sum_of(0, c), b.sum_of(1, c), n);
      rough[c] = m.rough && !again;
      if (rough[c] != 0) {
        b.set(B::hi, c, static_cast<P>(m.mean));
        some = true;
        continue;
      }
      const centre<P> mean = centre_of<P>(m.mean, m.rest);
      P inv_std;
      if (again_for_gradient) {
        inv_std = b.parameter(a.inv_std)[c];
      } else {
        inv_std = reciprocal_root<P>(m.variance, a.eps);
        static_cast<P*>(a.mean)[c] = mean.hi;
        static_cast<P*>(a.inv_std)[c] = inv_std;
        a.variance[c] = m.variance;
      }
      b.set(B::hi, c, mean.hi);
      b.set(B::lo, c, mean.lo);
      b.set(B::scale, c, b.parameter(a.gamma)[c] * inv_std);
      b.set(B::beta, c, b.parameter(a.beta)[c]);
    }
    return some;
  }
  void write(int64_t unit, int64_t piece) const {
    const BatchNorm& a = b.args;
    if (again_for_gradient) {
      Writer<T, true> to(static_cast<P*>(a.dz), b.dy, a.fusion);
      b.write_forward(to, unit, piece);
    } else {
      Writer<T, true> to(b.y, a.streaming, a.fusion);
      b.write_forward(to, unit, piece);
    }
  }
};

// The passes of backward: the sums that are dbeta and dgamma, then dx. What the mean lost when it was rounded comes
// with them.
template <class T, class D>
struct Backward {
  using B = Batch<T>;
  using P = typename B::P;
  const B b;
  const D* const dy;

  Backward(const BatchNorm& a, const fastnn::PoolApi& pool, const void* incoming)
      : b(a, pool, true), dy(static_cast<const D*>(incoming)) {}

  void start(int64_t unit) const {
    for (int64_t c = b.first(unit); c < b.end(unit); ++c) b.set(B::hi, c, b.parameter(b.args.mean)[c]);
  }
  void sums(int64_t unit, int64_t piece) const {
    b.accumulate(gradient_terms<T, D>{dy, b.x}, unit, b.first_step(piece), b.end_step(piece), b.partial(piece, 0));
  }
  bool combine(int64_t unit, bool) const {
    const BatchNorm& a = b.args;
    const double n = static_cast<double>(a.outer * a.inner);
    for (int64_t c = b.first(unit); c < b.end(unit); ++c) {
      const double dbeta = b.sum_of(0, c), rest = b.sum_of(2, c) / n, inv_std = b.parameter(a.inv_std)[c];
      const double dgamma = (b.sum_of(1, c) - rest * dbeta) * inv_std;
      a.dbeta[c] = dbeta;
      a.dgamma[c] = dgamma;
      b.set(B::lo, c, static_cast<P>(rest));
      b.set(B::scale, c, static_cast<P>(b.parameter(a.gamma)[c] * inv_std));
      b.set(B::mean_dy, c, static_cast<P>(dbeta / n));
      b.set(B::slope, c, static_cast<P>(dgamma * inv_std / n));
    }
    return false;
  }
  void write(int64_t unit, int64_t piece) const {
    Writer<T, false> to(b.y, b.args.streaming);
    const auto f = [](auto... v) { return by_channel::backward(v...); };
    const auto run = [&](int64_t at, int64_t n, const auto&... constants) __attribute__((always_inline)) {
      to.run(at, n, f, each<D>(dy + at), each<T>(b.x + at), constants...);
    };
    b.write(to, unit, piece, run, B::hi, B::lo, B::scale, B::mean_dy, B::slope);
  }
};

// One unit from its first pass to the last, in the cache.
template <class Passes>
void unit_at_once(const Passes& passes, int64_t unit) {
  passes.start(unit);
  for (bool again = false;; again = true) {
    passes.sums(unit, 0);
    if (!passes.combine(unit, again)) break;
  }
  passes.write(unit, 0);
}

// Pass by pass over all units and pieces.
template <class Passes>
void pass_by_pass(const Passes& passes, const fastnn::PoolApi& pool) {
  const BatchGrid& grid = passes.b.grid;
  for (int64_t unit = 0; unit < grid.units; ++unit) {
    passes.start(unit);
    *passes.b.flag(unit) = 1;
  }
  const auto tasks = [&](const auto& f) {
    parallel(pool, grid.units * grid.pieces, 1, true, [&](int64_t begin, int64_t end) {
      for (int64_t task = begin; task < end; ++task) f(task % grid.units, task / grid.units);
    });
  };
  bool some = true;
  for (bool again = false; some; again = true) {
    tasks([&](int64_t unit, int64_t piece) {
      if (*passes.b.flag(unit) != 0) passes.sums(unit, piece);
    });
    some = false;
    for (int64_t unit = 0; unit < grid.units; ++unit) {
      if (*passes.b.flag(unit) == 0) continue;
      *passes.b.flag(unit) = passes.combine(unit, again) ? 1 : 0;
      some = some || *passes.b.flag(unit) != 0;
    }
  }
  tasks([&](int64_t unit, int64_t piece) { passes.write(unit, piece); });
}

template <class T>
void batch_train(const BatchNorm& args, const fastnn::PoolApi& pool) {
  const Forward<T> forward(args, pool, false);
  if (forward.b.grid.pieces > 1) return pass_by_pass(forward, pool);
  parallel(pool, forward.b.grid.units, 1, forward.b.threads(), [&](int64_t begin, int64_t end) {
    for (int64_t unit = begin; unit < end; ++unit) unit_at_once(forward, unit);
  });
}

template <class T>
void batch_backward(const BatchNorm& args, const fastnn::PoolApi& pool) {
  const Backward<T, T> backward(args, pool, args.dy);
  if (backward.b.grid.pieces > 1) return pass_by_pass(backward, pool);
  parallel(pool, backward.b.grid.units, 1, backward.b.threads(), [&](int64_t begin, int64_t end) {
    for (int64_t unit = begin; unit < end; ++unit) unit_at_once(backward, unit);
  });
}

// The same behind an activation.
template <class T>
void batch_backward_fused(const BatchNorm& args, const fastnn::PoolApi& pool) {
  const Forward<T> recomputed(args, pool, true);
  const Backward<T, parameter_of<T>> backward(args, pool, args.dz);
  if (backward.b.grid.pieces > 1) {
    pass_by_pass(recomputed, pool);
    return pass_by_pass(backward, pool);
  }
  parallel(pool, backward.b.grid.units, 1, backward.b.threads(), [&](int64_t begin, int64_t end) {
    for (int64_t unit = begin; unit < end; ++unit) {
      unit_at_once(recomputed, unit);
      unit_at_once(backward, unit);
    }
  });
}

template <class T>
void batch_infer(const BatchNorm& args, const fastnn::PoolApi& pool) {
  using B = Batch<T>;
  using P = typename B::P;
  const B batch(args, pool, false);
  for (int64_t c = 0; c < args.channels; ++c) {
    batch.set(B::hi, c, B::parameter(args.mean)[c]);
    batch.set(B::lo, c, 0);
    batch.set(B::scale, c, B::parameter(args.gamma)[c] * reciprocal_root<P>(args.variance[c], args.eps));
    batch.set(B::beta, c, B::parameter(args.beta)[c]);
  }
  const BatchGrid& grid = batch.grid;
  parallel(pool, grid.units * grid.pieces, 1, batch.threads(), [&](int64_t begin, int64_t end) {
    Writer<T, true> to(batch.y, args.streaming, args.fusion);
    for (int64_t task = begin; task < end; ++task) batch.write_forward(to, task % grid.units, task / grid.units);
  });
}

}  // namespace
FASTNN_END
