"""Augmentation: every transform against a plain loop over the images, or against SciPy, Pillow and PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from rows import RUNS, using

import fastnn as fnn
from fastnn.data import moments

data = fnn.data
Array = np.ndarray[Any, Any]

TRANSFORMS = [
    data.RandomHorizontalFlip(),
    data.RandomCrop(9, padding=2),
    data.RandomCrop((5, 11), fill=0.5),
    data.RandomResizedCrop((8, 6)),
    data.RandomResizedCrop(10, short_side=(10, 16)),
    data.ColorJitter(0.4, 0.4, 0.4),
    data.PCAColor(0.1, np.eye(3)[:2], [0.5, 0.2]),
    data.RandomAffine(20, (0.1, 0.2), (0.8, 1.2), 10, stretch=(0.8, 1.25)),
    data.LensDistortion(0.3),
    data.Cutout(4),
    data.Normalize([0.4, 0.5, 0.6], 0.25),
]


def batch(n: int = 16, channels: int = 3, height: int = 12, width: int = 14, dtype: Any = np.float32) -> Array:
    return np.random.default_rng(n).random((n, channels, height, width)).astype(dtype)


def rng(seed: int = 7) -> np.random.Generator:
    return np.random.default_rng(seed)


# What holds for all of them


@pytest.mark.parametrize("transform", TRANSFORMS, ids=repr)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_generator_decides_everything(transform: Any, dtype: Any) -> None:
    x = batch(dtype=dtype)
    before = x.copy()
    y = transform(x, rng())
    np.testing.assert_array_equal(x, before)
    assert y.dtype == dtype and y.shape == transform.output_shape(x.shape) and y.flags.c_contiguous
    np.random.seed(0)  # noqa: NPY002 - it must not matter
    out = np.full_like(y, np.nan)
    assert transform(x, rng(), out=out) is out
    np.testing.assert_array_equal(out, y)
    np.testing.assert_array_equal(transform(np.asfortranarray(x), rng()), y)
    if transform.in_place:
        assert transform(x, rng(), out=x) is x
        np.testing.assert_array_equal(x, y)
    assert transform(x[:0], rng()).shape == (0, *y.shape[1:])


@pytest.mark.parametrize("transform", TRANSFORMS[:-1], ids=repr)
def test_every_image_has_a_draw_of_its_own(transform: Any) -> None:
    y = transform(np.repeat(batch(1), 64, axis=0), rng())
    different = {image.tobytes() for image in y}
    assert len(different) >= (2 if isinstance(transform, data.RandomHorizontalFlip) else 15)
    assert (transform(batch(), rng(1)) != transform(batch(), rng(2))).any()


@pytest.mark.parametrize("transform", TRANSFORMS, ids=repr)
def test_wrong_batches(transform: Any) -> None:
    with pytest.raises(TypeError, match=r"x has dtype uint8; expected .*ToFloat\(\)"):
        transform(np.zeros((1, 3, 12, 14), np.uint8), rng())
    with pytest.raises(TypeError, match="x has type list"):
        transform([[1.0]], rng())
    with pytest.raises(ValueError, match=r"x has shape \(3, 12, 14\); expected \(N, C, H, W\)"):
        transform(batch()[0], rng())
    with pytest.raises(TypeError, match="rng is of type int"):
        transform(batch(), 3)
    x = batch()
    with pytest.raises(ValueError, match="out is float32"):
        transform(x, rng(), out=np.empty((1, 1, 1, 1), np.float32))
    shape = transform.output_shape(x.shape)
    memory = np.zeros(x.size + int(np.prod(shape)), np.float32)
    shared = memory[: x.size].reshape(x.shape)
    with pytest.raises(ValueError, match="out overlaps x in memory"):
        transform(shared, rng(), out=memory[1 : 1 + int(np.prod(shape))].reshape(shape))


# Flips and crops


@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
def test_horizontal_flip(p: float) -> None:
    x = batch(40)
    flip = rng().random(40) < p
    expected = [np.flip(image, 2) if f else image for image, f in zip(x, flip, strict=True)]
    np.testing.assert_array_equal(data.RandomHorizontalFlip(p)(x, rng()), expected)


@pytest.mark.parametrize(
    ("size", "padding", "fill"), [(12, 4, 0.0), ((7, 14), 0, 0.0), ((3, 2), 1, 9.0), ((20, 22), 4, -1.0)]
)
def test_crop(size: Any, padding: int, fill: float) -> None:
    x = batch(50)
    h, w = size if isinstance(size, tuple) else (size, size)
    y = data.RandomCrop(size, padding, fill)(x, rng())
    padded = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)), constant_values=fill)
    draw = rng()
    tops = draw.integers(12 + 2 * padding - h + 1, size=50)
    lefts = draw.integers(14 + 2 * padding - w + 1, size=50)
    for image, result, top, left in zip(padded, y, tops, lefts, strict=True):
        np.testing.assert_array_equal(result, image[:, top : top + h, left : left + w])


def test_all_places_of_a_crop_are_equally_likely() -> None:
    x = np.arange(12 * 14, dtype=np.float32).reshape(1, 1, 12, 14).repeat(6000, axis=0)
    first = data.RandomCrop((10, 12))(x, rng())[:, 0, 0, 0]
    counts = np.unique(first, return_counts=True)[1]
    assert len(counts) == 9 and counts.min() > 560 and counts.max() < 780  # 667 +- 24


def pillow(image: Array, size: tuple[int, int], box: tuple[float, ...] | None = None) -> Array:
    """A plane resized by Pillow."""
    module = pytest.importorskip("PIL.Image")
    plane = module.fromarray(image.astype(np.float32))
    return np.asarray(plane.resize(size[::-1], module.Resampling.BILINEAR, box=box))


@pytest.mark.parametrize("size", [(12, 14), (24, 30), (5, 3), (1, 1), (7, 28), (100, 2)])
def test_resize_is_pillow_s(size: tuple[int, int]) -> None:
    x = batch(3)
    y = data.resize(x, size)
    assert y.dtype == np.float32
    np.testing.assert_allclose(y, [[pillow(plane, size) for plane in image] for image in x], atol=2e-6)
    if size == (12, 14):
        np.testing.assert_array_equal(y, x)


@pytest.mark.parametrize("size", [(24, 30), (5, 3), (7, 28)])
def test_resize_is_torch_s(size: tuple[int, int]) -> None:
    torch = pytest.importorskip("torch")
    x = batch(3)
    options = {"mode": "bilinear", "antialias": True, "align_corners": False}
    expected = torch.nn.functional.interpolate(torch.from_numpy(x), size, **options).numpy()
    np.testing.assert_allclose(data.resize(x, size), expected, atol=2e-6)


def test_resized_crop_by_area() -> None:
    x = batch(64, height=24, width=20)
    transform = data.RandomResizedCrop((9, 7), scale=(0.1, 0.7))
    rows, columns = transform._by_area(64, 24, 20, rng())
    y = transform(x, rng())
    for image, result, (top, h), (left, w) in zip(x, y, rows, columns, strict=True):
        assert 0 <= top <= 24 - h and 0 <= left <= 20 - w
        assert 0.08 < h * w / 480 < 0.75 and 0.6 < w / h < 1.7  # sides are rounded
        box = (left, top, left + w, top + h)
        np.testing.assert_allclose(result, [pillow(plane, (9, 7), box) for plane in image], atol=3e-6)
    shares = np.prod([s[:, 1] for s in transform._by_area(4000, 240, 200, rng())], axis=0) / 48000
    np.testing.assert_allclose([shares.mean(), shares.std()], [0.4, 0.6 / np.sqrt(12)], atol=0.02)


def test_resized_crop_where_nothing_fits() -> None:
    """A strip, 40 times as wide as high: the largest piece of the widest ratio allowed, in the middle."""
    rows, columns = data.RandomResizedCrop(4, scale=(0.9, 1))._by_area(5, 6, 240, rng())
    assert rows.tolist() == [[0, 6]] * 5 and columns.tolist() == [[116, 8]] * 5


def test_resized_crop_by_short_side() -> None:
    """As in the lecture: the whole image resized by Pillow, then a piece of it."""
    x = batch(30, 1, 24, 36)
    y = data.RandomResizedCrop((14, 16), short_side=(16, 30))(x, rng())
    draw = rng()
    sides = draw.integers(16, 30, endpoint=True, size=30)
    heights, widths = sides, np.rint(36 * sides / 24).astype(int)
    tops, lefts = (np.floor(draw.random(30) * (room + 1)).astype(int) for room in (heights - 14, widths - 16))
    for i in range(30):
        whole = pillow(x[i, 0], (int(heights[i]), int(widths[i])))
        np.testing.assert_allclose(y[i, 0], whole[tops[i] : tops[i] + 14, lefts[i] : lefts[i] + 16], atol=3e-6)
    assert sides.min() == 16 and sides.max() == 30


# Colours


def test_color_jitter() -> None:
    x = batch(20)
    y = data.ColorJitter(0.5, (0.2, 3.0), 0.9)(x, rng())
    draw = rng()
    brightness, contrast, saturation = (draw.uniform(*b, size=20) for b in ((0.5, 1.5), (0.2, 3), (0.1, 1.9)))

    def grey(image: Array) -> Array:
        return 0.299 * image[0] + 0.587 * image[1] + 0.114 * image[2]

    for i, image in enumerate(x.astype(np.float64)):
        image = np.clip(image * brightness[i], 0, 1)
        image = np.clip(image * contrast[i] + (1 - contrast[i]) * grey(image).mean(), 0, 1)
        image = np.clip(image * saturation[i] + (1 - saturation[i]) * grey(image), 0, 1)
        np.testing.assert_allclose(y[i], image, atol=1e-6)


def test_color_jitter_of_grey_images_and_of_nothing() -> None:
    x = batch(channels=1)
    np.testing.assert_array_equal(data.ColorJitter()(x, rng()), x)
    np.testing.assert_allclose(data.ColorJitter(saturation=0.9)(x, rng()), x, atol=1e-6)
    flat = np.full((4, 3, 2, 2), 0.5, np.float32)
    np.testing.assert_allclose(data.ColorJitter(contrast=0.9)(flat, rng()), flat, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_pca_color(dtype: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moments, "CHUNK", 700)  # several pieces
    mixing = np.array([[1, 0.5, 0.2], [0, 1, 0.3], [0, 0, 0.4]])
    train = np.clip(np.einsum("nchw,cd->ndhw", batch(50), mixing) * 0.4, 0, 1)
    train = (train * 255).astype(np.uint8) if dtype == np.uint8 else train.astype(dtype)
    transform = data.PCAColor(0.2).fit(train)
    pixels = np.moveaxis(train, 1, 3).reshape(-1, 3) / (255 if dtype == np.uint8 else 1)
    values, vectors = np.linalg.eigh(np.cov(pixels.T))
    np.testing.assert_allclose(transform.eigenvalues, values[::-1], rtol=1e-6)
    x = batch(20)
    y = transform(x, rng())
    weights = rng().normal(scale=0.2, size=(20, 3))
    for image, result, weight in zip(x, y, weights, strict=True):
        offset = transform.eigenvectors.T @ (weight * values[::-1])
        np.testing.assert_allclose(result, image + offset[:, None, None], atol=1e-6)
    np.testing.assert_allclose(np.abs(transform.eigenvectors @ vectors[:, ::-1]), np.eye(3), atol=1e-6)


def test_normalize() -> None:
    x = batch()
    mean, std = np.array([0.4, 0.5, 0.6]), np.array([0.2, 0.3, 0.4])
    expected = (x - mean[:, None, None]) / std[:, None, None]
    np.testing.assert_allclose(data.Normalize(mean.tolist(), std.tolist())(x, rng()), expected, atol=1e-6)
    np.testing.assert_allclose(data.Normalize(0.5, 2)(x, rng()), (x - 0.5) / 2, atol=1e-6)
    with pytest.raises(ValueError, match="mean has 2 numbers"):
        data.Normalize([1, 2], 1)(x, rng())


def test_to_float() -> None:
    x = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16)
    y = data.ToFloat()(x)
    assert y.dtype == np.float32
    np.testing.assert_array_equal(y, x.astype(np.float32) / np.float32(255))
    assert data.ToFloat()(y) is y


# Geometry


@pytest.mark.parametrize("shape", [(12, 14), (9, 9), (1, 5)])
def test_affine_is_scipy_s(shape: tuple[int, int]) -> None:
    ndimage = pytest.importorskip("scipy.ndimage")
    height, width = shape
    x = batch(30, 2, height, width)
    options = {"degrees": (-40, 80), "translate": (0.2, 0.3), "scale": (0.5, 1.6), "shear": (-30, 20)}
    y = data.RandomAffine(**options, stretch=(0.6, 1.5), fill=0.25)(x, rng())
    draw = rng()
    angle, right, down, scale, shear = (
        draw.uniform(low, high, 30)
        for low, high in ((-40, 80), (-0.2 * width, 0.2 * width), (-0.3 * height, 0.3 * height), (0.5, 1.6), (-30, 20))
    )
    stretch = np.exp(draw.uniform(np.log(0.6), np.log(1.5), 30))
    middle = (np.array(shape) - 1) / 2
    for i in range(30):
        a, s = np.deg2rad(angle[i]), np.tan(np.deg2rad(shear[i]))
        # In (row, column), rows downwards: the map of the image, one factor after the other.
        turn = np.array([[np.cos(a), np.sin(a)], [-np.sin(a), np.cos(a)]])
        forward = turn @ np.diag([scale[i], scale[i] * stretch[i]]) @ np.array([[1, 0], [-s, 1]])
        back = np.linalg.inv(forward)
        offset = middle - back @ (middle + [down[i], right[i]])
        for plane, result in zip(x[i], y[i], strict=True):
            expected = ndimage.affine_transform(plane, back, offset, order=1, mode="grid-constant", cval=0.25)
            np.testing.assert_allclose(result, expected, atol=2e-5)


def test_affine_is_torch_s() -> None:
    torch = pytest.importorskip("torch")
    x = batch(6, height=10, width=10)
    transform = data.RandomAffine(45, (0.2, 0.2), (0.7, 1.4), 15)
    matrix, move = transform._drawn(6, 10, 10, rng())
    theta = np.zeros((6, 2, 3))  # from the target to the source, in units of half the side
    theta[:, :, :2] = np.linalg.inv(matrix)
    theta[:, :, 2] = -np.einsum("nij,nj->ni", theta[:, :, :2], move) / 5
    grid = torch.nn.functional.affine_grid(torch.from_numpy(theta).float(), x.shape, align_corners=False)
    expected = torch.nn.functional.grid_sample(torch.from_numpy(x), grid, align_corners=False).numpy()
    np.testing.assert_allclose(transform(x, rng()), expected, atol=2e-5)


def test_affine_in_plain_words() -> None:
    x = batch(4, height=8, width=8)
    np.testing.assert_allclose(data.RandomAffine((90, 90))(x, rng()), np.rot90(x, -1, (2, 3)), atol=1e-5)  # clockwise
    np.testing.assert_allclose(data.RandomAffine(0)(x, rng()), x, atol=1e-6)
    larger = data.RandomAffine(0, scale=(2, 2))(x, rng())
    np.testing.assert_allclose(
        larger[:, :, 1:-1, 1:-1].mean(axis=(2, 3)), x[:, :, 2:-2, 2:-2].mean(axis=(2, 3)), atol=0.1
    )
    wide = data.RandomAffine(0, stretch=(3, 3))(x, rng())
    np.testing.assert_allclose(wide[..., 3:5].mean(axis=3), x[..., 3:5].mean(axis=3), atol=1e-6)
    white = data.RandomAffine(0, scale=(0.1, 0.1), fill=1.0)(x, rng())
    np.testing.assert_array_equal(white[:, :, 0], 1)


def test_lens_distortion_is_scipy_s() -> None:
    ndimage = pytest.importorskip("scipy.ndimage")
    x = batch(12, 2, 11, 16)
    y = data.LensDistortion((-0.3, 0.6), fill=0.5)(x, rng())
    k1 = rng().uniform(-0.3, 0.6, size=12)
    row, column = np.mgrid[:11, :16] - np.array([5, 7.5])[:, None, None]
    half_diagonal = np.hypot(11, 16) / 2
    for i in range(12):
        factor = 1 + k1[i] * (np.hypot(row, column) / half_diagonal) ** 2
        places = [row * factor + 5, column * factor + 7.5]
        for plane, result in zip(x[i], y[i], strict=True):
            expected = ndimage.map_coordinates(plane, places, order=1, mode="grid-constant", cval=0.5)
            np.testing.assert_allclose(result, expected, atol=2e-5)


# Cutout, mixup, chains


def test_cutout_and_mixup_are_those_of_fastnn() -> None:
    x, label = batch(), np.arange(16) % 5
    seed = int(rng().integers(2**64, dtype=np.uint64))
    np.testing.assert_array_equal(data.Cutout((3, 5), 0.5)(x, rng()), fnn.cutout(x, (3, 5), seed=seed, fill=0.5))
    for per_sample in (False, True):
        expected = fnn.mixup(x, label, 0.4, seed=seed, classes=5, per_sample=per_sample)
        transform = data.Mixup(0.4, classes=5, per_sample=per_sample)
        for found, wanted in zip(transform(x, label, rng()), expected, strict=False):
            np.testing.assert_array_equal(found, wanted)
    soft = np.eye(5)[label]
    np.testing.assert_array_equal(data.Mixup(classes=5)(x, soft, rng())[1].sum(axis=1), 1)


def test_compose() -> None:
    x, label = batch(), np.arange(16) % 3
    chain = data.Compose([data.RandomCrop(12, 2), data.RandomHorizontalFlip(), lambda x, rng: x * 2])
    draw = rng()
    expected = 2 * data.RandomHorizontalFlip()(data.RandomCrop(12, 2)(x, draw), draw)
    np.testing.assert_array_equal(chain(x, rng()), expected)
    assert not chain.labels
    mixing = data.Compose([chain, data.Mixup(classes=3)])
    assert mixing.labels
    y, soft = mixing(x, label, rng())
    draw = rng()
    expected, wanted = data.Mixup(classes=3)(chain(x, draw), label, draw)
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(soft, wanted)
    with pytest.raises(TypeError, match="a transform is <class.*RandomCrop'>; expected a callable"):
        data.Compose([data.RandomCrop])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: data.RandomHorizontalFlip(1.5), "RandomHorizontalFlip: p is 1.5"),
        (lambda: data.RandomCrop(0), "size is 0; expected an int of at least 1"),
        (lambda: data.RandomCrop((3, 4, 5)), r"size is \(3, 4, 5\)"),
        (lambda: data.RandomCrop(3, -1), "padding is -1"),
        (lambda: data.RandomCrop(20)(batch(), rng()), r"size is \(20, 20\), x has shape"),
        (lambda: data.RandomResizedCrop(8, (0, 1)), "scale is"),
        (lambda: data.RandomResizedCrop(8, (0.5, 1.1)), "scale is"),
        (lambda: data.RandomResizedCrop(8, (0.5, 0.2)), "lower number first"),
        (lambda: data.RandomResizedCrop(8, short_side=(7, 9)), r"short_side is \(7, 9\)"),
        (lambda: data.ColorJitter(-0.1), "brightness is -0.1"),
        (lambda: data.ColorJitter(contrast=(1, 2, 3)), "contrast is"),
        (lambda: data.PCAColor(0.1, np.eye(3), [1, 2]), r"eigenvectors has shape \(3, 3\) and eigenvalues \(2,\)"),
        (lambda: data.PCAColor(0.1, np.eye(2), [1, 2])(batch(), rng()), "expected 2 channels"),
        (lambda: data.PCAColor().fit(np.zeros((3, 4))), r"x has shape \(3, 4\)"),
        (lambda: data.RandomAffine(-5), "degrees is -5"),
        (lambda: data.RandomAffine(5, (0.1, 1.1)), "translate is 1.1"),
        (lambda: data.RandomAffine(5, scale=(0, 1)), "scale is"),
        (lambda: data.RandomAffine(5, shear=90), "shear is 90"),
        (lambda: data.LensDistortion(0.5), "k1 is 0.5; expected more than -1/3"),
        (lambda: data.Normalize(0, 0), "std is 0"),
        (lambda: data.Mixup(-1, classes=3), "alpha is -1"),
        (lambda: data.Cutout(0), "size is 0"),
        (lambda: data.resize(batch(), (0, 3)), r"size is \(0, 3\)"),
    ],
)
def test_wrong_arguments(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_arguments_of_a_wrong_kind() -> None:
    with pytest.raises(TypeError, match="expected both"):
        data.PCAColor(eigenvalues=[1])
    with pytest.raises(TypeError, match="scale is 0.5; expected two numbers"):
        data.RandomResizedCrop(8, 0.5)
    with pytest.raises(TypeError, match="translate is 0.1; expected two numbers"):
        data.RandomAffine(5, 0.1)
    with pytest.raises(RuntimeError, match=r"there are no eigenvectors; call fit\(x\) first"):
        data.PCAColor()(batch(), rng())


@pytest.mark.parametrize(
    ("run", "dtype"),
    [(run, dtype) for run in RUNS for dtype in (np.float32, np.float64) if (run, dtype) != ("numba", np.float64)],
)
def test_kernels_agree_on_every_backend_and_instruction_set(run: str, dtype: Any) -> None:
    """The same bits from every instruction set, and from Numba."""
    transforms = [
        *TRANSFORMS[:4],
        data.RandomResizedCrop((90, 5)),
        data.RandomAffine(70, (0.3, 0.3), (0.3, 2), 40, fill=0.7),
        data.LensDistortion((-0.3, 2.0)),
    ]
    for shape in ((40, 3, 40, 70), (3, 1, 12, 130), (2, 1, 1, 12)):
        x = np.random.default_rng(0).random(shape).astype(dtype)
        for transform in transforms:
            if isinstance(transform, data.RandomCrop) and shape[2] == 1:
                continue
            expected = transform(x, rng())
            with using(run):
                found = transform(x, rng())
            if run == "reference":  # in float64
                np.testing.assert_allclose(found, expected, atol=1e-6)
            else:
                np.testing.assert_array_equal(found, expected)
