# cython: language_level=3, freethreading_compatible=True
"""The native backend of softmax and log-softmax: threads over the columns of arrays of shape (outer, classes, inner)."""
from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.stdint cimport int64_t

cimport numpy as cnp

from runtime cimport Runtime, dtype_count, dtype_index, kRuntimeCapsule

from fastnn.kernels.cpu.runtime import api

cnp.import_array()

cdef extern from "softmax.hpp" namespace "fastnn_cpu" nogil:
    ctypedef void (*SoftmaxForward)(const void*, void*, int64_t, int64_t, int64_t, int64_t, void*) noexcept nogil
    ctypedef void (*SoftmaxBackward)(const void*, const void*, void*, int64_t, int64_t, int64_t, int64_t,
                                     void*) noexcept nogil
    struct Softmax:
        SoftmaxForward forward[2][4]
        SoftmaxBackward backward[2][4]
    const Softmax& softmax_table "fastnn_cpu::softmax"(int isa)
    int64_t half_room(int64_t classes, int64_t inner)
cdef extern from "scratch.hpp" namespace "fastnn_cpu" nogil:
    void* working_memory "fastnn_cpu::scratch"(int64_t bytes)

cdef Runtime* runtime = <Runtime*> PyCapsule_GetPointer(api, kRuntimeCapsule)


cdef struct Call:
    SoftmaxForward forward
    SoftmaxBackward backward
    const void* first
    const void* second
    void* out
    int64_t classes, inner
    int64_t room  # bytes of working memory that a thread needs
    bint failed


cdef void body(void* context, int64_t begin, int64_t end) noexcept nogil:
    cdef Call* call = <Call*> context
    cdef void* room = NULL
    if call.room > 0:
        room = working_memory(call.room)
        if room == NULL:
            call.failed = True
            return
    if call.forward != NULL:
        call.forward(call.first, call.out, call.classes, call.inner, begin, end, room)
    else:
        call.backward(call.first, call.second, call.out, call.classes, call.inner, begin, end, room)


cdef object run(Call* call, cnp.ndarray out):
    cdef int64_t columns = out.shape[0] * out.shape[2], grain
    call.out = cnp.PyArray_DATA(out)
    call.classes, call.inner = out.shape[1], out.shape[2]
    if columns == 0 or call.classes == 0:
        return None
    call.room = half_room(call.classes, call.inner) if cnp.PyArray_ITEMSIZE(out) == 2 else 0
    call.failed = False
    # whole tiles and cache lines of columns, of about 2^14 elements
    grain = (16384 // call.classes // 64 + 1) * 64 if call.classes < 1024 else 16 if call.inner > 1 else 1
    with nogil:
        if columns * call.classes < 65536:
            body(call, 0, columns)
        else:
            runtime.pool.parallel_for(columns, grain, body, call)
    if call.failed:
        raise MemoryError(f"no memory to work in: {call.room} bytes a thread")


def softmax(cnp.ndarray x, cnp.ndarray out) -> None:
    """y = e^x / sum of e^x along axis 1; `out` may be `x`."""
    cdef Call call
    call.forward = softmax_table(runtime.active_isa()).forward[0][dtype_index(runtime, x.descr.type_num)]
    call.first = cnp.PyArray_DATA(x)
    run(&call, out)


def log_softmax(cnp.ndarray x, cnp.ndarray out) -> None:
    """Write the logarithm of softmax; `out` may be `x`."""
    cdef Call call
    call.forward = softmax_table(runtime.active_isa()).forward[1][dtype_index(runtime, x.descr.type_num)]
    call.first = cnp.PyArray_DATA(x)
    run(&call, out)


def softmax_backward(cnp.ndarray dy, cnp.ndarray y, cnp.ndarray out) -> None:
    """dx = y (dy - sum of dy y along axis 1); `out` may be `dy` or `y`."""
    cdef Call call
    call.forward = NULL
    call.backward = softmax_table(runtime.active_isa()).backward[0][dtype_index(runtime, y.descr.type_num)]
    call.first, call.second = cnp.PyArray_DATA(dy), cnp.PyArray_DATA(y)
    run(&call, out)


def log_softmax_backward(cnp.ndarray dy, cnp.ndarray y, cnp.ndarray out) -> None:
    """dx = dy - e^y sum of dy along axis 1; `out` may be `dy` or `y`."""
    cdef Call call
    call.forward = NULL
    call.backward = softmax_table(runtime.active_isa()).backward[1][dtype_index(runtime, y.descr.type_num)]
    call.first, call.second = cnp.PyArray_DATA(dy), cnp.PyArray_DATA(y)
    run(&call, out)
