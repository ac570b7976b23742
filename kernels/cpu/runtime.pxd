# What every kernel module needs of the others. In such a module:
#
#     from cpython.pycapsule cimport PyCapsule_GetPointer
#     from runtime cimport Runtime, dtype_index, kRuntimeCapsule
#     from fastnn.kernels.cpu.runtime import api
#
#     cdef Runtime* runtime = <Runtime*> PyCapsule_GetPointer(api, kRuntimeCapsule)
#     ...
#     normalization(runtime.active_isa())          # the family's table, see family.hpp
#     runtime.pool                                 # const PoolApi*, see pool.hpp and parallel.hpp
#     runtime.activation_loop(isa, name, pass_forward, dtype)
#     dtype_index(runtime, type_num)               # of an array: dtype_float32 ..., or -1
from libc.stdint cimport int64_t

from pool cimport PoolApi

cdef extern from "loop.hpp" namespace "fastnn_cpu" nogil:
    ctypedef void (*Loop)(void* const*, int64_t, unsigned) noexcept nogil
    cdef enum:
        dtype_float32, dtype_float64, dtype_float16, dtype_bfloat16, dtype_count
        pass_forward, pass_backward, pass_parameter_gradient, pass_count

cdef extern from "runtime.hpp" namespace "fastnn_cpu" nogil:
    cdef enum:
        max_isas
    const char[] kRuntimeCapsule

    cppclass Runtime:
        const PoolApi* pool
        Loop (*activation_loop)(int isa, const char* name, int which, int dtype) noexcept nogil
        int active_isa() noexcept
        void set_isa(int) noexcept
        int bfloat16_number() noexcept
        void set_bfloat16(int) noexcept

    struct Isa:
        const char* name
        bint runnable
    int isa_count() noexcept
    const Isa& isa_at(int) noexcept
    bint has_dot(int) noexcept
    int best_isa() noexcept

cdef extern from "dtypes.hpp" namespace "fastnn_cpu" nogil:
    int dtype_index(const Runtime*, int type_num) noexcept
