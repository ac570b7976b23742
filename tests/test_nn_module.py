"""The base class of layers: registration, modes, state, hooks, memory that is used again."""

from __future__ import annotations

import copy
import pickle
from collections import OrderedDict
from typing import Any

import numpy as np
import pytest

from fastnn import nn
from fastnn.nn.arena import Arena


class Scale(nn.Module):
    """y = x w, without a call to super().__init__()."""

    def __init__(self, size: int = 3) -> None:
        self.w = nn.Parameter(np.full(size, 2.0))
        self.register_buffer("calls", np.zeros((), np.int64))

    def forward(self, x: Any) -> Any:
        self.save(x)
        self.calls += 1
        return np.multiply(x, self.w.data, out=self.result("y", x.shape, x.dtype))

    def backward(self, dy: Any) -> Any:
        (x,) = self.saved
        self.w.add_grad((dy * x).sum(0))
        return dy * self.w.data if self.needs_input_grad else None


X = np.arange(6.0).reshape(2, 3)


def test_forward_and_backward_through_a_sequence() -> None:
    model = nn.Sequential(Scale(), Scale())
    np.testing.assert_array_equal(model(X), 4 * X)
    np.testing.assert_array_equal(model.backward(np.ones_like(X)), np.full_like(X, 4))
    for parameter in model.parameters():
        np.testing.assert_array_equal(parameter.grad, 2 * X.sum(0))


def test_gradients_add_up_until_they_are_forgotten() -> None:
    layer = Scale()
    assert layer.w.grad is None
    for times in (1, 2):
        layer(X)
        layer.backward(np.ones_like(X))
        np.testing.assert_array_equal(layer.w.grad, times * X.sum(0))
    memory = layer.w.grad
    layer.zero_grad()
    assert layer.w.grad is None
    layer(X)
    layer.backward(np.ones_like(X))
    assert layer.w.grad is memory
    np.testing.assert_array_equal(memory, X.sum(0))


def test_only_the_first_layer_leaves_out_dx() -> None:
    model = nn.Sequential(Scale(), Scale())
    model.needs_input_grad = False
    model(X)
    assert model.backward(np.ones_like(X)) is None
    np.testing.assert_array_equal(model[0].w.grad, 2 * X.sum(0))


def test_training_uses_memory_again_and_evaluation_does_not() -> None:
    layer = Scale()
    first = layer(X)
    assert layer(X + 1) is first
    assert np.shares_memory(layer(X[:1]), first) and layer(X) is first
    layer.eval()
    first = layer(X)
    assert not np.shares_memory(layer(X), first)


def test_backward_without_forward_says_so() -> None:
    layer = Scale()
    with pytest.raises(RuntimeError, match="Scale.backward: there is no forward pass to go back through"):
        layer.backward(X)
    with nn.no_grad():
        layer(X)
    with pytest.raises(RuntimeError, match="no_grad"):
        layer.backward(X)


def test_names_and_state() -> None:
    model = nn.Sequential(OrderedDict(a=Scale(), b=nn.Sequential(Scale())))
    assert list(model.state_dict()) == ["a.w", "a.calls", "b.0.w", "b.0.calls"]
    assert [name for name, _ in model.named_parameters()] == ["a.w", "b.0.w"]
    assert [name for name, _ in model.named_modules()] == ["", "a", "b", "b.0"]
    model.eval()
    assert not any(module.training for module in model.modules())


def test_load_state_dict_checks_everything_first() -> None:
    model, other = nn.Sequential(Scale(), Scale()), nn.Sequential(Scale(), Scale())
    state = copy.deepcopy(other.state_dict())
    state["0.w"][:] = 7
    short = {name: value for name, value in state.items() if name != "1.w"} | {"extra": np.zeros(1)}
    with pytest.raises(ValueError, match=r"no 1\.w; and extra, which the model has not"):
        model.load_state_dict(short)
    with pytest.raises(ValueError, match=r"1\.w has shape \(4,\); expected \(3,\)"):
        model.load_state_dict(state | {"1.w": np.zeros(4)})
    with pytest.raises(TypeError, match="dtype"):
        model.load_state_dict(state | {"1.w": np.array(["a", "b", "c"])})
    with pytest.raises(TypeError, match="state_dict is a Sequential; expected a mapping"):
        model.load_state_dict(other)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"1\.w is a list that NumPy makes no array of"):
        model.load_state_dict(state | {"1.w": [[1], [1, 2]]})
    model[1].w.data.flags.writeable = False
    with pytest.raises(ValueError, match=r"1\.w of the module is read-only"):
        model.load_state_dict(state)
    model[1].w.data.flags.writeable = True
    assert (model[0].w.data == 2).all()
    assert model.load_state_dict(short, strict=False) == (["1.w"], ["extra"])
    assert (model[0].w.data == 7).all()


def test_copies_and_pickles_leave_a_step_behind() -> None:
    model = nn.Sequential(Scale())
    model(X)
    model.backward(X)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert twin[0].w.grad is None and not np.shares_memory(twin[0].w.data, model[0].w.data)
        np.testing.assert_array_equal(twin(X), model(X))
        assert len(list(twin.parameters())) == 1


def test_conversion() -> None:
    model = nn.Sequential(Scale()).to(np.float32)
    assert model[0].w.dtype == np.float32 and model[0].calls.dtype == np.int64


def test_hooks_come_and_go() -> None:
    seen: list[Any] = []
    layer = Scale()
    handles = [
        layer.register_forward_hook(lambda module, x, y: seen.append((module, x, y))),
        layer.register_backward_hook(lambda module, dx, dy: seen.append((module, dx, dy))),
    ]
    y = layer(X)
    dx = layer.backward(X)
    assert [entry[0] for entry in seen] == [layer, layer]
    assert seen[0][1] is X and seen[0][2] is y and seen[1][1] is dx and seen[1][2] is X
    assert layer.hooked
    for handle in (*handles, *handles):
        handle.remove()
    assert not layer.hooked and "backward" not in vars(layer)
    layer(X)
    assert len(seen) == 2


def test_a_module_cannot_stand_in_two_places() -> None:
    layer = Scale()
    with pytest.raises(ValueError, match="Sequential: 1 is the same Scale"):
        nn.Sequential(layer, layer)
    with pytest.raises(TypeError, match="Sequential: 0 is a str; expected a module"):
        nn.Sequential("relu")  # type: ignore[arg-type]
    for name in ("forward", "a.b", ""):
        with pytest.raises(ValueError, match="as a module's name; expected a text without a dot"):
            nn.Sequential(OrderedDict([(name, Scale())]))


def test_slices_share_their_modules() -> None:
    model = nn.Sequential(Scale(), Scale(), Scale())
    assert model[1:][0] is model[1] and len(model[1:]) == 2 and model[-1] is list(model)[2]
    added = Scale()
    assert list(model[1:].append(added)) == [model[1], model[2], added]


def test_repr_is_indented() -> None:
    assert repr(nn.Sequential(Scale(), nn.Sequential(Scale()))) == (
        "Sequential(\n  (0): Scale()\n  (1): Sequential(\n    (0): Scale()\n  )\n)"
    )


def test_a_parameter_is_a_floating_array() -> None:
    with pytest.raises(TypeError, match="Parameter: data has dtype int64"):
        nn.Parameter([1, 2])
    with pytest.raises(ValueError, match="grad has shape"):
        nn.Parameter(np.zeros(3)).grad = np.zeros(2)
    with pytest.raises(TypeError, match="grad is of type list"):
        nn.Parameter(np.zeros(3)).grad = [0.0] * 3  # type: ignore[assignment]
    with pytest.raises(TypeError, match="grad has dtype float32; expected that of data, float64"):
        nn.Parameter(np.zeros(3)).grad = np.zeros(3, np.float32)


def test_views_of_memory_do_not_pile_up() -> None:
    layer = Scale()
    base = layer.workspace("y", (1000,), np.float32)
    for length in range(1, 500):
        assert np.shares_memory(layer.workspace("y", (length,), np.float32), base)
    assert len(layer._workspaces) < 100
    assert np.shares_memory(layer.workspace("y", (1000,), np.float32), base)
    assert layer.workspace("y", (10,), np.float64).dtype == np.float64


def test_only_floats_are_converted_to() -> None:
    with pytest.raises(TypeError, match="Scale.to: dtype is int32; expected a floating-point dtype"):
        Scale().to(np.int32)
    with pytest.raises(TypeError, match="dtype is complex64"):
        Scale().to(np.complex64)


def test_attributes_may_have_the_names_of_methods() -> None:
    """As layers of one's own, written for PyTorch, have them."""

    class Net(nn.Module):
        def __init__(self) -> None:
            self.output, self.drop, self.activation, self.result = nn.Linear(3, 2), nn.Dropout(), nn.ReLU(), 1

        def forward(self, x: Any) -> Any:
            return self.output(self.activation(x))

        def backward(self, dy: Any) -> Any:
            return self.activation.backward(self.output.backward(dy))

    model = Net()
    x = np.ones((4, 3), np.float32)
    assert model.backward(model(x)).shape == (4, 3)
    assert copy.deepcopy(model).to(np.float64)(x.astype(np.float64)).dtype == np.float64


def test_memory_is_lent_to_one_at_a_time() -> None:
    arena, kind = Arena(), np.dtype(np.float32)
    a, b = arena.lend((10,), kind), arena.lend((2, 3), kind)
    assert not np.shares_memory(a, b)
    arena.give_back(a[2:], None)
    assert np.shares_memory(arena.lend((9,), kind), a)
    arena.give_back(b, b.reshape(3, 2))  # which still lies there
    assert not np.shares_memory(arena.lend((6,), kind), b)
    arena.give_back(np.zeros(3), None)
    arena.take_all_back()
    taken = [arena.lend(shape, kind) for shape in ((10,), (6,), (6,))]
    assert np.shares_memory(taken[0], a) and sum(np.shares_memory(each, b) for each in taken) == 1
    arena.take_all_back()
    assert arena.lend((10,), kind) is taken[0]
