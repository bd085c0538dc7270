"""Fixtures: the program in an empty folder, and networks that it trained."""

import importlib.util
import os
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

import xcnn
from xcnn.cli import main

collect_ignore = [] if importlib.util.find_spec("onnx") else ["test_export.py"]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """An empty working folder, without datasets that need files."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("XCNN_DATA", raising=False)
    monkeypatch.setenv("XCNN_CACHE", str(tmp_path / ".cache"))
    monkeypatch.setenv("XCNN_MIRROR", "http://127.0.0.1:9")  # nothing listens there
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")  # for subprocesses
    monkeypatch.setenv("PYTHONPATH", os.path.dirname(os.path.dirname(xcnn.__file__)))
    return tmp_path


class Outcome(NamedTuple):
    """One run of the program: its exit status and what it printed."""

    status: int
    out: str
    err: str


@pytest.fixture
def run(capsys):
    """``run("train --quiet", "more arguments")`` in this process."""

    def call(line, *more):
        capsys.readouterr()
        try:
            status = main([*line.split(), *more])
        except SystemExit as exit:  # from argparse, for errors and --help
            status = exit.code
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return Outcome(status, captured.out, captured.err)

    return call


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A run folder; do not modify it."""
    folder = tmp_path_factory.mktemp("trained") / "digits"
    line = "train mlp --limit 400 --epochs 6 --quiet --device cpu --out"
    assert main([*line.split(), str(folder)]) == 0
    return folder


@pytest.fixture(scope="session")
def resnet(tmp_path_factory):
    """A folder with a run of resnet20, ``run``, and its export, ``run.onnx``; do not modify it."""
    folder = tmp_path_factory.mktemp("resnet")
    line = "train resnet20 --limit 20 --epochs 1 --quiet --device cpu --out"
    assert main([*line.split(), str(folder / "run")]) == 0
    if importlib.util.find_spec("onnx"):
        assert main(["export", str(folder / "run"), str(folder / "run.onnx")]) == 0
    return folder


@pytest.fixture
def shades(here):
    """40 images of dark or light noise, of different sizes."""
    rng = np.random.default_rng(0)
    for name, low in (("dark", 0), ("light", 120)):
        folder = here / "shades" / "train" / name
        folder.mkdir(parents=True)
        for i in range(20):
            pixels = rng.integers(low, low + 120, (20 + i, 30, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{i}.{('png', 'jpg')[i % 2]}")
    return here / "shades"
