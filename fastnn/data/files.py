"""Where the files of data sets are: a folder, the cache, or, at first, the internet."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

_TIMEOUT = 30.0  # seconds without a byte
_BLOCK = 1 << 18


@dataclass(frozen=True, slots=True)
class Remote:
    """A file to download: the same bytes at any of its addresses."""

    urls: tuple[str, ...]
    sha256: str


def cache_folder() -> Path:
    """`FASTNN_CACHE`, or else `fastnn` in the user's cache folder (`XDG_CACHE_HOME`, by default ~/.cache)."""
    own = os.environ.get("FASTNN_CACHE")
    if own:
        return Path(own).expanduser()
    shared = os.environ.get("XDG_CACHE_HOME", "")
    base = Path(shared) if os.path.isabs(shared) else Path.home() / ".cache"  # a relative one counts for nothing
    return base / "fastnn"


def folders(folder: str | os.PathLike[str] | None) -> list[Path]:
    """Where to look, in this order: in `folder` if one is given, else in FASTNN_DATA, then in the cache."""
    if folder is not None:
        place = Path(folder).expanduser()
        if place.exists() and not place.is_dir():
            raise NotADirectoryError(f"folder is {os.fspath(folder)!r}, which is a file; expected a folder")
        return [place]
    named = os.environ.get("FASTNN_DATA")
    return [*([Path(named).expanduser()] if named else []), cache_folder()]


def find(roots: Sequence[Path], present: Callable[[Path], Any]) -> Any:
    """What `present` finds in the first of the folders, or one below it, in which it finds something; else None."""
    for root in roots:
        below = sorted(path for path in root.iterdir() if path.is_dir()) if root.is_dir() else []
        for place in (root, *below):
            found = present(place)
            if found:
                return found
    return None


def missing(name: str, files: str, roots: Sequence[Path], why: str) -> str:
    """What to say where a data set is not at hand: what has been tried, and which files to put where."""
    looked = " and ".join(map(str, roots))
    return (
        f"{name} was not found in {looked} (or one folder below), and {why}. "
        f"Put {files} into {roots[-1]}, or name the folder that holds them: FASTNN_DATA=folder"
    )


def download(remote: Remote, target: Path) -> None:
    """Download to `target`: whole and with the right checksum, or not at all.

    ConnectionError if no address gives the whole file.
    """
    with downloaded(remote, target.parent) as path:
        os.replace(path, target)


@contextlib.contextmanager
def downloaded(remote: Remote, folder: Path) -> Iterator[Path]:
    """A temporary file in `folder` with what came, of the right checksum; gone afterwards, if it is still there."""
    folder.mkdir(parents=True, exist_ok=True)
    failures: list[str] = []
    for url in remote.urls:
        with _temporary(folder) as (stream, path):
            try:
                found = _fetch(url, stream)
            except (OSError, ValueError, http.client.HTTPException) as error:
                failures.append(f"{url}: {_reason(error)}")
                continue
            if found != remote.sha256:
                failures.append(f"{url}: what came has the SHA-256 {found}; expected {remote.sha256}")
                continue
            yield path
            return
    raise ConnectionError(f"it could not be downloaded ({'; '.join(failures)})")


@contextlib.contextmanager
def _temporary(folder: Path) -> Iterator[tuple[IO[bytes], Path]]:
    """An open file of a name that nobody else has; removed afterwards, unless it was renamed."""
    handle, name = tempfile.mkstemp(prefix=".download-", dir=folder)
    path = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream:
            yield stream, path
    finally:
        path.unlink(missing_ok=True)


def write(target: Path, blocks: Iterator[bytes]) -> None:
    """Write a file so that it is there whole or not at all."""
    with _temporary(target.parent) as (stream, path):
        for block in blocks:
            stream.write(block)
        stream.flush()
        os.fsync(stream.fileno())
        os.replace(path, target)


def blocks_of(stream: IO[bytes]) -> Iterator[bytes]:
    """The bytes of a stream, a block at a time."""
    while block := stream.read(_BLOCK):
        yield block


def _fetch(url: str, stream: IO[bytes]) -> str:
    """Write what is at `url` to the stream; return its SHA-256."""
    digest, came = hashlib.sha256(), 0
    request = urllib.request.Request(url, headers={"User-Agent": "fastnn"})
    with urllib.request.urlopen(request, timeout=_TIMEOUT) as response:
        length = response.headers.get("Content-Length")
        with _bar(url, length) as bar:
            for block in blocks_of(response):
                stream.write(block)
                digest.update(block)
                came += len(block)
                bar(len(block))
    if length is not None and came != int(length):
        raise ConnectionError(f"broken off after {came} of {length} bytes")
    stream.flush()
    os.fsync(stream.fileno())
    return digest.hexdigest()


@contextlib.contextmanager
def _bar(url: str, length: str | None) -> Iterator[Callable[[int], Any]]:
    """A progress bar, where tqdm is installed and somebody watches."""
    try:
        from tqdm import tqdm
    except ModuleNotFoundError:
        yield lambda count: None
        return
    name, total = url.rpartition("/")[2], int(length) if length else None
    with tqdm(desc=name, total=total, unit="B", unit_scale=True, disable=None) as bar:
        yield bar.update


def _reason(error: BaseException) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"HTTP {error.code} {error.reason}"
    if isinstance(error, urllib.error.URLError):
        return str(error.reason)
    return str(error) or type(error).__name__
