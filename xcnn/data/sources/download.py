"""Getting one file from the first mirror that has it: whole, checked, or not at all."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from ...errors import DataError
from .files import GZIP_ERRORS, Digest

_CHUNK = 1 << 16
_SLOWEST = 1024  # bytes per second; below that a mirror counts as stalled


class DownloadError(DataError):
    """No mirror gave the file.

    Parameters
    ----------
    file : str
        Name of the file.
    failures : list of str
        For each URL tried: the URL and the reason.
    """

    def __init__(self, file: str, failures: list[str]) -> None:
        self.failures = failures
        tried = "".join(f"\n  {failure}" for failure in failures) or "\n  no mirrors were given"
        super().__init__(f"{file} could not be downloaded:{tried}")


class _MirrorError(Exception):
    """Why one mirror failed; the next one is tried."""


def fetch(
    file: str,
    mirrors: Sequence[str],
    destination: str | os.PathLike[str],
    digest: Digest | None = None,
    progress: bool = True,
    timeout: float = 30.0,
) -> Path:
    """Download ``file`` into the folder ``destination``.

    The bytes go to a temporary file in that folder, which is renamed once it is whole and its
    digest is right; whatever goes wrong, Ctrl-C included, no temporary file stays behind.

    Parameters
    ----------
    file : str
        Name of the file, the same on the mirrors and on the disk.
    mirrors : sequence of str
        URLs of the folders to take it from, tried in turn.
    destination : path
        Made if it does not exist.
    digest : Digest, optional
        What the file must have; without it, only the announced length is checked.
    progress : bool, default True
        Show a progress bar, if standard error is a terminal.
    timeout : float, default 30
        Seconds without an answer after which a mirror is given up. One that sends less than
        1 kB/s for so long is given up too.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    DownloadError
        If no mirror gave the file; it lists every URL and the reason.
    DataError
        If the file cannot be written, for instance because the disk is full.
    """
    folder = Path(destination)
    failures = []
    for mirror in mirrors:
        url = f"{mirror.rstrip('/')}/{file}"
        try:
            return _fetch_from(url, folder / file, digest, progress, timeout)
        except _MirrorError as error:
            failures.append(f"{url}: {error}")
    raise DownloadError(file, failures)


def _fetch_from(
    url: str, path: Path, digest: Digest | None, progress: bool, timeout: float
) -> Path:
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        # any OSError from here is the disk's: the network's come as _MirrorError
        with closing(_open(url, timeout)) as response, ExitStack() as stack:
            path.parent.mkdir(parents=True, exist_ok=True)  # not before there is something for it
            sink = stack.enter_context(open(part, "xb"))
            bar = stack.enter_context(_progress_bar(path.name, _length(response), progress))
            for chunk in _chunks(response, timeout):
                sink.write(chunk)
                bar.update(len(chunk))
        _check(part, digest)
        os.replace(part, path)
    except OSError as error:
        raise _not_written(path, error) from error
    finally:
        if part.exists():
            part.unlink()
    return path


def _open(url: str, timeout: float) -> Any:
    import http.client  # here, as they would be an eighth of the time of `import xcnn`
    import urllib.request

    try:
        request = urllib.request.Request(url, headers={"User-Agent": "xcnn"})
        return urllib.request.urlopen(request, timeout=timeout)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _MirrorError(_reason(error, timeout)) from error


def _length(response: Any) -> int | None:
    """Announced length in bytes, if there is one."""
    text = response.headers.get("Content-Length", "")
    return int(text) if text.isdigit() else None


def _chunks(response: Any, timeout: float) -> Iterator[bytes]:
    """Yield the body as it comes; a mirror that stalls, drips or hangs up early is an error."""
    wanted, total = _length(response), 0
    since, received = time.monotonic(), 0
    while chunk := _read(response, timeout):
        yield chunk
        total += len(chunk)
        received += len(chunk)
        if (elapsed := time.monotonic() - since) > timeout:
            if received < _SLOWEST * elapsed:
                raise _MirrorError(f"stalled: {received} bytes in {elapsed:.0f} s")
            since, received = time.monotonic(), 0
    if wanted is not None and total != wanted:
        raise _MirrorError(f"truncated: got {total} of {wanted} bytes")


def _read(response: Any, timeout: float) -> bytes:
    import http.client

    try:
        # what is there now: read() would wait for the full amount
        return bytes(response.read1(_CHUNK))
    except (OSError, http.client.HTTPException) as error:
        raise _MirrorError(_reason(error, timeout)) from error


def _reason(error: Exception, timeout: float) -> str:
    cause = getattr(error, "reason", None)
    if isinstance(error, TimeoutError) or isinstance(cause, TimeoutError):
        return f"no answer within {timeout:g} s"
    return str(error) or type(error).__name__


def _check(path: Path, digest: Digest | None) -> None:
    if digest is None:
        return
    try:
        found = digest.of_file(path)
    except GZIP_ERRORS as error:
        raise _MirrorError(f"sent a truncated or damaged gzip file: {error}") from error
    if found != digest.value:
        raise _MirrorError(f"sent another file: {digest} is {found}, wanted {digest.value}")


def _progress_bar(name: str, total: int | None, progress: bool) -> Any:
    from tqdm.auto import tqdm

    hidden = None if progress else True  # None: hidden unless standard error is a terminal
    return tqdm(total=total, desc=name, unit="B", unit_scale=True, disable=hidden)


def _not_written(path: Path, error: OSError) -> DataError:
    return DataError(
        f"{path} cannot be written: {error.strerror or error}. Free some space or permit writing "
        "there, or choose another folder with data_dir=... or the variable XCNN_CACHE"
    )
