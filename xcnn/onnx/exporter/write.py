"""Checking and writing a model file, with external data if it is too large for one file."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ...files import move_into_place, write_atomically

#: maximum bytes of weights inside the model file, below protobuf's limit of 2 GiB
LIMIT = 2**31 - 2**24

Check = Callable[[Any, Path | None], None]


def write(proto: Any, path: Any, check: Check | None) -> None:
    """Write a model to ``path`` if it passes ONNX's checker and ``check(proto, folder)``."""
    if sum(t.ByteSize() for t in proto.graph.initializer) > LIMIT:
        _write_external(proto, Path(path), check)
        return
    _check_model(proto, proto)
    if check is not None:
        check(proto, None)
    write_atomically(path, _serialized(proto))


def _serialized(proto: Any) -> bytes:
    return proto.SerializeToString(deterministic=True)


def _check_model(proto: Any, model: Any) -> None:
    """Run ONNX's checker on ``model``, the proto or the path of its file.

    Its shape inference is wrong for some windows and transposed convolutions. If it contradicts the
    traced output shapes, all their lengths are declared variable.
    """
    import onnx

    try:
        onnx.checker.check_model(model, full_check=True)
    except onnx.shape_inference.InferenceError:
        for output in proto.graph.output:
            for length in output.type.tensor_type.shape.dim:
                length.Clear()
        onnx.checker.check_model(model)


def _write_external(proto: Any, target: Path, check: Check | None) -> None:
    """Write weights and graph to separate files, kept in a temporary folder until checked."""
    if not target.parent.is_dir():
        raise FileNotFoundError(f"no such folder: {target.parent}")
    with TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as name:
        folder = Path(name)
        data, graph = folder / f"{target.name}.data", folder / target.name
        _move_weights(proto, data)
        graph.write_bytes(_serialized(proto))
        _check_model(proto, str(graph))
        graph.write_bytes(_serialized(proto))
        if check is not None:
            check(proto, folder)
        for file in (data, graph):
            move_into_place(file, target.with_name(file.name))


def _move_weights(proto: Any, path: Path) -> None:
    """Move the weights to a file, aligned for memory mapping."""
    from onnx.external_data_helper import set_external_data

    with path.open("xb") as file:
        for tensor in proto.graph.initializer:
            file.seek(-file.tell() % 4096, os.SEEK_CUR)
            start, length = file.tell(), file.write(tensor.raw_data)
            set_external_data(tensor, path.name, start, length)
            tensor.ClearField("raw_data")
