// The product of uint8 rows with packed int8 weights, for one instruction set.
#include "quantized_finish.hpp"

FASTNN_BEGIN
namespace {

using namespace fastnn_cpu;
using std::int64_t;

void matmul(const void* context, int64_t begin, int64_t end) {
  const auto& job = *static_cast<const MatmulJob*>(context);
  const finisher<float> finish(job.finish);
  for (int64_t r = begin; r < end; ++r) {
    const u8* const row = job.x + r / job.rows * job.size + (job.starts ? job.starts[r % job.rows] : 0);
    for (int64_t first = 0; first < job.outputs; first += 16) {
      const s8* w = job.weight + first * job.pieces * job.groups * 4;
      int acc[16] = {};
      for (int64_t s = 0; s < job.pieces; ++s) {
        const u8* const x = row + job.segments[s];
        for (int64_t g = 0; g < job.groups; ++g, w += 64) {
          u8 four[4] = {};
          for (int64_t k = 0; k < 4; ++k)
            if (x + 4 * g + k < job.end) four[k] = x[4 * g + k];
          for (int n = 0; n < 16; ++n)
            for (int k = 0; k < 4; ++k) acc[n] += four[k] * w[4 * n + k];
        }
      }
      for (int64_t n = first; n < first + 16 && n < job.outputs; ++n) {
        const u32 sum = static_cast<u32>(acc[n - first] + job.bias[n]);
        const int64_t at = r * job.pitch + n;
        if (job.sums)
          job.sums[at] = static_cast<int>(sum);
        else if (job.floats)
          job.floats[at] = to_float<float>(sum) * job.finish.multiplier[n];
        else
          narrow8(job.bytes + at, finish(sum, job.finish.multiplier[n]));
      }
    }
  }
}

constexpr QuantizedProduct table = {matmul};

}  // namespace
FASTNN_END

FASTNN_FAMILY_TABLE(QuantizedProduct, quantized_product, fastnn::table)
