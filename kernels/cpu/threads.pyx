# cython: language_level=3, freethreading_compatible=True
"""The thread pool's Python face: the one extension module that contains the pool. pool.pxd says how others reach it.

Nothing here reads the environment or counts cores: what number is right is decided in fastnn/threads.py.
"""
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from cpython.pycapsule cimport PyCapsule_New
from libc.stdint cimport SIZE_MAX, int64_t

from pool cimport kPoolCapsule, PoolApi

import time


cdef extern from "pool.hpp" namespace "fastnn" nogil:
    void pool_parallel_for "fastnn::parallel_for"(
        int64_t n, int64_t grain, void (*body)(void*, int64_t, int64_t) noexcept nogil, void* context) noexcept
    int pool_get_num_threads "fastnn::get_num_threads"() noexcept
    void pool_set_num_threads "fastnn::set_num_threads"(int count) noexcept
    void pool_set_usable_cores "fastnn::set_usable_cores"(int count) noexcept
    int pool_started_threads "fastnn::started_threads"() noexcept
    int kMaxThreads

cdef extern from "pythread.h" nogil:
    unsigned long PyThread_get_thread_ident() noexcept

cdef extern from * nogil:
    """
    #include <chrono>
    static void fastnn_work_for(long long nanoseconds) {
      const auto end = std::chrono::steady_clock::now() + std::chrono::nanoseconds(nanoseconds);
      while (std::chrono::steady_clock::now() < end) {}
    }
    """
    void work_for "fastnn_work_for"(long long nanoseconds) noexcept


cdef PoolApi api
api.parallel_for = pool_parallel_for
api.get_num_threads = pool_get_num_threads
pool_api = PyCapsule_New(&api, kPoolCapsule, NULL)

MAX_THREADS = kMaxThreads


def get_num_threads() -> int:
    """Threads that a loop may use, the calling one included."""
    return pool_get_num_threads()


def set_num_threads(int count) -> None:
    """Set what get_num_threads returns; numbers below 1 count as 1."""
    pool_set_num_threads(count)


def set_usable_cores(int count) -> None:
    """Say how many cores there are to run on: with more threads than that, waiting ones sleep instead of spinning."""
    pool_set_usable_cores(count)


def started_threads() -> int:
    """Threads that the pool has started in this process so far; none before the first loop that needs one."""
    return pool_started_threads()


cdef struct Trace:
    unsigned long* ran_by
    int64_t* begin
    int64_t* end
    int64_t grain
    long long nanoseconds


cdef void trace_body(void* context, int64_t begin, int64_t end) noexcept nogil:
    cdef Trace* trace = <Trace*> context
    cdef int64_t chunk = begin // trace.grain
    trace.ran_by[chunk] = PyThread_get_thread_ident()
    trace.begin[chunk] = begin
    trace.end[chunk] = end
    work_for(trace.nanoseconds)


def trace(int64_t n, int64_t grain, long long nanoseconds=0) -> list:
    """Run a loop whose chunks do nothing for some nanoseconds; list (begin, end, identity of the thread) by chunk.

    For tests, and for seeing how a loop spreads over this machine's cores.
    """
    if n < 0 or grain < 1 or nanoseconds < 0:
        raise ValueError(f"trace: expected n >= 0, grain >= 1 and nanoseconds >= 0, got {n}, {grain} and {nanoseconds}")
    cdef int64_t chunks = n // grain + (n % grain != 0)
    cdef Trace record
    cdef size_t each = sizeof(unsigned long) + 2 * sizeof(int64_t)
    cdef char* memory = NULL
    if <size_t> chunks <= SIZE_MAX // each:
        memory = <char*> PyMem_Malloc(<size_t> chunks * each)
    if memory == NULL:
        raise MemoryError(f"trace: no memory for {chunks} chunks")
    record.begin = <int64_t*> memory
    record.end = record.begin + chunks
    record.ran_by = <unsigned long*> (record.end + chunks)
    record.grain = grain
    record.nanoseconds = nanoseconds
    try:
        with nogil:
            pool_parallel_for(n, grain, trace_body, &record)
        return [(record.begin[i], record.end[i], record.ran_by[i]) for i in range(chunks)]
    finally:
        PyMem_Free(memory)


cdef void empty_body(void* context, int64_t begin, int64_t end) noexcept nogil:
    pass


def overhead(int repeats=1000, double pause=0.0) -> float:
    """Seconds that one loop with a chunk per thread and nothing to do takes: the median of some repeats.

    With a pause (in seconds) before each, the threads have gone to sleep and the time to wake them is in the figure.
    """
    if repeats < 1:
        raise ValueError(f"overhead: expected repeats >= 1, got {repeats}")
    cdef int64_t n = pool_get_num_threads()
    times = []
    for _ in range(repeats):
        if pause > 0:
            time.sleep(pause)
        start = time.perf_counter()
        with nogil:
            pool_parallel_for(n, 1, empty_body, NULL)
        times.append(time.perf_counter() - start)
    return sorted(times)[repeats // 2]
