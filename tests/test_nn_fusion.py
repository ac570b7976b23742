"""Modules that share a pass in a Sequential: the same bits, hooks that see all, nothing written over that is read."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

from fastnn import nn
from fastnn.nn.activations import LAYERS, Activation
from fastnn.table import OPS

RNG = np.random.default_rng(0)


def normal(*shape: int) -> Any:
    return RNG.normal(size=shape).astype(np.float32)


def steps(model: nn.Sequential) -> list[int]:
    """How many modules run together, step by step."""
    return [1 + len(followers) for _, followers in model._planned().steps]


def unfused(model: nn.Sequential) -> nn.Sequential:
    """A copy in which hooks keep every module by itself."""
    twin = copy.deepcopy(model)
    for module in twin:
        module.register_forward_hook(lambda module, x, y: None)
        module.register_backward_hook(lambda module, dx, dy: None)
    return twin


def same_bits(model: nn.Sequential, x: Any, rounds: int = 2) -> None:
    model.zero_grad()
    twin = unfused(model)
    assert max(steps(twin)) == 1
    for _ in range(rounds):
        y, other = model(x), twin(x)
        np.testing.assert_array_equal(y.view(np.uint32), other.view(np.uint32))
        dy = normal(*y.shape)
        kept = dy.copy()
        dx, dother = model.backward(dy), twin.backward(dy)
        np.testing.assert_array_equal(dy, kept)
        np.testing.assert_array_equal(dx, dother)
        for parameter, reference in zip(model.parameters(), twin.parameters(), strict=True):
            np.testing.assert_array_equal(parameter.grad, reference.grad)
    for (name, value), other in zip(model.state_dict().items(), twin.state_dict().values(), strict=True):
        np.testing.assert_array_equal(value, other, err_msg=name)


ACTIVATIONS = [name for name, layer in LAYERS.items() if issubclass(layer, Activation)]
HEADS: dict[str, tuple[Any, tuple[int, ...]]] = {
    "Linear": (lambda: nn.Linear(7, 5), (6, 7)),
    "Linear-many": (lambda: nn.Linear(7, 5), (3, 30, 7)),
    "Conv2d": (lambda: nn.Conv2d(3, 4, 3, padding=1), (2, 3, 6, 7)),
    "Conv1d": (lambda: nn.Conv1d(3, 4, 3), (2, 3, 9)),
    "BatchNorm1d": (lambda: nn.BatchNorm1d(7), (6, 7)),
    "BatchNorm2d": (lambda: nn.BatchNorm2d(3), (4, 3, 5, 5)),
}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
def test_bits_of_a_layer_and_an_activation(head: Any, name: str, training: bool) -> None:
    layer = nn.activation_layer((name, *OPS[name].parameters_default) if name != "gelu_tanh" else name)
    model = nn.Sequential(head[0](), layer).train(training)
    same_bits(model, normal(*head[1]))


def test_what_is_planned() -> None:
    model = nn.Sequential(
        *(nn.Linear(7, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Dropout(0.3)),
        *(nn.Linear(5, 4), nn.LeakyReLU(), nn.Linear(4, 4), nn.PReLU(), nn.Linear(4, 3)),
    )
    model(normal(6, 7))
    assert sum(steps(model)) == len(model)
    assert steps(model) == [1, 3, 2, 1, 1, 1]
    same_bits(model, normal(6, 7))
    model.eval()
    same_bits(model, normal(6, 7))


@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
def test_bits_of_a_layer_relu_and_dropout(head: Any, p: float) -> None:
    """Backward needs neither mask nor relu's result; what is dropped gets no gradient, of either sign."""
    model = nn.Sequential(head[0](), nn.ReLU(), nn.Dropout(p), nn.Identity())
    same_bits(model, normal(*head[1]))
    assert steps(model) == ([3, 1] if p else [2, 1, 1])
    assert model[2].calls == (2 if p else 0)
    model.eval()
    same_bits(model, normal(*head[1]))
    assert steps(model) == [2, 1, 1]
    model[2].train()  # a Monte-Carlo average
    same_bits(model, normal(*head[1]))


def test_only_dropout_behind_relu_runs_over_its_result() -> None:
    for layer in (nn.LeakyReLU(), nn.Sigmoid(), nn.GELU()):
        assert steps(nn.Sequential(nn.Linear(3, 4), layer, nn.Dropout())) == [2, 1]
    for dropout in (nn.Dropout(mode="vanilla"), nn.AlphaDropout(), nn.Dropout2d()):
        assert steps(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), dropout)) == [2, 1]


OWN = [nn.Linear(4, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Softmax(), nn.PReLU(), nn.Dropout()]


@pytest.mark.parametrize("layer", OWN, ids=lambda layer: type(layer).__name__)
def test_by_itself_a_layer_leaves_the_callers_arrays_alone(layer: nn.Module) -> None:
    """Also after it has been a part of something, which let it write over them."""
    inside = nn.Sequential(nn.Linear(4, 4), nn.Sigmoid(), layer, nn.Linear(4, 4), nn.Sigmoid())
    x = normal(5, 4)
    inside.backward(inside(x))
    dy = normal(5, 4)
    kept = dy.copy()
    layer(x)
    layer.backward(dy)
    np.testing.assert_array_equal(dy, kept)
    over = nn.ReLU(inplace=True)
    inside = nn.Sequential(nn.Sigmoid(), over)
    inside(x)
    assert over(x) is x


def test_plans_follow_changes() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    x = normal(5, 3)
    model(x)
    plan = model._planned()
    model(x)
    model.backward(model(x))
    assert model._planned() is plan and steps(model) == [2, 1]
    seen: list[Any] = []
    handle = model[1].register_forward_hook(lambda module, x, y: seen.append((x.copy(), y.copy())))
    assert steps(model) == [1, 1, 1]
    model(x)
    np.testing.assert_array_equal(np.maximum(seen[0][0], 0), seen[0][1])
    handle.remove()
    assert steps(model) == [2, 1]
    model.append(nn.ReLU())
    assert steps(model) == [2, 2]
    setattr(model, "1", nn.PReLU())
    assert steps(model) == [1, 1, 2]


def test_half_precision_is_not_fused() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.GELU()).to(np.float16)
    assert steps(model) == [1, 1]
    assert model(normal(5, 3).astype(np.float16)).dtype == np.float16
    assert steps(model.to(np.float32)) == [2]


def test_a_pass_goes_back_the_way_it_came() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU())
    x = normal(5, 3)
    y = model(x)
    with pytest.raises(RuntimeError, match="ReLU.backward: there is no forward pass"):
        model[1].backward(y)
    with pytest.raises(RuntimeError, match="Linear.backward: the last forward pass was another one"):
        model[0].backward(y)
    model[0](x)
    with pytest.raises(RuntimeError, match="another one"):
        model.backward(y)
    with pytest.raises(RuntimeError, match="Sequential.backward: there is no forward pass"):
        nn.Sequential(nn.ReLU()).backward(y)


def test_backward_hooks_see_gradients_before_they_are_written_over() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Sigmoid(), nn.Softmax(), nn.GELU())
    x, seen = normal(5, 3), {}
    twin = unfused(model)
    for index, module in enumerate(model):
        if index % 2:
            module.register_backward_hook(lambda m, dx, dy, index=index: seen.update({index: (dx.copy(), dy.copy())}))
    reference: dict[int, Any] = {}
    for index, module in enumerate(twin):
        module.register_backward_hook(lambda m, dx, dy, index=index: reference.update({index: (dx.copy(), dy.copy())}))
    dy = normal(5, 4)
    model(x), twin(x)
    model.backward(dy), twin.backward(dy)
    for index, (dx, other) in seen.items():
        np.testing.assert_array_equal(dx, reference[index][0])
        np.testing.assert_array_equal(other, reference[index][1])


class Remembering(nn.Module):
    """A layer of one's own that reads its result again, and hands out a gradient that it keeps."""

    def forward(self, x: Any) -> Any:
        self.y = np.tanh(x)
        return self.y

    def backward(self, dy: Any) -> Any:
        self.dx = dy * (1 - self.y**2)
        return self.dx


def test_layers_of_ones_own_keep_what_is_theirs() -> None:
    mine = Remembering()
    model = nn.Sequential(nn.Tanh(), mine, nn.ReLU(inplace=True), nn.Tanh())
    x, dy = normal(5, 4), normal(5, 4)
    y = model(x)
    np.testing.assert_allclose(mine.y, np.tanh(np.tanh(x)), rtol=1e-6)
    np.testing.assert_allclose(y, np.tanh(np.maximum(mine.y, 0)), rtol=1e-6)
    model.backward(dy)
    kept = mine.dx.copy()
    model[0].backward(mine.dx)
    np.testing.assert_array_equal(mine.dx, kept)


def test_in_place_layers_leave_alone_what_is_read_again() -> None:
    for before in (nn.Sigmoid(), nn.Softmax(), nn.Sequential(nn.Linear(4, 4), nn.ReLU())):
        model = nn.Sequential(before, nn.ELU(inplace=True), nn.LeakyReLU(inplace=True))
        twin = nn.Sequential(copy.deepcopy(before), nn.ELU(), nn.LeakyReLU())
        x, dy = normal(5, 4), normal(5, 4)
        kept = x.copy()
        np.testing.assert_array_equal(model(x), twin(x))
        np.testing.assert_array_equal(x, kept)
        np.testing.assert_array_equal(model.backward(dy), twin.backward(dy))


def test_a_residual_block_reads_its_input_twice() -> None:
    model = nn.Residual(nn.Sequential(nn.ReLU(inplace=True), nn.Linear(4, 4)), nn.ReLU(inplace=True))
    twin = copy.deepcopy(model)
    twin.body[0].inplace = twin.shortcut.inplace = False
    x, dy = normal(5, 4), normal(5, 4)
    kept = x.copy()
    np.testing.assert_array_equal(model(x), twin(x))
    np.testing.assert_array_equal(x, kept)
    np.testing.assert_array_equal(model.backward(dy), twin.backward(dy))


@pytest.mark.parametrize("shortcut", [None, "identity", "linear", "relu"])
@pytest.mark.parametrize("activation", [None, "relu", "gelu"])
@pytest.mark.parametrize("end", ["linear", "tanh", "fused", "identity"])
def test_residual_blocks_inside_a_sequence(shortcut: Any, activation: Any, end: str) -> None:
    """Wherever gradients are written over, what comes out is what the formula says."""
    ends = {"linear": [], "tanh": [nn.Tanh()], "fused": [nn.ReLU()], "identity": [nn.Identity()]}
    ways = {"identity": nn.Identity(), "linear": nn.Linear(4, 4), "relu": nn.ReLU(), None: None}
    block = nn.Residual(nn.Sequential(nn.Linear(4, 4), *ends[end]), ways[shortcut], activation)
    model = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), block, nn.Tanh(), nn.Identity(), nn.Softmax())
    parts = copy.deepcopy(model)
    x, dy = normal(5, 4), normal(5, 4)
    kept = dy.copy()
    y = model(x)
    dx = model.backward(dy)
    np.testing.assert_array_equal(dy, kept)
    first, tanh, block, second, _, last = parts
    h = tanh(first(x).copy()).copy()
    b = h if block.shortcut is None else block.shortcut(h).copy()
    s = block.body(h).copy() + b
    r = s if block.activation is None else block.activation(s).copy()
    np.testing.assert_allclose(y, last(second(r).copy()), rtol=1e-5)
    d = second.backward(last.backward(dy).copy()).copy()
    d = d if block.activation is None else block.activation.backward(d).copy()
    total = block.body.backward(d).copy() + (d if block.shortcut is None else block.shortcut.backward(d).copy())
    np.testing.assert_allclose(dx, first.backward(tanh.backward(total).copy()), rtol=1e-5, atol=1e-7)


def test_the_pass_ends_where_nothing_is_learned() -> None:
    model = nn.Sequential(nn.Flatten(), nn.ReLU(), nn.Linear(12, 4), nn.ReLU(), nn.Linear(4, 2))
    x, seen = normal(5, 3, 4), []
    model.needs_input_grad = False
    y = model(x)
    assert model.backward(y) is None
    assert not model[2].needs_input_grad and model[4].needs_input_grad
    whole = copy.deepcopy(model)
    whole.needs_input_grad = True
    whole(x)
    assert whole.backward(y).shape == x.shape
    for parameter, other in zip(model.parameters(), whole.parameters(), strict=True):
        np.testing.assert_array_equal(parameter.grad, other.grad)
    model[0].register_backward_hook(lambda module, dx, dy: seen.append(dx.shape))
    model(x)
    model.backward(y)
    assert seen == [x.shape]
    model[2].requires_grad_(False)
    model[4].requires_grad_(False)
    model.zero_grad()
    model(x)
    model.backward(y)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_frozen_beginning_is_left_out() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    model.needs_input_grad = False
    model[0].requires_grad_(False)
    model.backward(model(normal(5, 3)))
    assert model[0].weight.grad is None and model[2].weight.grad is not None and not model[2].needs_input_grad
    model[0].requires_grad_()
    model.backward(model(normal(5, 3)))
    assert model[0].weight.grad is not None and model[2].needs_input_grad
