"""`fastnn bench --inference`: what it measures, writes and shows. Nothing here depends on speed."""

from __future__ import annotations

import argparse
import copy
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rich", reason='the benchmark needs pip install "fastnn[bench]"')
pytest.importorskip("matplotlib", reason='the benchmark needs pip install "fastnn[bench]"')

import fastnn as fnn
from fastnn.bench import cli
from fastnn.bench.inference import installed, latency, numpy_, peak, problems
from fastnn.bench.inference.contenders import NUMPY, ORT, OURS
from fastnn.bench.report import inference, inference_plot, readme
from fastnn.bench.report.canvas import LIGHT
from fastnn.bench.targets import INFERENCE

ZOO = [name for name in problems.NETWORKS if name != "alexnet4"] + ["alexnet4"]


def run_cli(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    cli.add_arguments(parser)
    code: int = cli.main(parser.parse_args(arguments))
    return code


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """One tiny run of the smallest network, by the command."""
    folder = tmp_path_factory.mktemp("inference")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(cli.INFERENCE_QUICK, "cell_seconds", 0.02)
        patch.setattr(peak, "SECONDS", 0.02)
        arguments = "--inference", "--quick", "--networks", "lenet5", "--batches", "1,2", "--out", str(folder)
        assert run_cli(*arguments) == 0
    assert (folder / "inference.png").stat().st_size > 10_000
    return inference.load(folder / cli.INFERENCE)


def test_results_hold_latency_throughput_and_memory(result: dict[str, Any]) -> None:
    assert [(cell["network"], cell["batch"], cell["threads"]) for cell in result["results"]] == [
        ("lenet5", 1, 1),
        ("lenet5", 2, 1),
    ]
    for cell in result["results"]:
        assert cell["operations"] == 833_040 * cell["batch"] and {OURS, NUMPY} <= set(cell["contenders"])
        for name, timing in cell["contenders"].items():
            assert 0 < timing["best_s"] <= timing["p50_s"] <= timing["p99_s"] and timing["samples"] >= 5
            assert timing["samples_per_s"] == pytest.approx(cell["batch"] / timing["p50_s"])
            assert 0 < timing["share_of_peak"] < 20
            assert timing["difference"] < (0.5 if "int8" in name else 1e-5)
        assert cell["contenders"][OURS]["arena_bytes"] > 0
    (fresh,) = result["fresh"]
    assert {OURS, NUMPY, "floor"} <= set(fresh["start"]) and fresh["file_bytes"][OURS] > 240_000
    if sys.platform == "linux":
        memory = fresh["memory"]["2"][OURS]
        assert memory["process_bytes"] > memory["beyond_bytes"] > 0
    assert result["installed_bytes"]["fastnn"] > result["installed_bytes"]["numpy"] > 1e7


def test_rivals_compute_the_same(result: dict[str, Any]) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("onnxruntime")
    forms = {ORT, "onnxruntime int8", "torch", "torch channels_last", "torch frozen"}
    for cell in result["results"]:
        assert forms <= set(cell["contenders"])
    (fresh,) = result["fresh"]
    assert {ORT, "onnxruntime .ort", "onnxruntime int8", "torch"} <= set(fresh["start"])
    assert not [note for note in result["warnings"] if note.startswith("Failed")]


@pytest.mark.parametrize("name", ZOO)
def test_numpy_and_folding_compute_the_networks(name: str, tmp_path: Path) -> None:
    """Weights with batch norm folded, and layers in plain NumPy, give what the network does."""
    network = problems.NETWORKS[name]
    assert network.shape == fnn.models.input_shape(name)
    model = problems.trained(network)
    plain = problems.folded(network, model)
    x = network.input(3)
    want, size = model(x), np.abs(model(x)).max()
    np.testing.assert_allclose(plain(x), want, rtol=1e-4, atol=1e-5 * size)
    numpy_.save(str(tmp_path / "net.npz"), plain)
    given = x.copy()
    np.testing.assert_allclose(numpy_.Net(str(tmp_path / "net.npz"))(x), want, rtol=1e-4, atol=1e-5 * size)
    assert (x == given).all()


def test_calls_are_timed_in_turns() -> None:
    seen: list[str] = []
    runs = {name: (lambda name=name: seen.append(name)) for name in "abc"}
    found = latency.measure(runs, 0.001, 1, least=20)
    assert set(found) == set("abc") and all(one["samples"] >= 20 for one in found.values())
    assert all(0 <= one["best_s"] <= one["p50_s"] <= one["p99_s"] for one in found.values())
    changes = sum(a != b for a, b in zip(seen, seen[1:], strict=False))
    assert changes >= 2 * latency.TURNS


def test_targets_are_of_networks_that_are_measured() -> None:
    for target in INFERENCE:
        assert target.network in problems.NETWORKS and target.batch in problems.BATCHES
    assert len({(one.network, one.batch, one.contender, one.against) for one in INFERENCE}) == len(INFERENCE)


@pytest.fixture
def full(result: dict[str, Any]) -> dict[str, Any]:
    """The result as if there had been every rival, with times of known ratios."""
    made = copy.deepcopy(result)
    for cell in made["results"]:
        base = cell["contenders"][OURS]
        times = {
            OURS: 5e-6 * cell["batch"],
            "fastnn int8": 4e-6,
            ORT: 1e-5,
            "onnxruntime int8": 4e-6,
            "torch": 3e-5,
            "torch frozen": 2e-5,
            NUMPY: 5e-5,
        }
        cell["contenders"] = {name: base | {"p50_s": seconds, "p99_s": 2 * seconds} for name, seconds in times.items()}
    for entry in made["fresh"]:
        one = {"best_s": 0.1, "median_s": 0.1}
        entry["start"] |= {OURS: one, ORT: one | {"median_s": 0.4}, "onnxruntime .ort": one | {"median_s": 0.25}}
    return made


def test_tables_compare_with_the_fastest_form_and_the_target(full: dict[str, Any]) -> None:
    first, second = inference.calls(full)
    assert first.fastest("torch") == "torch frozen"
    assert first.ratio(OURS, ORT) == 0.5 and first.verdict(OURS, ORT) == "met" and second.verdict(OURS, ORT) == ""
    assert first.int8()[-1] == "met"
    text = readme.sessions(full, "inference")
    assert "torch.compile was not measured: --compile asks for it." in text
    assert "| lenet5, 1 | 5 | 10 |" in text and "| 10 | 20 | 20 | frozen | 50 | 0.50 | 0.5 | met |" in text
    (start,) = inference.starts(full)
    assert start[3:5] == ("250", ".ort") and start[-3:] == ("0.40", "0.5", "met")
    assert "Of 3 targets 3 are met, 0 missed, 0 not measured." in inference.summary(full)
    full["results"][0]["contenders"][OURS]["p50_s"] = 9e-6
    assert inference.calls(full)[0].verdict(OURS, ORT).startswith("missed")
    for cell in full["results"]:
        cell["contenders"] = {OURS: cell["contenders"][OURS]}
    assert inference.calls(full)[0].verdict(OURS, ORT) == "not measured"
    assert inference_plot.picture(full, LIGHT).axes


def test_the_readme_takes_such_tables(full: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "inference.json").write_text(json.dumps(full))
    for kind in ("inference", "inference-all", "inference-int8", "inference-start", "inference-memory"):
        text = f"before\n<!-- {kind}: inference.json -->\nold\n<!-- end -->\nafter\n"
        filled = readme.filled(text, tmp_path)
        assert "old" not in filled and "| lenet5" in filled and filled.endswith("<!-- end -->\nafter\n")
        assert readme.filled(filled, tmp_path) == filled


def test_what_is_installed_counts_what_is_required() -> None:
    sizes = installed.sizes()
    assert sizes["fastnn"] > sizes["numpy"]
    assert "numpy" in installed._needed("fastnn") and "pytest" not in installed._needed("fastnn")


def test_other_files_are_refused(tmp_path: Path) -> None:
    for name, text in (("a.json", "{"), ("b.json", "[]"), ("c.json", '{"kind": "inference", "format": 9}')):
        (tmp_path / name).write_text(text)
        with pytest.raises(ValueError, match=r"is not (JSON|a result file of fastnn bench --inference, format 1)"):
            inference.load(tmp_path / name)
    with pytest.raises(ValueError, match="cannot read"):
        inference.load(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--networks", "lenet"], "unknown network 'lenet'. Did you mean 'lenet5'?"),
        (["--threads", "0"], "threads must be at least 1, got 0"),
        (["--batches", "0"], "batches must be at least 1, got 0"),
    ],
)
def test_usage_errors_say_what_is_wrong(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run_cli("--inference", *arguments, "--out", str(tmp_path / "none")) == 2
    assert message in capsys.readouterr().err and not (tmp_path / "none").exists()
