#include "linear.hpp"

#include "storage.hpp"

FASTNN_BEGIN
namespace {

using namespace fastnn_cpu;

template <class T>
using number = scalar_t<typename storage<T>::V>;

template <class A, class B>
constexpr bool same = false;
template <class A>
constexpr bool same<A, A> = true;

constexpr std::int64_t block = 2048;  // elements an activation is applied to at a time, in the first-level cache

void apply(const Fused& activation, const void* const* inputs, int arrays, void* out, std::int64_t n) {
  void* operands[5];
  int k = 0;
  for (int i = 0; i < arrays; ++i) operands[k++] = const_cast<void*>(inputs[i]);
  for (int i = 0; i < activation.count; ++i) operands[k++] = const_cast<void*>(activation.params[i]);
  operands[k] = out;
  activation.loop(operands, n, 0);
}

// f(i, n) for whole vectors and then for the rest, n < lanes.
template <class V, class F>
FASTNN_FN void for_vectors(std::int64_t count, F f) {
  std::int64_t i = 0;
  for (; i + lanes<V> <= count; i += lanes<V>) f(i, lanes<V>);
  if (i < count) f(i, static_cast<int>(count - i));
}
template <class S, class T>
FASTNN_FN typename S::V load_n(const T* p, int n) {
  return n == lanes<typename S::V> ? S::load(p) : S::load_first(p, n);
}
template <class S, class T>
FASTNN_FN void store_n(T* p, typename S::V x, int n) {
  if (n == lanes<typename S::V>)
    S::store(p, x);
  else
    S::store_first(p, x, n);
}

template <class T>
void add(number<T>* z, const number<T>* bias, std::int64_t n) {
  using N = storage<number<T>>;
  using V = typename N::V;
  for_vectors<V>(n, [&](std::int64_t i, int k) { store_n<N>(z + i, load_n<N>(z + i, k) + load_n<N>(bias + i, k), k); });
}

template <class T>
void widen_row(const T* from, number<T>* to, std::int64_t n) {
  using N = storage<number<T>>;
  for_vectors<typename N::V>(n, [&](std::int64_t i, int k) { store_n<N>(to + i, load_n<storage<T>>(from + i, k), k); });
}
template <class T>
void store_row(const number<T>* from, T* to, std::int64_t n) {
  using N = storage<number<T>>;
  for_vectors<typename N::V>(n, [&](std::int64_t i, int k) { store_n<storage<T>>(to + i, load_n<N>(from + i, k), k); });
}

// Rows of a product become rows of y. Several short rows that lie one behind the other are activated together.
template <class T>
void finish(const Finish& job, std::int64_t begin, std::int64_t end) {
  using N = number<T>;
  const std::int64_t columns = job.columns, stride = job.product_stride;
  const bool together = stride == columns && (!same<T, N> || job.stride == columns);
  const std::int64_t rows = together && columns < block ? block / (columns ? columns : 1) : 1;
  const N* const bias = static_cast<const N*>(job.bias);
  T *const y = static_cast<T*>(job.y), *const z = static_cast<T*>(job.z);
  for (std::int64_t row = begin; row < end; row += rows) {
    const std::int64_t count = end - row < rows ? end - row : rows;
    for (std::int64_t first = 0; first < columns; first += block) {
      const std::int64_t n = columns - first < block ? columns - first : block;
      N* const product = static_cast<N*>(job.product) + row * stride + first;
      const auto each = [&](T* to, auto f) {
        for (std::int64_t r = 0; r < count; ++r) f(product + r * stride, to + (row + r) * job.stride + first);
      };
      if (bias != nullptr)
        for (std::int64_t r = 0; r < count; ++r) add<T>(product + r * stride, bias + first, n);
      if (z != nullptr && job.z != job.product) each(z, [&](const N* from, T* to) { store_row<T>(from, to, n); });
      N* const result = same<T, N> ? reinterpret_cast<N*>(y + row * job.stride + first) : product;
      const std::int64_t all = (count - 1) * columns + n;
      if (job.activation.loop != nullptr) {
        const void* const inputs[] = {product};
        apply(job.activation, inputs, 1, result, all);
      } else if (same<T, N> && result != product) {
        each(y, [&](const N* from, T* to) { store_row<T>(from, to, n); });
      }
      if (!same<T, N>) each(y, [&](const N* from, T* to) { store_row<T>(from, to, n); });
    }
  }
}

// ---- products of few rows ----
//
// Rows of x and rows of weight both lie along what is summed, so that every product is a sum of 16 partial sums (float;
// 8 for double), element i on lane i modulo that, added up by halves at the end: the same bits from every instruction
// set and from every shape of tile. A tile holds as many sums as there are registers. Where 16 lanes are several
// vectors, a tile is gone through once for each of them: larger tiles load less, and their rows stay in the first-level
// cache. Packing weight first, as the BLAS does, costs more than the product of a few rows.

constexpr int registers =
#if defined(FASTNN_ISA_v4) || defined(FASTNN_ISA_neon)
    32;
#else
    16;
#endif

template <class T>
struct dot_tile {
  using S = storage<T>;
  using V = typename S::V;
  using N = scalar_t<V>;
  static constexpr int sums = same<N, double> ? 8 : 16;
  static constexpr int parts = sums / lanes<V>;
  // Rows that are widened as they are loaded are gone through once.
  static constexpr int at_once = same<T, N> ? 1 : parts;
  static constexpr int tall = 4 / at_once, wide = registers == 32 ? 4 : 3;
  static constexpr int line =
      8 / parts < 2 ? 2 : 8 / parts;  // rows of weight beside so few of x that a tile is not full

  // Sums of m rows of x and n of weight, `together` vectors of partial sums at a time.
  template <int m, int n, int together>
  static void run(const T* x, const T* weight, std::int64_t in, N* to, int stride) {
    V acc[m][n][parts];
    const int rest = static_cast<int>(in % sums);
    const std::int64_t whole = in - rest;
    for (int first = 0; first < parts; first += together) {
      V sum[m][n][together];
      for (int i = 0; i < m; ++i)
        for (int j = 0; j < n; ++j)
          for (int p = 0; p < together; ++p) sum[i][j][p] = V(0.0f);
      const auto step = [&](std::int64_t at, int p, auto load) {
        V row[m];
        for (int i = 0; i < m; ++i) row[i] = load(x + i * in + at);
        for (int j = 0; j < n; ++j) {
          const V w = load(weight + j * in + at);
          for (int i = 0; i < m; ++i) sum[i][j][p] = fmadd(row[i], w, sum[i][j][p]);
        }
      };
      for (std::int64_t k = first * lanes<V>; k < whole; k += sums)
        for (int p = 0; p < together; ++p) step(k + p * lanes<V>, p, [](const T* q) { return S::load(q); });
      for (int p = 0; p < together; ++p) {
        const int left = rest - (first + p) * lanes<V>, count = left < lanes<V> ? left : lanes<V>;
        if (count > 0) step(whole + (first + p) * lanes<V>, p, [count](const T* q) { return load_n<S>(q, count); });
      }
      for (int i = 0; i < m; ++i)
        for (int j = 0; j < n; ++j)
          for (int p = 0; p < together; ++p) acc[i][j][first + p] = sum[i][j][p];
    }
    for (int i = 0; i < m; ++i)
      for (int j = 0; j < n; ++j) {
        for (int width = parts / 2; width > 0; width /= 2)
          for (int p = 0; p < width; ++p) acc[i][j][p] = acc[i][j][p] + acc[i][j][p + width];
        to[i * stride + j] = fold_sum(acc[i][j][0]);
      }
  }

  template <int n>
  static FASTNN_FN void down(const T* x, const T* weight, std::int64_t in, int rows, N* to, int stride) {
    int i = 0;
    for (; i + tall <= rows; i += tall) run<tall, n, at_once>(x + i * in, weight, in, to + i * stride, stride);
    if (tall == 4 && i + 2 <= rows) {
      run<2, n, at_once>(x + i * in, weight, in, to + i * stride, stride);
      i += 2;
    }
    if (i < rows) run<1, n, at_once>(x + i * in, weight, in, to + i * stride, stride);
  }
};

template <class T>
void dense(const Dense& job, std::int64_t row, std::int64_t column) {
  using Tile = dot_tile<T>;
  using N = number<T>;
  const std::int64_t in = job.in;
  const int rows = static_cast<int>(job.rows - row < dense_rows ? job.rows - row : dense_rows);
  const int columns = static_cast<int>(job.out - column < dense_columns ? job.out - column : dense_columns);
  const T* const x = static_cast<const T*>(job.x) + row * in;
  const T* const weight = static_cast<const T*>(job.weight) + column * in;
  alignas(64) N product[dense_rows * dense_columns];
  int j = 0;
  const auto beside = [&](auto run) {
    for (; j + Tile::line <= columns; j += Tile::line) run(x, weight + j * in, in, product + j, columns);
  };
  if (rows == 1) beside(Tile::template run<1, Tile::line, Tile::parts>);
  if constexpr (Tile::parts == 1) {
    if (rows == 2) beside(Tile::template run<2, Tile::line, 1>);
    if (rows == 3) beside(Tile::template run<3, Tile::line, 1>);
  }
  for (; j + Tile::wide <= columns; j += Tile::wide)
    Tile::template down<Tile::wide>(x, weight + j * in, in, rows, product + j, columns);
  for (; j + 2 <= columns; j += 2) Tile::template down<2>(x, weight + j * in, in, rows, product + j, columns);
  if (j < columns) Tile::template down<1>(x, weight + j * in, in, rows, product + j, columns);
  const std::int64_t at = row * job.out + column;
  const N* const bias = static_cast<const N*>(job.bias);
  const Finish rest = {product,
                       bias == nullptr ? nullptr : bias + column,
                       static_cast<T*>(job.y) + at,
                       job.z == nullptr ? nullptr : static_cast<T*>(job.z) + at,
                       columns,
                       job.out,
                       columns,
                       job.activation};
  finish<T>(rest, 0, rows);
}

// ---- backward ----

template <class N>
void sum_columns(const N* rows, std::int64_t count, std::int64_t columns, double* sums) {
  using S = storage<N>;
  using V = typename S::V;
  constexpr int parts = lanes<V> / lanes<vdouble>;
  for (std::int64_t r = 0; r < count; ++r, rows += columns) {
    std::int64_t j = 0;
    for (; j + lanes<V> <= columns; j += lanes<V>) {
      vdouble part[parts];
      if constexpr (same<N, double>) {
        part[0] = S::load(rows + j);
      } else {
        const doubles wide = widen(S::load(rows + j));
        for (int p = 0; p < parts; ++p) part[p] = wide.part[p];
      }
      for (int p = 0; p < parts; ++p) {
        double* const sum = sums + j + p * lanes<vdouble>;
        store(sum, load<vdouble>(sum) + part[p]);
      }
    }
    for (; j < columns; ++j) sums[j] += rows[j];
  }
}

template <class T>
void gradient(const Gradient& job, std::int64_t begin, std::int64_t end, double* sums) {
  using N = number<T>;
  const std::int64_t columns = job.columns, rows = columns < block ? block / (columns ? columns : 1) : 1;
  alignas(64) N wide_dy[same<T, N> ? 1 : block], wide_saved[same<T, N> ? 1 : block], made[block];
  for (std::int64_t row = begin; row < end; row += rows) {
    const std::int64_t count = end - row < rows ? end - row : rows;
    for (std::int64_t first = 0; first < columns; first += block) {
      const std::int64_t n = columns - first < block ? columns - first : block, at = row * columns + first,
                         all = (count - 1) * columns + n;
      const T* const dy = static_cast<const T*>(job.dy) + at;
      const N* from = reinterpret_cast<const N*>(dy);
      if (!same<T, N>) {
        widen_row<T>(dy, wide_dy, all);
        from = wide_dy;
      }
      if (job.activation.loop != nullptr) {
        const T* const saved = static_cast<const T*>(job.saved) + at;
        if (!same<T, N>) widen_row<T>(saved, wide_saved, all);
        const void* const inputs[] = {from, same<T, N> ? static_cast<const void*>(saved) : wide_saved};
        N* const to = job.dz == nullptr ? made : static_cast<N*>(job.dz) + at;
        apply(job.activation, inputs, 2, to, all);
        from = to;
      }
      if (sums != nullptr) sum_columns<N>(from, count, columns < block ? columns : n, sums + first);
    }
  }
}

template <class T>
void widen_tile(const void* from, std::int64_t stride, std::int64_t rows, std::int64_t columns, void* to) {
  for (std::int64_t r = 0; r < rows; ++r)
    widen_row<T>(static_cast<const T*>(from) + r * stride, static_cast<number<T>*>(to) + r * columns, columns);
}

template <class T>
void store_tile(void* to, std::int64_t stride, std::int64_t rows, std::int64_t columns, const void* from,
                bool accumulate) {
  using S = storage<T>;
  using N = storage<number<T>>;
  for (std::int64_t r = 0; r < rows; ++r) {
    T* const row = static_cast<T*>(to) + r * stride;
    const number<T>* const made = static_cast<const number<T>*>(from) + r * columns;
    if (!accumulate) {
      store_row<T>(made, row, columns);
      continue;
    }
    for_vectors<typename N::V>(columns, [&](std::int64_t i, int k) {
      store_n<S>(row + i, load_n<S>(row + i, k) + load_n<N>(made + i, k), k);
    });
  }
}

#define FASTNN_ALL(f) {f<float>, f<double>, f<binary16>, f<bfloat16>}
constexpr Linear table = {FASTNN_ALL(dense), FASTNN_ALL(finish), FASTNN_ALL(gradient), FASTNN_ALL(widen_tile),
                          FASTNN_ALL(store_tile)};

}  // namespace
FASTNN_END

FASTNN_FAMILY_TABLE(Linear, linear, fastnn::table)
