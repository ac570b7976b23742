"""Layers that normalise: against PyTorch, in both modes, and what they refuse."""

from __future__ import annotations

import copy
import tracemalloc
from typing import Any

import numpy as np
import pytest

from fastnn import nn

RNG = np.random.default_rng(0)

CASES: dict[str, tuple[str, tuple[Any, ...], dict[str, Any], tuple[int, ...]]] = {
    "BatchNorm1d": ("BatchNorm1d", (6,), {}, (5, 6)),
    "BatchNorm1d-length": ("BatchNorm1d", (6,), {"momentum": None}, (5, 6, 7)),
    "BatchNorm2d": ("BatchNorm2d", (3,), {"eps": 1e-3, "momentum": 0.3}, (4, 3, 5, 2)),
    "BatchNorm2d-plain": ("BatchNorm2d", (3,), {"affine": False}, (4, 3, 5, 2)),
    "BatchNorm2d-untracked": ("BatchNorm2d", (3,), {"track_running_stats": False}, (4, 3, 5, 2)),
    "BatchNorm3d": ("BatchNorm3d", (2,), {}, (3, 2, 2, 3, 4)),
    "InstanceNorm1d": ("InstanceNorm1d", (3,), {}, (4, 3, 6)),
    "InstanceNorm2d": ("InstanceNorm2d", (3,), {"affine": True}, (4, 3, 5, 2)),
    "InstanceNorm2d-tracked": ("InstanceNorm2d", (3,), {"affine": True, "track_running_stats": True}, (4, 3, 5, 2)),
    "GroupNorm": ("GroupNorm", (2, 6), {}, (3, 6, 4)),
    "GroupNorm-plain": ("GroupNorm", (3, 6), {"affine": False}, (3, 6, 4, 2)),
    "LayerNorm": ("LayerNorm", (7,), {}, (4, 3, 7)),
    "LayerNorm-axes": ("LayerNorm", ((3, 7),), {"bias": False, "eps": 1e-2}, (4, 3, 7)),
    "RMSNorm": ("RMSNorm", (7,), {}, (4, 3, 7)),
    "RMSNorm-plain": ("RMSNorm", ((3, 7),), {"elementwise_affine": False, "eps": 1e-3}, (4, 3, 7)),
}


def normal(shape: tuple[int, ...]) -> Any:
    return RNG.normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_torch_agrees_in_both_modes(case: Any, dtype: str) -> None:
    """Values, gradients, running statistics and keys, over three batches of training and one of evaluation."""
    torch = pytest.importorskip("torch")
    name, args, options, shape = case
    close = {"rtol": 1e-4, "atol": 1e-5} if dtype == "float32" else {"rtol": 1e-10, "atol": 1e-11}
    ours = getattr(nn, name)(*args, **options, dtype=dtype)
    theirs = getattr(torch.nn, name)(*args, **options, dtype=getattr(torch, dtype))
    assert list(ours.state_dict()) == list(theirs.state_dict())
    for parameter, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        parameter.data[...] = RNG.normal(1, 0.5, parameter.shape)
        other.data[...] = torch.tensor(parameter.data)
    for training in (True, True, True, False):
        ours.train(training)
        theirs.train(training)
        x, dy = ((3 * RNG.normal(size=shape) + 1).astype(dtype) for _ in range(2))
        tx = torch.tensor(x, requires_grad=True)
        y, ty = ours(x), theirs(tx)
        np.testing.assert_allclose(y, ty.detach().numpy(), **close)
        dx = ours.backward(dy)
        ty.backward(torch.tensor(dy))
        assert y.dtype == dx.dtype == np.dtype(dtype)
        np.testing.assert_allclose(dx, tx.grad.numpy(), **close)
        for parameter, other in zip(ours.parameters(), theirs.parameters(), strict=True):  # they add up
            np.testing.assert_allclose(parameter.grad, other.grad.numpy(), rtol=1e-4, atol=20 * close["atol"])
        for key, value in theirs.state_dict().items():
            np.testing.assert_allclose(ours.state_dict()[key], value.numpy(), **close)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_half_precision(case: Any, dtype: str) -> None:
    """A layer in half precision is near the one in float64, in both modes; parameters in float32 do as well."""
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes")
    name, args, options, shape = case
    if name == "RMSNorm":  # whose eps is by default that of the dtype
        options = {"eps": 1e-5, **options}
    exact, half = (getattr(nn, name)(*args, **options) for _ in range(2))
    exact.to(np.float64)
    half.to(dtype)
    mixed = getattr(nn, name)(*args, **options)
    rng = np.random.default_rng(1)  # of its own: rounding is seen relative to these numbers
    x = rng.normal(size=shape).astype(dtype)
    dy = rng.normal(size=shape).astype(dtype)
    for training in (True, False):
        wanted = exact.train(training)(x.astype(np.float64))
        wanted_dx = exact.backward(dy.astype(np.float64))
        for layer in (half, mixed):
            y = layer.train(training)(x)
            dx = layer.backward(dy)
            assert y.dtype == dx.dtype == x.dtype
            np.testing.assert_allclose(y.astype(float), wanted, atol=0.08)
            np.testing.assert_allclose(dx.astype(float), wanted_dx, atol=0.08)
            for parameter, other in zip(layer.parameters(), exact.parameters(), strict=True):
                assert parameter.grad.dtype == parameter.dtype
                np.testing.assert_allclose(parameter.grad.astype(float), other.grad, rtol=0.05, atol=0.3)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_training_uses_its_memory_again(case: Any) -> None:
    name, args, options, shape = case
    layer = getattr(nn, name)(*args, **options)
    x = RNG.normal(size=shape).astype(np.float32)
    y = layer(x)
    dx = layer.backward(x)
    assert layer(x) is y and layer.backward(x) is dx
    layer.eval()
    assert not np.shares_memory(layer(x), y)
    layer.train().needs_input_grad = False
    layer(x)
    assert layer.backward(x) is None


@pytest.mark.parametrize(
    "layer",
    [
        nn.BatchNorm2d(16),
        nn.InstanceNorm2d(16, affine=True),
        nn.InstanceNorm2d(16, track_running_stats=True),
        nn.GroupNorm(4, 16),
        nn.LayerNorm(32),
        nn.RMSNorm(32),
        nn.Sequential(nn.BatchNorm2d(16), nn.ReLU(), nn.Dropout(0.5)),
        nn.Sequential(nn.Dropout2d(0.5), nn.AlphaDropout(0.1), nn.StochasticDepth(0.5, "row")),
        nn.DropConnect(nn.Linear(32, 256), 0.5),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_a_training_step_allocates_nothing(layer: Any) -> None:
    x = normal((16, 16, 32, 32))

    dy = layer(x).copy()
    for _ in range(2):
        layer(x)
        layer.backward(dy)
    layer.zero_grad()
    tracemalloc.start()
    layer(x)
    layer.backward(dy)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < x.nbytes / 20


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_frozen_parameters_get_no_gradient(case: Any) -> None:
    name, args, options, shape = case
    layer = getattr(nn, name)(*args, **options)
    x = RNG.normal(size=shape).astype(np.float32)
    for training in (True, False):
        layer.train(training).requires_grad_(False)
        layer(x)
        dx = layer.backward(x).copy()
        assert all(parameter.grad is None for parameter in layer.parameters())
        layer.requires_grad_()
        layer(x)
        np.testing.assert_array_equal(layer.backward(x), dx)
        assert all(parameter.grad is not None for parameter in layer.parameters())
        layer.zero_grad()


def test_one_frozen_parameter_and_gradients_that_add_up_unevenly() -> None:
    layer = nn.BatchNorm1d(3)
    x = RNG.normal(size=(5, 3)).astype(np.float32)
    layer(x)
    layer.backward(x)
    once = layer.weight.grad.copy(), layer.bias.grad.copy()
    layer.bias.zero_grad()
    layer(x)
    layer.backward(x)
    np.testing.assert_allclose(layer.weight.grad, 2 * once[0], rtol=1e-6)
    np.testing.assert_allclose(layer.bias.grad, once[1], rtol=1e-6)
    layer.zero_grad()
    layer.weight.requires_grad = False
    layer(x)
    layer.backward(x)
    assert layer.weight.grad is None
    np.testing.assert_allclose(layer.bias.grad, once[1], rtol=1e-6)


@pytest.mark.parametrize("scratch", [True, False])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("activation", [nn.ReLU, nn.Sigmoid, nn.GELU, nn.Mish, nn.ReLU6, lambda: nn.LeakyReLU(0.1)])
def test_an_activation_behind_it_has_the_bits_of_its_own_layer(activation: Any, training: bool, scratch: bool) -> None:
    model = nn.Sequential(nn.BatchNorm2d(3), activation()).train(training)
    model[0].bias.data[...] = 0.25
    twin = copy.deepcopy(model)
    x, dy = normal((4, 3, 5, 2)), normal((4, 3, 5, 2))
    for _ in range(2):
        z = twin[0](x)
        np.testing.assert_array_equal(model(x), twin[1](z))
        model.dy_is_scratch = scratch
        kept = dy.copy()
        dx = model.backward(dy)
        assert scratch or (dy == kept).all()
        dy = kept
        np.testing.assert_array_equal(dx, twin[0].backward(twin[1].backward(dy)))
        for ours, other in zip(model.parameters(), twin.parameters(), strict=True):
            np.testing.assert_array_equal(ours.grad, other.grad)
    fused = len(model._planned().steps) == 1
    assert fused == (not training or activation not in (nn.GELU, nn.Mish))


def test_running_statistics_start_anew() -> None:
    layer = nn.BatchNorm1d(3)
    first = copy.deepcopy(layer.state_dict())
    layer(RNG.normal(size=(5, 3)).astype(np.float32))
    assert layer.num_batches_tracked == 1 and layer.running_mean.any()
    layer.reset_running_stats()
    for key, value in first.items():
        np.testing.assert_array_equal(layer.state_dict()[key], value)


def test_a_refused_batch_changes_nothing() -> None:
    layer = nn.BatchNorm1d(3, momentum=None)
    with pytest.raises(ValueError, match="1 value per channel.*Ways out.*eval mode"):
        layer(np.ones((1, 3), np.float32))
    assert layer.num_batches_tracked == 0
    assert layer.eval()(np.ones((1, 3), np.float32)).shape == (1, 3)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: nn.BatchNorm1d(0), ValueError, "BatchNorm1d: num_features is 0; expected at least 1"),
        (lambda: nn.BatchNorm1d(3.0), TypeError, "BatchNorm1d: num_features is 3.0 of type float; expected an int"),
        (lambda: nn.BatchNorm2d(3, eps=0), ValueError, "BatchNorm2d: eps is 0"),
        (lambda: nn.BatchNorm2d(3, momentum=2), ValueError, "BatchNorm2d: momentum is 2"),
        (lambda: nn.GroupNorm(4, 6), ValueError, "num_groups is 4 and num_channels 6"),
        (lambda: nn.LayerNorm(()), ValueError, r"LayerNorm: normalized_shape is \(\)"),
        (lambda: nn.LayerNorm((3, -1)), ValueError, "LayerNorm: normalized_shape is -1"),
    ],
)
def test_wrong_arguments(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize(
    ("layer", "shape", "message"),
    [
        (nn.BatchNorm1d(3), (4, 5), r"BatchNorm1d: x has shape \(4, 5\); expected \(N, 3\) or \(N, 3, L\)"),
        (nn.BatchNorm2d(3), (4, 3), r"BatchNorm2d: x has shape \(4, 3\); expected \(N, 3, H, W\)"),
        (nn.InstanceNorm1d(3), (4, 3), r"InstanceNorm1d: x has shape \(4, 3\); expected \(N, 3, L\)"),
        (nn.InstanceNorm2d(3), (4, 3, 1, 1), "1 value per channel of a sample"),
        (nn.GroupNorm(2, 4), (4, 3), r"GroupNorm: x has shape \(4, 3\); expected \(N, 4, \*spatial\)"),
        (nn.LayerNorm((2, 3)), (4, 3), r"LayerNorm: x has shape \(4, 3\); expected \(\.\.\., 2, 3\)"),
        (nn.RMSNorm(2), (4, 3), r"RMSNorm: x has shape \(4, 3\); expected \(\.\.\., 2\)"),
    ],
)
def test_wrong_shapes(layer: Any, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        layer(np.zeros(shape, np.float32))


def test_wrong_dtypes() -> None:
    with pytest.raises(TypeError, match="BatchNorm1d: x has dtype int64; expected float32"):
        nn.BatchNorm1d(3)(np.ones((4, 3), np.int64))
    with pytest.raises(TypeError, match=r"LayerNorm: x has dtype float64; expected float32.*layer\.to\('float64'\)"):
        nn.LayerNorm(3)(np.ones((4, 3)))


def test_shown() -> None:
    assert repr(nn.BatchNorm2d(3)) == ("BatchNorm2d(3, eps=1e-05, momentum=0.1, affine=True, track_running_stats=True)")
    assert repr(nn.GroupNorm(2, 4)) == "GroupNorm(2, 4, eps=1e-05, affine=True)"
    assert repr(nn.LayerNorm(4)) == "LayerNorm((4,), eps=1e-05, elementwise_affine=True)"
    assert repr(nn.RMSNorm(4)) == "RMSNorm((4,), eps=None, elementwise_affine=True)"
