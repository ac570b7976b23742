// The normalisation loops for one instruction set. Built once per set, with FASTNN_ISA_<set> defined.
//
// Floors. Training reads x twice, the second time from the cache if a channel fits, and writes y; a 16-element step of
// its sums is 2 conversions, 2 subtractions, 2 additions and 2 multiply-adds of 8 doubles. Backward reads x and dy
// twice and writes dx. Inference reads x and writes y.
// Rejected: Welford's update (a division an element); float sums over blocks (faster by a tenth in the cache, but the
// last digits of the variance go); one pass for all channels in memory's order (statistics and y then each come from
// beyond the cache).
#include "batch_norm.hpp"
#include "row_norm.hpp"

FASTNN_BEGIN
namespace {

constexpr Normalization table = {
    {batch_train<float>, batch_train<double>, batch_train<binary16>, batch_train<bfloat16>},
    {batch_infer<float>, batch_infer<double>, batch_infer<binary16>, batch_infer<bfloat16>},
    {batch_backward<float>, batch_backward<double>, batch_backward<binary16>, batch_backward<bfloat16>},
    {batch_backward_fused<float>, batch_backward_fused<double>, batch_backward_fused<binary16>,
     batch_backward_fused<bfloat16>},
    {row_forward<float>, row_forward<double>, row_forward<binary16>, row_forward<bfloat16>},
    {row_backward<float>, row_backward<double>, row_backward<binary16>, row_backward<bfloat16>},
};

}  // namespace
FASTNN_END

FASTNN_FAMILY_TABLE(Normalization, normalization, fastnn::table)
