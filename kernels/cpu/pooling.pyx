# cython: language_level=3, freethreading_compatible=True
"""The native backend of pooling.

Arrays are C-contiguous and checked: x and dx (planes, depth, height, width), y and dy likewise. `windows` are three
tuples (in, out, kernel, stride, before, dilation), one a spatial axis; `counts`, `starts` and `stops` three arrays.
"""
from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.stdint cimport int64_t
from libcpp cimport bool as cbool

cimport numpy as cnp

from pool cimport PoolApi
from runtime cimport Runtime, dtype_count, dtype_index, kRuntimeCapsule

import numpy as np

from fastnn.kernels.cpu.runtime import api

cnp.import_array()

cdef extern from "pooling.hpp" namespace "fastnn_cpu" nogil:
    struct WindowAxis:
        int64_t inputs "in"
        int64_t out, kernel, stride, before, dilation
    struct Windows:
        int64_t planes
        WindowAxis axis[3]
        const double* counts[3]
        cbool even_width
    struct RegionAxis:
        int64_t inputs "in"
        int64_t out
        const int64_t* start
        const int64_t* stop
        const double* count
        int64_t step
    struct Regions:
        int64_t planes
        RegionAxis axis[3]

ctypedef void (*max_windows_loop)(const void*, void*, int64_t*, const Windows&, int64_t, int64_t) noexcept nogil
ctypedef void (*max_regions_loop)(const void*, void*, int64_t*, const Regions&, int64_t, int64_t) noexcept nogil
ctypedef cbool (*max_backward_loop)(const void*, const int64_t*, void*, int64_t, int64_t, int64_t, int64_t) noexcept nogil
ctypedef void (*windows_loop)(const void*, void*, const Windows&, int64_t, int64_t) noexcept nogil
ctypedef void (*regions_loop)(const void*, void*, const Regions&, int64_t, int64_t) noexcept nogil
ctypedef void (*whole_loop)(const void*, void*, int64_t, int64_t, int64_t) noexcept nogil

cdef extern from "pooling.hpp" namespace "fastnn_cpu" nogil:
    struct MaxPooling:
        max_windows_loop windows[4]
        max_regions_loop regions[4]
        max_backward_loop backward[4]
    struct AveragePooling:
        windows_loop windows[4]
        windows_loop windows_backward[4]
        regions_loop regions[4]
        regions_loop regions_backward[4]
        whole_loop whole[4]
        whole_loop whole_backward[4]
    const MaxPooling& max_pooling(int isa)
    const AveragePooling& average_pooling(int isa)

cdef Runtime* runtime = <Runtime*> PyCapsule_GetPointer(api, kRuntimeCapsule)

# Elements (of the larger array) that a thread takes at a time, and from which on a second thread pays.
cdef int64_t chunk = 16 * 1024, parallel_from = 128 * 1024


# What the threads need to know of a call; each kind of loop uses its part.
cdef struct Job:
    const void* source
    void* to
    int64_t* where
    Windows windows
    Regions regions
    int64_t outputs, inputs
    max_windows_loop max_windows
    max_regions_loop max_regions
    max_backward_loop max_backward
    windows_loop by_windows
    regions_loop by_regions
    whole_loop whole
    cbool failed


cdef void max_windows_body(void* context, int64_t begin, int64_t end) noexcept nogil:
    cdef Job* job = <Job*> context
    job.max_windows(job.source, job.to, job.where, job.windows, begin, end)


cdef void max_regions_body(void* context, int64_t begin, int64_t end) noexcept nogil:
    cdef Job* job = <Job*> context
    job.max_regions(job.source, job.to, job.where, job.regions, begin, end)


cdef void max_backward_body(void* context, int64_t begin, int64_t end) noexcept nogil:
    cdef Job* job = <Job*> context
    if not job.max_backward(job.source, job.where, job.to, job.outputs, job.inputs, begin, end):
        job.failed = True


cdef void windows_body(void* context, int64_t begin, int64_t end) noexcept nogil:
    cdef Job* job = <Job*> context
    job.by_windows(job.source, job.to, job.windows, begin, end)


cdef void regions_body(void* context, int64_t begin, int64_t end) noexcept nogil:
    cdef Job* job = <Job*> context
    job.by_regions(job.source, job.to, job.regions, begin, end)


cdef void whole_body(void* context, int64_t begin, int64_t end) noexcept nogil:
    cdef Job* job = <Job*> context
    job.whole(job.source, job.to, job.inputs, begin, end)


cdef void run(Job* job, int64_t planes, int64_t size, void (*body)(void*, int64_t, int64_t) noexcept nogil) noexcept nogil:
    """Every plane once; `size` is what a plane has of elements."""
    cdef int64_t grain = max(1, chunk // size)
    if planes == 0:
        return
    if planes * size < parallel_from:
        body(job, 0, planes)
    else:
        runtime.pool.parallel_for(planes, grain, body, job)


cdef int dtype_of(cnp.ndarray array):
    return dtype_index(runtime, cnp.PyArray_TYPE(array))


cdef int64_t plane_size(cnp.ndarray array):
    """The elements of a plane; the first axis counts planes."""
    cdef int64_t size = 1
    cdef int i
    for i in range(1, array.ndim):
        size *= array.shape[i]
    return size


cdef void fill_windows(Windows* to, int64_t planes, tuple windows):
    cdef int i
    to.planes = planes
    to.even_width = True
    for i, (inputs, out, kernel, stride, before, dilation) in enumerate(windows):
        to.axis[i].inputs, to.axis[i].out, to.axis[i].kernel = inputs, out, kernel
        to.axis[i].stride, to.axis[i].before, to.axis[i].dilation = stride, before, dilation
        to.counts[i] = NULL


cdef tuple fill_counts(Windows* to, tuple counts):
    """The arrays that are pointed to, each with room for the last vector."""
    cdef int i
    cdef cnp.ndarray array
    padded = tuple([np.concatenate([count, np.ones(16)]) for count in counts])
    for i, array in enumerate(padded):
        to.counts[i] = <const double*> cnp.PyArray_DATA(array)
    to.even_width = bool((counts[2] == counts[2][0]).all())
    return padded


cdef list fill_regions(Regions* to, cnp.ndarray x, tuple starts, tuple stops):
    """The arrays that are pointed to. Each has one row for all planes, or one for each."""
    cdef int i
    cdef cnp.ndarray start, stop, count
    kept = []
    to.planes = x.shape[0]
    for i in range(3):
        start, stop = starts[i], stops[i]
        count = (stop - start).astype(np.float64)
        to.axis[i].inputs, to.axis[i].out = x.shape[i + 1], start.shape[1]
        to.axis[i].start = <const int64_t*> cnp.PyArray_DATA(start)
        to.axis[i].stop = <const int64_t*> cnp.PyArray_DATA(stop)
        to.axis[i].count = <const double*> cnp.PyArray_DATA(count)
        to.axis[i].step = start.shape[1] if start.shape[0] > 1 else 0
        kept.append((start, stop, count))
    return kept


cdef int64_t* positions(object where):
    if where is None:
        return NULL
    return <int64_t*> cnp.PyArray_DATA(<cnp.ndarray> where)


def max_windows(cnp.ndarray x, cnp.ndarray y, object where, tuple windows) -> None:
    """Maxima over windows, and their positions in the plane, int64, where wanted."""
    cdef Job job
    cdef int64_t planes = x.shape[0], size = plane_size(x)
    job.source, job.to, job.where = cnp.PyArray_DATA(x), cnp.PyArray_DATA(y), positions(where)
    fill_windows(&job.windows, planes, windows)
    job.max_windows = max_pooling(runtime.active_isa()).windows[dtype_of(x)]
    with nogil:
        run(&job, planes, size, max_windows_body)


def max_regions(cnp.ndarray x, cnp.ndarray y, object where, tuple starts, tuple stops) -> None:
    """Maxima over regions, and their positions in the plane, int64, where wanted."""
    cdef Job job
    cdef int64_t planes = x.shape[0], size = plane_size(x)
    job.source, job.to, job.where = cnp.PyArray_DATA(x), cnp.PyArray_DATA(y), positions(where)
    kept = fill_regions(&job.regions, x, starts, stops)
    job.max_regions = max_pooling(runtime.active_isa()).regions[dtype_of(x)]
    with nogil:
        run(&job, planes, size, max_regions_body)


def max_backward(cnp.ndarray dy, cnp.ndarray where, cnp.ndarray dx) -> bool:
    """dx = 0, then dx[where] += dy, plane by plane. False if a position is outside of its plane."""
    cdef Job job
    cdef int64_t planes = dx.shape[0]
    job.source, job.to, job.where = cnp.PyArray_DATA(dy), cnp.PyArray_DATA(dx), positions(where)
    job.outputs, job.inputs, job.failed = plane_size(dy), plane_size(dx), False
    job.max_backward = max_pooling(runtime.active_isa()).backward[dtype_of(dx)]
    with nogil:
        run(&job, planes, job.inputs, max_backward_body)
    return not job.failed


def average_windows(cnp.ndarray x, cnp.ndarray y, tuple windows, tuple counts) -> None:
    """Averages over windows: sums divided by counts[0][d] * counts[1][h] * counts[2][w]."""
    cdef Job job
    cdef int64_t planes = x.shape[0], size = plane_size(x)
    job.source, job.to = cnp.PyArray_DATA(x), cnp.PyArray_DATA(y)
    fill_windows(&job.windows, planes, windows)
    kept = fill_counts(&job.windows, counts)
    job.by_windows = average_pooling(runtime.active_isa()).windows[dtype_of(x)]
    with nogil:
        run(&job, planes, size, windows_body)


def average_windows_backward(cnp.ndarray dy, cnp.ndarray dx, tuple windows, tuple counts) -> None:
    """The gradient of average_windows."""
    cdef Job job
    cdef int64_t planes = dx.shape[0], size = plane_size(dx)
    job.source, job.to = cnp.PyArray_DATA(dy), cnp.PyArray_DATA(dx)
    fill_windows(&job.windows, planes, windows)
    kept = fill_counts(&job.windows, counts)
    job.by_windows = average_pooling(runtime.active_isa()).windows_backward[dtype_of(dx)]
    with nogil:
        run(&job, planes, size, windows_body)


def average_regions(cnp.ndarray x, cnp.ndarray y, tuple starts, tuple stops) -> None:
    """Averages over regions, the same for every plane."""
    cdef Job job
    cdef int64_t planes = x.shape[0], size = plane_size(x)
    job.source, job.to = cnp.PyArray_DATA(x), cnp.PyArray_DATA(y)
    kept = fill_regions(&job.regions, x, starts, stops)
    job.by_regions = average_pooling(runtime.active_isa()).regions[dtype_of(x)]
    with nogil:
        run(&job, planes, size, regions_body)


def average_regions_backward(cnp.ndarray dy, cnp.ndarray dx, tuple starts, tuple stops) -> None:
    """The gradient of average_regions."""
    cdef Job job
    cdef int64_t planes = dx.shape[0], size = plane_size(dx)
    job.source, job.to = cnp.PyArray_DATA(dy), cnp.PyArray_DATA(dx)
    kept = fill_regions(&job.regions, dx, starts, stops)
    job.by_regions = average_pooling(runtime.active_isa()).regions_backward[dtype_of(dx)]
    with nogil:
        run(&job, planes, size, regions_body)


def average_whole(cnp.ndarray x, cnp.ndarray y) -> None:
    """The average of each plane of x; y has one element for each."""
    cdef Job job
    cdef int64_t planes = x.shape[0]
    job.source, job.to, job.inputs = cnp.PyArray_DATA(x), cnp.PyArray_DATA(y), plane_size(x)
    job.whole = average_pooling(runtime.active_isa()).whole[dtype_of(x)]
    with nogil:
        run(&job, planes, job.inputs, whole_body)


def average_whole_backward(cnp.ndarray dy, cnp.ndarray dx) -> None:
    """The gradient of average_whole."""
    cdef Job job
    cdef int64_t planes = dx.shape[0]
    job.source, job.to, job.inputs = cnp.PyArray_DATA(dy), cnp.PyArray_DATA(dx), plane_size(dx)
    job.whole = average_pooling(runtime.active_isa()).whole_backward[dtype_of(dx)]
    with nogil:
        run(&job, planes, job.inputs, whole_body)
