"""Weights in files: safetensors, the format that PyTorch, JAX and others read and write, and never pickle.

Keys and layouts are PyTorch's, so a file that `safetensors.torch.save_file(model.state_dict(), path)` wrote loads here
as it is, and the other way round. Needs `fastnn[train]`.
"""

from __future__ import annotations

import errno
import json
import os
import secrets
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fastnn.arrays import host
from fastnn.nn.memory import Array
from fastnn.nn.module import IncompatibleKeys, Module
from fastnn.optional import need

_DTYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U64": "uint64",
    "U32": "uint32",
    "U16": "uint16",
    "U8": "uint8",
    "BOOL": "bool",
}
FilePath = str | os.PathLike[str]


def save(
    module_or_state: Module | Mapping[str, Any], path: FilePath, metadata: Mapping[str, str] | None = None
) -> None:
    """Write a module's parameters and buffers, or a mapping of names and arrays, with `metadata`, texts by name.

    The file is written beside its place and moved there when it is complete and on the disk, so that whatever
    interrupts leaves the old file or the new one, whole.
    """
    write_atomically(path, serialized(module_or_state, metadata))


def serialized(module_or_state: Module | Mapping[str, Any], metadata: Mapping[str, str] | None = None) -> bytes:
    """The bytes of the file that `save` writes."""
    state = module_or_state.state_dict() if isinstance(module_or_state, Module) else module_or_state
    if not isinstance(state, Mapping):
        raise TypeError(f"save: expected a module or a mapping of names and arrays; got a {type(state).__name__}")
    texts = dict(metadata or {})
    for key, text in texts.items():
        if not isinstance(key, str) or not isinstance(text, str):
            raise TypeError(f"save: metadata has {key!r}: {text!r}; expected texts only, such as those of json.dumps")
    library = need("safetensors.numpy", "Saving weights", "train")
    content: bytes = library.save(_checked(state), texts or None)
    return content


def _checked(state: Mapping[str, Any]) -> dict[str, Array]:
    """Arrays that the format can hold: contiguous, little-endian."""
    arrays = {}
    for name, value in state.items():
        if not isinstance(name, str):
            raise TypeError(f"save: {name!r} is a {type(name).__name__}; expected texts for names")
        array = host(value)
        if array.dtype.name not in _DTYPES.values():
            raise TypeError(f"save: {name} has dtype {array.dtype}; expected one of {', '.join(_DTYPES.values())}")
        arrays[name] = np.ascontiguousarray(array, array.dtype.newbyteorder("<")).reshape(array.shape)
    return arrays


def load(module: Module, path: FilePath, strict: bool = True) -> IncompatibleKeys:
    """Copy the arrays of a file into the module's parameters and buffers of the same names, whatever their dtypes.

    What does not fit is a ValueError that names the file, and nothing is changed; strict=False takes what matches.
    """
    state = load_state(path)
    try:
        return module.load_state_dict(state, strict)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{os.fspath(path)}: {error}") from None


def load_state(path: FilePath) -> dict[str, Array]:
    """The arrays of a safetensors file by name; ValueError, naming the file, if it is damaged or something else."""
    library = need("safetensors", "Loading weights", "train")
    data = Path(path).read_bytes()
    try:
        entries = library.deserialize(data)
    except library.SafetensorError as error:
        raise ValueError(f"load_state: {os.fspath(path)} {_trouble(data)} ({error})") from None
    return {name: _array(path, name, entry) for name, entry in entries}


def load_metadata(path: FilePath) -> dict[str, str]:
    """The texts that were saved beside the arrays of a safetensors file."""
    with open(path, "rb") as file:
        start = file.read(8)
        header = file.read(min(int.from_bytes(start, "little"), 100_000_000))
    try:
        found = json.loads(header)
    except ValueError:
        raise ValueError(f"load_metadata: {os.fspath(path)} {_trouble(start + header)}") from None
    return dict(found.get("__metadata__") or {}) if isinstance(found, dict) else {}


def _array(path: FilePath, name: str, entry: Mapping[str, Any]) -> Array:
    kind = _DTYPES.get(entry["dtype"])
    if kind is None:
        raise TypeError(
            f"load_state: {os.fspath(path)}: {name} has dtype {entry['dtype']}; expected one of {', '.join(_DTYPES)}"
        )
    if kind == "bfloat16":
        need("ml_dtypes", "Loading bfloat16", "train")
    array = np.frombuffer(entry["data"], np.dtype(kind)).reshape(entry["shape"])
    array = array if array.flags.writeable else array.copy()
    return array if sys.byteorder == "little" else array.byteswap()


def _trouble(data: bytes) -> str:
    """What is wrong with a file that does not load, in words."""
    if data[:2] in (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04"):
        return (
            "is no safetensors file but one of torch.save, a pickle. Load it with PyTorch, and save it with "
            "safetensors.torch.save_file(model.state_dict(), path)"
        )
    if data[8:9] not in (b"{", b""):
        return "is no safetensors file"
    if len(data) < 8 or len(data) < 8 + int.from_bytes(data[:8], "little"):
        return f"is truncated: it ends after {len(data)} bytes, within its header"
    return f"is damaged: its {len(data)} bytes are not those that its header tells of. Was it copied completely?"


def write_atomically(path: FilePath, data: bytes) -> None:
    """Write a file so that at any moment, kill -9 or a power cut included, the old content or the new is there, whole.

    The bytes go to a file beside it, and to the disk, before that takes the place of `path`. What is no file, such as
    /dev/stdout or a named pipe, is written into, and stays what it is.
    """
    if os.path.isdir(path):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    if os.path.exists(path) and not os.path.isfile(path):
        with open(path, "wb") as file:
            file.write(data)
        return
    place = os.path.realpath(path)  # a link stays one
    folder, name = os.path.split(place)
    beside = os.path.join(folder, f".{name}.{secrets.token_hex(4)}.tmp")
    try:
        with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, place)
    except BaseException:
        if os.path.exists(beside):
            os.unlink(beside)
        raise
    handle = os.open(folder, os.O_RDONLY)  # the name, too, has to reach the disk
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
