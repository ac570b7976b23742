"""What the stand-in for CuPy has been asked to do, and how it is to do it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Started:
    """A kernel's launch."""

    name: str  # its C++ name
    blocks: int
    threads: int
    device: int
    stream: Any


@dataclass(slots=True)
class Record:
    """What has happened since the record was opened."""

    launches: list[Started] = field(default_factory=list)
    to_host: list[str] = field(default_factory=list)  # what read the device's memory: "get", "item", "bool" ...
    from_host: list[str] = field(default_factory=list)
    waits: list[str] = field(default_factory=list)  # what waited for the device without reading anything

    @property
    def kernels(self) -> list[str]:
        """The names of the kernels, without namespace and template arguments, in the order of their launches."""
        return [each.name.split("<")[0].split("::")[-1] for each in self.launches]


@dataclass(slots=True)
class Settings:
    """How blocks are run."""

    order: int = 0  # of threads between barriers: 0 forward, 1 reverse, 2 shuffled
    seed: int = 0
    multiprocessors: int = 2  # of which wrappers make the number of blocks
    only_last: int | None = None  # run the last so many blocks of a launch, for arrays too large to go through
    devices: int = 2


settings = Settings()
_open: list[Record] = []


@contextmanager
def recording() -> Iterator[Record]:
    """What happens until the block ends."""
    record = Record()
    _open.append(record)
    try:
        yield record
    finally:
        _open.remove(record)


@contextmanager
def running(**changes: Any) -> Iterator[None]:
    """Other settings until the block ends."""
    before = {name: getattr(settings, name) for name in changes}
    for name, value in changes.items():
        setattr(settings, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(settings, name, value)


def note(kind: str, what: Any) -> None:
    """Enter something into the records that are open."""
    for record in _open:
        getattr(record, kind).append(what)
