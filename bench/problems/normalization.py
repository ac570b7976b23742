"""Normalisation: the images of a small convolutional network, the rows of a transformer."""

from __future__ import annotations

import math
from functools import partial
from typing import Any, NamedTuple

from .base import Buffers
from .functions import EXTRA, Arguments, Build, Maker, Spec, fnn, over

FAMILY = "normalization"
IMAGES, FEATURES, ROWS, FEW_ROWS = (32, 64, 32, 32), (128, 512), (2048, 768), (64, 1024)
ODD = (3, 6, 5, 3)
EPS = 1e-5
GROUPS = 8


class Layout(NamedTuple):
    """Which axes a normalisation reduces."""

    shape: tuple[int, ...]
    reduced: tuple[int, ...]  # for the statistics
    shared: tuple[int, ...]  # along which gamma and beta are constant

    def like(self, axes: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of what is constant along `axes`."""
        return tuple(1 if axis in axes else size for axis, size in enumerate(self.shape))

    @property
    def each(self) -> int:
        """Elements behind each mean."""
        return math.prod(self.shape[axis] for axis in self.reduced)


def layout(b: Buffers) -> Layout:
    """The axes of the problem `b`, whose `norm` is the kind; all of space is one axis."""
    shape, kind = tuple(b.x.shape), b.norm
    if kind in ("layer", "rms"):
        return Layout((math.prod(shape[:-1]), shape[-1]), (1,), (0,))
    samples, channels, space = shape[0], shape[1], math.prod(shape[2:])
    if kind == "batch":
        axes = (0,) if len(shape) == 2 else (0, 2)
        return Layout((samples, channels, space)[: len(axes) + 1], axes, axes)
    if kind == "instance":
        return Layout((samples, channels, space), (2,), (0, 2))
    return Layout((samples, b.groups, channels // b.groups, space), (2, 3), (0, 3))


def _batch(make: Maker, shape: tuple[int, ...]) -> Arguments:
    channels = shape[1]
    return {
        "x": make.normal(*shape, mean=0.5, std=2),
        "gamma": make.parameter(channels, mean=1, std=0.2),
        "beta": make.parameter(channels, std=0.2),
        "running_mean": make.parameter(channels),
        "running_var": make.positive(channels),
        EXTRA: {"norm": "batch"},
    }


def train(*shape: int, **options: Any) -> Build:
    return lambda make: _batch(make, shape) | options


def backward(*shape: int, activation: str | None = None) -> Build:
    def build(make: Maker) -> Arguments:
        made = _batch(make, shape)
        extra = made.pop(EXTRA)
        _, mean, inv_std = fnn.batch_norm_train(**made)
        fused = {} if activation is None else {"beta": made["beta"], "activation": activation}
        return {
            "dy": make.normal(*shape),
            **{name: made[name] for name in ("x", "gamma")},
            "mean": mean,
            "inv_std": inv_std,
            **fused,
            EXTRA: extra,
        }

    return build


def whole_step(*shape: int) -> Build:
    def build(make: Maker) -> Arguments:
        return _batch(make, shape) | {name: make.normal(*shape) for name in ("dy", "y", "dx")}

    return build


def _train_and_backward(library: Any, a: Arguments) -> Any:
    _, mean, inv_std = library.batch_norm_train(
        a["x"], a["gamma"], a["beta"], a["running_mean"], a["running_var"], out=a["y"]
    )
    return library.batch_norm_backward(a["dy"], a["x"], a["gamma"], mean, inv_std, out=a["dx"])


def by_sample(kind: str, *shape: int) -> Build:
    """Layer, RMS, group and instance norm."""

    def build(make: Maker) -> Arguments:
        size = shape[-1] if kind in ("layer", "rms") else shape[1]
        made: Arguments = {"x": make.normal(*shape, mean=0.5, std=2)}
        if kind == "group":
            made["groups"] = GROUPS if size % GROUPS == 0 else 3
        made["gamma"] = make.parameter(size, mean=1, std=0.2)
        made["eps"] = EPS
        if kind != "rms":
            made["beta"] = make.parameter(size, std=0.2)
        return made | {EXTRA: {"norm": kind}}

    return build


def by_sample_backward(kind: str, *shape: int) -> Build:
    def build(make: Maker) -> Arguments:
        made = by_sample(kind, *shape)(make)
        extra = made.pop(EXTRA)
        statistics = getattr(fnn, f"{kind}_norm")(**made)[1:]
        names = ("inv_rms",) if kind == "rms" else ("mean", "inv_std")
        given = {name: value for name, value in made.items() if name not in ("beta", "eps")}
        return {"dy": make.normal(*shape), **given, **dict(zip(names, statistics, strict=True)), EXTRA: extra}

    return build


def _pair(kind: str, shapes: tuple[tuple[int, ...], ...], judged: tuple[int, ...]) -> list[Spec]:
    return [
        Spec(
            function=f"{kind}_norm{suffix}",
            family=FAMILY,
            shapes=over(lambda *shape, make=make: make(kind, *shape), *shapes),
            judged=make(kind, *judged),
        )
        for suffix, make in (("", by_sample), ("_backward", by_sample_backward))
    ]


SPECS = (
    Spec(
        function="batch_norm_train",
        family=FAMILY,
        shapes=over(train, IMAGES, FEATURES) | over(partial(train, activation="relu"), IMAGES, text="{}, relu"),
        judged=train(*ODD),
        mandatory=1,
    ),
    Spec(
        function="batch_norm_backward",
        family=FAMILY,
        shapes=over(backward, IMAGES, FEATURES) | over(partial(backward, activation="relu"), IMAGES, text="{}, relu"),
        judged=backward(*ODD),
    ),
    Spec(
        function="batch_norm_train+backward",
        family=FAMILY,
        shapes=over(whole_step, IMAGES),
        mandatory=1,
        call=_train_and_backward,
        outputs=("y", "dx"),
    ),
    Spec(
        function="batch_norm_infer",
        family=FAMILY,
        shapes=over(train, IMAGES, FEATURES) | over(partial(train, activation="relu"), IMAGES, text="{}, relu"),
        judged=train(*ODD),
    ),
    *_pair("layer", (ROWS, FEW_ROWS), (3, 37)),
    *_pair("group", (IMAGES, (1, 64, 32, 32)), ODD),
    *_pair("instance", (IMAGES, (1, 64, 32, 32)), ODD),
    *_pair("rms", (ROWS, FEW_ROWS), (3, 37)),
)
