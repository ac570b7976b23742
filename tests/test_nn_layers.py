"""Every layer that is not a norm or random: finite differences, PyTorch, memory, modes, copies, refusals."""

from __future__ import annotations

import copy
import pickle
import re
from typing import Any

import numpy as np
import pytest

import fastnn as fnn
from fastnn import nn

RNG = np.random.default_rng(0)

# class, arguments, shape of x; the class of PyTorch has the same name and takes the same arguments
LINEAR: dict[str, tuple[str, tuple[Any, ...], dict[str, Any], tuple[int, ...]]] = {
    "Linear": ("Linear", (5, 3), {}, (4, 5)),
    "Linear-many-rows": ("Linear", (5, 3), {}, (70, 5)),
    "Linear-plain": ("Linear", (5, 3, False), {}, (4, 5)),
    "Linear-axes": ("Linear", (5, 3), {}, (2, 1, 4, 5)),
    "Linear-vector": ("Linear", (5, 3), {}, (5,)),
    "Linear-ones": ("Linear", (1, 1), {}, (1, 1)),
    "Conv2d": ("Conv2d", (3, 4, 3), {}, (2, 3, 6, 5)),
    "Conv2d-options": ("Conv2d", (4, 6, (3, 2), (2, 1), (1, 2), (1, 2), 2, False), {}, (2, 4, 7, 6)),
    "Conv2d-same": ("Conv2d", (2, 3, (3, 5)), {"padding": "same"}, (2, 2, 5, 5)),
    "Conv2d-valid": ("Conv2d", (2, 3, 2), {"padding": "valid", "dilation": 2}, (1, 2, 5, 5)),
    "Conv2d-depthwise": ("Conv2d", (4, 4, 3), {"groups": 4, "padding": 1}, (2, 4, 5, 5)),
    "Conv2d-ones": ("Conv2d", (1, 1, 1), {}, (1, 1, 1, 1)),
    "Conv2d-lenet": ("Conv2d", (1, 6, 5), {"padding": 2}, (3, 1, 9, 9)),
    "Conv1d": ("Conv1d", (3, 4, 3, 2, 1), {}, (2, 3, 9)),
    "Conv1d-plain": ("Conv1d", (2, 2, 2), {"groups": 2, "bias": False}, (1, 2, 4)),
}
OTHERS: dict[str, tuple[str, tuple[Any, ...], dict[str, Any], tuple[int, ...]]] = {
    "Softmax": ("Softmax", (1,), {}, (4, 5)),
    "Softmax-axis": ("Softmax", (-2,), {}, (2, 4, 3)),
    "LogSoftmax": ("LogSoftmax", (-1,), {}, (4, 5)),
    "GLU": ("GLU", (), {}, (3, 6)),
    "GLU-axis": ("GLU", (1,), {}, (2, 6, 3)),
    "PReLU": ("PReLU", (), {}, (3, 4, 2)),
    "PReLU-channels": ("PReLU", (4, 0.1), {}, (3, 4, 2, 2)),
    "MaxPool1d": ("MaxPool1d", (3, 2, 1), {}, (2, 3, 8)),
    "MaxPool2d": ("MaxPool2d", (2,), {}, (2, 3, 6, 5)),
    "MaxPool2d-options": ("MaxPool2d", ((3, 2), (2, 1), (1, 0)), {"dilation": (1, 2), "ceil_mode": True}, (2, 2, 6, 7)),
    "MaxPool3d": ("MaxPool3d", (2,), {"stride": 1}, (1, 2, 3, 4, 3)),
    "AvgPool1d": ("AvgPool1d", (3, 2, 1), {}, (2, 3, 8)),
    "AvgPool2d": ("AvgPool2d", (2,), {}, (2, 3, 6, 4)),
    "AvgPool2d-options": ("AvgPool2d", (3, 2, 1, True, False), {}, (2, 2, 6, 7)),
    "AvgPool3d": ("AvgPool3d", (2,), {}, (1, 2, 4, 4, 2)),
    "AdaptiveAvgPool1d": ("AdaptiveAvgPool1d", (3,), {}, (2, 3, 8)),
    "AdaptiveAvgPool2d": ("AdaptiveAvgPool2d", ((3, None),), {}, (2, 3, 7, 2)),
    "AdaptiveAvgPool2d-whole": ("AdaptiveAvgPool2d", (1,), {}, (2, 3, 4, 4)),
    "AdaptiveAvgPool3d": ("AdaptiveAvgPool3d", (2,), {}, (1, 2, 4, 3, 5)),
    "Flatten": ("Flatten", (), {}, (2, 3, 4, 5)),
    "Flatten-axes": ("Flatten", (1, 2), {}, (2, 3, 4, 5)),
    "Identity": ("Identity", (7,), {"anything": 1}, (2, 3)),
}
ACTIVATIONS: dict[str, tuple[str, tuple[Any, ...], dict[str, Any], tuple[int, ...]]] = {
    name: (name, (), {}, (4, 5))
    for name in (
        *("ReLU", "LeakyReLU", "ELU", "SELU", "CELU", "GELU", "SiLU", "Mish", "Sigmoid", "Tanh", "LogSigmoid"),
        *("Hardsigmoid", "Hardswish", "Hardtanh", "ReLU6", "Softsign", "Softplus"),
    )
} | {
    "LeakyReLU-slope": ("LeakyReLU", (0.3,), {}, (2, 3, 4)),
    "LeakyReLU-falling": ("LeakyReLU", (-0.3,), {}, (2, 3, 4)),
    "ELU-alpha": ("ELU", (1.7,), {}, (1,)),
    "CELU-alpha": ("CELU", (), {"alpha": 0.4}, (3, 1)),
    "GELU-tanh": ("GELU", ("tanh",), {}, (4, 5)),
    "Hardtanh-bounds": ("Hardtanh", (-0.5, 0.25), {}, (40,)),
    "Softplus-beta": ("Softplus", (2.5,), {}, (4, 5)),
}
ALIKE = LINEAR | OTHERS | ACTIVATIONS
OURS: dict[str, tuple[Any, tuple[int, ...]]] = {
    "Swish": (lambda: nn.Swish(1.7), (4, 5)),
    "Sin": (lambda: nn.Sin(), (4, 5)),
    "Cos": (lambda: nn.Cos(), (4, 5)),
    "PReLU-elements": (lambda: nn.PReLU((4, 2)), (3, 4, 2)),
    "ParametricELU": (lambda: nn.ParametricELU(4), (3, 4, 2)),
    "Maxout": (lambda: nn.Maxout(3), (4, 6, 2)),
    "SwiGLU": (lambda: nn.SwiGLU(), (3, 6)),
    "GlobalAvgPool": (lambda: nn.GlobalAvgPool(), (2, 3, 4, 5)),
    "FractionalMaxPool2d": (lambda: nn.FractionalMaxPool2d(output_ratio=0.6), (2, 3, 7, 8)),
    "FractionalMaxPool2d-size": (lambda: nn.FractionalMaxPool2d(output_size=(3, 4), overlapping=True), (2, 3, 7, 8)),
    "Residual": (lambda: nn.Residual(nn.Linear(5, 5), None, "gelu"), (4, 5)),
    "Residual-shortcut": (
        lambda: nn.Residual(
            nn.Sequential(nn.Conv2d(2, 4, 3, 2, 1), nn.ReLU(), nn.Conv2d(4, 4, 1)), nn.Conv2d(2, 4, 1, 2), nn.ReLU()
        ),
        (2, 2, 5, 5),
    ),
    "Residual-identities": (lambda: nn.Residual(nn.Identity(), nn.Identity(), "tanh"), (4, 5)),
    "Residual-plain": (lambda: nn.Residual(nn.Sequential(nn.Tanh(), nn.Sigmoid())), (4, 5)),
}


def make(name: str, args: tuple[Any, ...], options: dict[str, Any], library: Any = nn, **dtype: Any) -> Any:
    learns = name in ("Linear", "Conv1d", "Conv2d", "PReLU")
    return getattr(library, name)(*args, **options, **(dtype if learns else {}))


def every() -> dict[str, tuple[Any, tuple[int, ...]]]:
    alike = {key: (lambda case=case: make(*case[:3]), case[3]) for key, case in ALIKE.items()}
    return alike | OURS


EVERY = every()


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("case", EVERY.values(), ids=EVERY)
def test_finite_differences(case: Any, training: bool) -> None:
    layer, shape = case[0](), case[1]
    assert fnn.gradcheck(layer.train(training), RNG.normal(size=shape), samples=40)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", ALIKE.values(), ids=ALIKE)
def test_torch_agrees(case: Any, dtype: str) -> None:
    """Keys, values, gradients by x and by parameters; twice, so that gradients add up."""
    torch = pytest.importorskip("torch")
    name, args, options, shape = case
    close = {"rtol": 1e-5, "atol": 2e-6} if dtype == "float32" else {"rtol": 1e-11, "atol": 1e-12}
    if name in ("Softplus", "Hardsigmoid", "CELU"):  # PyTorch's are less exact than float64
        close = {"rtol": 1e-5, "atol": 1e-7}
    ours = make(name, args, options, dtype=dtype)
    theirs = make(name, args, options, torch.nn, dtype=getattr(torch, dtype))
    ours.load_state_dict(theirs.state_dict())
    assert list(ours.state_dict()) == list(theirs.state_dict())
    for _ in range(2):
        x = (2 * RNG.normal(size=shape)).astype(dtype)
        tx = torch.tensor(x, requires_grad=True)
        y, ty = ours(x), theirs(tx)
        np.testing.assert_allclose(y, ty.detach().numpy(), **close)
        dy = RNG.normal(size=y.shape).astype(dtype)
        kept = dy.copy()
        dx = ours.backward(dy)
        ty.backward(torch.tensor(dy))
        assert y.dtype == dx.dtype == np.dtype(dtype)
        np.testing.assert_array_equal(dy, kept)
        np.testing.assert_allclose(dx, tx.grad.numpy(), **close)
    for parameter, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        np.testing.assert_allclose(parameter.grad, other.grad.numpy(), **{**close, "atol": 2e-5})


@pytest.mark.parametrize("case", LINEAR.values(), ids=LINEAR)
def test_torch_starts_from_the_same_distribution(case: Any) -> None:
    torch = pytest.importorskip("torch")
    name, args, options, _ = case
    wide = {**options}
    for module, library in ((nn, nn), (torch.nn, torch.nn)):
        found = [p for p in make(name, args, wide, library).parameters()]
        bound = 1 / np.sqrt(np.prod(found[0].shape[1:]))
        for parameter in found:
            assert np.abs(np.asarray(parameter.data)).max() <= bound, module
    fnn.manual_seed(3)
    first = make(name, args, options).weight.data
    fnn.manual_seed(3)
    np.testing.assert_array_equal(first, make(name, args, options).weight.data)


def test_initial_weights_are_uniform() -> None:
    fnn.manual_seed(0)
    layer = nn.Linear(400, 300)
    assert abs(layer.weight.data.mean()) < 1e-3
    np.testing.assert_allclose(layer.weight.data.std(), 1 / np.sqrt(3 * 400), rtol=0.01)
    np.testing.assert_allclose(nn.Conv2d(16, 64, 3).weight.data.std(), 1 / np.sqrt(3 * 144), rtol=0.03)


@pytest.mark.parametrize("case", EVERY.values(), ids=EVERY)
def test_training_writes_to_the_same_memory_and_evaluation_does_not(case: Any) -> None:
    layer, shape = case[0](), case[1]
    x = RNG.normal(size=shape).astype(np.float32)
    y = layer(x)
    dy = np.ones_like(y)
    dx = layer.backward(dy)
    if isinstance(layer, nn.Identity):
        assert y is x and dx is dy
        return
    assert np.shares_memory(layer(x), y)
    gradient = dx.copy()
    assert np.shares_memory(layer.backward(dy), dx) or isinstance(layer, nn.Residual)  # whose layers share memory
    values = layer(x).copy()
    layer.eval()
    first = layer(x)
    assert isinstance(layer, nn.Flatten) or not np.shares_memory(layer(x), first)
    if not isinstance(layer, nn.FractionalMaxPool2d):
        np.testing.assert_array_equal(first, values)
    np.testing.assert_allclose(layer.backward(dy), gradient, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("case", EVERY.values(), ids=EVERY)
def test_copies_and_pickles(case: Any) -> None:
    layer, shape = case[0](), case[1]
    x = RNG.normal(size=shape).astype(np.float32)
    layer.eval()
    y = layer(x)
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        np.testing.assert_array_equal(twin(x), y)
        assert repr(twin) == repr(layer)
        assert not any(
            np.shares_memory(p.data, q.data) for p, q in zip(twin.parameters(), layer.parameters(), strict=True)
        )


@pytest.mark.parametrize("case", EVERY.values(), ids=EVERY)
def test_nothing_is_kept_without_gradients(case: Any) -> None:
    layer, shape = case[0](), case[1]
    x = RNG.normal(size=shape).astype(np.float32)
    with nn.no_grad():
        y = layer(x)
    if not isinstance(layer, nn.Identity):
        with pytest.raises(RuntimeError, match="no forward pass"):
            layer.backward(y)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", ["Linear", "Conv2d", "Conv1d", "PReLU-channels", "ReLU", "MaxPool2d", "Softmax"])
def test_half_precision(name: str, dtype: str) -> None:
    kind = np.dtype(getattr(pytest.importorskip("ml_dtypes"), dtype)) if dtype == "bfloat16" else np.dtype(dtype)
    case = ALIKE[name]
    wide = make(*case[:3])
    layer = copy.deepcopy(wide).to(kind)
    x = RNG.normal(size=case[3]).astype(kind)
    y, reference = layer(x), wide(x.astype(np.float32))
    assert y.dtype == kind
    np.testing.assert_allclose(y.astype(np.float32), reference, rtol=0.05, atol=0.05)
    dy = np.ones(y.shape, kind)
    dx = layer.backward(dy)
    assert dx.dtype == kind
    np.testing.assert_allclose(dx.astype(np.float32), wide.backward(dy.astype(np.float32)), rtol=0.05, atol=0.05)
    for parameter, other in zip(layer.parameters(), wide.parameters(), strict=True):
        assert parameter.grad.dtype == parameter.dtype
        np.testing.assert_allclose(parameter.grad.astype(np.float32), other.grad, rtol=0.05, atol=0.1)
    assert all(p.dtype == np.float32 for name, p in layer.named_parameters() if name == "bias")


@pytest.mark.parametrize("name", ["Linear", "Linear-axes", "Conv2d", "Conv1d", "MaxPool2d", "AvgPool2d", "ReLU"])
def test_no_samples(name: str) -> None:
    case = ALIKE[name]
    layer = make(*case[:3])
    layer(RNG.normal(size=case[3]).astype(np.float32))
    y = layer(np.zeros((0, *case[3][1:]), np.float32))
    dx = layer.backward(np.zeros_like(y))
    assert y.shape[0] == 0 and dx.shape == (0, *case[3][1:])
    assert all(not parameter.grad.any() for parameter in layer.parameters())


def test_frozen_parameters_get_no_gradient() -> None:
    x = RNG.normal(size=(4, 5)).astype(np.float32)
    for frozen, learned in (("weight", "bias"), ("bias", "weight")):
        layer = nn.Linear(5, 3)
        getattr(layer, frozen).requires_grad = False
        layer.backward(layer(x))
        assert getattr(layer, frozen).grad is None and getattr(layer, learned).grad is not None


def test_one_gradient_may_be_forgotten_and_the_other_not() -> None:
    x, dy = RNG.normal(size=(4, 5)).astype(np.float32), np.ones((4, 3), np.float32)
    layer = nn.Linear(5, 3)
    layer(x)
    layer.backward(dy)
    once = layer.weight.grad.copy(), layer.bias.grad.copy()
    layer.bias.zero_grad()
    layer.backward(dy)
    np.testing.assert_allclose(layer.weight.grad, 2 * once[0], rtol=1e-6)
    np.testing.assert_allclose(layer.bias.grad, once[1])


def test_arrays_that_are_not_contiguous() -> None:
    x = RNG.normal(size=(6, 8, 3, 2)).astype(np.float32).transpose(0, 2, 3, 1)[::2]
    for layer in (nn.Linear(8, 4), nn.Conv2d(3, 4, 1), nn.MaxPool2d(2), nn.GELU(), nn.Flatten()):
        twin = copy.deepcopy(layer)
        y, reference = layer(x), twin(x.copy())
        np.testing.assert_allclose(y, reference, rtol=1e-6)
        dy = RNG.normal(size=y.shape[::-1]).astype(np.float32).T
        np.testing.assert_allclose(layer.backward(dy), twin.backward(dy.copy()), rtol=1e-5, atol=1e-6)


def zeros(*shape: int, dtype: Any = np.float32) -> Any:
    return np.zeros(shape, dtype)


REFUSED: dict[str, tuple[Any, Any, type[Exception], str]] = {
    "features": (nn.Linear(784, 3), zeros(2, 3), ValueError, r"Linear: x has shape (2, 3); expected (..., 784)"),
    "scalar": (nn.Linear(3, 3), zeros(), ValueError, "x has shape (); expected (..., 3)"),
    "integers": (nn.Linear(3, 3), zeros(2, 3, dtype=int), TypeError, "Linear: x has dtype int64; expected float32"),
    "width": (nn.Linear(3, 3), zeros(2, 3, dtype=float), TypeError, "x has dtype float64; expected float32, as the"),
    "list": (nn.Linear(3, 3), [[1.0, 2.0, 3.0]], TypeError, "Linear: x is of type list; expected a NumPy array"),
    "channels": (nn.Conv2d(3, 4, 3), zeros(2, 1, 5, 5), ValueError, "x has shape (2, 1, 5, 5); expected (N, 3, H, W)"),
    "axes": (nn.Conv1d(3, 4, 3), zeros(3, 9), ValueError, "Conv1d: x has shape (3, 9); expected (N, 3, L)"),
    "kernel": (nn.Conv2d(3, 4, 3), zeros(2, 3, 5, 2), ValueError, "Conv2d: the kernel spans 3 elements of the width"),
    "uint8": (nn.ReLU(), zeros(3, dtype=np.uint8), TypeError, "ReLU: x has dtype uint8; expected float32"),
    "pool": (nn.MaxPool2d(2), zeros(2, 3, 4), ValueError, "x has shape (2, 3, 4); expected (N, C, H, W)"),
    "pool-size": (nn.MaxPool2d(5), zeros(2, 3, 4, 4), ValueError, "MaxPool2d: kernel_size is 5"),
    "pool-empty": (nn.AvgPool1d(2), zeros(2, 3, 0), ValueError, "an element on every spatial axis"),
    "whole": (nn.GlobalAvgPool(), zeros(2, 3), ValueError, "expected (N, C, *spatial)"),
    "pieces": (nn.Maxout(4), zeros(2, 6), ValueError, "Maxout: x has shape (2, 6); expected a multiple of 4"),
    "halves": (nn.GLU(), zeros(2, 3), ValueError, "GLU: x has shape (2, 3); expected a multiple of 2"),
    "flatten": (nn.Flatten(), zeros(3), ValueError, "Flatten: x has shape (3,)"),
    "flatten-list": (nn.Flatten(), [[1.0]], TypeError, "Flatten: x is of type list; expected a NumPy array"),
    "pad-shortcut-int": (nn.PadShortcut(4), zeros(1, 4, 2, 2).astype(int), TypeError, "PadShortcut: x has dtype int64"),
    "residual": (nn.Residual(nn.Linear(3, 4)), zeros(2, 3), ValueError, "body made float32 of shape (2, 4) and x is"),
}


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED)
def test_inputs_that_are_refused(case: Any) -> None:
    layer, x, error, message = case
    with pytest.raises(error, match=re.escape(message)):
        layer(x)


@pytest.mark.parametrize("name", ["Linear", "Conv2d", "ReLU", "MaxPool2d", "AvgPool2d", "Softmax", "GLU", "PReLU"])
def test_gradients_that_are_refused(name: str) -> None:
    case = ALIKE[name]
    layer = make(*case[:3])
    y = layer(RNG.normal(size=case[3]).astype(np.float32))
    with pytest.raises(ValueError, match=rf"{case[0]}.backward: dy has shape .* expected .* as the last result has"):
        layer.backward(np.zeros((1, *y.shape), np.float32))
    with pytest.raises(TypeError, match=rf"{case[0]}.backward: dy has dtype float64; expected float32"):
        layer.backward(np.zeros(y.shape))
    with pytest.raises(TypeError, match=rf"{case[0]}.backward: dy is of type list"):
        layer.backward(y.tolist())
    assert all(parameter.grad is None for parameter in layer.parameters())


@pytest.mark.parametrize(
    ("make_layer", "error", "message"),
    [
        (lambda: nn.Linear(0, 3), ValueError, "Linear: in_features is 0; expected at least 1"),
        (lambda: nn.Linear(3.0, 3), TypeError, "in_features is 3.0 of type float"),
        (lambda: nn.Linear(3, 3, dtype=np.int64), TypeError, "Linear: dtype is int64; expected float32"),
        (lambda: nn.Conv2d(3, 4, 3, groups=2), ValueError, "groups is 2; expected a divisor of in_channels, 3"),
        (lambda: nn.Conv2d(3, 4, 0), ValueError, "Conv2d: kernel_size is 0"),
        (lambda: nn.Conv2d(3, 4, 3, padding="full"), ValueError, "padding is 'full'"),
        (lambda: nn.Conv2d(3, 4, 3, 2, "same"), ValueError, "expected stride 1"),
        (lambda: nn.Conv2d(3, 4, 3, padding_mode="circular"), ValueError, "padding_mode is 'circular'"),
        (lambda: nn.LeakyReLU("steep"), TypeError, "LeakyReLU: negative_slope is 'steep'"),
        (lambda: nn.LeakyReLU(slope=1), TypeError, "LeakyReLU: .*slope"),
        (lambda: nn.ReLU(inplace=1), TypeError, "ReLU: inplace is 1 of type int; expected True or False"),
        (lambda: nn.CELU(0.0), ValueError, "CELU: alpha is 0"),
        (lambda: nn.Hardtanh(1.0, -1.0), ValueError, "Hardtanh: min_val must not be above max_val"),
        (lambda: nn.GELU("erf"), ValueError, "GELU: approximate is 'erf'; expected 'none' or 'tanh'"),
        (lambda: nn.Softplus(threshold=1.0), ValueError, "Softplus: threshold is 1.0"),
        (lambda: nn.MaxPool2d((2, 2, 2)), ValueError, "MaxPool2d: kernel_size"),
        (lambda: nn.AvgPool2d(2, -1), ValueError, "AvgPool2d: stride is -1"),
        (lambda: nn.AdaptiveAvgPool2d((1, 2, 3)), ValueError, "output_size"),
        (lambda: nn.FractionalMaxPool2d(), ValueError, "output_size=None and output_ratio=None; expected one"),
        (lambda: nn.Residual(None), TypeError, "Residual: body is a NoneType; expected a module"),
        (lambda: nn.activation_layer("rely"), ValueError, "there is no activation 'rely'; expected one of celu"),
        (lambda: nn.activation_layer(3), TypeError, "activation is 3; expected the name"),
        (lambda: nn.CrossEntropyLoss(reduction="avg"), ValueError, "CrossEntropyLoss: reduction is 'avg'"),
    ],
)
def test_arguments_that_are_refused(make_layer: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make_layer()
