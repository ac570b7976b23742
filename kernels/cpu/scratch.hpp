// Working memory of a thread, kept from call to call, so that kernels that need room ask the system for it once: a
// block for tiles, and one for what a call shares with the threads that work for it.
#pragma once
#include <cstdint>

namespace fastnn_cpu {

enum ScratchUse { scratch_tiles, scratch_shared };

// At least so many bytes, aligned to a cache line, with whatever was in them; null where there is no memory. The block
// is the calling thread's until it asks for one of the same use again.
void* scratch(std::int64_t bytes, ScratchUse use = scratch_tiles) noexcept;

// The largest block that any thread has asked for since the last reset: tests measure with it.
std::int64_t scratch_peak() noexcept;
void reset_scratch_peak() noexcept;

}  // namespace fastnn_cpu
