// A family of kernels: one table of functions, filled once per instruction set.
//
// FASTNN_FAMILY(Table, family), in the family's header, declares those tables and the choice between them,
// family(isa) -> const Table&. FASTNN_FAMILY_TABLE(Table, family, table), at the end of the source that is compiled
// once per instruction set, gives out the one of this instruction set.
//
// Such a source keeps everything in an anonymous namespace inside FASTNN_BEGIN ... FASTNN_END and uses no template or
// inline function of the standard library that could be emitted on its own: the linker keeps one copy of those, perhaps
// the one with instructions that the CPU has not.
#pragma once
#include "loop.hpp"

#if defined(__x86_64__)
#define FASTNN_FAMILY(Table, family)                                                                          \
  extern "C" {                                                                                                \
  const fastnn_cpu::Table* fastnn_##family##_v2();                                                            \
  const fastnn_cpu::Table* fastnn_##family##_v3();                                                            \
  const fastnn_cpu::Table* fastnn_##family##_v4();                                                            \
  }                                                                                                           \
  namespace fastnn_cpu {                                                                                      \
  static inline const Table& family(int isa) {                                                                \
    return *(isa == 2 ? fastnn_##family##_v4() : isa == 1 ? fastnn_##family##_v3() : fastnn_##family##_v2()); \
  }                                                                                                           \
  }
#elif defined(__aarch64__)
#define FASTNN_FAMILY(Table, family)                                           \
  extern "C" const fastnn_cpu::Table* fastnn_##family##_neon();                \
  namespace fastnn_cpu {                                                       \
  static inline const Table& family(int) { return *fastnn_##family##_neon(); } \
  }
#else
#error "fastnn has kernels for x86-64 and aarch64"
#endif

#define FASTNN_FAMILY_NAME(family, isa) fastnn_##family##_##isa
#define FASTNN_FAMILY_EXPORT(Table, family, isa, table) \
  extern "C" const fastnn_cpu::Table* FASTNN_FAMILY_NAME(family, isa)() { return &table; }
#define FASTNN_FAMILY_TABLE(Table, family, table) FASTNN_FAMILY_EXPORT(Table, family, FASTNN_ISA, table)
