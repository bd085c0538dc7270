"""Checking an ONNX model and writing it, with its weights beside it where it is too large."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ...serialize import write_atomically

#: bytes of weights that go into one file with the graph: protobuf's limit is 2 GiB in all
LIMIT = 2**31 - 2**24

Check = Callable[[Any, Path | None], None]


def write(proto: Any, path: Any, check: Check | None) -> None:
    """Put a model at ``path`` if ONNX's checker and ``check(proto, folder)`` let it pass."""
    if sum(t.ByteSize() for t in proto.graph.initializer) > LIMIT:
        _write_with_data(proto, Path(path), check)
        return
    _check(proto, proto)
    if check is not None:
        check(proto, None)
    write_atomically(path, proto.SerializeToString(deterministic=True))


def _check(proto: Any, what: Any) -> None:
    """ONNX's checker on the model, or on the file that holds it.

    Its rules for shapes are wrong about some windows and transposed convolutions: where they
    contradict what the outputs really are, the file leaves their lengths open.
    """
    import onnx

    try:
        onnx.checker.check_model(what, full_check=True)
    except onnx.shape_inference.InferenceError:
        for output in proto.graph.output:
            for length in output.type.tensor_type.shape.dim:
                length.Clear()
        onnx.checker.check_model(what)


def _write_with_data(proto: Any, target: Path, check: Check | None) -> None:
    """The weights in a file beside the graph's; both lie in a folder of their own until they are
    complete and checked.
    """
    if not target.parent.is_dir():
        raise FileNotFoundError(f"no such folder: {target.parent}")
    folder = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    data, graph = folder / f"{target.name}.data", folder / target.name
    try:
        folder.mkdir()
        _move_weights(proto, data)
        graph.write_bytes(proto.SerializeToString(deterministic=True))
        _check(proto, str(graph))
        graph.write_bytes(proto.SerializeToString(deterministic=True))
        if check is not None:
            check(proto, folder)
        os.replace(data, target.with_name(data.name))
        os.replace(graph, target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _move_weights(proto: Any, path: Path) -> None:
    """Put the weights into a file, each where memory can be mapped, and leave their places."""
    from onnx.external_data_helper import set_external_data

    with path.open("xb") as file:
        for tensor in proto.graph.initializer:
            file.seek(-file.tell() % 4096, os.SEEK_CUR)
            start, length = file.tell(), file.write(tensor.raw_data)
            set_external_data(tensor, path.name, start, length)
            tensor.ClearField("raw_data")
