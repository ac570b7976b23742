// The loops of convolutions, for one instruction set. Built once per set, with FASTNN_ISA_<set> defined.
//
// Floor of a forward pass: one multiply-add per weight and position; the input read and the output written once. What
// comes on top is copying tiles into scratch memory, and what a line computes between the rows (convolution.hpp). The
// gradient by the input is as much again, that by the weights too, with dy turned over tile by tile.
//
// Rejected: im2col of whole arrays (taps times the memory). NumPy's matrix product on tiles of it (a call of Python per
// tile, BLAS threads beside the pool's, and results that depend on the library; not tried, for the register tiles come
// near the processor's peak without it). A blocked layout of channels, which arrays would be converted to and from.
#include "convolution_correlate.hpp"
#include "convolution_gradient.hpp"

FASTNN_BEGIN
namespace {

// Constant data: no code of this instruction set runs before it has been chosen.
constexpr Convolution table = {
    {correlate<float>, correlate<double>, correlate<binary16>, correlate<bfloat16>},
    {weight_gradient<float>, weight_gradient<double>, weight_gradient<binary16>, weight_gradient<bfloat16>},
    {add_slices<float>, add_slices<double>, add_slices<binary16>, add_slices<bfloat16>},
    {bias_gradient<float>, bias_gradient<double>, bias_gradient<binary16>, bias_gradient<bfloat16>}};

}  // namespace
FASTNN_END

FASTNN_FAMILY_TABLE(Convolution, convolution, fastnn::table)
