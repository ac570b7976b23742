// Linear layers beside the BLAS: its results finished while they are in the cache, the products of few rows that it is
// slow at, and the 16-bit formats that it does not know.
//
// Floor: x, weight and bias read once, y written once; 2 operations for each of rows x in x out, 1 an element of y for
// the bias and what the activation costs.
#pragma once
#include "family.hpp"

namespace fastnn_cpu {

// An activation with its parameters, one number each, of the dtype computed in. No loop: none.
struct Fused {
  Loop loop;
  const void* params[2];
  int count;
};

// y = activation(z), z = x weight^T + bias, for the rows and columns of a tile. The dtype is that of x, weight, y and
// z; bias is of the dtype computed in. bias and z may be null. x and weight are contiguous, and so are y and z.
struct Dense {
  const void *x, *weight, *bias;
  void *y, *z;
  std::int64_t rows, in, out;
  Fused activation;
};

// The same with x weight^T in `product`, of the dtype computed in, whose rows are `product_stride` elements apart. It
// is used up; in float32 and float64 it may be y, or z.
struct Finish {
  void* product;
  const void* bias;
  void *y, *z;
  std::int64_t product_stride, stride, columns;  // y and z: rows are `stride` elements apart
  Fused activation;
};

// dz = activation'(dy, saved), of the dtype computed in, and the sums of its columns. Without an activation dz is dy
// and is not written; dz may be null where only the sums are wanted, and sums where they are not.
struct Gradient {
  const void *dy, *saved;
  void* dz;
  std::int64_t columns;
  Fused activation;
};

constexpr int dense_rows = 16, dense_columns = 64;  // a tile of dense

struct Linear {
  // One tile: rows [row, row + dense_rows) and columns [column, column + dense_columns), or as many as there are.
  void (*dense[dtype_count])(const Dense& job, std::int64_t row, std::int64_t column);
  void (*finish[dtype_count])(const Finish& job, std::int64_t begin, std::int64_t end);  // rows
  // Rows [begin, end); the sums are added to `sums`, one for each column.
  void (*gradient[dtype_count])(const Gradient& job, std::int64_t begin, std::int64_t end, double* sums);
  // to = from and from = to, or from += to, where `from` is of the dtype and `to` of the dtype computed in. The rows of
  // `from` are `stride` elements apart, those of `to` are contiguous.
  void (*widen[dtype_count])(const void* from, std::int64_t stride, std::int64_t rows, std::int64_t columns, void* to);
  void (*store[dtype_count])(void* from, std::int64_t stride, std::int64_t rows, std::int64_t columns, const void* to,
                             bool accumulate);
};

}  // namespace fastnn_cpu

FASTNN_FAMILY(Linear, linear)
