"""The search for hyper-parameters: what it draws, prunes, keeps, and runs again."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from search_objectives import KillsItsWorker, bowl, broken, points_network

pytest.importorskip("optuna", reason='the search needs pip install "fastnn[search]"')

from fastnn.cli import main
from fastnn.train.search import Study, search
from fastnn.train.search import spaces as spaces_

SPACE = {"lr": search.loguniform(1e-5, 1e-1), "b": search.uniform(0, 1)}


def parameters(study: Study) -> list[dict[str, Any]]:
    return [record.parameters for record in study.trials]


def test_random_search_covers_each_range_in_its_own_scale() -> None:
    space = SPACE | {"width": search.integer(16, 512, log=True), "kind": search.choice(["a", "b", None])}
    study = search(bowl, space, trials=60, processes=1)
    decades = np.array([math.log10(one["lr"]) for one in parameters(study)])
    assert decades.min() < -4.5 and decades.max() > -1.5 and abs(decades.mean() + 3) < 0.5
    assert min(one["b"] for one in parameters(study)) >= 0 and max(one["b"] for one in parameters(study)) <= 1
    assert {one["kind"] for one in parameters(study)} == {"a", "b", None}
    widths = [one["width"] for one in parameters(study)]
    assert all(isinstance(width, int) and 16 <= width <= 512 for width in widths) and np.median(widths) < 200
    assert len(study.complete) == 60 and study.best_value == min(record.value or 0 for record in study.trials)
    assert abs(math.log10(study.best_parameters["lr"]) + 3) < 0.5


def test_random_search_tries_more_values_of_what_matters_than_a_grid() -> None:
    grid = search(bowl, SPACE, strategy="grid", trials=9, processes=1)
    drawn = search(bowl, SPACE, strategy="random", trials=9, processes=1)
    assert len({one["lr"] for one in parameters(grid)}) == 3
    assert len({one["lr"] for one in parameters(drawn)}) == 9
    assert sorted({one["lr"] for one in parameters(grid)}) == pytest.approx([1e-5, 1e-3, 1e-1])
    assert {(one["lr"], one["b"]) for one in parameters(grid)} == {
        (lr, b) for lr in {one["lr"] for one in parameters(grid)} for b in (0.0, 0.5, 1.0)
    }


def test_grid_grows_while_it_fits() -> None:
    space = {"a": search.uniform(0, 1), "n": search.integer(1, 2), "kind": search.choice("xyz"[:2].split() + ["z"])}
    points = spaces_.grid(space, 13)
    assert len(points) == 12 and len({tuple(point.values()) for point in points}) == 12
    assert {point["n"] for point in points} == {1, 2} and len({point["a"] for point in points}) == 3


def test_tpe_learns_from_the_trials_before() -> None:
    study = search(bowl, SPACE, strategy="tpe", trials=40, processes=1)
    late = [abs(math.log10(one["lr"]) + 3) for one in parameters(study)[20:]]
    assert np.mean(late) < 0.8, "a random search is 1 away on average"


def test_a_seed_repeats_the_search_on_any_number_of_processes() -> None:
    one = search(bowl, SPACE, trials=6, processes=1, seed=5)
    two = search(bowl, SPACE, trials=6, processes=2, seed=5)
    other = search(bowl, SPACE, trials=6, processes=1, seed=6)
    assert parameters(one) == parameters(two) != parameters(other)
    assert [record.value for record in one.trials] == [record.value for record in two.trials]


def test_what_diverges_is_pruned_and_what_lags_behind() -> None:
    def objective(trial: Any) -> float:
        if trial.number == 1:
            trial.report(float("nan"))
        for step in range(4):
            trial.report({2: 1.0 + step, 9: 5.0}.get(trial.number, 1.0 / (step + 1)))
        return math.inf if trial.number == 3 else 0.25

    study = search(objective, SPACE, trials=10, processes=1)
    reasons = {record.number: record.reason for record in study.trials if record.state == "pruned"}
    assert reasons.keys() == {1, 2, 3, 9}
    assert reasons[1] == "diverged: nan at step 0"
    assert reasons[2] == "diverged: 4 at step 3 is more than 3 times the first, 1"
    assert reasons[3] == "diverged: the result is inf"
    assert reasons[9] == "behind: 5 after step 0, where the median of trials is 1"
    assert study.trials[0].reports == {0: 1.0, 1: 0.5, 2: 1 / 3, 3: 0.25}
    kept = search(objective, SPACE, trials=10, processes=1, pruning=False)
    assert kept.trials[9].state == "complete"


def test_accuracies_are_maximised() -> None:
    def objective(trial: Any) -> float:
        trial.report(0.1)
        trial.report(0.9)
        return 1 - bowl(trial)

    study = search(objective, SPACE, trials=20, processes=1, direction="maximize")
    assert study.best_value == max(record.value for record in study.trials if record.value is not None)
    assert abs(math.log10(study.best_parameters["lr"]) + 3) < 1


def test_the_best_value_at_the_edge_of_its_range_is_a_warning() -> None:
    study = search(bowl, {"lr": search.loguniform(1e-9, 1.1e-5), "b": search.uniform(0, 1)}, trials=20, processes=1)
    (said,) = [text for text in study.warnings if "best lr" in text]
    assert "lies at the upper edge of its range (1e-09 to 1.1e-05)" in said and "move the range" in said
    inside = {"lr": search.loguniform(1e-5, 1e-1), "b": search.choice([1, 2])}
    assert search(bowl, inside, trials=20, processes=1).warnings == []
    finer = search.refine(study)["lr"]
    assert finer.high > 1.1e-5, "a range in log scale moves beyond its end"
    assert math.log(finer.high / finer.low) == pytest.approx(math.log(1.1e4) / 3)


def test_from_coarse_to_fine() -> None:
    coarse = search(bowl, SPACE, trials=12, processes=1)
    space = search.refine(coarse)
    assert coarse.best_parameters["lr"] in space["lr"] and space["b"].low >= 0 and space["b"].high <= 1
    fine = search(bowl, space, trials=12, processes=1)
    assert fine.best_value < coarse.best_value
    whole = search.integer(8, 64, log=True).around(8, 1 / 3)
    assert (whole.low, whole.high) == (5, 12)
    assert search.choice([1, 2]).around(2, 0.5).values == (2,)


def test_a_search_goes_on_from_its_file(tmp_path: Path) -> None:
    path = tmp_path / "search.journal"
    unbroken = search(bowl, SPACE, trials=8, processes=1)
    search(bowl, SPACE, trials=3, processes=1, storage=path)
    calls = []

    def counted(trial: Any) -> float:
        calls.append(trial.number)
        return bowl(trial)

    with open(path, "ab") as file:
        file.write(b'{"op_code":4,"wor')  # what a process killed while writing leaves
    study = search(counted, SPACE, trials=8, processes=1, storage=path)
    assert calls == [3, 4, 5, 6, 7]
    assert parameters(study) == parameters(unbroken)
    assert [record.value for record in study.trials] == [record.value for record in unbroken.trials]
    assert search(counted, SPACE, trials=8, processes=1, storage=path).trials == study.trials and len(calls) == 5
    with pytest.raises(ValueError, match="the storage holds a search with another space"):
        search(bowl, {"lr": SPACE["lr"]}, trials=8, processes=1, storage=path)
    with pytest.raises(ValueError, match="another seed"):
        search(bowl, SPACE, trials=8, processes=1, storage=path, seed=1)


def test_a_storage_has_one_search_at_a_time_and_is_a_journal(tmp_path: Path) -> None:
    path = tmp_path / "search.journal"

    def nested(trial: Any) -> float:
        with pytest.raises(ValueError, match="another search is writing to"):
            search(bowl, SPACE, trials=1, processes=1, storage=path)
        return 1.0

    assert search(nested, SPACE, trials=1, processes=1, storage=path).trials[0].value == 1.0
    stranger = tmp_path / "stranger"
    for text in ("hello", "hello\n", '{"a": 1}\n'):
        stranger.write_text(text)
        with pytest.raises(ValueError, match="is not the journal of a search"):
            search(bowl, SPACE, trials=1, processes=1, storage=stranger)
        assert stranger.read_text() == text


KILLED = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from search_objectives import bowl
from fastnn.train.search import search

def slow(trial):
    import time
    if trial.number == 2:
        Path({flag!r}).touch()
        time.sleep(60)
    return bowl(trial)

search(slow, dict(lr=search.loguniform(1e-5, 1e-1), b=search.uniform(0, 1)), trials=5, processes=1, storage={path!r})
"""


def test_what_a_killed_search_left_running_is_run_again(tmp_path: Path) -> None:
    path, flag = tmp_path / "search.journal", tmp_path / "in-the-third"
    program = KILLED.format(tests=str(Path(__file__).parent), flag=str(flag), path=str(path))
    process = subprocess.Popen([sys.executable, "-c", program])
    while not flag.exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    study = search(bowl, SPACE, trials=5, processes=1, storage=path)
    unbroken = search(bowl, SPACE, trials=5, processes=1)
    assert parameters(study) == parameters(unbroken)
    assert [(record.number, record.state) for record in study.trials] == [(n, "complete") for n in range(5)]


def test_a_trial_whose_process_dies_is_run_again(tmp_path: Path) -> None:
    study = search(KillsItsWorker(tmp_path, 1), SPACE, trials=4, processes=2)
    assert [(record.number, record.state) for record in study.trials] == [(n, "complete") for n in range(4)]
    assert (tmp_path / "1-1").exists()


def test_a_trial_that_always_kills_its_process_fails_and_the_others_do_not(tmp_path: Path) -> None:
    study = search(KillsItsWorker(tmp_path, 0, times=99), SPACE, trials=3, processes=2)
    assert [record.state for record in study.trials] == ["failed", "complete", "complete"]
    assert study.trials[0].reason == "its worker died 3 times; can a new process import the objective?"
    assert any("1 of 3 trials failed" in text for text in study.warnings)


def test_an_error_in_the_objective_ends_the_search_and_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "search.journal"
    with pytest.raises(ZeroDivisionError, match="no such model"):
        search(broken, SPACE, trials=5, processes=1, storage=path)
    study = search(bowl, SPACE, trials=5, processes=1, storage=path)
    assert [record.state for record in study.trials] == ["complete", "complete", "failed", "complete", "complete"]
    assert study.trials[2].reason == "ZeroDivisionError: no such model"


def test_other_executors_run_trials_too() -> None:
    from concurrent.futures import ThreadPoolExecutor

    seen = []
    with ThreadPoolExecutor(2) as executor:
        study = search(
            bowl, SPACE, trials=5, executor=executor, callbacks=[lambda record, done, of: seen.append((done, of))]
        )
    assert parameters(study) == parameters(search(bowl, SPACE, trials=5, processes=1))
    assert seen[-1] == (5, 5) and [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_a_killed_worker_of_dask_loses_no_trial(tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed", reason='a cluster needs pip install "fastnn[search]"')
    import dask

    config = {"distributed.worker.daemon": True, "distributed.comm.timeouts.connect": "20s"}
    with (
        dask.config.set(config),
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None, worker_dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        client.run(sys.path.append, str(Path(__file__).parent))
        study = search(KillsItsWorker(tmp_path, 2), SPACE, trials=6, executor=client)
        options = ["--trials", "2", "--epochs", "1", "--samples", "200", "--out", str(tmp_path / "out"), "--quiet"]
        assert main(["search", "--dask", str(cluster.scheduler_address), *options]) == 0
    assert [(record.number, record.state) for record in study.trials] == [(n, "complete") for n in range(6)]
    assert parameters(study) == parameters(search(bowl, SPACE, trials=6, processes=1))
    assert (tmp_path / "2-1").exists()


def test_results_are_data_and_sentences(tmp_path: Path) -> None:
    study = search(bowl, SPACE | {"kind": search.choice(["a"])}, trials=4, processes=1)
    data = json.loads(json.dumps(study.as_dict(), allow_nan=False))
    assert data["space"]["lr"] == {"kind": "Float", "low": 1e-5, "high": 0.1, "log": True}
    assert data["trials"][data["best"]]["value"] == study.best_value
    said = study.summary()
    assert said[0] == "4 trials by random search: 4 complete."
    assert said[1].startswith("Best: ") and "lr " in said[1]


def test_no_trial_that_ran_to_its_end_is_said_so() -> None:
    study = search(lambda trial: math.nan, SPACE, trials=2, processes=1)
    assert study.warnings == ["No trial ran to its end."]
    with pytest.raises(ValueError, match="no trial ran to its end .diverged: the result is nan"):
        _ = study.best


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        ({"space": {}}, ValueError, "space is empty"),
        ({"space": {"lr": (0, 1)}}, TypeError, r"space\['lr'\] is \(0, 1\); expected a range such as"),
        ({"strategy": "clever"}, ValueError, "strategy is 'clever'; expected one of random, grid, tpe"),
        ({"trials": 0}, ValueError, "trials is 0; expected an integer, at least 1"),
        ({"processes": 0}, ValueError, "processes is 0"),
        ({"direction": "up"}, ValueError, "direction is 'up'; expected 'minimize' or 'maximize'"),
        ({"objective": 3}, TypeError, "objective is a int; expected a function or"),
        ({"executor": 3}, TypeError, "executor is a int"),
        ({"epochs": 3}, TypeError, "epochs belong to training"),
        ({"objective": lambda trial: 1.0, "processes": 2}, TypeError, "cannot be sent to other processes"),
        ({"storage": os.curdir}, ValueError, "is a folder; expected a file"),
    ],
)
def test_wrong_arguments_are_named(change: dict[str, Any], kind: type[Exception], message: str) -> None:
    arguments: dict[str, Any] = {"objective": bowl, "space": SPACE, "trials": 2, "processes": 1} | change
    with pytest.raises(kind, match=message):
        search(arguments.pop("objective"), arguments.pop("space"), **arguments)


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda: search.loguniform(0, 1), ValueError),
        (lambda: search.loguniform(1, 1), ValueError),
        (lambda: search.uniform(0, math.inf), ValueError),
        (lambda: search.uniform("0", 1), TypeError),  # type: ignore[arg-type]
        (lambda: search.integer(3, 3), ValueError),
        (lambda: search.integer(0, 3, log=True), ValueError),
        (lambda: search.integer(0.5, 3), TypeError),  # type: ignore[arg-type]
        (lambda: search.choice("ab"), ValueError),
        (lambda: search.choice([]), ValueError),
        (lambda: search.choice([()]), TypeError),
        (lambda: search.choice([1, 2, 1.0]), ValueError),
    ],
)
def test_wrong_ranges_are_refused(make: Any, kind: type[Exception]) -> None:
    with pytest.raises(kind, match=r"(uniform|integer|choice): "):
        make()


def test_the_search_interrupted_by_hand_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "search.journal"

    def interrupted(trial: Any) -> float:
        if trial.number == 1:
            raise KeyboardInterrupt
        return bowl(trial)

    with pytest.raises(KeyboardInterrupt):
        search(interrupted, SPACE, trials=3, processes=1, storage=path)
    study = search(bowl, SPACE, trials=3, processes=1, storage=path)
    assert [record.state for record in study.trials] == ["complete"] * 3


def net(width: int = 8, **ignored: Any) -> Any:
    import fastnn as fnn

    return fnn.nn.Sequential(fnn.nn.Linear(2, width), fnn.nn.ReLU(), fnn.nn.Linear(width, 3))


def test_a_model_and_data_are_trained_with_what_is_drawn() -> None:
    import fastnn as fnn

    data = fnn.data.spirals(300, rng=np.random.default_rng(0))
    space = {"lr": search.loguniform(1e-6, 1e4), "width": search.choice([4, 32])}
    study = search((net, data), space, trials=8, processes=1, epochs=4, batch_size=32)
    best, worst = study.complete[0], study.complete[-1]
    assert (best.value or 9) < 0.9 < 1.05 < (worst.value or 0)
    assert len(best.reports) == 4 and best.reports[3] == best.value
    assert any(record.reason.startswith("diverged") for record in study.trials if record.parameters["lr"] > 100)
    again = search((net, data), space, trials=8, processes=1, epochs=4, batch_size=32)
    assert again.trials == [record.__class__(*_but_seconds(record, other)) for record, other in _pairs(study, again)]


def _pairs(one: Study, two: Study) -> Any:
    return zip(one.trials, two.trials, strict=True)


def _but_seconds(record: Any, other: Any) -> tuple[Any, ...]:
    return (record.number, record.parameters, record.value, record.state, record.reason, other.seconds, record.reports)


def test_a_network_of_the_zoo_is_searched_in_other_processes_for_accuracy() -> None:
    import fastnn as fnn

    train, held = fnn.data.clouds(200, classes=10, rng=1), fnn.data.clouds(100, classes=10, rng=2)
    space = {
        "lr": search.loguniform(1e-3, 1e-1),
        "dropout": search.uniform(0, 0.5),
        "optimizer": search.choice(["adam"]),
    }
    pair = (points_network, (train, held))
    study = search(pair, space, trials=3, processes=2, epochs=3, measure="accuracy")
    assert not study.minimize and 0.3 < study.best_value <= 1


@pytest.mark.parametrize(
    ("pair", "options", "kind", "message"),
    [
        ((3, None), {}, TypeError, "model is a int; expected a name of the zoo"),
        ((net, 3), {}, TypeError, "data is a int; expected a data set"),
        ((net, 3, 4), {}, TypeError, "objective is a tuple of 3"),
        ((net, (np.zeros((9, 2)), np.zeros(9, int))), {"speed": 1}, TypeError, "unknown training option speed"),
        ((net, (np.zeros((9, 2)), np.zeros(9, int))), {"measure": "f1"}, ValueError, "measure is 'f1'"),
        ((net, (np.zeros((9, 2)), np.zeros(9, int))), {"epochs": 0}, ValueError, "epochs is 0"),
    ],
)
def test_wrong_models_and_data_are_named(pair: Any, options: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        search(pair, SPACE, trials=1, processes=1, **options)


def test_pictures_show_values_and_layout(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason='plots need pip install "fastnn[search]"')
    from fastnn.train.search import plots

    space = SPACE | {"kind": search.choice(["a", "b"])}
    studies = [search(bowl, space, strategy=each, trials=8, processes=1) for each in ("grid", "random")]
    written = [plots.layout(studies, tmp_path / "both.png"), *plots.draw(studies[1], tmp_path)]
    assert [path.name for path in written] == ["both.png", "values.png", "layout.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in written)
    with pytest.raises(ValueError, match="there is one hyper-parameter; expected at least two"):
        plots.layout(search(lambda trial: 1.0, {"a": search.uniform(0, 1)}, trials=1, processes=1), tmp_path / "no.png")


def test_the_example_finds_more_at_random_than_on_a_grid(tmp_path: Path) -> None:
    for module in ("matplotlib", "threadpoolctl"):
        pytest.importorskip(module, reason='the example needs pip install "fastnn[train,search]"')
    example = Path(__file__).resolve().parents[1] / "examples" / "search_learning_rate.py"
    done = subprocess.run([sys.executable, example, tmp_path], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    grid, drawn, finer = (float(line.split()[1].strip(",")) for line in done.stdout.splitlines() if "Best:" in line)
    assert finer < drawn < grid
    assert "The best dropout, 0, lies at the lower edge of its range" in done.stdout
    assert {path.name for path in tmp_path.iterdir()} == {"grid-and-random.png", "values.png"}
