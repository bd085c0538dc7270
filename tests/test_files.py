"""Writing files: all or nothing, and whose they are. Limits of JSON."""

import os
import stat
import time

import numpy as np
import pytest

from xcnn.errors import FileFormatError
from xcnn.files import (
    move_into_place,
    open_file,
    parse_json,
    read_json,
    reading,
    replacing,
    write_atomically,
)
from xcnn.training import folder

POSIX = pytest.mark.skipif(os.name != "posix", reason="needs: permissions of POSIX")


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


@POSIX
@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_permissions(tmp_path, umask):
    """A new file gets the usual ones, an existing file keeps its own."""
    path = tmp_path / "f"
    before = os.umask(umask)
    try:
        write_atomically(path, b"1")
        assert mode(path) == 0o666 & ~umask
        for wanted in (0o640, 0o600, 0o664, 0o755):
            path.chmod(wanted)
            write_atomically(path, b"2")
            assert mode(path) == wanted
    finally:
        os.umask(before)
    assert path.read_bytes() == b"2"


@POSIX
def test_a_private_file_is_private_while_it_is_written(tmp_path):
    path = tmp_path / "f"
    path.write_bytes(b"old")
    path.chmod(0o600)
    with replacing(path) as file:
        assert mode(tmp_path / file.name) == 0o600


@POSIX
def test_a_write_protected_file_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "f"
    path.write_bytes(b"old")
    path.chmod(0o444)
    if os.geteuid() == 0:  # root may write everything
        monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(PermissionError, match="the file is write-protected") as caught:
        write_atomically(path, b"new")
    assert caught.value.filename == str(path)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["f"]


@POSIX
def test_a_pipe_is_not_replaced(tmp_path):
    """Nor is a device, also not through a link or in a run folder."""
    pipe, link, new = (tmp_path / name for name in ("pipe", "link", "new"))
    os.mkfifo(pipe)
    link.symlink_to(pipe)
    new.write_bytes(b"1")
    for path in (pipe, link):
        for write in (lambda path: write_atomically(path, b"1"), lambda p: move_into_place(new, p)):
            with pytest.raises(OSError, match="not a regular file") as caught:
                write(path)
            assert caught.value.filename == str(path)
    with pytest.raises(OSError, match="not a regular file"):
        folder.commit(tmp_path, {"new": [b"2"], "pipe": [b"2"]})
    assert stat.S_ISFIFO(os.lstat(pipe).st_mode)
    assert link.is_symlink()
    assert new.read_bytes() == b"1"
    assert sorted(os.listdir(tmp_path)) == ["link", "new", "pipe"]


@POSIX
def test_a_link_keeps_its_target(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    target, link = tmp_path / "a" / "target", tmp_path / "b" / "link"
    link.symlink_to("../a/target")
    for content in (b"new", b"again"):  # the target does not exist at first
        write_atomically(link, content)
        assert link.is_symlink()
        assert target.read_bytes() == content
    assert os.listdir(tmp_path / "b") == ["link"]
    (tmp_path / "lost").symlink_to("nowhere/f")
    with pytest.raises(FileNotFoundError, match=r"no such folder: .*nowhere"):
        write_atomically(tmp_path / "lost", b"")


@pytest.mark.parametrize("length", [1, 240, 255])
def test_long_names(tmp_path, length):
    write_atomically(tmp_path / ("x" * length), b"1")
    assert (tmp_path / ("x" * length)).read_bytes() == b"1"


def test_a_name_that_is_too_long_is_named(tmp_path):
    path = tmp_path / ("x" * 256)
    with pytest.raises(OSError, match="x" * 256) as caught:
        write_atomically(path, b"1")
    assert caught.value.filename == str(path)
    assert os.listdir(tmp_path) == []


def test_what_a_killed_process_leaves_is_recognisable(tmp_path):
    with replacing(tmp_path / "f") as file:
        [name] = os.listdir(tmp_path)
        assert file.name == str(tmp_path / name)
    assert name.startswith(".xcnn-")
    assert name.endswith(".tmp")
    assert os.listdir(tmp_path) == ["f"]


def test_the_content_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    steps = []
    real = {"fsync": os.fsync, "replace": os.replace}

    def fsync(number):
        steps.append(("fsync", os.fstat(number).st_size))
        real["fsync"](number)

    def replace(source, target):
        steps.append(("replace", os.path.basename(target)))
        real["replace"](source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    write_atomically(tmp_path / "f", b"12345")
    assert steps == [("fsync", 5), ("replace", "f")]


def test_content_in_parts(tmp_path):
    parts = (b"ab", np.arange(3, dtype=np.uint8), np.float32(1), np.ones((0, 2)))
    write_atomically(tmp_path / "f", parts)
    assert (tmp_path / "f").read_bytes() == b"ab\0\1\2" + np.float32(1).tobytes()
    with pytest.raises(ZeroDivisionError):
        write_atomically(tmp_path / "f", (bytes([1 // n]) for n in (1, 0)))
    assert (tmp_path / "f").read_bytes()[:2] == b"ab"
    assert os.listdir(tmp_path) == ["f"]


@pytest.mark.parametrize(
    "text",
    [
        '{"a": [1, 2.5, null, true, "\\u00e9\\"[[[{{{"], "b": {}}',
        "[" * 200 + "]" * 200,
        '"' + "[{" * 1000 + '"',
        '["\\\\", "[", "\\"", "{"]',
        "7",
    ],
)
def test_json_within_the_limits(text, tmp_path):
    import json

    expected = json.loads(text)
    assert parse_json(text) == expected
    assert parse_json(text.encode()) == expected
    (tmp_path / "f.json").write_text(text)
    assert read_json(tmp_path / "f.json") == expected


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[" * 201 + "]" * 201, "nested more than 200 levels"),
        ('{"a":' * 100_000, "nested more than 200 levels"),
        ("[" + "[]," * 400_000 + "0]", "more than 524288 values"),
        ("[" + "0," * 600_000 + "0]", "more than 524288 values"),
        ("[" + '"",' * 600_000 + "0]", "more than 524288 strings"),
        (" " * 2**24 + "7", "more than 16777216 bytes"),
        ('"' + '\\"' * 2**22, "Unterminated string"),
        ("9" * 5000, "digits"),
        ("", "Expecting value"),
        ("{'a': 1}", "property name"),
    ],
)
def test_json_beyond_the_limits(text, problem, tmp_path):
    path = tmp_path / "f.json"
    path.write_text(text)
    start = time.process_time()
    with pytest.raises(FileFormatError, match=problem) as caught:
        read_json(path)
    assert time.process_time() - start < 2
    assert str(caught.value).startswith(f"{path} is damaged: ")


def test_one_error_whatever_a_parser_raises(tmp_path):
    path = tmp_path / "f"
    for error in (
        RecursionError("deep"),
        KeyError("k"),
        MemoryError(),
        OverflowError(),
        Exception(),
    ):
        with pytest.raises(FileFormatError) as caught, reading(path, "is damaged", "Go home"):
            raise error
        text = str(error) or type(error).__name__
        assert str(caught.value) == f"{path} is damaged: {text}. Go home"
        assert caught.value.__cause__ is error
    with pytest.raises(KeyboardInterrupt), reading(path):
        raise KeyboardInterrupt
    with pytest.raises(FileFormatError, match=f"^{path}: layer 3$"), reading(path):
        raise FileFormatError("layer 3")
    with pytest.raises(FileFormatError, match=f"^{path} is bad$"), reading(path):
        raise FileFormatError(f"{path} is bad")
    with pytest.raises(FileNotFoundError, match=f"^no such file: {path}$"), reading(path):
        open_file(path)
    with pytest.raises(FileFormatError, match="cannot be read: not a regular file"):
        read_json(tmp_path)


@POSIX
def test_a_pipe_does_not_block(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(FileFormatError, match="not a regular file"):
        read_json(tmp_path / "pipe")
