"""fnn.quantize: int8 sessions that render the model, to the same bits everywhere, and say how well."""

from __future__ import annotations

import json
import math
import pickle
import subprocess
import threading
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from layouts import active
from loop_runs import Unavailable, build

import fastnn as fnn
from fastnn import nn
from fastnn.infer.quantization.numbers import added, affine, quantized_weights
from fastnn.infer.steps import quantized
from fastnn.kernels.cpu import runtime

ROOT = Path(__file__).resolve().parents[1]
C, F32 = (4, 9, 8), np.float32


def data(shape: tuple[int, ...], samples: int = 24, seed: int = 1) -> Any:
    return np.random.default_rng(seed).standard_normal((samples, *shape)).astype(F32)


def ops(session: Any) -> list[str]:
    return [step.op for step in session._graph.steps]


def check(model: Any, shape: tuple[int, ...], at_least: float = 25, **options: Any) -> Any:
    """A session of bytes, whose result is near that of the model, in dB; NumPy's bits, if all is in bytes."""
    session = fnn.quantize(model, data(shape, 32), **options)
    x = data(shape, 3, 2)
    want, got = fnn.compile(model, shape)(x), session(x)
    assert got.dtype == F32 and got.shape == want.shape
    noise = 10 * math.log10(float((want**2).sum() / ((want - got) ** 2).sum()))
    assert noise > at_least, f"{noise:.1f} dB\n{session.report}"
    if all(op in quantized.KINDS for op in ops(session)):
        with fnn.use("reference"):
            np.testing.assert_array_equal(session(x), got)
    return session


LAYERS: list[tuple[Any, tuple[int, ...], list[str]]] = [
    (lambda: nn.Linear(20, 7), (20,), ["linear"]),
    (lambda: nn.Sequential(nn.Linear(20, 9), nn.ReLU(), nn.Linear(9, 5)), (20,), ["linear", "linear"]),
    (lambda: nn.Sequential(nn.Linear(20, 9), nn.ReLU()), (3, 20), ["linear", "activation"]),
    (
        lambda: nn.Sequential(nn.Linear(20, 9, bias=False), nn.GELU(), nn.Linear(9, 5), nn.Softmax(1)),
        (20,),
        ["linear", "quantized_activation", "linear", "softmax"],
    ),
    (lambda: nn.Sequential(nn.Linear(20, 9), nn.BatchNorm1d(9), nn.ReLU6(), nn.Linear(9, 5)), (20,), ["linear"] * 2),
    (
        lambda: nn.Sequential(nn.Linear(20, 9), nn.Hardtanh(-0.5, 1.5), nn.Linear(9, 5)),
        (4, 20),
        ["linear"] * 2,
    ),
    (
        lambda: nn.Sequential(nn.Linear(20, 9), nn.LayerNorm(9), nn.Linear(9, 5)),
        (20,),
        ["linear", "layer_norm", "quantize", "linear"],
    ),
    (lambda: nn.Conv2d(4, 6, 3, padding=1), C, ["conv", "dequantize"]),
    (lambda: nn.Conv2d(4, 6, (3, 2), 2, (1, 0), bias=False), C, ["conv", "dequantize"]),
    (lambda: nn.Conv2d(4, 8, 3, dilation=2, groups=2, padding="same"), C, ["conv", "dequantize"]),
    (lambda: nn.Conv2d(4, 8, 3, groups=4, padding=1), C, ["conv", "dequantize"]),
    (lambda: nn.Conv2d(4, 4, 3, 2, groups=4, padding=1), C, ["conv", "dequantize"]),
    (lambda: nn.Sequential(nn.Conv1d(4, 6, 3, padding=1), nn.Tanh(), nn.Conv1d(6, 4, 5, 2)), (4, 19), []),
    (
        lambda: nn.Sequential(
            nn.Conv2d(4, 6, 3), nn.ReLU(), nn.MaxPool2d(2, ceil_mode=True), nn.Flatten(), nn.Linear(72, 5)
        ),
        C,
        ["conv", "max_pool", "linear"],
    ),
    (
        lambda: nn.Sequential(
            nn.Conv2d(4, 6, 3), nn.AvgPool2d(3, 2, 1, count_include_pad=False), nn.ReLU(), nn.Flatten(),
            nn.Linear(72, 5),
        ),
        C,
        ["conv", "avg_pool", "linear"],
    ),
    (
        lambda: nn.Sequential(
            nn.Conv2d(4, 6, 3), nn.AvgPool2d(3, 2, 1), nn.AdaptiveAvgPool2d((2, 3)), nn.Conv2d(6, 3, 1)
        ),
        C,
        ["conv", "avg_pool", "avg_pool", "conv", "dequantize"],
    ),
    (
        lambda: nn.Sequential(nn.Conv2d(4, 6, 3), nn.SiLU(), nn.GlobalAvgPool(), nn.Linear(6, 5)),
        C,
        ["conv", "quantized_activation", "avg_pool", "linear"],
    ),
    (
        lambda: nn.Sequential(
            nn.Conv2d(4, 4, 1), nn.Residual(nn.Conv2d(4, 6, 3, 2, 1), nn.PadShortcut(6, 2), "relu"), nn.Conv2d(6, 2, 1)
        ),
        C,
        ["conv", "conv", "pad", "add", "conv", "dequantize"],
    ),
    (
        lambda: nn.Sequential(
            nn.Linear(6, 6),
            nn.Residual(nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6)), None),
            nn.Linear(6, 3),
        ),
        (6,),
        ["linear", "linear", "linear", "add", "linear"],
    ),
    (lambda: nn.Sequential(nn.Linear(8, 6), nn.Flatten(), nn.Linear(216, 5)), C, ["linear"] * 2),
    (
        lambda: nn.Sequential(nn.Conv2d(4, 6, 3, padding=1), nn.Linear(8, 5)),
        C,
        ["conv", "dequantize", "quantize", "linear"],
    ),
    (
        lambda: nn.Sequential(nn.Conv2d(4, 6, 3), nn.Conv2d(6, 6, 3), nn.MaxPool2d(2)),
        C,
        ["conv", "conv", "dequantize", "max_pool"],
    ),
]  # fmt: skip


@pytest.mark.parametrize(("make", "shape", "steps"), LAYERS, ids=[str(k) for k in range(len(LAYERS))])
def test_layers(make: Any, shape: tuple[int, ...], steps: list[str]) -> None:
    """Each kind of step, beside float32."""
    session = check(make(), shape)
    got = [op.removeprefix("quantized_") if "activation" not in op else op for op in ops(session)]
    assert got[0] == "quantize" and (not steps or got[1:] == steps)


@pytest.mark.parametrize("name", ["mlp", "lenet5", "alexnet4", "resnet8"])
def test_the_zoo(name: str) -> None:
    shape = fnn.models.input_shape(name)
    session = check(fnn.models.create(name, batch_norm=True), shape, 20)
    assert not {"linear", "conv", "max_pool", "avg_pool", "add", "activation"} & set(ops(session))
    assert session.report is not None and session.report.weight_bytes < 0.3 * session.report.weight_bytes_float32


def net() -> Any:
    return nn.Sequential(
        nn.Conv2d(3, 9, 3, padding=1), nn.ReLU(),
        nn.Residual(
            nn.Sequential(nn.Conv2d(9, 9, 3, padding=1, groups=9), nn.SiLU(), nn.Conv2d(9, 9, 1)), None, "relu6"
        ),
        nn.MaxPool2d(2), nn.Conv2d(9, 18, 3, 2, groups=3), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(72, 10),
    )  # fmt: skip


NET = (3, 13, 12)


@pytest.fixture(scope="module")
def session() -> Any:
    return fnn.quantize(net(), data(NET, 64))


def test_the_same_bits_everywhere(session: Any) -> None:
    """Instruction sets, backends, batches, neighbours, values that saturate."""
    x = data(NET, 9, 3)
    x[3] *= 1e6
    x[4, 0, 0, 0], x[5, 0, 0, 0], x[5, 0, 0, 1] = np.nan, np.inf, -np.inf
    with fnn.use("reference"):
        want = session(x)
    assert np.isfinite(want).all()
    for isa in runtime.isas():
        with active(isa):
            np.testing.assert_array_equal(session(x), want)
    np.testing.assert_array_equal(np.concatenate([session(each[None]) for each in x]), want)
    np.testing.assert_array_equal(session(x[::-1]), want[::-1])


def test_threads_and_clones(session: Any) -> None:
    x, results = data(NET, 40, 3), {}
    want = session(x)
    before = fnn.get_num_threads()
    try:
        for threads in (1, 2, 4):
            fnn.set_num_threads(threads)
            np.testing.assert_array_equal(session(x), want)
    finally:
        fnn.set_num_threads(before)
    clones = [session.clone() for _ in range(4)]

    def work(k: int) -> None:
        results[k] = clones[k](x)

    workers = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert clones[0].report is session.report
    for result in results.values():
        np.testing.assert_array_equal(result, want)


def test_files_and_pickles(session: Any, tmp_path: Path) -> None:
    x = data(NET, 5, 3)
    session.save(tmp_path / "net.fastnn")
    loaded, pickled = fnn.load(tmp_path / "net.fastnn"), pickle.loads(pickle.dumps(session))
    for other in (loaded, pickled):
        np.testing.assert_array_equal(other(x), session(x))
    assert ops(loaded) == ops(session) and "quantized_conv" in loaded.describe()
    assert loaded.report is None and str(pickled.report) == str(session.report)


def test_a_call_allocates_nothing(session: Any) -> None:
    x, y = data(NET, 4), np.empty((4, 10), F32)
    for _ in range(3):
        session.run(x, out=y)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    tracemalloc.reset_peak()
    for _ in range(10):
        session.run(x, out=y)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak - before < 2000


@pytest.mark.parametrize(
    "damage",
    [
        lambda step, plan: step["options"].update(zero=256),
        lambda step, plan: step["options"].update(low=200, high=100),
        lambda step, plan: step["options"].update(groups=2),
        lambda step, plan: step["options"].update(padding=1 << 30, stride=1 << 29),
        lambda step, plan: step["options"].update(kernel_size=[9, 3]),
        lambda step, plan: step["options"].update(outputs=10),
        lambda step, plan: step["options"].pop("x_zero"),
        lambda step, plan: step.update(dtype=None),
        lambda step, plan: step.update(dtype="float64"),
        lambda step, plan: step.update(op="conv"),
        lambda step, plan: step.update(inputs=[0]),
        lambda step, plan: step["constants"].update(bias=step["constants"]["multiplier"]),
        lambda step, plan: plan.update(dtype="float64"),
        lambda step, plan: plan["steps"][0]["options"].update(scale=0.0),
        lambda step, plan: plan["steps"][0].update(dtype=None),
        lambda step, plan: plan["steps"].pop(),
    ],
)
def test_damaged_files(damage: Any, session: Any, tmp_path: Path) -> None:
    """Every number in a plan is checked before a kernel sees it."""
    path = tmp_path / "net.fastnn"
    session.save(path)
    content = path.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])
    plan = json.loads(header["__metadata__"]["fastnn.session"])
    damage(plan["steps"][1], plan)
    header["__metadata__"]["fastnn.session"] = json.dumps(plan)
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + content[start:])
    with pytest.raises(ValueError, match="is damaged"):
        fnn.load(path)


def test_weights_whose_sums_leave_int32(session: Any, tmp_path: Path) -> None:
    path = tmp_path / "net.fastnn"
    session._graph.constants["0.bias"][0], kept = 2**31 - 1, session._graph.constants["0.bias"][0]
    session.save(path)
    session._graph.constants["0.bias"][0] = kept
    with pytest.raises(ValueError, match="may leave int32"):
        fnn.load(path)


# ---- data ----


def test_kinds_of_data() -> None:
    """The same ranges, however data come."""
    model, x, y = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3)), data((6,), 40), np.arange(40) % 3
    want = fnn.quantize(model, x).report
    given = [
        (x, y),
        x.astype(np.float64),
        fnn.data.ArrayDataset(x, y),
        fnn.data.Loader((x, y), 16, shuffle=False),
        [x[:7], x[7:]],
        iter([(x[:30], y[:30]), (x[30:], y[30:])]),
    ]
    for each in given:
        report = fnn.quantize(model, each, (6,)).report
        assert [step.scale for step in report.steps] == [step.scale for step in want.steps] and report.samples == 40
    assert fnn.quantize(model, x, max_samples=9).report.samples == 9
    assert fnn.quantize(model, [x, x], max_samples=50).report.samples == 50
    whole = fnn.quantize(nn.Linear(6, 5), np.full((3, 6), 255, np.uint8)).report.steps[0]
    assert whole.high == pytest.approx(1) and whole.low == 0


def test_methods() -> None:
    """An outlier widens the range, but for percentiles; no range renders a value better than the one by mse."""
    model, x = nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 3)), data((6,), 400)
    x[0, 0] = 30
    found = {}
    for method in ("minmax", "percentile", "mse"):
        report = check_report(fnn.quantize(model, x, method=method, percentile=99.8))
        assert report.method == method
        found[method] = report.steps[0]
    assert found["minmax"].high > 29 and found["percentile"].high < 6
    assert found["mse"].sqnr > max(found["minmax"].sqnr, found["percentile"].sqnr) - 0.1  # bins are not exact


def check_report(session: Any) -> Any:
    report = session.report
    lines = str(report).splitlines()
    assert lines[0].split() == ["step", "modules", "range", "scale", "zero", "SQNR"]
    assert len(lines) >= len(report.steps) + 2 and len(report.steps) == len(session._graph.steps)
    return report


def test_the_report() -> None:
    x, y = data((20,), 200), np.random.default_rng(0).integers(0, 5, 200)
    model = nn.Sequential(nn.Linear(20, 30), nn.ReLU(), nn.Linear(30, 5))
    session = fnn.quantize(model, (x, y))
    report = check_report(session)
    assert report.accuracy == (session(x).argmax(1) == y).mean()
    assert report.accuracy_float32 == (fnn.compile(model, 20)(x).argmax(1) == y).mean()
    assert "accuracy:" in str(report) and "SQNR" in str(report)
    first, hidden, last = report.steps
    assert first.modules == () and hidden.modules == ("0 (Linear)", "1 (ReLU)") and last.scale == 0
    assert first.low <= x.min() + first.scale and first.high >= x.max() - first.scale and hidden.low == 0
    want = fnn.compile(model, 20)(x)
    noise = 10 * math.log10(float((want.astype(float) ** 2).sum() / ((want.astype(float) - session(x)) ** 2).sum()))
    assert report.sqnr == pytest.approx(noise, abs=0.01) and report.samples == 200
    assert report.weight_bytes_float32 == 4 * (20 * 30 + 30 + 30 * 5 + 5)
    assert report.weight_bytes == 20 * 30 + 30 * 5 + 8 * 35
    assert fnn.compile(model, 20).report is None


def test_excluded_modules() -> None:
    model = nn.Sequential(nn.Sequential(nn.Linear(6, 5), nn.ReLU()), nn.Linear(5, 5), nn.Linear(5, 3))
    assert (
        ops(fnn.quantize(model, data((6,)), exclude=["0"]))
        == ["linear", "activation", "quantize"] + ["quantized_linear"] * 2
    )
    assert ops(fnn.quantize(model, data((6,)), exclude=["1"])) == [
        "quantize", "quantized_linear", "activation", "linear", "quantize", "quantized_linear",
    ]  # fmt: skip


# ---- dynamic ----


def test_dynamic() -> None:
    model = nn.Sequential(
        nn.Conv1d(3, 4, 3), nn.ReLU(), nn.Linear(8, 7), nn.ReLU6(), nn.Flatten(), nn.Linear(28, 6), nn.GELU(),
        nn.Linear(6, 2),
    )  # fmt: skip
    session = fnn.quantize(model, input_shape=(3, 10))
    assert ops(session) == ["conv", "activation", "dynamic_linear", "dynamic_linear", "activation", "dynamic_linear"]
    x = data((3, 10), 9)
    want, got = fnn.compile(model, (3, 10))(x), session(x)
    assert np.abs(want - got).max() < 0.03 * np.abs(want).max()
    assert (
        session.report.method == "dynamic"
        and math.isnan(session.report.sqnr)
        and "of each sample" in str(session.report)
    )


def test_dynamic_samples_are_apart(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(33, 20), nn.ReLU(), nn.Linear(20, 6))
    session = fnn.quantize(model, input_shape=33, batch=None)
    x = data((33,), 12)
    x[2] *= 1e5
    x[3], x[4, 0], x[5, 0] = 0, np.nan, np.inf
    want = session(x)
    np.testing.assert_array_equal(np.concatenate([session(each[None]) for each in x]), want)
    for isa in runtime.isas():
        with active(isa):
            np.testing.assert_array_equal(session(x), want)
    with fnn.use("reference"):
        np.testing.assert_array_equal(session(x), want)
    session.save(tmp_path / "d")
    np.testing.assert_array_equal(fnn.load(tmp_path / "d")(x), want)


# ---- wrong input ----

LINEAR = nn.Linear(6, 5)
BAD = data((6,))
BAD[3, 2] = np.nan


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda: fnn.quantize("model", BAD), TypeError, "model is a str"),
        (lambda: fnn.quantize(LINEAR, BAD), ValueError, "nan or inf, in sample 3"),
        (lambda: fnn.quantize(LINEAR, data((6,), 0)), ValueError, r"shape \(0, 6\)"),
        (lambda: fnn.quantize(LINEAR, []), ValueError, "holds no batch"),
        (lambda: fnn.quantize(LINEAR, data((7,))), ValueError, "Linear"),
        (lambda: fnn.quantize(LINEAR, data((7,)), 6), ValueError, r"shape \(24, 7\); expected \(N, 6"),
        (lambda: fnn.quantize(LINEAR, [data((6,)), data((7,))]), ValueError, "all alike"),
        (lambda: fnn.quantize(LINEAR, 3), TypeError, "calibration_data is of type int"),
        (lambda: fnn.quantize(LINEAR, "data"), TypeError, "calibration_data is of type str"),
        (lambda: fnn.quantize(LINEAR, np.array(["a"])), TypeError, "calibration_data has dtype"),
        (lambda: fnn.quantize(LINEAR, np.array(1.0)), ValueError, r"calibration_data has shape \(\)"),
        (lambda: fnn.quantize(LINEAR, iter([(np.ones((2, 4)), None)])), ValueError, r"2 samples with y of shape \(\)"),
        (lambda: fnn.quantize(LINEAR, np.ones((2, 4)), exclude=[["0"]]), ValueError, "exclude names"),
        (lambda: fnn.quantize(LINEAR, (data((6,)), np.zeros(3))), ValueError, r"24 samples and labels of shape \(3,\)"),
        (lambda: fnn.quantize(LINEAR), ValueError, "input_shape is None"),
        (lambda: fnn.quantize(LINEAR, data((6,)), method="best"), ValueError, "method is 'best'"),
        (lambda: fnn.quantize(LINEAR, data((6,)), percentile=0), ValueError, "percentile"),
        (lambda: fnn.quantize(LINEAR, data((6,)), percentile=101), ValueError, "percentile"),
        (lambda: fnn.quantize(LINEAR, data((6,)), exclude="fc"), TypeError, "exclude is 'fc'"),
        (lambda: fnn.quantize(LINEAR, data((6,)), exclude=["fc"]), ValueError, "exclude names 'fc'"),
        (lambda: fnn.quantize(LINEAR, data((6,)), max_samples=0), ValueError, "max_samples"),
        (lambda: fnn.quantize(LINEAR, data((6,)), batch=0), ValueError, "batch"),
        (lambda: fnn.quantize(nn.Softmax(1), data((6,))), ValueError, "steps are softmax"),
        (lambda: fnn.quantize(nn.Conv2d(4, 2, 3), input_shape=C), ValueError, "need calibration_data"),
        (lambda: fnn.quantize(nn.Sequential(LINEAR), data((6,)), exclude=["0"]), ValueError, "nothing to quantize"),
    ],
)  # fmt: skip
def test_wrong_input(call: Any, error: Any, says: str) -> None:
    with pytest.raises(error, match=says) as caught:
        call()
    assert str(caught.value).startswith(("quantize: ", "compile: "))


def test_values_that_are_not_finite() -> None:
    model = nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 3))
    model[0].weight.data[...] = 3e38
    with pytest.raises(ValueError, match=r"0 \(Linear\) gives values from"):
        fnn.quantize(model, data((6,)))


# ---- numbers ----


@pytest.mark.parametrize(
    ("low", "high"), [(0.0, 6.0), (-1.0, 1.0), (2.0, 5.0), (-5.0, -2.0), (0.0, 0.0), (-1e-40, 0.0)]
)
def test_zero_is_exact(low: float, high: float) -> None:
    made = affine(low, high)
    assert 0 <= made.zero <= 255 and made.scale == np.float32(made.scale) > 0
    assert made.values()[made.zero] == 0
    if low != high and high - low > 1e-30:
        assert made.values()[0] <= min(low, 0) + made.scale and made.values()[255] >= max(high, 0) - made.scale


def test_weights_of_dead_channels_and_large_biases() -> None:
    weight = np.array([[0, 0], [1e-9, -1e-9], [3, -1]], F32)
    bias, x = np.array([5, 1e4, 0], F32), affine(0, 2.55)
    q, scale, whole = quantized_weights(weight, bias, x)  # type: ignore[misc]
    np.testing.assert_allclose(scale * x.scale * (whole + x.zero * q.sum(1)), bias, rtol=1e-6, atol=1e-3)
    assert np.abs(q[2]).tolist() == [127, 42] and (np.abs(whole.astype(int)) <= 2**30).all()
    assert quantized_weights(np.ones((1, 70_000), F32), None, x) is None


@pytest.mark.parametrize("scales", [(1.0, 1.0, 1.0), (0.01, 3.0, 0.2), (1e-6, 1e-7, 1e-6), (1e3, 1.0, 1.0)])
def test_sums(scales: tuple[float, float, float]) -> None:
    """Of two values, to within a hundredth of a step."""
    from fastnn.infer.quantization.numbers import Affine

    a, b, y = (Affine(scale, zero) for scale, zero in zip(scales, (3, 128, 77), strict=True))
    by_a, by_b, bias, multiplier = added(a, b, y)
    assert max(by_a, by_b) >= 16384
    qa, qb = np.arange(256)[:, None], np.arange(256)
    want = (a.values()[:, None] + b.values()) / y.scale
    got = (by_a * qa + by_b * qb + bias) * multiplier
    assert np.abs(want - got).max() <= 0.01 * max(1.0, max(scales[:2]) / scales[2])


def test_layers_too_deep_for_int32_stay_in_float32() -> None:
    model = nn.Sequential(nn.Linear(70_000, 2), nn.Linear(2, 2))
    model[0].weight.data[...] = 1e-3
    session = fnn.quantize(model, np.abs(data((70_000,), 3)))
    assert ops(session) == ["linear", "quantize", "quantized_linear"]


# ---- ARM ----


def test_the_same_bits_on_arm(tmp_path: Path) -> None:
    """NEON in an emulator, with and without its dot products, and an instruction set of this machine."""
    kernels = [ROOT / f"kernels/cpu/{name}.cpp" for name in ("quantized", "packed_int8")]
    sources = [ROOT / "tests/neon/quantized.cpp", *kernels]
    dot = ["-march=armv8.2-a+dotprod", "-DFASTNN_DOT", "-DFASTNN_PRODUCT=packed_int8_dot"]
    try:
        commands = [build("neon", tmp_path, sources, more) for more in ((), dot)]
        commands.append(build(runtime.isas()[-1], tmp_path, sources))
    except Unavailable as reason:
        pytest.skip(str(reason))
    outputs = [subprocess.run([*command, "200"], capture_output=True, text=True) for command in commands]
    assert [done.returncode for done in outputs] == [0] * 3, [done.stderr for done in outputs]
    assert outputs[0].stdout == outputs[1].stdout == outputs[2].stdout != ""


# ---- accuracy ----


def lost(name: str, train: Any, test: Any, lr: float) -> float:
    """Points of accuracy that bytes cost a network after one epoch."""
    normalize = fnn.data.PerChannelStandardize().fit(train.x)
    loader = fnn.data.Loader(train, 32, transforms=[normalize])
    fnn.manual_seed(0)
    model = fnn.models.create(name)
    loss, opt = nn.CrossEntropyLoss(), fnn.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
    for x, y in loader:
        loss(model(x), y)
        opt.zero_grad()
        model.backward(loss.backward())
        opt.step()
    session = fnn.quantize(model, loader, max_samples=256)
    plain, right = fnn.compile(model, session.input_shape), np.zeros(2)
    for x, y in fnn.data.Loader(test, 250, transforms=[normalize], shuffle=False):
        right += [(each(x).argmax(1) == y).sum() for each in (plain, session)]
    accuracy, quantized = 100 * right / len(test)
    assert accuracy > 15 and session.report.samples == 256 and session.report.accuracy > 0.15
    return float(accuracy - quantized)


def test_lenet5_on_mnist(mnist_folder: Path) -> None:
    train, test = (fnn.data.mnist(part, mnist_folder) for part in ("train", "test"))
    assert lost("lenet5", train.subset(slice(4000)), test, 0.01) < 0.5


def test_resnet8_on_cifar10(cifar_folder: Path) -> None:
    train, test = (fnn.data.cifar10(part, cifar_folder) for part in ("train", "test"))
    assert lost("resnet8", train.subset(slice(3000)), test.subset(slice(4000)), 0.03) < 0.5


# ---- ONNX ----


def test_a_network_from_a_file(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    model, path, x = fnn.models.create("lenet5"), tmp_path / "net.onnx", data((1, 28, 28), 20)
    fnn.onnx.export(model.eval(), path, (1, 28, 28))
    loaded = fnn.onnx.load(path)
    np.testing.assert_array_equal(fnn.quantize(loaded, x)(x), fnn.quantize(model, x)(x))
    assert "dynamic_linear" in ops(fnn.quantize(loaded))
