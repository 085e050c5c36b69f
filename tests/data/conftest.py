"""Fixtures: small published data sets in their true formats, a server that has their files, and image folders."""

from __future__ import annotations

import gzip
import importlib
import io
import json
import struct
import tarfile
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from hashlib import md5
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from pactl_cli import catalogue

RNG = np.random.default_rng(0)

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Made:
    """A data set that a test has made.

    Attributes:
        name: in the catalogue.
        served: the files of the server, by path.
        tables: how to patch addresses and checksums: (module, object or "", attribute, value). "URL/" in a value
            stands for the server's address.
        layout: the files below a data directory, by path, as after a download.
        train, test: images, shape (n, C, H, W), and labels.
    """

    name: str
    served: dict[str, bytes]
    tables: list[tuple[str, str, str, Any]]
    layout: dict[str, bytes]
    train: tuple[Array, Array]
    test: tuple[Array, Array]

    def write(self, data_dir: Path) -> Path:
        """Write the files below a data directory."""
        for path, content in self.layout.items():
            (data_dir / path).parent.mkdir(parents=True, exist_ok=True)
            (data_dir / path).write_bytes(content)
        return data_dir

    def addressed(self, url: str) -> list[tuple[str, str, str, Any]]:
        """Return the tables with a server's address."""
        return list(json.loads(json.dumps(self.tables).replace("URL/", f"{url}/")))


# --- The server -------------------------------------------------------------------------------------------------------


class Server:
    """A file server on this machine that counts its answers.

    Attributes:
        files: content by path.
        given: how often each file was sent.
        cut: the number of bytes after which every answer ends, although its header promises the whole file.
        open: while it is not set, every answer stops after its first byte.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.given: Counter[str] = Counter()
        self.cut: int | None = None
        self.open = Event()
        self.open.set()
        self.asked = Event()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        self._thread = Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def close(self) -> None:
        """Stop the server."""
        self.open.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                name = self.path.removeprefix("/")
                content = server.files.get(name)
                self.send_response(404 if content is None else 200)
                self.send_header("Content-Length", str(len(content or b"")))
                self.end_headers()
                if content is None or self.headers["Method"] == "HEAD":  # torchvision asks so for a redirection
                    return
                server.given[name] += 1
                with suppress(OSError):  # the client has gone
                    self.wfile.write(content[:1])
                    self.wfile.flush()
                    server.asked.set()
                    server.open.wait()
                    self.wfile.write(content[1 : server.cut])

            def log_message(self, *_: object) -> None:
                pass

        return Handler


@pytest.fixture
def server() -> Iterator[Server]:
    """A file server without files."""
    server = Server()
    yield server
    server.close()


@pytest.fixture
def published(server: Server, monkeypatch: pytest.MonkeyPatch) -> Callable[[Made], Made]:
    """Return `published(made)`, which puts a data set on the server and patches the program and torchvision for it."""
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("urllib.request._opener", None)

    def publish(made: Made) -> Made:
        server.files |= made.served
        for module, name, attribute, value in made.addressed(server.url):
            place = importlib.import_module(module)
            monkeypatch.setattr(getattr(place, name) if name else place, attribute, value)
        entry = replace(catalogue.DATASETS[made.name], train_examples=len(made.train[1]))
        monkeypatch.setitem(catalogue.DATASETS, made.name, entry)
        return made

    return publish


# --- The data sets ----------------------------------------------------------------------------------------------------


def part(count: int, shape: tuple[int, ...], classes: int = 10) -> tuple[Array, Array]:
    """Return images of noise, and labels."""
    return RNG.integers(0, 256, (count, *shape), dtype=np.uint8), np.arange(count) % classes


def digest(content: bytes) -> str:
    return md5(content, usedforsecurity=False).hexdigest()


def idx(array: Array) -> bytes:
    """Return an array of bytes in the IDX format."""
    return struct.pack(f">2xBB{array.ndim}I", 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


def idx_set(name: str, class_name: str, train: tuple[Array, Array], test: tuple[Array, Array]) -> Made:
    """Return a data set in the format of MNIST."""
    files = {
        f"{prefix}-{kind}-ubyte": idx(array)
        for prefix, (images, labels) in (("train", train), ("t10k", test))
        for kind, array in (("images-idx3", images[:, 0]), ("labels-idx1", labels))
    }
    archives = {f"{file}.gz": gzip.compress(content, 1, mtime=0) for file, content in files.items()}
    resources = [(file, digest(content)) for file, content in archives.items()]
    where = ("torchvision.datasets", class_name)
    headers = {
        file: struct.unpack(f">{1 + content[3]}I", content[: 4 + 4 * content[3]]) for file, content in files.items()
    }
    tables: list[tuple[str, str, str, Any]] = [
        (*where, "mirrors", ["URL/"]),
        (*where, "resources", resources),
        ("pactl_cli.data.published.idx_files", "", "FASHION_HEADERS", headers),
    ]
    layout = {f"{class_name}/raw/{file}": content for file, content in (files | archives).items()}
    return Made(name, archives, tables, layout, train, test)


def python2_pickle(value: Any) -> bytes:
    """Return a pickle as Python 2 and the numpy of 2009 wrote CIFAR's batches."""

    def spelled(value: Any) -> bytes:
        match value:
            case dict():
                return b"}(" + b"".join(spelled(key) + spelled(item) for key, item in value.items()) + b"u"
            case list():
                return b"](" + b"".join(map(spelled, value)) + b"e"
            case str():
                return b"U" + bytes([len(value)]) + value.encode()
            case int():
                return b"M" + struct.pack("<H", value)
        shape = b"".join(map(spelled, value.shape))
        kind = b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        data = b"T" + struct.pack("<I", value.nbytes) + value.tobytes()
        start = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        return start + b"(K\x01(" + shape + b"t" + kind + b"\x89" + data + b"tb"

    return b"\x80\x02" + spelled(value) + b"."


def cifar(name: str, class_name: str, batches: dict[str, int], label: str, meta: str, label_names: str) -> Made:
    """Return CIFAR-10 or CIFAR-100. The last of `batches` is the test set."""
    folder, archive = {"cifar10": ("cifar-10-batches-py", "cifar-10-python.tar.gz")}.get(
        name, ("cifar-100-python", "cifar-100-python.tar.gz")
    )
    parts = {batch: part(count, (3, 32, 32)) for batch, count in batches.items()}
    files = {
        batch: python2_pickle({"batch_label": batch, label: labels.tolist(), "data": images.reshape(len(images), -1)})
        for batch, (images, labels) in parts.items()
    } | {meta: python2_pickle({label_names: ["aeroplane", "car"]})}
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for file, content in files.items():
            member = tarfile.TarInfo(f"{folder}/{file}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    sums = [[file, digest(content)] for file, content in files.items()]
    where = ("torchvision.datasets", class_name)
    tables: list[tuple[str, str, str, Any]] = [
        (*where, "url", f"URL/{archive}"),
        (*where, "tgz_md5", digest(packed.getvalue())),
        (*where, "train_list", sums[:-2]),
        (*where, "test_list", sums[-2:-1]),
        (*where, "meta", {"filename": meta, "key": label_names, "md5": sums[-1][1]}),
    ]
    layout = {f"{folder}/{file}": content for file, content in files.items()}
    *first, last = parts.values()
    train = tuple(np.concatenate(arrays) for arrays in zip(*first, strict=True))
    return Made(name, {archive: packed.getvalue()}, tables, layout, (train[0], train[1]), last)


def svhn(name: str = "svhn") -> Made:
    """Return house numbers, whose files label the digit 0 as 10 and have the images on the last axis."""
    parts = {"train": part(12, (3, 32, 32)), "test": part(7, (3, 32, 32))}
    files = {}
    for split, (images, labels) in parts.items():
        content: Any = io.BytesIO()
        columns = np.where(labels == 0, 10, labels).astype(np.uint8)[:, None]
        savemat(content, {"X": images.transpose(2, 3, 1, 0), "y": columns}, do_compression=True)
        files[f"{split}_32x32.mat"] = content.getvalue()
    splits = {
        split: [f"URL/{file}", file, digest(content)]
        for split, (file, content) in zip(parts, files.items(), strict=True)
    }
    tables: list[tuple[str, str, str, Any]] = [("torchvision.datasets", "SVHN", "split_list", splits)]
    layout = {f"svhn/{file}": content for file, content in files.items()}
    return Made(name, files, tables, layout, parts["train"], parts["test"])


def tiny_imagenet() -> Made:
    """Return Tiny ImageNet with three classes. Two images are grey, as some real ones are; all are lossless."""
    train, test = part(12, (3, 64, 64), 3), part(5, (3, 64, 64), 3)
    train[0][1], test[0][2] = train[0][1, :1], test[0][2, :1]
    wnids = ["n01443537", "n01629819", "n02085620"]

    def stored(image: Array) -> bytes:
        out = io.BytesIO()
        Image.fromarray(image[0] if (image == image[0]).all() else np.moveaxis(image, 0, -1)).save(out, "PNG")
        return out.getvalue()

    order = np.argsort(train[1], kind="stable")
    train = (train[0][order], train[1][order])
    files = {"wnids.txt": "".join(f"{wnid}\n" for wnid in reversed(wnids)).encode(), "words.txt": b"n01443537\tfish\n"}
    for number, (image, label) in enumerate(zip(*train, strict=True)):
        wnid = wnids[label]
        files[f"train/{wnid}/images/{wnid}_{number:02}.JPEG"] = stored(image)
        files[f"train/{wnid}/{wnid}_boxes.txt"] = b""
    for number, image in enumerate(test[0]):
        files[f"val/images/val_{number}.JPEG"] = stored(image)
    lines = [f"val_{number}.JPEG\t{wnids[label]}\t0\t0\t9\t9\n" for number, label in enumerate(test[1])]
    files["val/val_annotations.txt"] = "".join(reversed(lines)).encode()
    files["test/images/test_0.JPEG"] = stored(test[0][0])
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for file, content in files.items():
            archive.writestr(f"tiny-imagenet-200/{file}", content)
    archives = {"tiny-imagenet-200.zip": packed.getvalue()}
    where = ("pactl_cli.data.published.tiny_imagenet", "")
    tables = [(*where, "URL", "URL/tiny-imagenet-200.zip"), (*where, "MD5", digest(packed.getvalue()))]
    return Made("tiny-imagenet", archives, tables, archives, train, test)


CIFAR10 = {f"data_batch_{number}": 4 for number in range(1, 6)} | {"test_batch": 6}


@pytest.fixture(scope="session")
def _makers() -> dict[str, Made]:
    made = (
        idx_set("fmnist", "FashionMNIST", part(60, (1, 28, 28)), part(20, (1, 28, 28))),
        cifar("cifar10", "CIFAR10", CIFAR10, "labels", "batches.meta", "label_names"),
        cifar("cifar100", "CIFAR100", {"train": 20, "test": 6}, "fine_labels", "meta", "fine_label_names"),
        svhn(),
        tiny_imagenet(),
    )
    return {each.name: each for each in made}


@pytest.fixture
def made(request: pytest.FixtureRequest, _makers: dict[str, Made], published: Callable[[Made], Made]) -> Made:
    """Return the data set that the test names as its parameter, published."""
    return published(_makers[request.param])


@pytest.fixture(scope="session")
def idx_files() -> Callable[..., Made]:
    """Return `idx_files(name, class_name, train, test)`, which makes a data set in the format of MNIST."""
    return idx_set


@pytest.fixture
def tree() -> Callable[[Path], set[str]]:
    """Return `tree(path)`, which lists all files below a path."""
    return lambda path: {str(item.relative_to(path)) for item in path.rglob("*") if item.is_file()}


Samples = list[tuple[str, int]]


@pytest.fixture(scope="session")
def pictures() -> Callable[..., Samples]:
    """Return `pictures(place, count)`, which writes images of noise, of many sizes if `size` is None.

    It returns their paths and labels.
    """

    def write(
        place: Path, count: int, *, kind: str = "png", size: tuple[int, int] | None = (9, 7), channels: int = 3
    ) -> Samples:
        random = np.random.default_rng(count)
        place.mkdir(parents=True)
        samples = []
        for number in range(count):
            width, height = size or random.integers(30, 90, 2)
            coarse = random.integers(0, 256, (-(-height // 4), -(-width // 4), channels), dtype=np.uint8)
            fine = np.kron(coarse, np.ones((4, 4, 1), np.uint8))[:height, :width]
            Image.fromarray(fine.squeeze()).save(place / f"{number}.{kind}")
            samples.append((str(place / f"{number}.{kind}"), number % 3))
        return samples

    return write
