"""`fastnn bench --training`: what it measures, writes and shows. Nothing here depends on speed."""

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

from fastnn.bench import cli
from fastnn.bench.report import readme, training
from fastnn.bench.training import contenders, problems


def run_cli(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    cli.add_arguments(parser)
    code: int = cli.main(parser.parse_args(arguments))
    return code


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """One tiny run of the smallest network, by the command."""
    folder = tmp_path_factory.mktemp("training")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(cli.TRAINING_EFFORT, True, (0.05, 2))
        assert run_cli("--training", "--quick", "--networks", "mlp", "--out", str(folder)) == 0
    return training.load(folder / cli.TRAINING)


def test_results_hold_time_throughput_and_memory(result: dict[str, Any]) -> None:
    assert [cell["network"] for cell in result["results"]] == ["mlp"]
    for cell in result["results"]:
        ours = cell["contenders"][contenders.OURS]
        assert ours["samples_per_s"] == pytest.approx(cell["batch"] / ours["median_s"])
        if sys.platform == "linux":
            assert 1e6 < ours["peak_bytes"] < 2e8
    assert [cell["parameters"] for cell in result["results"]] == [235_530]


def test_torch_computes_the_same_network(result: dict[str, Any]) -> None:
    pytest.importorskip("torch")
    (cell,) = result["results"]
    assert set(cell["contenders"]) == {contenders.OURS, "torch"}
    assert cell["contenders"]["torch"]["logits_difference"] < 1e-5
    network = problems.NETWORKS["lenet5"]
    state = contenders.state_of(network)
    made = {name: make(state, 1) for name, make in contenders.forms(network, compiled=False).items()}
    assert set(made) == {contenders.OURS, "torch", "torch channels_last"}
    for _ in range(2):  # before a step, and after it
        first, *others = (logits() for _, logits in made.values())
        assert all(np.abs(first - other).max() < 1e-5 for other in others)
        for step, _ in made.values():
            step()


def test_tables_compare_with_the_fastest_form_and_the_target(result: dict[str, Any]) -> None:
    made = copy.deepcopy(result)
    made["results"].append(made["results"][0] | {"network": "lenet5", "about": "small"})
    for cell, ours in zip(made["results"], (0.5, 0.6), strict=True):
        base = cell["contenders"][contenders.OURS] | {"samples_per_s": 10.0, "peak_bytes": 2**21}
        times = {contenders.OURS: ours, "torch": 1.2, "torch channels_last": 1.0}
        cell["contenders"] = {name: base | {"median_s": seconds} for name, seconds in times.items()}
    first, second = training.steps(made)
    assert (first.best, first.ratio, first.verdict) == ("torch channels_last", 0.5, "met")
    assert (second.ratio, second.verdict) == (0.6, "missed")
    text = readme.steps(made)
    assert "| mlp: 784-256-128-10, batch norm, dropout 0.2 | 128 | 500 | 10 | 2 MiB | 1,000 |" in text
    alone = made["results"][0]["contenders"]
    made["results"][0]["contenders"] = {contenders.OURS: alone[contenders.OURS]}
    assert training.steps(made)[0].verdict == "not measured"


def test_the_readme_takes_such_tables(result: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "training.json").write_text(json.dumps(result))
    text = "before\n<!-- training: training.json -->\nold\n<!-- end -->\nafter\n"
    filled = readme.filled(text, tmp_path)
    assert "old" not in filled and "mlp: 784-256-128-10" in filled and filled.endswith("<!-- end -->\nafter\n")
    assert readme.filled(filled, tmp_path) == filled


def test_other_files_are_refused(tmp_path: Path) -> None:
    for name, text in (("a.json", "{"), ("b.json", "[]"), ("c.json", '{"kind": "training", "format": 9}')):
        (tmp_path / name).write_text(text)
        with pytest.raises(ValueError, match=r"is not (JSON|a result file of fastnn bench --training, format 1)"):
            training.load(tmp_path / name)
    with pytest.raises(ValueError, match="cannot read"):
        training.load(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--networks", "lenet"], "unknown network 'lenet'. Did you mean 'lenet5'?"),
        (["--threads", "0"], "threads must be at least 1"),
    ],
)
def test_usage_errors_say_what_is_wrong(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run_cli("--training", *arguments, "--out", str(tmp_path / "none")) == 2
    assert message in capsys.readouterr().err and not (tmp_path / "none").exists()


def test_every_network_is_of_the_zoo() -> None:
    import fastnn as fnn

    for name, network in problems.NETWORKS.items():
        assert network.shape == fnn.models.input_shape(name)


def test_recorded_runs_make_a_table_too(tmp_path: Path) -> None:
    one = {"data": "mnist", "model": {"name": "mlp"}, "seed": 3, "parameters": 235530, "epochs": 12}
    one |= {"test_accuracy": 0.98765, "seconds": 12.4, "samples_per_s": 65432.1, "peak_bytes": 2**28, "threads": 2}
    one |= {"machine": {"cpu": "a processor", "date": "2026-11-20T10:00:00+00:00"}}
    (tmp_path / "runs.json").write_text(json.dumps({"kind": "trained", "format": 1, "results": {"mnist/mlp": one}}))
    text = readme.filled("<!-- trained: runs.json -->\n<!-- end -->", tmp_path)
    assert "Trained on a processor, 2 threads, 2026-11-20." in text
    assert (
        "| `fastnn train --data mnist --model mlp --seed 3` | 235,530 | 12 | 98.77 % | 12 s | 65,432 | 256 MiB |"
        in text
    )
