# Steps of sessions that run one after the other without a return to Python.

cdef struct Place:
    void* fixed  # or NULL: x or the result of a call,
    bint result  # which of them

cdef struct Stage:
    const Operation* operation
    Place places[4]


cdef Operation* operation_of(object kernel) except NULL:
    return <Operation*> PyCapsule_GetPointer(kernel.operation, kOperationCapsule)


cdef int fit(const Operation* operation, int k, object array) except -1:
    """Checks that an array is what an operation takes in place k."""
    cdef PyObject* a = <PyObject*> array
    cdef bint written = k == operation.count - 1
    if not cnp.PyArray_Check(array):
        raise TypeError(f"Program: array {k} is a {type(array).__name__}; expected a NumPy array")
    if not ndarray_is_plain(a) or written and not ndarray_is_writeable(a):
        raise ValueError(f"Program: array {k} is not contiguous, aligned{' and writeable' if written else ''}")
    if ndarray_type(a) != operation.types[k]:
        raise TypeError(f"Program: array {k} has dtype {array.dtype}; expected type number {operation.types[k]}")
    if cnp.PyArray_NBYTES(array) < operation.bytes[k]:
        raise ValueError(f"Program: array {k} has {array.nbytes} bytes; expected {operation.bytes[k]}")
    return 0


cdef class Program:
    """Kernels of sessions, one after the other: `Program([(kernel, arrays), ...]).run(x, out)`.

    Each kernel has an attribute `operation`, see program.hpp. Its arrays are inputs, then the result; False stands for
    the `x` of a call, True for its `out`. They are checked when the program is made, x and out in every call, for
    dtype, size and layout; that they are apart is for the caller to see to.
    """

    cdef Stage* stages
    cdef int count
    cdef int64_t work
    cdef object kept

    def __init__(self, calls):
        cdef const Operation* operation
        cdef int k
        if self.stages != NULL:
            raise TypeError("Program: __init__ runs once")
        self.kept = calls = [(kernel, tuple(arrays)) for kernel, arrays in calls]
        self.stages = <Stage*> PyMem_Calloc(max(1, len(calls)), sizeof(Stage))
        if self.stages == NULL:
            raise MemoryError("no memory for a program")
        for kernel, arrays in calls:
            operation = operation_of(kernel)
            if len(arrays) != operation.count:
                raise ValueError(f"Program: {len(arrays)} arrays; expected {operation.count}")
            for k, array in enumerate(arrays):
                if array is False or array is True:
                    self.stages[self.count].places[k].result = array
                else:
                    fit(operation, k, array)
                    self.stages[self.count].places[k].fixed = data(array)
            self.stages[self.count].operation = operation
            self.work += operation.work
            self.count += 1

    def __dealloc__(self):
        PyMem_Free(self.stages)

    def run(self, x, out) -> None:
        """All kernels. x and out may be None where no kernel takes them."""
        cdef int stage, k
        cdef Place* place
        cdef void* outside[2]
        cdef bint done
        for stage in range(self.count):
            for k in range(self.stages[stage].operation.count):
                place = &self.stages[stage].places[k]
                if place.fixed == NULL:
                    fit(self.stages[stage].operation, k, out if place.result else x)
        outside[0], outside[1] = data(x), data(out)
        if self.work < nogil_from:
            done = self.go(outside)
        else:
            with nogil:
                done = self.go(outside)
        if not done:
            raise MemoryError("session: no memory to work in")

    @staticmethod
    def samples(x, out, int type_num, tuple x_shape, tuple out_shape) -> int:
        """How many samples x has, if it and `out`, which may be None, are arrays that programs take; else -1.

        That is: of this type and of these shapes for a sample, contiguous, of as many samples, out writeable and apart.
        """
        cdef PyObject* a = <PyObject*> x
        cdef PyObject* b = <PyObject*> out
        if not shaped(a, type_num, x_shape):
            return -1
        if out is not None and not (shaped(b, type_num, out_shape) and ndarray_is_writeable(b) and ndarray_disjoint(a, b)
                                    and cnp.PyArray_DIM(<cnp.ndarray> b, 0) == cnp.PyArray_DIM(<cnp.ndarray> a, 0)):
            return -1
        return cnp.PyArray_DIM(<cnp.ndarray> a, 0)

    cdef bint go(self, void* const* outside) noexcept nogil:
        cdef int stage, k
        cdef const Stage* at
        cdef void* arrays[4]
        for stage in range(self.count):
            at = &self.stages[stage]
            for k in range(at.operation.count):
                arrays[k] = at.places[k].fixed if at.places[k].fixed != NULL else outside[at.places[k].result]
            if not at.operation.run(at.operation, arrays):
                return False
        return True


cdef bint shaped(PyObject* a, int type_num, tuple shape) noexcept:
    """Is it a plain array of this type, of any number of samples of that shape?"""
    cdef int k, ndim = len(shape) + 1
    if not ndarray_is_plain(a) or ndarray_type(a) != type_num or ndarray_ndim(a) != ndim:
        return False
    for k in range(1, ndim):
        if cnp.PyArray_DIM(<cnp.ndarray> a, k) != <int64_t> shape[k - 1]:
            return False
    return True
