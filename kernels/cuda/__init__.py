"""The CUDA backend: kernels for CuPy arrays, compiled by NVRTC on first use.

One module a family, with the function names and positional signatures of the same family in `kernels/jit` and
`kernels/reference`, arrays being CuPy's. Beside each lies its source, `<family>.cu`. Importing a family imports no
CuPy; calling one of its functions does, through `fastnn.kernels.cuda.compiler`.

How a family is written
-----------------------
The source stands in `namespace fastnn::cuda` and includes `device.cuh` and the formulas of `kernels/include`::

    #include "device.cuh"
    #include "activations.hpp"

    FASTNN_CUDA_BEGIN

    template <class T>
    __global__ void scaled_rows(T* y, const T* x, compute_t<T> factor, i64 rows, i64 columns) {
      for (i64 row = blockIdx.x; row < rows; row += gridDim.x) {
        compute_t<T> sum = 0;
        for_each(threadIdx.x, blockDim.x, columns, [&](i64, compute_t<T> v) { sum = sum + v; }, x + row * columns);
        const auto total = block_sum(sum);
        elementwise(threadIdx.x, blockDim.x, columns, [&](i64, compute_t<T> v) { return v * factor / total; },
                    y + row * columns, x + row * columns);
      }
    }

    FASTNN_CUDA_END

The module lists every kernel that the source is to be instantiated for, `{T}` standing for the type of an element, and
launches them::

    FAMILY = Family("rows", "scaled_rows<{T}>")

    def scaled_rows(x, factor, out=None):
        y = cupy().empty_like(x) if out is None else out
        rows, columns = x.shape
        launch_rows(FAMILY.kernel("scaled_rows<{T}>", x.dtype), rows, y, x, scalar(factor, x.dtype), rows, columns)
        return y

The rules
---------
- T is how an element is stored: float, double, half or bfloat16 (both of `device.cuh`). What is computed is of type
  `compute_t<T>`, float or double: `widened(t)` and `narrowed<T>(v)` convert, rounding once, to nearest even. Python's
  `scalar(value, dtype)` is a number of that type; a Python float is refused, an int is passed as a 64-bit integer.
- Sizes and indices are `i64`, and every loop is grid-stride: a kernel is right for any number of blocks and for any
  `blockDim.x` that is a multiple of 32, up to 1024, one-dimensional blocks and grids only.
- `elementwise` and `for_each` read and write 16 bytes at a time from any address; `thread` and `threads` say who shares
  the work: `grid_thread(), grid_threads()`, or `threadIdx.x, blockDim.x`, or a warp's 32. Inputs may be the output.
- Sums are taken in one order: per thread in a loop, then `warp_sum`, `block_sum`, `block_max` or `block_reduce`. These
  hold barriers: every thread of the block must reach them. No floating-point atomics. What is larger than one block is
  written as partial results, which a second kernel adds up in order. Long sums are taken in double, of which four
  elements may share one addition, as in kernels/include/normalization.hpp: some devices have few units for it.
- Products and sums are fused where the source says `fmadd` and nowhere else, as on the CPU (the compiler is told not
  to), so that elementwise results have the CPU's bits. Divisions and square roots are rounded correctly; no
  `__fdividef`, `__expf`, `rsqrtf`, and no `fmin`, `fmax`, `min`, `max` on floats, which drop NaN: `vmin`, `vmax`.
- Only static shared memory; nothing from CUDA's own headers or the C++ library, which NVRTC has not. What may be used
  of CUDA is in tests/emulator/emulator.hpp, under which the same source runs on the host: threadIdx, blockIdx,
  blockDim, gridDim (.x only), __shared__, __syncthreads, __syncwarp, __shfl_sync, __shfl_xor_sync, __shfl_down_sync,
  __ballot_sync, __popc, __ffs, atomicAdd on integers, uint4.
- A struct is passed as a NumPy array of one element and a structured dtype (not as its `[()]`, which CuPy refuses).
- Nothing here copies to the host, waits for the device or leaves the current stream. Arrays come from `cupy().empty`.
- Wrappers are handed arrays that public functions have checked, but of any strides: `contiguous(x)` is x, or a
  contiguous copy on the device.

`tests/test_cuda_nvrtc.py` compiles every kernel of every family here, and finds them by themselves. On the host, tests
run them by the fixture `cupy` (tests/conftest.py), which puts a stand-in for CuPy into `sys.modules`.
"""
