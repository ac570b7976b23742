// Every activation of include/activations.hpp as loops over arrays on the device: the same formulas, one lane a value.
//
// Floor: an element is read and written once, backward two are read. Everything else must hide behind that, and the
// loops therefore take 16 bytes at a time wherever the arrays begin.
#include "device.cuh"
#include "layout.cuh"
#include "activations.hpp"

FASTNN_CUDA_BEGIN

// ---- one place in memory after the other, parameters that are numbers ----

template <class T, class Op, class... P>
__global__ void forward(T* y, const T* x, i64 n, P... p) {
  using V = compute_t<T>;
  elementwise(grid_thread(), grid_threads(), n, [=](i64, V v) { return Op::forward(v, p...); }, y, x);
}
template <class T, class Op, class... P>
__global__ void backward(T* dx, const T* dy, const T* saved, i64 n, P... p) {
  using V = compute_t<T>;
  elementwise(grid_thread(), grid_threads(), n, [=](i64, V d, V v) { return Op::backward(d, v, p...); }, dx, dy, saved);
}

// ---- arrays of any strides ----

template <class T, class Op, class... P>
__global__ void forward_strided(T* y, const T* x, layout<2> all, P... p) {
  for (i64 i = grid_thread(); i < all.count; i += grid_threads()) {
    const places<2> at = all.places_of(i);
    y[at.offset[0]] = narrowed<T>(Op::forward(widened(x[at.offset[1]]), p...));
  }
}
template <class T, class Op, class... P>
__global__ void backward_strided(T* dx, const T* dy, const T* saved, layout<3> all, P... p) {
  for (i64 i = grid_thread(); i < all.count; i += grid_threads()) {
    const places<3> at = all.places_of(i);
    dx[at.offset[0]] = narrowed<T>(Op::backward(widened(dy[at.offset[1]]), widened(saved[at.offset[2]]), p...));
  }
}

// ---- parameters that are arrays ----

// The parameter of element i: each of `count` values serves `inner` elements in a row, then they begin again.
template <class V>
struct varying {
  const V* values;
  i64 inner, count;
  FASTNN_FN V at(i64 i) const {
    if (i <= 0xffffffff && inner <= 0xffffffff && count <= 0xffffffff)  // whose division takes a fifth of the time
      return values[static_cast<u32>(i) / static_cast<u32>(inner) % static_cast<u32>(count)];
    return values[i / inner % count];
  }
};

template <class T, class Op, class... P>
__global__ void forward_varying(T* y, const T* x, i64 n, varying<P>... p) {
  using V = compute_t<T>;
  elementwise(grid_thread(), grid_threads(), n, [=](i64 i, V v) { return Op::forward(v, p.at(i)...); }, y, x);
}
template <class T, class Op, class... P>
__global__ void backward_varying(T* dx, const T* dy, const T* saved, i64 n, varying<P>... p) {
  using V = compute_t<T>;
  elementwise(
      grid_thread(), grid_threads(), n, [=](i64 i, V d, V v) { return Op::backward(d, v, p.at(i)...); }, dx, dy, saved);
}

// ---- the gradient of a learned parameter ----

// What the elements of each of `channels` values add up to, in `parts` parts of the `outer` runs of `inner` elements
// that it serves: partial[part * channels + channel]. A block takes a part of a channel, its warps a run each in turn.
template <class T, class Op>
__global__ void parameter_gradient_runs(double* partial, const T* dy, const T* x, varying<compute_t<T>> p, i64 n,
                                        i64 outer, i64 channels, i64 inner, i64 parts) {
  using V = compute_t<T>;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
  for (i64 job = blockIdx.x; job < channels * parts; job += gridDim.x) {
    const i64 channel = job % channels, part = job / channels;
    const i64 end = outer * (part + 1) / parts;
    double sum = 0;
    for (i64 run = outer * part / parts + warp; run < end; run += warps) {
      const i64 first = (run * channels + channel) * inner, length = n - first < inner ? n - first : inner;
      for_each(
          lane, 32, length, [&](i64 i, V d, V v) { sum = sum + double(Op::parameter_gradient(d, v, p.at(first + i))); },
          dy + first, x + first);
    }
    sum = block_sum(sum);
    if (threadIdx.x == 0) partial[job] = sum;
  }
}
// The same for short runs: a thread takes a column of the (outer, channels * inner) elements, neighbours neighbouring
// ones; partial[(part * channels + channel) * inner + k].
template <class T, class Op>
__global__ void parameter_gradient_columns(double* partial, const T* dy, const T* x, varying<compute_t<T>> p, i64 outer,
                                           i64 columns, i64 parts) {
  for (i64 job = grid_thread(); job < columns * parts; job += grid_threads()) {
    const i64 column = job % columns, part = job / columns;
    const i64 end = outer * (part + 1) / parts;
    double sum = 0;
    for (i64 row = outer * part / parts; row < end; ++row) {
      const i64 i = row * columns + column;
      sum = sum + double(Op::parameter_gradient(widened(dy[i]), widened(x[i]), p.at(i)));
    }
    partial[job] = sum;
  }
}
// total[channel] = the sum over parts and columns, in order.
template <class V>
__global__ void sum_parts(V* total, const double* partial, i64 parts, i64 channels, i64 inner) {
  for (i64 channel = grid_thread(); channel < channels; channel += grid_threads()) {
    double sum = 0;
    for (i64 part = 0; part < parts; ++part)
      for (i64 k = 0; k < inner; ++k) sum = sum + partial[(part * channels + channel) * inner + k];
    total[channel] = static_cast<V>(sum);
  }
}

FASTNN_CUDA_END
