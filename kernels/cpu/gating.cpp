// maxout, glu and swiglu for one instruction set. They run at the speed of memory: each array read or written once.
// Operations an element of the output: maxout 2 a piece, glu and swiglu 25 forward and 35 backward.
#include "gating.hpp"

#include "../include/gating.hpp"
#include "softmax_loops.hpp"

FASTNN_BEGIN
namespace {

using namespace fastnn_cpu;

template <class Op, class T>
void forward(const void* from, void* to, int64_t, int64_t inner, int64_t begin, int64_t end) {
  using V = vector_of<T>;
  while (begin < end) {
    const int64_t outer = begin / inner, i = begin - outer * inner;
    const int64_t count = inner - i < end - begin ? inner - i : end - begin;
    const T* const a = static_cast<const T*>(from) + 2 * outer * inner + i;
    T* const y = static_cast<T*>(to) + begin;
    along{count}.each_of<V>([&](int64_t at, int64_t, int n) {
      store_some(y + at, Op::forward(load_some(a + at, n), load_some(a + inner + at, n)), n);
    });
    begin += count;
  }
}

template <class Op, class T>
void backward(const void* incoming, const void* from, void* to, int64_t, int64_t inner, int64_t begin, int64_t end) {
  using V = vector_of<T>;
  while (begin < end) {
    const int64_t outer = begin / inner, i = begin - outer * inner;
    const int64_t count = inner - i < end - begin ? inner - i : end - begin;
    const T *const dy = static_cast<const T*>(incoming) + begin, *const a = static_cast<const T*>(from) + begin +
                                                                            outer * inner;
    T* const da = static_cast<T*>(to) + begin + outer * inner;
    along{count}.each_of<V>([&](int64_t at, int64_t, int n) {
      V by_a, by_b;
      Op::backward(load_some(dy + at, n), load_some(a + at, n), load_some(a + inner + at, n), by_a, by_b);
      store_some(da + at, by_a, n);
      store_some(da + inner + at, by_b, n);
    });
    begin += count;
  }
}

template <class T>
FASTNN_FN vector_of<T> largest(const T* x, const down& walk) {
  using V = vector_of<T>;
  V best = load_some(x, walk.n);
  walk.each([&](int64_t at, int64_t, int n) {
    const V v = load_some(x + at, n);
    best = select(is_larger(v, best), v, best);
  });
  return best;
}
template <class T>
FASTNN_FN void largest_backward(vector_of<T> dy, const T* x, T* dx, const down& walk) {
  using V = vector_of<T>;
  V best = load_some(x, walk.n), index(0.0f), piece(0.0f);
  const V one(1.0f);
  walk.each([&](int64_t at, int64_t, int n) {
    const V v = load_some(x + at, n);
    const mask_t<V> takes = is_larger(v, best);
    best = select(takes, v, best);
    index = select(takes, piece, index);
    piece = piece + one;
  });
  piece = V(0.0f);
  walk.each([&](int64_t at, int64_t, int n) {
    store_some(dx + at, select(index == piece, dy, V(0.0f)), n);
    piece = piece + one;
  });
}

// Two or four adjacent pieces: vectors of each by shuffles, whole vectors of outputs.
//
// Rejected: three pieces likewise (no shuffle that all instruction sets have; a tile is as fast).
template <int pieces, class T>
struct adjacent {
  using V = vector_of<T>;
  V piece[pieces];

  static FASTNN_FN adjacent load(const T* p) {
    const auto two = [&](int i) {
      return deinterleave(storage<T>::load(p + i * lanes<V>), storage<T>::load(p + (i + 1) * lanes<V>));
    };
    const even_odd<V> a = two(0);
    if constexpr (pieces == 2) {
      return {{a.even, a.odd}};
    } else {
      const even_odd<V> b = two(2), even = deinterleave(a.even, b.even), odd = deinterleave(a.odd, b.odd);
      return {{even.even, odd.even, even.odd, odd.odd}};
    }
  }
  FASTNN_FN void store(T* p) const {
    const auto two = [&](int i, V even, V odd) {
      const joined<V> both = interleave(even, odd);
      storage<T>::store(p + i * lanes<V>, both.first);
      storage<T>::store(p + (i + 1) * lanes<V>, both.second);
    };
    if constexpr (pieces == 2) {
      two(0, piece[0], piece[1]);
    } else {
      const joined<V> even = interleave(piece[0], piece[2]), odd = interleave(piece[1], piece[3]);
      two(0, even.first, odd.first);
      two(2, even.second, odd.second);
    }
  }
  FASTNN_FN V largest() const {
    V best = piece[0];
    FASTNN_UNROLL
    for (int k = 1; k < pieces; ++k) best = select(is_larger(piece[k], best), piece[k], best);
    return best;
  }
  FASTNN_FN void largest_backward(V dy) {
    const V zero(0.0f);
    V best = piece[0], to[pieces];
    to[0] = dy;
    FASTNN_UNROLL
    for (int k = 1; k < pieces; ++k) {
      const mask_t<V> takes = is_larger(piece[k], best);
      best = select(takes, piece[k], best);
      FASTNN_UNROLL
      for (int j = 0; j < k; ++j) to[j] = select(takes, zero, to[j]);
      to[k] = select(takes, dy, zero);
    }
    FASTNN_UNROLL
    for (int k = 0; k < pieces; ++k) piece[k] = to[k];
  }

  static void forward(const T* x, T* y, int64_t n) {
    int64_t i = 0;
    for (; i + lanes<V> <= n; i += lanes<V>) storage<T>::store(y + i, load(x + i * pieces).largest());
    if (i < n) {
      const int left = static_cast<int>(n - i);
      T some[pieces * lanes<V>] = {};
      __builtin_memcpy(some, x + i * pieces, static_cast<std::size_t>(left * pieces) * sizeof(T));
      storage<T>::store_first(y + i, load(some).largest(), left);
    }
  }
  static void backward(const T* dy, const T* x, T* dx, int64_t n) {
    const auto step = [](V g, const T* from, T* to) {
      adjacent a = load(from);
      a.largest_backward(g);
      a.store(to);
    };
    int64_t i = 0;
    for (; i + lanes<V> <= n; i += lanes<V>) step(storage<T>::load(dy + i), x + i * pieces, dx + i * pieces);
    if (i < n) {
      const int left = static_cast<int>(n - i);
      const std::size_t bytes = static_cast<std::size_t>(left * pieces) * sizeof(T);
      T some[pieces * lanes<V>] = {};
      __builtin_memcpy(some, x + i * pieces, bytes);
      step(storage<T>::load_first(dy + i, left), some, some);
      __builtin_memcpy(dx + i * pieces, some, bytes);
    }
  }
};

template <class T>
void maxout(const void* from, void* to, int64_t pieces, int64_t inner, int64_t begin, int64_t end) {
  using V = vector_of<T>;
  const T* const x = static_cast<const T*>(from);
  T* const y = static_cast<T*>(to);
  if (inner == 1 && pieces == 2) return adjacent<2, T>::forward(x + begin * 2, y + begin, end - begin);
  if (inner == 1 && pieces == 4) return adjacent<4, T>::forward(x + begin * 4, y + begin, end - begin);
  if (inner < tile_columns && is_tiled(pieces)) {
    T tile[tile_elements];
    const tile_layout layout(pieces, inner);
    layout.each(begin, end, [&](int64_t first, int columns) {
      layout.load(tile, x, first, columns);
      for (int j = 0; j < columns; j += lanes<V>) {
        const int n = columns - j < lanes<V> ? columns - j : lanes<V>;
        store_some(y + first + j, largest(tile + j, down{pieces, layout.stride, lanes<V>}), n);
      }
    });
    return;
  }
  by_columns<V>(pieces, inner, begin, end, [&](int64_t at, int n, int64_t first) {
    store_some(y + first, largest(x + at, down{pieces, inner, n}), n);
  });
}

template <class T>
void maxout_backward(const void* incoming, const void* from, void* to, int64_t pieces, int64_t inner, int64_t begin,
                     int64_t end) {
  using V = vector_of<T>;
  const T *const dy = static_cast<const T*>(incoming), *const x = static_cast<const T*>(from);
  T* const dx = static_cast<T*>(to);
  if (inner == 1 && pieces == 2)
    return adjacent<2, T>::backward(dy + begin, x + begin * 2, dx + begin * 2, end - begin);
  if (inner == 1 && pieces == 4)
    return adjacent<4, T>::backward(dy + begin, x + begin * 4, dx + begin * 4, end - begin);
  if (inner < tile_columns && is_tiled(pieces)) {
    T tile[tile_elements];
    const tile_layout layout(pieces, inner);
    layout.each(begin, end, [&](int64_t first, int columns) {
      layout.load(tile, x, first, columns);
      for (int j = 0; j < columns; j += lanes<V>) {
        const int n = columns - j < lanes<V> ? columns - j : lanes<V>;
        largest_backward(load_some(dy + first + j, n), tile + j, tile + j, down{pieces, layout.stride, lanes<V>});
      }
      layout.store(dx, tile, first, columns);
    });
    return;
  }
  by_columns<V>(pieces, inner, begin, end, [&](int64_t at, int n, int64_t first) {
    largest_backward(load_some(dy + first, n), x + at, dx + at, down{pieces, inner, n});
  });
}

#define FASTNN_EACH_DTYPE(f) {f<float>, f<double>, f<binary16>, f<bfloat16>}
#define FASTNN_EACH_DTYPE_OF(f, op) {f<op, float>, f<op, double>, f<op, binary16>, f<op, bfloat16>}
constexpr Gating table = {
    {FASTNN_EACH_DTYPE(maxout), FASTNN_EACH_DTYPE_OF(forward, glu), FASTNN_EACH_DTYPE_OF(forward, swiglu)},
    {FASTNN_EACH_DTYPE(maxout_backward), FASTNN_EACH_DTYPE_OF(backward, glu), FASTNN_EACH_DTYPE_OF(backward, swiglu)}};

}  // namespace
FASTNN_END

FASTNN_FAMILY_TABLE(Gating, gating, (fastnn::table))
