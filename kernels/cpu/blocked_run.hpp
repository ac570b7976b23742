// Steps over blocked images, from what they are told to threads at work.
#pragma once
#include "blocked.hpp"
#include "program.hpp"
#include "runtime.hpp"

namespace fastnn_cpu {

// A step of a session that knows everything but where its arrays lie.
struct BlockedStep {
  Operation operation;  // the first member: whoever runs a step has no more of it
  Blocked job;
  bool adds;             // has a second input
  Loop loops[max_isas];  // of the activation, by instruction set; null for none
  const Runtime* runtime;
};

// Fills in what follows from kind, planes, pool, adds and geometry. `tap` must have room for the kernel's elements.
void plan_step(BlockedStep&) noexcept;

}  // namespace fastnn_cpu
