# cython: language_level=3, freethreading_compatible=True
"""Convolutions over checked arrays: C-contiguous, of one dtype. convolution_run.hpp says what is computed.

Every function has the same name and arguments in fastnn.kernels.jit.convolution and fastnn.kernels.reference.convolution.
"""
from cpython.object cimport PyObject
from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.stdint cimport int64_t
from libcpp cimport bool as cbool

cimport numpy as cnp

from runtime cimport Runtime, dtype_index, kRuntimeCapsule

from fastnn.kernels.cpu.runtime import api

cnp.import_array()

cdef extern from "convolution_run.hpp" namespace "fastnn_cpu" nogil:
    struct Geometry:
        int64_t images, groups, inner, outer, rows, cols, out_rows, out_cols
        int64_t kernel[2]
        int64_t stride[2]
        int64_t padding[2]
        int64_t dilation[2]
    cbool convolve(const Runtime&, int dtype, const Geometry&, const void* x, const void* weight, const void* bias, void* y,
                   void* z, const char* activation, const void* const* parameter, int parameters)
    cbool run_input_gradient "fastnn_cpu::input_gradient"(const Runtime&, int, const Geometry&, const void*, const void*, void*)
    cbool run_weight_gradient "fastnn_cpu::weight_gradient"(const Runtime&, int, const Geometry&, const void*, const void*, void*,
                                                                cbool accumulate)
    cbool run_bias_gradient "fastnn_cpu::bias_gradient"(const Runtime&, int, const void*, int64_t, int64_t, int64_t, void*, cbool)

cdef extern from "ndarray.hpp":
    bint ndarray_is_plain(PyObject*) nogil
    bint ndarray_disjoint(PyObject*, PyObject*) nogil

cdef extern from "scratch.hpp" namespace "fastnn_cpu" nogil:
    int64_t peak "fastnn_cpu::scratch_peak"()
    void reset_peak "fastnn_cpu::reset_scratch_peak"()

cdef Runtime* runtime = <Runtime*> PyCapsule_GetPointer(api, kRuntimeCapsule)


cdef Geometry geometry(cnp.ndarray x, cnp.ndarray weight, cnp.ndarray y, stride, padding, dilation, int64_t groups):
    cdef Geometry g
    cdef int axis
    g.images, g.groups, g.inner, g.outer = x.shape[0], groups, weight.shape[1], weight.shape[0] // groups
    g.rows, g.cols, g.out_rows, g.out_cols = x.shape[2], x.shape[3], y.shape[2], y.shape[3]
    for axis in range(2):
        g.kernel[axis], g.stride[axis] = weight.shape[2 + axis], stride[axis]
        g.padding[axis], g.dilation[axis] = padding[axis], dilation[axis]
    return g


def forward(cnp.ndarray x, cnp.ndarray weight, bias, cnp.ndarray y, tuple stride, tuple padding, tuple dilation, int64_t groups,
            activation, tuple params, before) -> None:
    """y = activation(z), z = the convolution of x with weight, + bias; padding is that before the first row and column.

    `before` receives z, unless it is None.
    """
    cdef Geometry g = geometry(x, weight, y, stride, padding, dilation, groups)
    cdef int dtype = dtype_index(runtime, cnp.PyArray_TYPE(x)), count = 0
    cdef const void* offset = NULL
    cdef void* z = NULL
    cdef bytes name
    cdef const char* chosen = NULL
    cdef double doubles[4]
    cdef float floats[4]
    cdef const void* parameter[4]
    cdef cbool done
    if bias is not None:
        offset = cnp.PyArray_DATA(<cnp.ndarray> bias)
    if before is not None:
        z = cnp.PyArray_DATA(<cnp.ndarray> before)
    if activation is not None:
        name = activation.encode()
        chosen = name
    for value in params:
        doubles[count] = value
        floats[count] = value
        parameter[count] = <const void*> &doubles[count] if cnp.PyArray_TYPE(x) == cnp.NPY_DOUBLE else <const void*> &floats[count]
        count += 1
    with nogil:
        done = convolve(runtime[0], dtype, g, cnp.PyArray_DATA(x), cnp.PyArray_DATA(weight), offset, cnp.PyArray_DATA(y), z, chosen,
                        parameter, count)
    if not done:
        raise MemoryError("conv2d: no memory for tiles")


def input_gradient(cnp.ndarray dy, cnp.ndarray weight, cnp.ndarray dx, tuple stride, tuple padding, tuple dilation,
                   int64_t groups) -> None:
    """dx = the gradient of the convolution's sum over dy by its input."""
    cdef Geometry g = geometry(dx, weight, dy, stride, padding, dilation, groups)
    cdef int dtype = dtype_index(runtime, cnp.PyArray_TYPE(dx))
    cdef cbool done
    with nogil:
        done = run_input_gradient(runtime[0], dtype, g, cnp.PyArray_DATA(dy), cnp.PyArray_DATA(weight), cnp.PyArray_DATA(dx))
    if not done:
        raise MemoryError("conv2d_backward: no memory for tiles")


def weight_gradient(cnp.ndarray dy, cnp.ndarray x, cnp.ndarray dweight, tuple stride, tuple padding, tuple dilation,
                    int64_t groups, cbool accumulate) -> None:
    """dweight = the gradient by the weights, which is added to what is there where `accumulate`."""
    cdef Geometry g = geometry(x, dweight, dy, stride, padding, dilation, groups)
    cdef int dtype = dtype_index(runtime, cnp.PyArray_TYPE(x))
    cdef cbool done
    with nogil:
        done = run_weight_gradient(runtime[0], dtype, g, cnp.PyArray_DATA(dy), cnp.PyArray_DATA(x), cnp.PyArray_DATA(dweight),
                                   accumulate)
    if not done:
        raise MemoryError("conv2d_backward: no memory for tiles")


def bias_gradient(cnp.ndarray dy, cnp.ndarray dbias, cbool accumulate) -> None:
    """dbias = the sum of dy over images and positions, in the dtype computed in; `accumulate` as for the weights."""
    cdef int dtype = dtype_index(runtime, cnp.PyArray_TYPE(dy))
    cdef int64_t images = dy.shape[0], channels = dy.shape[1], positions = dy.shape[2] * dy.shape[3]
    cdef cbool done
    with nogil:
        done = run_bias_gradient(runtime[0], dtype, cnp.PyArray_DATA(dy), images, channels, positions, cnp.PyArray_DATA(dbias), accumulate)
    if not done:
        raise MemoryError("conv2d_backward: no memory for sums")


def _apart(written, inputs) -> bool:
    """Are these contiguous arrays, of which none that is written shares memory with another? None is no array."""
    cdef list outputs = [array for array in written if array is not None], others = [array for array in inputs if array is not None]
    cdef Py_ssize_t i, j
    for array in outputs + others:
        if not ndarray_is_plain(<PyObject*> array):
            return False
    for i in range(len(outputs)):
        for j in range(i):
            if not ndarray_disjoint(<PyObject*> outputs[i], <PyObject*> outputs[j]):
                return False
        for j in range(len(others)):
            if not ndarray_disjoint(<PyObject*> outputs[i], <PyObject*> others[j]):
                return False
    return True


def _scratch_peak() -> int:
    """Bytes of the largest working memory that any thread has asked for since the last call."""
    found = peak()
    reset_peak()
    return found
