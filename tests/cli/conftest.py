"""The program in an empty folder, and a network that it trained."""

import importlib.util
import os
from typing import NamedTuple

import pytest

import xcnn
from xcnn.cli import main

collect_ignore = [] if importlib.util.find_spec("onnx") else ["test_export.py"]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """An empty working folder, and no data but those that need no files."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("XCNN_DATA", raising=False)
    monkeypatch.setenv("XCNN_CACHE", str(tmp_path / ".cache"))
    monkeypatch.setenv("XCNN_MIRROR", "http://127.0.0.1:9")  # nothing listens there
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")  # of subprocesses: two fight on a busy machine
    monkeypatch.setenv("PYTHONPATH", os.path.dirname(os.path.dirname(xcnn.__file__)))
    return tmp_path


class Outcome(NamedTuple):
    """One run of the program: its exit status and what it printed."""

    status: int
    out: str
    err: str


@pytest.fixture
def run(capsys):
    """``run("train --quiet")`` in this process; further arguments as they are."""

    def call(line, *more):
        capsys.readouterr()
        try:
            status = main([*line.split(), *more])
        except SystemExit as exit:  # argparse's own errors and --help
            status = exit.code
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return Outcome(status, captured.out, captured.err)

    return call


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A run folder, to be read only."""
    folder = tmp_path_factory.mktemp("trained") / "digits"
    line = "train mlp --limit 400 --epochs 6 --quiet --device cpu --out"
    assert main([*line.split(), str(folder)]) == 0
    return folder
