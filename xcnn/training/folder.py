"""Files of one folder that change together, and a lock for the process that writes them.

A generation, several files that belong together, is first written to a hidden folder. Renaming that
folder to ``.commit`` decides: before, the generation does not exist; after, the files in it replace
the old ones, and whoever opens the folder next completes a replacement that was cut short.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..errors import ArgumentError
from ..files import check_replaceable, naming

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

#: what a training writes to its folder
MODEL, HISTORY, BEST = "model.safetensors", "history.csv", "best.safetensors"
CHECKPOINTS = "checkpoints"
_COMMIT, _STAGING = ".commit", ".writing-"
_GRACE = 60  # seconds; a younger folder may belong to a process that has not locked it yet


class Lock:
    """An exclusive lock on a folder, held until it is released or the process ends.

    A shared one only excludes exclusive ones.

    Raises
    ------
    ArgumentError
        Another process holds it.
    """

    def __init__(self, folder: Path, is_shared: bool = False) -> None:
        self._file: int | None = None
        if fcntl is None:
            return
        with naming("open", folder):
            self._file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)  # a pipe would block
        try:
            kind = fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX
            fcntl.flock(self._file, kind | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self.release()
            raise ArgumentError(
                f"{folder} is in use by another training: choose another folder, or wait"
            ) from error
        except OSError as error:  # some network file systems have no locks, like Windows
            if error.errno not in (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP):
                raise

    def holds(self, folder: Path) -> bool:
        """Whether ``folder`` is still the one that was locked: neither gone nor replaced."""
        if self._file is None or not folder.is_dir():
            return folder.is_dir()
        return os.path.samestat(os.fstat(self._file), os.stat(folder))

    def release(self) -> None:
        """Release the lock; calling it again does nothing."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def __enter__(self) -> Lock:
        return self

    def __exit__(self, *error: Any) -> None:
        self.release()


def is_locked(folder: Path) -> bool:
    """Whether a training is writing the folder."""
    try:
        Lock(folder, is_shared=True).release()  # others may ask at the same time
    except ArgumentError:
        return True
    return False


def is_committing(folder: Path) -> bool:
    """Whether files are being replaced, so that they may be of different generations."""
    return (folder / _COMMIT).exists()


def commit(folder: Path, files: Mapping[str, Iterable[Any]], remove: Iterable[str] = ()) -> None:
    """Replace ``files``, by name relative to ``folder``: all of them or none.

    Parameters
    ----------
    folder
        Must exist, and be locked by this process.
    files
        Lists of buffers by name; names may have one subfolder.
    remove
        Files to delete afterwards.

    Raises
    ------
    OSError
        No space, no permission or no such folder; the files are as they were.
    """
    complete(folder)
    for name in files:
        check_replaceable(folder / name)
    staging = folder / f"{_STAGING}{secrets.token_hex(4)}"
    with naming("write", folder):
        try:
            staging.mkdir()
            for name, content in files.items():
                path = staging / name
                path.parent.mkdir(exist_ok=True)
                with path.open("wb") as file:
                    file.writelines(content)
                    file.flush()
                    os.fsync(file.fileno())
            staging.rename(folder / _COMMIT)
        except BaseException:
            shutil.rmtree(staging, ignore_errors=True)
            raise
        complete(folder)
        for name in remove:
            (folder / name).unlink(missing_ok=True)


def complete(folder: Path) -> None:
    """Complete a commit that was cut short, and delete what dead processes left.

    Only the holder of the lock may call it.
    """
    committed = folder / _COMMIT
    found = [path.relative_to(committed) for path in committed.rglob("*") if path.is_file()]
    moves = [(os.fspath(committed / path), os.fspath(folder / path)) for path in sorted(found)]
    old = folder / f"{_STAGING}old"
    if moves:
        old.mkdir(exist_ok=True)
    for number, (_, target) in enumerate(moves):
        os.makedirs(os.path.dirname(target) or ".", exist_ok=True)
        with contextlib.suppress(OSError):  # a new file, or a file system without links
            os.link(target, old / str(number))
    # as quickly as possible, because a process killed in between leaves a mix: with the links, no
    # replacement waits for the disk to free a file
    for source, target in moves:
        os.replace(source, target)
    for path in (committed, *folder.glob(f"{_STAGING}*")):
        if path.exists():
            shutil.rmtree(path)


def complete_if_free(folder: Path) -> None:
    """:func:`complete` before reading, unless a process is writing or the folder is read-only."""
    if any((folder / _COMMIT).glob("*")) and os.access(folder, os.W_OK):
        with contextlib.suppress(ArgumentError), Lock(folder):  # else the writer completes it
            complete(folder)


def create(folder: Path, files: Mapping[str, Iterable[Any]]) -> Lock:
    """Create ``folder`` with ``files`` in it, at once, and lock it.

    Raises
    ------
    FileExistsError
        There is such a folder, or another process has just created it.
    OSError
        It cannot be created.
    """
    with naming("create", folder):
        folder = Path(os.path.realpath(folder))  # also of a link to a folder that does not exist
        if folder.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(folder))
        folder.parent.mkdir(parents=True, exist_ok=True)
        _sweep(folder.parent)
        staging = folder.with_name(f"{_STAGING}{secrets.token_hex(4)}")
        staging.mkdir()
        lock = Lock(staging)
        try:
            for name, content in files.items():
                (staging / name).write_bytes(b"".join(content))
            staging.rename(folder)  # fails if another process has put files there since
        except BaseException as error:
            shutil.rmtree(staging, ignore_errors=True)
            lock.release()
            if isinstance(error, OSError) and folder.exists():
                # not the error's own number, ENOTEMPTY: of that, naming makes another class
                raise FileExistsError(
                    errno.EEXIST, os.strerror(errno.EEXIST), str(folder)
                ) from error
            raise
    return lock


def _sweep(parent: Path) -> None:
    """Delete the unfinished folders of processes that died while they created them."""
    for path in parent.glob(_STAGING + "[0-9a-f]" * 8):
        with contextlib.suppress(ArgumentError, OSError):  # in use, or deleted by another process
            if time.time() - path.stat().st_mtime < _GRACE:
                continue
            with Lock(path):
                shutil.rmtree(path)
