// What every kernel needs of CUDA itself: how elements are stored, 16 bytes at a time from any address, and sums in one
// order. Everything that is computed stands in kernels/include, for one lane: V = float or double.
#pragma once
#include "simd.hpp"

#define FASTNN_CUDA_BEGIN \
  FASTNN_BEGIN            \
  namespace cuda {
#define FASTNN_CUDA_END \
  }                     \
  FASTNN_END

// Lanes are registers on a device; the emulator on the host keeps its loops, which are quicker to compile.
#if defined(__CUDACC_RTC__)
#define FASTNN_CUDA_UNROLL FASTNN_UNROLL
#else
#define FASTNN_CUDA_UNROLL
#endif

FASTNN_CUDA_BEGIN

using i64 = long long;

// The 16-bit formats are their bits: no header of CUDA's is needed, and nobody computes in them by accident.
struct half {
  u16 bits;
};
struct bfloat16 {
  u16 bits;
};

template <class T>
struct storage {  // float, double: stored as they are computed
  using V = T;
  static FASTNN_FN V load(T t) { return t; }
  static FASTNN_FN T store(V v) { return v; }
};
template <>
struct storage<half> {
  using V = float;
#if defined(__CUDA_ARCH__)  // one instruction each, in the place of ten
  static FASTNN_FN float load(half t) {
    float v;
    asm("cvt.f32.f16 %0, %1;" : "=f"(v) : "h"(t.bits));
    return v;
  }
  static FASTNN_FN half store(float v) {
    half t;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(t.bits) : "f"(v));
    return t;
  }
#else
  static FASTNN_FN float load(half t) { return binary16_to_float<float>(u32(t.bits)); }
  static FASTNN_FN half store(float v) { return {static_cast<u16>(float_to_binary16(v))}; }
#endif
};
template <>
struct storage<bfloat16> {
  using V = float;
  static FASTNN_FN float load(bfloat16 t) { return bfloat16_to_float<float>(u32(t.bits)); }
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  static FASTNN_FN bfloat16 store(float v) {
    bfloat16 t;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(t.bits) : "f"(v));
    return t;
  }
#else
  static FASTNN_FN bfloat16 store(float v) { return {static_cast<u16>(float_to_bfloat16(v))}; }
#endif
};

// What an element of type T is computed in.
template <class T>
using compute_t = typename storage<T>::V;
template <class T>
FASTNN_FN compute_t<T> widened(T t) {
  return storage<T>::load(t);
}
template <class T>
FASTNN_FN T narrowed(compute_t<T> v) {
  return storage<T>::store(v);
}

// The number of this thread in the grid, and how many there are.
__device__ __forceinline__ i64 grid_thread() { return static_cast<i64>(blockIdx.x) * blockDim.x + threadIdx.x; }
__device__ __forceinline__ i64 grid_threads() { return static_cast<i64>(gridDim.x) * blockDim.x; }

// ---- 16 bytes at a time ----

template <class T, int n>
struct lanes_of {
  compute_t<T> at[n];
};
template <class T, int n>
struct alignas(n * sizeof(T)) packed {
  T at[n];
};

FASTNN_HOST_DEVICE constexpr int larger(int a) { return a; }
template <class... Rest>
FASTNN_HOST_DEVICE constexpr int larger(int a, int b, Rest... rest) {
  return larger(a > b ? a : b, rest...);
}
// Elements a thread takes at a time: 16 bytes of the widest type.
template <class... T>
constexpr int lanes_together = 16 / larger(static_cast<int>(sizeof(T))...);

template <int n, class T>
__device__ __forceinline__ bool is_aligned(const T* p) {
  return reinterpret_cast<size_t>(p) % (n * sizeof(T)) == 0;
}
// Where packs of n elements begin, counted back from p: p - head is the last boundary at or before p.
template <int n, class T>
__device__ __forceinline__ int head_of(const T* p) {
  return static_cast<int>(reinterpret_cast<size_t>(p) / sizeof(T) % n);
}

// The elements p[begin] ... p[end - 1] of p[0] ... p[n - 1]; 0 in the place of the others, which are not read.
template <int n, class T>
__device__ __forceinline__ lanes_of<T, n> load_lanes(const T* p, int begin, int end) {
  lanes_of<T, n> x;
  if (begin == 0 && end == n && is_aligned<n>(p)) {
    const packed<T, n> all = *reinterpret_cast<const packed<T, n>*>(p);
    FASTNN_CUDA_UNROLL
    for (int k = 0; k < n; ++k) x.at[k] = widened(all.at[k]);
  } else {
    FASTNN_CUDA_UNROLL
    for (int k = 0; k < n; ++k) x.at[k] = begin <= k && k < end ? widened(p[k]) : compute_t<T>(0);
  }
  return x;
}
template <int n, class T>
__device__ __forceinline__ void store_lanes(T* p, const lanes_of<T, n>& x, int begin, int end) {
  if (begin == 0 && end == n && is_aligned<n>(p)) {
    packed<T, n> all;
    FASTNN_CUDA_UNROLL
    for (int k = 0; k < n; ++k) all.at[k] = narrowed<T>(x.at[k]);
    *reinterpret_cast<packed<T, n>*>(p) = all;
  } else {
    FASTNN_CUDA_UNROLL
    for (int k = 0; k < n; ++k)
      if (begin <= k && k < end) p[k] = narrowed<T>(x.at[k]);
  }
}

// The packs of n elements that cover `count` elements, the first of which lies `head` elements after a boundary: the
// first and the last pack may be cut short.
template <int n>
struct cover {
  i64 count;
  int head;
  __device__ __forceinline__ i64 packs() const { return count > 0 ? (count + head + n - 1) / n : 0; }
  __device__ __forceinline__ i64 first(i64 pack) const { return pack * n - head; }  // its first element, or before 0
  __device__ __forceinline__ int begin(i64 first) const { return first < 0 ? static_cast<int>(-first) : 0; }
  __device__ __forceinline__ int end(i64 first) const {
    return count - first < n ? static_cast<int>(count - first) : n;
  }
};

template <int n, class F, class Out, class... In>
__device__ __forceinline__ void compute_lanes(F& f, Out* out, i64 first, i64 count, int begin, int end,
                                              const lanes_of<In, n>&... x) {
  lanes_of<Out, n> y;
  FASTNN_CUDA_UNROLL
  for (int k = 0; k < n; ++k) {
    const i64 i = first + k;  // of a lane that is cut off, another one's
    y.at[k] = f(i < 0 ? 0 : i < count ? i : count - 1, x.at[k]...);
  }
  store_lanes<n>(out, y, begin, end);
}

// out[i] = f(i, in[i]...) for 0 <= i < count, shared among `threads` threads. f computes in compute_t of its types and
// has no side effects. An input may be the output; it may not overlap it otherwise.
template <class F, class Out, class... In>
__device__ __forceinline__ void elementwise(i64 thread, i64 threads, i64 count, F f, Out* out, const In*... in) {
  constexpr int n = lanes_together<Out, In...>;
  const cover<n> all = {count, head_of<n>(out)};
  const i64 packs = all.packs();
  for (i64 pack = thread; pack < packs; pack += threads) {
    const i64 first = all.first(pack);
    const int begin = all.begin(first), end = all.end(first);
    compute_lanes<n>(f, out + first, first, count, begin, end, load_lanes<n>(in + first, begin, end)...);
  }
}

// The same for one input, two packs of which are on their way at a time: with one, a processor full of threads asks for
// less than its memory can have in flight.
template <class F, class Out, class In>
__device__ __forceinline__ void elementwise(i64 thread, i64 threads, i64 count, F f, Out* out, const In* in) {
  constexpr int n = lanes_together<Out, In>, packs_together = 2;
  const cover<n> all = {count, head_of<n>(out)};
  const i64 packs = all.packs();
  for (i64 pack = thread; pack < packs; pack += packs_together * threads) {
    lanes_of<In, n> x[packs_together];
    i64 first[packs_together];
    int begin[packs_together], end[packs_together];
    FASTNN_CUDA_UNROLL
    for (int k = 0; k < packs_together; ++k) {
      const i64 each = pack + k * threads;
      first[k] = all.first(each);
      begin[k] = all.begin(first[k]);
      end[k] = each < packs ? all.end(first[k]) : 0;
      x[k] = load_lanes<n>(in + first[k], begin[k], end[k]);
    }
    FASTNN_CUDA_UNROLL
    for (int k = 0; k < packs_together; ++k)
      if (end[k] > 0) compute_lanes<n>(f, out + first[k], first[k], count, begin[k], end[k], x[k]);
  }
}

template <int n, class F, class... In>
__device__ __forceinline__ void visit_lanes(F& f, i64 first, int begin, int end, const lanes_of<In, n>&... x) {
  FASTNN_CUDA_UNROLL
  for (int k = 0; k < n; ++k)
    if (begin <= k && k < end) f(first + k, x.at[k]...);
}

// f(i, in[i]...) for 0 <= i < count, shared among `threads` threads; each takes its own in rising order.
template <class F, class First, class... In>
__device__ __forceinline__ void for_each(i64 thread, i64 threads, i64 count, F f, const First* first_in,
                                         const In*... in) {
  constexpr int n = lanes_together<First, In...>;
  const cover<n> all = {count, head_of<n>(first_in)};
  const i64 packs = all.packs();
  for (i64 pack = thread; pack < packs; pack += threads) {
    const i64 first = all.first(pack);
    const int begin = all.begin(first), end = all.end(first);
    visit_lanes<n>(f, first, begin, end, load_lanes<n>(first_in + first, begin, end),
                   load_lanes<n>(in + first, begin, end)...);
  }
}

// ---- reductions ----

struct adding {
  template <class V>
  __device__ __forceinline__ V operator()(V a, V b) const {
    return a + b;
  }
};
struct maximum {  // NaN wins
  template <class V>
  __device__ __forceinline__ V operator()(V a, V b) const {
    return a > b || a != a ? a : b;
  }
};

// f of all 32 values of a warp, in every lane. f is commutative, so that lanes agree in every bit.
template <class V, class F>
__device__ __forceinline__ V warp_reduce(V v, F f) {
  FASTNN_CUDA_UNROLL
  for (int distance = 16; distance > 0; distance /= 2) v = f(v, __shfl_xor_sync(0xffffffffu, v, distance));
  return v;
}
// f of the values of all threads of the block, in every thread; f(identity, v) = v.
template <class V, class F>
__device__ __forceinline__ V block_reduce(V v, V identity, F f) {
  __shared__ V partial[32];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
  v = warp_reduce(v, f);
  __syncthreads();  // nobody reads what the last reduction left here any more
  if (lane == 0) partial[warp] = v;
  __syncthreads();
  return warp_reduce(lane < warps ? partial[lane] : identity, f);
}
template <class V>
__device__ __forceinline__ V warp_sum(V v) {
  return warp_reduce(v, adding());
}
template <class V>
__device__ __forceinline__ V block_sum(V v) {
  return block_reduce(v, V(0), adding());
}
template <class V>
__device__ __forceinline__ V block_max(V v) {
  return block_reduce(v, from_bits<V>(format<V>::sign | format<V>::infinity), maximum());
}

FASTNN_CUDA_END
