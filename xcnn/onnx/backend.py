"""xcnn as an ONNX backend: what tools, and ONNX's own tests, ask of one.

>>> import xcnn.onnx.backend as backend
>>> rep = backend.prepare(model, device="CPU")
>>> outputs = rep.run([x])

See https://github.com/onnx/onnx/blob/main/docs/ImplementingAnOnnxBackend.md.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import backends
from ..errors import DeviceError
from ..tensor import Tensor, no_grad
from .importer.graph import Graph
from .importer.load import build
from .reader.read import package

onnx = package()  # says what to install if it is missing
from onnx.backend import base  # noqa: E402

_DEVICES = {"CPU": "cpu", "CUDA": "cuda"}


class BackendRep(base.BackendRep):
    """A model that is ready to run."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph

    def run(self, inputs: Any, **kwargs: Any) -> tuple[Any, ...]:
        """The outputs, NumPy arrays, for the inputs, arrays in the order of the graph's."""
        given = [inputs] if isinstance(inputs, np.ndarray) else list(inputs)
        given += [None] * (len(self.graph.inputs) - len(given))  # optional ones at the end
        device = backends.get(self.graph_device)
        with no_grad():
            found = self.graph(*[None if x is None else Tensor(device.asarray(x)) for x in given])
        return tuple(y.numpy() for y in (found if isinstance(found, tuple) else (found,)))

    graph_device = "cpu"


class Backend(base.Backend):
    """Prepares ONNX models for ``"CPU"``, ``"CUDA"`` or any device of xcnn."""

    @classmethod
    def prepare(cls, model: Any, device: str = "CPU", **kwargs: Any) -> BackendRep:
        """Check a ``ModelProto`` and build it on ``device``."""
        onnx.checker.check_model(model)
        target = backends.get(_device(device))
        rep = BackendRep(build(model).to(target))
        rep.graph_device = target.device
        return rep

    @classmethod
    def supports_device(cls, device: str) -> bool:
        """Whether that device is here."""
        try:
            backends.get(_device(device))
        except DeviceError:
            return False
        return True


def _device(name: str) -> str:
    kind, *number = name.split(":")
    return ":".join([_DEVICES.get(kind, kind), *number])


prepare = Backend.prepare
run_model = Backend.run_model
run_node = Backend.run_node
supports_device = Backend.supports_device
is_compatible = Backend.is_compatible
