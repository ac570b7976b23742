# Products of uint8 rows with int8 weights, see packed_int8.hpp.

ctypedef void (*Int8Loop)(const Int8Job&, int64_t, int64_t) noexcept nogil

cdef extern from "ndarray.hpp":
    bint ndarray_is_plain(PyObject*) nogil
    int ndarray_type(PyObject*) nogil

cdef extern from "program.hpp" namespace "fastnn_cpu" nogil:
    const char[] kOperationCapsule
    struct Operation:
        cbool (*run)(const Operation*, void* const*) noexcept nogil
        int count
        int types[4]
        int64_t bytes[4]
        int64_t work

cdef extern from "packed_int8.hpp" namespace "fastnn_cpu" nogil:
    cdef enum:
        int8_rows, int8_outputs
    enum Int8Result:
        int8_sums, int8_floats, int8_bytes
    struct Int8Job "fastnn_cpu::Int8Product":
        const unsigned char* x
        const unsigned char* end
        const int* starts
        const int* segments
        const signed char* weight
        const int* bias
        const float* multiplier
        void* y
        int64_t size, positions, reach, segment_count, groups, rows, outputs, stride
        Int8Result result
        int zero, low, high
    struct Int8Loops:
        Int8Loop run
    const Int8Loops& int8_table "fastnn_cpu::packed_int8"(int isa)
    const Int8Loops& int8_dot_table "fastnn_cpu::packed_int8_dot"(int isa)

cdef struct Int8Layer:
    Operation operation
    Int8Job job
    int64_t item  # bytes of an element of y
    int64_t column

cdef struct Int8Tasks:
    Int8Job job
    Int8Loop run
    int64_t chunks  # of rows

cdef bint dots = True
cdef int64_t parallel_products = 1 << 20  # of four bytes, from which a second thread pays


def dot_products(use=None) -> bool:
    """Are sums of bytes made by dot-product instructions? `use` says whether they may be, where there are any."""
    global dots
    if use is not None:
        dots = use
    return dots and has_dot(runtime.active_isa())


cdef void int8_body(void* context, int64_t begin, int64_t end) noexcept nogil:
    cdef Int8Tasks* tasks = <Int8Tasks*> context
    cdef int64_t k
    for k in range(begin, end):
        tasks.run(tasks.job, k % tasks.chunks * int8_rows, k // tasks.chunks * int8_outputs)


cdef void run_product(const Int8Job* job) noexcept nogil:
    cdef Int8Tasks tasks
    cdef int isa = runtime.active_isa()
    cdef int64_t count
    tasks.job = job[0]
    tasks.run = int8_dot_table(isa).run if dots and has_dot(isa) else int8_table(isa).run
    tasks.chunks = (job.rows + int8_rows - 1) // int8_rows
    count = tasks.chunks * ((job.outputs + int8_outputs - 1) // int8_outputs)
    if job.rows * job.outputs * job.segment_count * job.groups < parallel_products:
        int8_body(&tasks, 0, count)
    else:
        runtime.pool.parallel_for(count, 1, int8_body, &tasks)


cdef cbool run_int8(const Operation* self, void* const* arrays) noexcept nogil:
    cdef const Int8Layer* layer = <const Int8Layer*> self
    cdef Int8Job job = layer.job
    job.x, job.y = <const unsigned char*> arrays[0], <char*> arrays[1] + layer.column * layer.item
    job.end = job.x + layer.operation.bytes[0]
    run_product(&job)
    return True


def matmul(cnp.ndarray x, starts, cnp.ndarray segments, cnp.ndarray weight, cnp.ndarray bias, multiplier, cnp.ndarray y,
           int64_t column, int zero, int low, int high) -> None:
    """y[:, :, column : column + N] = products of rows of x with the packed weight."""
    cdef Int8Job job
    cdef int type = cnp.PyArray_TYPE(y)
    cdef int64_t k
    job.x, job.size = bytes_of(x), x.shape[1]
    job.end = job.x + x.shape[0] * job.size
    job.starts = NULL
    job.positions = 1
    if starts is not None:
        job.starts, job.positions = ints_of(starts), (<cnp.ndarray> starts).shape[0]
    job.segments, job.segment_count, job.groups = ints_of(segments), segments.shape[0], weight.shape[2]
    job.reach = 0
    for k in range(job.segment_count):
        job.reach = max(job.reach, job.segments[k] + 4 * job.groups)
    job.weight, job.bias = <signed char*> cnp.PyArray_DATA(weight), ints_of(bias)
    job.multiplier = NULL
    if multiplier is not None:
        job.multiplier = floats_of(multiplier)
    job.rows, job.outputs, job.stride = x.shape[0] * job.positions, bias.shape[0], y.shape[2]
    job.result = int8_bytes if type == cnp.NPY_UINT8 else int8_floats if type == cnp.NPY_FLOAT else int8_sums
    job.y = cnp.PyArray_BYTES(y) + column * cnp.PyArray_ITEMSIZE(y)
    job.zero, job.low, job.high = zero, low, high
    with nogil:
        run_product(&job)


cdef int of_kind(str name, object array, int type_num, int ndim) except -1:
    """Checks that an array is contiguous, of this type and number of axes."""
    if not isinstance(array, np.ndarray) or ndarray_type(<PyObject*> array) != type_num:
        got = array.dtype if isinstance(array, np.ndarray) else type(array).__name__
        raise TypeError(f"PackedInt8: {name} is {got}; expected {np.dtype(cnp.PyArray_DescrFromType(type_num))} in an array")
    if not ndarray_is_plain(<PyObject*> array) or array.ndim != ndim:
        raise ValueError(f"PackedInt8: {name} has shape {array.shape}; expected {ndim} axes, contiguous")
    return 0


cdef class PackedInt8:
    """Sums of products of bytes: `PackedInt8(...)(x, y)`, as `fastnn.kernels.reference.quantized.matmul` defines them.

    weight: int8, of `fastnn.kernels.int8_weights.pack`; bias: int32 (N,); multiplier: float32 (N,), or None for sums;
    y_type: uint8, float32 or int32; x: uint8 (batch, size); y (batch, rows of a sample, columns), of which N columns
    from `column` on are written. starts: int32, where each row of a sample begins, None for one at 0; segments: int32,
    where its pieces begin from there, None for one at 0. zero, low, high: of the bytes that are made. The same integers
    on every instruction set and number of threads.
    """

    cdef Int8Layer layer
    cdef object kept
    cdef readonly object operation

    def __init__(self, weight, bias, multiplier, y_type, int64_t batch, int64_t size, starts=None, segments=None,
                 columns=None, int64_t column=0, int zero=0, int low=0, int high=255):
        cdef Int8Job* job = &self.layer.job
        cdef Operation* operation = &self.layer.operation
        cdef int64_t first, last
        if self.operation is not None:
            raise TypeError("PackedInt8: __init__ runs once")
        segments = np.zeros(1, np.int32) if segments is None else segments
        rows = np.zeros(1, np.int32) if starts is None else starts
        of_kind("weight", weight, cnp.NPY_INT8, 5)
        of_kind("bias", bias, cnp.NPY_INT32, 1)
        of_kind("segments", segments, cnp.NPY_INT32, 1)
        of_kind("starts", rows, cnp.NPY_INT32, 1)
        job.outputs, job.segment_count, job.positions = bias.size, segments.size, rows.size
        job.stride, job.groups = job.outputs if columns is None else columns, weight.shape[2]
        if weight.shape != ((job.outputs + 15) // 16, job.segment_count, job.groups, 16, 4) or \
                job.segment_count == 0 or job.groups == 0:
            raise ValueError(f"PackedInt8: weight has shape {weight.shape} beside {job.outputs} outputs in {job.segment_count} segments")
        kind = np.dtype(y_type)
        if kind not in (np.int32, np.float32, np.uint8):
            raise TypeError(f"PackedInt8: y_type is {kind}; expected uint8, float32 or int32")
        job.result = int8_sums if kind == np.int32 else int8_floats if kind == np.float32 else int8_bytes
        if job.result != int8_sums:
            of_kind("multiplier", multiplier, cnp.NPY_FLOAT, 1)
            if multiplier.size != job.outputs:
                raise ValueError(f"PackedInt8: multiplier has shape {multiplier.shape}; expected {bias.shape}")
        if column < 0 or column + job.outputs > job.stride:
            raise ValueError(f"PackedInt8: columns {column} to {column + job.outputs} are not among {job.stride}")
        if not (0 <= zero <= 255 and 0 <= low <= high <= 255):
            raise ValueError(f"PackedInt8: zero, low, high are {zero}, {low}, {high}; expected bytes, in order")
        if min(batch, size) < 0 or max(batch, size, job.stride) >= 1 << 31:
            raise ValueError(f"PackedInt8: batch and size are {batch} and {size}; expected lengths")
        first = last = 0
        if job.positions > 0:
            first, last = int(rows.min()) + int(segments.min()), int(rows.max()) + int(segments.max())
        # A row may be read past its end, and past that of x, by less than four bytes.
        if first < 0 or batch * job.positions > 0 and last + 4 * job.groups - 3 > size:
            raise ValueError(f"PackedInt8: rows from {first} to {last + 4 * job.groups} are not in samples of {size} bytes")
        self.kept = (weight, bias, multiplier, segments, rows)
        job.weight, job.bias = <signed char*> cnp.PyArray_DATA(weight), ints_of(bias)
        if multiplier is not None:
            job.multiplier = floats_of(multiplier)
        job.segments = ints_of(segments)
        if starts is not None:
            job.starts = ints_of(rows)
        job.size, job.reach, job.rows = size, int(segments.max()) + 4 * job.groups, batch * job.positions
        job.zero, job.low, job.high = zero, low, high
        self.layer.item, self.layer.column = kind.itemsize, column
        operation.run, operation.count = run_int8, 2
        operation.work = job.rows * job.outputs * job.segment_count * job.groups * 4
        operation.types[0], operation.bytes[0] = cnp.NPY_UINT8, batch * size
        operation.types[1], operation.bytes[1] = kind.num, job.rows * job.stride * kind.itemsize
        self.operation = PyCapsule_New(operation, kOperationCapsule, NULL)

    def __call__(self, *arrays) -> None:
        Program([(self, arrays)]).run(None, None)
