"""Checkpoints: whole or not there, and a run that goes on from one ends with the bits of an unbroken run."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from train_nets import TRAIN, VALIDATION, mlp, weights

import fastnn as fnn
from fastnn import data, nn, optim, train
from fastnn.train import checkpoint


class Interrupted(Exception):
    """As if the process had ended."""


class Interrupt(train.Callback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_batch_begin(self, trainer: train.Trainer) -> None:
        if trainer.step == self.step:
            raise Interrupted


class Draws(train.Callback):
    """Something that draws from the generator of the process, and remembers."""

    def __init__(self) -> None:
        self.drawn: list[float] = []

    def on_batch_end(self, trainer: train.Trainer) -> None:
        self.drawn.append(float(fnn.random.default_rng().random()))

    def state_dict(self) -> dict[str, Any]:
        return {"drawn": self.drawn}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        self.drawn = list(state_dict["drawn"])


def make(kind: str = "Adam", **options: Any) -> tuple[nn.Module, dict[str, Any], Draws]:
    """A run with everything in it that has state; what it is made with."""
    model = nn.Sequential(
        nn.Linear(2, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 3)
    )
    given = {"SGD": {"lr": 0.05, "momentum": 0.9}, "Adam": {"lr": 1e-2, "amsgrad": True}, "RMSprop": {"centered": True}}
    optimizer = getattr(optim, kind)(model.parameters(), **given.get(kind, {}))
    schedule = optim.lr_scheduler
    draws = Draws()
    return (
        model,
        {
            "train": data.Loader(TRAIN, 32, seed=5),
            "validation": VALIDATION,
            "optimizer": optimizer,
            "scheduler": schedule.WarmupLR(optimizer, 10, schedule.CosineAnnealingLR(optimizer, 50)),
            "schedule": "step",
            "regularizer": fnn.regularizers.L2(1e-4),
            "clip_grad_norm": 1.0,
            "early_stopping": train.EarlyStopping(3, min_delta=0.02),
            "callbacks": [draws],
            "epochs": 4,
            "progress": False,
            **options,
        },
        draws,
    )


def outcome(model: nn.Module, history: train.History, draws: Draws) -> dict[str, Any]:
    """Everything that must not differ, that is all but times."""
    record = history.as_dict()
    record["epochs"].pop("seconds")
    return {
        "weights": weights(model),
        "history": json.dumps(record, default=lambda a: a.tolist()),
        "drawn": draws.drawn,
    }


def run(**options: Any) -> dict[str, Any]:
    fnn.manual_seed(11)
    model, given, draws = make(**options)
    return outcome(model, train.fit(model, **given), draws)


@pytest.mark.parametrize("kind", ["SGD", "Adam", "AdamW", "RMSprop"])
def test_a_resumed_run_has_the_bits_of_an_unbroken_one(tmp_path: Path, kind: str) -> None:
    """Interrupted in the middle of epochs, on their borders, and in the last one."""
    expected = run(kind=kind)
    for stop in (5, 15, 45, 52) if kind == "Adam" else (22,):
        folder = tmp_path / str(stop)
        keep = train.Checkpoints(folder, steps=4)
        for interrupt in (stop, 10**9):
            fnn.manual_seed(11 if interrupt == stop else 99)  # what is drawn at first is replaced
            model, given, draws = make(kind)
            given["callbacks"].append(Interrupt(interrupt))
            if interrupt == stop:
                with pytest.raises(Interrupted):
                    train.fit(model, **given, checkpoint=keep)
                if stop == 0:
                    break
            else:
                assert outcome(model, train.fit(model, **given, checkpoint=keep), draws) == expected
        assert len(keep.generations()) <= 2


def test_a_finished_run_is_not_trained_again(tmp_path: Path) -> None:
    expected = run(monitor=9)
    assert run(monitor=9, checkpoint=tmp_path) == expected
    assert run(monitor=9, checkpoint=tmp_path) == expected  # the best weights are restored here too
    model, given, draws = make(monitor=9, checkpoint=tmp_path, epochs=6)
    longer = train.fit(model, **given)
    fnn.manual_seed(11)
    whole, given, others = make(monitor=9, epochs=6)
    assert outcome(model, longer, draws) == outcome(whole, train.fit(whole, **given), others)
    fnn.manual_seed(11)
    model, given, draws = make(monitor=9, checkpoint=tmp_path, resume=False)
    assert outcome(model, train.fit(model, **given), draws) == expected


def test_an_early_stop_stays_one(tmp_path: Path) -> None:
    options = {"early_stopping": train.EarlyStopping(1, min_delta=10.0), "epochs": 9, "checkpoint": tmp_path}
    first = run(**options)
    options["early_stopping"] = train.EarlyStopping(1, min_delta=10.0)
    assert "has not become better since epoch 1" in first["history"]
    assert run(**options) == first


def test_what_a_folder_holds(tmp_path: Path) -> None:
    model, given, _ = make(checkpoint=train.Checkpoints(tmp_path / "a" / "run", epochs=2, keep=3), epochs=5)
    train.fit(model, **{**given, "early_stopping": None})
    folder = tmp_path / "a" / "run"
    assert sorted(os.listdir(folder)) == ["00000001", "00000002", "00000003", "latest"]  # after epochs 2, 4 and 5
    assert os.readlink(folder / "latest") == "00000003"
    other, _, _ = make()
    nn.load(other, folder / "latest" / "model.safetensors")
    assert weights(other) == weights(model)
    assert not any(path.suffix in (".pkl", ".pt", ".npy") for path in folder.rglob("*"))
    state = json.loads((folder / "latest" / "state.json").read_text())["state"]
    assert state["position"] == {"epoch": 5, "batch": 0, "step": 75}
    assert repr(train.Checkpoints("run", steps=5)) == "Checkpoints('run', epochs=1, steps=5, keep=2)"


@pytest.mark.parametrize("name", ["model.safetensors", "state.safetensors", "state.json"])
@pytest.mark.parametrize("harm", ["truncate", "flip", "remove", "empty"])
def test_damage_is_named_and_stepped_over_only_if_told(tmp_path: Path, name: str, harm: str) -> None:
    expected = run(checkpoint=tmp_path / "whole")
    folder = tmp_path / "run"
    fnn.manual_seed(11)
    model, given, _ = make(checkpoint=folder)
    given["callbacks"].append(Interrupt(40))
    with pytest.raises(Interrupted):
        train.fit(model, **given)
    path = folder / "latest" / name
    content = path.read_bytes()
    middle = len(content) // 2
    if harm == "remove":
        path.unlink()
    else:
        flipped = content[:middle] + bytes([content[middle] ^ 0x80]) + content[middle + 1 :]
        path.write_bytes({"truncate": content[:-7], "flip": flipped, "empty": b""}[harm])
    model, given, draws = make(checkpoint=folder)
    given["callbacks"].append(Interrupt(10**9))
    before = weights(model)
    with pytest.raises(ValueError, match=f"00000002/{name} .*00000001 is older; fallback=True takes it"):
        train.fit(model, **given)
    assert weights(model) == before
    model, given, draws = make(checkpoint=train.Checkpoints(folder, fallback=True))
    given["callbacks"].append(Interrupt(10**9))
    with pytest.warns(RuntimeWarning, match=f"{name}.*going back to .*00000001"):
        history = train.fit(model, **given)
    assert outcome(model, history, draws) == expected


def test_all_generations_damaged(tmp_path: Path) -> None:
    keep = train.Checkpoints(tmp_path, fallback=True)
    assert keep.load() is None
    keep.save({"w": np.ones(3)}, {"n": 1})
    (tmp_path / "latest" / "state.json").write_text("{}")
    with pytest.raises(ValueError, match=r"00000001/state.json is damaged: KeyError: 'format'"):
        keep.load()


def test_another_run_is_told_so(tmp_path: Path) -> None:
    run(checkpoint=tmp_path)
    for options, message in [
        ({"kind": "SGD"}, "optimizer was Adam; now it is SGD"),
        ({"train": data.Loader(TRAIN, 60)}, "batches of train was 15; now it is 8"),
        ({"train": data.Loader(TRAIN, 32, seed=6)}, "seed of train was 5; now it is 6"),
        ({"scheduler": None}, "scheduler was True; now it is False"),
        ({"early_stopping": None}, "callbacks was"),
    ]:
        model, given, _ = make(**options)
        before = weights(model)
        with pytest.raises(ValueError, match=f"is not of this run: {message}") as error:
            train.fit(model, **given, checkpoint=tmp_path)
        assert str(tmp_path) in str(error.value) and weights(model) == before
    _, given, _ = make()
    wrong = mlp(2, 5, 3)
    given |= {"optimizer": optim.Adam(wrong.parameters()), "scheduler": None, "checkpoint": tmp_path}
    with pytest.raises(ValueError, match="is not of this run"):
        train.fit(wrong, **given)


def test_state_of_every_kind_comes_back(tmp_path: Path) -> None:
    import ml_dtypes

    state = {
        "floats": [0.1, 1e-300, float("nan"), float("inf"), -float("inf"), -0.0],
        "ints": [0, 2**127, -5],
        "others": [None, True, "text ü", {}, [], ()],
        "scalars": [np.float32(1.5), np.int64(3), np.bool_(True)],
        "arrays": {"a": np.zeros((0, 3)), "b": np.array(1.5, np.float16), "c": np.arange(12).reshape(3, 4)[:, ::2]},
        "bf": np.ones(3, ml_dtypes.bfloat16),
        1: {"2": np.array([np.nan, -np.inf])},
    }
    keep = train.Checkpoints(tmp_path)
    keep.save({}, state)
    found = keep.load()
    assert found is not None
    weights, loaded = found
    assert weights == {}
    assert repr(loaded["floats"]) == "[0.1, 1e-300, nan, inf, -inf, -0.0]"
    assert loaded["ints"] == state["ints"] and loaded["others"] == [None, True, "text ü", {}, [], []]
    assert loaded["scalars"] == [1.5, 3, True]
    for name, array in state["arrays"].items():  # type: ignore[attr-defined]
        np.testing.assert_array_equal(loaded["arrays"][name], array)
        assert loaded["arrays"][name].dtype == array.dtype and loaded["arrays"][name].shape == array.shape
    assert loaded["bf"].dtype == ml_dtypes.bfloat16 and np.isnan(loaded["1"]["2"][0])
    with pytest.raises(TypeError, match="checkpoint: a/0 is of type set"):
        keep.save({}, {"a": [{1}]})
    assert [each.name for each in keep.generations()] == ["00000001"]


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"epochs": 0}, ValueError, "Checkpoints: epochs is 0"),
        ({"steps": 1.5}, TypeError, "Checkpoints: steps is 1.5"),
        ({"keep": 0}, ValueError, "Checkpoints: keep is 0"),
        ({"fallback": 1}, TypeError, "Checkpoints: fallback is 1"),
    ],
)
def test_arguments_are_checked(options: dict[str, Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        train.Checkpoints("run", **options)
    with pytest.raises(ValueError, match="which is a file"):
        train.Checkpoints(__file__)


@pytest.mark.parametrize("call", ["mkdir", "rename", "replace", "symlink", "rmtree"])
def test_ending_at_any_call_leaves_a_whole_generation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """Every n-th call of the file system is the last: what is there afterwards loads, and is one of the two states."""
    owner: Any = shutil if call == "rmtree" else Path if call == "mkdir" else os
    plain = getattr(owner, call)
    for last in range(8):
        folder = tmp_path / f"{call}{last}"
        keep = train.Checkpoints(folder, keep=1)
        keep.save({"w": np.zeros(2)}, {"n": 0})
        left = [last]

        def stopping(*args: Any, left: list[int] = left, **kwargs: Any) -> Any:
            if left[0] == 0:
                raise Interrupted
            left[0] -= 1
            return plain(*args, **kwargs)

        with monkeypatch.context() as patch:
            patch.setattr(owner, call, stopping)
            try:
                keep.save({"w": np.ones(2)}, {"n": 1})
                done = True
            except Interrupted:
                done = False
        found = keep.load()
        assert found is not None and (found[0]["w"] == found[1]["n"]).all()
        if done:
            assert found[1]["n"] == 1
        keep.save({"w": np.full(2, 2.0)}, {"n": 2})  # and the next clears up
        assert keep.load()[1] == {"n": 2}  # type: ignore[index]
        assert [name for name in os.listdir(folder) if name.startswith(".")] == []
        checkpoint.read(folder / "latest")


CHILD = """
import os, sys, signal, time
sys.path.insert(0, {tests!r})
import fastnn as fnn
import test_train_checkpoint as this
fnn.data, fnn.train, fnn.optim, fnn.nn

for line in sys.stdin:  # one run each, in a process of its own that has everything imported
    folder, out, limit = line.split()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            this.long_run(folder, out)
            code = 0
        finally:
            os._exit(code)
    if float(limit):
        time.sleep(float(limit))
        os.kill(child, signal.SIGKILL)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


def long_run(folder: str, out: str) -> None:
    """What is killed."""
    fnn.manual_seed(11)
    model, given, draws = make(epochs=5, early_stopping=train.EarlyStopping(20), monitor=9)
    if folder != "none":
        given["checkpoint"] = train.Checkpoints(folder, steps=3)
    result = outcome(model, train.fit(model, **given), draws)
    Path(out).write_bytes(result["weights"] + result["history"].encode() + repr(result["drawn"]).encode())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_killed_twenty_times_and_resumed_it_ends_with_the_same_bits(tmp_path: Path) -> None:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    code = CHILD.format(tests=str(Path(__file__).parent))
    chance = random.Random(7)
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as helper:
        assert helper.stdin is not None and helper.stdout is not None

        def launch(folder: str, out: str, limit: float) -> tuple[int, bool]:
            """The exit code, and whether it was killed."""
            assert helper.stdin is not None and helper.stdout is not None
            where = tmp_path / folder if folder != "none" else "none"
            print(where, tmp_path / out, limit, file=helper.stdin, flush=True)
            code = int(helper.stdout.readline())
            return code, code == -signal.SIGKILL

        assert launch("none", "expected", 0) == (0, False)
        expected = (tmp_path / "expected").read_bytes()
        begin = time.perf_counter()
        assert launch("whole", "saving", 0) == (0, False)
        length = time.perf_counter() - begin
        assert (tmp_path / "saving").read_bytes() == expected
        kills = run_number = 0
        positions = []
        while kills < 20:
            folder = f"run{run_number}"
            code, killed = launch(folder, f"out{run_number}", length * chance.uniform(0.03, 0.4))
            kills += killed
            if killed:
                with warnings.catch_warnings():
                    warnings.simplefilter("error")
                    found = train.Checkpoints(tmp_path / folder).load()
                positions.append(found[1]["position"]["step"] if found else 0)
            else:
                assert code == 0
                assert (tmp_path / f"out{run_number}").read_bytes() == expected
                run_number += 1
        assert launch(f"run{run_number}", "last", 0) == (0, False)
        assert (tmp_path / "last").read_bytes() == expected
        assert len(set(positions)) > 5, positions  # killed here and there
        helper.stdin.close()


def test_a_folder_that_cannot_be_made_is_said_before_the_first_step(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    model, options, draws = make()
    with pytest.raises(ValueError, match="Checkpoints: folder is .*, which cannot be written to"):
        train.fit(model, checkpoint=tmp_path / "file" / "run", **options)
    assert not draws.drawn
