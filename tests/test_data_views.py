"""Averaging at test time: views of the images, and the mean over them."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest

import fastnn as fnn

data = fnn.data
Array = np.ndarray[Any, Any]


def batch(n: int = 5, height: int = 8, width: int = 9) -> Array:
    return np.random.default_rng(n).random((n, 3, height, width)).astype(np.float32)


def softmax(y: Array) -> Array:
    e = np.exp(y - y.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


class Scores(fnn.nn.Module):
    """Ten scores that depend on where in the image something is; it remembers how it was called."""

    def __init__(self, pixels: int = 3 * 6 * 6) -> None:
        self.weight = fnn.nn.Parameter(np.random.default_rng(0).standard_normal((10, pixels)))
        self.calls: list[tuple[int, bool]] = []

    def forward(self, x: Array) -> Array:
        self.calls.append((len(x), self.training))
        self.save(x)
        return x.reshape(len(x), -1) @ self.weight.data.T.astype(np.float32)


def test_crops_are_corners_and_middle_and_mirrored() -> None:
    x = batch()
    five = list(data.five_crop(x, (6, 5)))
    wanted = [(0, 0), (0, 4), (2, 0), (2, 4), (1, 2)]
    for view, (top, left) in zip(five, wanted, strict=True):
        np.testing.assert_array_equal(view, x[:, :, top : top + 6, left : left + 5])
    ten = list(data.ten_crop(x, (6, 5)))
    for view, expected in zip(ten, five + list(data.five_crop(x[..., ::-1], (6, 5))), strict=True):
        np.testing.assert_array_equal(view, expected)
        assert view.flags.c_contiguous
    # Of a crop in the middle of an even margin the mirrored one is the mirror image.
    even = list(data.ten_crop(x, (6, 7)))
    np.testing.assert_array_equal(even[9], even[4][..., ::-1])


def test_the_form_for_32_pixels() -> None:
    x = batch(2, 32, 32)
    views = list(data.ten_crop(x, 32, padding=4))
    assert [view.shape for view in views] == [x.shape] * 10
    np.testing.assert_array_equal(views[4], x)
    np.testing.assert_array_equal(views[0][:, :, 4:, 4:], x[:, :, :-4, :-4])
    assert (views[0][:, :, :4] == 0).all()


def test_scales_and_crops_of_the_lecture() -> None:
    x = batch(1, 30, 40)
    views = list(data.scaled_crops(x, 22, (22, 26, 38, 48, 64)))
    assert len(views) == 50 and {view.shape for view in views} == {(1, 3, 22, 22)}
    larger = data.resize(x, (38, round(40 * 38 / 30)))
    for view, expected in zip(views[20:30], data.ten_crop(larger, 22), strict=True):
        np.testing.assert_array_equal(view, expected)


def test_predictions_are_averaged() -> None:
    x, model = batch(7), Scores()
    views = partial(data.five_crop, size=6)
    each = [model(view).astype(np.float64) for view in views(x)]
    model.calls.clear()
    mean = data.average_over(model, x, views, batch_size=3)
    assert mean.shape == (7, 10) and mean.dtype == np.float32
    np.testing.assert_allclose(mean, np.mean([softmax(y) for y in each], axis=0), atol=1e-6)
    np.testing.assert_allclose(mean.sum(axis=1), 1, atol=1e-6)
    assert model.calls == [(3, False)] * 10 + [(1, False)] * 5
    np.testing.assert_allclose(data.average_over(model, x, views, softmax=False), np.mean(each, axis=0), atol=1e-5)
    plain = data.average_over(lambda x: model(x), x, views, batch_size=3)
    np.testing.assert_array_equal(plain, mean)


def test_images_as_they_are_stored() -> None:
    x, model = np.random.default_rng(0).integers(0, 256, (3, 3, 6, 6), dtype=np.uint8), Scores()
    np.testing.assert_array_equal(data.average_over(model, x), data.average_over(model, data.ToFloat()(x)))


def test_flips_by_default() -> None:
    x, model = batch(3, 6, 6), Scores()
    expected = (model(x) + model(np.ascontiguousarray(x[..., ::-1]))) / 2
    np.testing.assert_allclose(data.average_over(model, x, softmax=False), expected, atol=1e-5)


def test_the_model_is_left_as_it_was() -> None:
    inner, frozen = Scores(), Scores()
    model = fnn.nn.Sequential(inner)
    inner.part = frozen
    frozen.eval()
    data.average_over(model, batch(2, 6, 6))
    assert [module.training for module in (model, inner, frozen)] == [True, True, False]
    with pytest.raises(RuntimeError, match="no forward pass"):
        _ = inner.saved  # nothing is kept for a backward pass
    with pytest.raises(ValueError, match="matmul"):
        data.average_over(model, batch(2, 7, 6))
    assert inner.training


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: list(data.five_crop(batch(), 9)), ValueError, r"five_crop: size is \(9, 9\), x has shape"),
        (lambda: list(data.ten_crop(batch(), 4, padding=-1)), ValueError, "padding is -1"),
        (lambda: list(data.flips(batch()[0])), ValueError, r"expected \(N, C, H, W\)"),
        (lambda: list(data.scaled_crops(batch(), 9, (8,))), ValueError, "size is"),
        (lambda: data.average_over(3, batch()), TypeError, "model is of type int"),
        (lambda: data.average_over(len, batch(0)), ValueError, "expected samples"),
        (lambda: data.average_over(len, batch(), lambda x: []), ValueError, "made no view"),
        (lambda: data.average_over(len, batch(), lambda x: x), ValueError, "views made 3 images of 5"),
        (lambda: data.average_over(len, np.zeros((1, 1, 2, 2), np.int32)), TypeError, "x has dtype int32"),
        (lambda: data.average_over(len, np.zeros((1, 2, 2), np.uint8)), ValueError, r"x has shape"),
    ],
)
def test_wrong_arguments(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
