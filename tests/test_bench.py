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

from fastnn.bench import cli, machine, runner, suite, timing
from fastnn.bench.claims import c1
from fastnn.bench.problems.activations import parse_size
from fastnn.bench.problems.base import PASSES
from fastnn.bench.report import compare, results, rows, verdicts
from fastnn.bench.rivals.base import quickest
from fastnn.table import FUNCTIONS, OPS

TINY = ["--ops", "sigmoid,prelu,dropout_mask,global_avg_pool", "--sizes", "100,1000", "--rivals", "numpy", "--quick"]
PLOTS = ("c1", "speedup", "functions", "sizes", "accuracy")
POOLED = ("32x64x32x32", "1x64x32x32")


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
    cells = {(cell["op"], cell["pass"], cell["label"]) for cell in result["results"]}
    elements = {(op, way, n) for op in ("sigmoid", "prelu") for way in PASSES for n in ("100", "1,000")}
    masks = {("dropout_mask", "forward", n) for n in ("1,000,000", "65,536")}
    pools = {(f"global_avg_pool{s}", way, n) for s, way in zip(("", "_backward"), PASSES, strict=True) for n in POOLED}
    assert cells == elements | masks | pools
    for cell in result["results"]:
        assert set(cell["contenders"]) == {"fastnn native", "numpy"}
        for timing_ in cell["contenders"].values():
            assert 0 < timing_["best_s"] <= timing_["median_s"] and timing_["q1_s"] <= timing_["q3_s"]
            assert timing_["gb_per_s"] * timing_["median_s"] * 1e9 == pytest.approx(cell["bytes"])
    moved = {(cell["op"], cell["label"]): cell["bytes"] for cell in result["results"]}
    assert moved["prelu", "1,000"] == 4 * 3 * 1000, "the backward pass, the last one"
    assert moved["dropout_mask", "65,536"] == 65536, "a byte an element is written, nothing is read"
    assert moved["global_avg_pool", POOLED[1]] == 4 * (64 * 1024 + 64)
    judged = {(found["op"], found["pass"], found["contender"]) for found in result["accuracy"]}
    assert len(judged) == 8 + 1 + 4, "NumPy's random mask cannot be judged"
    assert {"cpu", "instruction_set", "versions", "commit", "date"} <= result["machine"].keys()
    assert result["settings"]["threads"] == 1
    assert not [warning for warning in result["warnings"] if warning.startswith("Failed")]


def test_memory_beyond_results_is_in_the_rows_of_functions(result: dict[str, Any]) -> None:
    found = {cell["op"]: cell["contenders"] for cell in result["results"]}
    assert "beyond_bytes" not in found["sigmoid"]["fastnn native"]
    assert found["global_avg_pool"]["fastnn native"]["beyond_bytes"] == 0
    assert found["dropout_mask"]["numpy"]["beyond_bytes"] > 65536, "the random bits"


def test_native_accuracy_is_what_the_table_promises(result: dict[str, Any]) -> None:
    ours = [found for found in result["accuracy"] if found["contender"] == suite.OURS]
    assert len(ours) == 7
    for found in ours:
        if found["family"] != "activations":
            assert float(found["ulp_sample"]) <= max(FUNCTIONS[found["op"]].ulps)
            continue
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
    assert {"sigmoid", "prelu", "dropout_mask", "numpy", "numpy, textbook", "fastnn reference"} <= set(page.first)
    assert all(link.startswith(("data:image/png;base64,", "#")) for link in page.links), "the page must load nothing"


def test_plots_are_written_in_both_themes(folder: Path) -> None:
    names = {path.name for path in folder.glob("*.png")}
    assert names == {f"{plot}{theme}.png" for plot in PLOTS for theme in ("", "-dark")}
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in folder.glob("*.png"))


def test_a_run_without_activations_is_reported_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    chosen = ("--families", "pooling", "--ops", "global_avg_pool", "--pass", "backward")
    assert run_cli(*chosen, "--quick", "--rivals", "numpy", "--out", str(tmp_path)) == 0
    found = results.load(tmp_path / cli.RESULTS)
    assert found["c1"] is None and {cell["pass"] for cell in found["results"]} == {"backward"}
    assert {path.name for path in tmp_path.glob("*.png")} == {"functions.png", "functions-dark.png"}
    shown = capsys.readouterr().out
    assert "global_avg_pool_backw" in shown and "C1" not in shown
    page = Tables()
    page.feed((tmp_path / cli.PAGE).read_text(encoding="utf-8"))
    assert page.open == [] and "global_avg_pool_backward" in page.first


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
    verdicts_ = {change.key[0]: change.verdict for change in found.changes}
    assert verdicts_.pop("sigmoid") == "faster" and set(verdicts_.values()) == {"noise"}
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
        (["--families", "poling"], "unknown family 'poling'. Did you mean 'pooling'?"),
        (["--families", "pooling", "--ops", "relu"], "nothing to measure"),
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


def test_the_quickest_way_is_taken() -> None:
    assert quickest(lambda: sum(range(20_000)), lambda: 7)() == 7


def test_results_of_the_first_format_are_read(tmp_path: Path) -> None:
    of = {"op": "relu", "pass": "forward", "dtype": "float32"}
    cell = of | {"size": 1000, "copy": {"median_s": 1.0}, "contenders": {}}
    found = of | {"contender": "x", "ulp_sample": 0, "ulp_stress": "inf"}
    old = {"format": 1, "machine": {}, "settings": {}, "results": [cell], "accuracy": [found], "c1": {}}
    path = tmp_path / "old.json"
    path.write_text(json.dumps(old))
    (row,) = rows.rows(results.load(path))
    assert (row.family, row.label, row.main, row.errors["x"].worst) == ("activations", "1,000", False, np.inf)
    path.write_text(json.dumps(old | {"format": 3}))
    with pytest.raises(ValueError, match="has format 3, this version of fastnn reads formats 1 and 2"):
        results.load(path)


def test_targets_are_held_against_what_was_measured(result: dict[str, Any]) -> None:
    assert verdicts.held(result) == [], "no target is about 1,000 elements"
    cell = next(cell for cell in result["results"] if cell["op"] == "sigmoid" and cell["pass"] == "forward")
    bigger = copy.deepcopy(cell) | {"label": "1,000,000"}
    for name, seconds in (("fastnn native", 2.0), ("numpy", 4.0)):
        bigger["contenders"][name]["median_s"] = seconds
    (held,) = verdicts.held(result | {"results": [bigger]})
    assert (held.against, held.ratio, held.verdict) == ("numpy (the best)", 0.5, "met")
    bigger["contenders"]["numpy"]["median_s"] = 1.0
    (held,) = verdicts.held(result | {"results": [bigger]})
    assert held.verdict == "missed"
    assert verdicts.held(result | {"settings": {"threads": 2}}) == []


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
