"""Sessions in files: the same bits again, readable by others, and errors that name the file when it is not whole."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastnn as fnn
from fastnn import nn


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[fnn.infer.Session, Path]:
    model = nn.Sequential(
        nn.Conv2d(2, 3, 3, bias=False),
        nn.BatchNorm2d(3),
        nn.LeakyReLU(0.2),
        nn.Flatten(),
        nn.Dropout(),
        nn.Linear(27, 4),
    )
    session, path = fnn.compile(model, (2, 5, 5)), tmp_path_factory.mktemp("sessions") / "net.safetensors"
    session.save(path)
    return session, path


def images(samples: int = 3) -> Any:
    return np.random.default_rng(0).standard_normal((samples, 2, 5, 5), dtype=np.float32)


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
def test_the_same_bits(dtype: str, tmp_path: Path) -> None:
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes")
    model = fnn.models.create("lenet5", batch_norm=True, dtype=dtype)
    session = fnn.compile(model, (1, 28, 28), batch=2, threads=1)
    session.save(tmp_path / "net")
    again = fnn.load(tmp_path / "net")
    x = np.random.default_rng(0).standard_normal((2, 1, 28, 28)).astype(session.dtype)
    assert (again.batch, again.threads, again.dtype) == (2, 1, session.dtype)
    assert (again(x) == session(x)).all() and (again.clone()(x) == session(x)).all()


def test_weights_are_mapped(saved: Any) -> None:
    session, path = saved
    again = fnn.load(path)
    for name, array in again._graph.constants.items():
        base = array
        while isinstance(base, np.ndarray) and not isinstance(base, np.memmap):
            base = base.base  # type: ignore[assignment]
        assert isinstance(base, np.memmap) and not array.flags.writeable, name
    session.save(path)  # over the file that is mapped
    assert (again(images()) == session(images())).all()


def test_it_is_a_safetensors_file(saved: Any) -> None:
    numpy = pytest.importorskip("safetensors.numpy")
    session, path = saved
    found = numpy.load_file(path)
    assert found.keys() == session._graph.constants.keys() == {"0.weight", "0.bias", "5.weight", "5.bias"}
    assert all((found[name] == array).all() for name, array in session._graph.constants.items())


def test_a_fresh_process_needs_neither_layers_nor_libraries(saved: Any, tmp_path: Path) -> None:
    session, path = saved
    np.save(tmp_path / "x.npy", images())
    program = (
        "import sys, numpy as np, fastnn as fnn\n"
        f"y = fnn.load({str(path)!r})(np.load({str(tmp_path / 'x.npy')!r}))\n"
        f"np.save({str(tmp_path / 'y.npy')!r}, y)\n"
        "assert not {'fastnn.nn', 'safetensors', 'pickle5', 'torch'} & set(sys.modules), sorted(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-P", "-c", program], check=True)
    assert (np.load(tmp_path / "y.npy") == session(images())).all()


def test_truncated_anywhere(saved: Any, tmp_path: Path) -> None:
    data, path = saved[1].read_bytes(), tmp_path / "cut.safetensors"
    for length in [*range(0, 80, 5), *range(80, len(data), 97), len(data) - 1]:
        path.write_bytes(data[:length])
        with pytest.raises(ValueError, match=r"load: .*cut\.safetensors"):
            fnn.load(path)


def parts(path: Path) -> tuple[dict[str, Any], dict[str, Any], bytes]:
    data = path.read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    return header, json.loads(header["__metadata__"]["fastnn.session"]), data[end:]


def written(path: Path, header: dict[str, Any], plan: Any, data: bytes) -> Path:
    header["__metadata__"]["fastnn.session"] = json.dumps(plan)
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


WRONG = [0, 1, -1, 3, 2**40, 2**70, 0.5, None, True, "", "relu", "conv", [], [0], [1, 1], [3, 5, 5], {}, {"axis": -1}]


def test_wrong_values_anywhere(saved: Any, tmp_path: Path) -> None:
    """Each number, text and list of header and plan is replaced by others: an error that names the file, or a session
    that runs."""
    x = images(2)

    def spots(value: Any) -> list[tuple[Any, Any]]:
        pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        return [spot for key, each in pairs for spot in [(value, key), *spots(each)]]

    count = sum(len(spots(part)) for part in parts(saved[1])[:2])
    refused = 0
    for place in range(count):
        for wrong in WRONG[place % 3 :: 3]:
            header, plan, data = parts(saved[1])
            holder, key = [*spots(plan), *spots(header)][place]
            holder[key] = wrong
            if not isinstance(header.get("__metadata__"), dict):
                continue
            path = written(tmp_path / "wrong", header, plan, data)
            try:
                session = fnn.load(path)
            except ValueError as error:
                assert str(path) in str(error)
                refused += 1
            else:
                assert session.describe()
                if session.input_shape == (2, 5, 5) and session.batch in (None, 2) and session.dtype == np.float32:
                    session(x)
    assert refused > 3 * count


@pytest.mark.parametrize("pool", [nn.MaxPool2d(2), nn.AvgPool2d(2)])
@pytest.mark.parametrize("option", ["stride", "padding", "ceil_mode"])
def test_pools_without_an_option(pool: nn.Module, option: str, tmp_path: Path) -> None:
    """Defaults of functions would not be those of kernels."""
    fnn.compile(nn.Sequential(pool), (2, 8, 8)).save(tmp_path / "saved")
    header, plan, data = parts(tmp_path / "saved")
    del plan["steps"][0]["options"][option]
    with pytest.raises(ValueError, match=f"is damaged.* there is no {option} among its options"):
        fnn.load(written(tmp_path / "wrong", header, plan, data))


@pytest.mark.parametrize("size", [1 << 27, [1 << 27, 2]])
def test_regions_beyond_the_result(size: Any, tmp_path: Path) -> None:
    """Refused before memory is taken for them."""
    fnn.compile(nn.Sequential(nn.AdaptiveAvgPool2d(2)), (2, 8, 8)).save(tmp_path / "saved")
    header, plan, data = parts(tmp_path / "saved")
    plan["steps"][0]["options"]["output_size"] = size
    with pytest.raises(ValueError, match="is damaged.* has output_size"):
        fnn.load(written(tmp_path / "wrong", header, plan, data))


def test_other_files_and_versions(saved: Any, tmp_path: Path) -> None:
    nn.save(nn.Linear(2, 2), tmp_path / "weights")
    with pytest.raises(ValueError, match="weights is no session"):
        fnn.load(tmp_path / "weights")
    header, plan, data = parts(saved[1])
    with pytest.raises(ValueError, match="version 2; this fastnn reads version 1"):
        fnn.load(written(tmp_path / "later", header, {**plan, "version": 2}, data))
    (tmp_path / "pickle").write_bytes(b"\x80\x04K\x01.")
    with pytest.raises(ValueError, match="pickle is no session"):
        fnn.load(tmp_path / "pickle")
    with pytest.raises(FileNotFoundError):
        fnn.load(tmp_path / "nothing")
