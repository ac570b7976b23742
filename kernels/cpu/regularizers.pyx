# cython: language_level=3, freethreading_compatible=True
"""The native backend of the regularizers: partial sums over chunks of fixed size, added up in order."""
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.stdint cimport int64_t

cimport numpy as cnp

from runtime cimport Runtime, dtype_index, kRuntimeCapsule

import math

from fastnn.kernels.cpu.runtime import api

cnp.import_array()

cdef extern from "regularizers.hpp" namespace "fastnn_cpu" nogil:
    struct Sums:
        double squares, magnitudes
    ctypedef Sums (*Regularizer)(const void*, void*, double, double, int64_t, int64_t) noexcept nogil
    struct Regularizers:
        Regularizer penalty[3][4]
    const Regularizers& regularizers_table "fastnn_cpu::regularizers"(int isa)

cdef Runtime* runtime = <Runtime*> PyCapsule_GetPointer(api, kRuntimeCapsule)
cdef enum:
    grain = 32768


cdef struct Call:
    Regularizer penalty
    const void* w
    void* grad
    double quadratic, linear
    Sums* partial


cdef void body(void* context, int64_t begin, int64_t end) noexcept nogil:
    cdef Call* call = <Call*> context
    call.partial[begin // grain] = call.penalty(call.w, call.grad, call.quadratic, call.linear, begin, end)


def penalty(cnp.ndarray w, grad, quadratic, linear) -> tuple:
    """(sum of squares, sum of magnitudes) of `w`; `grad`, if there is one, += 2 quadratic w + linear sign(w).

    A coefficient of None leaves its term out; its sum is then 0.
    """
    cdef Call call
    cdef int64_t n = cnp.PyArray_SIZE(w), chunks = (n + grain - 1) // grain, i
    cdef int terms = (1 if quadratic is not None else 0) + (2 if linear is not None else 0)
    if n == 0 or terms == 0:
        return 0.0, 0.0
    call.penalty = regularizers_table(runtime.active_isa()).penalty[terms - 1][dtype_index(runtime, w.descr.type_num)]
    call.w = cnp.PyArray_DATA(w)
    call.grad = NULL if grad is None else cnp.PyArray_DATA(<cnp.ndarray> grad)
    call.quadratic = 0.0 if quadratic is None else quadratic
    call.linear = 0.0 if linear is None else linear
    call.partial = <Sums*> PyMem_Malloc(chunks * sizeof(Sums))
    if call.partial == NULL:
        raise MemoryError(f"no memory for {chunks} partial sums")
    try:
        with nogil:
            if n < 131072:
                for i in range(chunks):
                    body(&call, i * grain, min((i + 1) * grain, n))
            else:
                runtime.pool.parallel_for(n, grain, body, &call)
        return (
            math.fsum([call.partial[i].squares for i in range(chunks)]),
            math.fsum([call.partial[i].magnitudes for i in range(chunks)]),
        )
    finally:
        PyMem_Free(call.partial)
