// NumPy's numbers of types as indices into the tables of loops.
#pragma once
#include <Python.h>
#include <numpy/ndarraytypes.h>

#include "runtime.hpp"

namespace fastnn_cpu {

// dtype_float32 and so on, or -1 for a type that no loop takes.
static inline int dtype_index(const Runtime* runtime, int type_num) noexcept {
  switch (type_num) {
    case NPY_FLOAT:
      return dtype_float32;
    case NPY_DOUBLE:
      return dtype_float64;
    case NPY_HALF:
      return dtype_float16;
    default:
      return type_num >= 0 && type_num == runtime->bfloat16_number() ? dtype_bfloat16 : -1;
  }
}

}  // namespace fastnn_cpu
