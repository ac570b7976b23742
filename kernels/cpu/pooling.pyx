# cython: language_level=3, freethreading_compatible=True
"""The native backend of pooling.

Arrays are C-contiguous and checked: (N, C, *spatial), so N C planes. `windows` is an array of three rows (in, out,
kernel, stride, before, dilation), one for each of depth, height and width; `counts`, `starts` and `stops` are three
arrays. 16 numbers that are not 0 follow those of `counts` in memory.
"""
from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.stdint cimport int64_t
from libc.string cimport memcpy
from libcpp cimport bool as cbool

cimport numpy as cnp

from pool cimport PoolApi
from runtime cimport Runtime, dtype_count, dtype_index, kRuntimeCapsule

from fastnn.kernels import halves
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
        max_windows_loop windows[2]
        max_regions_loop regions[4]
        max_backward_loop backward[4]
        cbool (*inside)(const int64_t*, int64_t, int64_t) noexcept nogil
    struct AveragePooling:
        windows_loop windows[2]
        windows_loop windows_backward[2]
        regions_loop regions[2]
        regions_loop regions_backward[2]
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


cdef int64_t plane_count(cnp.ndarray array):
    return array.shape[0] * array.shape[1]


cdef int64_t plane_size(cnp.ndarray array):
    """The elements of a plane."""
    cdef int64_t size = 1
    cdef int i
    for i in range(2, array.ndim):
        size *= array.shape[i]
    return size


cdef void fill_windows(Windows* to, int64_t planes, cnp.ndarray windows) noexcept:
    to.planes = planes
    memcpy(to.axis, cnp.PyArray_DATA(windows), sizeof(to.axis))


cdef void fill_counts(Windows* to, tuple counts):
    cdef int i
    cdef int64_t o
    for i in range(3):
        to.counts[i] = <const double*> cnp.PyArray_DATA(<cnp.ndarray> counts[i])
    to.even_width = True
    for o in range(1, to.axis[2].out):
        if to.counts[2][o] != to.counts[2][0]:
            to.even_width = False
            break


cdef void fill_regions(Regions* to, cnp.ndarray whole, tuple starts, tuple stops):
    """Bounds have one row for all planes, or one for each; `whole` is what they cut."""
    cdef int i, axis
    cdef cnp.ndarray start
    to.planes = plane_count(whole)
    for i in range(3):
        start, axis = starts[i], whole.ndim - 3 + i
        to.axis[i].inputs, to.axis[i].out = whole.shape[axis] if axis >= 2 else 1, start.shape[1]
        to.axis[i].start = <const int64_t*> cnp.PyArray_DATA(start)
        to.axis[i].stop = <const int64_t*> cnp.PyArray_DATA(<cnp.ndarray> stops[i])
        to.axis[i].step = start.shape[1] if start.shape[0] > 1 else 0


cdef int64_t* positions(object where):
    if where is None:
        return NULL
    return <int64_t*> cnp.PyArray_DATA(<cnp.ndarray> where)


def max_windows(cnp.ndarray x, cnp.ndarray y, object where, cnp.ndarray windows) -> None:
    """Maxima over windows, and their positions in the plane, int64, where wanted."""
    if x.itemsize == 2:
        return halves.by_planes(max_windows, x, y, (where,), windows)
    cdef Job job
    cdef int64_t planes = plane_count(x), size = plane_size(x)
    job.source, job.to, job.where = cnp.PyArray_DATA(x), cnp.PyArray_DATA(y), positions(where)
    fill_windows(&job.windows, planes, windows)
    job.max_windows = max_pooling(runtime.active_isa()).windows[dtype_of(x)]
    with nogil:
        run(&job, planes, size, max_windows_body)


def max_regions(cnp.ndarray x, cnp.ndarray y, object where, tuple starts, tuple stops) -> None:
    """Maxima over regions, and their positions in the plane, int64, where wanted."""
    cdef Job job
    cdef int64_t planes = plane_count(x), size = plane_size(x)
    job.source, job.to, job.where = cnp.PyArray_DATA(x), cnp.PyArray_DATA(y), positions(where)
    fill_regions(&job.regions, x, starts, stops)
    job.max_regions = max_pooling(runtime.active_isa()).regions[dtype_of(x)]
    with nogil:
        run(&job, planes, size, max_regions_body)


def max_backward(cnp.ndarray dy, cnp.ndarray where, cnp.ndarray dx) -> bool:
    """dx = 0, then dx[where] += dy, plane by plane. False if a position is outside of its plane."""
    cdef Job job
    cdef int64_t planes = plane_count(dx)
    job.source, job.to, job.where = cnp.PyArray_DATA(dy), cnp.PyArray_DATA(dx), positions(where)
    job.outputs, job.inputs, job.failed = plane_size(dy), plane_size(dx), False
    job.max_backward = max_pooling(runtime.active_isa()).backward[dtype_of(dx)]
    with nogil:
        run(&job, planes, job.inputs, max_backward_body)
    return not job.failed


def inside(cnp.ndarray where, int64_t size) -> bool:
    """Are all positions in a plane of so many elements?"""
    cdef const int64_t* at = positions(where)
    cdef int64_t n = cnp.PyArray_SIZE(where)
    cdef cbool found
    with nogil:
        found = max_pooling(runtime.active_isa()).inside(at, n, size)
    return found


def average_windows(cnp.ndarray x, cnp.ndarray y, cnp.ndarray windows, tuple counts) -> None:
    """Averages over windows: sums divided by counts[0][d] * counts[1][h] * counts[2][w]."""
    if x.itemsize == 2:
        return halves.by_planes(average_windows, x, y, (), windows, counts)
    cdef Job job
    cdef int64_t planes = plane_count(x), size = plane_size(x)
    job.source, job.to = cnp.PyArray_DATA(x), cnp.PyArray_DATA(y)
    fill_windows(&job.windows, planes, windows)
    fill_counts(&job.windows, counts)
    job.by_windows = average_pooling(runtime.active_isa()).windows[dtype_of(x)]
    with nogil:
        run(&job, planes, size, windows_body)


def average_windows_backward(cnp.ndarray dy, cnp.ndarray dx, cnp.ndarray windows, tuple counts) -> None:
    """The gradient of average_windows."""
    if dy.itemsize == 2:
        return halves.by_planes(average_windows_backward, dy, dx, (), windows, counts)
    cdef Job job
    cdef int64_t planes = plane_count(dx), size = plane_size(dx)
    job.source, job.to = cnp.PyArray_DATA(dy), cnp.PyArray_DATA(dx)
    fill_windows(&job.windows, planes, windows)
    fill_counts(&job.windows, counts)
    job.by_windows = average_pooling(runtime.active_isa()).windows_backward[dtype_of(dx)]
    with nogil:
        run(&job, planes, size, windows_body)


def average_regions(cnp.ndarray x, cnp.ndarray y, tuple starts, tuple stops) -> None:
    """Averages over regions, the same for every plane."""
    if x.itemsize == 2:
        return halves.by_planes(average_regions, x, y, (), starts, stops)
    cdef Job job
    cdef int64_t planes = plane_count(x), size = plane_size(x)
    job.source, job.to = cnp.PyArray_DATA(x), cnp.PyArray_DATA(y)
    fill_regions(&job.regions, x, starts, stops)
    job.by_regions = average_pooling(runtime.active_isa()).regions[dtype_of(x)]
    with nogil:
        run(&job, planes, size, regions_body)


def average_regions_backward(cnp.ndarray dy, cnp.ndarray dx, tuple starts, tuple stops) -> None:
    """The gradient of average_regions."""
    if dy.itemsize == 2:
        return halves.by_planes(average_regions_backward, dy, dx, (), starts, stops)
    cdef Job job
    cdef int64_t planes = plane_count(dx), size = plane_size(dx)
    job.source, job.to = cnp.PyArray_DATA(dy), cnp.PyArray_DATA(dx)
    fill_regions(&job.regions, dx, starts, stops)
    job.by_regions = average_pooling(runtime.active_isa()).regions_backward[dtype_of(dx)]
    with nogil:
        run(&job, planes, size, regions_body)


def average_whole(cnp.ndarray x, cnp.ndarray y) -> None:
    """The average of each plane of x."""
    cdef Job job
    cdef int64_t planes = plane_count(x)
    job.source, job.to, job.inputs = cnp.PyArray_DATA(x), cnp.PyArray_DATA(y), plane_size(x)
    job.whole = average_pooling(runtime.active_isa()).whole[dtype_of(x)]
    with nogil:
        run(&job, planes, job.inputs, whole_body)


def average_whole_backward(cnp.ndarray dy, cnp.ndarray dx) -> None:
    """The gradient of average_whole."""
    cdef Job job
    cdef int64_t planes = plane_count(dx)
    job.source, job.to, job.inputs = cnp.PyArray_DATA(dy), cnp.PyArray_DATA(dx), plane_size(dx)
    job.whole = average_pooling(runtime.active_isa()).whole_backward[dtype_of(dx)]
    with nogil:
        run(&job, planes, job.inputs, whole_body)
