// The interface between the loops, compiled once per instruction set, and the code that calls them, compiled once.
#pragma once
#include <cstdint>

namespace fastnn_cpu {

// A contiguous loop over n elements. operands: the inputs in the order of the formula, then the output, which may be
// one of the inputs. Parameters point to one value, or to n values where flags has parameter_arrays; they are float for
// the 16-bit formats.
using Loop = void (*)(void* const* operands, std::int64_t n, unsigned flags);
enum : unsigned { parameter_arrays = 1, streaming_stores = 2 };

enum Dtype : int { dtype_float32, dtype_float64, dtype_float16, dtype_bfloat16, dtype_count };
enum Pass : int { pass_forward, pass_backward, pass_parameter_gradient, pass_count };

}  // namespace fastnn_cpu
