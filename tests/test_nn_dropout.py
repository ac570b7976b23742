"""Random layers: their statistics, their masks, backward, modes, and averages over masks."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import numpy as np
import pytest

import fastnn as fnn
from fastnn import nn

RNG = np.random.default_rng(0)
LAYERS: dict[str, tuple[Any, tuple[int, ...]]] = {
    "Dropout": (lambda **o: nn.Dropout(0.3, **o), (8, 50, 20)),
    "Dropout-vanilla": (lambda **o: nn.Dropout(0.3, mode="vanilla", **o), (8, 50, 20)),
    "Dropout1d": (lambda **o: nn.Dropout1d(0.3, **o), (20, 100, 3)),
    "Dropout2d": (lambda **o: nn.Dropout2d(0.3, **o), (20, 100, 3, 2)),
    "Dropout3d": (lambda **o: nn.Dropout3d(0.3, **o), (20, 100, 2, 3, 2)),
    "AlphaDropout": (lambda **o: nn.AlphaDropout(0.3, **o), (100, 100)),
    "StochasticDepth": (lambda **o: nn.StochasticDepth(0.3, "row", **o), (2000, 3, 2)),
    "StochasticDepth-batch": (lambda **o: nn.StochasticDepth(0.3, "batch", **o), (4, 3, 2)),
}


class Product(nn.Module):
    """y = x weight', the smallest layer with a weight."""

    def __init__(self, *shape: int) -> None:
        self.weight = nn.Parameter(RNG.normal(size=shape).astype(np.float32))

    def forward(self, x: Any) -> Any:
        self.save(x)
        return x @ self.weight.data.T

    def backward(self, dy: Any) -> Any:
        if self.weight.requires_grad:
            self.weight.add_grad(dy.T @ self.saved[0])
        return dy @ self.weight.data if self.needs_input_grad else None


def normal(shape: tuple[int, ...], dtype: Any = np.float32) -> Any:
    return RNG.normal(size=shape).astype(dtype)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("case", LAYERS.values(), ids=LAYERS)
def test_masks_are_new_at_every_pass_and_backward_makes_them_again(case: Any, dtype: str) -> None:
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes")
    make, shape = case
    layer = make(seed=5)
    x, dy = normal(shape, dtype), normal(shape, dtype)
    masks = []
    for _ in range(12):
        y = layer(x)
        dx = layer.backward(dy)
        assert y.dtype == dx.dtype == x.dtype and y.shape == dx.shape == shape
        kept = dx != 0
        scale = float(dx[kept][0]) / float(dy[kept][0]) if kept.any() else 0
        np.testing.assert_allclose(dx[kept].astype(float), scale * dy[kept].astype(float), rtol=0.02)
        if not isinstance(layer, nn.AlphaDropout):
            np.testing.assert_allclose(y[kept].astype(float), scale * x[kept].astype(float), rtol=0.02)
            assert not y[~kept].any()
        masks.append(kept)
    assert layer.calls == 12
    assert any((mask != masks[0]).any() for mask in masks)


@pytest.mark.parametrize("case", LAYERS.values(), ids=LAYERS)
def test_rate_and_mean(case: Any) -> None:
    make, shape = case
    layer = make(seed=1)
    x = np.ones(shape, np.float32)
    passes = 400 if "batch" in repr(layer) else 5
    dropped, total = [], np.zeros(shape)
    for _ in range(passes):
        y = layer(x)
        dropped.append((layer.backward(x) == 0).mean())
        total += y
    assert abs(np.mean(dropped) - 0.3) < 0.06
    if not isinstance(layer, nn.AlphaDropout):
        assert abs(total.mean() / passes - (0.7 if "vanilla" in vars(layer).values() else 1)) < 0.09


def test_the_units_that_are_dropped() -> None:
    """Whole channels, whole samples, the whole batch."""
    for name, shape, axes in (("1d", (6, 5, 4), 2), ("2d", (6, 5, 4, 3), 2), ("3d", (6, 5, 2, 2, 2), 2)):
        y = getattr(nn, f"Dropout{name}")(seed=3)(np.ones(shape, np.float32)).reshape(*shape[:axes], -1)
        assert (y == y[..., :1]).all() and 0 < y.mean() < 2
    y = nn.StochasticDepth(0.5, "row", seed=3)(np.ones((50, 4), np.float32))
    assert (y == y[:, :1]).all() and set(np.unique(y)) == {0, 2}
    layer = nn.StochasticDepth(0.5, "batch", seed=3)
    found = [layer(np.ones((5, 4), np.float32)).copy() for _ in range(20)]
    assert all((y == y[0, 0]).all() for y in found) and len({float(y[0, 0]) for y in found}) == 2


def test_alpha_dropout_keeps_mean_and_variance() -> None:
    x = normal((1000, 200))
    y = nn.AlphaDropout(0.2, seed=0)(x)
    assert abs(y.mean()) < 0.01 and abs(y.std() - 1) < 0.01


@pytest.mark.parametrize("case", LAYERS.values(), ids=LAYERS)
def test_evaluation_is_the_identity(case: Any) -> None:
    make, shape = case
    layer = make().eval()
    x = normal(shape)
    y, dx = layer(x), layer.backward(x)
    if "vanilla" in vars(layer).values():
        np.testing.assert_allclose(y, x * np.float32(0.7), rtol=1e-4)
        np.testing.assert_array_equal(dx, y)
    else:
        assert y is x and dx is x
    assert layer.calls == 0


def test_nothing_and_everything() -> None:
    x = normal((5, 4))
    assert nn.Dropout(0.0)(x) is x
    layer = nn.Dropout(1.0)
    assert not layer(x).any() and not layer.backward(x).any()


def test_in_place_and_memory() -> None:
    x = normal((50, 4))
    before = x.copy()
    layer = nn.Dropout(inplace=True)
    assert layer(x) is x and (x != before).any()
    layer = nn.Dropout()
    y = layer(before)
    dx = layer.backward(before)
    assert layer(before) is y and layer.backward(before) is dx
    layer.dy_is_scratch = True
    assert layer.backward(dx) is dx and layer.dx_is_scratch


def test_one_seed_fixes_all_masks_whatever_the_threads() -> None:
    def run() -> Any:
        fnn.manual_seed(11)
        model = nn.Sequential(nn.Dropout(0.5), nn.AlphaDropout(0.2))
        return [model(np.ones((300, 1000), np.float32)).copy() for _ in range(2)]

    threads = fnn.get_num_threads()
    try:
        fnn.set_num_threads(1)
        one = run()
        fnn.set_num_threads(2)
        two = run()
    finally:
        fnn.set_num_threads(threads)
    np.testing.assert_array_equal(one, two)
    assert (one[0] != one[1]).any()


def test_random_state_goes_through_json_and_brings_the_masks_back() -> None:
    model = nn.Sequential(nn.Dropout(), nn.Sequential(nn.StochasticDepth(0.5, "row")))
    x = np.ones((64, 3), np.float32)
    model(x)
    text = json.dumps(nn.random_state(model))
    wanted = [model(x).copy() for _ in range(3)]
    other = nn.Sequential(nn.Dropout(), nn.Sequential(nn.StochasticDepth(0.5, "row")))
    for each in (model, other):
        nn.set_random_state(each, json.loads(text))
        np.testing.assert_array_equal([each(x).copy() for _ in range(3)], wanted)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert nn.random_state(twin) == nn.random_state(model)


def test_random_state_of_other_layers_is_refused() -> None:
    model = nn.Sequential(nn.Dropout(), nn.Dropout())
    state = nn.random_state(model)
    with pytest.raises(ValueError, match=r"state has nothing for 1; and 7, which are no random layers"):
        nn.set_random_state(model, {"0": (1, 2), "7": (1, 2)})
    with pytest.raises(TypeError, match="expected two numbers, seed and calls"):
        nn.set_random_state(model, {"0": (1, 2), "1": (3,)})
    with pytest.raises(ValueError, match="calls of 1"):
        nn.set_random_state(model, {"0": (1, 2), "1": (3, -1)})
    assert nn.random_state(model) == state


def test_drop_connect() -> None:
    inner = Product(40, 30)
    layer = nn.DropConnect(inner, 0.25, seed=9)
    x, dy = normal((6, 30)), normal((6, 40))
    weight = inner.weight.data.copy()
    assert list(layer.state_dict()) == ["layer.weight"]
    total = np.zeros_like(weight)
    for step in range(3):
        y = layer(x)
        dropped = fnn.drop_connect(weight, 0.25, seed=9, offset=step)
        np.testing.assert_allclose(y, x @ dropped.T, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(layer.backward(dy), dy @ dropped, rtol=1e-5, atol=1e-5)
        total += fnn.drop_connect_backward(dy.T @ x, 0.25, seed=9, offset=step)
        np.testing.assert_allclose(inner.weight.grad, total, rtol=1e-5, atol=1e-4)
        np.testing.assert_array_equal(inner.weight.data, weight)
    assert list(layer.parameters()) == [inner.weight]
    inner.weight.requires_grad = False
    layer.zero_grad()
    layer(x)
    layer.backward(dy)
    assert inner.weight.grad is None
    np.testing.assert_allclose(layer.eval()(x), x @ weight.T, rtol=1e-5, atol=1e-5)
    layer.backward(dy)
    twin = copy.deepcopy(layer.train())
    np.testing.assert_array_equal(twin(x), layer(x))


def test_drop_connect_needs_a_weight() -> None:
    with pytest.raises(TypeError, match="DropConnect: layer is a Dropout; expected a layer with a parameter `weight`"):
        nn.DropConnect(nn.Dropout())


def test_monte_carlo() -> None:
    inner = Product(5, 200)
    model = nn.Sequential(nn.BatchNorm1d(200), nn.Dropout(0.5, seed=1), inner)
    model.train()
    model(normal((10, 200)))
    model[0].eval()
    x, state = normal((3, 200)), nn.random_state(model)
    before = copy.deepcopy(model.state_dict())
    mean, std = nn.monte_carlo(model, x, 400)
    modes = [module.training for module in model.modules()]
    assert modes == [True, False, True, True] and nn.random_state(model) == state
    for key, value in model.state_dict().items():
        np.testing.assert_array_equal(value, before[key])
    plain = copy.deepcopy(model).eval()(x)
    hidden = copy.deepcopy(model).eval()[0](x)
    wanted = np.sqrt((hidden**2) @ (inner.weight.data**2).T)  # a sum of independent x w (0 or 2)
    assert mean.dtype == std.dtype == np.float32
    np.testing.assert_allclose(std, wanted, rtol=0.15)
    np.testing.assert_allclose(mean, plain, atol=4.5 * wanted.max() / 20)
    np.testing.assert_array_equal(nn.monte_carlo(model, x, 400).mean, mean)
    chances = nn.monte_carlo(model, x, 20, function=fnn.softmax).mean
    np.testing.assert_allclose(chances.sum(1), 1, rtol=1e-5)


def test_monte_carlo_refuses() -> None:
    with pytest.raises(ValueError, match="samples is 1; expected 2 or more"):
        nn.monte_carlo(nn.Sequential(nn.Dropout()), normal((2, 2)), 1)
    with pytest.raises(ValueError, match="no random layers"):
        nn.monte_carlo(nn.Sequential(nn.LayerNorm(2)), normal((2, 2)))


def test_torch_has_the_same_arguments() -> None:
    torch = pytest.importorskip("torch")
    for name in ("Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "AlphaDropout"):
        ours, theirs = getattr(nn, name)(0.25, True), getattr(torch.nn, name)(0.25, True)
        assert (ours.p, ours.inplace) == (theirs.p, theirs.inplace)
        assert repr(ours) == repr(theirs) and not ours.state_dict()
        default = getattr(torch.nn, name)()
        assert (getattr(nn, name)().p, getattr(nn, name)().inplace) == (default.p, default.inplace)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: nn.Dropout(1.5), ValueError, "Dropout: p is 1.5; expected the probability of dropping"),
        (lambda: nn.Dropout("x"), TypeError, "Dropout: p is 'x'"),
        (lambda: nn.Dropout(0.5, 1), TypeError, "Dropout: inplace is 1"),
        (lambda: nn.Dropout(0.5, mode="none"), ValueError, "Dropout: mode is 'none'"),
        (lambda: nn.Dropout(0.5, seed=-1), ValueError, "Dropout: seed is -1"),
        (lambda: nn.StochasticDepth(0.5, "channel"), ValueError, "expected 'row' or 'batch'"),
        (lambda: nn.Dropout()(np.ones(3, np.int64)), TypeError, "Dropout: x has dtype int64; expected float32"),
        (lambda: nn.Dropout()([1.0]), TypeError, "Dropout: x is of type list; expected a NumPy array"),
        (lambda: nn.Dropout2d()(np.ones((3, 4))), ValueError, r"Dropout2d: x has shape \(3, 4\); expected \(N, C, H"),
    ],
)
def test_wrong_arguments(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


def test_a_refused_batch_is_not_counted() -> None:
    layer = nn.Dropout(inplace=True)
    x = np.ones(5, np.float32)
    x.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        layer(x)
    assert layer.calls == 0


def test_dy_of_another_shape_is_refused() -> None:
    layer = nn.Dropout()
    layer(np.ones((3, 4), np.float32))
    with pytest.raises(ValueError, match=r"Dropout\.backward: dy has shape \(4, 3\); expected \(3, 4\)"):
        layer.backward(np.ones((4, 3), np.float32))


def test_all_layers_with_masks_are_in_the_random_state() -> None:
    model = nn.Sequential(
        nn.DropConnect(nn.Linear(3, 3), seed=1),
        nn.FractionalMaxPool2d(output_size=2, seed=2),
        nn.Dropout(seed=3),
        nn.ReLU(),
    )
    assert nn.random_state(model) == {"0": (1, 0), "1": (2, 0), "2": (3, 0)}
