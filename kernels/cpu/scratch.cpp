#include "scratch.hpp"

#include <atomic>
#include <cstdlib>

namespace fastnn_cpu {
namespace {

constexpr std::int64_t line = 64;
std::atomic<std::int64_t> peak{0};

struct Block {
  void* memory = nullptr;
  std::int64_t size = 0;
  ~Block() { std::free(memory); }
};
thread_local Block blocks[2];

}  // namespace

void* scratch(std::int64_t bytes, ScratchUse use) noexcept {
  Block& block = blocks[use];
  bytes = (bytes + line - 1) / line * line;
  std::int64_t known = peak.load(std::memory_order_relaxed);
  while (bytes > known && !peak.compare_exchange_weak(known, bytes, std::memory_order_relaxed)) {
  }
  if (bytes > block.size) {
    std::free(block.memory);
    block.memory = std::aligned_alloc(line, static_cast<std::size_t>(bytes));
    block.size = block.memory == nullptr ? 0 : bytes;
  }
  return block.memory;
}

std::int64_t scratch_peak() noexcept { return peak.load(std::memory_order_relaxed); }
void reset_scratch_peak() noexcept { peak.store(0, std::memory_order_relaxed); }

}  // namespace fastnn_cpu
