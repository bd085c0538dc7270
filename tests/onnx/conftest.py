"""Without the package onnx there is nothing to test here: ``pip install onnx``."""

import importlib.util

import pytest

collect_ignore_glob = [] if importlib.util.find_spec("onnx") else ["*"]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.onnx"
