// How each dtype lies in memory and which V computes it: float and double as they are, the 16-bit formats through
// float.
#pragma once
#include <cstdint>

#include "../include/simd.hpp"

FASTNN_BEGIN

struct binary16 {
  u16 raw;
};
struct bfloat16 {
  u16 raw;
};

// stream() writes past the caches; to whole vectors at addresses that are multiples of their size. `streams` says where
// it exists.
template <class T>
struct storage;

template <class T, class Vector>
struct plain_storage {
  using V = Vector;
  using parameter = T;
  static constexpr bool streams = true;
  static FASTNN_FN V load(const T* p) { return fastnn::load<V>(p); }
  static FASTNN_FN V load_first(const T* p, int n) { return fastnn::load_first<V>(p, n, V(T(0))); }
  static FASTNN_FN void store(T* p, V x) { fastnn::store(p, x); }
  static FASTNN_FN void store_first(T* p, V x, int n) { fastnn::store_first(p, x, n); }
  static FASTNN_FN void stream(T* p, V x) { fastnn::stream(p, x); }
};
template <>
struct storage<float> : plain_storage<float, vfloat> {};
template <>
struct storage<double> : plain_storage<double, vdouble> {};

template <class T, class Convert>
struct half_storage {
  using V = vfloat;
  using parameter = float;
  static constexpr bool streams = false;
  static FASTNN_FN V load(const T* p) { return Convert::load(&p->raw); }
  static FASTNN_FN V load_first(const T* p, int n) {
    u16 lane[lanes<V>] = {};
    __builtin_memcpy(lane, p, n * sizeof(T));
    return Convert::load(lane);
  }
  static FASTNN_FN void store(T* p, V x) { Convert::store(&p->raw, x); }
  static FASTNN_FN void store_first(T* p, V x, int n) {
    u16 lane[lanes<V>];
    Convert::store(lane, x);
    __builtin_memcpy(p, lane, n * sizeof(T));
  }
  static FASTNN_FN void stream(T* p, V x) { store(p, x); }
};
struct convert_binary16 {
  static FASTNN_FN vfloat load(const u16* p) { return load_binary16(p); }
  static FASTNN_FN void store(u16* p, vfloat x) { store_binary16(p, x); }
};
struct convert_bfloat16 {
  static FASTNN_FN vfloat load(const u16* p) { return bfloat16_to_float<vfloat>(widen16(p)); }
  static FASTNN_FN void store(u16* p, vfloat x) { store_bfloat16(p, x); }
};
template <>
struct storage<binary16> : half_storage<binary16, convert_binary16> {};
template <>
struct storage<bfloat16> : half_storage<bfloat16, convert_bfloat16> {};

// Elements of y in front of the first vector that does not straddle cache lines; 0 where none ever lies so.
template <class T>
FASTNN_FN long long head_of(const T* y) {
  constexpr auto bytes = lanes<typename storage<T>::V> * sizeof(T);
  const auto misaligned = reinterpret_cast<std::uintptr_t>(y) % bytes;
  return misaligned % sizeof(T) != 0 || misaligned == 0 ? 0 : static_cast<long long>((bytes - misaligned) / sizeof(T));
}
// May vectors be streamed to y?
template <class T>
FASTNN_FN bool can_stream(const T* y) {
  return storage<T>::streams && reinterpret_cast<std::uintptr_t>(y) % (lanes<typename storage<T>::V> * sizeof(T)) == 0;
}

FASTNN_END
