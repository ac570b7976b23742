// Working memory of a thread: one block, kept from call to call, so that kernels that need room for tiles ask the
// system for it once.
#pragma once
#include <cstdint>

namespace fastnn_cpu {

// At least so many bytes, aligned to a cache line, with whatever was in them; null where there is no memory. The block
// is the calling thread's own until it asks again.
void* scratch(std::int64_t bytes) noexcept;

// The largest block that any thread has asked for since the last reset: tests measure with it.
std::int64_t scratch_peak() noexcept;
void reset_scratch_peak() noexcept;

}  // namespace fastnn_cpu
