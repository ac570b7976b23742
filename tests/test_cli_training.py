"""`fastnn train`, `evaluate`, `predict` and `search`, as somebody types them."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastnn as fnn
from fastnn.cli import main

for module in ("safetensors", "matplotlib", "tqdm", "threadpoolctl"):
    pytest.importorskip(module, reason='training needs pip install "fastnn[train]"')

QUICK = ("--option", "hidden=16", "--batch-size", "128")
ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("FASTNN_DATA", ROOT.parent / "shared" / "data"))


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = main([str(each) for each in arguments])
    told = capsys.readouterr()
    return code, told.out, told.err


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Grey images of 20x20 in an .npz file: the class is the quarter that is bright."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 4, 400)
    x = rng.integers(0, 60, (400, 1, 20, 20), np.uint8)
    for image, label in zip(x, y, strict=True):
        image[:, 10 * (label // 2) :][:, :10, 10 * (label % 2) :][:, :, :10] += 150
    path = tmp_path_factory.mktemp("data") / "quarters.npz"
    names = np.array(["upper left", "upper right", "lower left", "lower right"])
    np.savez(path, x=x[:300], y=y[:300], x_test=x[300:], y_test=y[300:], classes=names)
    return path


@pytest.fixture(scope="module")
def trained(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lenet5 that has learned them."""
    folder = tmp_path_factory.mktemp("model")
    options = ["--model", "lenet5", "--epochs", "6", "--lr", "0.03", "--batch-size", "32", "--quiet"]
    assert main(["train", "--data", str(images), *options, "--out", str(folder)]) == 0
    return folder


def test_without_options_it_learns_spirals_and_draws_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "train", "--out", tmp_path)
    assert code == 0 and err == ""
    accuracy = re.search(r"^Test accuracy: (\S+) % \(loss \S+\) after 30 epochs", out, re.MULTILINE)
    assert accuracy and float(accuracy[1]) > 98
    assert out.startswith("mlp, 4,675 parameters, on spirals: 2,700 training, 300 validation, 1,000 test samples\n")
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"model.safetensors", "model.json", "history.json", "history.png", "regions.png"}
    assert (tmp_path / "regions.png").read_bytes().startswith(b"\x89PNG")
    code, out, _ = run(capsys, "evaluate", tmp_path, "--json")
    found = json.loads(out)
    assert code == 0 and 100 * found["accuracy"] == pytest.approx(float(accuracy[1]))


def test_a_seed_repeats_a_run_at_any_number_of_threads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def weights(name: str, *arguments: object) -> bytes:
        assert run(capsys, "train", *QUICK, "--quiet", *arguments, "--out", tmp_path / name)[0] == 0
        return (tmp_path / name / "model.safetensors").read_bytes()

    whole = weights("whole", "--epochs", 3, "--dropout", 0.3)
    assert weights("again", "--epochs", 3, "--dropout", 0.3, "--threads", 1) == whole
    assert weights("other", "--epochs", 3, "--dropout", 0.3, "--seed", 1) != whole


def interruptible() -> None:
    """In a new process: let Ctrl-C do what it does, even where the tests themselves run in the background."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def test_an_interrupted_run_goes_on(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "fastnn.cli", "train", "--epochs", "20"]
    kept = ["--checkpoint", str(tmp_path / "kept"), "--out"]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen([*command, *kept, str(tmp_path / "first")], preexec_fn=interruptible, **pipes)
    while not list((tmp_path / "kept").glob("*/state.json")):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()
    assert process.returncode == 130 and "Traceback" not in err
    assert err.endswith(f"interrupted; the same command goes on from {tmp_path / 'kept'}\n")
    assert not (tmp_path / "first").exists()
    for options in ([*kept, str(tmp_path / "second")], ["--out", str(tmp_path / "whole")]):
        assert subprocess.run([*command, "--quiet", *options], capture_output=True).returncode == 0
    first, second = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("second", "whole"))
    assert first == second


def test_images_from_a_file_are_learned_evaluated_and_predicted(
    trained: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from PIL import Image

    about = json.loads((trained / "model.json").read_text())
    assert about["model"] == {"name": "lenet5", "input_shape": [1, 20, 20], "classes": 4, "dtype": "float32"}
    assert about["classes"][3] == "lower right" and about["test"]["accuracy"] > 0.95
    code, out, _ = run(capsys, "evaluate", trained)
    assert code == 0 and f"accuracy {100 * about['test']['accuracy']:.2f} %" in out and "upper left " in out
    code, out, _ = run(capsys, "evaluate", trained / "model.safetensors", "--data", images, "--json")
    assert json.loads(out)["accuracy"] == about["test"]["accuracy"]
    with np.load(images) as archive:
        sample, label = archive["x_test"][0, 0], int(archive["y_test"][0])
    Image.fromarray(sample).save(tmp_path / "one.png")
    code, out, _ = run(capsys, "predict", trained, tmp_path / "one.png", tmp_path / "one.png", "--top", 2, "--json")
    found = json.loads(out)
    assert code == 0 and len(found) == 2 and found[0]["classes"][0]["class"] == about["classes"][label]
    code, out, _ = run(capsys, "predict", trained, tmp_path / "one.png", "--average")
    assert code == 0 and len(out.splitlines()) == 1 and out.count(" %") == 3


def test_sessions_and_onnx_files_of_a_model_are_used_as_it_is(
    trained: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from PIL import Image

    for name in ("model.json", "model.safetensors"):
        (tmp_path / name).write_bytes((trained / name).read_bytes())
    model = fnn.models.create("lenet5", input_shape=(1, 20, 20), classes=4)
    fnn.nn.load(model, trained / "model.safetensors")
    files = [tmp_path / "fast.session"]
    fnn.compile(model, (1, 20, 20)).save(files[0])
    if importlib.util.find_spec("onnx") is not None:
        files.append(tmp_path / "model.onnx")
        fnn.onnx.export(model, files[-1], (1, 20, 20))
    Image.fromarray(np.zeros((20, 20), np.uint8)).save(tmp_path / "one.png")
    _, want, _ = run(capsys, "predict", tmp_path, tmp_path / "one.png")
    accuracy = json.loads((trained / "model.json").read_text())["test"]["accuracy"]
    for path in files:
        code, out, _ = run(capsys, "evaluate", path, "--data", images, "--json")
        assert code == 0 and json.loads(out)["accuracy"] == accuracy
        assert run(capsys, "predict", path, tmp_path / "one.png") == (0, want, "")
    small = tmp_path / "int8.session"
    code, out, _ = run(capsys, "export", tmp_path, "--int8", "--session", small)
    assert code == 0 and "ranges by minmax of 300 samples" in out and small.stat().st_size < files[0].stat().st_size / 2
    assert abs(json.loads(run(capsys, "evaluate", small, "--data", images, "--json")[1])["accuracy"] - accuracy) < 0.03
    code, _, err = run(capsys, "export", small, "--int8", "--c", tmp_path / "x.c")
    assert code == 2 and "--int8 needs the folder of a trained model" in err
    code, _, err = run(capsys, "export", tmp_path, "--int8", "--onnx", tmp_path / "x.onnx")
    assert code == 2 and "--int8 is about sessions and C files; got --onnx" in err
    code, _, err = run(capsys, "evaluate", files[0], "--device", "cuda")
    assert code == 2 and "a session runs on the CPU" in err
    fnn.compile(fnn.models.create("lenet5", input_shape=(1, 20, 20), classes=3), (1, 20, 20)).save(files[0])
    code, _, err = run(capsys, "evaluate", files[0])
    assert code == 2 and "fast.session makes (1, 3) of a sample; model.json beside it says (1, 4)" in err
    (tmp_path / "notes.txt").write_text("no session, and longer than eight bytes")
    code, _, err = run(capsys, "evaluate", tmp_path / "notes.txt")
    assert code == 2 and "notes.txt is no session" in err


def test_saved_weights_are_what_the_zoo_loads(trained: Path) -> None:
    model = fnn.models.create("lenet5", input_shape=(1, 20, 20), classes=4)
    fnn.nn.load(model, trained / "model.safetensors")
    assert fnn.nn.load_metadata(trained / "model.safetensors")["fastnn"].startswith('{"name": "lenet5"')


def test_check_prints_the_lectures_checks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "train", "--check", "--out", tmp_path / "none")
    assert code == 0 and "overfits a tiny set" in out and "initial loss" in out and "All is as it should be." in out
    assert not (tmp_path / "none").exists()


def test_a_run_that_goes_wrong_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wild = ("--optimizer", "sgd", "--lr", 1e9, "--schedule", "constant", "--warmup", 0)
    options = (*wild, "--no-batch-norm", "--epochs", 2)
    code, out, err = run(capsys, "train", *QUICK, *options, "--out", tmp_path)
    assert code == 1 and "The run went wrong: " in out and err == ""
    assert json.loads((tmp_path / "model.json").read_text())["diverged"] is True


def test_results_are_recorded_by_data_and_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "results.json"
    for seed in (0, 1):
        options = ("--data", "moons", *QUICK, "--epochs", 2, "--seed", seed)
        code, out, _ = run(capsys, "train", *options, "--record", file, "--out", tmp_path)
        assert code == 0 and out.endswith(f"Recorded in {file}\n")
    (key, found), *others = json.loads(file.read_text())["results"].items()
    assert key == "moons/mlp" and not others and found["seed"] == 1 and found["epochs"] == 2
    assert 0 < found["test_accuracy"] <= 1 and found["samples_per_s"] > 0 and len(found["curve"]["loss"]) == 2
    file.write_text("[]")
    code, _, err = run(capsys, "train", "--data", "moons", *QUICK, "--record", file, "--out", tmp_path / "no")
    assert code == 2 and "is not a file of `fastnn train --record`" in err and not (tmp_path / "no").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--data", "mnst"], "unknown data 'mnst'. Did you mean 'mnist'?"),
        (["train", "--data", "what"], "unknown data 'what'; expected spirals, clouds"),
        (["train", "--data", "none.npz"], "none.npz"),
        (["train", "--model", "lenet"], "unknown model 'lenet'. Did you mean 'lenet5'?"),
        (["train", "--model", "resnet8"], "input_shape is (2,); expected (channels, height, width)"),
        (["train", "--activation", "rellu"], "unknown activation 'rellu'. Did you mean 'relu'?"),
        (["train", "--optimizer", "sdg"], "optimizer is 'sdg'; expected one of sgd, adam"),
        (["train", "--schedule", "cosin"], "schedule is 'cosin'; expected one of cosine"),
        (["search", "--optimizer", "sdg"], "optimizer is 'sdg'; expected one of sgd, adam"),
        (["train", "--option", "pool=avg"], "mlp has no option pool"),
        (["train", "--augment"], "--augment is for images"),
        (["train", "--option", "classes=5"], "--option classes: it follows from --data"),
        (["train", "--option", "hidden=1.5"], "hidden is 1.5; expected widths"),
        (["train", "--record", "no/such.json"], "--record: there is no folder for no/such.json"),
        (["evaluate", "nowhere"], "nowhere"),
        (["predict", "nowhere", "x.png"], "nowhere"),
        (["search", "--range", "lr=1:0.1"], "got low=1.0, high=0.1; expected finite numbers, 0 < low < high"),
        (["search", "--range", "breadth=1:2", "--trials", "1"], "mlp has no option breadth"),
        (["search", "--lr", "0.1", "--weight-decay", "0"], "there is nothing to search"),
    ],
)
def test_errors_say_what_is_wrong_without_a_traceback(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capsys, *arguments)
    assert code == 2 and message in err and err.startswith(f"fastnn {arguments[0]}: ") and "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--epochs", "0"], "argument --epochs: 0; expected an integer, at least 1"),
        (["--epochs", "many"], "argument --epochs: invalid integer value: 'many'"),
        (["--lr", "0"], "argument --lr: 0; expected a number above 0"),
        (["--lr", "nan"], "argument --lr: nan; expected a number above 0"),
        (["--dropout", "1"], "argument --dropout: 1; expected a number at least 0, at most 0.999"),
        (["--option", "hidden"], "argument --option: hidden; expected NAME=VALUE"),
        (["--dtype", "int8"], "argument --dtype: invalid choice"),
    ],
)
def test_wrong_values_of_options_are_named(arguments: list[str], message: str, capsys: Any) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["train", *arguments])
    assert stop.value.code == 2 and message in capsys.readouterr().err


@pytest.mark.parametrize("command", ["train", "evaluate", "predict", "search", "export"])
def test_help_has_examples(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    out = capsys.readouterr().out
    assert stop.value.code == 0 and "examples:" in out and f"  fastnn {command} " in out


def test_damaged_models_are_named(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, data, message in (
        ("model.json", b"{", "is not JSON"),
        ("model.json", b"[]", "does not describe a model"),
        ("model.json", b'{"format": 9, "model": 0, "preprocess": 0, "classes": 0, "data": 0}', "has format 9"),
        ("model.safetensors", b"123", "model.safetensors"),
    ):
        for file in ("model.json", "model.safetensors"):
            (tmp_path / file).write_bytes(data if file == name else (trained / file).read_bytes())
        code, _, err = run(capsys, "evaluate", tmp_path)
        assert code == 2 and message in err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": 3}, "does not describe a model"),
        ({"model": {}}, "does not describe a model"),
        ({"preprocess": None}, "does not describe a model"),
        ({"classes": ["one"]}, "its classes or data are not as expected"),
    ],
)
def test_descriptions_of_no_model_are_named(
    change: dict[str, Any], message: str, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    about = json.loads((trained / "model.json").read_text())
    (tmp_path / "model.json").write_text(json.dumps(about | change))
    (tmp_path / "model.safetensors").write_bytes((trained / "model.safetensors").read_bytes())
    code, _, err = run(capsys, "predict", tmp_path, "x.png")
    assert code == 2 and f"{tmp_path / 'model.json'} " in err and message in err


def test_a_folder_that_is_not_there_is_not_the_one_around_it(
    trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(trained)
    code, _, err = run(capsys, "evaluate", "other")
    assert code == 2 and "other: there is no such folder or file" in err


X, Y = np.linspace(0, 1, 120, dtype=np.float32).reshape(60, 2), np.arange(60) % 3


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": X + np.inf, "y": Y}, "x[0] has NaN or infinity in it"),
        ({"x": X.astype(np.float64) * 1e300, "y": Y}, "has NaN or infinity in it"),
        ({"x": X[:, 0], "y": Y}, "x has shape (60,); expected (N, features)"),
        ({"x": X, "y": Y * 0}, "y has 1 class; expected labels of two or more"),
        ({"x": X, "y": Y - 1}, "y has shape (60,) and dtype int64; expected 60 integers"),
        ({"x": X, "y": Y, "classes": np.array(["a", "b"])}, "y has the label 2; expected 0 to 1"),
        ({"x": X, "y": Y, "classes": np.array("abc")}, "classes has shape ()"),
        ({"x": X, "y": Y, "x_test": X}, "has no array y_test"),
        ({"x": X, "y": Y, "x_test": X, "y_test": Y + 1}, "y_test has the label 3; expected 0 to 2"),
        ({"x": X, "y": Y, "x_test": X[:, :1], "y_test": Y}, "x_test has samples of shape (1,); expected (2,)"),
    ],
)
def test_files_of_nonsense_are_refused_before_the_run(
    arrays: dict[str, Any], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "mine.npz"
    with np.errstate(all="ignore"):
        np.savez(file, **arrays)
    code, _, err = run(capsys, "train", "--data", file, *QUICK, "--out", tmp_path / "run")
    assert code == 2 and f"{file}" in err and message in err and not (tmp_path / "run").exists()


def test_damaged_files_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "mine.npz"
    np.savez(file, x=X, y=Y)
    whole = bytearray(file.read_bytes())
    flipped = whole.copy()
    flipped[200] ^= 255
    for content in (b"", b"text", whole[:300], flipped):
        file.write_bytes(content)
        code, _, err = run(capsys, "train", "--data", file, "--out", tmp_path / "run")
        assert code == 2 and f"{file} is damaged, or no file of np.savez" in err


def test_a_remainder_of_one_sample_trains(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez(tmp_path / "mine.npz", x=X[:59], y=Y[:59], x_test=X, y_test=Y)
    options = ("--batch-size", 29, "--validation", 0, "--epochs", 1, "--option", "hidden=4", "--out", tmp_path / "run")
    code, _, err = run(capsys, "train", "--data", tmp_path / "mine.npz", *options)
    assert code == 0 and err == ""


def test_evaluate_refuses_other_data(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "evaluate", trained, "--data", "spirals")
    assert code == 2 and "spirals has samples of shape (2,); the model takes (1, 20, 20)" in err


def test_search_finds_a_rate_warns_of_edges_and_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("optuna", reason='the search needs pip install "fastnn[search]"')
    common = ("search", *QUICK, "--samples", 600, "--epochs", 2, "--processes", 1, "--optimizer", "adam")
    ranges = ("--range", "lr=1e-7:1e-2", "--range", "activation=relu,tanh")
    storage = ("--storage", tmp_path / "search.journal")
    code, out, err = run(capsys, *common, *ranges, *storage, "--trials", 3, "--out", tmp_path / "three")
    assert code == 0 and err == "" and "3 trials of 2 epochs by random search: lr 1e-07 to 0.01, activation" in out
    code, out, _ = run(capsys, *common, *ranges, *storage, "--trials", 6, "--out", tmp_path / "six")
    assert code == 0 and "4/6" in out and "3/6" not in out and "Where to look next, more finely: lr " in out
    assert {path.name for path in (tmp_path / "six").iterdir()} == {"search.json", "values.png", "layout.png"}
    found = json.loads((tmp_path / "six" / "search.json").read_text())
    values = [trial["value"] or 0 for trial in found["trials"]]
    assert values[found["best"]] == max(values) > 0.4


def alive(group: int) -> list[str]:
    """The processes of a group that still run, as Linux tells."""
    found = []
    for file in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _, rest = file.read_text().rpartition(")")
        except OSError:
            continue
        state, _, its_group = rest.split()[:3]
        if int(its_group) == group and state not in "ZX":
            found.append(name)
    return found


def test_an_interrupted_search_ends_its_processes_and_goes_on(tmp_path: Path) -> None:
    pytest.importorskip("optuna", reason='the search needs pip install "fastnn[search]"')
    storage = tmp_path / "search.journal"
    command = [sys.executable, "-m", "fastnn.cli", "search", "--trials", "40", "--epochs", "4", "--processes", "2"]
    command += ["--storage", str(storage), "--out", str(tmp_path / "out")]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, start_new_session=True, preexec_fn=interruptible, **pipes)
    assert process.stdout is not None
    while not process.stdout.readline().startswith(" 1/40"):
        assert process.poll() is None
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to every process of the group
    _, err = process.communicate()
    assert process.returncode == 130 and err == f"interrupted; the same command goes on with {storage}\n"
    for _ in range(200):
        if not alive(process.pid):
            break
        time.sleep(0.05)
    assert not alive(process.pid)
    journal = storage.read_text()
    assert main(["search", "--trials", "2", *command[6:8], "--processes", "1", *command[10:], "--quiet"]) == 0
    assert storage.read_text().startswith(journal.rpartition("\n")[0])


def test_real_digits_are_learned(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if not any(DATA.glob("**/train-images*")):
        pytest.skip("needs the idx files of MNIST: set FASTNN_DATA to the folder that holds them")
    options = ("--data", "mnist", "--folder", DATA, "--model", "mlp", "--epochs", 1, "--quiet", "--threads", 1)
    code, out, _ = run(capsys, "train", *options, "--out", tmp_path)
    accuracy = re.search(r"Test accuracy: (\S+) %", out)
    assert code == 0 and accuracy and float(accuracy[1]) > 95
