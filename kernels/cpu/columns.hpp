// How columns of an array of shape (outer, classes, inner) are cut into tiles, as both the loops and who calls them
// need to know.
#pragma once
#include <cstdint>

namespace fastnn_cpu {

constexpr std::int64_t row_classes = 64;  // rows of more than that are walked along
constexpr std::int64_t tile_elements = 8192, tile_columns = 16, widest_tile = 128;

static inline bool is_row(std::int64_t classes, std::int64_t inner) { return inner == 1 && classes > row_classes; }
static inline bool is_tiled(std::int64_t classes) { return classes * tile_columns <= tile_elements; }

// 16-bit arrays are widened to float a piece at a time: whole rows, or a tile of columns, of so many elements.
static inline std::int64_t half_elements(std::int64_t classes, std::int64_t inner) {
  const std::int64_t least = tile_elements / 2, needed = is_row(classes, inner) ? classes : classes * tile_columns;
  return needed < least ? least : needed;
}
// Bytes of working memory for that: two pieces of floats, and one of 16 bits
static inline std::int64_t half_room(std::int64_t classes, std::int64_t inner) {
  return half_elements(classes, inner) * (4 + 4 + 2);
}

}  // namespace fastnn_cpu
