"""The benchmark of a device: its plumbing, on the stand-in for CuPy, whose events give times that are made up."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import emulator.cupy.record as record
import numpy as np
import pytest

import fastnn as fnn
from fastnn import cli
from fastnn.bench.claims import c2
from fastnn.bench.device import problems, runner, timing
from fastnn.bench.problems.base import Buffers

pytest.importorskip("matplotlib")


@pytest.fixture
def gpu(cupy: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A small cache, and events that take ever longer."""
    found = cupy.cuda.runtime.getDeviceProperties(0) | {"l2CacheSize": 1 << 14, "name": b"a made-up device"}
    monkeypatch.setattr(cupy.cuda.runtime, "getDeviceProperties", lambda number: found)
    times = iter(np.linspace(1.0, 1.01, 100_000))
    monkeypatch.setattr(cupy.cuda, "get_elapsed_time", lambda start, end: next(times))
    return cupy


def settings(**given: Any) -> runner.Settings:
    options = {"ops": ("relu", "dropout", "softmax"), "size": 4096, "rivals": (), "cell_seconds": 0.0, "min_samples": 3}
    return runner.Settings(**options | given)


def test_every_cell(gpu: Any) -> None:
    result = runner.run(settings(), fnn)
    cells = {(cell["op"], cell["pass"]): cell for cell in result["results"]}
    assert cells.keys() == {
        *((op, way) for op in ("relu", "dropout") for way in ("forward", "backward")),
        *(("softmax", "forward"), ("softmax_backward", "backward")),
    }
    assert result["failures"] == [] and result["device"]["name"] == "a made-up device"
    for cell in cells.values():
        ours = cell["contenders"]["fastnn"]
        assert ours["samples"] == 3 and ours["inner"] % cell["sets"] == 0
        assert ours["gb_per_s"] * ours["median_s"] == pytest.approx(cell["bytes"] / 1e9)
        assert ours["share_of_copy"] == pytest.approx(cell["copy"]["median_s"] / ours["median_s"], rel=1e-6)
        assert cell["sets"] * cell["bytes"] > problems.CACHES * (1 << 14) or cell["sets"] == 1
    assert [row["op"] for row in result["c2"]] == ["relu", "relu", "dropout", "dropout"]
    assert cells["relu", "backward"]["bytes"] == 3 * 4 * 4096


def test_sets_are_apart_and_run_in_turn(gpu: Any) -> None:
    """Every call of a sample has the memory that has rested the longest."""
    problem = problems.Elementwise("sigmoid", "backward", "float32", 64)
    assert problems.sets(problem, 64) == 1 and problems.sets(problem, 1 << 20) > 5000
    first, second = (problem.buffers(gpu, fnn) for _ in range(2))
    assert first.out.data.ptr != second.out.data.ptr and first.x.data.ptr != second.x.data.ptr
    np.testing.assert_array_equal(first.saved.get(), fnn.sigmoid(first.x.get()))
    seen: list[int] = []
    clock = timing.Clock(gpu.cuda)
    clock.seconds([lambda: seen.append(0), lambda: seen.append(1), lambda: seen.append(2)], 7)
    assert seen == [0, 1, 2, 0, 1, 2, 0]


def test_a_contender_that_fails_is_noted(gpu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(runner.Contender):
        label = "broken"

        def run(self, problem: Any, buffers: Buffers) -> Any:
            raise OSError("no luck")

    ours = runner.load(fnn, ())[0]
    monkeypatch.setattr(runner, "load", lambda fnn, names: ([Broken(), *ours], {"torch": "not installed"}))
    result = runner.run(settings(ops=("relu",), directions=("forward",)), fnn)
    assert result["failures"] == ["broken, relu forward: OSError: no luck"]
    assert list(result["results"][0]["contenders"]) == ["fastnn"]


def test_the_command(gpu: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    pytest.importorskip("rich")
    monkeypatch.setenv("COLUMNS", "200")
    command = ["bench", "--device", "cuda", "--quick", "--ops", "relu,tanh", "--sizes", "4096", "--rivals", "none"]
    assert cli.main([*command, "--out", str(tmp_path)]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c2-dark.png", "c2.png", "device.json"]
    said = capsys.readouterr().out
    assert "a made-up device" in said and "C2: Forward, 4,096 float32 on a made-up device: the 2 functions" in said
    from fastnn.bench.report import readme

    made = readme.filled("<!-- device: device.json -->\n<!-- end -->", tmp_path)
    assert "| relu forward |" in made and "Backward, 4,096 float32" in made


def test_not_measured(cupy: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a GPU, and in the README without results: these two words and nothing else."""
    pytest.importorskip("rich")
    with record.running(devices=0):
        assert cli.main(["bench", "--device", "cuda", "--out", str(tmp_path / "none")]) == 2
    said = capsys.readouterr()
    assert "C2: not measured" in said.err and "CuPy finds none" in said.err and not (tmp_path / "none").exists()
    from fastnn.bench.report import readme

    text = "<!-- device: nothing.json -->\nold\n<!-- end -->"
    assert readme.filled(text, tmp_path) == "<!-- device: nothing.json -->\nnot measured\n<!-- end -->"
    assert c2.verdict(None) == ["not measured"] and c2.holds(None) is None


def test_without_cupy(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("rich")
    monkeypatch.setitem(sys.modules, "cupy", None)
    assert cli.main(["bench", "--device", "cuda"]) == 2
    assert 'needs cupy: pip install "fastnn[cuda]"' in capsys.readouterr().err


def test_verdicts() -> None:
    """From figures: all alike and near the copy, or not."""

    def rows(*shares: float) -> list[dict[str, Any]]:
        cells = [
            {
                **{"family": "elementwise", "op": f"op{k}", "pass": "forward", "dtype": "float32", "size": 100},
                **{"bytes": 800, "copy": {"median_s": 1.0}},
                "contenders": {"fastnn": {"median_s": 1 / share, "share_of_copy": share}},
            }
            for k, share in enumerate(shares)
        ]
        return c2.figures(cells) or []

    assert c2.holds(rows(0.95, 0.97, 0.99)) is True
    assert "take about the same time for their bytes" in c2.verdict(rows(0.95, 0.97), "G")[0]
    assert c2.holds(rows(0.95, 0.5)) is False
    (said,) = c2.verdict(rows(0.95, 0.5))
    assert "do not take the same time" in said and "from 50% (op1) to 95% (op0)" in said
    assert c2.figures([]) is None
