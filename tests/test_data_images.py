"""Image files as a model's input."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastnn as fnn

Image = pytest.importorskip("PIL.Image")
ImageDraw = pytest.importorskip("PIL.ImageDraw")

DIGIT, PHOTO = (1, 28, 28), (3, 32, 32)
read_image = fnn.data.read_image


@pytest.mark.parametrize("suffix", ["png", "bmp", "gif", "webp", "tiff"])
def test_a_photo_of_the_right_size_is_taken_as_it_is(tmp_path: Path, suffix: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    if suffix == "gif":  # 256 colours
        pixels[...] = pixels[:, :, :1]
    path = tmp_path / f"photo.{suffix}"
    Image.fromarray(pixels).save(path, **({"lossless": True} if suffix == "webp" else {}))
    x = read_image(path)
    assert x.shape == PHOTO and x.dtype == np.uint8 and x.flags.c_contiguous
    np.testing.assert_array_equal(x, pixels.transpose(2, 0, 1))


def test_a_larger_photo_is_scaled_and_its_middle_cut_out(tmp_path: Path) -> None:
    pixels = np.zeros((100, 300, 3), np.uint8)
    pixels[:, :100, 0], pixels[:, 100:200, 1], pixels[:, 200:, 2] = 255, 255, 255
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    x = read_image(tmp_path / "wide.png")
    np.testing.assert_array_equal(x[:, 1:-1, 1:-1], np.broadcast_to([[[0]], [[255]], [[0]]], (3, 30, 30)))


def test_a_photo_is_turned_as_the_camera_says(tmp_path: Path) -> None:
    pixels = np.zeros((32, 32, 3), np.uint8)
    pixels[:16] = 255
    image = Image.fromarray(pixels)
    exif = image.getexif()
    exif[0x0112] = 6  # the top of the scene is on the right
    image.save(tmp_path / "turned.png", exif=exif)
    np.testing.assert_array_equal(read_image(tmp_path / "turned.png"), np.rot90(pixels, -1).transpose(2, 0, 1))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_is_white(tmp_path: Path, mode: str) -> None:
    image = Image.new("RGBA", (32, 32), (200, 0, 0, 0))
    ImageDraw.Draw(image).rectangle((0, 0, 15, 31), fill=(40, 40, 40, 255))
    image.convert(mode).save(tmp_path / "image.png")
    x = read_image(tmp_path / "image.png")
    assert (x[:, :, :16] == 40).all() and (x[:, :, 16:] == 255).all()


def test_sixteen_bits_are_not_cut_off(tmp_path: Path) -> None:
    values = (np.arange(28 * 28).reshape(28, 28) * 83).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / "deep.png")
    x = read_image(tmp_path / "deep.png", DIGIT, invert=False)
    np.testing.assert_allclose(x[0], values / 257, atol=0.51)


def stroke(size: tuple[int, int], box: tuple[int, int, int, int], paper: int, ink: int) -> Any:
    image = Image.new("L", size, paper)
    ImageDraw.Draw(image).rectangle(box, fill=ink)
    return image


def test_a_digit_of_the_right_size_is_taken_as_it_is_white_on_black(tmp_path: Path) -> None:
    dark = stroke((28, 28), (5, 3, 9, 20), 0, 250)
    dark.save(tmp_path / "dark.png")
    Image.fromarray(255 - np.asarray(dark)).save(tmp_path / "paper.png")
    expected = np.asarray(dark)[None]
    np.testing.assert_array_equal(read_image(tmp_path / "dark.png", DIGIT), expected)
    np.testing.assert_array_equal(read_image(tmp_path / "paper.png", DIGIT), expected)
    np.testing.assert_array_equal(read_image(tmp_path / "paper.png", DIGIT, invert=False), 255 - expected)
    np.testing.assert_array_equal(read_image(tmp_path / "dark.png", DIGIT, invert=True), 255 - expected)


@pytest.mark.parametrize(("paper", "ink"), [(255, 0), (0, 255), (220, 30), (20, 240)])
@pytest.mark.parametrize("box", [(200, 50, 240, 249), (30, 300, 229, 330)])
def test_a_digit_on_a_page_is_brought_into_mnist_s_form(
    tmp_path: Path, paper: int, ink: int, box: tuple[int, int, int, int]
) -> None:
    """Its longer side 20 of 28 pixels, its centre of mass in the middle, white on black."""
    stroke((400, 500), box, paper, ink).save(tmp_path / "page.png")
    x = read_image(tmp_path / "page.png", DIGIT)
    assert x.shape == DIGIT and x.dtype == np.uint8
    rows, columns = np.flatnonzero(x[0].max(axis=1) > 25), np.flatnonzero(x[0].max(axis=0) > 25)
    assert max(np.ptp(rows), np.ptp(columns)) + 1 == 20
    weight = x[0] / x.sum()
    np.testing.assert_allclose(weight.sum(axis=1) @ np.arange(28), 14, atol=0.55)
    np.testing.assert_allclose(weight.sum(axis=0) @ np.arange(28), 14, atol=0.55)
    assert x.max() > 200 and np.median(x) == 0


def test_real_digits_come_back_from_paper(tmp_path: Path, mnist_folder: Path) -> None:
    """Printed large, black on white, off the middle: read again they are much like the originals."""
    digits = fnn.data.mnist("test", mnist_folder)
    shares = digits.x[:, 0] / digits.x.sum(axis=(1, 2, 3))[:, None, None].astype(np.float64)
    for axis in (1, 2):  # where the originals have their centres of mass
        assert abs((shares.sum(axis=axis) @ np.arange(28)).mean() - 14) < 0.05
    likeness = []
    for i in range(12):
        original = digits.x[i, 0]
        page = Image.new("L", (300, 260), 255)
        page.paste(Image.fromarray(255 - original).resize((140, 140), Image.Resampling.BICUBIC), (130, 15))
        page.save(tmp_path / f"{i}.png")
        again = read_image(tmp_path / f"{i}.png", DIGIT)[0]
        likeness.append(np.corrcoef(original.ravel(), again.ravel())[0, 1])
    assert min(likeness) > 0.8 and np.median(likeness) > 0.95  # some lie a pixel off, where rounding goes either way


def test_an_empty_page_is_black(tmp_path: Path) -> None:
    Image.new("L", (90, 50), 255).save(tmp_path / "empty.png")
    assert (read_image(tmp_path / "empty.png", DIGIT) == 0).all()


def test_several_files(tmp_path: Path) -> None:
    for name in "ab":
        Image.new("RGB", (40, 40), (ord(name), 0, 0)).save(tmp_path / f"{name}.png")
    x = fnn.data.read_images([tmp_path / "a.png", str(tmp_path / "b.png")])
    assert x.shape == (2, *PHOTO) and x[:, 0, 0, 0].tolist() == [ord("a"), ord("b")]
    assert fnn.data.read_images([], DIGIT).shape == (0, *DIGIT)
    with pytest.raises(TypeError, match="paths is the one path .*; expected a sequence of them"):
        fnn.data.read_images(str(tmp_path / "a.png"))


def test_files_that_are_no_images(tmp_path: Path) -> None:
    path = tmp_path / "notes.png"
    path.write_text("not an image")
    with pytest.raises(ValueError, match="notes.png is not an image that can be read: cannot identify image file it"):
        read_image(path)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(ValueError, match="notes.png is not an image that can be read: .*truncated"):
        read_image(path)
    with pytest.raises(FileNotFoundError, match="nothing.png"):
        read_image(tmp_path / "nothing.png")
    with pytest.raises(IsADirectoryError):
        read_image(tmp_path)
    with pytest.raises(ValueError, match=r"shape is \(4, 28, 28\); expected \(1, H, W\) or \(3, H, W\)"):
        read_image(path, (4, 28, 28))


def test_a_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("L", (100, 100)).save(tmp_path / "large.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(ValueError, match="large.png is not an image that can be read: .*decompression bomb"):
        read_image(tmp_path / "large.png")


def test_without_pillow(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(ImportError, match=r'reading images needs PIL: pip install "fastnn\[train\]"'):
        read_image(tmp_path / "any.png")
