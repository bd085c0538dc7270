"""Without the package onnx there is nothing to test here: ``pip install 'xcnn[onnx]'``."""

import importlib.util

collect_ignore_glob = [] if importlib.util.find_spec("onnx") else ["*"]
