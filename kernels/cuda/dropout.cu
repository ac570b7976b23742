// The dropout family: see dropout.hpp and philox.hpp. Masks are those of the CPU, bit for bit.
//
// x is read once and y written once. A thread draws a block of random bits for eight elements, about 10 operations an
// element: drawing anew in backward costs less than writing a mask and reading it back.
#include "fused.cuh"
#include "sums.cuh"

FASTNN_CUDA_BEGIN

// f(begin of a group of elements, its first and last one, which are kept): element i has number first + i.
template <class F>
__device__ __forceinline__ void each_block(i64 count, u64 first, const draw& source, F f) {
  const cover<block_halves> all = {count, static_cast<int>(first % block_halves)};
  const i64 packs = all.packs();
  for (i64 pack = grid_thread(); pack < packs; pack += grid_threads()) {
    const i64 at = all.first(pack);
    bool kept[block_halves];
    source.kept(first / block_halves * block_halves + pack * block_halves, kept);
    f(at, all.begin(at), all.end(at), kept);
  }
}
template <class T, class F>
__device__ __forceinline__ void masked(const T* x, T* y, i64 count, u64 first, const draw& source, F f) {
  each_block(count, first, source, [&](i64 at, int begin, int end, const bool (&kept)[block_halves]) {
    auto v = load_lanes<block_halves>(x + at, begin, end);
    FASTNN_UNROLL
    for (int k = 0; k < block_halves; ++k) v.at[k] = f(v.at[k], kept[k]);
    store_lanes<block_halves>(y + at, v, begin, end);
  });
}

template <class T>
__global__ void dropout_scaled(const T* x, T* y, i64 n, u64 first, i64 threshold, compute_t<T> scale, u64 seed,
                               u64 offset) {
  using V = compute_t<T>;
  masked(x, y, n, first, {seed, offset, static_cast<u32>(threshold)},
         [=](V v, bool kept) { return scaled(v, kept, scale); });
}
template <class T>
__global__ void dropout_affine(const T* x, T* y, i64 n, u64 first, i64 threshold, compute_t<T> scale,
                               compute_t<T> shift, compute_t<T> dropped, u64 seed, u64 offset) {
  using V = compute_t<T>;
  masked(x, y, n, first, {seed, offset, static_cast<u32>(threshold)},
         [=](V v, bool kept) { return affine(v, kept, scale, shift, dropped); });
}

// Units of `inner` elements, which are kept or not as a whole.
template <class T>
__global__ void dropout_units(const T* x, T* y, const unsigned char* kept, i64 count, i64 inner, compute_t<T> scale) {
  constexpr int n = lanes_together<T>;
  for_packs<n>(grid_thread(), grid_threads(), count, y, [&](i64 first, int begin, int end) {
    auto v = load_lanes<n>(x + first, begin, end);
    i64 unit = (first + begin) / inner, place = (first + begin) % inner;
    bool keeps = kept[unit];
    FASTNN_UNROLL
    for (int k = 0; k < n; ++k) {
      if (k < begin || k >= end) continue;
      if (place == inner) {
        place = 0;
        keeps = kept[++unit];
      }
      ++place;
      v.at[k] = scaled(v.at[k], keeps, scale);
    }
    store_lanes<n>(y + first, v, begin, end);
  });
}
template <class T>
__global__ void dropout_times(const T* x, T* y, i64 n, compute_t<T> scale) {
  using V = compute_t<T>;
  elementwise(grid_thread(), grid_threads(), n, [=](i64, V v) { return v * scale; }, y, x);
}

__global__ void dropout_mask(unsigned char* kept, i64 n, u64 first, i64 threshold, u64 seed, u64 offset) {
  const draw source = {seed, offset, static_cast<u32>(threshold)};
  each_block(n, first, source, [&](i64 at, int begin, int end, const bool (&keeps)[block_halves]) {
    lanes_of<unsigned char, block_halves> v;
    FASTNN_UNROLL
    for (int k = 0; k < block_halves; ++k) v.at[k] = keeps[k];
    store_lanes<block_halves>(kept + at, v, begin, end);
  });
}
__global__ void philox_blocks(u32* words, i64 n, u64 first, u64 seed, u64 offset) {
  const philox<u32> generator(seed, offset);
  for (i64 i = grid_thread(); i < n; i += grid_threads()) {
    u32 block[block_words];
    generator.block(first + i, block);
    FASTNN_UNROLL
    for (int k = 0; k < block_words; ++k) words[i * block_words + k] = block[k];
  }
}

FASTNN_CUDA_END
