"""Finding, reading and verifying data files."""

from __future__ import annotations

import gzip
import hashlib
import os
import sys
import zlib
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ...errors import DataError

GZIP_MAGIC = b"\x1f\x8b"
GZIP_ERRORS = (EOFError, gzip.BadGzipFile, zlib.error)


@dataclass(frozen=True)
class Digest:
    """A published digest of a file.

    Parameters
    ----------
    algorithm : str
        A name that ``hashlib`` accepts, such as ``"sha256"``.
    value : str
        The digest in lower-case hexadecimal.
    unpacked : bool, default False
        Whether the digest is of the bytes inside the gzip file, so that a recompressed copy is
        accepted; otherwise it is of the file itself.
    """

    algorithm: str
    value: str
    unpacked: bool = False

    def of_bytes(self, data: bytes) -> str:
        """Return the hexadecimal digest of ``data`` by this algorithm."""
        # usedforsecurity=False: systems in FIPS mode refuse MD5 otherwise
        return hashlib.new(self.algorithm, data, usedforsecurity=False).hexdigest()

    def of_file(self, path: Path) -> str:
        """Return the digest of the file ``path``, read in chunks, unpacked if ``unpacked``."""
        algorithm = partial(hashlib.new, self.algorithm, usedforsecurity=False)
        with open(path, "rb") as file:
            packed = file.read(len(GZIP_MAGIC)) == GZIP_MAGIC
            file.seek(0)
            source = gzip.GzipFile(fileobj=file) if self.unpacked and packed else file
            return hashlib.file_digest(source, algorithm).hexdigest()

    def __str__(self) -> str:
        return f"{self.algorithm}{' of the unpacked bytes' if self.unpacked else ''}"


def damaged(source: Path | str, problem: object) -> DataError:
    """Return the error for a file that is truncated or damaged."""
    advice = "Delete it and copy or download it again"
    return DataError(f"{source} is truncated or damaged: {problem}. {advice}")


def read_bytes(path: Path) -> bytes:
    """Read a whole file, unpacking it if its content (not its name) is gzip.

    Raises
    ------
    DataError
        If the file cannot be read, or its gzip data are truncated or damaged.
    """
    try:
        data = path.read_bytes()
        return gzip.decompress(data) if data.startswith(GZIP_MAGIC) else data
    except GZIP_ERRORS as error:
        raise damaged(path, f"gzip, {path.stat().st_size} bytes, {error}") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error


def cache_dir() -> Path:
    """Return the folder for downloads, which need not exist.

    It is ``$XCNN_CACHE`` if set, else ``xcnn`` in ``$XDG_CACHE_HOME``, else in the platform's cache
    folder: ``~/.cache``, on Windows ``%LOCALAPPDATA%``.
    """
    if cache := os.environ.get("XCNN_CACHE"):
        return Path(cache).expanduser()
    parent = os.environ.get("XDG_CACHE_HOME")
    if not parent and sys.platform == "win32":
        parent = os.environ.get("LOCALAPPDATA")
    return Path(parent or "~/.cache").expanduser() / "xcnn"


def search_roots(data_dir: str | os.PathLike[str] | None = None) -> list[Path]:
    """Return the folders to search for datasets: ``data_dir``, ``$XCNN_DATA``, :func:`cache_dir`.

    Unset ones are omitted and duplicates removed.
    """
    roots = [data_dir, os.environ.get("XCNN_DATA"), cache_dir()]
    return list(dict.fromkeys(Path(root).expanduser() for root in roots if root))
