"""CuPy arrays into the public functions: the CPU's results, on the device, and nothing read back on the way."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import emulator.cupy.record as record
import numpy as np
import pytest

import fastnn as fnn
from fastnn import arrays
from fastnn.table import FUNCTIONS, OPS

_EXAMPLES = 10  # of each function: the sizes around the edges of blocks and warps are for the tests of the kernels
_READS = {"clip_grad_norm"}  # where an error depends on a number that is on the device


def _compiled(example: dict[str, Any]) -> bool:
    """One activation for those that fuse any: each is a compilation, and the tests of the kernels have the others."""
    return example.get("activation") in (None, "relu") and not example.get("dropout_p")


def single(value: Any) -> Any:
    """In float32, and apart from the example."""
    if isinstance(value, (list, tuple)) and any(isinstance(each, np.ndarray) for each in value):
        return [single(each) for each in value]
    if not isinstance(value, np.ndarray):
        return value
    return value.astype(np.float32) if value.dtype == np.float64 else value.copy()


def on(cupy: Any, value: Any) -> Any:
    """Arrays, and lists that stand for one, on the device."""
    if isinstance(value, list):
        return [on(cupy, each) for each in value] if isinstance(value[0], np.ndarray) else cupy.asarray(value)
    return cupy.asarray(value) if isinstance(value, np.ndarray) else value


def close(got: Any, expected: Any, cupy: Any) -> None:
    """Results and updated arguments, one by one; of an array a CuPy array, of a number one without axes."""
    pairs = zip(got, expected, strict=True) if isinstance(expected, (tuple, list)) else [(got, expected)]
    for ours, theirs in pairs:
        if isinstance(theirs, (np.ndarray, np.generic)):
            assert isinstance(ours, (cupy.ndarray, np.generic))
            assert ours.shape == np.shape(theirs) and ours.dtype == theirs.dtype
            wide = np.asarray(theirs, np.float64)
            np.testing.assert_allclose(arrays.host(ours).astype(np.float64), wide, rtol=2e-4, atol=2e-5)
        else:
            assert ours == theirs


@contextlib.contextmanager
def nothing_read(cupy: Any) -> Iterator[None]:
    """On the stand-in: no copy to the host, no waiting."""
    with record.recording() as seen:
        yield
    assert not (seen.to_host or seen.waits) or not cupy.__name__.startswith("emulator")


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(device: Any, name: str) -> None:
    """Every function of the table, on examples of it."""
    function = getattr(fnn, name)
    examples = filter(_compiled, FUNCTIONS[name].examples(np.random.default_rng(0)))
    for example in islice(examples, _EXAMPLES):
        given = {key: single(value) for key, value in example.items()}
        there = {key: on(device, value) for key, value in given.items()}
        expected = function(**given)
        with contextlib.nullcontext() if name in _READS else nothing_read(device):
            got = function(**there)
        if any(isinstance(value, device.ndarray) for value in there.values()):
            close(got, expected, device)
        for key, value in there.items():  # arguments that are updated in place
            if isinstance(value, (device.ndarray, list)):
                close(value, given[key] if isinstance(given[key], list) else np.asarray(given[key]), device)


@pytest.mark.parametrize("name", ["relu", "prelu"])
def test_activations(device: Any, name: str) -> None:
    op, rng = OPS[name], np.random.default_rng(1)
    x, dy = (rng.standard_normal((5, 3, 7)).astype(np.float32) for _ in range(2))
    params = [rng.random(3).astype(np.float32)] if op.learned is not None else [*op.parameters_default]
    moved = [on(device, each) for each in params]
    y = getattr(fnn, name)(x, *params)
    close(getattr(fnn, name)(on(device, x), *moved), y, device)
    saved = op.saved_for_backward(x, y)
    expected = getattr(fnn, f"{name}_backward")(dy, saved, *params)
    close(getattr(fnn, f"{name}_backward")(on(device, dy), on(device, saved), *moved), expected, device)


# ---- layouts and memory ----

CALLS: dict[str, Callable[..., Any]] = {
    "relu": lambda x, **out: fnn.relu(x, **out),
    "softmax": lambda x, **out: fnn.softmax(x, 1, **out),
    "dropout": lambda x, **out: fnn.dropout(x, 0.4, seed=3, **out),
    "layer_norm": lambda x, **out: fnn.layer_norm(x, **out)[0],
    "swiglu": lambda x, **out: fnn.swiglu(x, 1, **out),
    "cross_entropy": lambda x, **out: fnn.cross_entropy_and_grad(x, _same(x), **out)[1],
}


def _same(x: Any) -> Any:
    """Soft labels of x's shape, where x is."""
    return x if isinstance(x, np.ndarray) else x.copy()


@pytest.mark.parametrize("name", CALLS)
def test_layouts(device: Any, name: str) -> None:
    """Transposed, reversed and strided arrays, and `out` of any layout."""
    call, whole = CALLS[name], np.random.default_rng(2).random((12, 10)).astype(np.float32)
    there = device.asarray(whole)
    for cut in (lambda a: a.T, lambda a: a[::-1], lambda a: a[::2, 2:], lambda a: a[:0]):
        x, expected = cut(there), call(np.ascontiguousarray(cut(whole)))
        close(call(x), expected, device)
        out = device.zeros((*expected.shape[::-1],), np.float32).T
        assert call(x, out=out) is out
        close(out, expected, device)


def test_overlap(device: Any) -> None:
    memory = device.zeros(24, np.float32)
    with pytest.raises(ValueError, match="out overlaps x in memory"):
        fnn.softmax(memory[:20].reshape(4, 5), out=memory[1:21].reshape(4, 5))
    x = memory[:20].reshape(4, 5)
    assert fnn.softmax(x, out=x) is x
    even, odd = memory[::2].reshape(3, 4), memory[1::2].reshape(3, 4)
    assert fnn.softmax(memory[::2][None], out=memory[1::2][None]).shape == (1, 12)  # interleaved, and apart
    with pytest.raises(ValueError, match="grad overlaps w"):
        fnn.l2_and_grad(x, x)
    assert not arrays.may_share(even, memory.copy()) and odd.shape == (3, 4)


def test_inputs_that_are_no_floats(device: Any) -> None:
    numbers = np.arange(-3, 4, dtype=np.int16)
    close(fnn.softmax(device.asarray(numbers)), fnn.softmax(numbers), device)
    with pytest.raises(TypeError, match="x has dtype complex64"):
        fnn.softmax(device.zeros(3, np.complex64))


# ---- errors ----


def _zeros(*shape: int) -> Any:
    return np.zeros(shape, np.float32)


MIXED: dict[str, tuple[Callable[[Any], Any], str]] = {
    "input": (lambda c: fnn.linear(c.asarray(_zeros(2, 3)), _zeros(4, 3)), "linear: weight is a NumPy array and x"),
    "first": (lambda c: fnn.linear(_zeros(2, 3), c.asarray(_zeros(4, 3))), "linear: x is a NumPy array and weight"),
    "out": (lambda c: fnn.softmax(c.asarray(_zeros(3)), out=_zeros(3)), "softmax: out is a NumPy array and x"),
    "activation": (lambda c: fnn.relu(c.asarray(_zeros(3)), out=_zeros(3)), "relu: out is a NumPy array and x"),
    "labels": (
        lambda c: fnn.cross_entropy(c.asarray(_zeros(2, 3)), [0, 1]),
        r"labels is of type list and logits is a CuPy array.*cupy.asarray\(labels\)",
    ),
    "state": (
        lambda c: fnn.sgd_step(c.asarray(_zeros(3)), c.asarray(_zeros(3)), _zeros(3), 0.1, 0.9),
        "sgd_step: velocity is a NumPy array and param",
    ),
    "statistics": (
        lambda c: fnn.batch_norm_infer(c.asarray(_zeros(2, 3)), None, None, _zeros(3), _zeros(3)),
        "batch_norm_infer: running_mean is a NumPy array and x",
    ),
    "gradients": (
        lambda c: fnn.linear_backward(*map(c.asarray, (_zeros(2, 4), _zeros(2, 3), _zeros(4, 3))), dx=_zeros(2, 3)),
        "linear_backward: dx is a NumPy array and dy",
    ),
}


@pytest.mark.parametrize("name", MIXED)
def test_mixed_places(device: Any, name: str) -> None:
    call, message = MIXED[name]
    with pytest.raises(TypeError, match=message):
        call(device)


def test_two_devices(cupy: Any) -> None:
    x = cupy.asarray(_zeros(2, 3))
    with cupy.cuda.Device(1):
        weight = cupy.asarray(_zeros(4, 3))
        with pytest.raises(ValueError, match=r"linear: x is on device 0, and the current device is 1"):
            fnn.linear(x, weight)
    with pytest.raises(ValueError, match=r"softmax: x is on device 1, .* `with cupy.cuda.Device\(1\):`"):
        fnn.softmax(weight)


def test_chosen_backend(device: Any) -> None:
    """CuPy arrays have one backend; NumPy's are refused while it is chosen; functions without arrays go there."""
    with fnn.use("cuda"):
        close(fnn.batch_norm_train(device.asarray(_zeros(4, 3)), None, None, None, None)[0], _zeros(4, 3), device)
        with pytest.raises(TypeError, match=r"arrays in main memory .* cupy.asarray"):
            fnn.softmax(_zeros(3))
        mask = fnn.dropout_mask((3, 5), 0.5, seed=1)
        words = fnn.philox(2, seed=1)
    close(mask, fnn.dropout_mask((3, 5), 0.5, seed=1), device)
    close(words, fnn.philox(2, seed=1), device)
    with fnn.use("numba"):
        close(fnn.softmax(device.asarray(_zeros(3))), fnn.softmax(_zeros(3)), device)


def test_labels_out_of_range(device: Any) -> None:
    """They are not read back: the loss is NaN. The layer, which reads the loss, says which it was."""
    logits, labels = device.asarray(_zeros(4, 3)), device.asarray(np.array([0, 3, 1, 2]))
    with nothing_read(device):
        loss, gradient = fnn.cross_entropy_and_grad(logits, labels)
    assert np.isnan(arrays.host(loss)) and np.isnan(arrays.host(gradient)[1]).all()
    assert np.isfinite(arrays.host(gradient)[[0, 2, 3]]).all()
    for layer in (fnn.nn.CrossEntropyLoss(), fnn.nn.HingeLoss()):
        with pytest.raises(ValueError, match=r"labels at \(1,\) is 3; expected a class from 0 to 2"):
            layer(logits, labels)


def test_clipping_waits_for_nothing(device: Any) -> None:
    grads = [device.asarray(np.full(3, 2.0, np.float32)), device.asarray(np.full((2, 2), -1.0, np.float32))]
    with nothing_read(device):
        norm = fnn.clip_grad_norm(grads, 1.0)
    assert float(norm) == pytest.approx(4.0) and arrays.host(grads[0])[0] == pytest.approx(0.5, rel=1e-5)
    with pytest.raises(ValueError, match="is inf; expected it to be finite"):
        fnn.clip_grad_norm([device.asarray(np.full(2, np.inf, np.float32))], 1.0, error_if_nonfinite=True)
