"""Pooling of images, of sequences and of volumes, each as large and as small as layers have them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import fastnn as fnn

from .functions import Arguments, Build, Maker, Spec

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
SOLIDS: dict[str, Layer] = {"2x2x2, 4x16x16x32x32": (VOLUMES, TWO), "2x2x2, 1x4x16x32x32": ((1, 4, 16, 32, 32), TWO)}


def forward(shape: Shape, options: Arguments) -> Build:
    return lambda make: {"x": make.normal(*shape), **options}
