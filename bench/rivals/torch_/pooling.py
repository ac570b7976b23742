"""PyTorch's pooling: ATen's kernels as they are, on arrays put channels last and back, or reductions of blocks."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from ...problems.base import Buffers
from ...timing import Run
from ..base import Call, Factory, quickest
from .library import aten, nn, torch

LAST: dict[int, Any] = {4: torch.channels_last, 5: torch.channels_last_3d}


def _geometry(b: Buffers, dims: int) -> tuple[list[int], list[int], list[int]]:
    kernel = b.kernel_size
    return [kernel] * dims, [b.get("stride") or kernel] * dims, [b.get("padding", 0)] * dims


def _first(result: Any) -> Any:
    return result[0] if isinstance(result, tuple) else result


def _tiles(b: Buffers) -> Any | None:
    """x with every window as axes of their own, where windows tile it; and those axes."""
    kernel, spatial = b.kernel_size, b.x.shape[2:]
    if b.get("padding") or (b.get("stride") or kernel) != kernel or any(n % kernel for n in spatial):
        return None
    shape = [size for n in spatial for size in (n // kernel, kernel)]
    return b.x.view(*b.x.shape[:2], *shape), [3 + 2 * axis for axis in range(len(spatial))]


def _forward(b: Buffers, pool: Callable[[Any], Any], reduce: Any) -> Call:
    """The quickest of the library's function, the same channels last, and a reduction over tiles."""
    runs: list[Run] = [partial(pool, b.x)]
    if b.x.dim() in LAST:
        runs.append(lambda: _first(pool(b.x.contiguous(memory_format=LAST[b.x.dim()]))).contiguous())
    tiles = _tiles(b)
    if tiles is not None:
        runs.append(partial(reduce, tiles[0], tiles[1], out=b.out))
    return Call(quickest(*runs), _first)


def maximum(b: Buffers) -> Call:
    dims = b.x.dim() - 2
    pool = partial(getattr(torch, f"max_pool{dims}d"), **dict(zip(NAMES, _geometry(b, dims), strict=True)))
    return _forward(b, pool, torch.amax)


NAMES = ("kernel_size", "stride", "padding")


def average(b: Buffers) -> Call:
    dims = b.x.dim() - 2
    pool = partial(torch.avg_pool1d if dims == 1 else getattr(nn, f"avg_pool{dims}d"))
    return _forward(b, partial(pool, **dict(zip(NAMES, _geometry(b, dims), strict=True))), torch.mean)


def _scatter(b: Buffers) -> Run:
    """dx[indices] += dy by hand, which is how torch's 1-d pooling would be left to it."""
    planes = b.dy.shape[0] * b.dy.shape[1]
    dx, where, dy = b.out.view(planes, -1), b.indices.view(planes, -1), b.dy.view(planes, -1)

    def run() -> Any:
        dx.zero_()
        dx.scatter_add_(1, where, dy)
        return b.out

    return run


def maximum_backward(b: Buffers) -> Run:
    dims = b.dy.dim() - 2
    if dims == 1 or b.get("kernel_size") is None:
        return _scatter(b)
    kernel = getattr(aten, f"max_pool{dims}d_with_indices_backward").grad_input
    native = partial(kernel, b.dy, b.x, *_geometry(b, dims), [1] * dims, False, b.indices, grad_input=b.out)
    return quickest(native, _scatter(b))


def average_backward(b: Buffers) -> Run:
    dims, dy, x, dx = b.dy.dim() - 2, b.dy, b.x, b.out
    if dims == 1:  # as torch does it: through two dimensions
        dims, dy, x, dx = 2, dy.unsqueeze(2), x.unsqueeze(2), dx.unsqueeze(2)
        kernel, stride, padding = ([1, size[0]] for size in _geometry(b, 1))
        padding[0] = 0
    else:
        kernel, stride, padding = _geometry(b, dims)
    native = getattr(aten, f"avg_pool{dims}d_backward").grad_input
    run = partial(native, dy, x, kernel, stride, padding, False, True, None, grad_input=dx)
    return lambda: run().view(b.out.shape)


def adaptive(b: Buffers) -> Run:
    dims = b.x.dim() - 2
    size = [b.output_size] * dims
    if dims == 1:
        return partial(torch.adaptive_avg_pool1d, b.x, size)
    return partial(getattr(aten, f"_adaptive_avg_pool{dims}d").out, b.x, size, out=b.out)


def adaptive_backward(b: Buffers) -> Run:
    dims = b.dy.dim() - 2
    if dims == 1:
        dy, x, dx = b.dy.unsqueeze(2), b.x.unsqueeze(2), b.out.unsqueeze(2)
        run = partial(aten._adaptive_avg_pool2d_backward.out, dy, x, out=dx)
        return lambda: run().squeeze(2)
    return partial(getattr(aten, f"_adaptive_avg_pool{dims}d_backward").out, b.dy, b.x, out=b.out)


def whole(b: Buffers) -> Run:
    return partial(torch.mean, b.x, tuple(range(2, b.x.dim())), out=b.out)


def whole_backward(b: Buffers) -> Run:
    share = b.out[0, 0].numel()
    spread = (*b.dy.shape, *(1,) * (b.out.dim() - 2))
    return lambda: b.out.copy_((b.dy / share).view(spread))


def fractional(b: Buffers) -> Call:
    """With kernel 2 its regions overlap like fastnn's; its random numbers are drawn in the call, too."""
    samples, channels, n, _ = b.x.shape
    size = [b.output_size] * 2
    kernel = [-(-n // b.output_size)] * 2

    def run() -> Any:
        fractions = torch.rand(samples, channels, 2, dtype=b.x.dtype)
        return torch._C._nn.fractional_max_pool2d(b.x, kernel, size, fractions)

    return Call(run, _first)


FACTORIES: dict[str, Factory] = {
    "global_avg_pool": whole,
    "global_avg_pool_backward": whole_backward,
    "fractional_max_pool2d": fractional,
    "fractional_max_pool2d_backward": maximum_backward,
}
for _dims in "123":
    FACTORIES |= {
        f"max_pool{_dims}d": maximum,
        f"max_pool{_dims}d_backward": maximum_backward,
        f"avg_pool{_dims}d": average,
        f"avg_pool{_dims}d_backward": average_backward,
        f"adaptive_avg_pool{_dims}d": adaptive,
        f"adaptive_avg_pool{_dims}d_backward": adaptive_backward,
    }
