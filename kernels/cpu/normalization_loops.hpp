// What the loops of batch norm and of the norms by rows share: sums over runs of elements, and runs of results that an
// activation is applied to while they lie in the first-level cache.
#pragma once
#include "../include/normalization.hpp"
#include "../include/reduce.hpp"
#include "normalization.hpp"
#include "parallel.hpp"
#include "storage.hpp"

FASTNN_BEGIN
namespace {

using namespace fastnn_cpu;
using namespace normalization;
using std::int64_t;

template <class T>
using vector_of = typename storage<T>::V;
template <class T>
using parameter_of = typename storage<T>::parameter;

constexpr int64_t parallel_from = 64 * 1024;  // elements from which a second thread pays

// ---- sums ----
//
// Lane i mod 16 takes element i, whatever the width of a vector. Four terms are added up in the type that is computed
// in, then in double.

// The vector of elements from k on, of the 16 from p + at on; of the first n of those 16, with 0 for the others.
struct load_whole {
  int64_t at;
  template <class T>
  FASTNN_FN auto operator()(const T* p, int k) const {
    return storage<T>::load(p + at + k);
  }
};
struct load_partial {
  int64_t at;
  int n;
  template <class T>
  FASTNN_FN auto operator()(const T* p, int k) const {
    using V = vector_of<T>;
    const T* const first = p + at + k;
    return n - k >= lanes<V> ? storage<T>::load(first) : n > k ? storage<T>::load_first(first, n - k) : V(0.0f);
  }
};

FASTNN_FN void add_to(lanes16& sums, int k, vfloat x) {
  const doubles wide = widen(x);
  constexpr int each = lanes<vfloat> / lanes<vdouble>;
  FASTNN_UNROLL
  for (int j = 0; j < each; ++j) {
    vdouble& part = sums.part[k / lanes<vdouble> + j];
    part = part + wide.part[j];
  }
}
FASTNN_FN void add_to(lanes16& sums, int k, vdouble x) {
  vdouble& part = sums.part[k / lanes<vdouble>];
  part = part + x;
}
FASTNN_FN void store16(double* p, const lanes16& a) {
  FASTNN_UNROLL
  for (int k = 0; k < lanes16::parts; ++k) store(p + k * lanes<vdouble>, a.part[k]);
}

// Rows of a channel lie far apart, and the processor cannot know which comes next.
template <class T>
FASTNN_FN void prefetch_block(const T* p) {
  constexpr int64_t line = 64, bytes = together * sum_lanes * sizeof(T);
  for (int64_t at = 0; at < bytes; at += line) __builtin_prefetch(reinterpret_cast<const char*>(p) + at, 0, 3);
}

// Terms add elements, get(p) of an array p, about a centre.
template <class T>
struct spread_terms {
  using V = vector_of<T>;
  static constexpr int count = 2;  // d, d^2
  const T* x;
  template <class Get>
  FASTNN_FN void add(V* sums, Get get, V centre) const {
    const V d = get(x) - centre;
    sums[0] = sums[0] + d;
    sums[1] = fmadd(d, d, sums[1]);
  }
  FASTNN_FN void fetch(int64_t at) const { prefetch_block(x + at); }
};
template <class T, class D>
struct gradient_terms {
  using V = vector_of<T>;
  static constexpr int count = 3;  // dy, dy d, d
  const D* dy;
  const T* x;
  template <class Get>
  FASTNN_FN void add(V* sums, Get get, V centre) const {
    const V d = get(x) - centre, g = get(dy);
    sums[0] = sums[0] + g;
    sums[1] = fmadd(g, d, sums[1]);
    sums[2] = sums[2] + d;
  }
  FASTNN_FN void fetch(int64_t at) const {
    prefetch_block(x + at);
    prefetch_block(dy + at);
  }
};

// A number that is known when loops over it are compiled.
template <int64_t n>
struct fixed {};
template <int64_t n, class F>
FASTNN_FN void repeat(fixed<n>, F f) {
  FASTNN_UNROLL
  for (int64_t u = 0; u < n; ++u) f(u);
}
template <class F>
FASTNN_FN void repeat(int64_t n, F f) {
  for (int64_t u = 0; u < n; ++u) f(u);
}

// Adds `some` times 16 elements, `apart` from each other, to 16 sums each; centre(k) is that of elements from k on.
// Loops over sums are unrolled, lest compilers keep the sums in memory.
template <class Terms, class Load, class Some, class Centre>
FASTNN_FN void add_block(const Terms& terms, lanes16* sums, Load load, int64_t apart, Some some, Centre centre) {
  using V = typename Terms::V;
  const int64_t begin = load.at;
  for (int k = 0; k < sum_lanes; k += lanes<V>) {
    V block[Terms::count];
    FASTNN_UNROLL
    for (V& sum : block) sum = V(0.0f);
    const V c = centre(k);
    repeat(some, [&](int64_t u) __attribute__((always_inline)) {
      load.at = begin + u * apart;
      terms.add(block, [&](const auto* p) { return load(p, k); }, c);
    });
    FASTNN_UNROLL
    for (int j = 0; j < Terms::count; ++j) add_to(sums[j], k, block[j]);
  }
}

// Adds the n elements from `at` on. Those beyond the last of a vector are zeros about a centre of zero.
template <class Terms>
FASTNN_FN void add_run(const Terms& terms, int64_t at, int64_t n, double centre, lanes16* sums, int64_t ahead = 0) {
  using V = typename Terms::V;
  using P = scalar_t<V>;
  static constexpr P ones[sum_lanes] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
  lanes16 local[Terms::count];
  for (int k = 0; k < Terms::count; ++k) local[k] = sums[k];
  const V same(static_cast<P>(centre));
  const auto of_all = [&](int) { return same; };
  int64_t i = 0;
  for (; i + together * sum_lanes <= n; i += together * sum_lanes) {
    if (ahead != 0) terms.fetch(at + i + ahead);
    add_block(terms, local, load_whole{at + i}, sum_lanes, fixed<together>(), of_all);
  }
  if (const int64_t whole = (n - i) / sum_lanes; whole > 0) {
    add_block(terms, local, load_whole{at + i}, sum_lanes, whole, of_all);
    i += whole * sum_lanes;
  }
  if (i < n) {
    const int left = static_cast<int>(n - i);
    add_block(terms, local, load_partial{at + i, left}, 0, 1,
              [&](int k) { return same * load_partial{0, left}(ones, k); });
  }
  for (int k = 0; k < Terms::count; ++k) sums[k] = local[k];
}

FASTNN_FN bool finite(double x) { return x - x == 0.0; }

// A number close to the mean of a run: that of its first elements, no more than are needed to be close.
template <class T>
FASTNN_FN parameter_of<T> shift_of(const T* x, int64_t n) {
  using S = storage<T>;
  using P = parameter_of<T>;
  constexpr int width = lanes<vector_of<T>>, room = width < 4 ? 4 : width;
  const int some = n < 4 ? static_cast<int>(n) : 4;
  P lane[room];
  for (int k = 0; k < some; k += width)
    fastnn::store(lane + k, n - k >= width ? S::load(x + k) : S::load_first(x + k, static_cast<int>(n - k)));
  P sum = lane[0];
  for (int k = 1; k < some; ++k) sum += lane[k];
  const P shift = some == 4 ? sum * P(0.25) : sum / static_cast<P>(some);
  return finite(shift) ? shift : 0;
}

// ---- results ----

// Stores n results: whole(i) computes those of a vector, partial(i, count) the first `count` of one. The output may be
// what they are computed from.
//
// Stores that straddle cache lines cost most, and arrays that NumPy allocates begin 16 bytes past one. So the first
// vector is followed by aligned ones that overlap it, and they by the last; whatever overlaps is computed before any of
// it is stored. `next` is memory that will be written soon.
template <class T, class Whole, class Partial>
FASTNN_FN void store_run(T* out, int64_t n, bool streaming, const T* next, Whole whole, Partial partial) {
  using S = storage<T>;
  constexpr int width = lanes<vector_of<T>>;
  int64_t i = 0;
  if (n >= 4 * width) {
    const auto misaligned = reinterpret_cast<std::uintptr_t>(out) % (width * sizeof(T));
    const bool alignable = misaligned % sizeof(T) == 0;
    const auto head = alignable ? width - static_cast<int64_t>(misaligned / sizeof(T)) : width;
    const auto first = whole(0), second = whole(head), last = whole(n - width);
    S::store(out, first);
    S::store(out + head, second);
    i = head + width;
    if (S::streams && streaming && alignable)
      for (; i + width <= n; i += width) S::stream(out + i, whole(i));
    for (; i + width <= n; i += width) {
      __builtin_prefetch(next + i, 1, 3);
      S::store(out + i, whole(i));
    }
    S::store(out + n - width, last);
    return;
  }
  for (; i + width <= n; i += width) S::store(out + i, whole(i));
  if (i < n) S::store_first(out + i, partial(i, static_cast<int>(n - i)), static_cast<int>(n - i));
}

// A number for all elements of a run, or one for each.
template <class P, class V>
struct same {
  V value;
  FASTNN_FN explicit same(P p) : value(p) {}
  FASTNN_FN V whole(int64_t) const { return value; }
  FASTNN_FN V partial(int64_t, int) const { return value; }
};
template <class T>
struct each {
  const T* p;
  FASTNN_FN explicit each(const T* first) : p(first) {}
  FASTNN_FN auto whole(int64_t i) const { return storage<T>::load(p + i); }
  FASTNN_FN auto partial(int64_t i, int n) const { return storage<T>::load_first(p + i, n); }
};

// Where results go: to memory as they are, or by way of an activation and dropout in blocks that a first-level cache
// holds, if it fuses. In a fused backward pass the results are the activation's input, and what is written is its
// gradient.
template <class T, bool fuses>
class Writer {
 public:
  using P = parameter_of<T>;

  FASTNN_FN Writer(T* out, bool streaming) : out_(out), streaming_(streaming) {}
  FASTNN_FN Writer(T* out, bool streaming, const Fusion& fusion) : Writer(out, streaming) {
    if (fusion.forward || fusion.dropped) fusion_ = &fusion;
  }
  FASTNN_FN Writer(P* dz, const T* dy, const Fusion& fusion) : dz_(dz), dy_(dy), fusion_(&fusion) {}
  Writer(const Writer&) = delete;
  FASTNN_FN ~Writer() {
    if (fuses && filled_ > 0) flush();
    if (streaming_) stream_fence();
  }

  // The next run begins this many elements after the one before it.
  FASTNN_FN void expect(int64_t jump) { jump_ = jump; }

  // f of the operands for n elements, which are those from `at` on.
  template <class F, class... Operands>
  FASTNN_FN void run(int64_t at, int64_t n, F f, const Operands&... operands) {
    if (!fuses || !fusion_) return store(out_ + at, 0, n, streaming_, out_ + at + jump_, f, operands...);
    if constexpr (fuses) {
      if (at != begin_ + filled_ && filled_ > 0) flush();
      for (int64_t from = 0; from < n;) {
        if (filled_ == 0) begin_ = at + from;
        const int64_t part = n - from < block - filled_ ? n - from : block - filled_;
        const P* const next = dz_ ? dz_ + at + from : reinterpret_cast<const P*>(out_ + at + from);
        store(buffer_ + filled_, from, part, false, next, f, operands...);
        filled_ += part;
        from += part;
        if (filled_ == block) flush();
      }
    }
  }

 private:
  static constexpr int64_t block = 2048;
  static constexpr bool narrow = sizeof(T) < sizeof(P);

  template <class U, class F, class... Operands>
  static FASTNN_FN void store(U* to, int64_t from, int64_t n, bool streaming, const U* next, F f,
                              const Operands&... operands) {
    store_run(
        to, n, streaming, next, [=](int64_t i) { return f(operands.whole(from + i)...); },
        [=](int64_t i, int count) { return f(operands.partial(from + i, count)...); });
  }
  template <class U, class From>
  static FASTNN_FN void convert(U* to, const From* from, int64_t n) {
    store(to, 0, n, false, to, [](auto v) { return v; }, each<From>(from));
  }

  __attribute__((noinline)) void flush() {
    if (dz_)
      flush_gradient();
    else
      flush_forward();
    filled_ = 0;
  }
  void flush_forward() {
    P* const last = narrow ? buffer_ : reinterpret_cast<P*>(out_ + begin_);
    const bool streaming = streaming_ && !narrow;
    if (fusion_->forward) {
      const bool to_memory = !fusion_->dropped;
      activate(fusion_->forward, nullptr, to_memory ? last : buffer_, to_memory && streaming);
    }
    if (fusion_->dropped) drop(buffer_, last, streaming);
    if constexpr (narrow) convert(out_ + begin_, buffer_, filled_);
  }
  void flush_gradient() {
    alignas(64) P incoming[block];
    const P* dy = reinterpret_cast<const P*>(dy_ + begin_);
    if constexpr (narrow) {
      convert(incoming, dy_ + begin_, filled_);
      dy = incoming;
    }
    if (fusion_->dropped) {
      P* const dropped = fusion_->backward ? incoming : dz_ + begin_;
      drop(dy, dropped, false);
      dy = dropped;
    }
    if (!fusion_->backward) return;
    if (fusion_->saves_output) activate(fusion_->forward, nullptr, buffer_, false);
    activate(fusion_->backward, dy, dz_ + begin_, false);
  }
  // The buffer, behind dy if that is not null, through a loop of the activation.
  void activate(Loop loop, const P* dy, P* to, bool streaming) {
    void* operands[6];
    int k = 0;
    if (dy) operands[k++] = const_cast<P*>(dy);
    operands[k++] = buffer_;
    for (int p = 0; p < fusion_->parameters; ++p) operands[k++] = const_cast<void*>(fusion_->values[p]);
    operands[k] = to;
    loop(operands, filled_, streaming ? unsigned(streaming_stores) : 0);
  }
  void drop(const P* from, P* to, bool streaming) {
    fusion_->dropped(from, to, filled_, static_cast<std::uint64_t>(begin_), fusion_->draw, fusion_->scale, streaming);
  }

  T* const out_ = nullptr;
  P* const dz_ = nullptr;
  const T* const dy_ = nullptr;
  const Fusion* fusion_ = nullptr;
  const bool streaming_ = false;
  int64_t begin_ = 0, filled_ = 0, jump_ = 0;
  alignas(64) P buffer_[fuses ? block : 1];
};

}  // namespace
FASTNN_END
