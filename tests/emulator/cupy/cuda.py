"""The stand-in's `cupy.cuda`: devices that are numbers, streams that have always caught up."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

from emulator.cupy.record import note, settings

_local = threading.local()


def current_device() -> int:
    """The number of the thread's current device."""
    return getattr(_local, "device", 0)


class Device:
    """`cupy.cuda.Device`."""

    def __init__(self, device: Any = None) -> None:
        self.id = current_device() if device is None else int(getattr(device, "id", device))

    def use(self) -> Device:
        if not 0 <= self.id < settings.devices:
            raise runtime.CUDARuntimeError("cudaErrorInvalidDevice: invalid device ordinal")
        _local.device = self.id
        return self

    def __enter__(self) -> Device:
        before = current_device()
        self.use()
        _stack().append(before)
        return self

    def __exit__(self, *error: object) -> None:
        _local.device = _stack().pop()

    def synchronize(self) -> None:
        note("waits", "device")

    @property
    def attributes(self) -> dict[str, int]:
        return {"MultiProcessorCount": settings.multiprocessors, "WarpSize": 32, "MaxThreadsPerBlock": 1024}

    @property
    def compute_capability(self) -> str:
        return "80"

    @property
    def mem_info(self) -> tuple[int, int]:
        return 1 << 33, 1 << 33

    def __int__(self) -> int:
        return self.id

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Device) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return f"<CUDA Device {self.id}>"


def _stack() -> list[int]:
    if not hasattr(_local, "devices"):
        _local.devices = []
    return _local.devices  # type: ignore[no-any-return]


class Stream:
    """`cupy.cuda.Stream`."""

    null: Stream
    ptds: Stream

    def __init__(
        self, null: bool = False, non_blocking: bool = False, ptds: bool = False, priority: Any = None
    ) -> None:
        self.ptr = 0 if null else id(self)
        self._before: list[Stream] = []

    def use(self) -> Stream:
        _local.stream = self
        return self

    def __enter__(self) -> Stream:
        self._before.append(get_current_stream())
        return self.use()

    def __exit__(self, *error: object) -> None:
        self._before.pop().use()

    def synchronize(self) -> None:
        note("waits", "stream")

    def record(self, event: Any = None) -> Any:
        event = Event() if event is None else event
        event.record(self)
        return event

    def wait_event(self, event: Any) -> None:
        pass

    @property
    def done(self) -> bool:
        return True


Stream.null = Stream(null=True)


class Event:
    """`cupy.cuda.Event`."""

    def __init__(self, block: bool = False, disable_timing: bool = False, interprocess: bool = False) -> None:
        self.ptr = id(self)

    def record(self, stream: Any = None) -> None:
        pass

    def synchronize(self) -> None:
        note("waits", "event")

    @property
    def done(self) -> bool:
        return True


def get_elapsed_time(start: Event, end: Event) -> float:
    return 1.0


def get_current_stream(device_id: int = -1) -> Stream:
    return getattr(_local, "stream", Stream.null)


def get_device_id() -> int:
    return current_device()


def is_available() -> bool:
    return settings.devices > 0


class _CUDARuntimeError(RuntimeError):
    """`cupy.cuda.runtime.CUDARuntimeError`."""


def _device_count() -> int:
    if not settings.devices:
        raise _CUDARuntimeError("cudaErrorNoDevice: no CUDA-capable device is detected")
    return settings.devices


runtime = SimpleNamespace(
    CUDARuntimeError=_CUDARuntimeError,
    getDevice=lambda: (_device_count(), current_device())[1],
    getDeviceCount=_device_count,
    deviceSynchronize=lambda: note("waits", "device"),
    getDeviceProperties=lambda device: {"name": b"stand-in", "l2CacheSize": 1 << 20, "multiProcessorCount": 2},
    runtimeGetVersion=lambda: 13000,
    driverGetVersion=lambda: 13000,
)
