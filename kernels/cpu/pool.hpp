// The thread pool of the CPU kernels: one per process, one loop at a time.
//
// pool.cpp is linked into one extension module only, fastnn.kernels.cpu.threads. Every other module includes this
// header for its types and takes the functions from that module's attribute pool_api, a capsule, so that all kernels
// share one set of threads:
//
//   auto* pool = static_cast<const fastnn::PoolApi*>(PyCapsule_GetPointer(pool_api, fastnn::kPoolCapsule));
//   pool->parallel_for(n, grain, body, &context);
#ifndef FASTNN_KERNELS_CPU_POOL_HPP_
#define FASTNN_KERNELS_CPU_POOL_HPP_

#include <cstdint>

namespace fastnn {

// Works on the indices [begin, end). It must not throw, call Python, or fork.
using chunk_body = void (*)(void* context, std::int64_t begin, std::int64_t end);

// Calls body(context, k * grain, min(n, (k + 1) * grain)) once for every chunk k of [0, n), on the calling thread and
// on the pool's, and returns when all calls have. The chunks depend on n and grain only: neither on the number of
// threads nor on what else runs, so that a reduction may keep one partial result per chunk, at begin / grain, and add
// them up in order.
//
// Chunks are handed out from one contiguous range per thread, the same range in every call, so that arrays stay in the
// cache of the core that last worked on them; a thread that is through with its own range takes chunks from the
// others'. A grain that is worth some microseconds balances well and costs nothing. Whether n is worth waking threads
// for is the caller's to decide: below that, call body.
//
// Any thread may call this, with or without the GIL. A call made while another one is at work, from a body (nested) or
// from another thread, runs all of its chunks on its own thread. So does a call when one thread is set or one chunk is
// all there is.
using parallel_for_fn = void (*)(std::int64_t n, std::int64_t grain, chunk_body body, void* context);

// What the capsule points to.
struct PoolApi {
  parallel_for_fn parallel_for;
  int (*get_num_threads)();
};

constexpr char kPoolCapsule[] = "fastnn.kernels.cpu.threads.pool_api";

void parallel_for(std::int64_t n, std::int64_t grain, chunk_body body, void* context) noexcept;

// Threads a parallel_for may use, the calling one included. One until the policy in fastnn/threads.py sets it.
int get_num_threads() noexcept;
void set_num_threads(int count) noexcept;  // below 1 counts as 1; takes effect with the next call, from any thread

// With more threads than usable cores, waiting threads sleep at once: spinning would take the core from the one that
// works.
void set_usable_cores(int count) noexcept;

// Threads that the pool has started so far, in this process.
int started_threads() noexcept;

// No call ever uses more threads than this, whatever number is set.
constexpr int kMaxThreads = 1024;

}  // namespace fastnn

// Stable names for tools that find the shared library by its path, such as threadpoolctl.
extern "C" {
__attribute__((visibility("default"))) int fastnn_get_num_threads();
__attribute__((visibility("default"))) void fastnn_set_num_threads(int count);
}

#endif  // FASTNN_KERNELS_CPU_POOL_HPP_
