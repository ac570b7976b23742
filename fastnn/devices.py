"""Devices by name, as PyTorch has them: "cpu" is main memory, "cuda" the current GPU, "cuda:1" that of number 1."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from fastnn.arrays import Array, host, on_device, place_of
from fastnn.optional import need

if TYPE_CHECKING:
    from fastnn.nn.module import Module

M = TypeVar("M", bound="Module")
EXPECTED = "'cpu', 'cuda', or 'cuda:' and a number"


def gpu(purpose: str) -> Any:
    """The module cupy, if it has a GPU to work on; else ImportError or RuntimeError, which say what is missing."""
    try:
        cupy = need("cupy", purpose, "cuda")
    except ModuleNotFoundError:
        raise
    except ImportError as error:
        raise ImportError(f'{error} for CUDA 13, "fastnn[cuda12]" for CUDA 12') from None
    try:
        devices = int(cupy.cuda.runtime.getDeviceCount())
    except Exception as error:  # CuPy's own, where there is no driver or none that is new enough
        raise RuntimeError(f"{purpose} needs a GPU, and CuPy finds none: {error}") from None
    if devices == 0:
        raise RuntimeError(f"{purpose} needs a GPU, and CuPy finds none")
    return cupy


def is_device(value: Any) -> bool:
    """Is this the name of a device, or a device of CuPy's?"""
    if isinstance(value, str):
        return value.partition(":")[0] in ("cpu", "cuda")
    return type(value).__name__ == "Device" and hasattr(value, "id")


def checked_device(title: str, device: Any) -> int | None:
    """The number of the GPU that is meant, None for main memory."""
    if not isinstance(device, str) and not is_device(device):
        raise TypeError(f"{title}: device is {device!r} of type {type(device).__name__}; expected {EXPECTED}")
    kind, colon, number = device.partition(":") if isinstance(device, str) else ("cuda", ":", str(device.id))
    if kind not in ("cpu", "cuda") or (colon and not (kind == "cuda" and number.isdecimal())):
        raise ValueError(f"{title}: device is {device!r}; expected {EXPECTED}")
    if kind == "cpu":
        return None
    runtime = gpu(f"{title}: device {device!r}").cuda.runtime
    chosen, devices = int(number) if colon else int(runtime.getDevice()), int(runtime.getDeviceCount())
    if chosen >= devices:
        raise ValueError(f"{title}: device is {device!r}; there are {devices}, numbered from 0")
    return chosen


def mover(place: int | None) -> Callable[[Array], Array]:
    """What takes an array to a device, or for None to main memory; those that are there already stay as they are."""
    if place is None:
        return host
    cupy = gpu("a device")

    def moved(array: Any) -> Array:
        if on_device(array) and array.device.id == place:
            found: Array = array
            return found
        with cupy.cuda.Device(place):
            found = cupy.asarray(host(array))
        return found

    return moved


def current(place: int | None) -> contextlib.AbstractContextManager[Any]:
    """While this is in force that device is the current one; for None nothing changes."""
    if place is None:
        return contextlib.nullcontext()
    device: contextlib.AbstractContextManager[Any] = gpu("a device").cuda.Device(place)
    return device


def place(model: Module) -> int | None:
    """The number of the device that a model's parameters and buffers are on; None for main memory."""
    found = place_of(parameter.data for parameter in model.parameters())
    return place_of(buffer for _, buffer in model.named_buffers()) if found is None else found


def on_host(model: M) -> M:
    """The model itself, or where it is on a device a copy of it in main memory."""
    return model if place(model) is None else copy.deepcopy(model).to("cpu")
