# cython: language_level=3, freethreading_compatible=True
"""What a training loop watches of activations, as reductions over contiguous arrays."""
from cpython.object cimport PyObject
from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.math cimport sqrt
from libc.stdint cimport int64_t
from libc.stdlib cimport free, malloc

cimport numpy as cnp

from runtime cimport Runtime, dtype_index, kRuntimeCapsule

import numpy as np

from fastnn.kernels.cpu.runtime import api

cnp.import_array()

cdef extern from "ndarray.hpp":
    int ndarray_type(PyObject*) nogil
    int64_t ndarray_size(PyObject*) nogil
    char* ndarray_data(PyObject*) nogil

ctypedef void (*DescribeLoop)(const void*, int64_t, const double*, Description*) noexcept nogil
ctypedef void (*InactiveLoop)(const void*, int64_t, int64_t, int64_t, int64_t, double*) noexcept nogil

cdef extern from "statistics.hpp" namespace "fastnn_cpu" nogil:
    const int64_t describe_block
    struct Description:
        double count, sum, squares, minimum, maximum, inactive, low, high
    struct Statistics:
        DescribeLoop describe[4]
        InactiveLoop inactive[4]
    const Statistics& statistics(int isa)
    void merge(Description&, const Description&)

cdef Runtime* runtime = <Runtime*> PyCapsule_GetPointer(api, kRuntimeCapsule)

cdef int64_t chunk = 8 * 2048  # elements a thread takes at a time: whole blocks
cdef int64_t parallel_from = 64 * 1024

cdef struct DescribeJob:
    const char* y
    int64_t item
    double bounds[4]
    DescribeLoop block
    Description* chunks


cdef void describe_body(void* context, int64_t begin, int64_t end) noexcept nogil:
    cdef DescribeJob* job = <DescribeJob*> context
    cdef Description* whole = &job.chunks[begin // chunk]
    cdef Description part
    cdef int64_t at = begin
    while at < end:
        job.block(job.y + at * job.item, min(describe_block, end - at), job.bounds, &part)
        if at == begin:
            whole[0] = part
        else:
            merge(whole[0], part)
        at += describe_block


def describe(y, bounds) -> tuple:
    """Mean, standard deviation, minimum, maximum, and how many elements are <= 0, in the first and in the second range.

    bounds: the ends of both ranges, four numbers. y has one element or more.
    """
    cdef DescribeJob job
    cdef Description* whole
    cdef int64_t n = ndarray_size(<PyObject*> y), k, chunks = (n + chunk - 1) // chunk
    job.y, job.item = ndarray_data(<PyObject*> y), y.itemsize
    job.bounds[0], job.bounds[1], job.bounds[2], job.bounds[3] = bounds
    job.block = statistics(runtime.active_isa()).describe[dtype_index(runtime, ndarray_type(<PyObject*> y))]
    job.chunks = whole = <Description*> malloc(chunks * sizeof(Description))
    if whole == NULL:
        raise MemoryError
    with nogil:
        if n < parallel_from:
            for k in range(chunks):
                describe_body(&job, k * chunk, min(n, (k + 1) * chunk))
        else:
            runtime.pool.parallel_for(n, chunk, describe_body, &job)
        for k in range(1, chunks):
            merge(whole[0], whole[k])
    try:
        return (whole.sum / n, sqrt(whole.squares / n), whole.minimum, whole.maximum, whole.inactive, whole.low, whole.high)
    finally:
        free(whole)


cdef struct InactiveJob:
    const void* y
    int64_t grain, channels, inner
    InactiveLoop count
    double* partial


cdef void inactive_body(void* context, int64_t begin, int64_t end) noexcept nogil:
    cdef InactiveJob* job = <InactiveJob*> context
    job.count(job.y, begin, end, job.channels, job.inner, job.partial + begin // job.grain * job.channels)


def inactive(y):
    """How many elements of each channel are <= 0: y has the axes (samples, channels, positions)."""
    cdef InactiveJob job
    cdef int64_t samples = y.shape[0], k, chunks
    job.channels, job.inner, job.y = y.shape[1], y.shape[2], ndarray_data(<PyObject*> y)
    job.count = statistics(runtime.active_isa()).inactive[dtype_index(runtime, ndarray_type(<PyObject*> y))]
    # At most 16 chunks, whatever the number of samples: each has counts of its own.
    job.grain = max((samples + 15) // 16, chunk // max(1, job.channels * job.inner) + 1)
    chunks = (samples + job.grain - 1) // job.grain
    partial = np.zeros((chunks, job.channels))
    job.partial = <double*> ndarray_data(<PyObject*> partial)
    with nogil:
        if samples * job.channels * job.inner < parallel_from:
            for k in range(chunks):
                inactive_body(&job, k * job.grain, min(samples, (k + 1) * job.grain))
        else:
            runtime.pool.parallel_for(samples, job.grain, inactive_body, &job)
    return np.sum(partial, axis=0)
