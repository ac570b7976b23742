"""Gates: the rows of a transformer's feed-forward layer, and maxout over the channels of a layer."""

from __future__ import annotations

from collections.abc import Callable

from .functions import Arguments, Build, Maker, Spec, over

FAMILY = "gating"
ROWS = ((1024, 2048), (64, 2048))  # of x; the result is half as wide
PIECES = 2
ODD = (7, 34)


def forward(*shape: int, **options: int) -> Build:
    return lambda make: {"x": make.normal(*shape), **options}


def backward(*shape: int, **options: int) -> Build:
    def build(make: Maker) -> Arguments:
        return {"dy": make.normal(shape[0], shape[1] // 2), "x": make.normal(*shape), **options}

    return build


def _pair(name: str, **options: int) -> list[Spec]:
    builds: dict[str, Callable[..., Build]] = {name: forward, f"{name}_backward": backward}
    return [
        Spec(
            function=function,
            family=FAMILY,
            shapes=over(lambda *shape, build=build: build(*shape, **options), *ROWS),
            judged=build(*ODD, **options),
        )
        for function, build in builds.items()
    ]


SPECS = (*_pair("maxout", pieces=PIECES), *_pair("glu"), *_pair("swiglu"))
