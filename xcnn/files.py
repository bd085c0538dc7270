"""Reading files that others wrote, and writing files so that they are never incomplete.

A damaged or hostile file gives one error that names it, whatever its parser raises: parsers run
inside :func:`reading`. They compare sizes with the file and with a limit before they use memory.
"""

from __future__ import annotations

import errno
import json
import os
import re
import secrets
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path
from typing import Any, BinaryIO

from .checks import check_path
from .errors import FileFormatError, XcnnError

AnyPath = str | os.PathLike[str]

# of JSON: these keep reading below 2 s and 200 MiB
MAX_JSON = 2**24  # bytes
_MAX_VALUES = 2**19
_MAX_DEPTH = 200  # Python's recursion limit is 1000, and a Module uses some frames per level
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"?', re.DOTALL)
_NO_BRACKET = bytes(c for c in range(256) if c not in b"[]{}")


@contextmanager
def reading(
    path: AnyPath,
    problem: str = "is truncated or damaged",
    advice: str = "Copy or download it again",
    error: type[XcnnError] = FileFormatError,
) -> Iterator[None]:
    """Turn whatever a parser raises inside a ``with`` block into ``error``, naming the file.

    Parameters
    ----------
    path
        The file, or its name for messages.
    problem, advice
        The message is "{path} {problem}: {cause}. {advice}".
    error
        Its type. An error of xcnn keeps its own type; the file is added if the message lacks it.

    Raises
    ------
    FileNotFoundError
        The file does not exist and ``error`` is :class:`FileFormatError`.
    """
    try:
        yield
    except XcnnError as cause:
        if str(path) in str(cause):
            raise
        cause.args = (f"{path}: {cause}",)
        raise
    except FileNotFoundError as cause:
        kind = FileNotFoundError if error is FileFormatError else error
        raise kind(f"no such file: {path}") from cause
    except Exception as cause:
        if isinstance(cause, OSError) and cause.errno is not None:
            raise error(f"{path} cannot be read: {cause.strerror}") from cause
        text = next(iter(str(cause).strip().splitlines()), "").rstrip(".")[:200]
        raise error(f"{path} {problem}: {text or type(cause).__name__}. {advice}") from cause


def open_file(path: AnyPath) -> BinaryIO:
    """Open a regular file for reading; a folder or a pipe is an OSError."""
    path = check_path("path", path)
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise OSError(0, "not a regular file")
    return open(path, "rb")


def read_all(file: Any, limit: int) -> bytes:
    """Read an open file to its end; more than ``limit`` bytes are a ValueError."""
    data: bytes = file.read(limit + 1)
    if len(data) > limit:
        raise ValueError(f"more than {limit} bytes")
    return data


def read_json(path: AnyPath, times: int = 1) -> Any:
    """Read a JSON file, which may be so many times as large as others.

    Raises
    ------
    FileNotFoundError, FileFormatError
        The file does not exist, is not JSON, or is too large or too deeply nested.
    """
    with reading(path, "is damaged"), open_file(path) as file:
        return parse_json(read_all(file, times * MAX_JSON), times)


def parse_json(text: str | bytes, times: int = 1) -> Any:
    """Parse untrusted JSON.

    Raises
    ------
    ValueError
        Not JSON, or too large or too deeply nested.
    """
    data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    most, values = times * MAX_JSON, times * _MAX_VALUES
    if len(data) > most:
        raise ValueError(f"more than {most} bytes")
    # an escaped quote counts as none, although "\\\\" ends in one
    if data.count(b'"') - data.count(b'\\"') > 2 * values:
        raise ValueError(f"more than {values} strings in JSON")
    outside = _STRING.sub(b"", data)
    brackets = outside.translate(None, _NO_BRACKET)
    if outside.count(b",") + len(brackets) > values:
        raise ValueError(f"more than {values} values in JSON")
    if max(accumulate(1 if c in b"[{" else -1 for c in brackets), default=0) > _MAX_DEPTH:
        raise ValueError(f"JSON nested more than {_MAX_DEPTH} levels deep")
    return json.loads(data)


def write_atomically(path: AnyPath, content: bytes | Iterable[Any]) -> None:
    """Write a file, all or nothing, as :func:`replacing` does.

    Parameters
    ----------
    path
        The file.
    content
        Bytes, or an iterable of bytes or C-contiguous arrays that are written one after another.
    """
    parts: Iterable[Any] = [content] if isinstance(content, bytes) else content
    with replacing(path) as file:
        for part in parts:
            file.write(part)


@contextmanager
def naming(action: str, path: Any) -> Iterator[None]:
    """Let an OSError inside a ``with`` block say what failed, and name ``path``."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, f"cannot {action}: {error.strerror}", str(path)) from error


@contextmanager
def replacing(path: AnyPath) -> Iterator[BinaryIO]:
    """Write a file in a ``with`` block; it replaces ``path`` when the block ends without an error.

    The block writes to a temporary file in the same folder, ``.xcnn-*.tmp``, which only a killed
    process leaves behind. An existing file keeps its permissions and a link its target. The
    content is on the disk before it gets the final name, so that not even a power cut leaves an
    incomplete file: 5 ms on a local disk.

    Raises
    ------
    OSError
        The file cannot be written (no space, no permission); an existing file is left unchanged.
        The path is that of a folder, a pipe, a device or a socket.
    """
    target = _resolve(path)
    if not target.parent.is_dir():
        raise FileNotFoundError(f"no such folder: {target.parent}")
    if target.exists() and not os.access(target, os.W_OK):
        raise PermissionError(errno.EACCES, "the file is write-protected", str(path))
    # named before it is created, so an interrupt at any point leaves no file behind
    temporary = target.with_name(f".xcnn-{secrets.token_hex(4)}.tmp")
    try:
        with naming("write", path):
            with temporary.open("xb") as file:
                _copy_mode(target, temporary)  # before there is anything to read
                yield file
            move_into_place(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def move_into_place(file: Path, path: AnyPath) -> None:
    """Move a complete file to ``path``, on the same disk, as :func:`replacing` does."""
    target = _resolve(path)
    _copy_mode(target, file)
    with file.open("ab") as opened:
        os.fsync(opened.fileno())
    os.replace(file, target)


def check_replaceable(path: AnyPath) -> None:
    """Refuse to replace what is no regular file: nothing could bring a device or a pipe back."""
    path = Path(path)  # "" is a folder
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder: expected the name of a file")
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "cannot write: not a regular file", str(path))


def _resolve(path: AnyPath) -> Path:
    """The file to replace: the target of a link; any other path unchanged."""
    path = check_path("path", path)
    check_replaceable(path)
    return Path(os.path.realpath(path)) if os.path.islink(path) else Path(path)


def _copy_mode(source: Path, target: Path) -> None:
    if source.exists():
        os.chmod(target, stat.S_IMODE(source.stat().st_mode))
