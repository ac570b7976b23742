# Linear layers of sessions: panels.py packs the weights, a Packed is a layer that lacks nothing but x and y.

cdef extern from "program.hpp" namespace "fastnn_cpu" nogil:
    const char[] kOperationCapsule
    struct Operation:
        cbool (*run)(const Operation*, void* const*) noexcept nogil
        int count
        int types[4]
        int64_t bytes[4]
        int64_t work

ctypedef void (*PackedLoop)(const PackedJob&, int64_t, int64_t) noexcept nogil

cdef extern from "packed.hpp" namespace "fastnn_cpu" nogil:
    cdef enum:
        packed_rows
    int64_t packed_panel(int64_t size)
    int64_t packed_group(int64_t size)
    struct PackedJob "fastnn_cpu::Packed":
        const void* x
        const void* start
        const void* panels
        const void* residual
        void* y
        int64_t rows
        int64_t inputs "in"
        int64_t out
        bint relu
        Fused activation
    struct PackedLoops:
        PackedLoop run[2]
    const PackedLoops& packed_table "fastnn_cpu::packed"(int isa)

cdef struct PackedLayer:
    Operation operation
    PackedJob job
    bint residual
    Loop loops[max_isas]
    Parameters parameters

cdef struct PackedTasks:
    PackedJob job
    PackedLoop run
    int64_t chunks  # of rows


cdef void packed_body(void* context, int64_t begin, int64_t end) noexcept nogil:
    cdef PackedTasks* tasks = <PackedTasks*> context
    cdef int64_t k
    for k in range(begin, end):
        tasks.run(tasks.job, k % tasks.chunks * packed_rows, k // tasks.chunks)


cdef cbool run_packed(const Operation* self, void* const* arrays) noexcept nogil:
    cdef const PackedLayer* layer = <const PackedLayer*> self
    cdef PackedTasks tasks
    cdef int isa = runtime.active_isa()
    cdef int size = 8 if layer.operation.types[0] == cnp.NPY_DOUBLE else 4
    cdef int64_t panel = packed_panel(size), count
    tasks.job, tasks.run = layer.job, packed_table(isa).run[size // 8]
    tasks.job.x, tasks.job.y = arrays[0], arrays[1 + layer.residual]
    tasks.job.residual = arrays[1] if layer.residual else NULL
    tasks.job.activation.loop = layer.loops[isa]
    tasks.chunks = (tasks.job.rows + packed_rows - 1) // packed_rows
    count = tasks.chunks * ((tasks.job.out + panel - 1) // panel)
    if layer.operation.work < parallel_from:
        packed_body(&tasks, 0, count)
    else:
        runtime.pool.parallel_for(count, 1, packed_body, &tasks)
    return True


cdef class Packed:
    """y = activation(x weight^T + bias + residual) for a number of rows: `Packed(...)(x, y)`, or `(x, residual, y)`.

    packed: the weights and the bias as `fastnn.kernels.panels.pack` lays them out, float32 or float64, which decides on
    the dtype of all arrays; activation: None, or a fused one. Each result is one chain of fused products and sums, from
    the bias on, in the order of the inputs: its bits depend neither on rows nor on threads nor, where there is an FMA
    unit, on the instruction set.
    """

    cdef PackedLayer layer
    cdef object memory
    cdef readonly object operation

    def __init__(self, packed, int64_t rows, int64_t inputs, int64_t outputs, activation=None, bint residual=False):
        cdef int isa, k, type_num
        cdef int64_t size, padded, each[3]
        cdef PackedJob* job = &self.layer.job
        cdef Operation* operation = &self.layer.operation
        if self.operation is not None:
            raise TypeError("Packed: __init__ runs once")
        if not isinstance(packed, np.ndarray) or packed.dtype not in (np.float32, np.float64):
            raise TypeError(f"Packed: packed is {getattr(packed, 'dtype', type(packed))}; expected a float32 or float64 array")
        type_num, size = ndarray_type(<PyObject*> packed), packed.itemsize
        if min(rows, inputs, outputs) < 0 or max(rows, inputs, outputs) >= 1 << 31:
            raise ValueError(f"Packed: rows, inputs, outputs are {rows}, {inputs}, {outputs}; expected lengths")
        padded = (outputs + packed_group(size) - 1) // packed_group(size) * packed_group(size)
        if not ndarray_is_plain(<PyObject*> packed) or packed.size != padded * (1 + inputs):
            raise ValueError(f"Packed: packed has shape {packed.shape}; expected {padded * (1 + inputs)} contiguous numbers")
        self.memory = packed
        job.rows, job.inputs, job.out = rows, inputs, outputs
        job.start, job.panels = data(packed), <char*> data(packed) + padded * size
        job.relu = activation is not None and activation[0] == "relu"
        job.activation.count = 0
        for isa in range(max_isas):
            self.layer.loops[isa] = NULL
        if activation is not None and not job.relu:
            find(activation, pass_forward, dtype_index(runtime, type_num), &self.layer.parameters, &job.activation)
            if job.activation.loop == NULL:
                raise ValueError(f"Packed: there is no activation {activation!r}")
            name = activation[0].encode()
            for isa in range(isa_count()):
                self.layer.loops[isa] = runtime.activation_loop(isa, name, pass_forward, dtype_float64 if size == 8 else 0)
        self.layer.residual = residual
        operation.run, operation.count, operation.work = run_packed, 2 + residual, rows * inputs * outputs
        each[0], each[1], each[1 + residual] = rows * inputs, rows * outputs, rows * outputs
        for k in range(operation.count):
            operation.types[k], operation.bytes[k] = type_num, each[k] * size
        self.operation = PyCapsule_New(operation, kOperationCapsule, NULL)

    def __call__(self, *arrays) -> None:
        Program([(self, arrays)]).run(None, None)
