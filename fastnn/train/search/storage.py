"""A search kept in a file, so that a search that was stopped or killed goes on from there."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fastnn.optional import need


class _Held:
    """Stands in for Optuna's lock of every write: the search holds its file from beginning to end."""

    def acquire(self) -> bool:
        return True

    def release(self) -> None:
        pass


@contextlib.contextmanager
def opened(path: str | os.PathLike[str] | None) -> Iterator[Any]:
    """Optuna's storage over the file (its journal, one line an event), or in memory for None.

    ValueError where another search has the file. The lock is the system's: it ends with the process, however that ends.
    """
    optuna = need("optuna", "fastnn.train.search", "search")
    if path is None:
        yield optuna.storages.InMemoryStorage()
        return
    import fcntl

    file = Path(path)
    if file.is_dir():
        raise ValueError(f"search: storage {file} is a folder; expected a file")
    with open(file, "ab") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"search: another search is writing to {file}") from None
        _mend(file)
        journal = optuna.storages.journal
        yield optuna.storages.JournalStorage(journal.JournalFileBackend(str(file), lock_obj=_Held()))


def _mend(file: Path) -> None:
    """Cut off the half line that a process leaves when it is killed while writing; refuse what is no journal."""
    data = file.read_bytes()
    first, whole = data.partition(b"\n")[0], data.rfind(b"\n") + 1
    try:
        if not (b'{"op_code"'.startswith(first[:10]) and (not whole or isinstance(json.loads(first), dict))):
            raise ValueError
    except ValueError:
        raise ValueError(f"search: storage {file} is not the journal of a search") from None
    if whole < len(data):
        os.truncate(file, whole)
