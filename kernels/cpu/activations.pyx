# cython: language_level=3, freethreading_compatible=True
"""The native backend of the activations: NumPy ufuncs over the C++ loops, and functions with a short way to the same loops.

What an op is called and which parameters it has comes from the C++ list; docstrings, defaults and ranges come from the op table,
through `function`.
"""
from cpython.mem cimport PyMem_Malloc
from cpython.object cimport PyObject
from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.math cimport isfinite
from libc.stdint cimport int64_t
from libc.string cimport memset, strcmp

cimport numpy as cnp

from runtime cimport (
    Loop, Runtime, dtype_bfloat16, dtype_float16, dtype_float32, dtype_float64, dtype_index, isa_count, kRuntimeCapsule,
    pass_backward, pass_forward, pass_parameter_gradient,
)

import sys

import numpy as np

from fastnn.kernels.cpu.runtime import api

cnp.import_array()
cnp.import_ufunc()

cdef extern from "activations.hpp" namespace "fastnn_cpu" nogil:
    struct Activation:
        const char* name
        int parameters
        Loop loops[3][4]
    struct Activations:
        const Activation* rows
        int count
    const Activations& activations(int isa)

cdef extern from "elementwise.hpp" namespace "fastnn_cpu" nogil:
    struct Operation:
        Loop loops[3]
        int arrays, parameters, item, parameter_item
        int64_t parallel_from
    void run(const Operation&, const Runtime&, char** args, const int64_t* strides, int64_t n)
    void run_quietly(const Operation&, const Runtime&, char** args, const int64_t* strides, int64_t n)
    void sum_parameter_gradient(const Operation&, const Runtime&, const char* dy, const char* x, const char* parameter,
                                int64_t outer, int64_t channels, int64_t inner, double* total)

cdef extern from *:
    """
    typedef PyObject* (*fastnn_fastcall)(PyObject*, PyObject**, Py_ssize_t, PyObject*);
    static PyObject* fastnn_builtin(PyMethodDef* def, const char* name, const char* doc, fastnn_fastcall call, PyObject* self, PyObject* module) {
      def->ml_name = name;
      def->ml_doc = doc;
      def->ml_meth = (PyCFunction)(void (*)(void))call;
      def->ml_flags = METH_FASTCALL | METH_KEYWORDS;
      return PyCFunction_NewEx(def, self, module);
    }
    """
    ctypedef struct PyMethodDef:
        pass
    ctypedef object (*fastnn_fastcall)(object, PyObject**, Py_ssize_t, PyObject*)
    object fastnn_builtin(PyMethodDef*, const char*, const char*, fastnn_fastcall, object, object)

cdef extern from "Python.h":
    bint PyFloat_Check(PyObject*)
    bint PyLong_CheckExact(PyObject*)
    double PyFloat_AS_DOUBLE(PyObject*)
    double PyLong_AsDouble(PyObject*) except? -1.0
    object PyObject_Vectorcall(PyObject*, PyObject**, size_t, PyObject*)
    PyObject* PyTuple_GET_ITEM(PyObject*, Py_ssize_t)
    Py_ssize_t PyTuple_GET_SIZE(PyObject*)

cdef extern from "numpy/arrayobject.h":
    enum:
        NPY_HALF

cdef extern from "ndarray.hpp":
    bint ndarray_is_native(PyObject*) nogil
    bint float32_scalar(PyObject*, double*) nogil
    bint ndarray_is_plain(PyObject*) nogil
    int ndarray_type(PyObject*) nogil
    int ndarray_ndim(PyObject*) nogil
    cnp.npy_intp ndarray_size(PyObject*) nogil
    char* ndarray_data(PyObject*) nogil
    bint ndarray_same_type_and_shape(PyObject*, PyObject*) nogil
    bint ndarray_may_be_written(PyObject*, PyObject*) nogil
    object ndarray_like(PyObject*)

cdef extern from "numpy/ufuncobject.h":
    ctypedef void (*PyUFuncGenericFunction)(char**, const cnp.npy_intp*, const cnp.npy_intp*, void*) noexcept
    object PyUFunc_FromFuncAndData(PyUFuncGenericFunction*, void**, const char*, int, int, int, int, const char*, const char*, int)
    int PyUFunc_RegisterLoopForType(cnp.ufunc, int, PyUFuncGenericFunction, const int*, void*) except -1

cdef Runtime* runtime = <Runtime*> PyCapsule_GetPointer(api, kRuntimeCapsule)

# Arrays from this many elements on are computed without the GIL; below, releasing it costs more than it can give.

cdef int64_t nogil_from = 4096

# Elements from which a second thread pays: its start costs some microseconds.
cdef int64_t parallel_from_cheap = 256 * 1024, parallel_from_costly = 64 * 1024


# ---- operations ----

cdef struct Numbers:
    Operation by_dtype[4]


cdef int find_row(str name) except -1:
    cdef Activations table = activations(0)
    for i in range(table.count):
        if (<bytes> table.rows[i].name).decode() == name:
            return i
    raise KeyError(name)


def names() -> list:
    """Names of the ops in the C++ list, in its order."""
    cdef Activations table = activations(0)
    return [(<bytes> table.rows[i].name).decode() for i in range(table.count)]


cdef int fill_operations(Numbers* numbers, int row, int which, bint costly) except -1:
    cdef int i, dtype
    cdef Operation* op
    memset(numbers, 0, sizeof(Numbers))
    for dtype in range(4):
        op = &numbers.by_dtype[dtype]
        op.arrays = 1 if which == pass_forward else 2
        op.parameters = activations(0).rows[row].parameters
        op.item = 4 if dtype == dtype_float32 else 8 if dtype == dtype_float64 else 2
        op.parameter_item = 8 if dtype == dtype_float64 else 4
        op.parallel_from = parallel_from_costly if costly else parallel_from_cheap
        for i in range(isa_count()):
            op.loops[i] = activations(i).rows[row].loops[which][dtype]
    return 0


cdef void ufunc_loop(char** args, const cnp.npy_intp* dimensions, const cnp.npy_intp* steps, void* data) noexcept nogil:
    run_quietly((<const Operation*> data)[0], runtime[0], args, <const int64_t*> steps, dimensions[0])


cdef Loop find_loop(int isa, const char* name, int which, int dtype) noexcept nogil:
    """What other modules get their loops from."""
    cdef int i
    for i in range(activations(isa).count):
        if strcmp(activations(isa).rows[i].name, name) == 0:
            return activations(isa).rows[i].loops[which][dtype]
    return NULL


runtime.activation_loop = find_loop


cdef class Kernel:
    """One op and pass: its loops, its ufunc, and what `call` checks before it takes the short way to them."""

    cdef readonly str name
    cdef readonly object ufunc
    cdef readonly tuple parameter_names
    cdef object __weakref__
    cdef Numbers* numbers
    cdef int arrays, parameters
    cdef bint ordered, short
    cdef bint terms  # what a parameter's gradient sums: for the 16-bit formats float32, which a ufunc does not know
    cdef double default[2]
    cdef double low[2]
    cdef double high[2]
    cdef double excluded[2]
    cdef bint has_default[2]
    cdef object general

    def __init__(self, str op, str which, *, bint costly=False, str doc=""):
        cdef int pass_index = {"forward": pass_forward, "backward": pass_backward, "parameter_gradient": pass_parameter_gradient}[which]
        cdef int row = find_row(op), dtype, k, slot
        cdef PyUFuncGenericFunction* functions
        cdef void** data
        cdef char* types
        self.name = op if which == "forward" else f"{op}_{which}"
        # Ufuncs live as long as the process, and so does what they point to.
        self.numbers = <Numbers*> PyMem_Malloc(sizeof(Numbers))
        fill_operations(self.numbers, row, pass_index, costly)
        self.terms = pass_index == pass_parameter_gradient
        self.arrays = self.numbers.by_dtype[0].arrays
        self.parameters = self.numbers.by_dtype[0].parameters
        operands = self.arrays + self.parameters + 1
        functions = <PyUFuncGenericFunction*> PyMem_Malloc(3 * sizeof(void*))
        data = <void**> PyMem_Malloc(3 * sizeof(void*))
        types = <char*> PyMem_Malloc(3 * operands)
        order = [dtype_float16, dtype_float32, dtype_float64]
        if self.terms:
            order = order[1:]
        for slot, dtype in enumerate(order):
            functions[slot] = ufunc_loop
            data[slot] = &self.numbers.by_dtype[dtype]
            number = {dtype_float16: NPY_HALF, dtype_float32: cnp.NPY_FLOAT, dtype_float64: cnp.NPY_DOUBLE}[dtype]
            for k in range(operands):
                parameter = self.arrays <= k < operands - 1
                types[slot * operands + k] = cnp.NPY_FLOAT if parameter and dtype == dtype_float16 else number
        encoded_name, encoded_doc = self.name.encode(), doc.encode()
        immortal.append((encoded_name, encoded_doc))
        self.ufunc = PyUFunc_FromFuncAndData(functions, data, types, len(order), operands - 1, 1, -1, encoded_name, encoded_doc, 0)

    def register_bfloat16(self, int type_num):
        """Give the ufunc a loop for bfloat16."""
        cdef int types[6]
        cdef int k, operands = self.arrays + self.parameters + 1
        if self.terms:
            return
        for k in range(operands):
            types[k] = cnp.NPY_FLOAT if self.arrays <= k < operands - 1 else type_num
        PyUFunc_RegisterLoopForType(<cnp.ufunc> self.ufunc, type_num, ufunc_loop, types, &self.numbers.by_dtype[<int> dtype_bfloat16])

    def function(self, general, params, str module, str doc, *, bint ordered, bint short):
        """The public function: a builtin that takes the short way where it can and calls `general` where it cannot.

        params: (name, default or None, low, high, excluded) for each parameter; doc begins with the signature.
        """
        cdef PyMethodDef* definition = <PyMethodDef*> PyMem_Malloc(64)
        self.general, self.ordered, self.short = general, ordered, short
        self.parameter_names = tuple(sys.intern(name) for name, *_ in params)
        for k, (_, default, low, high, excluded) in enumerate(params):
            self.has_default[k] = default is not None
            self.default[k] = 0.0 if default is None else default
            self.low[k], self.high[k] = low, high
            self.excluded[k] = excluded[0] if excluded else float("nan")
        encoded = doc.encode()
        encoded_name = self.name.encode()
        immortal.append((self, encoded, encoded_name))
        return fastnn_builtin(definition, encoded_name, encoded, call, self, module)

    def __reduce__(self):
        return find_kernel, (self.name,)

    def __getattr__(self, name):
        # A builtin pickles as the attribute of this object that bears its name.
        if name == self.name:
            import fastnn.functional
            return getattr(fastnn.functional, name)
        raise AttributeError(name)

    def sum_gradient(self, cnp.ndarray dy, cnp.ndarray x, cnp.ndarray parameter, int64_t outer, int64_t channels, int64_t inner):
        """The summed gradient of a parameter, in its dtype; see sum_parameter_gradient. The arrays are C-contiguous."""
        cdef cnp.ndarray total = np.zeros(channels)
        cdef cnp.ndarray rounded
        cdef int64_t c
        cdef double* sums = <double*> ndarray_data(<PyObject*> total)
        cdef Operation* op = &self.numbers.by_dtype[dtype_index(runtime, ndarray_type(<PyObject*> x))]
        if channels and outer * inner:
            with nogil:
                sum_parameter_gradient(op[0], runtime[0], ndarray_data(<PyObject*> dy), ndarray_data(<PyObject*> x),
                                       ndarray_data(<PyObject*> parameter), outer, channels, inner, sums)
        if op.parameter_item == 8:
            return total
        rounded = np.empty(channels, np.float32)
        for c in range(channels):
            (<float*> ndarray_data(<PyObject*> rounded))[c] = <float> sums[c]
        return rounded


cdef list immortal = []  # what C keeps pointers to
cdef dict kernels = {}


def make_kernel(op, which, **options) -> Kernel:
    """The kernel of an op and pass, made on first use."""
    kernel = Kernel(op, which, **options)
    kernels[kernel.name] = kernel
    return kernel


def find_kernel(name) -> Kernel:
    """The kernel of that name, for unpickling."""
    import fastnn.functional  # which makes them
    return kernels[name]


def use_bfloat16(int type_num) -> None:
    """Called once ml_dtypes has been imported: the number of its bfloat16."""
    if runtime.bfloat16_number() < 0:
        for kernel in kernels.values():
            kernel.register_bfloat16(type_num)
        runtime.set_bfloat16(type_num)


# ---- the short way ----

# False while any backend but native may be in force: then every call goes through dispatch.
cdef bint native_only = True


def set_native_only(bint value) -> None:
    """Say whether functions may take the short way."""
    global native_only
    native_only = value


cdef inline bint number_from(PyObject* value, double* number):
    """Is it a float (NumPy's float64 is one), a float32 or an int? If so, take its value."""
    if PyFloat_Check(value):
        number[0] = PyFloat_AS_DOUBLE(value)
        return True
    if float32_scalar(value, number):
        return True
    if PyLong_CheckExact(value):
        try:
            number[0] = PyLong_AsDouble(value)
            return True
        except OverflowError:
            pass
    return False


cdef object go_the_long_way(Kernel kernel, PyObject** args, Py_ssize_t nargs, PyObject* keywords):
    cdef Py_ssize_t i
    positional = tuple([<object> args[i] for i in range(nargs)])
    named = {}
    if keywords != NULL:
        for i in range(PyTuple_GET_SIZE(keywords)):
            named[<object> PyTuple_GET_ITEM(keywords, i)] = <object> args[nargs + i]
    return kernel.general(*positional, **named)


cdef object go_by_ufunc(Kernel kernel, PyObject** args, const double* values, PyObject* out):
    """For checked arguments that are not contiguous: NumPy knows how to walk them."""
    cdef PyObject* operands[6]
    cdef PyObject* keywords = NULL
    cdef int k
    numbers = []
    for k in range(kernel.arrays):
        operands[k] = args[k]
    for k in range(kernel.parameters):
        number = <object> values[k]  # a Python float, which takes the dtype of the loop's parameters
        numbers.append(number)
        operands[kernel.arrays + k] = <PyObject*> number
    if out != NULL:
        operands[kernel.arrays + kernel.parameters] = out
        keywords = <PyObject*> only_out
    return PyObject_Vectorcall(<PyObject*> kernel.ufunc, operands, kernel.arrays + kernel.parameters, keywords)


cdef object call(object self, PyObject** args, Py_ssize_t nargs, PyObject* keywords):
    cdef Kernel kernel = <Kernel> self
    cdef PyObject* out = NULL
    cdef PyObject* x
    cdef PyObject* key
    cdef double used
    cdef double values[2]
    cdef float singles[2]
    cdef bint given[2]
    cdef bint plain
    cdef Py_ssize_t i, j, count
    cdef int dtype, k, arrays = kernel.arrays
    cdef char* operands[6]
    cdef int64_t strides[6]
    cdef int64_t n
    cdef Operation* op
    if not (native_only and kernel.short) or nargs < arrays or nargs > arrays + kernel.parameters:
        return go_the_long_way(kernel, args, nargs, keywords)
    x = args[arrays - 1]
    if not ndarray_is_native(x) or ndarray_ndim(x) == 0:
        return go_the_long_way(kernel, args, nargs, keywords)
    dtype = dtype_index(runtime, ndarray_type(x))
    if dtype < 0 or arrays == 2 and not (ndarray_is_native(args[0]) and ndarray_same_type_and_shape(args[0], x)):
        return go_the_long_way(kernel, args, nargs, keywords)
    plain = ndarray_is_plain(x) and (arrays == 1 or ndarray_is_plain(args[0]))
    for k in range(kernel.parameters):
        given[k] = kernel.has_default[k]
        values[k] = kernel.default[k]
        if arrays + k < nargs:
            if not number_from(args[arrays + k], &values[k]):
                return go_the_long_way(kernel, args, nargs, keywords)
            given[k] = True
    if keywords != NULL:
        count = PyTuple_GET_SIZE(keywords)
        for i in range(count):
            key = PyTuple_GET_ITEM(keywords, i)
            if key == <PyObject*> out_name:
                out = args[nargs + i]
                continue
            for j in range(kernel.parameters):
                if key == <PyObject*> kernel.parameter_names[j] and arrays + j >= nargs:
                    if not number_from(args[nargs + i], &values[j]):
                        return go_the_long_way(kernel, args, nargs, keywords)
                    given[j] = True
                    break
            else:
                return go_the_long_way(kernel, args, nargs, keywords)
    for k in range(kernel.parameters):
        used = values[k] if dtype == dtype_float64 else <double> <float> values[k]
        if not (given[k] and isfinite(used) and kernel.low[k] <= used <= kernel.high[k]) or used == kernel.excluded[k]:
            return go_the_long_way(kernel, args, nargs, keywords)
    if kernel.ordered and values[0] > values[1]:
        return go_the_long_way(kernel, args, nargs, keywords)
    if out == <PyObject*> None:
        out = NULL
    if out != NULL:
        if not (ndarray_is_native(out) and ndarray_same_type_and_shape(out, x)):
            return go_the_long_way(kernel, args, nargs, keywords)
        for k in range(arrays):
            if not ndarray_may_be_written(out, args[k]):
                return go_the_long_way(kernel, args, nargs, keywords)
        plain = plain and ndarray_is_plain(out)
    if not plain:
        return go_by_ufunc(kernel, args, values, out)
    op = &kernel.numbers.by_dtype[dtype]
    n = ndarray_size(x)
    result = ndarray_like(x) if out == NULL else <object> out
    for k in range(arrays):
        operands[k] = ndarray_data(args[k])
        strides[k] = op.item
    for k in range(kernel.parameters):
        singles[k] = <float> values[k]
        operands[arrays + k] = <char*> &values[k] if dtype == dtype_float64 else <char*> &singles[k]
        strides[arrays + k] = 0
    operands[arrays + kernel.parameters] = ndarray_data(<PyObject*> result)
    strides[arrays + kernel.parameters] = op.item
    if n < nogil_from:
        run(op[0], runtime[0], operands, strides, n)
    else:
        with nogil:
            run(op[0], runtime[0], operands, strides, n)
    return result


cdef object out_name = sys.intern("out")
cdef tuple only_out = (out_name,)
