// NumPy's accessors by way of PyObject*, for code that looks at arguments before it knows what they are.
#pragma once
#include <Python.h>
#include <numpy/arrayobject.h>

// Exactly an ndarray, C-contiguous, aligned, in native byte order.
static inline bool ndarray_is_plain(PyObject* a) {
  return PyArray_CheckExact(a) && PyArray_ISCARRAY_RO(reinterpret_cast<PyArrayObject*>(a));
}
static inline bool ndarray_is_writeable(PyObject* a) { return PyArray_ISWRITEABLE(reinterpret_cast<PyArrayObject*>(a)); }
static inline int ndarray_type(PyObject* a) { return PyArray_TYPE(reinterpret_cast<PyArrayObject*>(a)); }
static inline int ndarray_ndim(PyObject* a) { return PyArray_NDIM(reinterpret_cast<PyArrayObject*>(a)); }
static inline npy_intp ndarray_size(PyObject* a) { return PyArray_SIZE(reinterpret_cast<PyArrayObject*>(a)); }
static inline char* ndarray_data(PyObject* a) { return PyArray_BYTES(reinterpret_cast<PyArrayObject*>(a)); }

// Two plain arrays of one dtype and shape.
static inline bool ndarray_same_layout(PyObject* a, PyObject* b) {
  return ndarray_type(a) == ndarray_type(b) && ndarray_ndim(a) == ndarray_ndim(b) &&
         PyArray_CompareLists(PyArray_DIMS(reinterpret_cast<PyArrayObject*>(a)), PyArray_DIMS(reinterpret_cast<PyArrayObject*>(b)),
                              ndarray_ndim(a));
}
static inline PyObject* ndarray_like(PyObject* a) {
  return PyArray_NewLikeArray(reinterpret_cast<PyArrayObject*>(a), NPY_CORDER, nullptr, 0);
}
