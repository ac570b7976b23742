// The loops of augmentation, for one instruction set. Built once per set, with FASTNN_ISA_<set> defined.
//
// Floor: mix reads two samples and writes one, 3 operations an element; cutout copies, and in place touches the boxes
// alone.
#include "augmentation.hpp"

#include "storage.hpp"

FASTNN_BEGIN
namespace {

using fastnn_cpu::Augmentation;
using fastnn_cpu::Cutout;
using std::int64_t;

constexpr int64_t aligned_from = 512;  // elements

template <class T>
void mix_loop(const void* first, const void* second, void* to, int64_t n, double share, bool streaming) {
  using S = storage<T>;
  using V = typename S::V;
  constexpr int width = lanes<V>;
  const T *const a = static_cast<const T*>(first), *const b = static_cast<const T*>(second);
  T* const y = static_cast<T*>(to);
  const auto number = static_cast<scalar_t<V>>(share);
  const V weight(number), rest(1 - number);
  const auto mixed = [&](V one, V other) { return fmadd(weight, one, rest * other); };
  const auto partial = [&](int64_t i, int count) {
    S::store_first(y + i, mixed(S::load_first(a + i, count), S::load_first(b + i, count)), count);
  };
  int64_t i = 0;
  if (n >= aligned_from) {
    i = head_of(y);
    if (i != 0) partial(0, static_cast<int>(i));
    if (streaming && can_stream(y + i)) {
      for (; i + width <= n; i += width) S::stream(y + i, mixed(S::load(a + i), S::load(b + i)));
      stream_fence();
    }
  }
  for (; i + width <= n; i += width) S::store(y + i, mixed(S::load(a + i), S::load(b + i)));
  if (i < n) partial(i, static_cast<int>(n - i));
}

template <class T>
void cutout_loop(const void* from, void* to, int64_t begin, int64_t end, const Cutout& c) {
  const int64_t size = c.height * c.width;
  const T fill = *static_cast<const T*>(c.fill);
  for (int64_t plane = begin; plane < end; ++plane) {
    T* const y = static_cast<T*>(to) + plane * size;
    if (from != to) __builtin_memcpy(y, static_cast<const T*>(from) + plane * size, size * sizeof(T));
    const int64_t* const box = c.boxes + 4 * (plane / c.channels);
    for (int64_t row = box[0]; row < box[1]; ++row)
      for (int64_t column = box[2]; column < box[3]; ++column) y[row * c.width + column] = fill;
  }
}

const Augmentation table = {
    {mix_loop<float>, mix_loop<double>, mix_loop<binary16>, mix_loop<bfloat16>},
    {cutout_loop<float>, cutout_loop<double>, cutout_loop<binary16>, cutout_loop<bfloat16>},
};

}  // namespace
FASTNN_END

FASTNN_FAMILY_TABLE(Augmentation, augmentation, (fastnn::table))
