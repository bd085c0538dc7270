"""What a case needs of xcnn and of PyTorch, whose names are the same where they can be.

A peer has ``nn``, ``F``, ``optim`` and ``no_grad``; ``user`` and ``native``, which turn a NumPy
array into what a user passes in and into what lies between two layers; and what is below.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from benchmarks import harness
from benchmarks.gpu.outcome import Skipped

Step = Callable[[], Any]


class Xcnn:
    """The library; it keeps images batch-last in memory."""

    def __init__(self) -> None:
        import xcnn

        self._xcnn = xcnn
        self.nn, self.F, self.optim = xcnn.nn, xcnn.functional, xcnn.optim
        self.no_grad = xcnn.no_grad
        xcnn.manual_seed(0)

    def user(self, array: np.ndarray) -> Any:
        return array

    def native(self, array: np.ndarray) -> Any:
        """The same (N, ...), a view of contiguous (..., N)."""
        return np.moveaxis(np.ascontiguousarray(np.moveaxis(array, 0, -1)), -1, 0)

    def parameter(self, value: np.ndarray, gradient: np.ndarray) -> Any:
        """A leaf whose gradient is known."""
        leaf = self._xcnn.Tensor(value, requires_grad=True)
        leaf.grad = gradient
        return leaf

    def both(self, call: Any, arrays: Sequence[Any], layer: Any = None) -> Step:
        """A step: forward, and backward for each float array and the layer's parameters."""
        dy = self._slope(call(*arrays))

        def step() -> tuple:
            y, pullback = self._xcnn.vjp(call, *arrays)
            return (y, *(g for g in pullback(dy) if g is not None))

        return step

    def _slope(self, y: Any) -> Any:
        return self.native(slope(y.shape)) if y.shape else None

    def host(self, value: Any) -> np.ndarray:
        return value.numpy() if isinstance(value, self._xcnn.Tensor) else np.asarray(value)

    def resnet20(self) -> Any:
        if "resnet20" not in self._xcnn.models.names():
            raise Skipped("xcnn has no resnet20")
        return self._xcnn.models.create("resnet20", num_classes=10, input_shape=(3, 32, 32))

    def runs_on(self) -> dict[str, Any]:
        return {"xcnn": self._xcnn.__version__, **harness.numpy_runs_on()}


class Torch:
    """Eager PyTorch with its defaults, as its tutorials write it."""

    def __init__(self) -> None:
        if importlib.util.find_spec("torch") is None:
            raise Skipped("PyTorch is not installed")
        import torch

        self._torch = torch
        self.nn, self.F, self.optim = torch.nn, torch.nn.functional, torch.optim
        self.no_grad = torch.no_grad
        torch.manual_seed(0)

    def user(self, array: np.ndarray) -> Any:
        return self._torch.from_numpy(array)

    native = user

    def parameter(self, value: np.ndarray, gradient: np.ndarray) -> Any:
        """A leaf whose gradient is known."""
        leaf = self.nn.Parameter(self.user(value))
        leaf.grad = self.user(gradient)
        return leaf

    def both(self, call: Any, arrays: Sequence[Any], layer: Any = None) -> Step:
        """A step: forward, and backward for each float array and the layer's parameters."""
        inputs = [a.requires_grad_() for a in arrays if a.is_floating_point()]
        wanted = [*inputs, *(layer.parameters() if layer is not None else ())]
        shape = tuple(call(*arrays).shape)
        dy = self.user(slope(shape)) if shape else None

        def step() -> tuple:
            y = call(*arrays)
            return (y, *self._torch.autograd.grad(y, wanted, dy)[: len(inputs)])

        return step

    def host(self, value: Any) -> np.ndarray:
        return value.detach().numpy()

    def resnet20(self) -> Any:
        from benchmarks.cpu.resnet import torch_resnet20

        return torch_resnet20()

    def runs_on(self) -> dict[str, Any]:
        return {
            "torch": self._torch.__version__,
            "core": self._torch.backends.cpu.get_cpu_capability(),
            "threads": self._torch.get_num_threads(),
        }


def slope(shape: tuple[int, ...]) -> np.ndarray:
    """A random gradient of an output, the same for both peers."""
    return np.random.default_rng(7).standard_normal(shape, dtype=np.float32)


Peer = Xcnn | Torch
PEERS: dict[str, type[Peer]] = {"xcnn": Xcnn, "torch": Torch}
