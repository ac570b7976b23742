// The thread pool for lambdas.
#pragma once
#include "pool.hpp"

namespace {

// Calls f(begin, end) for every chunk of `grain` indices of [0, n), on several threads where `threads` is true. The
// chunks depend on n and grain only.
template <class F>
inline void parallel(const fastnn::PoolApi& pool, std::int64_t n, std::int64_t grain, bool threads, const F& f) {
  const auto body = [](void* context, std::int64_t begin, std::int64_t end) {
    (*static_cast<const F*>(context))(begin, end);
  };
  void* const context = const_cast<void*>(static_cast<const void*>(&f));
  if (threads) return pool.parallel_for(n, grain, body, context);
  for (std::int64_t begin = 0; begin < n; begin += grain) body(context, begin, n - begin < grain ? n : begin + grain);
}

}  // namespace
