"""The certificate: every implementation keeps its promises, and the machinery catches those that would not."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastnn import certify, implementations
from fastnn.accuracy import COMMITTED, Certificate, accuracy
from fastnn.implementations import Implementation
from fastnn.kernels import reference
from fastnn.oracle import mp
from fastnn.sweep import PATTERNS, blocks
from fastnn.table import OPS
from fastnn.ulp import FLOAT32, FLOAT64, Exact, Tail, measure, prepare

Change = Callable[[np.ndarray, np.ndarray], np.ndarray]


@pytest.mark.parametrize("name", OPS)
def test_promises_are_kept(name: str) -> None:
    certificate = certify.run([name], quick=True)
    assert {record.implementation for record in certificate.records} == {run.name for run in implementations.find()}
    assert certificate.ok, f"\n{certificate}"


def wrong(name: str, *, forward: Change | None = None, backward: Change | None = None) -> Certificate:
    """Certify the reference backend with its results tampered with."""

    def changed_forward(op: str, x: np.ndarray, *params: Any) -> np.ndarray:
        y = reference.forward(op, x, *params)
        return y if forward is None else forward(x, y).astype(x.dtype)

    def changed_backward(op: str, dy: np.ndarray, saved: np.ndarray, *params: Any) -> Any:
        dx = reference.backward(op, dy, saved, *params)
        if backward is None:
            return dx
        if isinstance(dx, tuple):
            return dx[0], backward(saved, dx[1]).astype(dx[1].dtype)
        return backward(saved, dx).astype(dx.dtype)

    tampered = Implementation("tampered", changed_forward, changed_backward)
    with np.errstate(all="ignore"):
        return certify.run([name], implementations=[tampered], dtypes=["float32", "float16"], quick=True)


def step(y: np.ndarray, ulps: int) -> np.ndarray:
    """The value `ulps` places further from zero."""
    return (y.view(np.int32) + np.int32(ulps)).view(np.float32) if y.dtype == np.float32 else y


def half_up(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """One place further up, in float16 only."""
    return np.nextafter(y, np.float16(9)) if x.dtype == np.float16 else y


def shifted_near_zero(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Off by 1e-5 where gelu's derivative crosses zero."""
    return np.where(np.abs(x + 0.7518) < 1e-2, y + np.float32(1e-5), y)


FORWARD: dict[str, tuple[str, Change, str]] = {
    "three ULP off": ("sigmoid", lambda x, y: np.where(np.abs(y) > 1e-30, step(y, 3), y), "ULP"),
    "flushed tail": ("silu", lambda x, y: np.where(x < -80, x * 0, y), "ULP"),
    "one wrong region": ("gelu", lambda x, y: np.where((x > -5.51) & (x < -5.49), y * np.float32(1.5), y), "ULP"),
    "NaN swallowed": ("relu", lambda x, y: np.where(np.isnan(x), 0, y), "mismatches"),
    "NaN made up": ("softplus", lambda x, y: np.where(x > 1e38, np.nan, y), "mismatches"),
    "early infinity": ("gelu", lambda x, y: np.where(x > 1.7e38, np.inf, y), "mismatches"),
    "infinity lost": ("leaky_relu", lambda x, y: np.clip(y, -3.4e38, 3.4e38), "mismatches"),
    "sign of zero lost": ("silu", lambda x, y: y + 0, "mismatches"),
    "subnormal results off": ("silu", lambda x, y: np.where(np.abs(y) < 1e-38, np.float32(-2e-38), y), "subnormal"),
    "half not rounded": ("mish", half_up, "mismatches"),
}
BACKWARD: dict[str, tuple[str, Change, str]] = {
    "five ULP off": ("tanh", lambda x, y: np.where(np.abs(y) > 1e-30, step(y, 5), y), "ULP"),
    "near the derivative's zero": ("gelu", shifted_near_zero, "absolute"),
    "NaN swallowed": ("relu", lambda x, y: np.where(np.isnan(x), 0, y), "mismatches"),
    "gradient of alpha": ("prelu", lambda x, y: np.where(x < -9, y * np.float32(1.000001), y), "ULP"),
}


@pytest.mark.parametrize("fault", FORWARD)
def test_wrong_forward_is_caught(fault: str) -> None:
    name, change, reason = FORWARD[fault]
    certificate = wrong(name, forward=change)
    assert not certificate.ok
    assert all(record.ok for record in certificate.records if record.direction != "forward")
    assert any(reason in line.partition("FAIL: ")[2] for line in str(certificate).splitlines()), f"\n{certificate}"


@pytest.mark.parametrize("fault", BACKWARD)
def test_wrong_backward_is_caught(fault: str) -> None:
    name, change, reason = BACKWARD[fault]
    certificate = wrong(name, backward=change)
    assert not certificate.ok
    assert all(record.ok for record in certificate.records if record.direction == "forward")
    assert any(reason in line.partition("FAIL: ")[2] for line in str(certificate).splitlines()), f"\n{certificate}"


def test_the_untampered_backend_passes() -> None:
    assert wrong("gelu").ok and wrong("prelu").ok


def exact32(value: float, **more: Any) -> Exact:
    return prepare(FLOAT32, np.zeros(1, np.float32), np.array([value]), **more)


def test_ulp_in_float32() -> None:
    for value in (1.0, 1.5, 2.0, 3e38, 1.2e-38, -7.0):
        single = np.float32(value)
        up = np.nextafter(single, np.float32(np.inf))
        ulp = float(np.spacing(np.abs(single)))
        error = measure(exact32(float(single)), np.array([up])).normal.error
        assert error == pytest.approx((float(up) - float(single)) / ulp)
    half_way = (1.0 + float(np.nextafter(np.float32(1), np.float32(2)))) / 2
    assert measure(exact32(half_way), np.array([1.0], np.float32)).normal.error == 0.5


def test_kinds_of_error() -> None:
    tiny = np.float32(2.0**-127)
    assert measure(exact32(0.0), np.array([tiny])).subnormal.error == 0.5
    assert measure(exact32(0.0), np.array([tiny])).normal.error == 0.0
    near = measure(exact32(0.25, dy=np.array([2.0], np.float32), near=np.array([True])), np.array([0.5], np.float32))
    assert near.near_zero.error == 0.125 and near.normal.error == 0.0
    infinity, largest = np.array([np.inf], np.float32), np.array([FLOAT32.largest], np.float32)
    assert measure(exact32(1e39), infinity).mismatches == 0
    assert measure(exact32(1e39), -infinity).mismatches == 1
    assert measure(exact32(1e39), largest).normal.error > 4
    assert measure(exact32(FLOAT32.largest + 2.0**103), largest).normal.error == 0.5
    assert measure(exact32(FLOAT32.largest), infinity).mismatches == 1
    assert measure(exact32(math.inf), infinity).mismatches == 0
    assert measure(exact32(math.inf), largest).mismatches == 1
    assert measure(exact32(math.nan), np.array([math.nan], np.float32)).mismatches == 0
    assert measure(exact32(math.nan), infinity).mismatches == 1
    assert measure(exact32(1.0), np.array([math.nan], np.float32)).mismatches == 1


@pytest.mark.parametrize("value", [1.0, 2.0**-1022, 2.0**-1000, 1.7e308, 3e-200])
def test_ulp_in_float64(value: float) -> None:
    """A third of an ULP beyond `value` is told from `value` itself, down to the smallest normal number."""
    m = mp()
    ulp = math.ulp(value)
    boost = 2.0**600 if value < 2.0**-500 else 1.0
    third = float(m.number(ulp) * boost / 3)
    tail = Tail(np.array([boost]), np.array([third]))
    exact = prepare(FLOAT64, np.zeros(1), np.array([value]), tail=tail)
    assert measure(exact, np.array([value])).normal.error == pytest.approx(1 / 3)
    assert measure(exact, np.array([math.nextafter(value, math.inf)])).normal.error == pytest.approx(2 / 3)


@pytest.mark.parametrize(("stride", "number"), [(1, 64), (4099, 1), (262147, 7), (2**32 - 1, 3)])
def test_blocks_cover_every_pattern_once(stride: int, number: int) -> None:
    runs = list(blocks(PATTERNS, stride, number))
    assert len(runs) <= number and runs[0][0] == 0 and runs[-1][1] == PATTERNS
    assert all(start % stride == 0 for start, _ in runs)
    assert all(before[1] == after[0] for before, after in zip(runs, runs[1:], strict=False))


def test_jobs_do_not_change_the_result() -> None:
    alone, together = (certify.run(["softsign"], dtypes=["float32"], quick=True, jobs=jobs) for jobs in (1, 2))
    assert alone.records == together.records


def test_json_round_trip(tmp_path: Path) -> None:
    certificate = certify.run(["prelu"], dtypes=["float32"], quick=True)
    certificate.save(tmp_path / "certificate.json")
    assert Certificate.load(tmp_path / "certificate.json") == certificate


def arguments(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    certify.add_arguments(parser)
    return parser.parse_args(words)


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "relu.json"
    assert certify.main(arguments("relu", "--quick", "--backend", "reference", "--json", str(path))) == 0
    assert "ok" in capsys.readouterr().out
    assert {record.op for record in Certificate.load(path).records} == {"relu"}


def test_command_reports_a_broken_promise(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    broken = wrong("sigmoid", forward=lambda x, y: step(y, 3))
    monkeypatch.setattr(certify, "run", lambda *args, **kwargs: broken)
    assert certify.main(arguments("sigmoid", "--backend", "reference")) == 1
    assert "FAIL" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [(("erf",), "op"), (("--backend", "cuda"), "backend"), (("--isa", "v9"), "isa"), (("--stride", "0"), "stride")],
)
def test_command_refuses(words: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert certify.main(arguments("--quick", *words)) == 2
    assert message in capsys.readouterr().err


def test_committed_certificate() -> None:
    """Its promises are kept, and every pass of every op was swept over all float32 patterns on one instruction set."""
    assert accuracy().ok
    for op in OPS.values():
        for direction in ("forward", "backward"):
            assert any(
                record.exhaustive and (record.direction, record.dtype) == (direction, "float32")
                for record in accuracy(op.name).records
                if record.implementation.startswith("native")
            ), (op.name, direction)


def test_accuracy_refuses_and_explains(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="erf"):
        accuracy("erf")
    monkeypatch.setattr(sys.modules["fastnn.accuracy"], "COMMITTED", tmp_path / COMMITTED.name)
    with pytest.raises(FileNotFoundError, match="certify"):
        accuracy("relu")
