"""What holds for every test."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import fastnn as fnn
from fastnn.kernels.cpu import runtime

# Processes that tests start must not find fastnn in the current folder, which may be that of the sources, uncompiled.
os.environ["PYTHONSAFEPATH"] = "1"


@pytest.fixture(autouse=True)
def settings() -> Iterator[None]:
    """Every test draws the same weights in every run, and leaves the settings of the process as they were."""
    fnn.manual_seed(0)
    isa, threads, backend = runtime.isa(), fnn.get_num_threads(), fnn.backend()
    yield
    if runtime.isa() != isa:
        runtime.set_isa(isa)
    if fnn.get_num_threads() != threads:
        fnn.set_num_threads(threads)
    if fnn.backend() != backend:
        fnn.use(backend)


# Real data, as in .ci/run: the folder FASTNN_DATA, or ../shared/data beside the repository.
DATA = Path(os.environ.get("FASTNN_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))


@pytest.fixture(scope="session")
def mnist_folder() -> Path:
    """The folder with MNIST's idx files."""
    if not any(DATA.glob("**/train-images*")):
        pytest.skip("needs the idx files of MNIST: set FASTNN_DATA to the folder that holds them")
    return DATA


@pytest.fixture(scope="session")
def cifar_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with cifar-10-batches-bin: as it is, or made by the `unpack.py` that lies beside a smaller copy."""
    if any(DATA.glob("**/cifar-10-batches-bin/test_batch.bin")):
        return DATA
    if not (DATA / "unpack.py").is_file():
        pytest.skip("needs cifar-10-batches-bin: set FASTNN_DATA to the folder that holds it")
    pytest.importorskip("PIL")
    folder = tmp_path_factory.mktemp("cifar")
    subprocess.run([sys.executable, DATA / "unpack.py", folder], check=True)
    return folder


@pytest.fixture
def cupy(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A stand-in for CuPy, whose kernels run on the emulator: see tests/emulator."""
    import emulator.cupy as module

    monkeypatch.setitem(sys.modules, "cupy", module)
    monkeypatch.setitem(sys.modules, "cupy.cuda", module.cuda)
    yield module


@pytest.fixture(params=["emulated", pytest.param("gpu", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> Any:
    """CuPy: the stand-in, and under `pytest -m gpu` the real one. The same tests for both."""
    if request.param == "emulated":
        return request.getfixturevalue("cupy")
    return request.getfixturevalue("real_cupy")


@pytest.fixture(scope="session")
def real_cupy() -> Any:
    """CuPy, where there is a GPU for it."""
    cupy = pytest.importorskip("cupy", reason="needs CuPy and an NVIDIA GPU")
    try:
        cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        pytest.skip(f"needs an NVIDIA GPU: {error}")
    return cupy
