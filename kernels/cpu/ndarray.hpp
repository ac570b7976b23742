// NumPy's accessors by way of PyObject*, for code that looks at arguments before it knows what they are.
#pragma once
#include <Python.h>
#include <numpy/arrayobject.h>
#include <numpy/arrayscalars.h>

// Exactly an ndarray, C-contiguous, aligned, in native byte order.
static inline bool ndarray_is_plain(PyObject* a) {
  return PyArray_CheckExact(a) && PyArray_ISCARRAY_RO(reinterpret_cast<PyArrayObject*>(a));
}
// Exactly an ndarray, in native byte order.
static inline bool ndarray_is_native(PyObject* a) {
  return PyArray_CheckExact(a) && PyArray_ISNOTSWAPPED(reinterpret_cast<PyArrayObject*>(a));
}
static inline int ndarray_type(PyObject* a) { return PyArray_TYPE(reinterpret_cast<PyArrayObject*>(a)); }
static inline int ndarray_ndim(PyObject* a) { return PyArray_NDIM(reinterpret_cast<PyArrayObject*>(a)); }
static inline npy_intp ndarray_size(PyObject* a) { return PyArray_SIZE(reinterpret_cast<PyArrayObject*>(a)); }
static inline char* ndarray_data(PyObject* a) { return PyArray_BYTES(reinterpret_cast<PyArrayObject*>(a)); }

static inline bool ndarray_same_shape(PyObject* a, PyObject* b) {
  return ndarray_ndim(a) == ndarray_ndim(b) &&
         PyArray_CompareLists(PyArray_DIMS(reinterpret_cast<PyArrayObject*>(a)),
                              PyArray_DIMS(reinterpret_cast<PyArrayObject*>(b)), ndarray_ndim(a));
}
static inline bool ndarray_same_type_and_shape(PyObject* a, PyObject* b) {
  return ndarray_type(a) == ndarray_type(b) && ndarray_same_shape(a, b);
}
static inline PyObject* ndarray_like(PyObject* a) {
  return PyArray_NewLikeArray(reinterpret_cast<PyArrayObject*>(a), NPY_CORDER, nullptr, 0);
}

static inline bool float32_scalar(PyObject* a, double* value) {
  if (!PyArray_IsScalar(a, Float)) return false;
  *value = PyArrayScalar_VAL(a, Float);
  return true;
}

struct ndarray_extent {
  char *begin, *end;
  explicit ndarray_extent(PyArrayObject* a) : begin(PyArray_BYTES(a)), end(begin + PyArray_ITEMSIZE(a)) {
    for (int i = 0; i < PyArray_NDIM(a); ++i) {
      const npy_intp last = (PyArray_DIM(a, i) - 1) * PyArray_STRIDE(a, i);
      (last < 0 ? begin : end) += last;
    }
  }
};

// May a result be written to `out`, of the shape of the input `in`, element by element? For certain, that is: it is
// writeable, its elements do not share memory, and it is either the input itself or apart from it.
static inline bool ndarray_may_be_written(PyObject* out, PyObject* in) {
  auto *a = reinterpret_cast<PyArrayObject*>(out), *b = reinterpret_cast<PyArrayObject*>(in);
  if (!PyArray_ISWRITEABLE(a)) return false;
  if (PyArray_SIZE(a) == 0) return true;
  bool same = PyArray_BYTES(a) == PyArray_BYTES(b);
  for (int i = 0; i < PyArray_NDIM(a); ++i) {
    if (PyArray_DIM(a, i) == 1) continue;
    if (PyArray_STRIDE(a, i) == 0) return false;
    same = same && PyArray_STRIDE(a, i) == PyArray_STRIDE(b, i);
  }
  if (same) return true;
  const ndarray_extent to(a), from(b);
  return to.end <= from.begin || from.end <= to.begin;
}

static inline bool ndarray_is_writeable(PyObject* a) {
  return PyArray_ISWRITEABLE(reinterpret_cast<PyArrayObject*>(a));
}
// For certain: the memory between first and last element counts.
static inline bool ndarray_disjoint(PyObject* a, PyObject* b) {
  if (ndarray_size(a) == 0 || ndarray_size(b) == 0) return true;
  const ndarray_extent one(reinterpret_cast<PyArrayObject*>(a)), other(reinterpret_cast<PyArrayObject*>(b));
  return one.end <= other.begin || other.end <= one.begin;
}

// Plain, of this type and shape.
static inline bool ndarray_is(PyObject* a, int type, int ndim, const npy_intp* dims) {
  return ndarray_is_plain(a) && ndarray_type(a) == type && ndarray_ndim(a) == ndim &&
         PyArray_CompareLists(PyArray_DIMS(reinterpret_cast<PyArrayObject*>(a)), dims, ndim);
}
// Of `count` plain arrays, or None, the first `written` ones are writeable and share no memory with any other.
static inline bool ndarray_apart(PyObject* const* arrays, int written, int count) {
  for (int i = 0; i < written; ++i) {
    if (arrays[i] == Py_None) continue;
    if (!ndarray_is_writeable(arrays[i])) return false;
    const char* const begin = ndarray_data(arrays[i]);
    const char* const end = begin + PyArray_NBYTES(reinterpret_cast<PyArrayObject*>(arrays[i]));
    for (int k = i + 1; k < count; ++k) {
      if (arrays[k] == Py_None) continue;
      const char* const other = ndarray_data(arrays[k]);
      if (other < end && begin < other + PyArray_NBYTES(reinterpret_cast<PyArrayObject*>(arrays[k]))) return false;
    }
  }
  return true;
}
