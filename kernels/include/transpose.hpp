// Small matrices turned over in registers: rows of V become columns.
#pragma once
#include "simd.hpp"

FASTNN_BEGIN

// The numbers of `rows` vectors (a power of two, up to lanes<V>) in the order in which they follow each other column by
// column: vector k then holds lanes<V> / rows columns. Interleaving vector i with vector i + rows / 2, for all i, is
// one step of a perfect shuffle; log2(rows) steps bring the columns together.
template <class V, int rows>
FASTNN_FN void interleave_rows(V (&v)[rows]) {
#pragma GCC unroll 8
  for (int step = 1; step < rows; step *= 2) {
    V next[rows];
#pragma GCC unroll 16
    for (int i = 0; i < rows / 2; ++i) {
      const joined<V> pair = interleave(v[i], v[i + rows / 2]);
      next[2 * i] = pair.first;
      next[2 * i + 1] = pair.second;
    }
#pragma GCC unroll 16
    for (int i = 0; i < rows; ++i) v[i] = next[i];
  }
}

FASTNN_END
