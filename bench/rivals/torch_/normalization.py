"""PyTorch's normalisation, by ATen's native kernels with `out=`; instance norm is batch norm of one sample."""

from __future__ import annotations

from functools import partial
from typing import Any

from ...problems.base import Buffers
from ...problems.normalization import EPS, layout
from ...timing import Run
from ..base import Call, Factory, quickest
from .library import aten, torch

EVERYTHING = [True, True, True]


def _relu(b: Buffers, run: Run, y: Any) -> Run:
    """`run`, and ReLU in place where the problem asks for it."""
    if b.get("activation") != "relu":
        return run

    def both() -> Any:
        results = run()
        torch.clamp_min(y, 0, out=y)
        return results

    return both


def train(b: Buffers) -> Run:
    channels = torch.empty_like(b.gamma)
    run = partial(
        aten.native_batch_norm.out, b.x, b.gamma, b.beta, b.running_mean, b.running_var, True, 0.1, EPS,
        out=b.out, save_mean=channels, save_invstd=torch.empty_like(channels),
    )  # fmt: skip
    return _relu(b, run, b.out)


def infer(b: Buffers) -> Call:
    nothing = torch.empty(0, dtype=b.gamma.dtype)
    run = partial(
        aten.native_batch_norm.out, b.x, b.gamma, b.beta, b.running_mean, b.running_var, False, 0.1, EPS,
        out=b.out, save_mean=nothing, save_invstd=nothing.clone(),
    )  # fmt: skip
    return Call(_relu(b, run, b.out), lambda results: results[0])


def batch_backward(b: Buffers) -> Run:
    kernel = aten.native_batch_norm_backward.out
    outputs = {"out0": b.out, "out1": torch.empty_like(b.gamma), "out2": torch.empty_like(b.gamma)}
    saved = (b.x, b.gamma, None, None, b.mean, b.inv_std, True, EPS, EVERYTHING)
    if b.get("activation") != "relu":
        return partial(kernel, b.dy, *saved, **outputs)
    y = torch.native_batch_norm(b.x, b.gamma, b.beta, None, None, True, 0.1, EPS)[0].clamp_min_(0)
    masked = torch.empty_like(b.dy)

    def run() -> Any:
        aten.threshold_backward.grad_input(b.dy, y, 0, grad_input=masked)
        return kernel(masked, *saved, **outputs)

    return run


def train_and_backward(b: Buffers) -> Run:
    there = train(b.with_values(out=b.y))
    outputs = {"out0": b.dx, "out1": torch.empty_like(b.gamma), "out2": torch.empty_like(b.gamma)}

    def run() -> Any:
        _, mean, inv_std = there()
        return aten.native_batch_norm_backward.out(
            b.dy, b.x, b.gamma, None, None, mean, inv_std, True, EPS, EVERYTHING, **outputs
        )

    return run


def layer(b: Buffers) -> Run:
    return partial(torch.native_layer_norm, b.x, [b.x.shape[-1]], b.gamma, b.beta, EPS)


def layer_backward(b: Buffers) -> Run:
    shape = (*b.x.shape[:-1], 1)
    mean, inv_std = b.mean.reshape(shape), b.inv_std.reshape(shape)
    size = [b.x.shape[-1]]
    beta = torch.zeros_like(b.gamma)
    return partial(aten.native_layer_norm_backward, b.dy, b.x, size, mean, inv_std, b.gamma, beta, EVERYTHING)


def _geometry(b: Buffers) -> tuple[int, int, int, int]:
    samples, channels = b.x.shape[:2]
    return samples, channels, b.x[0, 0].numel(), layout(b).shape[1]


def group(b: Buffers) -> Run:
    return partial(torch.native_group_norm, b.x, b.gamma, b.beta, *_geometry(b), EPS)


def group_backward(b: Buffers) -> Run:
    samples, _, _, groups = _geometry(b)
    mean, inv_std = b.mean.reshape(samples, groups), b.inv_std.reshape(samples, groups)
    return partial(aten.native_group_norm_backward, b.dy, b.x, mean, inv_std, b.gamma, *_geometry(b), EVERYTHING)


def instance(b: Buffers) -> Run:
    """Two ways: as batch norm of one sample of N C channels, which is torch's own, or as a group a channel."""
    samples, channels = b.x.shape[:2]
    one = b.x.reshape(1, samples * channels, *b.x.shape[2:])
    y = b.out.reshape(one.shape)
    mean = torch.empty(samples * channels, dtype=b.gamma.dtype)
    inv_std = torch.empty_like(mean)

    def as_batch() -> Any:
        aten.native_batch_norm.out(
            one, b.gamma.repeat(samples), b.beta.repeat(samples), None, None, True, 0.1, EPS,
            out=y, save_mean=mean, save_invstd=inv_std,
        )  # fmt: skip
        return b.out, mean, inv_std

    return quickest(as_batch, group(b))


def rms(b: Buffers) -> Run:
    return partial(aten._fused_rms_norm, b.x, [b.x.shape[-1]], b.gamma, EPS)


def rms_backward(b: Buffers) -> Run:
    """The kernel that fuses this exists for GPUs only."""
    dy, x, gamma, dx = b.dy, b.x, b.gamma.to(b.x.dtype), b.out
    inverse = b.inv_rms.reshape(*x.shape[:-1], 1)
    normal, scaled = torch.empty_like(x), torch.empty_like(x)

    def run() -> Any:
        torch.mul(x, inverse, out=normal)
        torch.mul(dy, normal, out=scaled)
        dgamma = scaled.sum(0)
        share = torch.mv(scaled, gamma).div_(x.shape[-1]).unsqueeze_(-1)
        torch.mul(dy, gamma, out=dx)
        return dx.sub_(normal.mul_(share)).mul_(inverse), dgamma

    return run


FACTORIES: dict[str, Factory] = {
    "batch_norm_train": train,
    "batch_norm_infer": infer,
    "batch_norm_backward": batch_backward,
    "batch_norm_train+backward": train_and_backward,
    "layer_norm": layer,
    "layer_norm_backward": layer_backward,
    "group_norm": group,
    "group_norm_backward": group_backward,
    "instance_norm": instance,
    "instance_norm_backward": group_backward,
    "rms_norm": rms,
    "rms_norm_backward": rms_backward,
}
