# cython: language_level=3, freethreading_compatible=True
"""Quantized arithmetic: uint8 and int8, exact sums. fastnn.kernels.reference.quantized has the same functions and says what
they compute, to the last bit. `Prepared` is one of them with everything but its arrays, for sessions.
"""
from cpython.object cimport PyObject
from cpython.pycapsule cimport PyCapsule_GetPointer, PyCapsule_New
from libc.stdint cimport int64_t
from libcpp cimport bool as cbool

cimport numpy as cnp

from runtime cimport Runtime, has_dot, kRuntimeCapsule

from functools import partial

import numpy as np

from fastnn.kernels.cpu.linear import Program
from fastnn.kernels.cpu.runtime import api

cnp.import_array()

cdef extern from "quantized.hpp" namespace "fastnn_cpu" nogil:
    struct QuantizedJob:
        const unsigned char* a
        const unsigned char* b
        unsigned char* y
        int64_t height, width, channels, rows, columns, depth
        int64_t kernel[2]
        int64_t stride[2]
        int64_t before[2]
        int64_t dilation[2]
        const int* top
        const int* bottom
        const int* left
        const int* right
        const signed char* weight
        const int* bias
        const unsigned char* table
        const float* multiplier
        float by
        int zero, low, high, x_zero, by_a, by_b, offset
    enum QuantizedKernel:
        quantized_depthwise, quantized_max_pool, quantized_average_pool, quantized_window, quantized_add, quantized_lookup
        quantized_quantize, quantized_dequantize
    struct RowsJob:
        const float* x
        unsigned char* y
        float* scale
        int* zero
        int64_t length
    struct FinishJob:
        const int* acc
        const int* zero
        const int* sums
        const float* scale
        const float* weight_scale
        const float* bias
        float* y
        int64_t outputs
        float low, high
    struct Quantized:
        void (*loops[8])(const QuantizedJob&, int64_t, int64_t) noexcept nogil
        void (*quantize_rows)(const RowsJob&, int64_t, int64_t) noexcept nogil
        void (*finish_rows)(const FinishJob&, int64_t, int64_t) noexcept nogil
    const Quantized& quantized(int isa)

cdef Runtime* runtime = <Runtime*> PyCapsule_GetPointer(api, kRuntimeCapsule)
cdef int64_t chunk = 32 * 1024  # bytes read that a thread takes at a time; a second thread pays from four times that


cdef inline unsigned char* bytes_of(cnp.ndarray a) noexcept:
    return <unsigned char*> cnp.PyArray_DATA(a)


cdef inline int* ints_of(cnp.ndarray a) noexcept:
    return <int*> cnp.PyArray_DATA(a)


cdef inline float* floats_of(cnp.ndarray a) noexcept:
    return <float*> cnp.PyArray_DATA(a)


include "packed_int8.pxi"

cdef struct Layer:
    Operation operation
    QuantizedJob job
    int kernel
    int64_t items, cost  # what a loop does, and how many bytes one of them reads

cdef struct Call:
    QuantizedJob job
    int kernel


cdef void body(void* context, int64_t begin, int64_t end) noexcept nogil:
    cdef Call* call = <Call*> context
    quantized(runtime.active_isa()).loops[call.kernel](call.job, begin, end)


cdef cbool run(const Operation* self, void* const* arrays) noexcept nogil:
    cdef const Layer* layer = <const Layer*> self
    cdef Call call
    cdef int64_t cost = layer.cost
    call.job, call.kernel = layer.job, layer.kernel
    call.job.a, call.job.b = <const unsigned char*> arrays[0], <const unsigned char*> arrays[1]
    call.job.y = <unsigned char*> arrays[self.count - 1]
    if layer.items * cost < 4 * chunk:
        body(&call, 0, layer.items)
    else:
        runtime.pool.parallel_for(layer.items, max(1, chunk // cost), body, &call)
    return True


cdef int64_t count(tuple shape):
    cdef int64_t n = 1
    for length in shape:
        n *= <int64_t> length
    return n


KERNELS = {
    "depthwise": quantized_depthwise,
    "max_pool": quantized_max_pool,
    "average_pool": quantized_average_pool,
    "window": quantized_window,
    "add": quantized_add,
    "lookup": quantized_lookup,
    "quantize": quantized_quantize,
    "dequantize": quantized_dequantize,
}


cdef class Prepared:
    """A function of this module for inputs and a result of known shapes, and with its other arguments: a kernel of a
    `fastnn.kernels.cpu.linear.Program`.
    """

    cdef Layer layer
    cdef object kept
    cdef readonly object operation

    def __init__(self, str name, tuple shapes, tuple given):
        cdef Operation* operation = &self.layer.operation
        cdef QuantizedJob* job = &self.layer.job
        cdef tuple x = shapes[0], y = shapes[len(shapes) - 1]
        cdef int k
        if self.operation is not None:
            raise TypeError("Prepared: __init__ runs once")
        self.kept, self.layer.kernel = given, KERNELS[name]
        self.layer.items, self.layer.cost = count(y), 2
        operation.run, operation.count = run, len(shapes)
        for k, shape in enumerate(shapes):
            operation.types[k] = cnp.NPY_UINT8
            operation.bytes[k] = count(shape)
        if self.layer.kernel == quantized_quantize or self.layer.kernel == quantized_dequantize:
            self.convert(x, y, given)
        elif self.layer.kernel == quantized_add:
            job.by_a, job.by_b, job.offset, job.by, job.zero, job.low, job.high = given
        elif self.layer.kernel == quantized_lookup:
            job.table = bytes_of(given[0])
        else:
            self.image(x, y, given)
        operation.work = self.layer.items * self.layer.cost
        self.operation = PyCapsule_New(operation, kOperationCapsule, NULL)

    cdef int convert(self, tuple x, tuple y, tuple given) except -1:
        cdef Operation* operation = &self.layer.operation
        cdef QuantizedJob* job = &self.layer.job
        cdef int which = 0 if self.layer.kernel == quantized_quantize else 1
        _, job.channels, job.columns = x if which == 0 else y
        job.by, job.zero = given
        job.low, job.high = 0, 255
        operation.types[which] = cnp.NPY_FLOAT
        operation.bytes[which] *= 4
        self.layer.items, self.layer.cost = y[0] * job.columns, 2 * max(1, job.channels)
        return 0

    cdef int image(self, tuple x, tuple y, tuple given) except -1:
        cdef QuantizedJob* job = &self.layer.job
        cdef tuple pair, pairs = ()
        cdef int axis
        cdef int64_t taps = 1
        _, job.height, job.width, job.channels = x
        _, job.rows, job.columns, job.depth = y
        if self.layer.kernel == quantized_window:
            top, left, stride, job.x_zero = given
            pairs = (1, 1), (stride, stride), (top, left), (1, 1)
        elif self.layer.kernel == quantized_average_pool:
            (top, bottom), (left, right), multiplier, job.x_zero, job.zero, job.low, job.high = given
            job.top, job.bottom, job.left, job.right = ints_of(top), ints_of(bottom), ints_of(left), ints_of(right)
            job.multiplier = floats_of(multiplier)
            taps = max(1, job.height * job.width // max(1, job.rows * job.columns))
        elif self.layer.kernel == quantized_depthwise:
            weight, bias, multiplier, *pairs_, job.x_zero, job.zero, job.low, job.high = given
            job.weight, job.bias = <signed char*> cnp.PyArray_DATA(weight), ints_of(bias)
            job.multiplier = floats_of(multiplier)
            pairs = (weight.shape[:2], *pairs_)
        else:
            pairs = given
        for axis in range(2 if pairs else 0):
            job.kernel[axis], job.stride[axis], job.before[axis], job.dilation[axis] = [pair[axis] for pair in pairs]
            taps *= job.kernel[axis]
        self.layer.items, self.layer.cost = y[0] * job.rows, max(1, job.columns * job.depth * taps)
        return 0

    def __call__(self, *arrays) -> None:
        """Do it."""
        Program([(self, arrays)]).run(None, None)


def _call(str name, *arguments) -> None:
    arrays = arguments[:3 if name == "add" else 2]
    Prepared(name, tuple([array.shape for array in arrays]), arguments[len(arrays):])(*arrays)


depthwise, max_pool, average_pool, window, add, lookup, quantize, dequantize = [partial(_call, name) for name in KERNELS]


cdef void rows_body(void* context, int64_t begin, int64_t end) noexcept nogil:
    quantized(runtime.active_isa()).quantize_rows((<RowsJob*> context)[0], begin, end)


cdef void finish_body(void* context, int64_t begin, int64_t end) noexcept nogil:
    quantized(runtime.active_isa()).finish_rows((<FinishJob*> context)[0], begin, end)


def quantize_rows(cnp.ndarray x, cnp.ndarray y, cnp.ndarray scale, cnp.ndarray zero) -> None:
    """Each row by itself, scale and zero from its range."""
    cdef RowsJob job
    cdef int64_t rows = x.shape[0]
    job.x, job.y, job.scale, job.zero = floats_of(x), bytes_of(y), floats_of(scale), ints_of(zero)
    job.length = x.shape[1]
    with nogil:
        if 4 * rows * job.length < 4 * chunk:
            rows_body(&job, 0, rows)
        else:
            runtime.pool.parallel_for(rows, max(1, chunk // (4 * job.length)), rows_body, &job)


def finish_rows(cnp.ndarray acc, cnp.ndarray scale, cnp.ndarray zero, cnp.ndarray sums, cnp.ndarray weight_scale,
                cnp.ndarray bias, cnp.ndarray y, float low, float high) -> None:
    """float32 of the sums of rows with scales of their own."""
    cdef FinishJob job
    cdef int64_t rows = acc.shape[0]
    job.acc, job.scale, job.zero, job.sums = ints_of(acc), floats_of(scale), ints_of(zero), ints_of(sums)
    job.weight_scale, job.bias, job.y, job.outputs = floats_of(weight_scale), floats_of(bias), floats_of(y), acc.shape[1]
    job.low, job.high = low, high
    with nogil:
        if 4 * rows * job.outputs < 4 * chunk:
            finish_body(&job, 0, rows)
        else:
            runtime.pool.parallel_for(rows, max(1, chunk // (4 * job.outputs)), finish_body, &job)
