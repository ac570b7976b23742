"""Pooling of images, of sequences and of volumes, each as large and as small as layers have them."""

from __future__ import annotations

from collections.abc import Callable

from .functions import EXTRA, Arguments, Build, Maker, Spec, fnn

FAMILY = "pooling"
SEED = 20141218
IMAGES, ONE_IMAGE = (32, 64, 32, 32), (1, 64, 32, 32)
SEQUENCES, VOLUMES = (32, 64, 1024), (4, 16, 16, 32, 32)
TWO: Arguments = {"kernel_size": 2}
THREE: Arguments = {"kernel_size": 3, "stride": 2, "padding": 1}
Shape = tuple[int, ...]
Layer = tuple[Shape, Arguments]

PLANES: dict[str, Layer] = {
    "2x2, 32x64x32x32": (IMAGES, TWO),
    "2x2, 1x64x32x32": (ONE_IMAGE, TWO),
    "3x3 stride 2, 32x64x32x32": (IMAGES, THREE),
}
LINES: dict[str, Layer] = {"2, 32x64x1024": (SEQUENCES, TWO), "2, 1x64x1024": ((1, 64, 1024), TWO)}
SOLIDS: dict[str, Layer] = {
    "2x2x2, 4x16x16x32x32": (VOLUMES, TWO),
    "2x2x2, 1x4x16x32x32": ((1, 4, 16, 32, 32), TWO),
}


LAYERS: dict[int, dict[str, Layer]] = {1: LINES, 2: PLANES, 3: SOLIDS}
ODD: dict[int, Shape] = {1: (2, 3, 11), 2: (2, 3, 9, 10), 3: (1, 2, 5, 6, 7)}


def forward(shape: Shape, options: Arguments) -> Build:
    return lambda make: {"x": make.normal(*shape), **options}


def max_backward(dims: int) -> Callable[[Shape, Arguments], Build]:
    def of(shape: Shape, options: Arguments) -> Build:
        def build(make: Maker) -> Arguments:
            x = make.normal(*shape)
            y, indices = getattr(fnn, f"max_pool{dims}d")(x, **options, return_indices=True)
            return {"dy": make.normal(*y.shape), "indices": indices, "x_shape": shape, EXTRA: {"x": x, **options}}

        return build

    return of


def average_backward(dims: int) -> Callable[[Shape, Arguments], Build]:
    def of(shape: Shape, options: Arguments) -> Build:
        def build(make: Maker) -> Arguments:
            x = make.normal(*shape)
            y = getattr(fnn, f"avg_pool{dims}d")(x, **options)
            return {"dy": make.normal(*y.shape), "x_shape": shape, **options, EXTRA: {"x": x}}

        return build

    return of


def _windows(dims: int) -> list[Spec]:
    builds: dict[str, Callable[[Shape, Arguments], Build]] = {
        f"max_pool{dims}d": forward,
        f"max_pool{dims}d_backward": max_backward(dims),
        f"avg_pool{dims}d": forward,
        f"avg_pool{dims}d_backward": average_backward(dims),
    }
    return [
        Spec(
            function=function,
            family=FAMILY,
            shapes={label: build(*layer) for label, layer in LAYERS[dims].items()},
            judged=build(ODD[dims], THREE),
            mandatory=int(function == "max_pool2d"),
        )
        for function, build in builds.items()
    ]


def resized(output: int) -> Callable[[Shape], Build]:
    return lambda shape: lambda make: {"x": make.normal(*shape), "output_size": output}


def resized_backward(output: int) -> Callable[[Shape], Build]:
    def of(shape: Shape) -> Build:
        sizes = (*shape[:2], *(output,) * (len(shape) - 2))
        return lambda make: {"dy": make.normal(*sizes), "x_shape": shape, EXTRA: {"x": make.normal(*shape)}}

    return of


def _adaptive(dims: int) -> list[Spec]:
    """To 7 an axis, which does not divide the length, and of a volume to 4."""
    output = {1: 7, 2: 7, 3: 4}[dims]
    return [
        Spec(
            function=f"adaptive_avg_pool{dims}d{suffix}",
            family=FAMILY,
            shapes={
                f"to {output}, {'x'.join(map(str, shape))}": build(output)(shape)
                for shape, options in LAYERS[dims].values()
                if options is TWO
            },
            judged=build(3)(ODD[dims]),
        )
        for suffix, build in (("", resized), ("_backward", resized_backward))
    ]


def whole(shape: Shape) -> Build:
    return lambda make: {"x": make.normal(*shape)}


def whole_backward(shape: Shape) -> Build:
    return lambda make: {"dy": make.normal(*shape[:2]), "x_shape": shape}


def fractional(shape: Shape) -> Build:
    """To 0.7 of height and width."""
    return lambda make: {
        "x": make.normal(*shape),
        "output_size": int(0.7 * shape[-1]),
        "seed": SEED,
        "pseudo_random": True,
        "overlapping": True,
    }


def fractional_backward(shape: Shape) -> Build:
    def build(make: Maker) -> Arguments:
        given = fractional(shape)(make)
        y, indices = fnn.fractional_max_pool2d(**given, return_indices=True)
        return {"dy": make.normal(*y.shape), "indices": indices, "x_shape": shape, EXTRA: {"x": given["x"]}}

    return build


def _images(function: str, build: Callable[[Shape], Build], random: bool = False) -> Spec:
    return Spec(
        function=function,
        family=FAMILY,
        shapes={"x".join(map(str, shape)): build(shape) for shape in (IMAGES, ONE_IMAGE)},
        judged=build(ODD[2]),
        random=random,
    )


SPECS = (
    *(spec for dims in (2, 1, 3) for spec in _windows(dims)),
    *(spec for dims in (2, 1, 3) for spec in _adaptive(dims)),
    _images("global_avg_pool", whole),
    _images("global_avg_pool_backward", whole_backward),
    _images("fractional_max_pool2d", fractional, random=True),
    _images("fractional_max_pool2d_backward", fractional_backward),
)
