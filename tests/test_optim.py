"""Optimisers over the fused steps: PyTorch's trajectories, groups, state, clipping."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastnn as fnn
from fastnn import optim
from fastnn.nn import Parameter

Array = np.ndarray[Any, np.dtype[Any]]
SETTINGS: list[tuple[str, dict[str, Any]]] = [
    ("SGD", {}),
    ("SGD", {"lr": 0.1, "momentum": 0.9}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 1e-2}),
    ("SGD", {"lr": 0.1, "momentum": 0.5, "dampening": 0.3, "maximize": True}),
    ("RMSprop", {}),
    ("RMSprop", {"lr": 1e-3, "alpha": 0.9, "momentum": 0.9, "centered": True, "weight_decay": 1e-2}),
    ("Adam", {}),
    ("Adam", {"lr": 0.01, "betas": (0.8, 0.99), "amsgrad": True, "weight_decay": 0.1, "maximize": True}),
    ("AdamW", {}),
    ("AdamW", {"lr": 0.01, "amsgrad": True}),
]
NAMED = [pytest.param(name, options, id=f"{name}-{'-'.join(options)}") for name, options in SETTINGS]


def params(*shapes: tuple[int, ...], dtype: Any = np.float32) -> list[Parameter]:
    rng = np.random.default_rng(0)
    return [Parameter(rng.standard_normal(shape).astype(dtype)) for shape in shapes or ((5, 3), (5,))]


def gradients(number: int) -> Callable[[Parameter], Array]:
    rng = np.random.default_rng(number)
    return lambda parameter: rng.standard_normal(parameter.shape).astype(parameter.dtype)


def run(optimizer: optim.Optimizer, given: list[Parameter], steps: range) -> None:
    for number in steps:
        draw = gradients(number)
        optimizer.zero_grad()
        for parameter in given:
            parameter.add_grad(draw(parameter))
        optimizer.step()


@pytest.mark.parametrize(("name", "options"), NAMED)
def test_the_path_is_that_of_torch(name: str, options: dict[str, Any]) -> None:
    torch = pytest.importorskip("torch")
    own = params()
    theirs = [torch.nn.Parameter(torch.from_numpy(parameter.data.copy())) for parameter in own]
    optimizer = getattr(optim, name)(own, **options)
    reference = getattr(torch.optim, name)(theirs, **options)
    assert set(optimizer.defaults) <= set(reference.defaults)
    assert all(reference.defaults[key] == value for key, value in optimizer.defaults.items())
    for number in range(30):
        draw = gradients(number)
        for parameter, other in zip(own, theirs, strict=True):
            parameter.grad = draw(parameter)
            other.grad = torch.from_numpy(parameter.grad.copy())
        optimizer.step()
        reference.step()
    for parameter, other in zip(own, theirs, strict=True):
        np.testing.assert_allclose(parameter.data, other.detach().numpy(), rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize(("name", "options"), NAMED)
def test_a_state_of_torch_is_taken_over(name: str, options: dict[str, Any]) -> None:
    """Ten steps there, ten more here, against twenty there."""
    torch = pytest.importorskip("torch")
    own = params()
    theirs = [torch.nn.Parameter(torch.from_numpy(parameter.data.copy())) for parameter in own]
    reference = getattr(torch.optim, name)(theirs, **options)
    optimizer = getattr(optim, name)(own, lr=0.5)
    for number in range(20):
        draw = gradients(number)
        if number == 10:
            for parameter, other in zip(own, theirs, strict=True):
                parameter.data[...] = other.detach().numpy()
            optimizer.load_state_dict(reference.state_dict())
        for parameter, other in zip(own, theirs, strict=True):
            parameter.grad = draw(parameter)
            other.grad = torch.from_numpy(parameter.grad.copy())
        if number >= 10:
            optimizer.step()
        reference.step()
    for parameter, other in zip(own, theirs, strict=True):
        np.testing.assert_allclose(parameter.data, other.detach().numpy(), rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize(("name", "options"), NAMED)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_a_loaded_state_goes_on_with_the_same_bits(name: str, options: dict[str, Any], dtype: Any) -> None:
    whole, halves = params(dtype=dtype), params(dtype=dtype)
    run(getattr(optim, name)(whole, **options), whole, range(6))
    first = getattr(optim, name)(halves, **options)
    run(first, halves, range(3))
    second = getattr(optim, name)(halves)
    second.load_state_dict(first.state_dict())
    saved = [array for values in first.state.values() for array in values.values() if isinstance(array, np.ndarray)]
    loaded = [array for values in second.state.values() for array in values.values() if isinstance(array, np.ndarray)]
    assert not any(np.shares_memory(a, b) for a, b in zip(saved, loaded, strict=True))
    run(second, halves, range(3, 6))
    for a, b in zip(whole, halves, strict=True):
        np.testing.assert_array_equal(a.data, b.data)
        assert a.dtype == dtype


def test_parameters_without_a_gradient_stay() -> None:
    learned, left = params((2,), (2,))
    optimizer = optim.AdamW([learned, left], weight_decay=0.5)
    learned.add_grad(np.ones(2, np.float32))
    before = left.data.copy(), learned.data.copy()
    optimizer.step()
    np.testing.assert_array_equal(left.data, before[0])
    assert np.all(learned.data < before[1]) and left not in optimizer.state


def test_groups_have_their_own_options() -> None:
    a, b = params((2,), (2,))
    optimizer = optim.SGD([{"params": [a]}, {"params": b, "lr": 0.5}], lr=0.25)
    start = a.data.copy(), b.data.copy()
    for parameter in (a, b):
        parameter.add_grad(np.ones(2, np.float32))
    optimizer.step()
    np.testing.assert_array_equal(a.data, start[0] - np.float32(0.25))
    np.testing.assert_array_equal(b.data, start[1] - np.float32(0.5))
    optimizer.param_groups[0]["lr"] = 0.0
    kept = a.data.copy()
    optimizer.step()
    np.testing.assert_array_equal(a.data, kept)
    optimizer.zero_grad()
    assert a.grad is None and b.grad is None
    assert [group["lr"] for group in optimizer.param_groups] == [0.0, 0.5]
    assert "2 parameters" not in repr(optimizer) and "lr=0.5" in repr(optimizer)


def test_a_step_allocates_no_arrays() -> None:
    import tracemalloc

    (parameter,) = params((256, 256))
    parameter.add_grad(np.ones((256, 256), np.float32))
    for optimizer in (optim.SGD([parameter], momentum=0.9), optim.Adam([parameter])):
        optimizer.step()
        tracemalloc.start()
        optimizer.step()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 8192


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (lambda p: optim.SGD([]), ValueError, "params is empty"),
        (lambda p: optim.SGD(p[0]), TypeError, "SGD: params is of type Parameter"),
        (lambda p: optim.SGD([np.ones(2)]), TypeError, r"params\[0\] is of type ndarray; expected a Parameter"),
        (lambda p: optim.SGD([p[0], p[0]]), ValueError, r"params\[1\], of shape \(5, 3\), is there more than once"),
        (lambda p: optim.SGD([{"params": p, "rate": 1}]), TypeError, "'rate'; expected lr, momentum"),
        (lambda p: optim.SGD([{"lr": 1.0}]), TypeError, 'expected a dict with "params" in it'),
        (lambda p: optim.SGD(p, lr=-1.0), ValueError, "SGD: lr is -1.0; expected a number that is finite and at least"),
        (lambda p: optim.SGD(p, lr="fast"), TypeError, "SGD: lr is 'fast'"),
        (lambda p: optim.SGD(p, nesterov=True), ValueError, "nesterov needs momentum and no dampening"),
        (lambda p: optim.RMSprop(p, alpha=1.0), ValueError, "RMSprop: alpha is 1.0"),
        (lambda p: optim.Adam(p, betas=(0.9, 1.0)), ValueError, r"Adam: betas\[1\] is 1.0"),
        (lambda p: optim.AdamW(p, betas=0.9), TypeError, "AdamW: betas is 0.9; expected two numbers"),
        (lambda p: optim.Adam(p, amsgrad=1), TypeError, "Adam: amsgrad is 1"),
    ],
)
def test_arguments_are_checked(make: Callable[[Any], Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        make(params())


def test_a_state_that_does_not_fit_changes_nothing() -> None:
    given = params()
    optimizer = optim.Adam(given)
    run(optimizer, given, range(2))
    state, before = optimizer.state_dict(), optimizer.state
    for wrong, message in [
        ({"state": {}}, "no 'param_groups'"),
        (state | {"param_groups": [state["param_groups"][0] | {"params": [0]}]}, r"groups of \[1\] parameters"),
        (state | {"param_groups": [state["param_groups"][0] | {"lr": -1.0}]}, "lr is -1.0"),
        (state | {"state": {0: {"exp_avg": np.zeros(3)}}}, r"exp_avg of parameter 0 has shape \(3,\)"),
        (state | {"state": {7: {}}}, "parameter 7"),
    ]:
        with pytest.raises(ValueError, match=message):
            optimizer.load_state_dict(wrong)
        assert optimizer.state is before and optimizer.param_groups[0]["lr"] == 1e-3


def test_clipping_is_that_of_torch() -> None:
    torch = pytest.importorskip("torch")
    for max_norm, norm_type in [(1.0, 2.0), (100.0, 2.0), (0.5, float("inf")), (2.0, 1.0)]:
        own = params()
        theirs = [torch.nn.Parameter(torch.from_numpy(parameter.data.copy())) for parameter in own]
        for parameter, other in zip(own, theirs, strict=True):
            parameter.add_grad(parameter.data)
            other.grad = torch.from_numpy(parameter.data.copy())
        own.append(Parameter(np.ones(3)))  # no gradient
        norm = optim.clip_grad_norm_(own, max_norm, norm_type)
        assert norm == pytest.approx(float(torch.nn.utils.clip_grad_norm_(theirs, max_norm, norm_type)), rel=1e-6)
        for parameter, other in zip(own, theirs, strict=False):
            np.testing.assert_allclose(parameter.grad, other.grad.numpy(), rtol=1e-6)


def test_clipping_checks() -> None:
    (parameter,) = params((2,))
    assert optim.clip_grad_norm_(parameter, 1.0) == 0  # there is no gradient
    parameter.grad = np.array([np.inf, 1], np.float32)
    with pytest.raises(ValueError, match="expected it to be finite"):
        optim.clip_grad_norm_([parameter], 1.0, error_if_nonfinite=True)
    with pytest.raises(TypeError, match=r"params\[0\] is of type ndarray"):
        optim.clip_grad_norm_([parameter.data], 1.0)  # type: ignore[list-item]


PENALTIES = [
    (fnn.regularizers.L2(0.1), lambda w: (0.1 * (w**2).sum(), 0.2 * w)),
    (fnn.regularizers.L1(0.1), lambda w: (0.1 * abs(w).sum(), 0.1 * np.sign(w))),
    (fnn.regularizers.ElasticNet(0.5, 0.1), lambda w: (0.1 * (0.5 * w**2 + abs(w)).sum(), 0.1 * (w + np.sign(w)))),
]


@pytest.mark.parametrize(("regularizer", "formula"), PENALTIES, ids=lambda each: type(each).__name__)
def test_penalties_add_value_and_gradient_for_weights_alone(regularizer: Any, formula: Any) -> None:
    weight, bias = params(dtype=np.float64)
    weight.add_grad(np.ones_like(weight.data))
    value, slope = formula(weight.data)
    assert regularizer.value([weight, bias]) == pytest.approx(value, rel=1e-12)
    assert regularizer.penalty([weight, bias]) == pytest.approx(value, rel=1e-12)
    np.testing.assert_allclose(weight.grad, 1 + slope, rtol=1e-12)
    assert bias.grad is None
    regularizer.biases = True
    regularizer.penalty([bias])
    np.testing.assert_allclose(bias.grad, formula(bias.data)[1], rtol=1e-12)  # none before: it alone
    bias.zero_grad()
    regularizer.penalty([bias])
    np.testing.assert_allclose(bias.grad, formula(bias.data)[1], rtol=1e-12)
    bias.requires_grad = False
    bias.zero_grad()
    assert regularizer.penalty([bias]) == 0 and bias.grad is None
    regularizer.biases = False


def test_penalty_arguments_are_checked() -> None:
    with pytest.raises(ValueError, match="L2: strength is -1"):
        fnn.regularizers.L2(-1)
    with pytest.raises(TypeError, match=r"L1: params\[0\] is of type ndarray"):
        fnn.regularizers.L1(1.0).penalty([np.ones(2)])  # type: ignore[list-item]
    assert repr(fnn.regularizers.ElasticNet(0.5, 0.1)) == "ElasticNet(beta=0.5, strength=0.1, biases=False)"
