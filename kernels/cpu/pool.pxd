# The thread pool, as every module of kernels needs it. In such a module:
#
#     from pool cimport kPoolCapsule, PoolApi
#     from cpython.pycapsule cimport PyCapsule_GetPointer
#     from fastnn.kernels.cpu.threads import pool_api
#
#     cdef const PoolApi* pool = <const PoolApi*> PyCapsule_GetPointer(pool_api, kPoolCapsule)
#     ...
#     with nogil:
#         pool.parallel_for(n, grain, body, &context)     # cdef void body(void*, int64_t, int64_t) noexcept nogil
from libc.stdint cimport int64_t

cdef extern from "pool.hpp" namespace "fastnn" nogil:
    const char[] kPoolCapsule
    ctypedef void (*chunk_body)(void*, int64_t, int64_t) noexcept nogil
    ctypedef void (*parallel_for_fn)(int64_t, int64_t, chunk_body, void*) noexcept nogil

    struct PoolApi:
        parallel_for_fn parallel_for
        int (*get_num_threads)() noexcept nogil
