"""Readers of MNIST and CIFAR-10: real files, damaged ones, where they are looked for, and downloads."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import importlib
import io
import socket
import tarfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastnn as fnn
from fastnn.data import cifar, files
from fastnn.data.mnist import read_idx

mnist = importlib.import_module("fastnn.data.mnist")  # not the function of this name
NAMES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No data set at hand, an empty cache, and no internet."""
    cache = tmp_path / "cache"
    monkeypatch.delenv("FASTNN_DATA", raising=False)
    monkeypatch.setenv("FASTNN_CACHE", str(cache))
    monkeypatch.setattr(mnist, "ADDRESSES", ("http://127.0.0.1:9/",))
    monkeypatch.setattr(cifar, "ADDRESS", "http://127.0.0.1:9/")
    return cache


def idx(array: np.ndarray[Any, Any]) -> bytes:
    header = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    return header + array.astype(np.uint8).tobytes()


def digits(n: int, seed: int = 0) -> dict[str, bytes]:
    """Four files of n random images."""
    rng = np.random.default_rng(seed)
    return {name: idx(rng.integers(0, 256 if "images" in name else 10, (n, 28, 28)[: 3 if "images" in name else 1]))
            for name in NAMES}  # fmt: skip


def put(folder: Path, contents: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in contents.items():
        (folder / name).write_bytes(data)
    return folder


# The real thing


def test_mnist_is_the_original(mnist_folder: Path) -> None:
    train, test = fnn.data.mnist("train", mnist_folder), fnn.data.mnist("test", mnist_folder)
    assert train.x.shape == (60000, 1, 28, 28) and test.x.shape == (10000, 1, 28, 28)
    assert train.x.dtype == np.uint8 and train.y.dtype == np.int64 and train.classes == tuple("0123456789")
    assert np.bincount(train.y).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert np.bincount(test.y).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert train.y[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert train.x.flags.writeable and len(train) == 60000
    # The published mean and standard deviation of the pixels, in [0, 1].
    step = fnn.data.PerChannelStandardize().fit(train.x)
    np.testing.assert_allclose([step.mean_.item(), step.scale_.item()], [0.1307, 0.3081], atol=5e-5)


def test_cifar_is_read_as_it_is_laid_out(cifar_folder: Path) -> None:
    train, test = fnn.data.cifar10("train", cifar_folder), fnn.data.cifar10("test", cifar_folder)
    assert train.x.shape == (50000, 3, 32, 32) and test.x.shape == (10000, 3, 32, 32)
    assert train.x.dtype == np.uint8 and train.y.dtype == np.int64
    assert np.bincount(train.y).tolist() == [5000] * 10 and np.bincount(test.y).tolist() == [1000] * 10
    assert train.classes == cifar.CLASSES
    raw = next(cifar_folder.glob("**/data_batch_3.bin")).read_bytes()
    # The published means of the channels, in [0, 1]; JPEG, where that is what there is, changes them by less.
    np.testing.assert_allclose(train.x.mean(axis=(0, 2, 3)) / 255, [0.4914, 0.4822, 0.4465], atol=5e-4)
    record = raw[17 * 3073 : 18 * 3073]
    assert record[0] == train.y[20017] and record[1:] == train.x[20017].tobytes()


# Where files are looked for


def test_gzipped_or_not_whatever_it_is_called(tmp_path: Path) -> None:
    contents = digits(5)
    put(tmp_path / "plain", contents)
    put(tmp_path / "zipped", {f"{name}.gz": gzip.compress(data) for name, data in contents.items()})
    put(tmp_path / "misnamed", {name: gzip.compress(data) for name, data in contents.items()})
    results = [fnn.data.mnist("test", tmp_path / name) for name in ("plain", "zipped", "misnamed")]
    for result in results:
        assert result.x.tobytes() == contents[NAMES[2]][16:] and result.y.tolist() == list(contents[NAMES[3]][8:])


def test_where_files_are_looked_for(tmp_path: Path, nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the folder named, else in FASTNN_DATA, else in the cache; each time there or one folder below."""
    put(nowhere, digits(3))
    assert len(fnn.data.mnist(download=False)) == 3
    put(tmp_path / "named" / "below", digits(4))
    monkeypatch.setenv("FASTNN_DATA", str(tmp_path / "named"))
    assert len(fnn.data.mnist(download=False)) == 4
    put(tmp_path / "given", digits(5))
    assert len(fnn.data.mnist("test", tmp_path / "given")) == len(fnn.data.mnist("test", str(tmp_path / "given"))) == 5
    with pytest.raises(FileNotFoundError, match="elsewhere"):
        fnn.data.mnist("test", tmp_path / "elsewhere", download=False)


def test_a_split_needs_its_own_files_only(tmp_path: Path) -> None:
    contents = digits(3)
    put(tmp_path, {name: contents[name] for name in NAMES[:2]})
    assert len(fnn.data.mnist("train", tmp_path)) == 3
    with pytest.raises(FileNotFoundError, match="t10k-images-idx3-ubyte.gz and t10k-labels-idx1-ubyte.gz"):
        fnn.data.mnist("test", tmp_path, download=False)


def test_the_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("FASTNN_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert fnn.data.cache_folder() == tmp_path / "fastnn"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # which the standard says to ignore
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert fnn.data.cache_folder() == tmp_path / "home" / ".cache" / "fastnn"
    monkeypatch.setenv("FASTNN_CACHE", "~/own")
    assert fnn.data.cache_folder() == tmp_path / "home" / "own"


@pytest.mark.parametrize("read", [fnn.data.mnist, fnn.data.cifar10])
def test_an_unknown_split(read: Callable[..., Any]) -> None:
    with pytest.raises(ValueError, match="""split is 'validation'; expected "train" or "test\""""):
        read("validation")


# Damaged files

GOOD = idx(np.zeros((4, 28, 28), np.uint8))
ZIPPED = gzip.compress(GOOD)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (GOOD[:-1], r"truncated: 3135 bytes of data; its header says \(4, 28, 28\), 3136 bytes"),
        (GOOD + b"\0", "too long: 3137 bytes"),
        (GOOD[:7], "truncated: 0 bytes"),
        (b"", r"begins with the bytes \(none\)"),
        (b"\x89PNG\r\n", "begins with the bytes 89 50 4e 47; expected 00 00 08 03"),
        (b"\0\0\x0d\x03" + GOOD[4:], "begins with the bytes 00 00 0d 03"),
        (ZIPPED[:-9], "truncated or corrupt"),
        (ZIPPED[:-8] + bytes(4) + ZIPPED[-4:], "corrupt: CRC check failed"),
        (ZIPPED[:12] + bytes([255]) * 8 + ZIPPED[20:], "truncated or corrupt"),
        (ZIPPED[:5], "truncated or corrupt"),
    ],
    ids=["short", "long", "header", "empty", "png", "doubles", "cut", "checksum", "garbage", "stub"],
)
def test_a_damaged_idx_file_is_named(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=message) as caught:
        read_idx(path)
    assert str(path) in str(caught.value)


def test_any_damage_is_an_error_or_harmless(tmp_path: Path) -> None:
    """Bytes changed, left out or added at random, in a plain and in a zipped file: it has the same shape, or none."""
    rng, path = np.random.default_rng(0), tmp_path / "images"
    refused = 0
    for number in range(400):
        data = bytearray(GOOD if number % 2 else ZIPPED)
        if number % 3 == 0:
            data = data[: rng.integers(len(data))]
        elif number % 3 == 1:
            data[rng.integers(min(len(data), 40))] = rng.integers(256)
        else:
            at = rng.integers(len(data))
            data[at : at + rng.integers(3)] = rng.bytes(rng.integers(9))
        path.write_bytes(data)
        try:
            assert read_idx(path).shape == (4, 28, 28)
        except ValueError as error:
            refused += 1
            assert str(path) in str(error)
    assert refused > 200


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        (NAMES[1], np.zeros(3), "4 images and .*train-labels-idx1-ubyte 3 labels"),
        (NAMES[1], np.array([0, 1, 10, 2]), "train-labels-idx1-ubyte has the label 10 in it; expected 0 to 9"),
        (NAMES[0], np.zeros((4, 27, 28)), r"train-images.* has the shape \(4, 27, 28\); expected \(N, 28, 28\)"),
        (NAMES[0], np.zeros(4), r"train-images.* has the shape \(4,\)"),
        (NAMES[1], np.zeros((4, 28, 28)), r"train-labels.* has the shape \(4, 28, 28\); expected \(N,\)"),
    ],
    ids=["count", "label", "side", "axes", "images"],
)
def test_idx_files_that_do_not_fit(tmp_path: Path, name: str, array: np.ndarray[Any, Any], message: str) -> None:
    put(tmp_path, digits(4) | {name: idx(array)})
    with pytest.raises(ValueError, match=message):
        fnn.data.mnist("train", tmp_path)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """The files of CIFAR-10 with 4 records a batch instead of 10,000."""
    monkeypatch.setattr(cifar, "RECORDS", 4)
    rng = np.random.default_rng(1)
    contents = {}
    for name in (*cifar.BATCHES["train"], *cifar.BATCHES["test"]):
        records = rng.integers(0, 256, (4, cifar.RECORD), dtype=np.uint8)
        records[:, 0] %= 10
        contents[name] = records.tobytes()
    return contents | {cifar.NAMES: "\n".join(cifar.CLASSES).encode() + b"\n\n"}


def test_cifar_in_the_folder_below_it_or_itself(tmp_path: Path, small: dict[str, bytes]) -> None:
    inner = put(tmp_path / "data" / cifar.FOLDER, small)
    for folder in (tmp_path, tmp_path / "data", inner):
        data = fnn.data.cifar10("train", folder, download=False)
        assert data.x.shape == (20, 3, 32, 32) and data.x[5].tobytes() == small["data_batch_2.bin"][3074 : 2 * 3073]
        assert data.y[5] == small["data_batch_2.bin"][3073]
    (inner / cifar.NAMES).unlink()  # not everybody has kept it
    assert fnn.data.cifar10("test", tmp_path).classes == cifar.CLASSES


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("data_batch_4.bin", lambda b: b[:-1], "truncated: 12291 bytes; expected 4 records of 3073, 12292 bytes"),
        ("data_batch_1.bin", lambda b: b + b"\0", "too long: 12293 bytes"),
        ("data_batch_5.bin", lambda b: b[:3073] + b"\x0b" + b[3074:], "has the label 11 in record 1; expected 0 to 9"),
        (cifar.NAMES, lambda b: b"cat dog", "has 2 names of classes in it; expected 10"),
    ],
    ids=["short", "long", "label", "names"],
)
def test_a_damaged_batch_is_named(
    tmp_path: Path, small: dict[str, bytes], name: str, change: Callable[[bytes], bytes], message: str
) -> None:
    put(tmp_path / cifar.FOLDER, small | {name: change(small[name])})
    with pytest.raises(ValueError, match=message) as caught:
        fnn.data.cifar10("train", tmp_path)
    assert name in str(caught.value)


# Downloads


class Server:
    """What a local server says: by path the status, the bytes, and how many it claims."""

    def __init__(self) -> None:
        self.answers: dict[str, tuple[int, bytes, int]] = {}
        self.asked: list[str] = []
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.asked.append(self.path)
                status, data, length = server.answers.get(self.path, (404, b"not here", 8))
                self.send_response(status)
                self.send_header("Content-Length", str(length))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *args: Any) -> None:
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/"

    def offer(self, path: str, data: bytes, status: int = 200, claimed: int | None = None) -> str:
        self.answers[f"/{path}"] = status, data, len(data) if claimed is None else claimed
        return hashlib.sha256(data).hexdigest()


@pytest.fixture
def server() -> Iterator[Server]:
    found = Server()
    thread = threading.Thread(target=found.http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield found
    found.http.shutdown()
    found.http.server_close()
    thread.join()


@pytest.fixture
def offered(server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """MNIST of 6 images, on the server, at the second of two addresses."""
    sums = {f"{k}.gz": server.offer(f"mirror/{k}.gz", gzip.compress(v)) for k, v in digits(6).items()}
    monkeypatch.setattr(mnist, "ADDRESSES", (f"{server.url}refuses/", f"{server.url}mirror/"))
    monkeypatch.setattr(mnist, "SHA256", sums)
    return server


def test_what_is_downloaded_is_kept(offered: Server, nowhere: Path, tmp_path: Path) -> None:
    data = fnn.data.mnist("train")
    assert data.x.tobytes() == digits(6)[NAMES[0]][16:]
    assert offered.asked == [f"/{place}/{name}.gz" for name in NAMES[:2] for place in ("refuses", "mirror")]
    assert sorted(path.name for path in nowhere.iterdir()) == [f"{name}.gz" for name in NAMES[:2]]
    offered.asked.clear()
    assert len(fnn.data.mnist("train")) == 6 and offered.asked == []
    fnn.data.mnist("train", tmp_path / "own")
    assert len(list((tmp_path / "own").iterdir())) == 2


@pytest.mark.parametrize("what", ["wrong", "interrupted", "missing", "broken"])
def test_a_download_is_whole_or_not_there(offered: Server, nowhere: Path, what: str) -> None:
    path = f"mirror/{NAMES[1]}.gz"
    data = offered.answers[f"/{path}"][1]
    if what == "wrong":
        digest = offered.offer(path, b"<html>Please log in</html>")
        expected = f"what came has the SHA-256 {digest}; expected {mnist.SHA256[NAMES[1] + '.gz']}"
    elif what == "interrupted":
        offered.offer(path, data[:20], claimed=len(data))
        expected = f"broken off after 20 of {len(data)} bytes"
    elif what == "missing":
        del offered.answers[f"/{path}"]
        expected = "HTTP 404"
    else:
        offered.offer(path, b"", status=503)
        expected = "HTTP 503"
    with pytest.raises(ConnectionError) as caught:
        fnn.data.mnist("train")
    message = str(caught.value)
    assert expected in message and f"{offered.url}{path}" in message
    assert f"Put {NAMES[0]}.gz and {NAMES[1]}.gz into {nowhere}" in message and "FASTNN_DATA=folder" in message
    assert [path.name for path in nowhere.iterdir()] == [f"{NAMES[0]}.gz"]  # the one that came whole
    offered.offer(path, data)
    assert len(fnn.data.mnist("train")) == 6


def test_offline(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setattr(cifar, "ADDRESS", f"http://127.0.0.1:{free.getsockname()[1]}/cifar.tar.gz")
    with pytest.raises(ConnectionError, match="refused.*Put the folder cifar-10-batches-bin with test_batch.bin into"):
        fnn.data.cifar10("test")
    assert list(nowhere.iterdir()) == []


def archive(contents: dict[str, bytes], extra: Callable[[tarfile.TarFile], None] | None = None) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        if extra:
            extra(tar)
        for name, data in contents.items():
            member = tarfile.TarInfo(f"{cifar.FOLDER}/{name}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return stream.getvalue()


def offer_archive(server: Server, monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(cifar, "SHA256", server.offer("cifar.tar.gz", data))
    monkeypatch.setattr(cifar, "ADDRESS", f"{server.url}cifar.tar.gz")


def test_an_archive_is_unpacked_and_not_kept(
    server: Server, small: dict[str, bytes], nowhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer_archive(server, monkeypatch, archive(small))
    assert fnn.data.cifar10("train").x[0].tobytes() == small["data_batch_1.bin"][1:3073]
    assert len(fnn.data.cifar10("test")) == 4 and len(server.asked) == 1
    assert [path.name for path in nowhere.iterdir()] == [cifar.FOLDER]
    assert {path.name: path.read_bytes() for path in (nowhere / cifar.FOLDER).iterdir()} == small


def test_nothing_but_the_batches_leaves_an_archive(
    server: Server, small: dict[str, bytes], nowhere: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def evil(tar: tarfile.TarFile) -> None:
        for name in ("../evil", f"{cifar.FOLDER}/../../evil", str(tmp_path / "evil"), f"{cifar.FOLDER}/readme.html"):
            tar.addfile(tarfile.TarInfo(name), io.BytesIO())
        link = tarfile.TarInfo(f"{cifar.FOLDER}/test_batch.bin")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)

    offer_archive(server, monkeypatch, archive(small, evil))
    fnn.data.cifar10("train")
    assert {path.name for path in (nowhere / cifar.FOLDER).iterdir()} == set(small)
    assert not any(path.is_symlink() for path in tmp_path.rglob("*")) and not list(tmp_path.rglob("evil"))


def test_an_archive_without_all_batches(
    server: Server, small: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    del small["data_batch_3.bin"]
    offer_archive(server, monkeypatch, archive(small))
    with pytest.raises(ValueError, match="has no cifar-10-batches-bin/data_batch_3.bin in it"):
        fnn.data.cifar10("train")
    offer_archive(server, monkeypatch, archive(small)[:2000])
    with pytest.raises(ValueError, match="truncated or corrupt"):
        fnn.data.cifar10("train")


def test_the_addresses_are_https() -> None:
    text = Path(mnist.__file__).read_text() + Path(cifar.__file__).read_text()
    assert text.count('"https://') == 3 and '"http://' not in text
    assert files.cache_folder().is_absolute()


def test_a_file_for_a_folder(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"")
    for read in (fnn.data.mnist, fnn.data.cifar10):
        with pytest.raises(NotADirectoryError, match="folder is .*, which is a file; expected a folder"):
            read(folder=file)
