"""xcnn as an ONNX backend, the interface that ONNX's tools and tests use.

See https://github.com/onnx/onnx/blob/main/docs/ImplementingAnOnnxBackend.md.

Examples
--------
>>> import onnx
>>> import xcnn.onnx.backend as backend
>>> xcnn.onnx.export(nn.ReLU(), np.zeros(3, "float32"), "relu.onnx")
>>> rep = backend.prepare(onnx.load("relu.onnx"), device="CPU")
>>> rep.run([np.float32([-1, 0, 2])])[0]
array([0., 0., 2.], dtype=float32)
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import backends
from ..errors import DeviceError
from ..tensor import Tensor, no_grad
from .importer import Graph, build
from .reader import require_onnx

onnx = require_onnx()  # says how to install it
from onnx.backend import base  # noqa: E402

_DEVICES = {"CPU": "cpu", "CUDA": "cuda"}


class BackendRep(base.BackendRep):
    """A model ready to run."""

    def __init__(self, graph: Graph, device: str = "cpu") -> None:
        self.graph = graph
        self.graph_device = device

    def run(self, inputs: Any, **kwargs: Any) -> tuple[Any, ...]:
        """Run the model on arrays in the order of the graph's inputs; returns NumPy arrays."""
        arrays = [inputs] if isinstance(inputs, np.ndarray) else list(inputs)
        arrays += [None] * (len(self.graph.inputs) - len(arrays))  # optional inputs
        device = backends.get(self.graph_device)
        with no_grad():
            y = self.graph(*[None if x is None else Tensor(device.asarray(x)) for x in arrays])
        return tuple(t.numpy() for t in (y if isinstance(y, tuple) else (y,)))


class Backend(base.Backend):
    """Prepares ONNX models for ``"CPU"``, ``"CUDA"`` or any xcnn device."""

    @classmethod
    def prepare(cls, model: Any, device: str = "CPU", **kwargs: Any) -> BackendRep:
        """Check a ``ModelProto`` and build it on ``device``."""
        onnx.checker.check_model(model)
        target = backends.get(_device(device))
        return BackendRep(build(model).to(target), target.device)

    @classmethod
    def supports_device(cls, device: str) -> bool:
        """Whether the device is available."""
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
