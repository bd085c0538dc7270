"""Verified, atomic download of a file from a list of mirrors."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from ...errors import DataError
from ...files import replacing
from ...notebook import progress_bar
from .files import Digest

_CHUNK = 1 << 16
_SLOWEST = 1024  # bytes per second; a slower mirror counts as stalled


class DownloadError(DataError):
    """No mirror could provide the file.

    Parameters
    ----------
    file : str
        Name of the file.
    failures : list of str
        URL and reason of every attempt.
    """

    def __init__(self, file: str, failures: list[str]) -> None:
        self.failures = failures
        lines = failures or ["no mirrors"]
        super().__init__("\n  ".join([f"{file} could not be downloaded:", *lines]))


class _MirrorError(Exception):
    """One mirror failed; the next one is tried."""


def fetch(
    file: str,
    mirrors: Sequence[str],
    destination: str | os.PathLike[str],
    digest: Digest | None = None,
    progress: bool = True,
    timeout: float = 30.0,
    limit: int | None = None,
) -> Path:
    """Download ``file`` into the folder ``destination``.

    The bytes go to a temporary file in that folder, which is renamed once it is complete and its
    digest is right (:func:`xcnn.files.replacing`).

    Parameters
    ----------
    file : str
        Name of the file, both on the mirrors and on disk.
    mirrors : sequence of str
        URLs of the folders to download from, tried in order.
    destination : path
        Created if it does not exist.
    digest : Digest, optional
        Expected digest; without it, only the announced length is checked.
    progress : bool, default True
        Show a progress bar if standard error is a terminal.
    timeout : float, default 30
        Seconds to wait for a response before trying the next mirror. A mirror that sends less than
        1 kB/s for this long is also abandoned.
    limit : int, optional
        Abandon a mirror that sends more bytes.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    DownloadError
        If no mirror provided the file; lists every URL and the reason.
    DataError
        If the file cannot be written, for instance because the disk is full.
    """
    folder = Path(destination)
    failures = []
    for mirror in mirrors:
        url = f"{mirror.rstrip('/')}/{file}"
        try:
            return _fetch_from(url, folder / file, digest, progress, timeout, limit)
        except _MirrorError as error:
            failures.append(f"{url}: {error}")
    raise DownloadError(file, failures)


def _fetch_from(
    url: str,
    path: Path,
    digest: Digest | None,
    progress: bool,
    timeout: float,
    limit: int | None,
) -> Path:
    try:
        # an OSError here comes from the disk: network errors arrive as _MirrorError
        with closing(_open(url, timeout)) as response:
            path.parent.mkdir(parents=True, exist_ok=True)  # only when there is something to save
            bar = progress_bar(_length(response), path.name, progress, unit="B", unit_scale=True)
            with replacing(path) as sink, bar:
                for chunk in _chunks(response, timeout, limit):
                    sink.write(chunk)
                    bar.update(len(chunk))
                sink.flush()
                _verify(Path(sink.name), digest)
    except OSError as error:
        raise DataError(
            f"{path} cannot be written: {error.strerror or error}. Free some space or permit "
            "writing there, or choose another folder with data_dir=... or the variable XCNN_CACHE"
        ) from error
    return path


@contextmanager
def _network_errors(timeout: float) -> Iterator[None]:
    """Convert any network error to a _MirrorError."""
    import http.client  # imported late, here and below: an eighth of `import xcnn`

    try:
        yield
    except (OSError, http.client.HTTPException, ValueError) as error:
        cause = getattr(error, "reason", None)
        if isinstance(error, TimeoutError) or isinstance(cause, TimeoutError):
            raise _MirrorError(f"no answer within {timeout:g} s") from error
        raise _MirrorError(str(error) or type(error).__name__) from error


def _open(url: str, timeout: float) -> Any:
    import urllib.error
    import urllib.request

    with _network_errors(timeout):
        request = urllib.request.Request(url, headers={"User-Agent": "xcnn"})
        try:
            return urllib.request.urlopen(request, timeout=timeout)
        except urllib.error.HTTPError as error:
            error.close()  # the error holds the connection
            raise


def _length(response: Any) -> int | None:
    """Return the announced length in bytes, if there is one."""
    text = response.headers.get("Content-Length", "")
    return int(text) if text.isdigit() else None


def _chunks(response: Any, timeout: float, limit: int | None) -> Iterator[bytes]:
    """Yield the body as it arrives; a mirror that stalls or disconnects early is an error."""
    expected, total = _length(response), 0
    since, received = time.monotonic(), 0
    if limit is not None and (expected or 0) > limit:
        raise _MirrorError(f"{expected} bytes, expected at most {limit}")
    while chunk := _read(response, timeout):
        yield chunk
        total += len(chunk)
        if limit is not None and total > limit:
            raise _MirrorError(f"sent more than {limit} bytes")
        received += len(chunk)
        if (elapsed := time.monotonic() - since) > timeout:
            if received < _SLOWEST * elapsed:
                raise _MirrorError(f"stalled: {received} bytes in {elapsed:.0f} s")
            since, received = time.monotonic(), 0
    if expected is not None and total != expected:
        raise _MirrorError(f"truncated: got {total} of {expected} bytes")


def _read(response: Any, timeout: float) -> bytes:
    with _network_errors(timeout):
        return bytes(response.read1(_CHUNK))  # read() would wait for the full amount


def _verify(path: Path, digest: Digest | None) -> None:
    if digest is None:
        return
    try:
        value = digest.of_file(path)
    except DataError as error:
        cause = error.__cause__ or error  # without the name of the temporary file
        raise _MirrorError(f"sent a truncated or damaged gzip file: {cause}") from error
    if not digest.accepts(value):
        raise _MirrorError(f"sent another file: {digest} is {value}, expected {digest.value}")
