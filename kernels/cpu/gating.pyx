# cython: language_level=3, freethreading_compatible=True
"""The native backend of maxout, glu and swiglu: threads over the elements of outputs of shape (outer, inner)."""
from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.stdint cimport int64_t

cimport numpy as cnp

from runtime cimport Runtime, dtype_index, kRuntimeCapsule

from fastnn.kernels.cpu.runtime import api

cnp.import_array()

cdef extern from "gating.hpp" namespace "fastnn_cpu" nogil:
    ctypedef void (*GatingForward)(const void*, void*, int64_t, int64_t, int64_t, int64_t) noexcept nogil
    ctypedef void (*GatingBackward)(const void*, const void*, void*, int64_t, int64_t, int64_t, int64_t) noexcept nogil
    cdef enum:
        gating_maxout, gating_glu, gating_swiglu
    struct Gating:
        GatingForward forward[3][4]
        GatingBackward backward[3][4]
    const Gating& gating_table "fastnn_cpu::gating"(int isa)

cdef Runtime* runtime = <Runtime*> PyCapsule_GetPointer(api, kRuntimeCapsule)


cdef struct Call:
    GatingForward forward
    GatingBackward backward
    const void* first
    const void* second
    void* out
    int64_t parts, inner


cdef void body(void* context, int64_t begin, int64_t end) noexcept nogil:
    cdef Call* call = <Call*> context
    if call.forward != NULL:
        call.forward(call.first, call.out, call.parts, call.inner, begin, end)
    else:
        call.backward(call.first, call.second, call.out, call.parts, call.inner, begin, end)


cdef void run(Call* call, int64_t elements) noexcept:
    if elements == 0:
        return
    with nogil:
        if elements * call.parts < 131072:
            body(call, 0, elements)
        else:
            runtime.pool.parallel_for(elements, 16384, body, call)


cdef void forward(int op, cnp.ndarray x, cnp.ndarray out) noexcept:
    cdef Call call
    call.forward = gating_table(runtime.active_isa()).forward[op][dtype_index(runtime, x.descr.type_num)]
    call.first, call.out = cnp.PyArray_DATA(x), cnp.PyArray_DATA(out)
    call.parts, call.inner = x.shape[1], x.shape[2]
    run(&call, x.shape[0] * x.shape[2])


cdef void backward(int op, cnp.ndarray dy, cnp.ndarray x, cnp.ndarray out) noexcept:
    cdef Call call
    call.forward = NULL
    call.backward = gating_table(runtime.active_isa()).backward[op][dtype_index(runtime, x.descr.type_num)]
    call.first, call.second, call.out = cnp.PyArray_DATA(dy), cnp.PyArray_DATA(x), cnp.PyArray_DATA(out)
    call.parts, call.inner = x.shape[1], x.shape[2]
    run(&call, x.shape[0] * x.shape[2])


def maxout(cnp.ndarray x, cnp.ndarray out) -> None:
    """Write the largest along axis 1 of `x`, (outer, pieces, inner), to `out`, (outer, inner)."""
    forward(gating_maxout, x, out)


def maxout_backward(cnp.ndarray dy, cnp.ndarray x, cnp.ndarray out) -> None:
    """Write `dy` to the place of the first of the largest, and 0 elsewhere."""
    backward(gating_maxout, dy, x, out)


def glu(cnp.ndarray x, cnp.ndarray out) -> None:
    """a sigmoid(b) of the halves a, b of `x`, (outer, 2, inner)."""
    forward(gating_glu, x, out)


def glu_backward(cnp.ndarray dy, cnp.ndarray x, cnp.ndarray out) -> None:
    """Write the gradient of glu."""
    backward(gating_glu, dy, x, out)


def swiglu(cnp.ndarray x, cnp.ndarray out) -> None:
    """silu(a) b of the halves a, b of `x`, (outer, 2, inner)."""
    forward(gating_swiglu, x, out)


def swiglu_backward(cnp.ndarray dy, cnp.ndarray x, cnp.ndarray out) -> None:
    """Write the gradient of swiglu."""
    backward(gating_swiglu, dy, x, out)
