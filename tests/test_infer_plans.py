"""What sessions make of a graph for the native kernels: fusions, layouts, conversions; it changes no result."""

from __future__ import annotations

import hashlib
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from layouts import active, num_threads
from test_infer_session import batch, check, lively

import fastnn as fnn
from fastnn import nn
from fastnn.infer.arena import planned
from fastnn.infer.steps import KINDS, overwrites
from fastnn.kernels.cpu import runtime

FUSED = [isa for isa in runtime.isas() if isa != "v2"]


def ops(session: Any) -> list[str]:
    return [step.op for step in session._plan.steps]


def conv(inputs: int, outputs: int, size: int = 3, **options: Any) -> Any:
    return nn.Conv2d(inputs, outputs, size, padding=size // 2, **options)


def separable(activation: Any = nn.ReLU6) -> Any:
    """Depthwise and pointwise convolutions in turn, with batch norm."""
    parts: list[Any] = [conv(3, 24, stride=2, bias=False), nn.BatchNorm2d(24), activation()]
    for inputs, outputs, stride in ((24, 40, 1), (40, 48, 2)):
        parts += [conv(inputs, inputs, stride=stride, groups=inputs, bias=False), nn.BatchNorm2d(inputs), activation()]
        parts += [conv(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs), activation()]
    return nn.Sequential(*parts, nn.GlobalAvgPool(), nn.Linear(48, 10))


CASES: dict[str, tuple[Any, tuple[int, ...], list[str]]] = {
    "first convolution reads planes": (lambda: conv(3, 8), (3, 6, 5), ["blocked_conv", "unblock"]),
    "activations of all kinds": (
        lambda: nn.Sequential(conv(3, 8), nn.GELU(), conv(8, 8), nn.ReLU(), conv(8, 8), nn.PReLU()),
        (3, 6, 5),
        ["blocked_conv", "blocked_conv", "blocked_conv", "unblock"],
    ),
    "learned by channel": (
        lambda: nn.Sequential(conv(3, 8), nn.PReLU(8), conv(8, 16)),
        (3, 6, 5),
        ["blocked_conv", "unblock", "activation", "blocked_conv", "unblock"],
    ),
    "maxima over squares": (
        lambda: nn.Sequential(conv(3, 16), nn.ReLU(), nn.MaxPool2d(2), conv(16, 20), nn.MaxPool2d(2, ceil_mode=True)),
        (3, 9, 9),
        ["blocked_conv", "blocked_conv", "unblock"],
    ),
    "ceil mode with a rest": (
        lambda: nn.Sequential(conv(3, 16), nn.MaxPool2d(2, ceil_mode=True)),
        (3, 9, 9),
        ["blocked_conv", "blocked_max_pool", "unblock"],
    ),
    "averages": (
        lambda: nn.Sequential(
            conv(3, 16),
            nn.AvgPool2d(3, 2, 1),
            nn.AvgPool2d(2, ceil_mode=True, count_include_pad=False),
            nn.AdaptiveAvgPool2d((2, 3)),
        ),
        (3, 17, 19),
        ["blocked_conv", "blocked_avg_pool", "blocked_avg_pool", "unblock", "adaptive_avg_pool"],
    ),
    "columns moved": (
        lambda: nn.Sequential(conv(3, 32), nn.Flatten(), nn.Linear(32 * 20, 7)),
        (3, 4, 5),
        ["blocked_conv", "linear"],
    ),
    "no full blocks": (
        lambda: nn.Sequential(conv(3, 20), nn.Flatten(), nn.Linear(20 * 20, 7)),
        (3, 4, 5),
        ["blocked_conv", "unblock", "linear"],
    ),
    "single pixels": (
        lambda: nn.Sequential(conv(3, 32), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 7)),
        (3, 4, 5),
        ["blocked_conv", "blocked_avg_pool", "linear"],
    ),
    "pooled vectors": (
        lambda: nn.Sequential(conv(3, 32), nn.GlobalAvgPool()),
        (3, 4, 5),
        ["blocked_conv", "blocked_avg_pool"],
    ),
    "batch norm by itself": (
        lambda: nn.Sequential(conv(3, 8), nn.ReLU(), nn.BatchNorm2d(8), nn.Tanh()),
        (3, 4, 5),
        ["blocked_conv", "blocked_conv", "unblock"],
    ),
    "other steps are plain": (
        lambda: nn.Sequential(conv(3, 8), nn.GroupNorm(2, 8), conv(8, 8)),
        (3, 4, 5),
        ["blocked_conv", "unblock", "group_norm", "blocked_conv", "unblock"],
    ),
    "element by element": (
        lambda: nn.Sequential(conv(3, 8), nn.Softplus(beta=2.0), conv(8, 8)),
        (3, 4, 5),
        ["blocked_conv", "multiply", "activation", "divide", "blocked_conv", "unblock"],
    ),
    "one axis": (
        lambda: nn.Sequential(nn.Conv1d(3, 17, 5, 2, 3), nn.ReLU(), nn.MaxPool1d(3, 2, 1), nn.Conv1d(17, 16, 3)),
        (3, 31),
        ["blocked_conv", "blocked_max_pool", "blocked_conv", "unblock"],
    ),
    "as much behind as before, and one more": (
        lambda: nn.Sequential(nn.Conv2d(3, 8, 4, padding="same"), nn.ReLU(), nn.Conv2d(8, 8, (2, 3), padding="same")),
        (3, 9, 6),
        ["blocked_conv", "blocked_conv", "unblock"],
    ),
    "groups": (
        lambda: nn.Sequential(conv(3, 32), conv(32, 64, groups=2), conv(64, 64, groups=64), conv(64, 64, groups=16)),
        (3, 6, 5),
        ["blocked_conv", "blocked_conv", "blocked_conv", "unblock", "conv"],
    ),
    "depthwise multiplier": (
        lambda: nn.Sequential(conv(3, 8), conv(8, 24, groups=8)),
        (3, 6, 5),
        ["blocked_conv", "unblock", "conv"],
    ),
    "depthwise from planes": (lambda: conv(20, 20, groups=20), (20, 6, 5), ["block", "blocked_conv", "unblock"]),
    "hardly any results": (
        lambda: nn.Sequential(conv(3, 16), conv(16, 2)),
        (3, 6, 5),
        ["blocked_conv", "unblock", "conv"],
    ),
    "separable": (separable, (3, 17, 16), ["blocked_conv"] * 5 + ["blocked_avg_pool", "linear"]),
    "identity": (
        lambda: nn.Sequential(conv(3, 16), nn.Residual(nn.Sequential(conv(16, 16), nn.ReLU(), conv(16, 16)))),
        (3, 6, 6),
        ["blocked_conv", "blocked_conv", "blocked_conv", "unblock"],
    ),
    "projection": (
        lambda: nn.Sequential(conv(3, 16), nn.Residual(conv(16, 24, stride=2), conv(16, 24, 1, stride=2), nn.SiLU())),
        (3, 6, 6),
        ["blocked_conv", "blocked_conv", "blocked_conv", "unblock"],
    ),
    "of the input": (lambda: nn.Residual(conv(8, 8), None, nn.ReLU()), (8, 7, 5), ["block", "blocked_conv", "unblock"]),
    "body without a convolution at its end": (
        lambda: nn.Sequential(
            conv(3, 16), nn.Residual(nn.Sequential(conv(16, 16), nn.Tanh()), conv(16, 16), nn.ReLU())
        ),
        (3, 6, 6),
        ["blocked_conv", "blocked_conv", "blocked_conv", "unblock"],
    ),
    "sum that nobody can make": (
        lambda: nn.Sequential(conv(3, 16), nn.Residual(nn.Tanh(), nn.Sigmoid(), nn.ReLU())),
        (3, 6, 6),
        ["blocked_conv", "activation", "activation", "add", "activation", "unblock"],
    ),
    "residual in a residual": (
        lambda: nn.Residual(nn.Residual(conv(8, 8)), nn.Residual(conv(8, 8, 1), None, nn.ReLU())),
        (8, 6, 6),
        ["block", "blocked_conv", "blocked_conv", "add", "unblock"],
    ),
    "shortcut of other channels": (
        lambda: nn.Sequential(conv(3, 8), nn.Residual(conv(8, 20, stride=2), nn.PadShortcut(20, 2), nn.ReLU())),
        (3, 6, 6),
        ["blocked_conv", "unblock", "pad", "block", "blocked_conv", "unblock"],
    ),
    "dense only": (lambda: nn.Sequential(nn.Linear(7, 5), nn.ReLU(), nn.Linear(5, 3)), (7,), ["linear", "linear"]),
}


@pytest.mark.parametrize("name", CASES)
def test_plans(name: str, tmp_path: Any) -> None:
    make, shape, wanted = CASES[name]
    model = lively(make())
    session = check(model, shape)
    assert ops(session) == wanted, session.describe()
    x = batch(shape, 4)
    x[1] = np.nan
    want = session(x)
    assert np.isnan(want[1]).all() and np.isfinite(np.delete(want, 1, 0)).all()
    session.save(tmp_path / "model.session")
    others = session.clone(), pickle.loads(pickle.dumps(session)), fnn.load(tmp_path / "model.session")
    for other in others:
        assert ops(other) == wanted and np.array_equal(other(x), want, equal_nan=True)
    assert others[0]._plan is session._plan and others[0]._packed is session._packed
    for sample in (0, 2):
        assert (session(x[sample : sample + 1])[0] == want[sample]).all()
    with fnn.use("reference"):
        np.testing.assert_allclose(session(x[2:]), want[2:], rtol=1e-4, atol=1e-4)
    assert all(step.op in KINDS for step in session._graph.steps)


@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16"])
def test_other_dtypes_keep_the_plain_plan(dtype: str) -> None:
    session = fnn.compile(fnn.models.create("resnet8"), (3, 32, 32), dtype=dtype)
    assert session._plan is session._graph


def test_reference_runs_the_graph_beside_the_plan() -> None:
    session, x = fnn.compile(lively(fnn.models.create("resnet8")), (3, 32, 32)), batch((3, 32, 32), 2)
    want = session(x)
    with fnn.use("reference"):
        np.testing.assert_allclose(session(x), want, rtol=1e-4, atol=1e-4)
    assert (session(x) == want).all()  # the arena has been larger meanwhile


def digest(sessions: dict[str, Any]) -> str:
    found = hashlib.sha256()
    for name, session in sessions.items():
        found.update(session(batch(fnn.models.input_shape(name), 2)).tobytes())
    return found.hexdigest()


def zoo() -> dict[str, Any]:
    sessions = {}
    for name in fnn.models.names():
        fnn.manual_seed(3)
        model = fnn.models.create(name, activation="gelu" if name == "resnet14" else "relu")
        sessions[name] = fnn.compile(lively(model), fnn.models.input_shape(name))
    return sessions


@pytest.mark.skipif(len(FUSED) < 2, reason="there is only one instruction set with fused multiply-add here")
def test_the_zoo_has_the_same_bits_everywhere() -> None:
    sessions, found = zoo(), {}
    for isa in FUSED:
        for threads in (1, 2):
            with active(isa), num_threads(threads):
                found[isa, threads] = digest(sessions)
    code = "import test_infer_plans as t; print(t.digest(t.zoo()))"
    environ = {**os.environ, "FASTNN_ISA": FUSED[0], "PYTHONPATH": str(Path(__file__).parent)}
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True)
    found["process"] = done.stdout.strip()
    assert len(set(found.values())) == 1, (found, done.stderr)


def test_values_in_use_never_overlap() -> None:
    for name in fnn.models.names():
        graph = fnn.compile(fnn.models.create(name), fnn.models.input_shape(name))._plan
        layout, last = planned(graph), graph.last_uses()
        for place, step in enumerate(graph.steps):
            spans = sorted(
                (layout.values[value], layout.values[value] + 4 * int(np.prod(graph.steps[value - 1].shape)))
                for value in layout.values
                if value <= place + 1 <= last[value] + 1 and not (last[value] == place and value in overwrites(step))
            )
            assert all(end <= begin for (_, end), (begin, _) in zip(spans, spans[1:], strict=False)), (name, place)


def test_an_odd_width_is_not_written_over() -> None:
    """There a position is computed twice, which must not add to what has been added to."""
    for width, shared in ((6, True), (7, False)):
        model = nn.Sequential(
            conv(3, 16), nn.Residual(nn.Sequential(conv(16, 16), nn.ReLU(), conv(16, 16))), conv(16, 16)
        )
        session = check(lively(model), (3, 5, width))
        layout = planned(session._plan)
        assert (layout.values[1] == layout.values[3]) is shared


def test_describe() -> None:
    lines = fnn.compile(fnn.models.create("resnet8"), (3, 32, 32), batch=2).describe().splitlines()
    assert len(lines) == 13 and lines[0].startswith("step ") and "layout" in lines[0]
    assert "#3 conv 3x3 + add + relu (#2, #1)" in lines[3] and "16x32x32" in lines[3] and "blocks" in lines[3]
    assert "conv 3x3/2 + relu" in lines[4] and "#10 avg_pool 8x8/8 (#9)" in lines[10] and "4,718,592" in lines[3]
    text = fnn.compile(fnn.models.create("lenet5"), (1, 28, 28)).describe()
    assert "#1 conv 5x5 + relu + max_pool 2x2 (x)" in text and "6x14x14" in text and "pool1 (MaxPool2d)" in text
    text = fnn.compile(separable(), (3, 16, 16)).describe()
    assert "depthwise conv 3x3 + relu6" in text


def test_files_hold_no_plans(tmp_path: Any) -> None:
    """A step of a plan, which nobody checks, is refused where it comes from a file."""
    path = tmp_path / "model.session"
    fnn.compile(conv(3, 16), (3, 4, 4)).save(path)
    data = path.read_bytes()
    assert b"blocked" not in data
    for step in (b"block", b"blocked_conv"):
        changed = data[8:].replace(rb"\"op\": \"conv\"", rb"\"op\": \"" + step + rb"\"")
        assert len(changed) > len(data) - 8
        start = int.from_bytes(data[:8], "little") + len(changed) - len(data[8:])
        path.write_bytes(start.to_bytes(8, "little") + changed)
        with pytest.raises(ValueError, match="no step"):
            fnn.load(path)


@pytest.mark.parametrize("pool", [nn.MaxPool2d, nn.AvgPool2d])
def test_windows_far_larger_than_the_image_stay_plain(pool: Any) -> None:
    """Blocked kernels would keep 400 million numbers for such a window."""
    model = nn.Sequential(nn.Conv2d(4, 4, 1), pool(20001, stride=1, padding=10000), nn.Conv2d(4, 4, 1)).eval()
    session = fnn.compile(model, (4, 6, 6))
    x = np.random.default_rng(0).standard_normal((2, 4, 6, 6)).astype(np.float32)
    np.testing.assert_allclose(session(x), model(x), rtol=1e-5, atol=1e-6)
    assert "blocked_" + ("max_pool" if pool is nn.MaxPool2d else "avg_pool") not in [s.op for s in session._plan.steps]
