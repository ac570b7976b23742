# cython: language_level=3, freethreading_compatible=True
"""The native backend of the normalisations. Arguments are checked, C-contiguous and aligned; fastnn/functions sees to that.

x[outer, channels, inner] is normalised by channel, x[samples, groups, channels, inner] by sample and group. gamma, beta and the
statistics have the dtype that is computed in; dropout is (threshold, scale, seed, offset), or None. Results go to the arrays given; y may be x, dx may be dy or x.
"""
from cpython.object cimport PyObject
from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.stdint cimport int64_t, uint32_t, uint64_t

cimport numpy as cnp

from pool cimport PoolApi
from runtime cimport Loop, Runtime, dtype_float32, dtype_float64, dtype_index, kRuntimeCapsule, pass_backward, pass_forward

import numpy as np

from fastnn.kernels.cpu import activations as _activations  # which tells the runtime of its loops
from fastnn.kernels.cpu.dropout import loops
from fastnn.kernels.cpu.runtime import api

cnp.import_array()

cdef double largest = np.finfo(np.float64).max, least = np.finfo(np.float64).smallest_subnormal

cdef extern from "ndarray.hpp":
    bint ndarray_is_plain(PyObject*) nogil
    bint ndarray_is(PyObject*, int, int, const cnp.npy_intp*) nogil
    bint ndarray_apart(PyObject* const*, int, int) nogil

cdef extern from "streaming.hpp" namespace "fastnn_cpu" nogil:
    int64_t streaming_from()

cdef extern from "dropout.hpp" namespace "fastnn_cpu" nogil:
    const char[] kDropoutCapsule
    struct Draw:
        uint64_t seed, offset
        uint32_t threshold

cdef extern from "normalization.hpp" namespace "fastnn_cpu" nogil:
    ctypedef void (*Dropped)(const void*, void*, int64_t, uint64_t, const Draw&, double, bint) noexcept nogil
    struct Dropout:
        Dropped scaled[4]
    struct Fusion:
        Loop forward, backward
        bint saves_output
        int parameters
        const void* values[2]
        Dropped dropped
        Draw draw
        double scale
    struct BatchNorm:
        int64_t outer, channels, inner
        const void* x
        const void* dy
        void* y
        void* dz
        const void* gamma
        const void* beta
        void* mean
        void* inv_std
        double* variance
        double* dgamma
        double* dbeta
        double eps
        Fusion fusion
        bint streaming
        double* scratch
    struct RowNorm:
        int64_t samples, groups, channels, inner
        bint centred
        const void* x
        const void* dy
        void* y
        const void* gamma
        const void* beta
        void* mean
        void* inv_std
        double* dgamma
        double* dbeta
        double eps
        bint streaming
        double* scratch
    struct BatchGrid:
        pass
    BatchGrid batch_grid(int64_t outer, int64_t channels, int64_t inner, int64_t item, bint reducing)
    int64_t batch_scratch(const BatchGrid&, int64_t channels, int64_t inner)
    int64_t row_scratch(int64_t samples, int64_t groups, int64_t channels, int64_t inner)
    int64_t short_row
    double running_average(double old, double batch, double momentum)
    ctypedef void (*BatchPass)(const BatchNorm&, const PoolApi&) noexcept nogil
    ctypedef void (*RowPass)(const RowNorm&, const PoolApi&) noexcept nogil
    struct Normalization:
        BatchPass batch_train[4]
        BatchPass batch_infer[4]
        BatchPass batch_backward[4]
        BatchPass batch_backward_fused[4]
        RowPass row_forward[4]
        RowPass row_backward[4]
    const Normalization& normalization(int isa)

cdef Runtime* runtime = <Runtime*> PyCapsule_GetPointer(api, kRuntimeCapsule)
ctypedef const Dropout* (*DropoutTable)(int isa) noexcept nogil
cdef DropoutTable dropout_table = <DropoutTable> PyCapsule_GetPointer(loops, kDropoutCapsule)

# The parameters of an activation, as numbers of either dtype.
cdef struct Values:
    double wide[2]
    float single[2]


cdef int fuse(Fusion* fusion, Values* values, activation, dropout, int dtype) except -1:
    cdef int k, isa = runtime.active_isa(), computed = dtype_float64 if dtype == dtype_float64 else dtype_float32
    if activation is not None:
        name = activation.name.encode()
        fusion.forward = runtime.activation_loop(isa, name, pass_forward, computed)
        fusion.backward = runtime.activation_loop(isa, name, pass_backward, computed)
        fusion.saves_output = activation.op.saves == "output"
        fusion.parameters = len(activation.params)
        for k in range(fusion.parameters):
            values.wide[k] = activation.params[k]
            values.single[k] = <float> values.wide[k]
            fusion.values[k] = <void*> &values.wide[k] if computed == dtype_float64 else <void*> &values.single[k]
    if dropout is not None:
        fusion.dropped = dropout_table(isa).scaled[computed]
        fusion.draw.threshold, fusion.scale, fusion.draw.seed, fusion.draw.offset = dropout
    return 0


cdef inline void* data(cnp.ndarray array) noexcept:
    return cnp.PyArray_DATA(array)


cdef inline int dtype_of(cnp.ndarray x) noexcept:
    return dtype_index(runtime, cnp.PyArray_TYPE(x))


cdef inline bint streams(cnp.ndarray y, cnp.ndarray x) noexcept:
    return cnp.PyArray_NBYTES(y) >= streaming_from() and data(y) != data(x)


cdef cnp.ndarray doubles(int64_t n):
    cdef cnp.npy_intp size = n
    return cnp.PyArray_EMPTY(1, &size, cnp.NPY_DOUBLE, 0)


cdef void store_sums(object to, const double* sums, bint accumulate):
    """The gradient of gamma or beta, where it is wanted, rounded once."""
    cdef int64_t i
    cdef double* wide
    cdef float* single
    if to is None:
        return
    if dtype_of(to) == dtype_float64:
        wide = <double*> data(to)
        for i in range(cnp.PyArray_SIZE(to)):
            wide[i] = wide[i] + sums[i] if accumulate else sums[i]
    else:
        single = <float*> data(to)
        for i in range(cnp.PyArray_SIZE(to)):
            single[i] = <float> (single[i] + sums[i] if accumulate else sums[i])


# ---- batch norm ----

cdef void shape_of(BatchNorm* args, cnp.ndarray x) noexcept:
    """x has two axes or more, none of which is 0."""
    args.outer, args.channels = cnp.PyArray_DIM(x, 0), cnp.PyArray_DIM(x, 1)
    args.inner = cnp.PyArray_SIZE(x) // (args.outer * args.channels)


cdef object scratch_for(BatchNorm* args, cnp.ndarray x, bint reducing):
    cdef BatchGrid grid = batch_grid(args.outer, args.channels, args.inner, cnp.PyArray_ITEMSIZE(x), reducing)
    cdef cnp.ndarray scratch = doubles(batch_scratch(grid, args.channels, args.inner))
    args.scratch = <double*> data(scratch)
    return scratch


def batch_norm_train(cnp.ndarray x, cnp.ndarray y, cnp.ndarray gamma, cnp.ndarray beta, cnp.ndarray mean, cnp.ndarray inv_std,
                     cnp.ndarray variance, double eps, activation, dropout) -> None:
    """y, mean, inv_std and the biased variance (float64) of x[outer, channels, ...], none of which may be 0."""
    cdef BatchNorm args
    cdef Values values
    cdef int dtype = dtype_of(x)
    cdef BatchPass call = normalization(runtime.active_isa()).batch_train[dtype]
    shape_of(&args, x)
    fuse(&args.fusion, &values, activation, dropout, dtype)
    scratch = scratch_for(&args, x, True)
    args.x, args.y, args.gamma, args.beta = data(x), data(y), data(gamma), data(beta)
    args.mean, args.inv_std, args.variance = data(mean), data(inv_std), <double*> data(variance)
    args.eps, args.streaming = eps, streams(y, x)
    with nogil:
        call(args, runtime.pool[0])


def batch_norm_infer(cnp.ndarray x, cnp.ndarray y, cnp.ndarray gamma, cnp.ndarray beta, cnp.ndarray mean, cnp.ndarray variance,
                     double eps, activation) -> None:
    """y of x[outer, channels, ...] by given statistics; variance is float64."""
    cdef BatchNorm args
    cdef Values values
    cdef int dtype = dtype_of(x)
    cdef BatchPass call = normalization(runtime.active_isa()).batch_infer[dtype]
    if cnp.PyArray_SIZE(x) == 0:
        return
    shape_of(&args, x)
    fuse(&args.fusion, &values, activation, None, dtype)
    scratch = scratch_for(&args, x, False)
    args.x, args.y, args.gamma, args.beta = data(x), data(y), data(gamma), data(beta)
    args.mean, args.variance = data(mean), <double*> data(variance)
    args.eps, args.streaming = eps, streams(y, x)
    with nogil:
        call(args, runtime.pool[0])


def batch_norm_backward(cnp.ndarray dy, cnp.ndarray x, cnp.ndarray dx, cnp.ndarray dz, cnp.ndarray gamma, cnp.ndarray beta,
                        cnp.ndarray mean, cnp.ndarray inv_std, dgamma, dbeta, bint accumulate, activation, dropout) -> None:
    """dx, and dgamma and dbeta where they are not None. beta matters with an activation only; dz, in the dtype computed in, takes its gradient or dropout's."""
    cdef BatchNorm args
    cdef Values values
    cdef int dtype = dtype_of(x)
    cdef const Normalization* table = &normalization(runtime.active_isa())
    cdef BatchPass call = table.batch_backward[dtype] if activation is None and dropout is None else table.batch_backward_fused[dtype]
    cdef int64_t channels = cnp.PyArray_SIZE(gamma)
    cdef cnp.ndarray sums = doubles(2 * channels)
    args.dgamma = <double*> data(sums)
    args.dbeta = args.dgamma + channels
    if cnp.PyArray_SIZE(x):
        shape_of(&args, x)
        fuse(&args.fusion, &values, activation, dropout, dtype)
        scratch = scratch_for(&args, x, True)
        args.x, args.dy, args.y, args.dz, args.gamma, args.beta = data(x), data(dy), data(dx), data(dz), data(gamma), data(beta)
        args.mean, args.inv_std = data(mean), data(inv_std)
        args.streaming = streams(dx, x) and data(dx) != data(dy) and data(dx) != data(dz)
        with nogil:
            call(args, runtime.pool[0])
    else:
        sums.fill(0)
    store_sums(dgamma, args.dgamma, accumulate)
    store_sums(dbeta, args.dbeta, accumulate)


def _update(cnp.ndarray average, cnp.ndarray batch, double factor, double momentum) -> None:
    """A running average, float32 or float64, and the numbers of a batch times a factor, of either dtype; contiguous."""
    cdef int64_t i
    cdef bint wide = dtype_of(average) == dtype_float64, from_wide = dtype_of(batch) == dtype_float64
    cdef double old, new
    cdef void* to = data(average)
    cdef void* of = data(batch)
    for i in range(cnp.PyArray_SIZE(average)):
        old = (<double*> to)[i] if wide else (<float*> to)[i]
        new = running_average(old, factor * ((<double*> of)[i] if from_wide else (<float*> of)[i]), momentum)
        if wide:
            (<double*> to)[i] = new
        else:
            (<float*> to)[i] = <float> new


# ---- norms of rows ----

cdef struct View:
    int64_t samples, groups, channels, inner


cdef cnp.ndarray repeated(cnp.ndarray parameter, View* view, bint short_rows):
    """gamma or beta, with short rows made elements of their own."""
    return np.repeat(parameter, view.inner) if short_rows else parameter


cdef inline bint merges(View* view) noexcept:
    return 1 < view.inner < short_row


cdef inline void merge(RowNorm* args, View* view, bint short_rows) noexcept:
    args.samples, args.groups = view.samples, view.groups
    args.channels = view.channels * view.inner if short_rows else view.channels
    args.inner = 1 if short_rows else view.inner


cdef int forward_rows(View view, cnp.ndarray x, cnp.ndarray y, cnp.ndarray gamma, cnp.ndarray beta, mean, cnp.ndarray inv_std,
                      double eps) except -1:
    cdef RowNorm args
    cdef int dtype = dtype_of(x)
    cdef RowPass call = normalization(runtime.active_isa()).row_forward[dtype]
    cdef bint short_rows = merges(&view)
    gamma, beta = repeated(gamma, &view, short_rows), repeated(beta, &view, short_rows)
    merge(&args, &view, short_rows)
    args.centred = mean is not None
    args.x, args.y, args.gamma, args.beta = data(x), data(y), data(gamma), data(beta)
    args.inv_std = data(inv_std)
    if args.centred:
        args.mean = data(mean)
    args.eps, args.streaming = eps, streams(y, x)
    with nogil:
        call(args, runtime.pool[0])
    return 0


cdef int backward_rows(View view, cnp.ndarray dy, cnp.ndarray x, cnp.ndarray dx, cnp.ndarray gamma, mean, cnp.ndarray inv_std,
                       dgamma, dbeta, bint accumulate) except -1:
    cdef RowNorm args
    cdef int dtype = dtype_of(x)
    cdef RowPass call = normalization(runtime.active_isa()).row_backward[dtype]
    cdef bint short_rows = merges(&view), wanted = dgamma is not None
    cdef cnp.ndarray scratch, sums
    cdef int64_t columns
    gamma = repeated(gamma, &view, short_rows)
    merge(&args, &view, short_rows)
    columns = args.groups * args.channels
    sums = doubles(2 * columns if wanted else 0)
    if cnp.PyArray_SIZE(x):
        scratch = doubles(row_scratch(args.samples, args.groups, args.channels, args.inner) if wanted or args.inner > 1 else 0)
        args.centred = mean is not None
        args.x, args.dy, args.y, args.gamma = data(x), data(dy), data(dx), data(gamma)
        args.inv_std = data(inv_std)
        if args.centred:
            args.mean = data(mean)
        if wanted:
            args.dgamma = <double*> data(sums)
            args.dbeta = args.dgamma + columns
        args.streaming, args.scratch = streams(dx, x) and data(dx) != data(dy), <double*> data(scratch)
        with nogil:
            call(args, runtime.pool[0])
    else:
        sums.fill(0)
    if wanted:
        if short_rows:
            with np.errstate(all="ignore"):
                sums = sums.reshape(-1, view.inner).sum(1)
        columns = view.groups * view.channels
        store_sums(dgamma, <double*> data(sums), accumulate)
        store_sums(dbeta, <double*> data(sums) + columns, accumulate)
    return 0


cdef View view_of(cnp.ndarray x) noexcept:
    return View(cnp.PyArray_DIM(x, 0), cnp.PyArray_DIM(x, 1), cnp.PyArray_DIM(x, 2), cnp.PyArray_DIM(x, 3))


def row_norm(cnp.ndarray x, cnp.ndarray y, cnp.ndarray gamma, cnp.ndarray beta, mean, cnp.ndarray inv_std, double eps) -> None:
    """y, mean and inv_std of x[samples, groups, channels, inner]; mean None: RMS norm. gamma and beta are [groups * channels]."""
    if cnp.PyArray_SIZE(x):
        forward_rows(view_of(x), x, y, gamma, beta, mean, inv_std, eps)


def row_norm_backward(cnp.ndarray dy, cnp.ndarray x, cnp.ndarray dx, cnp.ndarray gamma, mean, cnp.ndarray inv_std, dgamma, dbeta,
                      bint accumulate) -> None:
    """dx, and dgamma and dbeta where they are not None."""
    backward_rows(view_of(x), dy, x, dx, gamma, mean, inv_std, dgamma, dbeta, accumulate)


include "normalization_short.pxi"
