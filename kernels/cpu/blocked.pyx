# cython: language_level=3, freethreading_compatible=True
"""Convolutions and pools of images whose channels lie in blocks of 16: fastnn.kernels.blocks makes them of what is told."""
from cpython.object cimport PyObject
from cpython.pycapsule cimport PyCapsule_GetPointer, PyCapsule_New
from libc.stdint cimport int64_t
from libc.string cimport memcpy
from libcpp cimport bool as cbool

cimport numpy as cnp

from runtime cimport Loop, Runtime, isa_count, kRuntimeCapsule, max_isas, pass_forward

from fastnn.kernels.cpu.runtime import api

cnp.import_array()

cdef extern from "blocked_run.hpp" namespace "fastnn_cpu" nogil:
    struct Blocked:
        const float* weight
        const float* bias
        const double* counts[2]
        const void* parameter[4]
        int parameters, kind
        float low, high
        cbool planes, pool
        int64_t images
        long long* tap
    struct Operation:
        cbool (*run)(const Operation*, void* const*) noexcept nogil
    const char[] kOperationCapsule
    struct BlockedStep:
        Operation operation
        Blocked job
        cbool adds
        Loop loops[max_isas]
        const Runtime* runtime
    void plan_step(BlockedStep&)

cdef extern from "ndarray.hpp":
    char* ndarray_data(PyObject*) nogil

cdef Runtime* runtime = <Runtime*> PyCapsule_GetPointer(api, kRuntimeCapsule)
cdef inline float* data(object array):
    return <float*> (NULL if array is None else ndarray_data(<PyObject*> array))


cdef class Step:
    """One step with everything known but the arrays. `operation`, of program.hpp, runs it."""
    cdef BlockedStep step
    cdef float parameters[4]
    cdef object kept
    cdef readonly object operation

    def __init__(self, int kind, geometry, bint planes, bint pool, bint adds, taps, weight, bias, row_counts, col_counts,
                 float low, float high, activation):
        """geometry: the 16 numbers of blocked.hpp from `images` to `dilation`, int64; taps: int64, one for each element of
        the kernel; activation: a name in bytes and its parameters, float32; or None. Arrays are kept, not copied.
        """
        cdef int isa, k
        cdef const char* name
        cdef Blocked* job = &self.step.job
        self.kept = taps, weight, bias, row_counts, col_counts
        job.kind, job.planes, job.pool, job.low, job.high = kind, planes, pool, low, high
        memcpy(&job.images, data(geometry), 16 * sizeof(int64_t))
        job.tap, job.weight, job.bias = <long long*> data(taps), data(weight), data(bias)
        job.counts[0], job.counts[1] = <const double*> data(row_counts), <const double*> data(col_counts)
        if activation is not None:
            name = activation[0]
            for isa in range(isa_count()):
                self.step.loops[isa] = runtime.activation_loop(isa, name, pass_forward, 0)
            job.parameters = len(activation[1])
            memcpy(self.parameters, data(activation[1]), job.parameters * sizeof(float))
            for k in range(job.parameters):
                job.parameter[k] = &self.parameters[k]
        self.step.adds, self.step.runtime = adds, runtime
        plan_step(self.step)
        self.operation = PyCapsule_New(&self.step, kOperationCapsule, NULL)
