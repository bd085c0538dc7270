import errno
import gzip
import hashlib
import io
import os
import threading
import time
from pathlib import Path

import pytest

from xcnn.data.sources import download
from xcnn.data.sources.download import DownloadError, fetch
from xcnn.data.sources.files import Digest
from xcnn.errors import DataError

from .conftest import announce

BODY = bytes(range(256)) * 1000
SHA = Digest("sha256", hashlib.sha256(BODY).hexdigest())
MD5 = Digest("md5", hashlib.md5(BODY).hexdigest())


def nothing_left(folder) -> bool:
    return list(folder.iterdir()) == []


@pytest.mark.parametrize("digest", [None, SHA, MD5])
def test_fetch_writes_the_file(server, tmp_path, digest):
    server.responses["/d/f.bin"] = BODY
    folder = tmp_path / "new" / "folder"
    path = fetch("f.bin", [f"{server.url}/d/"], folder, digest, progress=False)
    assert path == folder / "f.bin"
    assert path.read_bytes() == BODY
    assert [p.name for p in folder.iterdir()] == ["f.bin"]


def test_the_file_gets_the_usual_permissions(server, tmp_path):
    server.responses["/f"] = BODY
    (tmp_path / "other").write_bytes(b"")
    path = fetch("f", [server.url], tmp_path, progress=False)
    assert path.stat().st_mode == (tmp_path / "other").stat().st_mode


def test_digest_of_unpacked_bytes_accepts_any_packing(server, tmp_path):
    digest = Digest("sha256", SHA.value, unpacked=True)
    for i, body in enumerate([gzip.compress(BODY, 1), gzip.compress(BODY, 9), BODY]):
        server.responses[f"/{i}"] = body
        assert fetch(str(i), [server.url], tmp_path, digest, progress=False).read_bytes() == body


def test_next_mirror_when_the_first_is_dead(server, tmp_path):
    server.responses["/good/f"] = BODY
    mirrors = ["http://127.0.0.1:9/", f"{server.url}/empty/", f"{server.url}/good/"]
    assert fetch("f", mirrors, tmp_path, SHA, progress=False).read_bytes() == BODY
    assert server.requests == ["/empty/f", "/good/f"]


def test_next_mirror_when_the_first_sends_another_file(server, tmp_path):
    server.responses.update({"/bad/f": b"<html>log in</html>", "/good/f": BODY})
    mirrors = [f"{server.url}/bad", f"{server.url}/good"]
    assert fetch("f", mirrors, tmp_path, SHA, progress=False).read_bytes() == BODY


def test_when_all_fail_the_error_lists_each_url_and_reason(server, tmp_path):
    server.responses["/bad/f"] = b"other"
    mirrors = ["http://127.0.0.1:9", f"{server.url}/none", f"{server.url}/bad", "no-url"]
    with pytest.raises(DownloadError) as caught:
        fetch("f", mirrors, tmp_path, SHA, progress=False)
    first, second, third, fourth = caught.value.failures
    assert "127.0.0.1:9/f" in first
    assert "refused" in first
    assert "/none/f" in second
    assert "404" in second
    assert SHA.value in third
    assert hashlib.sha256(b"other").hexdigest() in third
    assert "no-url/f" in fourth
    assert all(failure in str(caught.value) for failure in caught.value.failures)
    assert isinstance(caught.value, DataError)
    assert nothing_left(tmp_path)


def test_no_mirrors(tmp_path):
    with pytest.raises(DownloadError, match="no mirrors"):
        fetch("f", [], tmp_path, progress=False)


def test_truncated_body(server, tmp_path):
    def truncated(handler):
        announce(handler, len(BODY))
        handler.wfile.write(BODY[:1000])

    server.responses["/f"] = truncated
    with pytest.raises(DownloadError, match=f"truncated: got 1000 of {len(BODY)} bytes"):
        fetch("f", [server.url], tmp_path, progress=False)
    assert nothing_left(tmp_path)


def test_truncated_gzip_without_a_length(server, tmp_path):
    def unannounced(handler):
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(gzip.compress(BODY)[:-20])

    server.responses["/f"] = unannounced
    digest = Digest("sha256", SHA.value, unpacked=True)
    with pytest.raises(DownloadError, match="truncated or damaged gzip"):
        fetch("f", [server.url], tmp_path, digest, progress=False)
    assert nothing_left(tmp_path)


@pytest.mark.parametrize("sent", [0, 1000])
def test_a_stalled_mirror_times_out(server, tmp_path, sent):
    release = threading.Event()

    def stall(handler):
        if sent:
            announce(handler, len(BODY))
            handler.wfile.write(BODY[:sent])
        release.wait(5)

    server.responses["/f"] = stall
    start = time.monotonic()
    try:
        with pytest.raises(DownloadError, match=r"no answer within 0\.2 s"):
            fetch("f", [server.url], tmp_path, progress=False, timeout=0.2)
    finally:
        release.set()
    assert time.monotonic() - start < 2
    assert nothing_left(tmp_path)


def test_a_slow_mirror_is_given_up(server, tmp_path):
    stop = threading.Event()

    def drip(handler):
        announce(handler, len(BODY))
        try:
            while not stop.wait(0.02):
                handler.wfile.write(b"x")
        except OSError:
            pass

    server.responses["/f"] = drip
    try:
        with pytest.raises(DownloadError, match="stalled: "):
            fetch("f", [server.url], tmp_path, progress=False, timeout=0.2)
    finally:
        stop.set()
    assert nothing_left(tmp_path)


class FullDisk(io.FileIO):
    """A file on a full disk: fails on write, or on close if buffered."""

    def write(self, data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_is_reported_and_leaves_nothing(server, tmp_path, monkeypatch):
    def open_full(path, mode):
        return io.BufferedWriter(FullDisk(path, mode.replace("b", "")), 1 << 20)

    server.responses["/f"] = BODY
    monkeypatch.setattr(Path, "open", open_full)
    with pytest.raises(DataError, match=r"No space left on device.*XCNN_CACHE") as caught:
        fetch("f", [server.url, server.url], tmp_path, progress=False)
    assert not isinstance(caught.value, DownloadError)
    assert str(tmp_path / "f") in str(caught.value)
    assert server.requests == ["/f"]  # another mirror would not help
    assert nothing_left(tmp_path)


def test_a_destination_that_is_a_file(server, tmp_path):
    server.responses["/f"] = BODY
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DataError, match="cannot be written"):
        fetch("f", [server.url], tmp_path / "file", progress=False)


def test_failed_download_creates_no_folder(server, tmp_path):
    with pytest.raises(DownloadError):
        fetch("f", [server.url], tmp_path / "new", progress=False)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("exception", [KeyboardInterrupt, MemoryError])
def test_an_interrupt_leaves_nothing(server, tmp_path, monkeypatch, exception):
    parts = []

    def interrupted(response, timeout, limit):
        yield BODY[:10]
        parts.extend(tmp_path.iterdir())
        raise exception

    server.responses["/f"] = BODY
    monkeypatch.setattr(download, "_chunks", interrupted)
    with pytest.raises(exception):
        fetch("f", [server.url], tmp_path, progress=False)
    assert len(parts) == 1
    assert nothing_left(tmp_path)


def test_failed_download_keeps_the_old_file(server, tmp_path):
    (tmp_path / "f").write_bytes(b"old")
    server.responses["/f"] = b"wrong"
    with pytest.raises(DownloadError):
        fetch("f", [server.url], tmp_path, SHA, progress=False)
    assert (tmp_path / "f").read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 1


def test_progress_is_silent_without_a_terminal(server, tmp_path, capfd):
    server.responses["/f"] = BODY
    fetch("f", [server.url], tmp_path, SHA, progress=True)
    assert capfd.readouterr() == ("", "")
