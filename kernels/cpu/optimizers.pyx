# cython: language_level=3, freethreading_compatible=True
"""Steps of the optimisers, in place on contiguous arrays of one shape, and what clipping gradients by their norm takes."""
from cpython.object cimport PyObject
from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.math cimport isinf, pow, sqrt
from libc.stdint cimport int64_t

cimport numpy as cnp

from runtime cimport Runtime, dtype_float64, dtype_index, kRuntimeCapsule

import numpy as np

from fastnn.kernels.cpu.runtime import api

cnp.import_array()

cdef extern from "ndarray.hpp":
    bint ndarray_is_plain(PyObject*) nogil
    bint ndarray_is_writeable(PyObject*) nogil
    bint ndarray_same_shape(PyObject*, PyObject*) nogil
    bint ndarray_disjoint(PyObject*, PyObject*) nogil
    int ndarray_type(PyObject*) nogil
    int64_t ndarray_size(PyObject*) nogil
    char* ndarray_data(PyObject*) nogil

cdef extern from "optimizers.hpp" namespace "fastnn_optimizer" nogil:
    struct sgd_settings:
        double lr, momentum, dampening, weight_decay
        int nesterov, first, maximize
    struct rmsprop_settings:
        double lr, alpha, eps, weight_decay, momentum
        int centered, maximize
    struct adam_settings:
        double lr, beta1, beta2, eps, weight_decay, correction1, root_correction2
        int decoupled, amsgrad, maximize

ctypedef void (*Step)(void* const*, int64_t, int64_t, const void*) noexcept nogil
ctypedef double (*PowerSum)(const void*, int64_t, double) noexcept nogil
ctypedef void (*Scale)(void*, int64_t, int64_t, double) noexcept nogil

cdef extern from "optimizers.hpp" namespace "fastnn_cpu" nogil:
    cdef enum:
        optimizer_sgd, optimizer_rmsprop, optimizer_adam
    struct Optimizers:
        Step step[3][4]
        PowerSum power_sum[4]
        Scale scale[4]
    const Optimizers& optimizers(int isa)

cdef Runtime* runtime = <Runtime*> PyCapsule_GetPointer(api, kRuntimeCapsule)

cdef int64_t chunk = 16 * 1024  # elements a thread takes at a time
cdef int64_t parallel_from = 64 * 1024
cdef int64_t nogil_from = 4096

cdef struct Job:
    void* arrays[5]
    const void* settings
    Step step
    Scale rescale
    PowerSum sum_powers
    double number
    double* partial


cdef void step_body(void* context, int64_t begin, int64_t end) noexcept nogil:
    cdef Job* job = <Job*> context
    job.step(job.arrays, begin, end, job.settings)


cdef void run(int optimizer, const void* settings, object param, object grad, object first, object second, object third):
    cdef Job job
    cdef int dtype = dtype_index(runtime, ndarray_type(<PyObject*> param))
    cdef int64_t n = ndarray_size(<PyObject*> param)
    job.settings = settings
    job.step = optimizers(runtime.active_isa()).step[optimizer][dtype]
    job.arrays[0] = ndarray_data(<PyObject*> param)
    job.arrays[1] = ndarray_data(<PyObject*> grad)
    job.arrays[2] = NULL if first is None else ndarray_data(<PyObject*> first)
    job.arrays[3] = NULL if second is None else ndarray_data(<PyObject*> second)
    job.arrays[4] = NULL if third is None else ndarray_data(<PyObject*> third)
    if n < nogil_from:
        step_body(&job, 0, n)
    else:
        with nogil:
            if n < parallel_from:
                step_body(&job, 0, n)
            else:
                runtime.pool.parallel_for(n, chunk, step_body, &job)


def sgd(param, grad, velocity, double lr, double momentum, double dampening, double weight_decay, bint nesterov,
        bint first, bint maximize) -> None:
    """One step; velocity is None where momentum is 0."""
    cdef sgd_settings s = sgd_settings(lr, momentum, dampening, weight_decay, nesterov, first, maximize)
    run(optimizer_sgd, &s, param, grad, velocity, None, None)


def rmsprop(param, grad, square_avg, grad_avg, velocity, double lr, double alpha, double eps, double weight_decay,
            double momentum, bint maximize) -> None:
    """One step; grad_avg is None unless it is to be centred, velocity where momentum is 0."""
    cdef rmsprop_settings s = rmsprop_settings(lr, alpha, eps, weight_decay, momentum, grad_avg is not None, maximize)
    run(optimizer_rmsprop, &s, param, grad, square_avg, grad_avg, velocity)


def adam(param, grad, exp_avg, exp_avg_sq, max_exp_avg_sq, double step, double lr, double beta1, double beta2,
         double eps, double weight_decay, bint decoupled, bint maximize) -> None:
    """One step of Adam, of AdamW where decoupled, with amsgrad unless max_exp_avg_sq is None."""
    cdef adam_settings s = adam_settings(lr, beta1, beta2, eps, weight_decay, 1 - pow(beta1, step),
                                         sqrt(1 - pow(beta2, step)), decoupled, max_exp_avg_sq is not None, maximize)
    run(optimizer_adam, &s, param, grad, exp_avg, exp_avg_sq, max_exp_avg_sq)


cdef void power_sum_body(void* context, int64_t begin, int64_t end) noexcept nogil:
    cdef Job* job = <Job*> context
    cdef char* first = <char*> job.arrays[0] + begin * <int64_t> job.arrays[1]
    job.partial[begin // chunk] = job.sum_powers(first, end - begin, job.number)


def power_sum(x, double p) -> float:
    """The sum of |x|^p over all elements, in double; for p = infinity the largest |x|."""
    cdef Job job
    cdef int dtype = dtype_index(runtime, ndarray_type(<PyObject*> x))
    cdef int64_t n = ndarray_size(<PyObject*> x), chunks = (n + chunk - 1) // chunk, k
    cdef double* partial
    cdef double result = 0
    job.number = p
    job.sum_powers = optimizers(runtime.active_isa()).power_sum[dtype]
    if n <= chunk:
        with nogil:
            result = job.sum_powers(ndarray_data(<PyObject*> x), n, p)
        return result
    sums = np.empty(chunks)
    partial = <double*> ndarray_data(<PyObject*> sums)
    job.partial = partial
    job.arrays[0] = ndarray_data(<PyObject*> x)
    job.arrays[1] = <void*> <int64_t> x.itemsize
    with nogil:
        if n < parallel_from:
            for k in range(chunks):
                power_sum_body(&job, k * chunk, min(n, (k + 1) * chunk))
        else:
            runtime.pool.parallel_for(n, chunk, power_sum_body, &job)
        for k in range(chunks):
            if not isinf(p):
                result += partial[k]
            elif result == result and not partial[k] <= result:
                result = partial[k]
    return result


cdef void scale_body(void* context, int64_t begin, int64_t end) noexcept nogil:
    cdef Job* job = <Job*> context
    job.rescale(job.arrays[0], begin, end, job.number)


def scale(x, double factor) -> None:
    """Multiply x by a factor, in place."""
    cdef Job job
    cdef int64_t n = ndarray_size(<PyObject*> x)
    job.rescale = optimizers(runtime.active_isa()).scale[dtype_index(runtime, ndarray_type(<PyObject*> x))]
    job.arrays[0] = ndarray_data(<PyObject*> x)
    job.number = factor
    with nogil:
        if n < parallel_from:
            scale_body(&job, 0, n)
        else:
            runtime.pool.parallel_for(n, chunk, scale_body, &job)


def _plain(param, grad, tuple states) -> bool:
    """Are these arrays as a step needs them, without a look at why not? States may be None."""
    cdef PyObject* arrays[5]
    cdef PyObject* each
    cdef int count = 2, dtype, wanted, i, j
    if len(states) > 3 or not (ndarray_is_plain(<PyObject*> param) and ndarray_is_plain(<PyObject*> grad)):
        return False
    arrays[0], arrays[1] = <PyObject*> param, <PyObject*> grad
    dtype = dtype_index(runtime, ndarray_type(<PyObject*> param))
    if dtype < 0 or ndarray_type(<PyObject*> grad) != ndarray_type(<PyObject*> param):
        return False
    wanted = cnp.NPY_DOUBLE if dtype == dtype_float64 else cnp.NPY_FLOAT
    for state in states:
        if state is not None:
            if not ndarray_is_plain(<PyObject*> state) or ndarray_type(<PyObject*> state) != wanted:
                return False
            arrays[count] = <PyObject*> state
            count += 1
    for i in range(count):
        each = arrays[i]
        if not ndarray_same_shape(each, arrays[0]) or i != 1 and not ndarray_is_writeable(each):
            return False
        for j in range(i):
            if not ndarray_disjoint(each, arrays[j]):
                return False
    return True
