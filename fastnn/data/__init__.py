"""Data: readers, generated sets, preprocessing, augmentation, a loader, averaging at test time.

    train, test = fnn.data.cifar10("train"), fnn.data.cifar10("test")
    normalize = fnn.data.PerChannelStandardize().fit(train.x)
    augment = [fnn.data.RandomCrop(32, padding=4), fnn.data.RandomHorizontalFlip()]
    loader = fnn.data.Loader(train, batch_size=128, transforms=[*augment, normalize])
    for x, y in loader:
        ...

A data set is arrays `x` (N, ...) and `y` (N,). Images are (N, C, H, W); uint8 stands for x / 255 wherever it comes.
"""

from __future__ import annotations

from fastnn.data.averaging import average_over, five_crop, flips, scaled_crops, ten_crop
from fastnn.data.cifar import cifar10
from fastnn.data.colors import ColorJitter, PCAColor
from fastnn.data.crops import RandomCrop, RandomHorizontalFlip, RandomResizedCrop
from fastnn.data.dataset import ArrayDataset, Dataset
from fastnn.data.decorrelate import PCA, Whitening
from fastnn.data.files import cache_folder
from fastnn.data.generated import circles, clouds, moons, spirals
from fastnn.data.images import read_image, read_images
from fastnn.data.loader import Loader
from fastnn.data.mixing import Cutout, Mixup
from fastnn.data.mnist import mnist
from fastnn.data.preprocess import (
    MeanImage,
    PerChannelMean,
    PerChannelStandardize,
    Pipeline,
    Preprocessor,
    Standardize,
    from_state,
)
from fastnn.data.resizing import resize
from fastnn.data.transform import Compose, Normalize, ToFloat, Transform
from fastnn.data.warp import LensDistortion, RandomAffine

__all__ = [
    "PCA",
    "ArrayDataset",
    "ColorJitter",
    "Compose",
    "Cutout",
    "Dataset",
    "LensDistortion",
    "Loader",
    "MeanImage",
    "Mixup",
    "Normalize",
    "PCAColor",
    "PerChannelMean",
    "PerChannelStandardize",
    "Pipeline",
    "Preprocessor",
    "RandomAffine",
    "RandomCrop",
    "RandomHorizontalFlip",
    "RandomResizedCrop",
    "Standardize",
    "ToFloat",
    "Transform",
    "Whitening",
    "average_over",
    "cache_folder",
    "cifar10",
    "circles",
    "clouds",
    "five_crop",
    "flips",
    "from_state",
    "mnist",
    "moons",
    "read_image",
    "read_images",
    "resize",
    "scaled_crops",
    "spirals",
    "ten_crop",
]
