"""Initial weights: their statistics, PyTorch's gains, LSUV, whole networks, and what is refused."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import fastnn as fnn
from fastnn import init, nn

RNG = np.random.default_rng(0)


def weight(*shape: int, dtype: Any = np.float32) -> Any:
    return nn.Parameter(np.full(shape, np.nan, dtype))


STD = {
    "normal_": (lambda w: init.normal_(w, rng=1), lambda i, o: 0.01),
    "xavier_": (lambda w: init.xavier_(w, rng=1), lambda i, o: 1 / math.sqrt(i)),
    "glorot_": (lambda w: init.glorot_(w, rng=1), lambda i, o: math.sqrt(2) / math.sqrt(i + o)),
    "glorot_uniform": (
        lambda w: init.glorot_(w, 2.0, distribution="uniform", rng=1),
        lambda i, o: 2 * math.sqrt(2) / math.sqrt(i + o),
    ),
    "he_": (lambda w: init.he_(w, rng=1), lambda i, o: math.sqrt(2 / i)),
    "he_leaky": (lambda w: init.he_(w, "leaky_relu", 0.1, rng=1), lambda i, o: math.sqrt(2 / 1.01 / i)),
    "he_uniform": (lambda w: init.he_(w, distribution="uniform", rng=1), lambda i, o: math.sqrt(2 / i)),
    "kaiming_uniform_": (lambda w: init.kaiming_uniform_(w, rng=1), lambda i, o: 1 / math.sqrt(3 * i)),
}


@pytest.mark.parametrize("shape", [(300, 200), (60, 20, 5, 5), (100, 40, 9)])
@pytest.mark.parametrize("case", STD.values(), ids=STD)
def test_deviations(case: Any, shape: tuple[int, ...]) -> None:
    fill, std = case
    w = weight(*shape)
    assert fill(w) is w
    fan_in, fan_out = math.prod(shape[1:]), shape[0] * math.prod(shape[2:])
    assert init.fans(w) == (fan_in, fan_out)
    assert abs(w.data.std() / std(fan_in, fan_out) - 1) < 0.03 and abs(w.data.mean()) < 0.05 * w.data.std()
    array = np.empty(shape)
    np.testing.assert_array_equal(fill(array).astype(np.float32), w.data)


def test_uniform_is_within_its_bounds() -> None:
    w = init.kaiming_uniform_(weight(100, 49))
    assert abs(w.data).max() <= 1 / 7 and abs(w.data).max() > 0.99 / 7
    w = init.uniform_(weight(1000), -2, 3)
    assert w.data.min() > -2 and w.data.max() < 3 and abs(w.data.mean() - 0.5) < 0.2


def test_constants() -> None:
    assert (init.constant_(weight(3), 2.5).data == 2.5).all()
    assert not init.zeros_(weight(3)).data.any() and (init.ones_(weight(3)).data == 1).all()


@pytest.mark.parametrize("shape", [(30, 50), (50, 30), (8, 3, 3, 3)])
def test_orthogonal(shape: tuple[int, ...]) -> None:
    w = init.orthogonal_(weight(*shape, dtype=np.float64), 1.5, rng=1).data.reshape(shape[0], -1)
    product = w @ w.T if w.shape[0] <= w.shape[1] else w.T @ w
    np.testing.assert_allclose(product, 2.25 * np.eye(len(product)), atol=1e-12)


def test_torch_has_the_same_gains_and_bounds() -> None:
    torch = pytest.importorskip("torch")
    theirs = torch.nn.init.calculate_gain
    for name in ("linear", "sigmoid", "tanh", "relu", "selu"):
        assert math.isclose(init.gain(name), theirs(name))
    assert math.isclose(init.gain("leaky_relu"), theirs("leaky_relu"))
    assert math.isclose(init.gain("leaky_relu", 0.2), theirs("leaky_relu", 0.2))
    for shape in ((30, 20), (6, 5, 3, 3)):
        assert init.fans(weight(*shape)) == torch.nn.init._calculate_fan_in_and_fan_out(torch.empty(shape))


def test_gains_keep_the_second_moment() -> None:
    z = RNG.normal(size=400_000)
    for name in ("relu", "leaky_relu", "gelu", "silu", "elu", "mish", "softplus", "hardswish"):
        assert abs(math.sqrt((getattr(fnn, name)(z) ** 2).mean()) * init.gain(name) - 1) < 0.01
    with pytest.raises(ValueError, match="there is no nonlinearity 'rleu'; expected linear, relu"):
        init.gain("rleu")
    with pytest.raises(ValueError, match="relu has no parameter; got 0.1"):
        init.gain("relu", 0.1)


def deep(activation: Any, layers: int = 8) -> Any:
    pairs = [module for _ in range(layers) for module in (nn.Linear(256, 256), activation())]
    return nn.Sequential(*pairs)


def test_depth_with_the_right_and_the_wrong_scale() -> None:
    """The lecture's experiment: small weights vanish, Xavier holds tanh, He holds ReLU where Xavier does not."""
    x = RNG.normal(size=(200, 256)).astype(np.float32)

    def last(activation: Any, method: str) -> float:
        return float(init.apply(deep(activation), method, rng=0).eval()(x).std())

    assert last(nn.Tanh, "normal") < 1e-4
    assert 0.2 < last(nn.Tanh, "xavier") < 0.7
    assert last(nn.ReLU, "xavier") < 0.1
    assert 0.4 < last(nn.ReLU, "he") < 1.6


def test_apply_touches_weights_and_biases_only() -> None:
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.PReLU(), nn.Flatten(), nn.Linear(16, 3))
    assert init.apply(model, "constant", value=0.5, bias=0.01) is model
    assert (model[0].weight.data == 0.5).all() and (model[4].weight.data == 0.5).all()
    assert (model[0].bias.data == np.float32(0.01)).all() and (model[4].bias.data == np.float32(0.01)).all()
    assert (model[1].weight.data == 1).all() and not model[1].bias.data.any() and (model[2].weight.data == 0.25).all()
    init.apply(model, lambda weight, rng: init.uniform_(weight, 5, 6, rng=rng), rng=2)
    assert (model[4].weight.data >= 5).all()
    init.apply(model, "he", nonlinearity="tanh")


def test_one_seed_fixes_a_network() -> None:
    def made(seed: int) -> Any:
        fnn.manual_seed(seed)
        model = init.apply(deep(nn.ReLU, 2), "he")
        init.apply(model[2:], "orthogonal")
        return np.concatenate([value.ravel() for value in model.state_dict().values()])

    np.testing.assert_array_equal(made(1), made(1))
    assert (made(1) != made(2)).any()
    first, second = (init.apply(deep(nn.ReLU, 2), "glorot", rng=5).state_dict() for _ in range(2))
    np.testing.assert_array_equal(first["0.weight"], second["0.weight"])


def test_apply_refuses() -> None:
    model = nn.Sequential(nn.Linear(2, 2))
    with pytest.raises(ValueError, match="there is no method 'hee'; expected one of constant, glorot, he"):
        init.apply(model, "hee")
    with pytest.raises(ValueError, match=r"fnn\.init\.lsuv\(model, x\)"):
        init.apply(model, "lsuv")
    with pytest.raises(TypeError, match="method is a int"):
        init.apply(model, 3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="the ReLU has no layer with a weight"):
        init.apply(nn.ReLU())
    with pytest.raises(ValueError, match=r"weight has shape \(3,\); expected \(out, in\)"):
        init.he_(weight(3))
    with pytest.raises(TypeError, match="weight has dtype int64"):
        init.zeros_(np.zeros(3, np.int64))
    with pytest.raises(ValueError, match="distribution is 'cauchy'"):
        init.he_(weight(3, 3), distribution="cauchy")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_lsuv_reaches_unit_variance_in_every_layer(dtype: str) -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.ReLU(),
        nn.Residual(nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.Tanh(), nn.Conv2d(8, 8, 3, padding=1))),
        nn.Dropout(0.5),
        nn.Flatten(),
        nn.Linear(8 * 36, 10),
    ).to(dtype)
    model[3].eval()
    x = (3 * RNG.normal(size=(16, 3, 6, 6)) + 1).astype(dtype)
    state = nn.random_state(model)
    assert init.lsuv(model, x, rng=1) is model
    assert nn.random_state(model) == state and [module.training for module in model][:4] == [True, True, True, False]
    variances = []
    for module in model.modules():
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            module.register_forward_hook(lambda module, x, y: variances.append(float(y.var())))
    model.eval()(x)
    assert len(variances) == 4
    np.testing.assert_allclose(variances, 1, atol=0.011)


def test_lsuv_refuses() -> None:
    model = nn.Sequential(nn.Linear(4, 3, bias=False))
    before = model[0].weight.data.copy()
    with pytest.raises(ValueError, match="the output of 0 has variance 0 for this x"):
        init.lsuv(model, np.zeros((5, 4), np.float32))
    assert model.training and not model[0].hooked
    np.testing.assert_array_equal(model[0].weight.data, before)
    with pytest.raises(ValueError, match="Flatten has no layer"):
        init.lsuv(nn.Flatten(), np.zeros((5, 4), np.float32))


def test_residual_blocks_start_as_their_shortcut() -> None:
    with_norm = nn.Residual(
        nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.StochasticDepth(0.1, "row"))
    )
    plain = nn.Residual(nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1)))
    model = init.zero_last_of_residual(nn.Sequential(with_norm, plain))
    x = RNG.normal(size=(5, 4, 6, 6)).astype(np.float32)
    np.testing.assert_array_equal(model(x), x)
    assert with_norm.body[0].weight.data.any() and plain.body[0].weight.data.any()
    with pytest.raises(ValueError, match="the Sequential has no Residual"):
        init.zero_last_of_residual(nn.Sequential(nn.ReLU()))
    with pytest.raises(ValueError, match="the body of 0 has no layer with a weight"):
        init.zero_last_of_residual(nn.Sequential(nn.Residual(nn.ReLU())))


def test_what_is_no_weight_and_no_model_is_named() -> None:
    with pytest.raises(TypeError, match="weight is a list; expected a Parameter or a NumPy array"):
        init.he_([[1.0]])  # type: ignore[type-var]
    with pytest.raises(ValueError, match="uniform_: low is 2 and high 1"):
        init.uniform_(weight(2, 2), 2, 1)
    for call in (init.apply, init.zero_last_of_residual, lambda model: init.lsuv(model, np.zeros((5, 4)))):
        with pytest.raises(TypeError, match="model is a NoneType; expected a module"):
            call(None)
