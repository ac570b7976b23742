"""Sessions do what the layers do in evaluation mode, allocate nothing, and keep samples and threads apart."""

from __future__ import annotations

import pickle
import threading
import tracemalloc
from typing import Any

import numpy as np
import pytest

import fastnn as fnn
from fastnn import nn
from fastnn.infer.arena import planned
from fastnn.infer.lower import _MODULES
from fastnn.table import OPS


def lively(model: Any, seed: int = 0) -> Any:
    """Statistics, scales and shifts as training leaves them, none of them trivial; in training mode still."""
    rng = np.random.default_rng(seed)
    for module in model.modules():
        if getattr(module, "running_mean", None) is not None:
            module.running_mean[...] = rng.standard_normal(module.num_features)
            module.running_var[...] = rng.uniform(0.2, 3, module.num_features)
        if (
            isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d, nn.GroupNorm, nn.LayerNorm))
            and module.weight is not None
        ):
            module.weight.data[...] = rng.standard_normal(module.weight.shape)
            if module.bias is not None:
                module.bias.data[...] = rng.standard_normal(module.bias.shape)
    return model


def batch(shape: tuple[int, ...], samples: int = 3, dtype: Any = np.float32) -> Any:
    return np.random.default_rng(1).standard_normal((samples, *shape)).astype(dtype)


def check(model: Any, shape: tuple[int, ...], ulps: float = 32, **options: Any) -> fnn.infer.Session:
    """The session of a model, whose results must be those of its evaluation mode, within rounding."""
    session = fnn.compile(model, shape, **options)
    x = batch(shape, dtype=session.dtype)
    before, got = x.copy(), session(x)
    assert (x == before).all()
    modes = [module.training for module in model.modules()]
    want = model.eval()(x)
    for module, mode in zip(model.modules(), modes, strict=True):
        object.__setattr__(module, "training", mode)
    assert got.dtype == want.dtype and got.shape == want.shape
    scale = np.abs(want.astype(float)).max()
    worst = np.abs(got.astype(float) - want.astype(float)).max()
    eps = 2.0**-8 if want.dtype.name == "bfloat16" else np.finfo(want.dtype).eps
    assert worst <= ulps * eps * scale, f"{worst / eps / scale:.1f} ulps of the largest result"
    return session


@pytest.mark.parametrize("batch_norm", [True, False])
@pytest.mark.parametrize("name", fnn.models.names())
def test_the_zoo(name: str, batch_norm: bool) -> None:
    model = lively(fnn.models.create(name, batch_norm=batch_norm, dropout=True, activation="gelu"))
    session = check(model, fnn.models.input_shape(name))
    ops = {step.op for step in session._graph.steps}
    assert "batch_norm" not in ops and not any("drop" in op for op in ops)


@pytest.mark.parametrize("dtype", ["float64", "float16"])
@pytest.mark.parametrize("name", ["mlp", "lenet5", "resnet8"])
def test_the_zoo_in_other_dtypes(name: str, dtype: str) -> None:
    check(lively(fnn.models.create(name, batch_norm=True, dtype=dtype)), fnn.models.input_shape(name))


def test_another_dtype_than_the_model_s() -> None:
    model = lively(fnn.models.create("mlp"))
    session, x = fnn.compile(model, (1, 28, 28), dtype=np.float64), batch((1, 28, 28), dtype=np.float64)
    want = model.to(np.float64).eval()(x)
    np.testing.assert_allclose(session(x), want, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", OPS)
def test_activations_are_fused(name: str) -> None:
    args = {"gelu_tanh": ("gelu_tanh",), "swish": ("swish", 1.5)}.get(name, (name,))
    model = nn.Sequential(nn.Linear(7, 5), nn.activation_layer(args), nn.Linear(5, 4), nn.activation_layer(args))
    assert [step.op for step in check(model, (7,))._graph.steps] == ["linear", "linear"]


C, H = (4, 9, 8), 5
LAYERS: list[tuple[Any, tuple[int, ...], list[str]]] = [
    (lambda: nn.Sequential(), (3,), ["copy"]),
    (lambda: nn.Sequential(nn.Flatten(), nn.Identity(), nn.Flatten()), C, ["copy"]),
    (lambda: nn.Conv1d(4, 6, 3, padding="same", groups=2), (4, 9), ["conv"]),
    (lambda: nn.Conv2d(4, 6, (3, 2), 2, (1, 0), bias=False), C, ["conv"]),
    (lambda: nn.Linear(H, 3), (4, 6, H), ["linear"]),
    (lambda: nn.Sequential(nn.Linear(H, 3), nn.BatchNorm1d(4)), (4, H), ["linear", "batch_norm"]),
    (lambda: nn.Sequential(nn.Linear(H, 3), nn.BatchNorm1d(3), nn.BatchNorm1d(3), nn.Tanh()), (H,), ["linear"]),
    (lambda: nn.Sequential(nn.Linear(H, 3), nn.Tanh(), nn.BatchNorm1d(3), nn.ReLU()), (H,), ["linear", "batch_norm"]),
    (lambda: nn.Sequential(nn.Conv1d(4, 6, 3, bias=False), nn.BatchNorm1d(6, affine=False)), (4, 9), ["conv"]),
    (lambda: nn.Sequential(nn.Conv2d(4, 6, 3), nn.Dropout2d(), nn.BatchNorm2d(6, bias=False), nn.ELU()), C, ["conv"]),
    (lambda: nn.Sequential(nn.Conv2d(4, 6, 3), nn.InstanceNorm2d(6, track_running_stats=True)), C, ["conv"]),
    (lambda: nn.Sequential(nn.BatchNorm1d(H), nn.Linear(H, 3, bias=False), nn.BatchNorm1d(3)), (H,), ["linear"]),
    (lambda: nn.Sequential(nn.BatchNorm1d(4), nn.Linear(H, 3)), (4, H), ["batch_norm", "linear"]),
    (lambda: nn.Sequential(nn.BatchNorm1d(H), nn.ReLU(), nn.Linear(H, 3)), (H,), ["batch_norm", "linear"]),
    (lambda: nn.Sequential(nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(288, 3)), C, ["linear"]),
    (lambda: nn.Sequential(nn.BatchNorm2d(4), nn.Conv2d(4, 6, 3, groups=2, bias=False)), C, ["conv"]),
    (lambda: nn.Sequential(nn.BatchNorm1d(4), nn.Conv1d(4, 6, 3, padding="valid"), nn.ReLU()), (4, 9), ["conv"]),
    (lambda: nn.Sequential(nn.BatchNorm2d(4), nn.Conv2d(4, 6, 3, padding=(0, 1))), C, ["batch_norm", "conv"]),
    (lambda: nn.Sequential(nn.BatchNorm2d(4), nn.Conv2d(4, 6, 1, padding="same")), C, ["batch_norm", "conv"]),
    (lambda: nn.Sequential(nn.Identity(), nn.BatchNorm1d(4), nn.Flatten(), nn.Linear(36, 3)), (4, 9), ["linear"]),
    (
        lambda: nn.Sequential(nn.BatchNorm1d(H), nn.Residual(nn.Sequential(nn.Linear(H, H), nn.BatchNorm1d(H)))),
        (H,),
        ["batch_norm", "linear", "add"],
    ),
    (lambda: nn.BatchNorm3d(4), (4, 3, 5, 2), ["batch_norm"]),
    (lambda: nn.InstanceNorm2d(4, affine=True), C, ["instance_norm"]),
    (lambda: nn.InstanceNorm1d(4), (4, 9), ["instance_norm"]),
    (lambda: nn.GroupNorm(2, 4), C, ["group_norm"]),
    (lambda: nn.Sequential(nn.LayerNorm((9, 8)), nn.LayerNorm(8)), C, ["layer_norm"] * 2),
    (lambda: nn.Sequential(nn.RMSNorm(8), nn.RMSNorm((4, 9, 8), eps=0.1)), C, ["rms_norm"] * 2),
    (lambda: nn.Sequential(nn.MaxPool1d(2), nn.AvgPool1d(2, padding=1)), (4, 9), ["max_pool", "avg_pool"]),
    (lambda: nn.MaxPool2d((3, 2), 2, 1, ceil_mode=True), C, ["max_pool"]),
    (lambda: nn.AvgPool2d(3, 2, 1, count_include_pad=False), C, ["avg_pool"]),
    (
        lambda: nn.Sequential(nn.MaxPool3d(2, 1, dilation=(1, 2, 1)), nn.AvgPool3d(2)),
        (2, 5, 6, 5),
        ["max_pool", "avg_pool"],
    ),
    (lambda: nn.AdaptiveAvgPool1d(4), (4, 9), ["adaptive_avg_pool"]),
    (lambda: nn.AdaptiveAvgPool2d((3, None)), C, ["adaptive_avg_pool"]),
    (lambda: nn.AdaptiveAvgPool3d(2), (2, 5, 4, 5), ["adaptive_avg_pool"]),
    (lambda: nn.GlobalAvgPool(), C, ["global_avg_pool"]),
    (lambda: nn.FractionalMaxPool2d(output_ratio=0.6, seed=3), C, ["fractional_max_pool2d"]),
    (lambda: nn.Sequential(nn.Softmax(1), nn.LogSoftmax()), C, ["softmax", "log_softmax"]),
    (lambda: nn.Sequential(nn.GLU(), nn.SwiGLU(1), nn.Maxout(2)), C, ["glu", "swiglu", "maxout"]),
    (lambda: nn.Sequential(nn.PReLU(4), nn.ParametricELU((9, 8))), C, ["activation"] * 2),
    (lambda: nn.Softplus(2.5), C, ["multiply", "activation", "divide"]),
    (lambda: nn.Sequential(nn.Dropout(0.3, mode="vanilla"), nn.Dropout(1, mode="vanilla")), C, ["multiply"] * 2),
    (lambda: nn.DropConnect(nn.Linear(8, 3)), C, ["linear"]),
    (lambda: nn.Sequential(nn.AlphaDropout(), nn.StochasticDepth(0.5, "row"), nn.Hardswish(True)), C, ["activation"]),
    (lambda: nn.Residual(nn.Identity()), C, ["add"]),
    (
        lambda: nn.Residual(nn.Sequential(nn.Conv2d(4, 6, 1)), nn.PadShortcut(6), "relu"),
        C,
        ["conv", "pad", "add", "activation"],
    ),
    (
        lambda: nn.Sequential(nn.Conv2d(4, 4, 1), nn.Residual(nn.Sequential(nn.BatchNorm2d(4), nn.ReLU())), nn.ReLU()),
        C,
        ["conv", "batch_norm", "add", "activation"],
    ),
    (
        lambda: nn.Residual(nn.Residual(nn.Conv2d(4, 4, 1), None, "relu"), nn.Residual(nn.Conv2d(4, 4, 1)), "relu"),
        C,
        ["conv", "add", "activation", "conv", "add", "add", "activation"],
    ),
]


@pytest.mark.parametrize(("make", "shape", "ops"), LAYERS)
def test_every_layer(make: Any, shape: tuple[int, ...], ops: list[str], tmp_path: Any) -> None:
    model = lively(make())
    session = check(model, shape)
    assert [step.op for step in session._graph.steps] == ops
    session.save(tmp_path / "session")
    again, x = fnn.load(tmp_path / "session"), batch(shape)
    assert (
        again._graph.steps == session._graph.steps
        and again.describe().splitlines()[:-1] == session.describe().splitlines()[:-1]
    )
    assert (again(x) == session(x)).all()
    assert model.training  # left as it was


def test_no_layer_is_forgotten() -> None:
    layers = {
        kind for name in nn.__all__ if isinstance(kind := getattr(nn, name), type) and issubclass(kind, nn.Module)
    }
    layers -= {nn.Module, nn.RandomLayer}
    unknown = {kind.__name__ for kind in layers if not any(base in _MODULES for base in kind.__mro__)}
    assert {name for name in unknown if not name.endswith("Loss")} == set()


def test_what_folding_would_overflow_is_not_folded() -> None:
    norm = nn.BatchNorm1d(3)
    norm.running_var[...] = 0
    norm.weight.data[...] = 1e37
    model = nn.Sequential(nn.Linear(4, 3), norm)
    model[0].weight.data[...] = 1
    model[0].bias.data[...] = 0
    session = fnn.compile(model, (4,))
    assert [step.op for step in session._graph.steps] == ["linear", "batch_norm"]
    x = np.full((2, 4), 1e-9, np.float32)
    np.testing.assert_allclose(session(x), model.eval()(x), rtol=1e-5)


@pytest.mark.parametrize("name", ["mlp", "lenet5", "resnet8"])
def test_samples_threads_and_calls_are_apart(name: str) -> None:
    shape = fnn.models.input_shape(name)
    session = fnn.compile(lively(fnn.models.create(name, batch_norm=True)), shape)
    x = batch(shape, 70)
    alone = np.concatenate([session(x[k : k + 1]) for k in range(8)])
    others = x[:8].copy()
    others[1::2] = np.nan
    assert (session(x[:8]) == alone).all() and (session(others)[::2] == alone[::2]).all()
    whole = session(x)
    assert (whole[:8] == alone).all()
    threads = fnn.get_num_threads()
    try:
        for number in (1, 3):
            fnn.set_num_threads(number)
            assert (session(x) == whole).all()
    finally:
        fnn.set_num_threads(threads)


@pytest.mark.parametrize("shape", [(4, 9, 8), (3, 11)])
def test_backends_agree(shape: tuple[int, ...]) -> None:
    images = len(shape) == 3
    layers: list[Any] = [nn.Conv2d(4, 6, 3), nn.ReLU(), nn.MaxPool2d(2), nn.AvgPool2d(2)] if images else []
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(6 if images else 33, 5), nn.GELU())
    session, x = fnn.compile(model, shape), batch(shape)
    native = session(x)
    with fnn.use("reference"):
        np.testing.assert_allclose(session(x), native, rtol=1e-5, atol=1e-6)
    assert (session(x) == native).all()


def test_a_call_allocates_nothing() -> None:
    for name in ("mlp", "lenet5", "resnet8"):
        shape = fnn.models.input_shape(name)
        session, x = fnn.compile(fnn.models.create(name), shape), batch(fnn.models.input_shape(name), 8)
        out = np.empty((8, 10), np.float32)
        session.run(x, out=out)
        tracemalloc.start()
        try:
            for _ in range(3):
                assert session.run(x, out=out) is out
            assert tracemalloc.get_traced_memory()[1] < 4096
        finally:
            tracemalloc.stop()
        assert (session(x) == out).all() and session(x) is not session(x)


def test_the_arena_grows_and_is_shared_by_values() -> None:
    shape = fnn.models.input_shape("resnet20")
    session = fnn.compile(fnn.models.create("resnet20"), shape)
    assert session.arena_bytes == 0
    sizes = []
    for samples in (2, 1, 4, 3):
        x = batch(shape, samples)
        sizes.append((session(x).shape, session.arena_bytes)[1])
    assert sizes == [2 * sizes[1] // 2, sizes[0], 2 * sizes[0], 2 * sizes[0]]
    layout = planned(session._graph)
    assert layout.size == 3 * 16 * 32 * 32 * 4 and layout.unshared > 5 * layout.size
    assert fnn.compile(fnn.models.create("mlp"), (1, 28, 28), batch=5).arena_bytes == 5 * (256 + 128) * 4


def test_values_in_use_never_overlap() -> None:
    for name in ("mlp", "vgg-small", "resnet14"):
        graph = fnn.compile(fnn.models.create(name, activation="gelu"), fnn.models.input_shape(name))._graph
        layout, last = planned(graph), graph.last_uses()
        for place, step in enumerate(graph.steps):
            spans = {
                layout.values[value]: layout.values[value] + 4 * int(np.prod(graph.steps[value - 1].shape))
                for value in layout.values
                if value <= place + 1 <= (last[value] + 1)
                and not (last[value] == place and step.op in ("add", "activation"))
            }
            edges = sorted(spans.items())
            assert all(end <= begin for (_, end), (begin, _) in zip(edges, edges[1:], strict=False))


def test_many_sizes_of_batches() -> None:
    session = fnn.compile(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)), 3)
    x = batch((3,), 40)
    for _ in range(2):
        for samples in range(41):
            np.testing.assert_allclose(session(x[:samples]), session(x)[:samples], rtol=1e-6)
    assert session(x[:0]).shape == (0, 2)


def test_any_layout_of_the_input() -> None:
    session, x = fnn.compile(nn.Conv2d(3, 4, 3), (3, 6, 5)), batch((3, 6, 5))
    want = session(x)
    backwards = np.ascontiguousarray(x[::-1])[::-1]
    unaligned = np.frombuffer(b"-" + x.tobytes(), np.uint8)[1:].view(np.float32).reshape(x.shape)
    assert not unaligned.flags.aligned
    for other in (np.asfortranarray(x), backwards, unaligned):
        assert (session(other) == want).all()


@pytest.mark.parametrize("activation", ["relu", "mish"])
@pytest.mark.parametrize("bias", [True, False])
def test_large_products(activation: str, bias: bool) -> None:
    """Weights are packed once, whatever the number of samples; clones share them."""
    model = nn.Sequential(nn.Linear(40, 33, bias), nn.activation_layer(activation), nn.Linear(33, 20, bias))
    session, x = fnn.compile(model, 40), batch((40,), 1100)
    for samples in (1, 65, 1100):
        np.testing.assert_allclose(session(x[:samples]), model.eval()(x[:samples]), rtol=1e-4, atol=1e-5)
    extra = 4 * (48 * 41 + 32 * 34)
    clone, plain = session.clone(), pickle.loads(pickle.dumps(session))
    assert session.weight_bytes == clone.weight_bytes == plain.weight_bytes + extra
    assert (clone(x) == session(x)).all() and (plain(x) == session(x)).all()
    assert sorted(session._packed) == ["0.weight", "2.weight"] and session._packed is clone._packed


def test_copies() -> None:
    model = lively(fnn.models.create("lenet5", batch_norm=True))
    session, x = fnn.compile(model, (1, 28, 28), threads=1), batch((1, 28, 28))
    want = session(x)
    for parameter in model.parameters():  # a session is a snapshot
        parameter.data[...] = 0
    clone, pickled = session.clone(), pickle.loads(pickle.dumps(session))
    assert (clone(x) == want).all() and (pickled(x) == want).all() and (session(x) == want).all()
    assert all(clone._graph.constants[name] is array for name, array in session._graph.constants.items())
    assert pickled.threads == 1 and repr(pickled) == repr(session)


@pytest.mark.parametrize("own", [True, False])
def test_threads(own: bool) -> None:
    """Each with a clone, or all with one session, for which they wait."""
    session = fnn.compile(fnn.models.create("lenet5"), (1, 28, 28), threads=1)
    xs = [batch((1, 28, 28)) * (k + 1) for k in range(4)]
    want, failed, threads = [session(x) for x in xs], [], fnn.get_num_threads()

    def work(k: int) -> None:
        mine = session.clone() if own else session
        failed.extend(k for _ in range(50) if not (mine(xs[k]) == want[k]).all())

    running = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    assert failed == [] and fnn.get_num_threads() == threads


def test_describe() -> None:
    text = fnn.compile(lively(fnn.models.create("mlp")), (1, 28, 28), batch=4).describe()
    lines = text.splitlines()
    assert len(lines) == 5 and "#1 linear + relu (x)" in lines[1] and "norm1 (BatchNorm1d)" in lines[1]
    assert "401,408" in lines[1] and "result" in lines[3]
    assert "469,504 operations" in lines[4] and "arena 1,536 bytes" in lines[4] and "940,584" in lines[4]


class Own(nn.Module):
    def forward(self, x: Any) -> Any:
        return x + 1


class Twice(nn.Linear):
    def forward(self, x: Any) -> Any:
        return super().forward(x) * 2


class Named(nn.Linear):
    """Without a forward of its own."""


def test_sessions_are_evaluated_as_models_are() -> None:
    model, samples = fnn.nn.Sequential(nn.Linear(2, 5), nn.ReLU(), nn.Linear(5, 3)), fnn.data.spirals(300, rng=0)
    session = fnn.compile(model, 2)
    got, want = (fnn.train.evaluate(each, samples) for each in (session, model))
    assert got.accuracy == want.accuracy and got.loss == pytest.approx(want.loss) and got.samples == 300
    wide = samples.x.astype(np.float64)
    np.testing.assert_allclose(fnn.train.predict(session, wide), fnn.train.predict(model, wide), rtol=1e-5, atol=1e-6)
    with pytest.raises(TypeError, match="model is of type str"):
        fnn.train.predict("model", wide)  # type: ignore[arg-type]


def test_subclasses() -> None:
    assert fnn.compile(Named(2, 3), 2).output_shape == (3,)


BAD: list[tuple[Any, Any, type[Exception], str]] = [
    (lambda: nn.Sequential(nn.ReLU(), Own()), 3, TypeError, r"1 \(Own\) is no layer"),
    (lambda: Twice(3, 3), 3, TypeError, "Twice is no layer"),
    (lambda: nn.Sequential(nn.Sequential(nn.Linear(4, 2))), 3, ValueError, r"0\.0 \(Linear\): .*\(1, 3\)"),
    (lambda: nn.Residual(nn.Linear(3, 2)), 3, ValueError, r"Residual: .*\(2,\) and \(3,\)"),
    (lambda: nn.BatchNorm1d(3, track_running_stats=False), 3, ValueError, "other samples"),
    (lambda: nn.BatchNorm2d(3), 3, ValueError, "BatchNorm2d: x has shape"),
    (lambda: nn.MaxPool2d(2, return_indices=True), C, ValueError, "indices"),
    (lambda: nn.MaxPool2d(2), (4, 9), ValueError, "MaxPool2d.*expected 4 axes"),
    (lambda: nn.Flatten(0), 3, ValueError, "Flatten mixes samples"),
    (lambda: nn.Flatten(1, 4), 3, ValueError, "Flatten: x has shape"),
    (lambda: nn.Softmax(0), 3, ValueError, "mixes samples"),
    (lambda: nn.Softmax(-2), 3, ValueError, "mixes samples"),
    (lambda: nn.LayerNorm(4), 3, ValueError, "LayerNorm: x has shape"),
    (lambda: nn.PadShortcut(2), C, ValueError, "PadShortcut: x has shape"),
    (lambda: nn.ReLU(), 0, ValueError, "input_shape is 0|input_shape is .0."),
    (lambda: nn.ReLU(), (2.5,), TypeError, "input_shape"),
    (lambda: nn.ReLU(), (), ValueError, "input_shape"),
    (lambda: "relu", 3, TypeError, "model is a str"),
]


@pytest.mark.parametrize(("make", "shape", "kind", "message"), BAD)
def test_what_does_not_compile(make: Any, shape: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message) as caught:
        fnn.compile(make(), shape)
    assert str(caught.value).startswith("compile: ")


def test_wrong_arguments() -> None:
    model = nn.Linear(3, 2)
    for options, kind in (({"batch": 0}, ValueError), ({"threads": 1.5}, TypeError), ({"dtype": int}, TypeError)):
        with pytest.raises(kind, match=next(iter(options))):
            fnn.compile(model, 3, **options)  # type: ignore[arg-type]
    session, x = fnn.compile(model, 3, batch=2), np.zeros((2, 3), np.float32)
    for wrong in ([[1.0]], x.astype(np.float64), x.astype(">f4")):
        with pytest.raises(TypeError, match="session: x"):
            session(wrong)  # type: ignore[arg-type]
    for wrong in (x[:1], x[:, :2], x[0], np.float32(1) * x[0, 0, ...]):
        with pytest.raises((ValueError, TypeError), match="session: x"):
            session(wrong)
    y = np.zeros((2, 2), np.float32)
    frozen = y.copy()
    frozen.flags.writeable = False
    for out in (y[:1], np.zeros((2, 4), np.float32)[:, ::2], frozen):
        with pytest.raises(ValueError, match="session: out"):
            session.run(x, out=out)
    for out in (y.astype(np.float64), [1]):
        with pytest.raises(TypeError, match="session: out"):
            session.run(x, out=out)  # type: ignore[arg-type]
    square = fnn.compile(nn.Linear(3, 3), 3)
    with pytest.raises(ValueError, match="shares memory"):
        square.run(x, out=x)


def test_dask_takes_it_to_other_processes() -> None:
    arrays = pytest.importorskip("dask.array")
    session = fnn.compile(lively(fnn.models.create("mlp")), (1, 28, 28))
    x = batch((1, 28, 28))
    blocks = arrays.from_array(x, chunks=(1, 1, 28, 28)).map_blocks(
        session, dtype=x.dtype, drop_axis=(2, 3), chunks=((1,) * len(x), (10,)), meta=np.empty((0, 10), x.dtype)
    )
    assert (blocks.compute(scheduler="processes", num_workers=2) == session(x)).all()
