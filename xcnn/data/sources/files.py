"""Finding, reading and verifying data files."""

from __future__ import annotations

import gzip
import hashlib
import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ...errors import DataError
from ...files import open_file, read_all, reading

GZIP_MAGIC = b"\x1f\x8b"
#: of one file, unpacked: the largest, the batches of CIFAR-10 in one archive, take 184,380,000
MAX_BYTES = 200_000_000
_ADVICE = "Delete it and copy or download it again"


@dataclass(frozen=True)
class Digest:
    """A published digest of a file.

    Parameters
    ----------
    algorithm : str
        A name that ``hashlib`` accepts, such as ``"sha256"``.
    value : str
        The digest in lower-case hexadecimal, or its first digits.
    unpacked : bool, default False
        Whether the digest is of the bytes inside the gzip file, so that a recompressed copy is
        accepted; otherwise it is of the file itself.
    """

    algorithm: str
    value: str
    unpacked: bool = False

    def accepts(self, value: str) -> bool:
        """Return whether ``value`` is the published digest, or starts with it."""
        return value.startswith(self.value)

    def of_bytes(self, data: bytes) -> str:
        """Return the hexadecimal digest of ``data`` by this algorithm."""
        # usedforsecurity=False: systems in FIPS mode refuse MD5 otherwise
        return hashlib.new(self.algorithm, data, usedforsecurity=False).hexdigest()

    def of_file(self, path: Path) -> str:
        """Return the digest of the file ``path``, unpacked if ``unpacked``."""
        if self.unpacked:
            return self.of_bytes(read_bytes(path))
        algorithm = partial(hashlib.new, self.algorithm, usedforsecurity=False)
        with open(path, "rb") as file:
            return hashlib.file_digest(file, algorithm).hexdigest()

    def __str__(self) -> str:
        return f"{self.algorithm}{' of the unpacked bytes' if self.unpacked else ''}"


def damaged(source: Path | str, problem: object) -> DataError:
    """Return the error for a file that is truncated or damaged."""
    return DataError(f"{source} is truncated or damaged: {problem}. {_ADVICE}")


def reading_data(path: Path | str) -> AbstractContextManager[None]:
    """Turn whatever a parser raises on the file ``path`` into a DataError."""
    return reading(path, advice=_ADVICE, error=DataError)


@contextmanager
def unpacked(path: Path) -> Iterator[Any]:
    """Open a file, unpacking it if its content (not its name) is gzip.

    Raises
    ------
    DataError
        If the file cannot be opened, or whatever is raised in the ``with`` block.
    """
    with reading_data(path), open_file(path) as file:
        packed = file.read(len(GZIP_MAGIC)) == GZIP_MAGIC
        file.seek(0)
        yield gzip.GzipFile(fileobj=file) if packed else file


def read_bytes(path: Path) -> bytes:
    """Read a whole file, unpacking it if its content (not its name) is gzip.

    Raises
    ------
    DataError
        If the file cannot be read, its gzip data are truncated or damaged, or it has more than
        ``MAX_BYTES`` unpacked.
    """
    with unpacked(path) as file:
        return read_all(file, MAX_BYTES)


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
