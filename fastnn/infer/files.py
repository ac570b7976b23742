"""Sessions in files: safetensors, with the plan as JSON in its metadata. Reading needs NumPy only, and never pickle.

A file is checked as if an enemy had written it: its lengths before anything is read, then every step on one sample of
zeros by the public function, which refuses what does not fit.
"""

from __future__ import annotations

import json
import math
import os
import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn.infer.graph import Array, Graph, Shape, Step, number_dtype
from fastnn.infer.session import Session
from fastnn.infer.steps import function, quantized
from fastnn.optional import need

if TYPE_CHECKING:
    FilePath = str | os.PathLike[str]

VERSION = 1
_KEY = "fastnn.session"
_CODES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
_INTEGERS = {"I8": "int8", "U8": "uint8", "I32": "int32"}
_MOST = 1 << 28  # elements of a sample between steps, and bytes of a header
_LINE = 64


def save(session: Session, path: FilePath) -> None:
    """See Session.save. Arrays begin with a cache line as far as their lengths allow."""
    from fastnn.nn.serialization import write_atomically

    graph, codes = session._graph, {name: code for code, name in (_CODES | _INTEGERS).items()}
    plan = {
        "version": VERSION,
        "dtype": graph.dtype.name,
        "input_shape": graph.input_shape,
        "output_shape": graph.output_shape,
        "batch": session.batch,
        "threads": session.threads,
        "steps": [{name: getattr(step, name) for name in Step.__slots__} for step in graph.steps],
    }
    header: dict[str, Any] = {"__metadata__": {_KEY: json.dumps(plan)}}
    parts, end = [], 0
    for name, array in sorted(
        graph.constants.items(), key=lambda item: (-item[1].itemsize, item[1].nbytes % _LINE != 0)
    ):
        data = array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
        header[name] = {"dtype": codes[array.dtype.name], "shape": array.shape, "data_offsets": [end, end + len(data)]}
        parts.append(data)
        end += len(data)
    text = json.dumps(header).encode()
    text += b" " * (-(len(text) + 8) % _LINE)
    write_atomically(path, b"".join([len(text).to_bytes(8, "little"), text, *parts]))


def load(path: FilePath) -> Session:
    """The session that `Session.save` has written: the same steps, weights and bits, without the model's code.

    Weights are mapped, not read: they take memory only once, whichever processes use them. Replace the file (saving
    does), but do not write into it while sessions use it. ValueError, naming the file, for one that is damaged, is
    none of a session, or comes from a later version.
    """
    title = f"load: {os.fspath(path)}"
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        start = int.from_bytes(file.read(8), "little")
        if size < 8 or start > min(size - 8, _MOST):
            raise ValueError(f"{title} is no session, or is truncated: it has {size} bytes, and a header of {start}")
        text = file.read(start)
    try:
        header = json.loads(text)
        plan = json.loads(header.pop("__metadata__")[_KEY])
        version = plan["version"]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ValueError(f"{title} is no session: it holds no plan. Session.save writes one") from None
    if version != VERSION:
        raise ValueError(f"{title} is of version {version!r}; this fastnn reads version {VERSION}")
    try:
        graph = _graph(plan, _constants(path, header, 8 + start, size))
        batch, threads = (None if plan[name] is None else _count(plan[name]) for name in ("batch", "threads"))
        if batch is not None and batch * max(map(math.prod, (graph.input_shape, graph.output_shape))) > _MOST:
            raise ValueError(f"batch is {batch}")
        return Session(graph, batch, threads)
    except (ValueError, TypeError, AttributeError, LookupError, ArithmeticError, MemoryError) as error:
        raise ValueError(f"{title} is damaged, or truncated: {type(error).__name__}: {error}") from None


def _constants(path: FilePath, header: dict[str, Any], start: int, size: int) -> dict[str, Array]:
    memory = np.memmap(path, np.uint8, "r") if size else np.empty(0, np.uint8)
    plain = memory.view(np.ndarray)  # keeps the map alive
    found = {}
    for name, entry in header.items():
        code = entry["dtype"]
        kind = np.dtype(_INTEGERS[code]) if code in _INTEGERS else _dtype(_CODES[code])
        shape = tuple(map(_count0, entry["shape"]))
        begin, end = map(_count0, entry["data_offsets"])
        if not begin <= end <= size - start:
            raise ValueError(f"{name} ends at byte {start + end} of {size}")
        if end - begin != math.prod(shape) * kind.itemsize:
            raise ValueError(f"{name} has {end - begin} bytes; expected {kind} of shape {shape}")
        array = plain[start + begin : start + end].view(kind).reshape(shape)
        array = array if sys.byteorder == "little" else array.byteswap()
        found[name] = array if array.flags.aligned else array.copy()
    return found


def _graph(plan: dict[str, Any], constants: dict[str, Array]) -> Graph:
    """The steps, each done once for a sample of zeros."""
    dtype = _dtype(plan["dtype"])
    graph = Graph(dtype, _shape(plan["input_shape"]), _shape(plan["output_shape"]), [], constants)
    if not graph.input_shape:
        raise ValueError("input_shape is empty")
    shapes, dtypes = [graph.input_shape], [dtype]
    for place, entry in enumerate(plan["steps"]):
        step = Step(**{name: _tuples(value) for name, value in entry.items()})
        step.modules, step.inputs_as = list(step.modules), tuple(map(_shape, step.inputs_as))
        step.shape = _shape(step.shape)
        takes = list(zip(step.inputs, step.inputs_as, strict=True))
        for value, shape in takes:
            if math.prod(shapes[_count0(value)]) != math.prod(shape):
                raise ValueError(f"step {place + 1} takes value {value} as {shape}; it is {shapes[value]}")
        if not isinstance(step.options, dict):
            raise TypeError(f"step {place + 1} has options {step.options!r}")
        size = step.options.get("output_size", ())
        sizes = size if isinstance(size, tuple) else (size,) * (len(step.shape) - 1)
        if math.prod(n for n in sizes if type(n) is int) > math.prod(step.shape):
            raise ValueError(f"step {place + 1}, {step.op}, has output_size {size}; expected one for {step.shape}")
        if not all(isinstance(module, str) for module in step.modules):
            raise TypeError(f"step {place + 1} is of modules {step.modules}")
        for role, array in graph.of(step).items():
            if array.dtype != number_dtype(dtype, step.op, role):
                raise TypeError(f"{step.constants[role]} has dtype {array.dtype}")
        if step.dtype is not None and step.op not in quantized.KINDS:
            raise TypeError(f"step {place + 1}, {step.op}, makes {step.dtype}; expected {dtype}")
        wants = quantized.takes(step.op, dtype)
        if any(dtypes[value] != wants for value in step.inputs):
            raise TypeError(
                f"step {place + 1}, {step.op}, takes {[str(dtypes[v]) for v in step.inputs]}; expected {wants}"
            )
        with np.errstate(all="ignore"):
            y = function(step, graph.of(step))(*(np.zeros((1, *shape), dtypes[value]) for value, shape in takes))
        if y.shape != (1, *step.shape) or y.dtype != graph.made_as(step):
            raise ValueError(f"step {place + 1}, {step.op}, makes {y.dtype} {y.shape}; expected {(1, *step.shape)}")
        graph.steps.append(step)
        shapes.append(step.shape)
        dtypes.append(y.dtype)
    if dtypes[-1] != dtype:
        raise ValueError(f"the last step makes {dtypes[-1]}; expected {dtype}")
    if len(shapes) == 1 or math.prod(shapes[-1]) != math.prod(graph.output_shape):
        raise ValueError(f"the last step makes {shapes[-1]}; expected {graph.output_shape}")
    if any(use < 0 for use in graph.last_uses()[1:-1]):
        raise ValueError("a value is never used")
    return graph


def _dtype(name: Any) -> np.dtype[Any]:
    if name not in _CODES.values():
        raise ValueError(f"dtype is {name!r}; expected one of {', '.join(_CODES.values())}")
    if name == "bfloat16":
        need("ml_dtypes", "A session in bfloat16", "train")  # which adds it to NumPy's
    kind: np.dtype[Any] = np.dtype(name)
    return kind


def _tuples(value: Any) -> Any:
    """JSON's lists as tuples."""
    if isinstance(value, list):
        return tuple(map(_tuples, value))
    return {name: _tuples(each) for name, each in value.items()} if isinstance(value, dict) else value


def _count0(value: Any) -> int:
    if type(value) is not int or not 0 <= value <= _MOST << 16:
        raise ValueError(f"{value!r}; expected a whole number")
    return value


def _count(value: Any) -> int:
    if _count0(value) == 0 or value > _MOST:
        raise ValueError(f"{value!r}; expected a whole number from 1 to {_MOST}")
    return int(value)


def _shape(value: Any) -> Shape:
    """Lengths of at least 1, not too many elements."""
    shape = tuple(map(_count, value))
    if len(shape) > 8 or math.prod(shape) > _MOST:
        raise ValueError(f"shape {shape}; expected at most 8 axes and {_MOST} elements")
    return shape
