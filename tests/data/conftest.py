"""Shared by the data tests: no network but localhost, no cache but a temporary one."""

from __future__ import annotations

import functools
import gzip
import os
import struct
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from xcnn.data import load
from xcnn.data.sources.idx import STEMS

load_once = functools.cache(load)

Responder = Callable[[BaseHTTPRequestHandler], None]


@pytest.fixture(autouse=True)
def isolated(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """No data folder; the cache is in ``tmp_path``, or cannot be created in a test without one."""
    has_folder = "tmp_path" in request.fixturenames
    folder = request.getfixturevalue("tmp_path") if has_folder else Path(os.devnull)
    monkeypatch.delenv("XCNN_DATA", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("XCNN_CACHE", str(folder / "cache"))
    monkeypatch.setenv("XCNN_MIRROR", "http://127.0.0.1:9")  # nothing listens on that port
    monkeypatch.setenv("no_proxy", "*")


class Server:
    """An HTTP server on localhost; ``responses`` maps a path to a body or to a function."""

    def __init__(self) -> None:
        self.responses: dict[str, bytes | Responder] = {}
        self.requests: list[str] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.requests.append(self.path)
                response = server.responses.get(self.path)
                if callable(response):
                    response(self)
                elif response is None:
                    self.send_error(404)
                else:
                    announce(self, len(response))
                    self.wfile.write(response)

            def log_message(self, *args: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.01,))
        self.thread.start()
        self.url = f"http://127.0.0.1:{self.http.server_port}"

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()


def announce(handler: BaseHTTPRequestHandler, length: int) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", str(length))
    handler.end_headers()


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server()
    yield running
    running.close()


def idx_bytes(array: np.ndarray) -> bytes:
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    return header + array.astype(np.uint8).tobytes()


def write_idx_set(folder: Path, train: int = 7, test: int = 3, packed: bool = True) -> None:
    """Write the four files of a small dataset in MNIST format."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    arrays = [
        array
        for count in (train, test)
        for array in (rng.integers(0, 256, (count, 5, 4)), np.arange(count) % 10)
    ]
    for stem, array in zip(STEMS, arrays, strict=True):
        if packed:
            (folder / f"{stem}.gz").write_bytes(gzip.compress(idx_bytes(array)))
        else:
            (folder / stem).write_bytes(idx_bytes(array))


def cifar_batch(labels: list[int], seed: int = 0) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (len(labels), 3072), np.uint8)
    return b"".join(
        struct.pack("B", label) + row.tobytes() for label, row in zip(labels, pixels, strict=True)
    )
