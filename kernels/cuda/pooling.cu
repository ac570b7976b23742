// Pooling over planes of up to three axes, and its gradients: see pooling.hpp. A thread makes one element of the result
// from all that it depends on, so sums have one order.
//
// The floor: each array read or written once, positions being 8 bytes each. What neighbouring windows share is found in
// a cache. Averages are summed up in double, as on the CPU: floats would leave the bound of 2 ULP, and may overflow
// where the mean does not.
#include "pooling.hpp"
#include "indices.cuh"
#include "sums.cuh"

FASTNN_CUDA_BEGIN

struct pool_axis {
  i64 in, out, kernel, stride, before, dilation;
};
struct pool_windows {
  pool_axis axis[3];
};
// Bounds of the regions along an axis are numbers start ... and stop ... of an array; plane p's are `step` p further
// on.
struct region_axis {
  i64 in, out, start, stop, step;
};
struct pool_regions {
  region_axis axis[3];
};

struct pool_place {
  i64 plane, d, h, w;

  FASTNN_FN pool_place(i64 element, i64 height, i64 width, i64 depth) {
    const i64 row = divided(element, width, w), slice = divided(row, height, h);
    plane = divided(slice, depth, d);
  }
};

// The maximum so far and where it is, from the first element that a window covers on.
template <class T>
struct largest_so_far {
  using V = compute_t<T>;
  const T* x;
  V best;
  i64 at;

  FASTNN_FN largest_so_far(const T* plane, i64 first) : x(plane), best(-format<V>::largest), at(first) {
    best = best + best;  // minus infinity
  }
  FASTNN_FN void see(i64 place) {
    const V v = widened(x[place]);
    if (takes_over(best, v)) {
      best = v;
      at = place;
    }
  }
};

template <class T>
__global__ void max_windows(const T* x, T* y, i64* where, i64 count, pool_windows windows) {
  const pool_axis &depth = windows.axis[0], &height = windows.axis[1], &width = windows.axis[2];
  for (i64 i = grid_thread(); i < count; i += grid_threads()) {
    const pool_place o(i, height.out, width.out, depth.out);
    const pooling_span d = span_of(depth, o.d), h = span_of(height, o.h), w = span_of(width, o.w);
    const auto place = [&](i64 a, i64 b, i64 c) {
      return ((d.first + a * depth.dilation) * height.in + h.first + b * height.dilation) * width.in + w.first +
             c * width.dilation;
    };
    largest_so_far<T> found(x + o.plane * depth.in * height.in * width.in, place(d.begin, h.begin, w.begin));
    for (i64 a = d.begin; a < d.end; ++a)
      for (i64 b = h.begin; b < h.end; ++b)
        for (i64 c = w.begin; c < w.end; ++c) found.see(place(a, b, c));
    y[i] = narrowed<T>(found.best);
    if (where != nullptr) where[i] = found.at;
  }
}

// Calls f(place in the plane) for the elements of a region, in order; `first` is its first one.
struct region_walk {
  const i64 *starts[3], *stops[3];
  i64 height, width;

  FASTNN_FN region_walk(const pool_regions& r, const i64* bounds, const pool_place& o)
      : height(r.axis[1].in), width(r.axis[2].in) {
    const i64 at[3] = {o.d, o.h, o.w};
    FASTNN_UNROLL
    for (int k = 0; k < 3; ++k) {
      const i64 row = o.plane * r.axis[k].step + at[k];
      starts[k] = bounds + r.axis[k].start + row;
      stops[k] = bounds + r.axis[k].stop + row;
    }
  }
  FASTNN_FN i64 size() const { return (*stops[0] - *starts[0]) * (*stops[1] - *starts[1]) * (*stops[2] - *starts[2]); }
  FASTNN_FN i64 first() const { return (*starts[0] * height + *starts[1]) * width + *starts[2]; }
  template <class F>
  FASTNN_FN void each(i64 lane, i64 lanes, F f) const {
    for (i64 d = *starts[0]; d < *stops[0]; ++d)
      for (i64 h = *starts[1]; h < *stops[1]; ++h)
        for (i64 w = *starts[2] + lane; w < *stops[2]; w += lanes) f((d * height + h) * width + w);
  }
};
FASTNN_FN i64 plane_of(const pool_regions& r) { return r.axis[0].in * r.axis[1].in * r.axis[2].in; }

template <class T>
__global__ void max_regions(const T* x, T* y, i64* where, const i64* bounds, i64 count, pool_regions r) {
  for (i64 i = grid_thread(); i < count; i += grid_threads()) {
    const pool_place o(i, r.axis[1].out, r.axis[2].out, r.axis[0].out);
    const region_walk walk(r, bounds, o);
    largest_so_far<T> found(x + o.plane * plane_of(r), walk.first());
    walk.each(0, 1, [&](i64 place) { found.see(place); });
    y[i] = narrowed<T>(found.best);
    if (where != nullptr) where[i] = found.at;
  }
}

// The gradient of maxima: where several windows have met in one element, their gradients are chained up in whatever
// order they come, and added up in the order of the windows. Positions outside of the plane are left out.
__global__ void max_chains(const i64* where, int* heads, int* next, i64 count, i64 outputs, i64 inputs) {
  for (i64 i = grid_thread(); i < count; i += grid_threads()) {
    i64 o;
    const i64 plane = divided(i, outputs, o), at = where[i];
    if (at >= 0 && at < inputs) next[i] = atomicExch(heads + plane * inputs + at, static_cast<int>(o));
  }
}
template <class T>
__global__ void max_gather(const T* dy, const int* heads, const int* next, T* dx, i64 count, i64 outputs, i64 inputs) {
  using V = compute_t<T>;
  constexpr int some = 8;
  for (i64 i = grid_thread(); i < count; i += grid_threads()) {
    const int head = heads[i];
    if (head < 0) {
      dx[i] = narrowed<T>(V(0));
      continue;
    }
    i64 rest;
    const i64 plane = divided(i, inputs, rest);
    const int* const chain = next + plane * outputs;
    const T* const from = dy + plane * outputs;
    V sum = widened(from[head]);
    if (chain[head] >= 0) {
      sum = V(0);
      int least[some], found = some, last = -1;  // the next few of the chain, in order, behind `last`
      while (found == some) {
        found = 0;
        for (int o = head; o >= 0; o = chain[o]) {
          if (o <= last || (found == some && o > least[some - 1])) continue;
          int k = found < some ? found++ : some - 1;
          for (; k > 0 && least[k - 1] > o; --k) least[k] = least[k - 1];
          least[k] = o;
        }
        for (int k = 0; k < found; ++k) sum = sum + widened(from[least[k]]);
        if (found > 0) last = least[found - 1];
      }
    }
    dx[i] = narrowed<T>(sum);
  }
}

// What sums are divided by: the product of three counts. Where the result is rounded to float they are reciprocals.
template <class V>
FASTNN_FN double shared(double sum, double a, double b, double c) {
  return sizeof(V) == 8 ? sum / (a * b * c) : sum * (a * b * c);
}
struct pool_counts {
  const double *depth, *height, *width;
  FASTNN_FN pool_counts(const double* counts, const pool_windows& w)
      : depth(counts), height(counts + w.axis[0].out), width(counts + w.axis[0].out + w.axis[1].out) {}
};

template <class T>
__global__ void average_windows(const T* x, T* y, const double* all_counts, i64 n, pool_windows windows) {
  using V = compute_t<T>;
  const pool_axis &depth = windows.axis[0], &height = windows.axis[1], &width = windows.axis[2];
  const pool_counts counts(all_counts, windows);
  for (i64 i = grid_thread(); i < n; i += grid_threads()) {
    const pool_place o(i, height.out, width.out, depth.out);
    const pooling_span d = span_of(depth, o.d), h = span_of(height, o.h), w = span_of(width, o.w);
    const T* const plane = x + o.plane * depth.in * height.in * width.in;
    double sum = 0;
    for (i64 a = d.begin; a < d.end; ++a)
      for (i64 b = h.begin; b < h.end; ++b) {
        const i64 row = (d.first + a * depth.dilation) * height.in + h.first + b * height.dilation;
        for (i64 c = w.begin; c < w.end; ++c)
          sum = sum + static_cast<double>(widened(plane[row * width.in + w.first + c * width.dilation]));
      }
    y[i] = narrowed<T>(static_cast<V>(shared<V>(sum, counts.depth[o.d], counts.height[o.h], counts.width[o.w])));
  }
}

// f(o) for the windows that hold element i of an axis, in rising order.
template <class F>
FASTNN_FN void each_holder(const pool_axis& a, i64 i, F f) {
  const i64 at = i + a.before;
  if (a.dilation == 1) {
    const i64 first = at - a.kernel + 1 <= 0 ? 0 : (at - a.kernel + a.stride) / a.stride;
    const i64 last = at / a.stride < a.out ? at / a.stride : a.out - 1;
    for (i64 o = first; o <= last; ++o) f(o);
  } else {
    for (i64 k = a.kernel; k-- > 0;) {
      const i64 start = at - k * a.dilation;
      if (start >= 0 && start % a.stride == 0 && start / a.stride < a.out) f(start / a.stride);
    }
  }
}
template <class T>
__global__ void average_windows_backward(const T* dy, T* dx, const double* all_counts, i64 n, pool_windows windows) {
  using V = compute_t<T>;
  const pool_axis &depth = windows.axis[0], &height = windows.axis[1], &width = windows.axis[2];
  const pool_counts counts(all_counts, windows);
  for (i64 i = grid_thread(); i < n; i += grid_threads()) {
    const pool_place at(i, height.in, width.in, depth.in);
    const T* const plane = dy + at.plane * depth.out * height.out * width.out;
    double sum = 0;
    each_holder(depth, at.d, [&](i64 d) {
      each_holder(height, at.h, [&](i64 h) {
        const T* const row = plane + (d * height.out + h) * width.out;
        each_holder(width, at.w, [&](i64 w) {
          const double g = static_cast<double>(widened(row[w]));
          sum = sum + shared<V>(g, counts.depth[d], counts.height[h], counts.width[w]);
        });
      });
    });
    dx[i] = narrowed<T>(static_cast<V>(sum));
  }
}

// A warp, or a thread, takes a region.
template <class T, bool warps>
__global__ void average_regions(const T* x, T* y, const i64* bounds, i64 count, pool_regions r) {
  using V = compute_t<T>;
  constexpr i64 lanes = warps ? 32 : 1;
  const i64 lane = grid_thread() % lanes;
  for (i64 i = grid_thread() / lanes; i < count; i += grid_threads() / lanes) {
    const pool_place o(i, r.axis[1].out, r.axis[2].out, r.axis[0].out);
    const region_walk walk(r, bounds, o);
    const T* const plane = x + o.plane * plane_of(r);
    double sum = 0;
    walk.each(lane, lanes, [&](i64 place) { sum = sum + static_cast<double>(widened(plane[place])); });
    if constexpr (warps) sum = warp_sum(sum);
    if (lane == 0) y[i] = narrowed<T>(static_cast<V>(sum / static_cast<double>(walk.size())));
  }
}
// f(o, length) for the regions that hold element i of an axis: bounds rise, and so they are neighbours.
template <class F>
FASTNN_FN void each_region(const region_axis& a, const i64* bounds, i64 i, F f) {
  i64 o = i * a.out / a.in;
  const i64 *const start = bounds + a.start, *const stop = bounds + a.stop;
  while (o > 0 && stop[o - 1] > i) --o;
  while (o < a.out && stop[o] <= i) ++o;
  for (; o < a.out && start[o] <= i; ++o) f(o, static_cast<double>(stop[o] - start[o]));
}
template <class T>
__global__ void average_regions_backward(const T* dy, T* dx, const i64* bounds, i64 count, pool_regions r) {
  using V = compute_t<T>;
  const region_axis &depth = r.axis[0], &height = r.axis[1], &width = r.axis[2];
  for (i64 i = grid_thread(); i < count; i += grid_threads()) {
    const pool_place at(i, height.in, width.in, depth.in);
    const T* const plane = dy + at.plane * depth.out * height.out * width.out;
    double sum = 0;
    each_region(depth, bounds, at.d, [&](i64 d, double deep) {
      each_region(height, bounds, at.h, [&](i64 h, double high) {
        each_region(width, bounds, at.w, [&](i64 w, double wide) {
          const double g = static_cast<double>(widened(plane[(d * height.out + h) * width.out + w]));
          sum = sum + g / (deep * high * wide);
        });
      });
    });
    dx[i] = narrowed<T>(static_cast<V>(sum));
  }
}

// A block takes a plane.
template <class T>
__global__ void average_whole(const T* x, T* y, i64 planes, i64 n) {
  using V = compute_t<T>;
  for (i64 plane = blockIdx.x; plane < planes; plane += gridDim.x) {
    summing<double> sum;
    for_each(threadIdx.x, blockDim.x, n, [&](i64, V v) { sum.add(static_cast<double>(v)); }, x + plane * n);
    const double total = sum.of_block();
    if (threadIdx.x == 0) y[plane] = narrowed<T>(static_cast<V>(total / static_cast<double>(n)));
  }
}
template <class T>
__global__ void average_whole_backward(const T* dy, T* dx, i64 count, i64 n) {
  using V = compute_t<T>;
  constexpr int lanes = lanes_together<T>;
  for_packs<lanes>(grid_thread(), grid_threads(), count, dx, [&](i64 first, int begin, int end) {
    const auto share = [&](i64 plane) {
      return static_cast<V>(static_cast<double>(widened(dy[plane])) / static_cast<double>(n));
    };
    i64 place;
    i64 plane = divided(first + begin, n, place);
    V value = share(plane);
    lanes_of<T, lanes> v;
    FASTNN_UNROLL
    for (int k = 0; k < lanes; ++k) {
      if (k < begin || k >= end) continue;
      if (place == n) {
        place = 0;
        value = share(++plane);
      }
      ++place;
      v.at[k] = value;
    }
    store_lanes<lanes>(dx + first, v, begin, end);
  });
}

FASTNN_CUDA_END
