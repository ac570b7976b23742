"""Everybody ready to run on one input: `run()` computes the logits, which `Ready.result()` gives as an array."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from . import files, numpy_
from .files import Made
from .problems import Array

OURS, OURS_INT8 = "fastnn", "fastnn int8"
ORT, ORT_INT8 = "onnxruntime", "onnxruntime int8"
NUMPY, TORCH = "numpy", "torch"


class Ready(NamedTuple):
    """A contender for one network, batch and number of threads."""

    run: Callable[[], Any]
    result: Callable[[], Array]
    arena_bytes: int | None = None


def fastnn(made: Made, x: Array, threads: int) -> Ready:
    fnn: Any = importlib.import_module("fastnn")
    return _session(fnn.compile(made.model, made.network.shape, batch=len(x)), x)


def fastnn_int8(made: Made, x: Array, threads: int) -> Ready:
    fnn: Any = importlib.import_module("fastnn")
    return _session(fnn.load(made.path(files.SESSION_INT8)), x)


def _session(session: Any, x: Array) -> Ready:
    out = np.empty((len(x), *session.output_shape), session.dtype)
    session.run(x, out=out)
    return Ready(lambda: session.run(x, out=out), out.copy, int(session.arena_bytes))


def onnxruntime(made: Made, x: Array, threads: int, name: str = files.ONNX) -> Ready:
    """Input and result bound to memory, which takes 3 microseconds less than `run(None, {...})`."""
    session = files.ort().InferenceSession(
        made.path(name), files.ort_options(threads), providers=["CPUExecutionProvider"]
    )
    (given,), (made_there,) = session.get_inputs(), session.get_outputs()
    out = np.empty((len(x), 10), np.float32)
    binding = session.io_binding()
    binding.bind_input(given.name, "cpu", 0, x.dtype, x.shape, x.ctypes.data)
    binding.bind_output(made_there.name, "cpu", 0, out.dtype, out.shape, out.ctypes.data)
    return Ready(lambda: session.run_with_iobinding(binding), out.copy)


def torch(made: Made, x: Array, threads: int, form: str = "") -> Ready:
    """Eager in inference mode, images channels_last, a frozen graph (`torch.jit.freeze`), or `torch.compile`."""
    library: Any = importlib.import_module("torch")
    model, given = files.torch_model(made), library.from_numpy(x)
    if form == "channels_last":
        model = model.to(memory_format=library.channels_last)
        given = given.contiguous(memory_format=library.channels_last)
    elif form == "frozen":
        with files.quiet():
            model = library.jit.load(made.path(files.TORCH))
    elif form == "compile":
        library.compiler.reset()
        model = library.compile(model, dynamic=False)

    def run() -> Any:
        with library.inference_mode():
            return model(given)

    return Ready(run, lambda: np.array(run().numpy()))


def numpy(made: Made, x: Array, threads: int) -> Ready:
    net = numpy_.Net(made.path(files.NUMPY))
    return Ready(lambda: net(x), lambda: net(x))


def forms(made: Made, compiled: bool) -> dict[str, Callable[[Made, Array, int], Ready]]:
    """Every contender whose file could be made, by name."""
    found: dict[str, Callable[[Made, Array, int], Ready]] = {OURS: fastnn}
    if made.has(files.SESSION_INT8):
        found[OURS_INT8] = fastnn_int8
    if made.has(files.ONNX):
        found[ORT] = onnxruntime
    if made.has(files.ONNX_INT8):
        found[ORT_INT8] = lambda made, x, threads: onnxruntime(made, x, threads, files.ONNX_INT8)
    if made.has(files.TORCH):
        kinds = ["", *["channels_last"] * made.network.images, "frozen", *["compile"] * compiled]
        for kind in kinds:
            found[f"{TORCH} {kind}".strip()] = _torch(kind)
    return found | {NUMPY: numpy}


def _torch(form: str) -> Callable[[Made, Array, int], Ready]:
    return lambda made, x, threads: torch(made, x, threads, form)
