"""What an ONNX file holds, read as something that anybody may have written: every size is checked before it is used.

All errors here are ValueErrors; `loading` puts the name of the file in front.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fastnn.nn.memory import Array

OPSETS = range(13, 29)
_LARGEST = 2**31  # bytes: protobuf allows no more
_FIELDS = {  # where a tensor's numbers are, if they are not raw bytes
    "float32": "float_data",
    "float64": "double_data",
    "int64": "int64_data",
    "int32": "int32_data",
    "int16": "int32_data",
    "int8": "int32_data",
    "uint16": "int32_data",
    "uint8": "int32_data",
    "bool": "int32_data",
    "uint32": "uint64_data",
    "uint64": "uint64_data",
    "float16": "int32_data",
    "bfloat16": "int32_data",
}
_LEAST = {"strides": 1, "dilations": 1, "kernel_shape": 1, "group": 1, "num_groups": 1, "num_outputs": 1, "pads": 0}


@dataclass(frozen=True, slots=True)
class Node:
    """A node: its operator, and what it asks of it; names are empty where an input or result is left out."""

    op: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any]
    opset: int

    def get(self, name: str, default: Any = None) -> Any:
        """An attribute."""
        return self.attributes.get(name, default)


class Value(NamedTuple):
    """What the graph says of an input: None for a length that may be any."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int | None, ...] | None


@dataclass(frozen=True, slots=True)
class Contents:
    """A graph whose nodes are in an order in which they can run."""

    nodes: list[Node]
    arrays: dict[str, Array]  # the initializers, read-only
    inputs: list[Value]
    outputs: list[str]


def read(onnx: Any, path: Path, operators: Iterable[str]) -> Contents:
    """The graph of a file; ValueError if it is damaged, or needs what is not among `operators`."""
    size = path.stat().st_size
    if size > _LARGEST:
        raise ValueError(f"has {size} bytes; expected at most 2^31, more than which no ONNX file has")
    model = onnx.ModelProto()
    model.ParseFromString(path.read_bytes())
    graph = model.graph
    if not graph.node and not graph.output:
        raise ValueError("holds no graph: it is empty, truncated, or no ONNX file")
    opset = _opset(model)
    _supported(graph, operators)
    arrays: dict[str, Array] = {}
    for tensor in graph.initializer:
        if not tensor.name or tensor.name in arrays:
            raise ValueError(f"has two initializers {tensor.name!r}, or one without a name")
        arrays[tensor.name] = array_of(onnx, tensor, path.parent)
    inputs = [_value(onnx, value) for value in graph.input if value.name not in arrays]
    nodes = [_node(onnx, node, opset, path.parent) for node in graph.node]
    outputs = [value.name for value in graph.output]
    _check_order(nodes, [*arrays, *(value.name for value in inputs)], outputs)
    _check_types(onnx, model, opset)
    return Contents(nodes, arrays, inputs, outputs)


def _opset(model: Any) -> int:
    versions = {each.domain: each.version for each in model.opset_import}
    opset: int = versions.get("", versions.get("ai.onnx", 0))
    if opset not in OPSETS:
        raise ValueError(
            f"uses opset {opset or 'of no version'}; expected {OPSETS[0]} to {OPSETS[-1]}: "
            "onnx.version_converter.convert_version makes one of another"
        )
    return opset


def _supported(graph: Any, operators: Iterable[str]) -> None:
    known = set(operators)
    names = {f"{node.domain}.{node.op_type}".removeprefix("ai.onnx").removeprefix(".") for node in graph.node}
    if names - known:
        raise ValueError(
            f"uses the operator{'s' * (len(names - known) > 1)} {', '.join(sorted(names - known))}; "
            f"expected some of {', '.join(sorted(known))}"
        )
    if graph.sparse_initializer:
        raise ValueError("has sparse initializers; expected dense ones")


def array_of(onnx: Any, tensor: Any, folder: Path) -> Array:
    """A tensor's numbers; the shape that it declares must be that of the bytes which are there."""
    title = f"the tensor {tensor.name!r}"
    try:
        kind = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type))
    except (KeyError, TypeError):
        kind = np.dtype(object)
    if kind.name not in _FIELDS:
        raise ValueError(f"has {title} of data type {tensor.data_type}; expected one of {', '.join(_FIELDS)}")
    shape = tuple(tensor.dims)
    if any(length < 0 for length in shape) or len(shape) > 32:
        raise ValueError(f"has {title} of shape {shape[:33]}; expected lengths of at least 0")
    count = math.prod(shape)
    if tensor.HasField("segment"):
        raise ValueError(f"has {title} in segments; expected a whole one")
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        data = _external(tensor, title, folder, count * kind.itemsize)
    elif tensor.HasField("raw_data"):
        data = tensor.raw_data
    else:
        numbers = getattr(tensor, _FIELDS[kind.name])
        if len(numbers) != count:
            raise ValueError(f"has {title} of shape {shape} with {len(numbers)} numbers; expected {count}")
        if kind.name in ("float16", "bfloat16"):
            found: Array = np.array(numbers, np.uint16).view(kind)
        else:
            found = np.array(numbers, kind)
        return found.reshape(shape)
    if len(data) != count * kind.itemsize:
        raise ValueError(
            f"has {title} of {kind} and shape {shape} with {len(data)} bytes; expected {count * kind.itemsize}"
        )
    array: Array = np.frombuffer(data, kind.newbyteorder("<") if kind.kind != "V" else kind)
    return array.astype(kind, copy=False).reshape(shape)


def _external(tensor: Any, title: str, folder: Path, size: int) -> bytes:
    """The bytes of a tensor in a file beside the model, which must lie in the model's folder or below it."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    place = entries.get("location", "")
    inside = folder.resolve()
    if "\0" in place or not (inside / place).resolve().is_relative_to(inside) or Path(place).is_absolute():
        raise ValueError(f"has {title} in {place!r}; expected a file in the model's folder")
    file = inside / place
    if not file.is_file():
        raise ValueError(f"has {title} in {place!r}, which is no file there")
    try:
        offset, length = int(entries.get("offset", "0")), int(entries.get("length", str(size)))
    except ValueError:
        raise ValueError(f"has {title} at {entries}; expected whole numbers") from None
    if length != size or offset < 0 or offset + length > file.stat().st_size:
        raise ValueError(
            f"has {title} of {size} bytes in {length} bytes at {offset} of {place!r}, which has {file.stat().st_size}; "
            "expected as many bytes as its shape says, within that file"
        )
    with open(file, "rb") as opened:
        opened.seek(offset)
        return opened.read(length)


def _value(onnx: Any, value: Any) -> Value:
    kind = value.type.tensor_type
    if not value.type.HasField("tensor_type"):
        raise ValueError(f"has the input {value.name!r}, which is no tensor")
    try:
        dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type))
    except (KeyError, TypeError):
        raise ValueError(f"has the input {value.name!r} of data type {kind.elem_type}; expected numbers") from None
    if not kind.HasField("shape"):
        return Value(value.name, dtype, None)
    lengths = tuple(dim.dim_value if dim.HasField("dim_value") else None for dim in kind.shape.dim)
    return Value(value.name, dtype, lengths)


def _node(onnx: Any, node: Any, opset: int, folder: Path) -> Node:
    attributes: dict[str, Any] = {}
    title = f"the node {node.name!r} ({node.op_type})"
    for item in node.attribute:
        if item.type in (item.GRAPH, item.GRAPHS, item.SPARSE_TENSOR) or item.ref_attr_name:
            raise ValueError(f"has {title} with {item.name!r}, which is no plain attribute")
        value = array_of(onnx, item.t, folder) if item.type == item.TENSOR else onnx.helper.get_attribute_value(item)
        if item.type == item.FLOAT:
            value = float(str(np.float32(value)))  # the 1e-5 that was meant, not the float32 next to it
        value = value.decode() if isinstance(value, bytes) else value
        least = _LEAST.get(item.name)
        if least is not None and not all(least <= number < 2**31 for number in (item.ints or [item.i])):
            raise ValueError(f"has {title} with {item.name} {value}; expected at least {least}, below 2^31")
        attributes[item.name] = value
    return Node(node.op_type, node.name, tuple(node.input), tuple(node.output), attributes, opset)


def _check_order(nodes: list[Node], given: list[str], outputs: list[str]) -> None:
    """Every name is given once, and before it is used."""
    made: set[str] = set()
    for name in given:
        if name in made:
            raise ValueError(f"has two inputs or initializers {name!r}")
        made.add(name)
    later = {name for node in nodes for name in node.outputs}
    for node in nodes:
        for name in node.inputs:
            if name and name not in made:
                why = "which comes later, or from a cycle" if name in later else "which nothing makes"
                raise ValueError(f"has the node {node.name!r} ({node.op}) that uses {name!r}, {why}")
        for name in node.outputs:
            if name and name in made:
                raise ValueError(f"makes the value {name!r} twice")
            made.add(name)
    for name in outputs:
        if name not in made:
            raise ValueError(f"has the output {name!r}, which nothing makes")
    if not outputs:
        raise ValueError("has no output")


def _check_types(onnx: Any, model: Any, opset: int) -> None:
    """What the onnx package says of the model, and types by its schemas; initializers, read by now, become inputs.

    Not by its shape inference, in which an axis out of range is a crash.
    """
    graph = model.graph
    known = {value.name for value in graph.input}
    for tensor in graph.initializer:
        if tensor.name not in known:
            graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))
    del graph.initializer[:]
    onnx.checker.check_model(model)
    kind = onnx.TensorProto.DataType.Name
    types = {value.name: f"tensor({kind(value.type.tensor_type.elem_type).lower()})" for value in graph.input}
    for node in graph.node:
        schema = onnx.defs.get_schema(node.op_type, opset)
        allowed = {each.type_param_str: set(each.allowed_type_strs) for each in schema.type_constraints}
        found: dict[str, str] = {}
        for place, name in enumerate(node.input):
            letter = schema.inputs[min(place, len(schema.inputs) - 1)].type_str
            if name in types and types[name] not in allowed.get(letter, {letter}) & {found.get(letter, types[name])}:
                wanted = found.get(letter) or " or ".join(sorted(allowed.get(letter, {letter})))
                title = f"the node {node.name!r} ({node.op_type})"
                raise ValueError(f"has {title} that uses {name!r}, a {types[name]}; expected {wanted}")
            if name in types:
                found[letter] = types[name]
        for place, name in enumerate(node.output):
            letter = schema.outputs[min(place, len(schema.outputs) - 1)].type_str
            made = found.get(letter) if letter in allowed else letter
            if made:
                types[name] = made
