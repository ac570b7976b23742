// The normalisation loops for one instruction set. Built once per set, with FASTNN_ISA_<set> defined.
//
// Floors. Training reads x twice, the second time from the cache if a channel fits, and writes y; its sums are 3
// operations an element, a quarter of which is followed by 2 additions in double. Backward reads x and dy twice, writes
// dx, and its sums are 5. Inference reads x and writes y.
// Rejected: Welford's update (a division an element); every term in double (twice the work, for a bound of 1 ULP
// instead of 2 on data that round all alike, and no difference on other data); eight terms (faster by little); one pass
// for all channels in memory's order (statistics and y then each come from beyond the cache); aligning stores by masked
// ones (a row of a thousand elements is too short); fetching sequential rows ahead (the processor does); a channel at a
// time where its rows are short and far apart (memory likes longer runs, and rows a power of two apart share the sets
// of the second-level cache anyway); fetching what the second pass reads (it gains nothing but where stores are
// streamed).
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
