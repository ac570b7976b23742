// The loops of the dropout family, for one instruction set. Built once per set, with FASTNN_ISA_<set> defined.
//
// Floor: x read once, y written once; the random bits of an element cost about 1.5 operations of 64 bits on a vector of
// eight (philox.hpp). Tried and rejected: a mask of one bit an element between drawing and selecting (expanding it
// costs AVX2 more than comparing 16-bit numbers); all numbers of a chunk first (drawing and waiting for memory then
// take turns).
#include "dropout.hpp"

#include "../include/dropout.hpp"
#include "../include/philox.hpp"
#include "storage.hpp"

FASTNN_BEGIN
namespace {

using fastnn_cpu::Affine;
using fastnn_cpu::Draw;
using fastnn_cpu::Dropout;
using std::int64_t;
using std::uint64_t;

constexpr int64_t aligned_from = 512;  // elements

// y = f(x, kept) over n elements, the first of which has number `first`. Every vector, whole or not, goes through the
// same formula.
template <class T, class F>
FASTNN_FN void masked(const void* from, void* to, int64_t n, uint64_t first, const Draw& draw, bool streaming, F f) {
  using S = storage<T>;
  using V = typename S::V;
  constexpr int width = lanes<V>;
  const T* const x = static_cast<const T*>(from);
  T* const y = static_cast<T*>(to);
  const int64_t head = n < aligned_from ? 0 : head_of(y);
  const bool past_caches = streaming && n >= aligned_from && can_stream(y + head);
  const philox<vwords> generator(draw.seed, draw.offset);
  const u32 threshold = draw.threshold;
  const auto partial = [&](int64_t i, int count, const u16* halves) {
    u16 own[width] = {};
    __builtin_memcpy(own, halves, count * sizeof(u16));
    S::store_first(y + i, f(S::load_first(x + i, count), at_least16<V>(own, threshold)), count);
  };
  for_each_run(generator, first, n, head, [&](int64_t begin, int64_t end, const u16* halves) {
    const auto whole = [&](int64_t i) {
      return f(fetched(S::load(x + i)), at_least16<V>(halves + (i - begin), threshold));
    };
    int64_t i = begin;
    if (i == 0 && head != 0) {
      partial(0, static_cast<int>(head), halves);
      i = head;
    }
    if (past_caches)
      for (; i + width <= end; i += width) S::stream(y + i, whole(i));
    for (; i + 2 * width <= end; i += 2 * width) {
      const V one = whole(i), other = whole(i + width);
      S::store(y + i, one);
      S::store(y + i + width, other);
    }
    for (; i + width <= end; i += width) S::store(y + i, whole(i));
    if (i < end) partial(i, static_cast<int>(end - i), halves + (i - begin));
  });
  if (past_caches) stream_fence();
}

template <class T>
void scaled_loop(const void* x, void* y, int64_t n, uint64_t first, const Draw& draw, double factor, bool streaming) {
  using V = typename storage<T>::V;
  const V scale(static_cast<scalar_t<V>>(factor));
  masked<T>(x, y, n, first, draw, streaming, [=](V v, mask_t<V> kept) { return scaled(v, kept, scale); });
}

template <class T>
void affine_loop(const void* x, void* y, int64_t n, uint64_t first, const Draw& draw, const Affine& formula,
                 bool streaming) {
  using V = typename storage<T>::V;
  using S = scalar_t<V>;
  const V scale(static_cast<S>(formula.scale)), shift(static_cast<S>(formula.shift)),
      dropped(static_cast<S>(formula.dropped));
  masked<T>(x, y, n, first, draw, streaming,
            [=](V v, mask_t<V> kept) { return affine(v, kept, scale, shift, dropped); });
}

template <class T>
void times_loop(const void* from, void* to, int64_t n, double factor) {
  using S = storage<T>;
  using V = typename S::V;
  constexpr int width = lanes<V>;
  const T* const x = static_cast<const T*>(from);
  T* const y = static_cast<T*>(to);
  const V scale(static_cast<scalar_t<V>>(factor));
  int64_t i = 0;
  for (; i + width <= n; i += width) S::store(y + i, S::load(x + i) * scale);
  const int rest = static_cast<int>(n - i);
  if (rest != 0) S::store_first(y + i, S::load_first(x + i, rest) * scale, rest);
}

void mask_loop(unsigned char* kept, int64_t n, uint64_t first, const Draw& draw) {
  const u32 threshold = draw.threshold;
  for_each_run(philox<vwords>(draw.seed, draw.offset), first, n, 0, [&](int64_t begin, int64_t end, const u16* halves) {
    for (int64_t i = begin; i < end; ++i) kept[i] = halves[i - begin] >= threshold;
  });
}

void blocks_loop(std::uint32_t* words, int64_t n, uint64_t first, uint64_t seed, uint64_t offset) {
  const philox<vwords> generator(seed, offset);
  constexpr int most = run_length / block_halves;
  for (int64_t i = 0; i < n; i += most) {
    alignas(64) u32 buffer[most * block_words];
    const int count = n - i < most ? static_cast<int>(n - i) : most;
    generator.fill(buffer, first + i, count);
    __builtin_memcpy(words + i * block_words, buffer, count * block_words * sizeof(u32));
  }
}

const Dropout table = {
    {scaled_loop<float>, scaled_loop<double>, scaled_loop<binary16>, scaled_loop<bfloat16>},
    {affine_loop<float>, affine_loop<double>, affine_loop<binary16>, affine_loop<bfloat16>},
    {times_loop<float>, times_loop<double>, times_loop<binary16>, times_loop<bfloat16>},
    mask_loop,
    blocks_loop,
};

}  // namespace
FASTNN_END

FASTNN_FAMILY_TABLE(Dropout, dropout, (fastnn::table))
