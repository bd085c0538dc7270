"""The libraries to compare, behind a common interface.

A peer has ``nn``, ``F``, ``optim``, ``no_grad``, and the ``device`` of models; ``model`` builds a
network by name; ``user`` converts a NumPy array to what users pass in, ``native`` to what
layers pass to each other. On a GPU, ``clock`` measures GPU seconds, and ``block`` steps are timed
together, with a single wait for the device at the end.
"""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from benchmarks.gpu import clock
from benchmarks.machine import numpy_runs_on
from benchmarks.nets import torch_model
from benchmarks.outcome import Skipped

Step = Callable[[], Any]
GPU_BLOCK = 10  # steps


def plain_step(peer: Any, model: Any, optimizer: Any, batches: Iterator[tuple[Any, Any]]) -> Step:
    """A training step as in tutorials."""

    def step() -> Any:
        x, y = next(batches)
        optimizer.zero_grad()
        loss = peer.F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return step


def resident_peak() -> int:
    """Peak resident bytes of this process."""
    status = Path("/proc/self/status")
    # getrusage would include the memory of the parent when it started this process
    peak = re.search(r"VmHWM:\s+(\d+)", status.read_text() if status.exists() else "")
    if peak:
        return int(peak[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024  # bytes on macOS
    import resource  # not on Windows

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


class Peer:
    """Base class: defaults for a library on a CPU."""

    clock, block, device = None, 1, "cpu"
    user: Callable[[np.ndarray], Any]

    def training(self, model: Any, optimizer: Any, batches: Any, precision: str) -> Step:
        return plain_step(self, model, optimizer, batches)

    def synchronize(self) -> None:
        """Wait for the device."""

    def reset(self) -> None:
        """On a GPU, free unused memory and reset ``peak``."""

    def peak(self) -> int:
        """Peak memory in bytes: of the process, or on a GPU of the device."""
        return resident_peak()


class Xcnn(Peer):
    """This library, which keeps images batch-last in memory."""

    def __init__(self, device: str = "cpu") -> None:
        import xcnn

        self._xcnn, self.device = xcnn, xcnn.backends.get(device)
        self.nn, self.F, self.optim = xcnn.nn, xcnn.functional, xcnn.optim
        self.no_grad, self.user = xcnn.no_grad, self.device.asarray
        self.model, self.synchronize = xcnn.models.create, self.device.synchronize
        if device != "cpu":
            pool = self.device.xp.get_default_memory_pool()
            # the pool never shrinks on its own, so its size is its peak
            self.reset, self.peak = pool.free_all_blocks, pool.total_bytes
            self.clock, self.block = clock.of_cupy(self.device.xp), GPU_BLOCK
        xcnn.manual_seed(0)

    def native(self, array: np.ndarray) -> Any:
        """(N, ...) as a view of contiguous (..., N)."""
        batch_last = self.user(np.ascontiguousarray(np.moveaxis(array, 0, -1)))
        return batch_last.transpose(-1, *range(array.ndim - 1))

    def host(self, value: Any) -> np.ndarray:
        return value.numpy() if hasattr(value, "numpy") else self.device.to_host(value)

    def training(self, model: Any, optimizer: Any, batches: Any, precision: str) -> Step:
        if self.clock is None:
            return super().training(model, optimizer, batches, precision)
        trainer = self._xcnn.Trainer(model, optimizer, precision=precision)
        return lambda: trainer.train_step(*next(batches))[0]

    def both(self, call: Any, arrays: Sequence[Any], layer: Any = None) -> Step:
        """Forward, then backward with gradients of float arrays and the layer's parameters."""
        shape = call(*arrays).shape
        dy = self.native(output_gradient(shape)) if shape else None

        def step() -> tuple:
            y, pullback = self._xcnn.vjp(call, *arrays)
            return (y, *(g for g in pullback(dy) if g is not None))

        return step

    def runs_on(self) -> dict[str, Any]:
        kernels = self._xcnn.backends.kernels_of_cpu.partition(":")[0]
        return {"xcnn": self._xcnn.__version__, "kernels": kernels, **numpy_runs_on()}


class Torch(Peer):
    """Eager PyTorch with its defaults, used as in its tutorials."""

    def __init__(self, device: str = "cpu") -> None:
        if importlib.util.find_spec("torch") is None:
            raise Skipped("PyTorch is not installed")
        import torch

        self._torch, self.device = torch, device
        if device == "cuda":
            if not torch.cuda.is_available():
                raise Skipped(f"PyTorch {torch.__version__} finds no GPU")
            self.synchronize, self.peak = torch.cuda.synchronize, torch.cuda.max_memory_reserved
            self.clock, self.block = clock.of_torch(torch), GPU_BLOCK
        self.nn, self.F, self.optim = torch.nn, torch.nn.functional, torch.optim
        self.no_grad, self.model = torch.no_grad, torch_model
        torch.manual_seed(0)

    def user(self, array: np.ndarray) -> Any:
        return self._torch.from_numpy(array).to(self.device)

    native = user

    def host(self, value: Any) -> np.ndarray:
        return value.detach().cpu().numpy()

    def training(self, model: Any, optimizer: Any, batches: Any, precision: str) -> Step:
        backends = self._torch.backends
        backends.cuda.matmul.allow_tf32 = backends.cudnn.allow_tf32 = precision == "tf32"
        if precision != "float16":
            return super().training(model, optimizer, batches, precision)
        scaler = self._torch.amp.GradScaler(self.device)

        def step() -> Any:
            x, y = next(batches)
            optimizer.zero_grad()
            with self._torch.autocast(self.device, self._torch.float16):
                loss = self.F.cross_entropy(model(x), y)
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
            return loss

        return step

    def both(self, call: Any, arrays: Sequence[Any], layer: Any = None) -> Step:
        """Forward, then backward with gradients of float arrays and the layer's parameters."""
        inputs = [a.requires_grad_() for a in arrays if a.is_floating_point()]
        wanted = [*inputs, *(layer.parameters() if layer is not None else ())]
        shape = tuple(call(*arrays).shape)
        dy = self.user(output_gradient(shape)) if shape else None

        def step() -> tuple:
            y = call(*arrays)
            return (y, *self._torch.autograd.grad(y, wanted, dy)[: len(inputs)])

        return step

    def reset(self) -> None:
        if self.clock:
            self._torch.cuda.empty_cache()
            self._torch.cuda.reset_peak_memory_stats()

    def runs_on(self) -> dict[str, Any]:
        torch = self._torch
        if self.clock:
            cudnn = torch.backends.cudnn
            return {"torch": torch.__version__, "cudnn": cudnn.version(), "tuned": cudnn.benchmark}
        core, threads = torch.backends.cpu.get_cpu_capability(), torch.get_num_threads()
        return {"torch": torch.__version__, "core": core, "threads": threads}


class PyDyNet(Peer):
    """Another pure-NumPy library that trains CNNs and supports NumPy 2; LeNet-5 only."""

    def __init__(self, device: str = "cpu") -> None:
        if importlib.util.find_spec("pydynet") is None:
            raise Skipped("PyDyNet is not installed: pip install pydynet")
        import pydynet
        from pydynet import nn, optim

        self.nn = SimpleNamespace(
            Sequential=nn.Sequential,
            Conv2d=partial(nn.Conv2d, dtype=np.float32),
            Linear=partial(nn.Linear, dtype=np.float32),
            MaxPool2d=lambda size: nn.MaxPool2d(size, size, 0),
            ReLU=nn.ReLU,
            Flatten=lambda: lambda x: x.reshape(len(x), -1),
        )
        self.F = SimpleNamespace(cross_entropy=nn.functional.cross_entropy_loss)
        self.optim = optim
        self.user = lambda array: pydynet.Tensor(array, dtype=array.dtype)

    def host(self, value: Any) -> np.ndarray:
        return value.numpy()

    def runs_on(self) -> dict[str, Any]:
        from importlib import metadata  # not at the top: imports count in the peak memory

        return {"pydynet": metadata.version("pydynet"), **numpy_runs_on()}


def output_gradient(shape: tuple[int, ...]) -> np.ndarray:
    """A random output gradient, the same for all peers."""
    return np.random.default_rng(7).standard_normal(shape, dtype=np.float32)


PEERS: dict[str, Any] = {"xcnn": Xcnn, "torch": Torch, "pydynet": PyDyNet}
