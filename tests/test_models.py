"""The zoo: every network with its options, its size, its gradient, and PyTorch's of the same plan."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastnn as fnn
from fastnn import models
from fastnn.table import OPS

SIZES = {  # with batch norm, without
    "mlp": (235_530, 235_146),
    "lenet5": (61_932, 61_706),
    "alexnet4": (89_706, 89_578),
    "vgg-small": (551_146, 550_570),
    "resnet8": (78_042, 77_706),
    "resnet14": (175_258, 174_698),
    "resnet20": (272_474, 271_690),
    "mobilenet": (136_778, 135_306),
}
SMALL = {"mlp": (5,), "lenet5": (1, 20, 20), "alexnet4": (2, 13, 12), "vgg-small": (3, 8, 8)}


def images(name: str, count: int = 4, **options: Any) -> np.ndarray[Any, Any]:
    shape = options.get("input_shape") or models.input_shape(name)
    return np.random.default_rng(0).standard_normal((count, *shape), np.float32)


def size(model: fnn.nn.Module) -> int:
    return sum(parameter.size for parameter in model.parameters())


@pytest.mark.parametrize("name", SIZES)
def test_sizes_and_shapes(name: str) -> None:
    assert models.names() == list(SIZES)
    for batch_norm, expected in zip((True, False), SIZES[name], strict=True):
        model = models.create(name, batch_norm=batch_norm)
        assert size(model) == expected
        assert model(images(name)).shape == (4, 10)
    assert f"{size(models.create(name)):,}" in (models.__doc__ or "") or name in ("resnet14", "resnet20")
    assert models.about(name).count("\n") >= 2


def test_he_2015_counts_the_parameters_of_resnet20_alike() -> None:
    assert size(models.create("resnet20", shortcut="identity")) == 269_722


@pytest.mark.parametrize("name", SIZES)
def test_gradient_of_the_whole_network(name: str) -> None:
    """The derivative along one direction of all parameters and the input at once, in float64, by differences."""
    options: dict[str, Any] = {"input_shape": SMALL.get(name, (2, 8, 8)), "classes": 3, "activation": "silu"}
    fnn.manual_seed(1)
    model = models.create(name, dtype=np.float64, dropout=0, **options)
    criterion = fnn.nn.CrossEntropyLoss()
    rng = np.random.default_rng(2)
    x, y = rng.standard_normal((3, *options["input_shape"])), np.array([0, 2, 1])
    arrays = [*(parameter.data for parameter in model.parameters()), x]
    step = [rng.standard_normal(array.shape) for array in arrays]
    criterion(model(x), y)
    dx = model.backward(criterion.backward())
    gradients = [*(parameter.grad for parameter in model.parameters()), dx]
    expected = sum(float(np.vdot(gradient, way)) for gradient, way in zip(gradients, step, strict=True))
    values = []
    for sign in (1, -2):
        for array, way in zip(arrays, step, strict=True):
            array += sign * 1e-6 * way
        values.append(criterion(model(x), y))
    assert (values[0] - values[1]) / 2e-6 == pytest.approx(expected, rel=1e-5, abs=1e-8)


@pytest.mark.parametrize("activation", OPS)
def test_every_activation_of_the_table(activation: str) -> None:
    model = models.create("mlp", input_shape=(6,), hidden=(5, 4), activation=activation, dropout=0)
    learned = sum(param.learned for param in OPS[activation].params)
    plain = 6 * 5 + 5 * 4 + 4 * 10 + 10 + 2 * (5 + 4)
    assert plain <= size(model) <= plain + 2 * learned
    y = model(images("mlp", input_shape=(6,)))
    assert np.isfinite(y).all()
    assert model.backward(np.ones_like(y)).shape == (4, 6)


def test_options() -> None:
    names = [type(layer).__name__ for layer in models.create("mlp", hidden=(7,), batch_norm=False, dropout=True)]
    assert names == ["Flatten", "Linear", "ReLU", "Dropout", "Linear"]
    lenet = models.create("lenet5", activation="tanh", pool="avg", batch_norm=True, dropout=0.3)
    names = [type(layer).__name__ for layer in lenet]
    assert names.count("AvgPool2d") == 2 and names.count("Tanh") == 4 and names.count("Dropout") == 2
    assert {layer.p for layer in lenet if isinstance(layer, fnn.nn.Dropout)} == {0.3}
    assert models.create("vgg_small", width=8, classes=4)(images("vgg-small")).shape == (4, 4)
    assert models.create("mobilenet", width=8, activation="relu6", classes=4)(images("mobilenet")).shape == (4, 4)
    assert models.create("lenet5", input_shape=(3, 32, 32))(images("resnet8")).shape == (4, 10)
    assert models.create("mlp", dtype=np.float64).state_dict()["fc1.weight"].dtype == np.float64
    custom = models.create("mlp", activation=lambda: fnn.nn.LeakyReLU(0.3))
    assert [layer.negative_slope for layer in custom if isinstance(layer, fnn.nn.LeakyReLU)] == [0.3, 0.3]


@pytest.mark.parametrize("batch_norm", [True, False])
def test_zero_last_of_residual_starts_blocks_as_the_identity(batch_norm: bool) -> None:
    model = models.create("resnet8", zero_init_residual=True, batch_norm=batch_norm)
    x = np.abs(np.random.default_rng(0).standard_normal((2, 16, 8, 8), np.float32))
    block = next(layer for layer in model if isinstance(layer, fnn.nn.Residual))
    np.testing.assert_array_equal(block(x), x)


def test_a_seed_repeats_the_weights() -> None:
    states = []
    for seed in (3, 3, 4):
        fnn.manual_seed(seed)
        states.append(models.create("mlp").state_dict()["fc1.weight"].copy())
    assert np.array_equal(states[0], states[1]) and not np.array_equal(states[0], states[2])


@pytest.mark.parametrize("stride", [1, 2])
def test_pad_shortcut(stride: int) -> None:
    layer = fnn.nn.PadShortcut(5, stride)
    x = np.random.default_rng(0).standard_normal((2, 3, 5, 4))
    y = layer(x)
    assert y.shape == (2, 5, -(-5 // stride), -(-4 // stride))
    np.testing.assert_array_equal(y[:, :3], x[:, :, ::stride, ::stride])
    assert not y[:, 3:].any()
    dy = np.random.default_rng(1).standard_normal(y.shape)
    dx = layer.backward(dy)
    assert dx is not None and np.vdot(dx, x) == pytest.approx(np.vdot(dy, y))
    with pytest.raises(ValueError, match=r"x has shape \(2, 6, 3, 3\); expected \(N, C, H, W\), C at most 5"):
        layer(np.zeros((2, 6, 3, 3)))
    with pytest.raises(ValueError, match="expected at least 1"):
        fnn.nn.PadShortcut(3, 0)
    layer(np.ones((1, 2, 4, 4), np.float32))
    with pytest.raises(ValueError, match=r"PadShortcut.backward: dy has shape \(1, 2, 4, 4\); expected \(1, 5"):
        layer.backward(np.ones((1, 2, 4, 4), np.float32))


@pytest.mark.parametrize(
    ("name", "options", "kind", "message"),
    [
        ("lenet", {}, ValueError, "unknown model 'lenet'. Did you mean 'lenet5'"),
        ("gpt", {}, ValueError, "unknown model 'gpt'; expected one of mlp, lenet5"),
        ("mlp", {"activation": "rellu"}, ValueError, "unknown activation 'rellu'. Did you mean 'relu'"),
        ("mlp", {"dropout": 1.0}, ValueError, "dropout is 1.0; expected a probability of dropping"),
        ("mlp", {"classes": 0}, ValueError, "classes is 0"),
        ("mlp", {"batch_norm": "no"}, TypeError, "mlp: batch_norm is 'no' of type str; expected True or False"),
        ("mlp", {"hidden": "abc"}, ValueError, "hidden is 'abc'; expected widths"),
        ("mlp", {"hidden": (3, -1)}, ValueError, "hidden is "),
        ("mlp", {"pool": "avg"}, TypeError, "mlp has no option pool; its own are hidden"),
        ("alexnet4", {"pool": "avg"}, TypeError, "alexnet4 has no option pool; it has none of its own"),
        ("resnet8", {"blocks": 2}, TypeError, "resnet8 has no option blocks"),
        ("lenet5", {"pool": "median"}, ValueError, "pool is 'median'; expected 'max' or 'avg'"),
        ("lenet5", {"input_shape": (784,)}, ValueError, r"input_shape is \(784,\); expected \(channels, height"),
        ("vgg-small", {"input_shape": (3, 7, 7)}, ValueError, "images of at least 8x8"),
        ("resnet8", {"shortcut": "none"}, ValueError, "shortcut is 'none'; expected 'projection' or 'identity'"),
        ("vgg-small", {"width": 0}, ValueError, "width is 0"),
        ("mobilenet", {"width": 0}, ValueError, "width is 0"),
        ("mobilenet", {"input_shape": (3, 7, 7)}, ValueError, "images of at least 8x8"),
        ("mlp", {"input_shape": ()}, ValueError, "input_shape is "),
    ],
)
def test_wrong_arguments_are_named(name: str, options: dict[str, Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        models.create(name, **options)


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("options", [{}, {"batch_norm": False}], ids=["", "plain"])
def test_the_twin_in_torch_has_the_same_keys_outputs_and_gradients(name: str, options: dict[str, Any]) -> None:
    torch = pytest.importorskip("torch")
    from fastnn.bench.rivals.torch_ import networks

    if name.startswith("resnet"):
        options = options | {"shortcut": "identity" if name == "resnet14" else "projection"}
    fnn.manual_seed(0)
    model = models.create(name, dropout=0, **options)
    twin = networks.load(models.assemble(networks.LAYERS, name, dropout=0, **options), model.state_dict())
    assert list(twin.state_dict()) == list(model.state_dict())
    x, y = images(name, 8), np.arange(8) % 10
    criterion = fnn.nn.CrossEntropyLoss()
    ours = criterion(model(x), y)
    model.backward(criterion.backward())
    theirs = torch.nn.functional.cross_entropy(twin(torch.from_numpy(x)), torch.from_numpy(y))
    theirs.backward()
    assert ours == pytest.approx(theirs.item(), rel=1e-5)
    gradients = {key: value.grad.numpy() for key, value in twin.named_parameters()}
    for key, parameter in model.named_parameters():
        largest = np.abs(gradients[key]).max()
        np.testing.assert_allclose(parameter.grad, gradients[key], rtol=1e-3, atol=2e-5 * largest + 1e-7, err_msg=key)
    model.eval()
    twin.eval()
    with torch.no_grad():
        np.testing.assert_allclose(model(x), twin(torch.from_numpy(x)).numpy(), rtol=1e-4, atol=1e-5)
    model.load_state_dict(twin.state_dict())


def test_torch_lacks_some_activations_and_says_which() -> None:
    pytest.importorskip("torch")
    from fastnn.bench.rivals.torch_ import networks

    with pytest.raises(ValueError, match="activation 'swish': torch.nn has no layer Swish"):
        models.assemble(networks.LAYERS, "mlp", activation="swish")


@pytest.mark.parametrize(
    ("name", "dtype", "lr", "close"),
    [
        ("mlp", "float64", 0.01, 1e-11),
        ("lenet5", "float64", 0.01, 1e-11),
        ("resnet8", "float64", 0.01, 1e-11),
        ("mlp", "float32", 0.01, 2e-3),
        ("lenet5", "float32", 0.002, 2e-5),
        ("resnet8", "float32", 0.002, 2e-3),
    ],
)
def test_a_hundred_steps_cost_the_same_losses_as_in_torch(name: str, dtype: str, lr: float, close: float) -> None:
    """The same weights and batches. In float32 rounding lets a ReLU switch now and then, and steps go on from there.

    In float64 none switches, and the losses agree to the last digits: so the difference is rounding and nothing else.
    """
    torch = pytest.importorskip("torch")
    from fastnn.bench.rivals.torch_ import networks

    fnn.manual_seed(0)
    fnn.set_num_threads(1)
    torch.set_num_threads(1)  # two pools of threads would keep each other waiting
    model = models.create(name, dropout=0, dtype=dtype)
    twin = models.assemble(networks.LAYERS, name, dropout=0).to(getattr(torch, dtype))
    networks.load(twin, model.state_dict())
    options = {"lr": lr, "momentum": 0.9, "weight_decay": 5e-4, "nesterov": True}
    ours, theirs = fnn.optim.SGD(model.parameters(), **options), torch.optim.SGD(twin.parameters(), **options)
    criterion = fnn.nn.CrossEntropyLoss()
    rng = np.random.default_rng(0)
    classes = rng.standard_normal((10, *models.input_shape(name)))
    losses = []
    for _ in range(100):
        y = rng.integers(0, 10, 8)
        x = (classes[y] + 2 * rng.standard_normal((8, *classes.shape[1:]))).astype(dtype)
        ours.zero_grad()
        loss = criterion(model(x), y)
        model.backward(criterion.backward())
        ours.step()
        theirs.zero_grad()
        other = torch.nn.functional.cross_entropy(twin(torch.from_numpy(x)), torch.from_numpy(y))
        other.backward()
        theirs.step()
        losses.append((loss, other.item()))
    first, second = np.array(losses).T
    assert first[-10:].mean() < first[:10].mean(), "it learns"
    np.testing.assert_allclose(first, second, rtol=close)
    np.testing.assert_allclose(first[:5], second[:5], rtol=1e-5 if dtype == "float32" else 1e-13)
