// No instruction set: vectors of one lane, for the loops on any other machine and for checking the formulas as CUDA
// runs them.
#pragma once

FASTNN_BEGIN

using vfloat = float;
using vdouble = double;
using vwords = u32;

FASTNN_FN void stream(float* p, float x) { *p = x; }
FASTNN_FN void stream(double* p, double x) { *p = x; }
FASTNN_FN void stream_fence() {}

FASTNN_FN u32 widen16(const u16* p) { return *p; }
FASTNN_FN void narrow16(u16* p, u32 b) { *p = static_cast<u16>(b); }
FASTNN_FN float load_binary16(const u16* p) { return binary16_to_float<float>(widen16(p)); }
FASTNN_FN void store_binary16(u16* p, float x) { narrow16(p, float_to_binary16(x)); }

struct doubles {
  vdouble part[1];
};
FASTNN_FN doubles widen(vfloat x) { return {{x}}; }
FASTNN_FN vfloat narrow(doubles x) { return static_cast<float>(x.part[0]); }

FASTNN_END
