// Steps over blocked images, from what they are told to threads at work.
#pragma once
#include "blocked.hpp"
#include "runtime.hpp"

namespace fastnn_cpu {

// Fills in what follows from kind, planes and geometry. `tap` must have room for the kernel's elements.
void plan_blocked(Blocked&) noexcept;

// False where there is no memory.
bool run_blocked(const Runtime&, Blocked&) noexcept;

// The same channels as blocks, and back: only images, channels, rows and cols count.
void run_block(const Runtime&, Blocked&) noexcept;
void run_unblock(const Runtime&, Blocked&) noexcept;

}  // namespace fastnn_cpu
