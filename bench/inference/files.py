"""What each contender loads: one file a network and library, all with the same weights."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from . import numpy_
from .problems import CALIBRATION, Network, folded, trained

SESSION, SESSION_INT8 = "session.safetensors", "int8.safetensors"
ONNX, ORT, ONNX_INT8 = "model.onnx", "model.ort", "int8.onnx"
TORCH, NUMPY = "torch.pt", "numpy.npz"


class Made:
    """A network, the files in its folder, and why some are missing."""

    def __init__(self, network: Network, folder: Path) -> None:
        self.network, self.folder = network, folder
        self.model = trained(network)
        self.plain = folded(network, self.model)
        self.missing: dict[str, str] = {}
        folder.mkdir(parents=True, exist_ok=True)
        fnn: Any = importlib.import_module("fastnn")
        fnn.compile(self.model, network.shape).save(folder / SESSION)
        numpy_.save(str(folder / NUMPY), self.plain)
        for name, make in (
            (SESSION_INT8, self._session_int8),
            (ONNX, self._onnx),
            (ONNX_INT8, self._onnx_int8),
            (TORCH, self._torch),
        ):
            try:
                make()
            except Exception as error:  # of a rival's exporter, or of a library that is not there
                self.missing[name] = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:160]}"

    def has(self, name: str) -> bool:
        """Whether the file is there."""
        return (self.folder / name).exists()

    def path(self, name: str) -> str:
        """Of a file."""
        return str(self.folder / name)

    def _session_int8(self) -> None:
        fnn: Any = importlib.import_module("fastnn")
        fnn.quantize(self.model, self.network.input(CALIBRATION)).save(self.folder / SESSION_INT8)

    def _onnx(self) -> None:
        fnn: Any = importlib.import_module("fastnn")
        fnn.onnx.export(self.plain, self.folder / ONNX, self.network.shape)
        options = ort_options(1)
        options.optimized_model_filepath = self.path(ORT)
        options.add_session_config_entry("session.save_model_format", "ORT")
        ort().InferenceSession(self.path(ONNX), options, providers=["CPUExecutionProvider"])

    def _onnx_int8(self) -> None:
        """Static, QDQ, weights by channel: ONNX Runtime's own quantiser, on a graph that it has optimised before."""
        ort()
        with quiet():
            q: Any = importlib.import_module("onnxruntime.quantization")
            shapes: Any = importlib.import_module("onnxruntime.quantization.shape_inference")
            prepared = str(self.folder / "prepared.onnx")
            shapes.quant_pre_process(self.path(ONNX), prepared, skip_symbolic_shape=True)
            batches = iter([{"input": self.network.input(CALIBRATION)}])

            class Reader(q.CalibrationDataReader):  # type: ignore[misc]
                def get_next(self) -> dict[str, Any] | None:
                    return next(batches, None)

            q.quantize_static(prepared, self.path(ONNX_INT8), Reader(), q.QuantFormat.QDQ, per_channel=True)

    def _torch(self) -> None:
        torch: Any = importlib.import_module("torch")
        x = torch.from_numpy(np.zeros((1, *self.network.shape), np.float32))
        with quiet(), torch.no_grad():
            torch.jit.freeze(torch.jit.trace(torch_model(self), x)).save(self.path(TORCH))


def torch_model(made: Made) -> Any:
    """The network in PyTorch, with the same weights, batch norm folded."""
    from ..rivals.torch_ import networks

    assemble: Any = importlib.import_module("fastnn.models").assemble
    twin = assemble(networks.LAYERS, made.network.name, batch_norm=False, dropout=False)
    return networks.load(twin, made.plain.state_dict()).eval()


def ort() -> Any:
    """ONNX Runtime, without its warnings."""
    runtime: Any = importlib.import_module("onnxruntime")
    runtime.set_default_logger_severity(4)
    return runtime


def ort_options(threads: int) -> Any:
    """All optimisations, the memory arena on, as by default."""
    runtime = ort()
    options = runtime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level = threads, 1, 4
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_ENABLE_ALL
    return options


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without what converters warn of."""
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
