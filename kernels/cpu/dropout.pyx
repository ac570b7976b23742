# cython: language_level=3, freethreading_compatible=True, cdivision=True
"""The dropout family on contiguous arrays: random blocks, masks, and what a mask does to an array.

`first` is the number of the array's first element, `threshold` (1 to 65535) what an element's 16 random bits must reach
for it to be kept. An output may be the input.
"""
from cpython.object cimport PyObject
from cpython.pycapsule cimport PyCapsule_GetPointer, PyCapsule_New
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memset

cimport numpy as cnp

from runtime cimport Runtime, dtype_index, kRuntimeCapsule

import numpy as np

from fastnn.kernels.cpu.runtime import api

cnp.import_array()

cdef extern from "ndarray.hpp":
    bint ndarray_is_plain(PyObject*) nogil
    bint ndarray_same_type_and_shape(PyObject*, PyObject*) nogil
    bint ndarray_may_be_written(PyObject*, PyObject*) nogil

cdef extern from "streaming.hpp" namespace "fastnn_cpu" nogil:
    int64_t streaming_from()

cdef extern from "dropout.hpp" namespace "fastnn_cpu" nogil:
    struct Draw:
        uint64_t seed, offset
        uint32_t threshold
    struct Affine:
        double scale, shift, dropped
    struct Dropout:
        void (*scaled[4])(const void*, void*, int64_t, uint64_t, const Draw&, double, bint) noexcept nogil
        void (*affine[4])(const void*, void*, int64_t, uint64_t, const Draw&, const Affine&, bint) noexcept nogil
        void (*times[4])(const void*, void*, int64_t, double) noexcept nogil
        void (*mask)(unsigned char*, int64_t, uint64_t, const Draw&) noexcept nogil
        void (*blocks)(uint32_t*, int64_t, uint64_t, uint64_t, uint64_t) noexcept nogil
    const Dropout& dropout(int isa)
    const char[] kDropoutCapsule

cdef Runtime* runtime = <Runtime*> PyCapsule_GetPointer(api, kRuntimeCapsule)


cdef const Dropout* table(int isa) noexcept nogil:
    return &dropout(isa)

# For kernels that drop what they compute while it is in the cache: const Dropout* (*)(int isa).
loops = PyCapsule_New(<void*> table, kDropoutCapsule, NULL)

cdef int64_t chunk = 16 * 1024  # elements a thread takes at a time; a multiple of a block's
cdef int64_t parallel_from = 64 * 1024
cdef int64_t nogil_from = 2048

ctypedef void (*Body)(void*, int64_t, int64_t) noexcept nogil

cdef struct Job:
    const Dropout* loops
    int dtype, item
    const char* x
    char* y
    const unsigned char* kept  # of whole units
    int64_t inner  # elements of a unit
    uint64_t first
    Draw draw
    Affine formula
    bint streaming


cdef Job job_of(cnp.ndarray x, cnp.ndarray out):
    cdef Job job
    memset(&job, 0, sizeof(Job))
    job.loops = &dropout(runtime.active_isa())
    job.dtype = dtype_index(runtime, cnp.PyArray_TYPE(out))
    job.item = <int> cnp.PyArray_ITEMSIZE(out)
    job.x, job.y = cnp.PyArray_BYTES(x), cnp.PyArray_BYTES(out)
    job.streaming = job.x != job.y and out.nbytes >= streaming_from()
    return job


cdef void run(Body body, Job* job, int64_t n):
    if n < nogil_from:
        body(job, 0, n)
    else:
        with nogil:
            if n < parallel_from:
                body(job, 0, n)
            else:
                runtime.pool.parallel_for(n, chunk, body, job)


cdef void blocks_body(void* context, int64_t begin, int64_t end) noexcept nogil:
    cdef Job* job = <Job*> context
    job.loops.blocks(<uint32_t*> job.y + 4 * begin, end - begin, job.first + begin, job.draw.seed, job.draw.offset)


cdef void mask_body(void* context, int64_t begin, int64_t end) noexcept nogil:
    cdef Job* job = <Job*> context
    job.loops.mask(<unsigned char*> job.y + begin, end - begin, job.first + begin, job.draw)


cdef void scaled_body(void* context, int64_t begin, int64_t end) noexcept nogil:
    cdef Job* job = <Job*> context
    cdef int64_t at = begin * job.item
    job.loops.scaled[job.dtype](job.x + at, job.y + at, end - begin, job.first + begin, job.draw, job.formula.scale,
                                job.streaming)


cdef void affine_body(void* context, int64_t begin, int64_t end) noexcept nogil:
    cdef Job* job = <Job*> context
    cdef int64_t at = begin * job.item
    job.loops.affine[job.dtype](job.x + at, job.y + at, end - begin, job.first + begin, job.draw, job.formula,
                                job.streaming)


cdef void times_body(void* context, int64_t begin, int64_t end) noexcept nogil:
    cdef Job* job = <Job*> context
    cdef int64_t at = begin * job.item
    job.loops.times[job.dtype](job.x + at, job.y + at, end - begin, job.formula.scale)


cdef void units_body(void* context, int64_t begin, int64_t end) noexcept nogil:
    cdef Job* job = <Job*> context
    cdef int64_t unit = begin // job.inner, at = begin, stop
    while at < end:
        stop = min(end, (unit + 1) * job.inner)
        if job.kept[unit]:
            job.loops.times[job.dtype](job.x + at * job.item, job.y + at * job.item, stop - at, job.formula.scale)
        else:
            memset(job.y + at * job.item, 0, (stop - at) * job.item)
        unit, at = unit + 1, stop


def philox(cnp.ndarray words, uint64_t first, uint64_t seed, uint64_t offset) -> None:
    """The four words of each of the blocks first, first + 1 ... into an array of uint32 of shape (n, 4)."""
    cdef Job job
    memset(&job, 0, sizeof(Job))
    job.loops = &dropout(runtime.active_isa())
    job.y, job.first = cnp.PyArray_BYTES(words), first
    job.draw = Draw(seed, offset, 0)
    run(blocks_body, &job, words.shape[0])


def mask(cnp.ndarray kept, uint64_t first, uint32_t threshold, uint64_t seed, uint64_t offset) -> None:
    """Which elements are kept, into an array of bool."""
    cdef Job job
    memset(&job, 0, sizeof(Job))
    job.loops = &dropout(runtime.active_isa())
    job.y, job.first = cnp.PyArray_BYTES(kept), first
    job.draw = Draw(seed, offset, threshold)
    run(mask_body, &job, kept.size)


def scaled(cnp.ndarray x, cnp.ndarray out, uint64_t first, uint32_t threshold, double scale, uint64_t seed,
           uint64_t offset) -> None:
    """out = x scale where kept, 0 elsewhere."""
    cdef Job job = job_of(x, out)
    job.first, job.draw, job.formula.scale = first, Draw(seed, offset, threshold), scale
    run(scaled_body, &job, out.size)


def affine(cnp.ndarray x, cnp.ndarray out, uint64_t first, uint32_t threshold, double scale, double shift,
           double dropped, uint64_t seed, uint64_t offset) -> None:
    """out = scale x + shift where kept, `dropped` elsewhere."""
    cdef Job job = job_of(x, out)
    job.first, job.draw, job.formula = first, Draw(seed, offset, threshold), Affine(scale, shift, dropped)
    run(affine_body, &job, out.size)


def units(cnp.ndarray x, cnp.ndarray out, int64_t inner, uint64_t first, uint32_t threshold, double scale,
          uint64_t seed, uint64_t offset) -> None:
    """The same as `scaled` for units of `inner` elements that are kept or dropped as a whole; `first` counts units."""
    cdef Job job = job_of(x, out)
    cdef cnp.ndarray kept
    if out.size == 0:
        return
    kept = np.empty(out.size // inner, np.bool_)
    mask(kept, first, threshold, seed, offset)
    job.kept, job.inner, job.formula.scale = <const unsigned char*> cnp.PyArray_BYTES(kept), inner, scale
    run(units_body, &job, out.size)


def times(cnp.ndarray x, cnp.ndarray out, double scale) -> None:
    """out = x scale."""
    cdef Job job = job_of(x, out)
    job.formula.scale = scale
    run(times_body, &job, out.size)


cdef inline bint is_word(object value, object bound):
    return type(value) is int and 0 <= value < bound


cdef object two_to_the_64 = 2**64, two_to_the_63 = 2**63


def _short(x, int axes, uint32_t threshold, double scale, seed, offset, start, out):
    """`scaled`, or `units` of what is behind so many axes, of arguments that need no look at what is wrong with them; else None."""
    cdef int64_t inner = 1
    cdef int k
    if not ndarray_is_plain(<PyObject*> x) or dtype_index(runtime, cnp.PyArray_TYPE(x)) < 0 or cnp.PyArray_NDIM(x) < axes:
        return None
    if not (is_word(seed, two_to_the_64) and is_word(offset, two_to_the_64) and is_word(start, two_to_the_63)):
        return None
    if out is None:
        out = cnp.PyArray_EMPTY(cnp.PyArray_NDIM(x), cnp.PyArray_DIMS(x), cnp.PyArray_TYPE(x), 0)
    elif not (ndarray_is_plain(<PyObject*> out) and ndarray_same_type_and_shape(<PyObject*> out, <PyObject*> x)
              and ndarray_may_be_written(<PyObject*> out, <PyObject*> x)):
        return None
    if axes == 0:
        scaled(x, out, start, threshold, scale, seed, offset)
    else:
        for k in range(axes, cnp.PyArray_NDIM(x)):
            inner *= cnp.PyArray_DIM(x, k)
        units(x, out, inner, start, threshold, scale, seed, offset)
    return out
