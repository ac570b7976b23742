# cython: language_level=3, freethreading_compatible=True
"""Quantized arithmetic: uint8 and int8, exact sums. Arrays are C-contiguous and checked, of the dtypes and shapes that
fastnn.kernels.reference.quantized names, whose functions these are, to the last bit of their results.
"""
from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.stdint cimport int64_t

cimport numpy as cnp

from runtime cimport Runtime, kRuntimeCapsule

from fastnn.kernels.cpu.runtime import api

cnp.import_array()

ctypedef void (*QuantizedLoop)(const void*, int64_t, int64_t) noexcept nogil

cdef extern from "quantized.hpp" namespace "fastnn_cpu" nogil:
    struct Requantization:
        const float* multiplier
        int zero, low, high
    struct Sliding:
        int64_t height, width, channels, rows, columns
        int64_t kernel[2]
        int64_t stride[2]
        int64_t before[2]
        int64_t dilation[2]
    struct MatmulJob:
        const unsigned char* x
        const unsigned char* end
        const int* starts
        const int* segments
        int64_t rows, size, pieces, groups, outputs, pitch
        const signed char* weight
        const int* bias
        unsigned char* bytes
        float* floats
        int* sums
        Requantization finish
    struct DepthwiseJob:
        const unsigned char* x
        const signed char* weight
        const int* bias
        unsigned char* y
        int x_zero
        Sliding at
        Requantization finish
    struct MaxPoolJob:
        const unsigned char* x
        unsigned char* y
        Sliding at
    struct MeanJob:
        const unsigned char* x
        unsigned char* y
        int64_t height, width, channels, rows, columns
        const int* top
        const int* bottom
        const int* left
        const int* right
        int x_zero
        Requantization finish
    struct SumJob:
        const unsigned char* a
        const unsigned char* b
        unsigned char* y
        int by_a, by_b, bias
        Requantization finish
    struct LookupJob:
        const unsigned char* x
        const unsigned char* table
        unsigned char* y
    struct WindowJob:
        const unsigned char* x
        unsigned char* y
        int64_t height, width, channels, rows, columns, depth, top, left, stride
        unsigned char fill
    struct ConvertJob:
        float* values
        unsigned char* bytes
        int64_t channels, positions
        float by
        int zero
    struct RowsJob:
        const float* x
        unsigned char* y
        float* scale
        int* zero
        int64_t length
    struct FinishJob:
        const int* acc
        const int* zero
        const int* sums
        const float* scale
        const float* weight_scale
        const float* bias
        float* y
        int64_t outputs
        float low, high
    struct Quantized:
        QuantizedLoop depthwise, max_pool, average_pool, add, lookup, window
        QuantizedLoop quantize, dequantize, quantize_rows, finish_rows
    struct QuantizedProduct:
        QuantizedLoop matmul
    const Quantized& quantized_table "fastnn_cpu::quantized"(int isa)
    const QuantizedProduct& quantized_product(int isa)

cdef Runtime* runtime = <Runtime*> PyCapsule_GetPointer(api, kRuntimeCapsule)
cdef int64_t chunk = 32 * 1024  # bytes read, or products, sixteen at a time, that a thread takes; two of them pay from four


cdef struct Call:
    QuantizedLoop loop
    const void* job


cdef void body(void* context, int64_t begin, int64_t end) noexcept nogil:
    cdef Call* call = <Call*> context
    call.loop(call.job, begin, end)


cdef void run(QuantizedLoop loop, const void* job, int64_t items, int64_t cost) noexcept:
    """Every item once; `cost` is what one takes."""
    cdef Call call
    with nogil:
        if items * cost < 4 * chunk:
            loop(job, 0, items)
        else:
            call.loop, call.job = loop, job
            runtime.pool.parallel_for(items, max(1, chunk // max(1, cost)), body, &call)


cdef const Quantized* loops() noexcept:
    return &quantized_table(runtime.active_isa())


cdef inline unsigned char* bytes_of(cnp.ndarray a) noexcept:
    return <unsigned char*> cnp.PyArray_DATA(a)


cdef inline int* ints_of(cnp.ndarray a) noexcept:
    return <int*> cnp.PyArray_DATA(a)


cdef inline float* floats_of(cnp.ndarray a) noexcept:
    return <float*> cnp.PyArray_DATA(a)


cdef void fill(Sliding* to, cnp.ndarray x, cnp.ndarray y, int64_t kh, int64_t kw, tuple stride, tuple before, tuple dilation):
    cdef int axis
    to.height, to.width, to.channels, to.rows, to.columns = x.shape[1], x.shape[2], x.shape[3], y.shape[1], y.shape[2]
    to.kernel[0], to.kernel[1] = kh, kw
    for axis in range(2):
        to.stride[axis], to.before[axis], to.dilation[axis] = stride[axis], before[axis], dilation[axis]


def matmul(cnp.ndarray x, starts, cnp.ndarray segments, cnp.ndarray weight, cnp.ndarray bias, multiplier, cnp.ndarray y,
           int64_t column, int zero, int low, int high) -> None:
    """y[:, :, column : column + N] = products of rows of x with the packed weight."""
    cdef MatmulJob job
    cdef int type = cnp.PyArray_TYPE(y)
    cdef void* to = cnp.PyArray_DATA(y)
    job.x, job.size, job.rows = bytes_of(x), x.shape[1], 1
    job.starts = NULL
    job.end = job.x + x.shape[0] * job.size
    if starts is not None:
        job.starts, job.rows = ints_of(starts), (<cnp.ndarray> starts).shape[0]
    job.segments, job.pieces, job.groups = ints_of(segments), segments.shape[0], weight.shape[2]
    job.weight, job.bias = <signed char*> cnp.PyArray_DATA(weight), ints_of(bias)
    job.outputs, job.pitch = bias.shape[0], y.shape[2]
    job.bytes = NULL
    job.floats = NULL
    job.sums = NULL
    if type == cnp.NPY_UINT8:
        job.bytes = <unsigned char*> to + column
    elif type == cnp.NPY_FLOAT32:
        job.floats = <float*> to + column
    else:
        job.sums = <int*> to + column
    job.finish.multiplier = NULL
    if multiplier is not None:
        job.finish.multiplier = floats_of(multiplier)
    job.finish.zero, job.finish.low, job.finish.high = zero, low, high
    run(quantized_product(runtime.active_isa()).matmul, &job, x.shape[0] * job.rows, job.outputs * job.pieces * job.groups // 4)


def depthwise(cnp.ndarray x, cnp.ndarray weight, cnp.ndarray bias, cnp.ndarray multiplier, cnp.ndarray y, tuple stride,
              tuple before, tuple dilation, int x_zero, int zero, int low, int high) -> None:
    """A convolution of every channel by itself."""
    cdef DepthwiseJob job
    job.x, job.y, job.x_zero = bytes_of(x), bytes_of(y), x_zero
    job.weight, job.bias = <signed char*> cnp.PyArray_DATA(weight), ints_of(bias)
    fill(&job.at, x, y, weight.shape[0], weight.shape[1], stride, before, dilation)
    job.finish.multiplier = floats_of(multiplier)
    job.finish.zero, job.finish.low, job.finish.high = zero, low, high
    run(loops().depthwise, &job, y.shape[0] * y.shape[1], y.shape[2] * y.shape[3] * weight.shape[0] * weight.shape[1])


def max_pool(cnp.ndarray x, cnp.ndarray y, tuple kernel, tuple stride, tuple before, tuple dilation) -> None:
    """Maxima of windows."""
    cdef MaxPoolJob job
    job.x, job.y = bytes_of(x), bytes_of(y)
    fill(&job.at, x, y, kernel[0], kernel[1], stride, before, dilation)
    run(loops().max_pool, &job, y.shape[0] * y.shape[1], y.shape[2] * x.shape[3] * job.at.kernel[0] * job.at.kernel[1])


def average_pool(cnp.ndarray x, cnp.ndarray y, tuple rows, tuple columns, cnp.ndarray multiplier, int x_zero, int zero,
                 int low, int high) -> None:
    """Means of regions."""
    cdef MeanJob job
    job.x, job.y, job.x_zero = bytes_of(x), bytes_of(y), x_zero
    job.height, job.width, job.channels, job.rows, job.columns = x.shape[1], x.shape[2], x.shape[3], y.shape[1], y.shape[2]
    job.top, job.bottom, job.left, job.right = ints_of(rows[0]), ints_of(rows[1]), ints_of(columns[0]), ints_of(columns[1])
    job.finish.multiplier = floats_of(multiplier)
    job.finish.zero, job.finish.low, job.finish.high = zero, low, high
    run(loops().average_pool, &job, y.shape[0] * y.shape[1], x.shape[1] * x.shape[2] * x.shape[3] // max(1, y.shape[1]))


def add(cnp.ndarray a, cnp.ndarray b, cnp.ndarray y, int by_a, int by_b, int bias, float multiplier, int zero, int low,
        int high) -> None:
    """y = a + b, each times its factor."""
    cdef SumJob job
    job.a, job.b, job.y, job.by_a, job.by_b, job.bias = bytes_of(a), bytes_of(b), bytes_of(y), by_a, by_b, bias
    job.finish.multiplier = &multiplier
    job.finish.zero, job.finish.low, job.finish.high = zero, low, high
    run(loops().add, &job, cnp.PyArray_SIZE(a), 2)


def lookup(cnp.ndarray x, cnp.ndarray y, cnp.ndarray table) -> None:
    """y = table[x]."""
    cdef LookupJob job
    job.x, job.y, job.table = bytes_of(x), bytes_of(y), bytes_of(table)
    run(loops().lookup, &job, cnp.PyArray_SIZE(x), 2)


def window(cnp.ndarray x, cnp.ndarray y, int64_t top, int64_t left, int64_t stride, int fill) -> None:
    """Pad, or leave out."""
    cdef WindowJob job
    job.x, job.y, job.top, job.left, job.stride, job.fill = bytes_of(x), bytes_of(y), top, left, stride, <unsigned char> fill
    job.height, job.width, job.channels = x.shape[1], x.shape[2], x.shape[3]
    job.rows, job.columns, job.depth = y.shape[1], y.shape[2], y.shape[3]
    run(loops().window, &job, y.shape[0] * y.shape[1], y.shape[2] * y.shape[3])


cdef void convert(QuantizedLoop loop, cnp.ndarray values, cnp.ndarray bytes, float by, int zero) noexcept:
    cdef ConvertJob job
    job.values, job.bytes, job.by, job.zero = floats_of(values), bytes_of(bytes), by, zero
    job.channels, job.positions = values.shape[1], values.shape[2]
    run(loop, &job, values.shape[0] * job.positions, 2 * job.channels)


def quantize(cnp.ndarray x, cnp.ndarray y, float multiplier, int zero) -> None:
    """float32 (B, C, S) to uint8 (B, S, C)."""
    convert(loops().quantize, x, y, multiplier, zero)


def dequantize(cnp.ndarray x, cnp.ndarray y, float scale, int zero) -> None:
    """uint8 (B, S, C) to float32 (B, C, S)."""
    convert(loops().dequantize, y, x, scale, zero)


def quantize_rows(cnp.ndarray x, cnp.ndarray y, cnp.ndarray scale, cnp.ndarray zero) -> None:
    """Each row by itself, scale and zero from its range."""
    cdef RowsJob job
    job.x, job.y, job.scale, job.zero, job.length = floats_of(x), bytes_of(y), floats_of(scale), ints_of(zero), x.shape[1]
    run(loops().quantize_rows, &job, x.shape[0], 4 * job.length)


def finish_rows(cnp.ndarray acc, cnp.ndarray scale, cnp.ndarray zero, cnp.ndarray sums, cnp.ndarray weight_scale,
                cnp.ndarray bias, cnp.ndarray y, float low, float high) -> None:
    """float32 of the sums of rows with scales of their own."""
    cdef FinishJob job
    job.acc, job.scale, job.zero, job.sums = ints_of(acc), floats_of(scale), ints_of(zero), ints_of(sums)
    job.weight_scale, job.bias, job.y, job.outputs = floats_of(weight_scale), floats_of(bias), floats_of(y), acc.shape[1]
    job.low, job.high = low, high
    run(loops().finish_rows, &job, acc.shape[0], 4 * job.outputs)
