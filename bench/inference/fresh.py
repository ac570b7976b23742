"""One contender in a process of its own, from a file to results. It imports no more than that contender needs.

    python -P fresh.py CONTENDER FILE INPUT.npy THREADS

prints a line of JSON: when the first result was there (by the system's monotonic clock), then the memory after the
imports and at its peak in a few calls more, in KiB (0 where the system does not tell).
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import re
import sys
import time
from collections.abc import Callable
from typing import Any

CALLS = 5
SEEN: dict[str, Any] = {}
Run = Callable[[], Any]


def fastnn(path: str, x: Any, threads: int) -> Run:
    fnn: Any = importlib.import_module("fastnn")
    imported()
    fnn.set_num_threads(threads)
    session = fnn.load(path)
    return lambda: session(x)


def onnxruntime(path: str, x: Any, threads: int) -> Run:
    ort: Any = importlib.import_module("onnxruntime")
    imported()
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level = threads, 1, 4
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda: session.run(None, {name: x})[0]


def torch(path: str, x: Any, threads: int) -> Run:
    library: Any = importlib.import_module("torch")
    imported()
    library.set_num_threads(threads)
    model, given = library.jit.load(path), library.from_numpy(x)

    def run() -> Any:
        with library.inference_mode():
            return model(given).numpy()

    return run


def numpy(path: str, x: Any, threads: int) -> Run:
    place = os.path.join(os.path.dirname(os.path.abspath(__file__)), "numpy_.py")
    spec: Any = importlib.util.spec_from_file_location("numpy_", place)
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    imported()
    net = module.Net(path)
    return lambda: net(x)


def floor(path: str, x: Any, threads: int) -> Run:
    """Python, NumPy and the input: what everybody's process begins with."""
    imported()
    return lambda: x


def imported() -> None:
    """Note the memory that the libraries take."""
    SEEN["imported_kib"] = kibibytes("VmRSS")


def kibibytes(field: str) -> int:
    """A line of what Linux says of this process."""
    try:
        with open("/proc/self/status") as file:
            found = re.search(rf"^{field}:\s+(\d+) kB$", file.read(), re.MULTILINE)
    except OSError:
        return 0
    return int(found[1]) if found else 0


def main(contender: str, path: str, given: str, threads: str) -> None:
    """Measure in this process."""
    np: Any = importlib.import_module("numpy")
    x = np.load(given)
    run = globals()[contender.split()[0]](path, x, int(threads))
    y = run()
    SEEN["first"] = time.monotonic()
    for _ in range(CALLS):
        y = run()
    SEEN["peak_kib"] = kibibytes("VmHWM")
    SEEN["finite"] = bool(np.isfinite(y).all())
    print(json.dumps(SEEN))


if __name__ == "__main__":
    main(*sys.argv[1:])
