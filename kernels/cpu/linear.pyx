# cython: language_level=3, freethreading_compatible=True
"""Linear layers, forward and backward: the BLAS of NumPy, and what it cannot do or is slow at."""
from cpython.object cimport PyObject
from cpython.mem cimport PyMem_Calloc, PyMem_Free
from cpython.pycapsule cimport PyCapsule_GetPointer, PyCapsule_New
from libc.stdint cimport int64_t
from libcpp cimport bool as cbool

cimport numpy as cnp

from runtime cimport Loop, Runtime, dtype_float64, dtype_index, isa_count, kRuntimeCapsule, max_isas, pass_backward, pass_forward

import numpy as np

from fastnn.kernels import gemm
from fastnn.kernels.cpu.runtime import api

cnp.import_array()

cdef extern from "ndarray.hpp":
    bint ndarray_is_plain(PyObject*) nogil
    bint ndarray_is_writeable(PyObject*) nogil
    bint ndarray_same_shape(PyObject*, PyObject*) nogil
    bint ndarray_disjoint(PyObject*, PyObject*) nogil
    int ndarray_type(PyObject*) nogil
    int ndarray_ndim(PyObject*) nogil
    int64_t ndarray_size(PyObject*) nogil
    char* ndarray_data(PyObject*) nogil

ctypedef void (*TileLoop)(const Dense&, int64_t, int64_t) noexcept nogil
ctypedef void (*FinishLoop)(const Finish&, int64_t, int64_t) noexcept nogil
ctypedef void (*GradientLoop)(const Gradient&, int64_t, int64_t, double*) noexcept nogil
ctypedef void (*WidenLoop)(const void*, int64_t, int64_t, int64_t, void*) noexcept nogil
ctypedef void (*StoreLoop)(void*, int64_t, int64_t, int64_t, const void*, cbool) noexcept nogil

cdef extern from "linear.hpp" namespace "fastnn_cpu" nogil:
    cdef enum:
        dense_rows, dense_columns
    struct Fused:
        Loop loop
        const void* params[2]
        int count
    struct Dense:
        const void* x
        const void* weight
        const void* bias
        void* y
        void* z
        int64_t rows
        # `in` is a keyword here
        int64_t inputs "in"
        int64_t out
        Fused activation
    struct Finish:
        void* product
        const void* bias
        void* y
        void* z
        int64_t product_stride, stride, columns
        Fused activation
    struct Gradient:
        const void* dy
        const void* saved
        void* dz
        int64_t columns
        Fused activation
    struct Linear:
        TileLoop dense[4]
        FinishLoop finish[4]
        GradientLoop gradient[4]
        WidenLoop widen[4]
        StoreLoop store[4]
    const Linear& linear(int isa)

cdef Runtime* runtime = <Runtime*> PyCapsule_GetPointer(api, kRuntimeCapsule)

# Products of up to this many rows are not the BLAS's: it copies weight into an order of its own first. Nor are long sums
# with few results, and what is over before the BLAS has begun. The 16-bit formats are widened as they are read, always.
cdef int64_t few_rows = 64, long_sums = 128, few_outputs = 16
cdef int64_t few_products = 1 << 22, hardly_any = 1 << 15
cdef int64_t parallel_from = 1 << 20  # multiplications from which a second thread pays
cdef int64_t elements_parallel_from = 64 * 1024
cdef int64_t nogil_from = 1 << 14

cdef struct Parameters:
    double doubles[2]
    float floats[2]


cdef int find(object activation, int which, int dtype, Parameters* parameters, Fused* found) except -1:
    """The loop of an activation on numbers of the dtype computed in, and what its parameters point to."""
    cdef int k
    found.loop = NULL
    found.count = 0
    if activation is None:
        return 0
    name = activation[0].encode()
    found.loop = runtime.activation_loop(runtime.active_isa(), name, which, dtype_float64 if dtype == dtype_float64 else 0)
    for k, value in enumerate(activation[1]):
        parameters.doubles[k] = value
        parameters.floats[k] = <float> parameters.doubles[k]
        found.params[k] = <const void*> &parameters.doubles[k] if dtype == dtype_float64 else <const void*> &parameters.floats[k]
        found.count += 1
    return 0


cdef inline bint is_own(int dtype, int64_t rows, int64_t inputs, int64_t out) noexcept nogil:
    """Is the product of this size fastnn's own?"""
    cdef int64_t products = rows * inputs * out
    if rows <= few_rows or products <= hardly_any or (dtype != 0 and dtype != dtype_float64):
        return True
    return inputs >= long_sums and (out <= few_outputs or products <= few_products)


cdef inline void* data(object array):
    return NULL if array is None else <void*> ndarray_data(<PyObject*> array)


# ---- forward ----

cdef struct DenseJob:
    Dense job
    TileLoop tile
    int64_t across  # tiles beside each other


cdef void dense_body(void* context, int64_t begin, int64_t end) noexcept nogil:
    cdef DenseJob* work = <DenseJob*> context
    cdef int64_t k
    for k in range(begin, end):
        work.tile(work.job, k // work.across * dense_rows, k % work.across * dense_columns)


cdef void run_dense(DenseJob* work) noexcept nogil:
    cdef int64_t tiles
    work.across = (work.job.out + dense_columns - 1) // dense_columns
    tiles = (work.job.rows + dense_rows - 1) // dense_rows * work.across
    if work.job.rows * work.job.inputs * work.job.out < parallel_from:
        dense_body(work, 0, tiles)
    else:
        runtime.pool.parallel_for(tiles, 1, dense_body, work)


cdef struct FinishJob:
    Finish job
    FinishLoop finish_rows


cdef void finish_body(void* context, int64_t begin, int64_t end) noexcept nogil:
    cdef FinishJob* work = <FinishJob*> context
    work.finish_rows(work.job, begin, end)


def forward(x, weight, bias, activation, y, z) -> None:
    """y = activation(z), z = x weight^T + bias. x, y and z have two axes; bias, activation and z may be None."""
    cdef int dtype = dtype_index(runtime, ndarray_type(<PyObject*> x))
    cdef DenseJob work
    cdef Parameters parameters
    work.job.rows, work.job.inputs, work.job.out = x.shape[0], x.shape[1], y.shape[1]
    if not is_own(dtype, work.job.rows, work.job.inputs, work.job.out):
        gemm.forward(_finish, x, weight, bias, activation, y, z)
        return
    find(activation, pass_forward, dtype, &parameters, &work.job.activation)
    work.job.x, work.job.weight, work.job.bias, work.job.y, work.job.z = data(x), data(weight), data(bias), data(y), data(z)
    work.tile = linear(runtime.active_isa()).dense[dtype]
    with nogil:
        run_dense(&work)


def _finish(product, bias, activation, y, z) -> None:
    """y = activation(z), z = product + bias, of rows while they are in the cache; product may be y, or z, and is used up."""
    cdef int dtype = dtype_index(runtime, ndarray_type(<PyObject*> y))
    cdef int64_t rows = y.shape[0]
    cdef FinishJob work
    cdef Parameters parameters
    find(activation, pass_forward, dtype, &parameters, &work.job.activation)
    work.job.product, work.job.bias, work.job.y, work.job.z = data(product), data(bias), data(y), data(z)
    work.job.columns = work.job.stride = work.job.product_stride = y.shape[1]
    work.finish_rows = linear(runtime.active_isa()).finish[dtype]
    with nogil:
        if rows * work.job.columns < elements_parallel_from:
            finish_body(&work, 0, rows)
        else:
            runtime.pool.parallel_for(rows, max(1, 16384 // max(1, work.job.columns)), finish_body, &work)


def _short(x, weight, bias, activation, out):
    """The whole of fastnn.linear for arrays that are as the loops take them; None where they are not."""
    cdef PyObject* px = <PyObject*> x
    cdef PyObject* pw = <PyObject*> weight
    cdef int dtype, number, k, ndim
    cdef cnp.npy_intp shape[64]
    cdef DenseJob work
    cdef Parameters parameters
    if not (ndarray_is_plain(px) and ndarray_is_plain(pw)):
        return None
    ndim, dtype = ndarray_ndim(px), dtype_index(runtime, ndarray_type(px))
    if dtype < 0 or ndarray_type(pw) != ndarray_type(px) or ndim == 0 or ndarray_ndim(pw) != 2:
        return None
    for k in range(ndim):
        shape[k] = cnp.PyArray_DIM(<cnp.ndarray> x, k)
    work.job.out, work.job.inputs = cnp.PyArray_DIM(<cnp.ndarray> weight, 0), cnp.PyArray_DIM(<cnp.ndarray> weight, 1)
    if shape[ndim - 1] != work.job.inputs or work.job.inputs == 0:
        return None
    work.job.rows = ndarray_size(px) // work.job.inputs
    shape[ndim - 1] = work.job.out
    if bias is not None:
        number = cnp.NPY_DOUBLE if dtype == dtype_float64 else cnp.NPY_FLOAT
        if not ndarray_is_plain(<PyObject*> bias) or ndarray_type(<PyObject*> bias) != number:
            return None
        if ndarray_ndim(<PyObject*> bias) != 1 or ndarray_size(<PyObject*> bias) != work.job.out:
            return None
    if out is None:
        out = cnp.PyArray_EMPTY(ndim, shape, ndarray_type(px), 0)
    else:
        if not ndarray_is_plain(<PyObject*> out) or not ndarray_is_writeable(<PyObject*> out):
            return None
        if ndarray_type(<PyObject*> out) != ndarray_type(px) or ndarray_ndim(<PyObject*> out) != ndim:
            return None
        for k in range(ndim):
            if cnp.PyArray_DIM(<cnp.ndarray> out, k) != shape[k]:
                return None
        if not (ndarray_disjoint(<PyObject*> out, px) and ndarray_disjoint(<PyObject*> out, pw)):
            return None
        if bias is not None and not ndarray_disjoint(<PyObject*> out, <PyObject*> bias):
            return None
    if not is_own(dtype, work.job.rows, work.job.inputs, work.job.out):
        if ndim == 2:
            gemm.forward(_finish, x, weight, bias, activation, out, None)
        else:
            gemm.forward(_finish, x.reshape(-1, work.job.inputs), weight, bias, activation, out.reshape(-1, work.job.out), None)
        return out
    find(activation, pass_forward, dtype, &parameters, &work.job.activation)
    work.job.x, work.job.weight, work.job.bias, work.job.y, work.job.z = data(x), data(weight), data(bias), data(out), NULL
    work.tile = linear(runtime.active_isa()).dense[dtype]
    if work.job.rows * work.job.inputs * work.job.out < nogil_from:
        run_dense(&work)
    else:
        with nogil:
            run_dense(&work)
    return out


# ---- backward ----

cdef struct GradientJob:
    Gradient job
    GradientLoop rows_of
    double* partial
    int64_t grain


cdef void gradient_body(void* context, int64_t begin, int64_t end) noexcept nogil:
    cdef GradientJob* work = <GradientJob*> context
    cdef double* sums = NULL
    if work.partial != NULL:
        sums = work.partial + begin // work.grain * work.job.columns
    work.rows_of(work.job, begin, end, sums)


def _gradient(dy, saved, activation, dz, sums) -> None:
    """dz = activation'(dy, saved) in the dtype computed in; and its column sums, added up in double, rounded once.

    activation, dz and sums may be None: without an activation dz is dy, and is not written.
    """
    cdef int dtype = dtype_index(runtime, ndarray_type(<PyObject*> dy))
    cdef int64_t rows = dy.shape[0], columns = dy.shape[1], chunks, chunk, k
    cdef double total
    cdef void* target = data(sums)
    cdef GradientJob work
    cdef Parameters parameters
    find(activation, pass_backward, dtype, &parameters, &work.job.activation)
    work.job.dy, work.job.saved, work.job.dz, work.job.columns = data(dy), data(saved), data(dz), columns
    work.rows_of = linear(runtime.active_isa()).gradient[dtype]
    # At most 16 chunks, whatever the number of rows: each has sums of its own.
    work.grain = max((rows + 15) // 16, 16384 // max(1, columns) + 1)
    chunks = (rows + work.grain - 1) // work.grain
    partial = None if sums is None else np.zeros((chunks + 1, columns))
    work.partial = <double*> data(partial)
    with nogil:
        if rows * columns < elements_parallel_from:
            for k in range(chunks):
                gradient_body(&work, k * work.grain, min(rows, (k + 1) * work.grain))
        else:
            runtime.pool.parallel_for(rows, work.grain, gradient_body, &work)
        for k in range(columns if work.partial != NULL else 0):
            total = work.partial[k]
            for chunk in range(1, chunks):
                total += work.partial[chunk * columns + k]
            if dtype == dtype_float64:
                (<double*> target)[k] = total
            else:
                (<float*> target)[k] = <float> total


def _widen(tile, to) -> None:
    """to = tile, in the dtype computed in. The rows of the tile are contiguous, and so is `to`."""
    cdef int dtype = dtype_index(runtime, ndarray_type(<PyObject*> tile))
    cdef int64_t stride = tile.strides[0] // tile.itemsize, rows = tile.shape[0], columns = tile.shape[1]
    cdef const void* source = data(tile)
    cdef void* target = data(to)
    cdef WidenLoop loop = linear(runtime.active_isa()).widen[dtype]
    with nogil:
        loop(source, stride, rows, columns, target)


def _store(product, tile, bint accumulate) -> None:
    """tile = product, or tile += product, rounded once. The rows of the tile are contiguous, and so is `product`."""
    cdef int dtype = dtype_index(runtime, ndarray_type(<PyObject*> tile))
    cdef int64_t stride = tile.strides[0] // tile.itemsize, rows = tile.shape[0], columns = tile.shape[1]
    cdef const void* source = data(product)
    cdef void* target = data(tile)
    cdef StoreLoop loop = linear(runtime.active_isa()).store[dtype]
    with nogil:
        loop(target, stride, rows, columns, source, accumulate)


def backward(dy, x, weight, saved, activation, dz, dx, dweight, dbias, bint accumulate) -> None:
    """The gradients that are not None. dweight and dbias are added to where `accumulate`; dz is scratch, or None."""
    gemm.backward(_gradient, _widen, _store, dy, x, weight, saved, activation, dz, dx, dweight, dbias, accumulate)


cdef inline bint fits(object array, int type_num, object like, int ndim) noexcept:
    """Is it None, or as the loops take it: contiguous, of that type and number of axes, and like another in shape?"""
    cdef PyObject* a = <PyObject*> array
    if array is None:
        return True
    return (ndarray_is_plain(a) and ndarray_type(a) == type_num and ndarray_ndim(a) == ndim
            and (like is None or ndarray_same_shape(a, <PyObject*> like)))


def _fits(dy, x, weight, saved, dx, dweight, dbias, dz) -> bool:
    """Are these arrays as `backward` needs them, without a look at why not? x, dy and weight may not be None."""
    cdef int number, type_num, i, j
    cdef PyObject* inputs[4]
    cdef PyObject* outputs[4]
    if dy is None or x is None or weight is None or not ndarray_is_plain(<PyObject*> x):
        return False
    type_num = ndarray_type(<PyObject*> x)
    if dtype_index(runtime, type_num) < 0:
        return False
    number = cnp.NPY_DOUBLE if type_num == cnp.NPY_DOUBLE else cnp.NPY_FLOAT
    if not (fits(x, type_num, None, 2) and fits(dy, type_num, None, 2) and fits(weight, type_num, None, 2)
            and fits(saved, type_num, dy, 2) and fits(dx, type_num, x, 2) and fits(dweight, type_num, weight, 2)
            and fits(dbias, number, None, 1) and fits(dz, number, dy, 2)):
        return False
    if (x.shape[0] != dy.shape[0] or x.shape[1] != weight.shape[1] or dy.shape[1] != weight.shape[0]
            or dbias is not None and dbias.shape[0] != weight.shape[0]):
        return False
    inputs[0], inputs[1], inputs[2], inputs[3] = <PyObject*> dy, <PyObject*> x, <PyObject*> weight, <PyObject*> saved
    outputs[0], outputs[1], outputs[2], outputs[3] = <PyObject*> dx, <PyObject*> dweight, <PyObject*> dbias, <PyObject*> dz
    for i in range(4):
        if <object> outputs[i] is None:
            continue
        if not ndarray_is_writeable(outputs[i]):
            return False
        for j in range(4):
            if <object> inputs[j] is not None and not ndarray_disjoint(outputs[i], inputs[j]):
                if not (i == 3 and j == 0 and dz is dy):
                    return False
            if j < i and <object> outputs[j] is not None and not ndarray_disjoint(outputs[i], outputs[j]):
                return False
    return True


# ---- sessions ----

include "packed.pxi"
include "program.pxi"
