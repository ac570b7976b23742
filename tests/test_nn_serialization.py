"""Weights in safetensors files: round trips, PyTorch's files, damaged files, interrupted writes."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastnn import nn
from fastnn.nn import serialization

pytest.importorskip("safetensors")
RNG = np.random.default_rng(0)


def norms() -> Any:
    model = nn.Sequential(nn.BatchNorm1d(5), nn.Linear(5, 3), nn.LayerNorm(3, bias=False))
    model(RNG.normal(size=(4, 5)).astype(np.float32))
    return model


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_round_trip(dtype: str, tmp_path: Path) -> None:
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes")
    model, path = norms().to(dtype), tmp_path / "model.safetensors"
    nn.save(model, path, {"epoch": "3"})
    state = nn.load_state(path)
    assert list(sorted(state)) == sorted(model.state_dict())
    for key, value in model.state_dict().items():
        assert state[key].dtype == value.dtype and state[key].flags.writeable
        np.testing.assert_array_equal(state[key], value)
    other = norms().to(dtype)
    assert nn.load(other, path) == ([], [])
    np.testing.assert_array_equal(other[0].running_mean, model[0].running_mean)
    assert nn.load_metadata(path) == {"epoch": "3"}
    float32 = norms()
    nn.load(float32, str(path))
    np.testing.assert_array_equal(float32[0].running_var, model[0].running_var.astype(np.float32))


def test_arrays_of_all_kinds(tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    state = {kind: np.arange(6).reshape(2, 3).astype(kind) for kind in ("int8", "uint16", "int64", "bool", "float64")}
    state |= {"turned": np.arange(6.0).reshape(2, 3).T, "swapped": np.arange(3, dtype=">f8"), "one": np.array(2.0)}
    state |= {"none": np.zeros((0, 3), np.float32)}
    nn.save(state, path)
    found = nn.load_state(path)
    assert nn.load_metadata(path) == {}
    for key, value in state.items():
        np.testing.assert_array_equal(found[key], value)
        assert found[key].shape == value.shape and found[key].dtype == value.dtype.newbyteorder("=")


@pytest.mark.parametrize("kind", ["float16", "bfloat16", "float32", "float64"])
def test_torch_files_load_and_ours_load_in_torch(kind: str, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    library = pytest.importorskip("safetensors.torch")
    if kind == "bfloat16":
        pytest.importorskip("ml_dtypes")
    theirs = torch.nn.Sequential(torch.nn.BatchNorm1d(5), torch.nn.Linear(5, 3), torch.nn.LayerNorm(3, bias=False)).to(
        getattr(torch, kind)
    )
    for value in theirs.state_dict().values():
        value.copy_(torch.tensor(RNG.integers(1, 9, tuple(value.shape))))
    library.save_file(theirs.state_dict(), tmp_path / "torch.safetensors")
    ours = norms().to(kind)
    nn.load(ours, tmp_path / "torch.safetensors")
    nn.save(ours, tmp_path / "ours.safetensors")
    back = library.load_file(tmp_path / "ours.safetensors")
    theirs.load_state_dict(back)
    for key, value in theirs.state_dict().items():
        np.testing.assert_array_equal(ours.state_dict()[key].astype(float), value.double().numpy())


@pytest.mark.parametrize("keep", [0, 5, 60, -1])
def test_truncated_files_name_themselves(keep: int, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    nn.save(norms(), path)
    whole = path.read_bytes()
    path.write_bytes(whole[: keep if keep >= 0 else len(whole) - 1])
    with pytest.raises(ValueError, match=r"load_state: .*model\.safetensors is (truncated|damaged)"):
        nn.load_state(path)
    if keep >= 0:
        with pytest.raises(ValueError, match=r"load_metadata: .*model\.safetensors is truncated"):
            nn.load_metadata(path)


def test_other_files_say_what_they_are(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(b"PK\x03\x04" + bytes(100))
    with pytest.raises(ValueError, match=r"model\.pt is no safetensors file but one of torch\.save.*save_file"):
        nn.load_state(path)
    path.write_bytes(b"hello, world, this is no such file")
    with pytest.raises(ValueError, match=r"model\.pt is no safetensors file"):
        nn.load_state(path)
    with pytest.raises(FileNotFoundError):
        nn.load_state(tmp_path / "none")


def test_a_damaged_byte_of_the_header(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    nn.save(norms(), path)
    whole = bytearray(path.read_bytes())
    for place in range(0, 40, 3):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        with pytest.raises((ValueError, TypeError), match=r"model\.safetensors"):
            nn.load(norms(), path)


def test_weights_of_another_model_change_nothing(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    nn.save(norms(), path)
    other = nn.Sequential(nn.BatchNorm1d(6), nn.Linear(6, 3), nn.LayerNorm(3, bias=False))
    with pytest.raises(ValueError, match=r"model\.safetensors: Sequential\.load_state_dict: .* shape \(5,\)"):
        nn.load(other, path)
    with pytest.raises(ValueError, match=r"model\.safetensors: .*state_dict has"):
        nn.load(nn.BatchNorm1d(5), path)
    left = nn.load(nn.Sequential(nn.BatchNorm1d(5)), path, strict=False).unexpected_keys
    assert sorted(left) == ["1.bias", "1.weight", "2.weight"]


def test_what_cannot_be_saved(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    with pytest.raises(TypeError, match="save: a has dtype complex128"):
        nn.save({"a": np.zeros(2, complex)}, path)
    with pytest.raises(TypeError, match="got a list"):
        nn.save([np.zeros(2)], path)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="metadata has 'epoch': 3; expected texts"):
        nn.save({}, path, {"epoch": 3})  # type: ignore[dict-item]
    assert not list(tmp_path.iterdir())


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.safetensors"
    nn.save({"a": np.zeros(2)}, path)
    before = path.read_bytes()

    def fails(*_: Any) -> None:
        raise OSError("no space left")

    for name in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(os, name, fails)
            with pytest.raises(OSError, match="no space left"):
                nn.save({"a": np.ones(2)}, path)
        assert path.read_bytes() == before and os.listdir(tmp_path) == [path.name]


def test_links_and_permissions_stay(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    serialization.write_atomically(target, b"one")
    link.symlink_to(target)
    serialization.write_atomically(link, b"two")
    assert link.is_symlink() and target.read_bytes() == b"two"
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE(target.stat().st_mode) == 0o666 & ~mask


def test_what_is_no_file_is_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    serialization.write_atomically(pipe, b"through")
    assert os.read(reader, 100) == b"through"
    os.close(reader)
    assert pipe.is_fifo()
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError, match="folder"):
        serialization.write_atomically(tmp_path / "folder", b"")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["folder", "pipe"]


def test_states_of_torch_load_whether_they_are_learned_or_not() -> None:
    torch = pytest.importorskip("torch")
    other, model = torch.nn.Linear(3, 2), nn.Linear(3, 2)
    model.load_state_dict(dict(other.named_parameters()))
    np.testing.assert_array_equal(model.weight.data, other.weight.detach().numpy())
    model.load_state_dict(dict(nn.Linear(3, 2).named_parameters()))
    with pytest.raises(TypeError, match=r"weight is a \w+ that NumPy makes no array of .*float\(\) for bfloat16"):
        model.load_state_dict(other.bfloat16().state_dict())
