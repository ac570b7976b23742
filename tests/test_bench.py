"""The benchmark suite itself: it covers the table, runs, reports and compares. Nothing here depends on speed."""

from __future__ import annotations

import argparse
import copy
import json
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rich", reason='the benchmark needs pip install "fastnn[bench]"')
pytest.importorskip("matplotlib", reason='the benchmark needs pip install "fastnn[bench]"')

from fastnn.bench import accuracy, cli, machine, rivals, runner, suite, timing
from fastnn.bench.cases import PASSES, Case, Pool, expected_backward, expected_forward, make_cases, parse_size
from fastnn.bench.claims import c1
from fastnn.bench.report import compare, rows
from fastnn.bench.rivals.base import Rival
from fastnn.oracle import numpy64
from fastnn.table import OPS

TINY = ["--ops", "sigmoid,prelu", "--sizes", "100,1000", "--rivals", "numpy", "--quick"]


def run_cli(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    cli.add_arguments(parser)
    code: int = cli.main(parser.parse_args(arguments))
    return code


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One tiny run, shared by the tests that look at what it left."""
    path = tmp_path_factory.mktemp("bench")
    with pytest.MonkeyPatch.context() as patch:
        quick = runner.Settings.quick

        def tiny(settings: runner.Settings) -> runner.Settings:
            return replace(quick(settings), claim_seconds=0.1, claim_size=1000, cell_seconds=0.05)

        patch.setattr(runner.Settings, "quick", tiny)
        assert run_cli(*TINY, "--out", str(path)) == 0
    return path


@pytest.fixture(scope="module")
def result(folder: Path) -> dict[str, Any]:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    data: dict[str, Any] = json.loads((folder / cli.RESULTS).read_text(encoding="utf-8"), parse_constant=refuse)
    return data


def test_results_hold_every_cell_asked_for(result: dict[str, Any]) -> None:
    cells = {(cell["op"], cell["pass"], cell["size"]) for cell in result["results"]}
    assert cells == {
        (op, way, n) for op in ("sigmoid", "prelu") for way in ("forward", "backward") for n in (100, 1000)
    }
    for cell in result["results"]:
        assert set(cell["contenders"]) == {"fastnn native", "numpy"}
        for timing_ in cell["contenders"].values():
            assert 0 < timing_["best_s"] <= timing_["median_s"] and timing_["q1_s"] <= timing_["q3_s"]
            bytes_moved = 4 * (2 if cell["pass"] == "forward" else 3)
            assert timing_["gb_per_s"] * timing_["ns_per_element"] == pytest.approx(bytes_moved)
    judged = {(found["op"], found["pass"], found["contender"]) for found in result["accuracy"]}
    assert len(judged) == 8
    assert {"cpu", "instruction_set", "versions", "commit", "date"} <= result["machine"].keys()
    assert result["settings"]["threads"] == 1


def test_native_accuracy_is_what_the_table_promises(result: dict[str, Any]) -> None:
    ours = [found for found in result["accuracy"] if found["contender"] == suite.OURS]
    assert len(ours) == 4
    for found in ours:
        promise = OPS[found["op"]].forward_ulp if found["pass"] == "forward" else OPS[found["op"]].backward_ulp
        assert max(float(found["ulp_sample"]), float(found["ulp_stress"])) <= promise


def test_claim_has_all_backends_and_a_verdict_made_of_the_figures(result: dict[str, Any]) -> None:
    claim = result["c1"]
    libraries = {row["library"] for row in claim["rows"]}
    assert {"numpy, textbook", "numpy", "fastnn native", "fastnn reference"} <= libraries
    for row in claim["rows"]:
        assert row["ratio"] == pytest.approx(row["sigmoid"]["median_s"] / row["relu"]["median_s"])
    assert claim["verdict"] == c1.verdict(claim)


@pytest.mark.parametrize(
    ("relu", "answer"), [(30e-6, "holds"), (10e-6, "understates"), (80e-6, "does not hold")], ids=["3x", "9x", "1.1x"]
)
def test_verdict_follows_the_figures(relu: float, answer: str) -> None:
    def row(library: str, relu: float, sigmoid: float) -> dict[str, Any]:
        medians = {"relu": {"median_s": relu}, "sigmoid": {"median_s": sigmoid}}
        return {"library": library, **medians, "ratio": sigmoid / relu, "relu_is_numpys": False}

    table = [row(c1.TEXTBOOK, relu, 90e-6), row("careful", 10e-6, 11e-6)]
    said = c1.verdict({"rows": table, "floor": {"median_s": 10e-6}})
    assert answer in said[0]
    assert any("all but gone with careful (1.1)" in sentence for sentence in said)
    assert any("8.2 times less than textbook NumPy" in sentence for sentence in said)


class Tables(HTMLParser):
    """Collects first cells of table rows, and checks that tags are closed."""

    void = {"meta", "img", "source", "br"}

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.first: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [str(value) for name, value in attrs if name in ("src", "srcset", "href")]
        if tag not in self.void:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] == ["td"]:
            self.first.append(data)


def test_page_is_whole_and_has_the_tables(folder: Path) -> None:
    page = Tables()
    page.feed((folder / cli.PAGE).read_text(encoding="utf-8"))
    assert page.open == []
    assert {"sigmoid", "prelu", "numpy", "numpy, textbook", "fastnn reference"} <= set(page.first)
    assert all(link.startswith(("data:image/png;base64,", "#")) for link in page.links), "the page must load nothing"


def test_plots_are_written_in_both_themes(folder: Path) -> None:
    names = {path.name for path in folder.glob("*.png")}
    assert names == {f"{plot}{theme}.png" for plot in ("c1", "speedup", "sizes", "accuracy") for theme in ("", "-dark")}
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in folder.glob("*.png"))


def test_compare_finds_what_changed_and_what_is_noise(
    folder: Path, result: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changed = copy.deepcopy(result)
    for cell in changed["results"]:
        for timing_ in cell["contenders"].values():
            timing_["q1_s"] = timing_["q3_s"] = timing_["median_s"]
    before = copy.deepcopy(changed)
    for cell in changed["results"]:
        if cell["op"] == "sigmoid":
            cell["contenders"]["fastnn native"]["median_s"] *= 0.5
        cell["contenders"]["numpy"]["median_s"] *= 1.02
    found = compare.compare(before, changed)
    assert {(change.key[0], change.verdict) for change in found.changes} == {("sigmoid", "faster"), ("prelu", "noise")}
    assert found.level == pytest.approx(0.02)
    other = tmp_path / "other.json"
    cli.write(changed, other)
    assert run_cli("--compare", str(folder / cli.RESULTS), str(other)) == 0
    shown = capsys.readouterr().out
    assert "0.50" in shown and "Noise level" in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--ops", "sigmiod"], "unknown op 'sigmiod'. Did you mean 'sigmoid'?"),
        (["--pass", "sideways"], "unknown pass 'sideways'"),
        (["--dtype", "float31"], "unknown dtype 'float31'"),
        (["--rivals", "tensorflow"], "unknown rival 'tensorflow'"),
        (["--backends", "natve"], "unknown backend 'natve'"),
        (["--sizes", "12q"], "not a number of elements: '12q'"),
        (["--threads", "0"], "threads must be at least 1"),
        (["--compare", "nowhere.json", "nowhere.json"], "cannot read nowhere.json"),
    ],
)
def test_usage_errors_say_what_is_wrong(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out = tmp_path / "not-made"
    assert run_cli(*arguments, "--out", str(out)) == 2
    assert message in capsys.readouterr().err
    assert not out.exists()


def test_compare_refuses_files_of_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stranger = tmp_path / "stranger.json"
    stranger.write_text("[1, 2]")
    assert run_cli("--compare", str(stranger), str(stranger)) == 2
    assert "is not a result file of fastnn bench" in capsys.readouterr().err


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(cli, "NEEDS", ("no_such_package_here",))
    assert run_cli(*TINY) == 2
    assert capsys.readouterr().err == 'fastnn bench needs no_such_package_here: pip install "fastnn[bench]"\n'


def test_every_op_has_a_benchmark() -> None:
    pairs = suite.benchmarks(suite.contenders(rivals=[]), sizes=[10])
    assert suite.uncovered(pairs) == []
    assert {(case.op, case.direction) for case in make_cases()} == {(op, way) for op in OPS for way in PASSES}
    without_gelu = [(case, rival) for case, rival in pairs if (case.op, case.direction) != ("gelu", "backward")]
    assert suite.uncovered(without_gelu) == ["gelu backward"]


@pytest.mark.parametrize("name", rivals.RIVALS)
def test_rivals_name_ops_of_the_table_and_compute_them(name: str) -> None:
    ready, missing = rivals.load([name], threads=1)
    if missing:
        pytest.skip(f"{name}: {missing[name]}")
    (rival,) = ready
    assert suite.strangers(ready) == []
    pool = Pool("float32", 1000)
    offered = [case for case in make_cases(sizes=[pool.size]) if rival.supports(case)]
    assert offered
    for case in offered:
        check_against_table(rival, case, pool)


def check_against_table(rival: Rival, case: Case, pool: Pool) -> None:
    buffers = pool.buffers(case)
    task = rival.task(case, buffers)
    if task is None:
        return
    with task.context():
        got = rival.array(task.run(), case)
    x, dy, saved = (np.asarray(array, np.float64) for array in (buffers.x, buffers.dy, buffers.saved))
    if case.direction == "forward":
        want = expected_forward(case.row, x, case.params)
    else:
        want = expected_backward(case.row, dy, saved, case.params)
    np.testing.assert_allclose(got, want, rtol=2e-3, atol=1e-4, err_msg=f"{rival.label}: {case}")


def test_ulp_counts_units_in_the_last_place() -> None:
    one, least = np.float32(1), float(np.finfo(np.float32).smallest_normal)
    want = np.array([1.0, 1.0, 1.0, 0.0, 1e-40, np.nan, 1.0, 1e39, 1e39, 3.0])
    up = np.nextafter(one, np.float32(2))
    got = np.array([1.0, up, up, least, 0.0, np.nan, np.nan, np.inf, np.finfo(np.float32).max, -np.inf])
    expected = [0, 1, 1, 0, 0, 0, np.inf, 0, 1, np.inf]
    np.testing.assert_array_equal(accuracy.ulp(got.astype(np.float64), want, "float32"), expected)


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_judge_finds_a_rounding_and_a_flush_to_zero(dtype: str) -> None:
    pool = Pool(dtype, 512)
    judge = accuracy.Judge(Case("silu", "forward", dtype, 512), pool.x, pool.dy)
    if not judge.possible:
        pytest.skip("needs mpmath")
    exact = judge.want.astype(dtype)
    rounded = judge.judge(exact)
    assert rounded is not None and rounded.sample <= 0.5 and rounded.stress <= 0.5
    flushed = exact.copy()
    tiny = np.argmax(np.where((np.abs(judge.want) > np.finfo(dtype).smallest_normal) & (judge.x < -8), 1, 0))
    flushed[tiny] = 0
    verdict = judge.judge(flushed)
    assert verdict is not None and verdict.stress >= 2.0 ** (accuracy.BITS[dtype][0] - 1)
    assert verdict.worst_at == judge.x[tiny]


def test_stress_sample_is_finite_and_reaches_both_ends() -> None:
    values = accuracy.stress_values("float32")
    assert np.isfinite(values).all()
    assert values.max() > 1e38 and values.min() < -1e38
    assert ((np.abs(values) < 1e-38) & (values != 0)).any()


def test_shared_arrays_are_aligned_and_saved_is_what_backward_wants() -> None:
    pool = Pool("float32", 1001)
    for array in (pool.x, pool.dy, pool.out, pool.scratch, pool.output):
        assert array.ctypes.data % 64 == 0 and array.size == 1001
    assert pool.buffers(Case("gelu", "backward", "float32", 1001)).saved is pool.x
    saved = pool.buffers(Case("tanh", "backward", "float32", 1001)).saved
    np.testing.assert_allclose(saved, OPS["tanh"].forward(numpy64, pool.x.astype(np.float64)), rtol=1e-7)


def test_every_contender_is_sampled_and_slow_ones_less_often() -> None:
    calls = {"fast": 0, "slow": 0}

    def spin(name: str, turns: int) -> timing.Task:
        def run() -> None:
            calls[name] += 1
            sum(range(turns))

        return timing.Task(run)

    found = timing.measure({"fast": spin("fast", 10), "slow": spin("slow", 100_000)}, budget=0.05, min_samples=3)
    assert found["slow"].samples >= 3 and found["fast"].samples >= found["slow"].samples
    assert found["fast"].inner > found["slow"].inner
    assert calls["fast"] >= found["fast"].samples * found["fast"].inner


def test_distorting_variables_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    assert any(warning.startswith("OPENBLAS_CORETYPE=Haswell is set") for warning in machine.warnings())


@pytest.mark.parametrize(
    ("text", "size"), [("1000", 1000), ("65_536", 65536), ("64k", 64000), ("1M", 10**6), ("2^24", 2**24)]
)
def test_sizes_are_read(text: str, size: int) -> None:
    assert parse_size(text) == size


def test_figures_are_shortened_for_tables() -> None:
    assert [rows.ulp_text(error) for error in (0.0, 0.5, 27.3, 1.68e7, np.inf, None)] == [
        "0",
        "0.5",
        "27.3",
        "2e7",
        "wrong",
        "-",
    ]
