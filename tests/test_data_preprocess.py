"""Preprocessing: against the formulas, in pieces, saved and restored, and by scikit-learn's rules."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastnn as fnn
from fastnn.data import moments

data = fnn.data
Array = np.ndarray[Any, Any]
SHIFTS = [data.Standardize, data.MeanImage, data.PerChannelMean, data.PerChannelStandardize]
ALL = [
    *(kind() for kind in SHIFTS),
    data.PCA(),
    data.PCA(5),
    data.Whitening(),
    data.Whitening(4, eps=1e-3),
    data.Whitening(zca=True),
    data.Pipeline([data.PerChannelStandardize(), data.PCA(6)]),
]


def images(dtype: Any = np.float64, n: int = 200, seed: int = 0) -> Array:
    """Images whose pixels are correlated, from 0 to 1, or to 255 for uint8."""
    rng = np.random.default_rng(seed)
    mixed = rng.standard_normal((n, 3, 10)) @ rng.standard_normal((10, 12)) * 0.06 + rng.uniform(0.4, 0.6, (3, 12))
    x = np.clip(mixed, 0, 1).reshape(n, 3, 3, 4)
    return (x * 255).astype(np.uint8) if dtype == np.uint8 else x.astype(dtype)


def plain(x: Array) -> Array:
    return x.astype(np.float64) / (255 if x.dtype == np.uint8 else 1)


@pytest.fixture(params=[None, 1, 100, 1000], ids=["whole", "single", "pieces", "halves"])
def chunk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The statistics in one piece, and in several."""
    if request.param:
        monkeypatch.setattr(moments, "CHUNK", request.param)


@pytest.mark.usefixtures("chunk")
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64, np.float16])
@pytest.mark.parametrize("kind", SHIFTS)
def test_shift_and_scale(kind: Any, dtype: Any) -> None:
    x, new = images(dtype), images(dtype, 7, 1)
    axes = (0, 2, 3) if kind.per_channel else 0
    mean, std = plain(x).mean(axis=axes), plain(x).std(axis=axes)
    if kind.per_channel:
        mean, std = mean[:, None, None], std[:, None, None]
    step = kind().fit(x)
    np.testing.assert_allclose(step.mean_, mean, rtol=1e-12)
    expected = plain(new) - mean
    if kind.scales:
        np.testing.assert_allclose(step.scale_, std, rtol=1e-12)
        expected = expected / std
    y = step.transform(new)
    assert y.dtype == (np.float64 if dtype == np.float64 else np.float32)
    tolerance = 1e-12 if dtype == np.float64 else 3e-6
    np.testing.assert_allclose(y, expected, atol=tolerance * max(1, np.abs(expected).max()), rtol=0)
    np.testing.assert_allclose(step.inverse_transform(y), plain(new), atol=tolerance)
    np.testing.assert_array_equal(kind().fit_transform(new), kind().fit(new).transform(new))


def test_uint8_and_floats_in_0_to_1_are_the_same_images() -> None:
    x = images(np.uint8)
    for step in ALL:
        on_bytes = step.fit(x).transform(x)
        np.testing.assert_allclose(step.transform(plain(x).astype(np.float32)), on_bytes, atol=2e-4)


def test_constant_features_are_shifted_only() -> None:
    """0.1 is not a binary fraction: its sample variance is not 0, and dividing by its root would blow up rounding."""
    x = np.column_stack([np.full(1003, 0.1), np.arange(1003.0), np.full(1003, 1e8), np.zeros(1003)])
    step = data.Standardize().fit(x)
    assert step.scale_[[0, 2, 3]].tolist() == [1, 1, 1]
    y = step.transform(x)
    assert np.abs(y[:, [0, 2, 3]]).max() < 1e-6 and abs(y[:, 1].std() - 1) < 1e-12


@pytest.mark.usefixtures("chunk")
def test_statistics_far_from_zero_keep_their_digits() -> None:
    x = np.random.default_rng(0).standard_normal((500, 2)) + [0, 1e6]
    centered = x - [0, 1e6]
    step = data.Standardize().fit(x)
    np.testing.assert_allclose(step.scale_, centered.std(axis=0), rtol=1e-9)
    np.testing.assert_allclose(
        data.PCA().fit(x).explained_variance_.sum(), centered.var(axis=0, ddof=1).sum(), rtol=1e-9
    )


@pytest.mark.usefixtures("chunk")
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_pca_decorrelates(dtype: Any) -> None:
    x = images(dtype)
    rows = plain(x).reshape(len(x), -1)
    step = data.PCA().fit(x)
    # The variances and axes are those of the singular value decomposition.
    _, singular, axes = np.linalg.svd(rows - rows.mean(axis=0), full_matrices=False)
    np.testing.assert_allclose(step.explained_variance_, singular**2 / (len(x) - 1), atol=1e-12)
    overlap = np.abs(np.sum(step.components_ * axes, axis=1))
    distinct = step.explained_variance_ > 1e-6
    np.testing.assert_allclose(overlap[distinct], 1, atol=1e-6)
    assert (step.components_[np.arange(36), np.abs(step.components_).argmax(axis=1)] > 0).all()
    y = step.transform(x)
    assert y.shape == (200, 36)
    np.testing.assert_allclose(np.cov(y.T.astype(np.float64)), np.diag(step.explained_variance_), atol=1e-6)
    np.testing.assert_allclose(step.inverse_transform(y), plain(x), atol=1e-5)


def test_pca_keeps_what_varies_most() -> None:
    x = images()
    errors = []
    for k in (1, 5, 20, 36):
        step = data.PCA(k).fit(x)
        assert step.transform(x).shape == (200, k) == step.output_shape(x.shape)
        errors.append(((step.inverse_transform(step.transform(x)) - x) ** 2).sum() / 199)
        np.testing.assert_allclose(errors[-1], data.PCA().fit(x).explained_variance_[k:].sum(), atol=1e-10)
    assert errors == sorted(errors, reverse=True)


@pytest.mark.parametrize("eps", [0.0, 1e-5, 0.1])
@pytest.mark.parametrize("zca", [False, True])
def test_whitening(eps: float, zca: bool) -> None:
    x = images()[:, :, :2, :2]  # fewer features than factors: of full rank
    step = data.Whitening(eps=eps, zca=zca).fit(x)
    y = step.transform(x)
    assert y.shape == (x.shape if zca else (200, 12)) == step.output_shape(x.shape)
    rows = x.reshape(200, -1)
    covariance = np.cov(rows.T)
    values, vectors = np.linalg.eigh(covariance)
    if zca:
        expected = (rows - rows.mean(axis=0)) @ (vectors / np.sqrt(values + eps)) @ vectors.T
        np.testing.assert_allclose(y.reshape(200, -1), expected, atol=1e-9)
    variance = step.explained_variance_ / (step.explained_variance_ + eps)
    result = np.cov(y.reshape(200, -1).T)
    np.testing.assert_allclose(np.sort(np.linalg.eigvalsh(result)), np.sort(variance), atol=1e-9)
    if not zca:
        np.testing.assert_allclose(result, np.diag(variance), atol=1e-9)
    np.testing.assert_allclose(step.inverse_transform(y), x, atol=1e-9)


def test_axes_without_variance_are_left_at_zero() -> None:
    x = np.random.default_rng(0).standard_normal((50, 3)) @ np.array([[1.0, 2, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]])
    y = data.Whitening(eps=0).fit_transform(x)
    np.testing.assert_allclose(y.std(axis=0, ddof=1), [1, 1, 0, 0], atol=1e-7)
    few = data.Whitening(eps=1e-3).fit(images(n=5))  # fewer samples than features
    assert np.isfinite(few.transform(images(n=9))).all()


def test_a_pipeline_is_its_steps() -> None:
    x, new = images(np.uint8), images(np.uint8, 9, 1)
    chain = data.Pipeline([data.PerChannelStandardize(), data.MeanImage(), data.Whitening(7)]).fit(x)
    first = data.PerChannelStandardize().fit(x)
    second = data.MeanImage().fit(first.transform(x))
    third = data.Whitening(7).fit(second.transform(first.transform(x)))
    expected = third.transform(second.transform(first.transform(new)))
    copy = new.copy()
    np.testing.assert_array_equal(chain.transform(new), expected)
    np.testing.assert_array_equal(new, copy)
    assert chain.output_shape(new.shape) == expected.shape
    out = np.empty_like(expected)
    assert chain.transform(new, out=out) is out
    np.testing.assert_array_equal(out, expected)
    full = data.Pipeline([data.Standardize(), data.PCA()])
    np.testing.assert_allclose(full.inverse_transform(full.fit_transform(plain(x))), plain(x), atol=1e-9)
    np.testing.assert_array_equal(data.Pipeline([]).fit(x).transform(x), x)


def test_a_float_array_is_not_overwritten_by_a_pipeline() -> None:
    x = images(np.float32)
    before = x.copy()
    data.Pipeline([data.MeanImage(), data.Standardize()]).fit_transform(x)
    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize("step", ALL, ids=repr)
def test_saved_and_restored(step: Any, tmp_path: Path) -> None:
    """As arrays by name, through a safetensors file; and the restored one gives the same bits."""
    safetensors = pytest.importorskip("safetensors.numpy")
    x = images(np.uint8)
    expected = step.fit(x).transform(x)
    state = step.state_dict()
    assert all(type(value) is np.ndarray for value in state.values())
    safetensors.save_file(state, tmp_path / "state.safetensors")
    again = data.from_state(safetensors.load_file(tmp_path / "state.safetensors"))
    assert type(again) is type(step) and repr(again) == repr(step)
    np.testing.assert_array_equal(again.transform(x), expected)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({}, "state is of nothing; expected one of"),
        ({"Bleach.mean_": 0}, "state is of Bleach"),
        ({"PCA.mean_": 0, "Standardize.mean_": 0}, "state is of PCA, Standardize"),
        ({"Standardize.mean_": 0}, r"Standardize has \['mean_'\]; expected \['mean_', 'scale_'\]"),
        ({"MeanImage.mean_": 0, "MeanImage.eps": 0}, r"MeanImage has \['mean_', 'eps'\]"),
    ],
    ids=str,
)
def test_a_state_that_is_none(state: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        data.from_state(state)


@pytest.mark.parametrize("step", ALL, ids=repr)
def test_parameters_by_the_rules_of_sklearn_clone(step: Any) -> None:
    """A clone is made of get_params(deep=False), and its constructor must not have changed or copied any of them."""
    params = step.get_params(deep=False)
    clone = type(step)(**params)
    assert all(clone.get_params(deep=False)[name] is value for name, value in params.items())
    with pytest.raises(ValueError, match=r"set_params: 'sharpness'; expected one of"):
        step.set_params(sharpness=1)


def test_parameters_of_steps() -> None:
    chain = data.Pipeline([data.MeanImage(), data.Whitening()])
    assert chain.get_params()["1__eps"] == 1e-5 and chain.get_params()["0"] is chain.steps[0]
    assert chain.set_params(**{"1__eps": 0.5, "1__zca": True}) is chain
    assert chain.steps[1].get_params() == {"n_components": None, "eps": 0.5, "zca": True}
    with pytest.raises(ValueError, match="set_params: '2__eps'"):
        chain.set_params(**{"2__eps": 1})


def test_beside_sklearn() -> None:
    sklearn = pytest.importorskip("sklearn")
    from sklearn.decomposition import PCA
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x = images().reshape(200, -1)
    np.testing.assert_allclose(data.Standardize().fit_transform(x), StandardScaler().fit_transform(x), atol=1e-10)
    ours, theirs = data.Whitening(8, eps=0).fit(x), PCA(8, whiten=True, svd_solver="full").fit(x)
    np.testing.assert_allclose(ours.explained_variance_, theirs.explained_variance_, rtol=1e-9)
    np.testing.assert_allclose(np.abs(ours.transform(x)), np.abs(theirs.transform(x)), atol=1e-8)
    for step in ALL:
        assert repr(sklearn.base.clone(step)) == repr(step)
    assert make_pipeline(data.MeanImage(), PCA(3)).fit_transform(x).shape == (200, 3)


@pytest.mark.parametrize("step", [data.PerChannelStandardize(), data.Standardize(), data.PCA(2)], ids=repr)
def test_a_large_set_is_not_converted_as_a_whole(step: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moments, "CHUNK", 1 << 17)
    x = np.random.default_rng(0).integers(0, 256, (10000, 3, 8, 8), dtype=np.uint8)
    tracemalloc.start()
    step.fit(x)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * 8 * moments.CHUNK < 8 * x.size / 2


@pytest.mark.parametrize("step", ALL, ids=repr)
def test_what_cannot_be_fitted_or_transformed(step: Any) -> None:
    fresh = type(step)(**step.get_params(deep=False))
    if isinstance(step, data.Pipeline):
        fresh = data.Pipeline([data.PerChannelStandardize(), data.PCA(6)])
    for call in (fresh.transform, fresh.inverse_transform, lambda x: fresh.state_dict()):
        with pytest.raises(RuntimeError, match=r"there is nothing fitted; call fit\(x\) first"):
            call(images())
    with pytest.raises(TypeError, match="x has dtype <U1; expected real numbers"):
        fresh.fit(np.array([["a"]]))
    with pytest.raises(ValueError, match=r"x has shape \(3,\)"):
        fresh.fit(np.zeros(3))
    with pytest.raises(ValueError, match=r"x has shape \(0, 3, 3, 4\)"):
        fresh.fit(images(n=0))
    fresh.fit(images())
    with pytest.raises(ValueError, match=r"x has shape \(4, 5, 3, 4\); expected \("):
        fresh.transform(np.zeros((4, 5, 3, 4)))
    with pytest.raises(ValueError, match="out is float64"):
        fresh.transform(images(np.float32), out=np.empty(fresh.output_shape((200, 3, 3, 4))))


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (data.PCA(0), "n_components is 0; expected None or 1 to 36"),
        (data.PCA(37), "n_components is 37"),
        (data.Whitening(eps=-1), "eps is -1"),
    ],
)
def test_arguments_are_checked_when_fitting(step: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        step.fit(images())


@pytest.mark.parametrize("kind", [data.PCA, data.Whitening])
def test_principal_axes_are_of_finite_numbers(kind: Any) -> None:
    with pytest.raises(ValueError, match=r"fit: x has NaN, infinity or numbers too large to square in it"):
        kind().fit(np.array([[1.0, np.nan], [2.0, 3.0], [0.0, 1.0]]))
