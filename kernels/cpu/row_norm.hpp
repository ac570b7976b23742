// Layer, group, instance and RMS norm over x[samples, groups, channels, inner]: a row is a sample's group, contiguous.
#pragma once
#include "normalization_loops.hpp"

FASTNN_BEGIN
namespace {

template <class T>
struct RowsOf {
  using P = parameter_of<T>;
  const RowNorm& args;
  const int64_t length, rows;
  const T *const x, *const dy;

  explicit RowsOf(const RowNorm& a)
      : args(a),
        length(a.channels * a.inner),
        rows(a.samples * a.groups),
        x(static_cast<const T*>(a.x)),
        dy(static_cast<const T*>(a.dy)) {}

  bool threads() const { return rows * length >= parallel_from; }
  int64_t rows_per_task() const { return between(1, 16384 / length, rows); }
  T* y() const { return static_cast<T*>(args.y); }
  // of the first channel of a row's group
  const P* parameter(const void* p, int64_t row) const {
    return static_cast<const P*>(p) + row % args.groups * args.channels;
  }

  moments moments_about(double shift, int64_t row) const {
    lanes16 sums[2] = {broadcast16(0.0), broadcast16(0.0)};
    add_run(spread_terms<T>{x}, row * length, length, shift, sums);
    const double n = static_cast<double>(length), squares = total(sums[1]);
    if (!args.centred) return {0, 0, squares / n, false};
    return moments_of(shift, total(sums[0]), squares, n);
  }
  moments moments_of_row(int64_t row) const {
    const moments m = moments_about(args.centred ? static_cast<double>(shift_of(x + row * length, length)) : 0.0, row);
    return m.rough ? moments_about(static_cast<P>(m.mean), row) : m;
  }
};

template <class T>
void row_forward(const RowNorm& args, const fastnn::PoolApi& pool) {
  using P = parameter_of<T>;
  using V = vector_of<T>;
  const RowsOf<T> r(args);
  const auto f = [](auto... v) { return by_row::forward(v...); };
  parallel(pool, r.rows, r.rows_per_task(), r.threads(), [&](int64_t begin, int64_t end) {
    Writer<T, false> to(r.y(), args.streaming);
    for (int64_t row = begin; row < end; ++row) {
      const moments m = r.moments_of_row(row);
      const centre<P> mean = centre_of<P>(m.mean, m.rest);
      const P inv_std = reciprocal_root<P>(m.variance, args.eps);
      if (args.centred) static_cast<P*>(args.mean)[row] = mean.hi;
      static_cast<P*>(args.inv_std)[row] = inv_std;
      const P *gamma = r.parameter(args.gamma, row), *beta = r.parameter(args.beta, row);
      const same<P, V> hi(mean.hi), lo(mean.lo), scale(inv_std);
      const int64_t at = row * r.length;
      if (args.inner == 1) {
        to.run(at, r.length, f, each<T>(r.x + at), hi, lo, scale, each<P>(gamma), each<P>(beta));
        continue;
      }
      for (int64_t c = 0; c < args.channels; ++c) {
        const int64_t from = at + c * args.inner;
        to.run(from, args.inner, f, each<T>(r.x + from), hi, lo, scale, same<P, V>(gamma[c]), same<P, V>(beta[c]));
      }
    }
  });
}

// What backward knows of a row before it writes dx.
struct row_gradient {
  double hi, rest, inv_std;
  double mean_g, slope;
};

// dy gamma, its product with d, and d
template <class T>
struct weighted_terms {
  using V = vector_of<T>;
  static constexpr int count = 3;
  const T *dy, *x;
  const parameter_of<T>* gamma;
  template <class Get>
  FASTNN_FN void add(V* sums, Get get, V centre) const {
    const V d = get(x) - centre, g = get(dy) * get(gamma);
    sums[0] = sums[0] + g;
    sums[1] = fmadd(g, d, sums[1]);
    sums[2] = sums[2] + d;
  }
  FASTNN_FN void fetch(int64_t at) const {
    prefetch_block(x + at);
    prefetch_block(dy + at);
  }
};

template <class T>
struct RowBackward : RowsOf<T> {
  using P = parameter_of<T>;
  using V = vector_of<T>;

  explicit RowBackward(const RowNorm& a) : RowsOf<T>(a) {}

  double hi(int64_t row) const { return this->args.centred ? static_cast<const P*>(this->args.mean)[row] : P(0); }
  row_gradient gradient(int64_t row, double g, double gt, double rest) const {
    const RowNorm& a = this->args;
    const double inv_std = static_cast<const P*>(a.inv_std)[row], n = static_cast<double>(this->length);
    return {hi(row), rest, inv_std, a.centred ? g / n : 0.0, gt * inv_std * inv_std / n};
  }

  void write(Writer<T, false>& to, int64_t row, const row_gradient& r) const {
    const RowNorm& a = this->args;
    const auto f = [](auto... v) { return by_row::backward(v...); };
    const auto number = [](double x) { return same<P, V>(static_cast<P>(x)); };
    const auto hi = number(r.hi), lo = number(r.rest), scale = number(r.inv_std);
    const auto mean_g = number(r.mean_g), slope = number(r.slope);
    const P* gamma = this->parameter(a.gamma, row);
    const int64_t at = row * this->length;
    const auto run = [&](int64_t from, int64_t n, const auto& weight) {
      to.run(from, n, f, each<T>(this->dy + from), each<T>(this->x + from), hi, lo, scale, weight, mean_g, slope);
    };
    if (a.inner == 1) return run(at, this->length, each<P>(gamma));
    for (int64_t c = 0; c < a.channels; ++c) run(at + c * a.inner, a.inner, same<P, V>(gamma[c]));
  }

  // ---- every element has a gamma ----

  row_gradient weighted(int64_t row) const {
    lanes16 sums[3] = {broadcast16(0.0), broadcast16(0.0), broadcast16(0.0)};
    const int64_t at = row * this->length;
    const weighted_terms<T> terms{this->dy + at, this->x + at, this->parameter(this->args.gamma, row)};
    // The rows of the next samples: those of these are read once more before, and the processor forgets where it was.
    constexpr int64_t cache = 1 << 20;
    const bool far = this->rows * this->length * static_cast<int64_t>(sizeof(T)) > cache;
    add_run(terms, 0, this->length, hi(row), sums, far ? together * this->args.groups * this->length : 0);
    const double g = total(sums[0]);
    const double rest = this->args.centred ? total(sums[2]) / static_cast<double>(this->length) : 0.0;
    return gradient(row, g, total(sums[1]) - rest * g, rest);
  }

  // dx of some samples' rows of one group, and their dy (x - mean) inv_std and dy added to the sums of their columns.
  void columns(const row_gradient* of, int64_t row, int64_t samples, double* dgamma, double* dbeta) const {
    const RowNorm& a = this->args;
    const int64_t n = this->length, apart = a.groups * n, first = row * n;
    const P* const gamma = this->parameter(a.gamma, row);
    const T *const x = this->x + first, *const incoming = this->dy + first;
    T* const dx = this->y() + first;
    V hi[together], lo[together], inv_std[together], mean_g[together], slope[together];
    for (int64_t q = 0; q < samples; ++q) {
      hi[q] = V(static_cast<P>(of[q].hi));
      lo[q] = V(static_cast<P>(of[q].rest));
      inv_std[q] = V(static_cast<P>(of[q].inv_std));
      mean_g[q] = V(static_cast<P>(of[q].mean_g));
      slope[q] = V(static_cast<P>(of[q].slope));
    }
    // put(dx, k, result) stores the results of elements from k on, of 16
    const auto add = [&](int64_t j, auto load, auto some, double* to_dgamma, double* to_dbeta, auto put) {
      lanes16 weighted_sums = load16<storage<double>>(to_dgamma), sums = load16<storage<double>>(to_dbeta);
      for (int k = 0; k < sum_lanes; k += lanes<V>) {
        V weighted_sum(0.0f), sum(0.0f);
        load.at = j;
        const V weight = load(gamma, k);
        repeat(some, [&](int64_t q) __attribute__((always_inline)) {
          load.at = q * apart + j;
          const V dy = load(incoming, k), t = centred(load(x, k), hi[q], lo[q]);
          sum = sum + dy;
          weighted_sum = fmadd(dy, t * inv_std[q], weighted_sum);
          put(dx + load.at, k, by_row::backward_of(dy, t, inv_std[q], weight, mean_g[q], slope[q]));
        });
        add_to(weighted_sums, k, weighted_sum);
        add_to(sums, k, sum);
      }
      store16(to_dgamma, weighted_sums);
      store16(to_dbeta, sums);
    };
    // Less than 16 elements, all from `at` on.
    const auto add_few = [&](int64_t at, int few) {
      double lane[2][sum_lanes] = {};
      for (int k = 0; k < few; ++k) {
        lane[0][k] = dgamma[at + k];
        lane[1][k] = dbeta[at + k];
      }
      add(at, load_partial{0, few}, samples, lane[0], lane[1], [few](T* to, int k, V v) {
        if (few > k) storage<T>::store_first(to + k, v, few - k < lanes<V> ? few - k : lanes<V>);
      });
      for (int k = 0; k < few; ++k) {
        dgamma[at + k] = lane[0][k];
        dbeta[at + k] = lane[1][k];
      }
    };
    const auto put = [](T* to, int k, V v) { storage<T>::store(to + k, v); };
    const auto stream = [](T* to, int k, V v) { storage<T>::stream(to + k, v); };
    int64_t j = 0;
    if (const int64_t head = head_of(dx); head > 0 && n >= 4 * sum_lanes) {
      add_few(0, static_cast<int>(head));
      j = head;
    }
    if (samples == together) {
      if (a.streaming && can_stream(dx + j) && apart * sizeof(T) % sizeof(V) == 0)
        for (; j + sum_lanes <= n; j += sum_lanes)
          add(j, load_whole{0}, fixed<together>(), dgamma + j, dbeta + j, stream);
      for (; j + sum_lanes <= n; j += sum_lanes) add(j, load_whole{0}, fixed<together>(), dgamma + j, dbeta + j, put);
    }
    for (; j + sum_lanes <= n; j += sum_lanes) add(j, load_whole{0}, samples, dgamma + j, dbeta + j, put);
    if (j < n) add_few(j, static_cast<int>(n - j));
  }

  void blocks(const fastnn::PoolApi& pool) const {
    const RowNorm& a = this->args;
    const int64_t columns = a.groups * a.channels, grain = samples_per_block(a.samples, columns);
    const int64_t count = ceiling(a.samples, grain);
    if (a.dgamma)
      for (int64_t i = 0; i < 2 * columns * count; ++i) a.scratch[i] = 0;
    parallel(pool, a.samples, grain, this->threads(), [&](int64_t begin, int64_t end) {
      Writer<T, false> to(this->y(), a.streaming);
      double* const dgamma = a.scratch + 2 * columns * (begin / grain);
      for (int64_t n = begin; n < end; n += together) {
        const int64_t samples = between(1, end - n, together);
        for (int64_t g = 0; g < a.groups; ++g) {
          row_gradient of[together];
          const int64_t row = n * a.groups + g;
          for (int64_t q = 0; q < samples; ++q) of[q] = weighted(row + q * a.groups);
          if (a.dgamma) {
            double* const first = dgamma + g * a.channels;
            this->columns(of, row, samples, first, first + columns);
          } else {
            for (int64_t q = 0; q < samples; ++q) write(to, row + q * a.groups, of[q]);
          }
        }
      }
      if (a.streaming) stream_fence();
    });
    if (!a.dgamma) return;
    add_up(a.dgamma, a.scratch, columns, count, 2 * columns);
    add_up(a.dbeta, a.scratch + columns, columns, count, 2 * columns);
  }

  // The sum of `count` rows of n numbers, which lie `apart`.
  static void add_up(double* sum, const double* rows, int64_t n, int64_t count, int64_t apart) {
    for (int64_t i = 0; i < n; ++i) sum[i] = rows[i];
    for (int64_t k = 1; k < count; ++k)
      for (int64_t i = 0; i < n; ++i) sum[i] += rows[k * apart + i];
  }

  // ---- every channel of a row has a gamma ----

  void channels(const fastnn::PoolApi& pool) const {
    const RowNorm& a = this->args;
    const int64_t columns = a.groups * a.channels;
    double *const by_dgamma = a.scratch, *const by_dbeta = a.scratch + a.samples * columns;
    parallel(pool, this->rows, this->rows_per_task(), this->threads(), [&](int64_t begin, int64_t end) {
      Writer<T, false> to(this->y(), a.streaming);
      for (int64_t row = begin; row < end; ++row) {
        const P* gamma = this->parameter(a.gamma, row);
        double *const gt = by_dgamma + row * a.channels, *const g = by_dbeta + row * a.channels;
        double d = 0, sum_g = 0, sum_gt = 0;
        for (int64_t c = 0; c < a.channels; ++c) {
          lanes16 sums[3] = {broadcast16(0.0), broadcast16(0.0), broadcast16(0.0)};
          add_run(gradient_terms<T, T>{this->dy, this->x}, row * this->length + c * a.inner, a.inner, hi(row), sums);
          g[c] = total(sums[0]);
          gt[c] = total(sums[1]);
          d += total(sums[2]);
        }
        const double rest = a.centred ? d / static_cast<double>(this->length) : 0.0;
        for (int64_t c = 0; c < a.channels; ++c) {
          gt[c] -= rest * g[c];
          sum_g += gamma[c] * g[c];
          sum_gt += gamma[c] * gt[c];
        }
        const row_gradient r = gradient(row, sum_g, sum_gt, rest);
        for (int64_t c = 0; c < a.channels; ++c) gt[c] *= r.inv_std;
        write(to, row, r);
      }
    });
    if (!a.dgamma) return;
    add_up(a.dgamma, by_dgamma, columns, a.samples, columns);
    add_up(a.dbeta, by_dbeta, columns, a.samples, columns);
  }
};

template <class T>
void row_backward(const RowNorm& args, const fastnn::PoolApi& pool) {
  const RowBackward<T> backward(args);
  if (args.inner == 1)
    backward.blocks(pool);
  else
    backward.channels(pool);
}

}  // namespace
FASTNN_END
