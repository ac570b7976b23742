// From which size on results bypass the caches.
#pragma once
#include <unistd.h>

#include <cstdint>

namespace fastnn_cpu {

// From this many bytes of output on, stores bypass the caches: the result would not stay there, and a cached store
// reads the line it overwrites first. The same rule, and about the same size, as the C library's memcpy; but of the
// size that the system gives, 32 MiB count at most: some processors give that of all their caches of the third level
// together, of which a core fills one.
inline std::int64_t streaming_from() {
  static const std::int64_t threshold = [] {
    std::int64_t cache = 32 << 20;
#if defined(_SC_LEVEL3_CACHE_SIZE)
    const long found = sysconf(_SC_LEVEL3_CACHE_SIZE);
    if (found > 0 && found < cache) cache = found;
#endif
    return cache / 4 * 3;
  }();
  return threshold;
}

}  // namespace fastnn_cpu
