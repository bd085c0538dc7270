"""Where data files are looked for, how their bytes are read, and how they are checked."""

from __future__ import annotations

import gzip
import hashlib
import os
import sys
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from ...errors import DataError

GZIP_MAGIC = b"\x1f\x8b"
GZIP_ERRORS = (EOFError, gzip.BadGzipFile, zlib.error)
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Digest:
    """A published digest of a file.

    Parameters
    ----------
    algorithm : str
        A name that ``hashlib`` knows, such as ``"sha256"``.
    value : str
        The digest in lower-case hexadecimal.
    unpacked : bool, default False
        The digest is of the bytes inside the gzip file, so that a copy packed by another gzip is
        accepted; otherwise it is of the file as it lies on the disk.
    """

    algorithm: str
    value: str
    unpacked: bool = False

    def of_bytes(self, data: bytes) -> str:
        """Digest of ``data`` by this algorithm, hexadecimal."""
        # usedforsecurity: MD5 is refused otherwise where the system is set to FIPS mode
        return hashlib.new(self.algorithm, data, usedforsecurity=False).hexdigest()

    def of_file(self, path: Path) -> str:
        """Digest of the file ``path``, read in pieces of 1 MiB, unpacked where so stated."""
        digest = hashlib.new(self.algorithm, usedforsecurity=False)
        for chunk in _chunks(path, self.unpacked):
            digest.update(chunk)
        return digest.hexdigest()

    def __str__(self) -> str:
        return f"{self.algorithm}{' of the unpacked bytes' if self.unpacked else ''}"


def _chunks(path: Path, unpack: bool) -> Iterator[bytes]:
    with open(path, "rb") as file:
        packed = file.read(len(GZIP_MAGIC)) == GZIP_MAGIC
        file.seek(0)
        # mypy: GzipFile reads like a binary file without being declared one
        source = cast(BinaryIO, gzip.GzipFile(fileobj=file)) if unpack and packed else file
        while chunk := source.read(_CHUNK):
            yield chunk


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
        raise DataError(
            f"{path} is a truncated or damaged gzip file ({path.stat().st_size} bytes: {error}). "
            "Delete it and copy or download it again"
        ) from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error


def cache_dir() -> Path:
    """Folder that downloads go to.

    ``$XCNN_CACHE`` if set, else ``xcnn`` in ``$XDG_CACHE_HOME``, else in the platform's own cache
    folder: ``~/.cache``, on Windows ``%LOCALAPPDATA%``. It need not exist.
    """
    if own := os.environ.get("XCNN_CACHE"):
        return Path(own).expanduser()
    parent = os.environ.get("XDG_CACHE_HOME")
    if not parent and sys.platform == "win32":
        parent = os.environ.get("LOCALAPPDATA")
    return Path(parent or "~/.cache").expanduser() / "xcnn"


def search_roots(data_dir: str | os.PathLike[str] | None = None) -> list[Path]:
    """Folders that data sets are looked for in, first to last.

    They are ``data_dir``, ``$XCNN_DATA`` and :func:`cache_dir`, each once, those not given left
    out.
    """
    given = [data_dir, os.environ.get("XCNN_DATA"), cache_dir()]
    return list(dict.fromkeys(Path(folder).expanduser() for folder in given if folder))
