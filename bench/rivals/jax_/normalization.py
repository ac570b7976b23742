"""JAX's normalisation; backward from the saved statistics, as a framework's own backward has it."""

from __future__ import annotations

from typing import Any

from ...problems.base import Buffers
from ...problems.normalization import EPS, layout
from ...timing import Run
from ..base import Call, Factory
from .library import compiled, jax, jnp


def _wide(x: Any) -> Any:
    """16-bit numbers are computed with in float32."""
    return x.astype(jnp.float32) if x.dtype.itemsize == 2 else x


def _forward(b: Buffers) -> Any:
    form = layout(b)
    along, like = form.reduced, form.like(form.shared)

    def normalise(x: Any, gamma: Any, beta: Any = None) -> Any:
        wide = _wide(x).reshape(form.shape)
        if beta is None:
            inverse = jax.lax.rsqrt(jnp.mean(wide * wide, along, keepdims=True) + EPS)
            return (wide * inverse * gamma.reshape(like)).reshape(x.shape).astype(x.dtype), inverse
        mean = jnp.mean(wide, along, keepdims=True)
        inverse = jax.lax.rsqrt(jnp.var(wide, along, keepdims=True) + EPS)
        y = (wide - mean) * inverse * gamma.reshape(like) + beta.reshape(like)
        if b.get("activation") == "relu":
            y = jax.nn.relu(y)
        return y.reshape(x.shape).astype(x.dtype), mean, inverse

    return normalise


def forward(b: Buffers) -> Run:
    return compiled(_forward(b), b.x, b.gamma, *(() if b.norm == "rms" else (b.beta,)))


def _train(b: Buffers) -> Any:
    count, normalise = layout(b).each, _forward(b)

    def step(x: Any, gamma: Any, beta: Any, running_mean: Any, running_var: Any) -> Any:
        y, mean, inverse = normalise(x, gamma, beta)
        variance = (1 / (inverse * inverse) - EPS).ravel() * (count / (count - 1))
        return y, mean, inverse, 0.9 * running_mean + 0.1 * mean.ravel(), 0.9 * running_var + 0.1 * variance

    return step


def train(b: Buffers) -> Call:
    run = compiled(_train(b), b.x, b.gamma, b.beta, b.running_mean, b.running_var)
    return Call(run, lambda results: results[:3])


def infer(b: Buffers) -> Run:
    like = (1, -1, *(1,) * (b.x.ndim - 2))

    def apply(x: Any, gamma: Any, beta: Any, mean: Any, variance: Any) -> Any:
        scale = gamma * jax.lax.rsqrt(variance + EPS)
        y = _wide(x) * scale.reshape(like) + (beta - mean * scale).reshape(like)
        return (jax.nn.relu(y) if b.get("activation") == "relu" else y).astype(x.dtype)

    return compiled(apply, b.x, b.gamma, b.beta, b.running_mean, b.running_var)


def _backward(b: Buffers) -> Any:
    form = layout(b)
    along, like = form.reduced, form.like(form.shared)

    def slopes(dy: Any, x: Any, gamma: Any, beta: Any, inverse: Any, mean: Any = None) -> Any:
        inverse = inverse.reshape(form.like(along))
        wide = _wide(x).reshape(form.shape)
        normal = (wide if mean is None else wide - mean.reshape(inverse.shape)) * inverse
        g = _wide(dy).reshape(form.shape)
        if beta is not None:
            g = jnp.where(normal * gamma.reshape(like) + beta.reshape(like) > 0, g, 0)
        scaled = g * gamma.reshape(like)
        dx = scaled - normal * jnp.mean(scaled * normal, along, keepdims=True)
        if mean is not None:
            dx -= jnp.mean(scaled, along, keepdims=True)
        dx = (dx * inverse).reshape(x.shape).astype(x.dtype)
        dgamma = jnp.sum(g * normal, form.shared).reshape(gamma.shape)
        return (dx, dgamma) if mean is None else (dx, dgamma, jnp.sum(g, form.shared).reshape(gamma.shape))

    return slopes


def backward(b: Buffers) -> Run:
    slopes = _backward(b)
    if b.norm == "rms":
        return compiled(lambda dy, x, gamma, inv: slopes(dy, x, gamma, None, inv), b.dy, b.x, b.gamma, b.inv_rms)
    beta = b.get("beta") if b.get("activation") == "relu" else None
    return compiled(slopes, b.dy, b.x, b.gamma, beta, b.inv_std, b.mean)


def train_and_backward(b: Buffers) -> Run:
    step, slopes = _train(b), _backward(b)

    def whole(x: Any, gamma: Any, beta: Any, running_mean: Any, running_var: Any, dy: Any) -> Any:
        results = step(x, gamma, beta, running_mean, running_var)
        return results, slopes(dy, x, gamma, None, results[2], results[1])

    return compiled(whole, b.x, b.gamma, b.beta, b.running_mean, b.running_var, b.dy)


FACTORIES: dict[str, Factory] = {
    "batch_norm_train": train,
    "batch_norm_infer": infer,
    "batch_norm_backward": backward,
    "batch_norm_train+backward": train_and_backward,
    **{f"{kind}_norm": forward for kind in ("layer", "group", "instance", "rms")},
    **{f"{kind}_norm_backward": backward for kind in ("layer", "group", "instance", "rms")},
}
