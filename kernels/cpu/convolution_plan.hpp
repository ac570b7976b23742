// How convolutions are cut into tiles and tasks. Results depend on `chunk` and on the slices, so these follow from the
// shapes alone; everything else may depend on the number of threads.
#pragma once
#include <array>
#include <cstdint>
#include <vector>

#include "convolution.hpp"

namespace fastnn_cpu {

// What a layout points to.
struct Tiles {
  std::vector<std::array<std::int64_t, 2>> planes;
  std::vector<std::int64_t> offsets;
};

// A layout of tiles of about so many positions, for sums over `inner` channels that `outer` results share; `size` is
// that of a number computed with. `aligned` is for loops that take the rows of planes one by one: rows begin with cache
// lines. `planes` is for those that compute nothing past the ends of rows: never gathered where planes will do.
Layout lay_out(const Window& window, std::int64_t images, std::int64_t inner, std::int64_t outer,
               std::int64_t positions, std::int64_t size, bool aligned, bool planes, Tiles& tiles);

// Is it one channel by itself, without steps?
bool is_depthwise(const Correlation& c);

// May the channels of the result be what fills vectors?
bool is_across(const Correlation& c, std::int64_t size);

// Fill in what follows from window and layout, and return the number of tasks, or of those to do in one go.
std::int64_t plan_tasks(Correlation& c, std::int64_t size, int threads);
std::int64_t grain(const Correlation& c, std::int64_t tasks, int threads);
std::int64_t plan_tasks(WeightGradient& g, std::int64_t size);

}  // namespace fastnn_cpu
