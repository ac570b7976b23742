# cython: language_level=3, freethreading_compatible=True, cdivision=True
"""Augmentation of batches of images, on contiguous arrays."""
from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.stdint cimport int32_t, int64_t

cimport numpy as cnp

from runtime cimport Runtime, dtype_float64, dtype_index, kRuntimeCapsule

from fastnn.kernels.cpu.runtime import api

cnp.import_array()

cdef extern from "streaming.hpp" namespace "fastnn_cpu" nogil:
    int64_t streaming_from()

cdef extern from "augmentation.hpp" namespace "fastnn_cpu" nogil:
    struct Cutout:
        int64_t channels, height, width
        const int64_t* boxes
        const void* fill
    struct Frame:
        int64_t channels, height, width, rows, columns
        const void* fill
    struct Resampling:
        const int32_t* rows
        const int32_t* columns
        const void* row_weights
        const void* column_weights
        int64_t row_taps, column_taps
        void* scratch
    struct Augmentation:
        void (*mix[4])(const void*, const void*, void*, int64_t, double, bint) noexcept nogil
        void (*cutout[4])(const void*, void*, int64_t, int64_t, const Cutout&) noexcept nogil
        void (*crop[2])(const void*, void*, int64_t, const Frame&, const int64_t*) noexcept nogil
        void (*warp[2])(const void*, void*, int64_t, const Frame&, const double*) noexcept nogil
        void (*resize[2])(const void*, void*, int64_t, const Frame&, const Resampling&) noexcept nogil
    const Augmentation& augmentation(int isa)

cdef Runtime* runtime = <Runtime*> PyCapsule_GetPointer(api, kRuntimeCapsule)

cdef int64_t chunk = 16 * 1024  # elements a thread takes at a time
cdef int64_t parallel_from = 128 * 1024

cdef struct MixJob:
    const Augmentation* loops
    int dtype, item
    const char* x
    char* y
    const int64_t* permutation
    const void* weights
    int64_t inner
    bint streaming

cdef struct CutoutJob:
    const Augmentation* loops
    int dtype
    const void* x
    void* y
    Cutout cutout

cdef struct FrameJob:
    const Augmentation* loops
    int dtype
    const void* x
    void* y
    Frame frame


cdef void mix_body(void* context, int64_t begin, int64_t end) noexcept nogil:
    cdef MixJob* job = <MixJob*> context
    cdef int64_t sample = begin // job.inner, at = begin, stop, other
    cdef double weight
    while at < end:
        stop = min(end, (sample + 1) * job.inner)
        other = at + (job.permutation[sample] - sample) * job.inner
        weight = (<const double*> job.weights)[sample] if job.dtype == dtype_float64 else (<const float*> job.weights)[sample]
        job.loops.mix[job.dtype](job.x + at * job.item, job.x + other * job.item, job.y + at * job.item, stop - at, weight,
                                 job.streaming)
        sample, at = sample + 1, stop


cdef void cutout_body(void* context, int64_t begin, int64_t end) noexcept nogil:
    cdef CutoutJob* job = <CutoutJob*> context
    job.loops.cutout[job.dtype](job.x, job.y, begin, end, job.cutout)


cdef FrameJob frame_job(cnp.ndarray x, cnp.ndarray out, cnp.ndarray fill):
    cdef FrameJob job
    job.loops = &augmentation(runtime.active_isa())
    job.dtype = dtype_index(runtime, cnp.PyArray_TYPE(out))
    job.x, job.y = cnp.PyArray_DATA(x), cnp.PyArray_DATA(out)
    job.frame = Frame(x.shape[1], x.shape[2], x.shape[3], out.shape[2], out.shape[3], cnp.PyArray_DATA(fill))
    return job


def mix(cnp.ndarray x, cnp.ndarray permutation, cnp.ndarray weights, cnp.ndarray out) -> None:
    """out[n] = weights[n] x[n] + (1 - weights[n]) x[permutation[n]]; out lies apart from x."""
    cdef MixJob job
    cdef int64_t n = out.size
    if n == 0:
        return
    job.loops = &augmentation(runtime.active_isa())
    job.dtype, job.item = dtype_index(runtime, cnp.PyArray_TYPE(out)), <int> cnp.PyArray_ITEMSIZE(out)
    job.x, job.y = cnp.PyArray_BYTES(x), cnp.PyArray_BYTES(out)
    job.permutation, job.weights = <const int64_t*> cnp.PyArray_DATA(permutation), cnp.PyArray_DATA(weights)
    job.inner = n // out.shape[0]
    job.streaming = out.nbytes >= streaming_from()
    with nogil:
        if n < parallel_from:
            mix_body(&job, 0, n)
        else:
            runtime.pool.parallel_for(n, chunk, mix_body, &job)


def cutout(cnp.ndarray x, cnp.ndarray out, cnp.ndarray boxes, cnp.ndarray fill) -> None:
    """out = x (N, C, H, W), except `fill` in each sample's box (top, bottom, left, right); out may be x."""
    cdef CutoutJob job
    cdef int64_t planes = out.shape[0] * out.shape[1], size = out.shape[2] * out.shape[3]
    if out.size == 0:
        return
    job.loops = &augmentation(runtime.active_isa())
    job.dtype = dtype_index(runtime, cnp.PyArray_TYPE(out))
    job.x, job.y = cnp.PyArray_DATA(x), cnp.PyArray_DATA(out)
    job.cutout = Cutout(out.shape[1], out.shape[2], out.shape[3], <const int64_t*> cnp.PyArray_DATA(boxes),
                        cnp.PyArray_DATA(fill))
    with nogil:
        if planes * size < parallel_from:
            cutout_body(&job, 0, planes)
        else:
            runtime.pool.parallel_for(planes, chunk // size + 1, cutout_body, &job)


# What follows runs on the calling thread alone, that of a loader: were it to take the pool, the network that trains
# meanwhile would have to do without.

def crop(cnp.ndarray x, cnp.ndarray out, cnp.ndarray places, cnp.ndarray fill) -> None:
    """out[n] = the piece of x[n], of float32 or float64, from row places[n, 0] and column places[n, 1] on, as large as
    out[n], `fill` outside of the image; mirrored left to right where places[n, 2] is not 0. out lies apart from x.
    """
    cdef FrameJob job
    cdef int64_t planes = out.shape[0] * out.shape[1]
    cdef const int64_t* first = <const int64_t*> cnp.PyArray_DATA(places)
    if out.size == 0:
        return
    job = frame_job(x, out, fill)
    with nogil:
        job.loops.crop[job.dtype](job.x, job.y, planes, job.frame, first)


def warp(cnp.ndarray x, cnp.ndarray out, cnp.ndarray maps, cnp.ndarray fill) -> None:
    """out[n], of float32 or float64, is looked up in x[n], between four pixels, `fill` outside; out lies apart from x.

    With (u, v) the column and row of a pixel, counted from the middle of out[n], and (a, b, c, d, e, f, k) = maps[n]:
    column (a u + b v) s + e and row (c u + d v) s + f of x[n], where s = 1 + k (u^2 + v^2).
    """
    cdef FrameJob job
    cdef int64_t lines = out.shape[0] * out.shape[2]
    cdef const double* first = <const double*> cnp.PyArray_DATA(maps)
    if out.size == 0:
        return
    job = frame_job(x, out, fill)
    with nogil:
        job.loops.warp[job.dtype](job.x, job.y, lines, job.frame, first)


def resize(cnp.ndarray x, cnp.ndarray out, cnp.ndarray rows, cnp.ndarray row_weights, cnp.ndarray columns,
           cnp.ndarray column_weights) -> None:
    """out[n, :, i, j], of float32 or float64, is the sum over s and t of row_weights[n, s, i] column_weights[n, t, j]
    x[n, :, rows[n, i] + s, columns[n, j] + t]; rows rise, and everything lies within x.
    """
    cdef FrameJob job
    cdef Resampling resampling
    cdef int64_t planes = out.shape[0] * out.shape[1]
    cdef cnp.npy_intp shape[2]
    cdef cnp.ndarray scratch
    if out.size == 0:
        return
    job = frame_job(x, out, x)
    shape[0], shape[1] = job.frame.height, job.frame.columns
    scratch = cnp.PyArray_EMPTY(2, shape, cnp.PyArray_TYPE(out), 0)
    resampling = Resampling(<const int32_t*> cnp.PyArray_DATA(rows), <const int32_t*> cnp.PyArray_DATA(columns),
                            cnp.PyArray_DATA(row_weights), cnp.PyArray_DATA(column_weights),
                            row_weights.shape[1], column_weights.shape[1], cnp.PyArray_DATA(scratch))
    with nogil:
        job.loops.resize[job.dtype](job.x, job.y, planes, job.frame, resampling)
