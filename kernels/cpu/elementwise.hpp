// Elementwise operations over memory as NumPy hands it out: any strides, large arrays on several threads.
#pragma once
#include <cstdint>

#include "runtime.hpp"

namespace fastnn_cpu {

// One op, pass and dtype.
struct Operation {
  Loop loops[max_isas];  // by instruction set
  int arrays, parameters;
  int item, parameter_item;    // sizes in bytes
  std::int64_t parallel_from;  // elements from which threads pay
};

// args: arrays, parameters, then the output; strides in bytes likewise. The output may be one of the inputs, element
// for element.
void run(const Operation& operation, const Runtime& runtime, char* const* args, const std::int64_t* strides,
         std::int64_t n);

// As run, with the floating-point flags left as they were. NumPy reads them after a loop, and would warn of what
// formulas meet on their way to a right result; nor could it see those of other threads.
void run_quietly(const Operation& operation, const Runtime& runtime, char* const* args, const std::int64_t* strides,
                 std::int64_t n);

// sum over o and i of f(dy, x, p[c]) for x[o, c, i], C-contiguous, where f is the gradient by a parameter with
// `channels` values: total[c]. In double, in an order that depends on the shape alone.
void sum_parameter_gradient(const Operation& operation, const Runtime& runtime, const char* dy, const char* x,
                            const char* parameter, std::int64_t outer, std::int64_t channels, std::int64_t inner,
                            double* total);

}  // namespace fastnn_cpu
