"""One training job of xcnn or of PyTorch: the same network, batches, loss and optimiser.

A job has ``step()``, ``synchronize()``, ``clock`` (GPU seconds of a call; None on a CPU),
``peak()`` (bytes of GPU memory taken from the system; None on a CPU) and ``parameters()``.
"""

from __future__ import annotations

import importlib.util
import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from benchmarks.gpu.clock import Call, EventClock
from benchmarks.gpu.nets import NETS
from benchmarks.gpu.outcome import Skipped

LEARNING_RATES = {"adam": {"lr": 1e-3}, "sgd": {"lr": 1e-2, "momentum": 0.9}}


class Job(NamedTuple):
    """What is trained."""

    net: str
    batch: int
    precision: str

    @property
    def title(self) -> str:
        return f"{self.net}, batch {self.batch}, {self.precision}"


def batches(job: Job, put: Callable[[Any], Any]) -> Iterator[tuple[Any, Any]]:
    """An endless round of four random batches, on the device."""
    net, rng = NETS[job.net], np.random.default_rng(0)
    made = []
    for _ in range(4):
        images = rng.standard_normal((job.batch, *net.image), dtype=np.float32)
        made.append((put(images), put(rng.integers(0, net.classes, job.batch))))
    return itertools.cycle(made)


class XcnnJob:
    """Training by ``xcnn.Trainer``."""

    def __init__(self, job: Job, device: str) -> None:
        import xcnn

        net = NETS[job.net]
        self._backend = xcnn.backends.get(device)
        self._cupy = self._backend.xp if device.startswith("cuda") else None
        if self._cupy is not None:
            self._cupy.get_default_memory_pool().free_all_blocks()
        self.clock = EventClock(self._cupy, hold=0.02) if self._cupy is not None else None
        xcnn.manual_seed(0)
        self._model = net.xcnn().to(self._backend)
        kind = {"adam": xcnn.optim.Adam, "sgd": xcnn.optim.SGD}[net.optimizer]
        optimizer = kind(self._model.parameters(), **LEARNING_RATES[net.optimizer])
        chosen = {} if job.precision == "float32" else {"precision": job.precision}
        self._trainer = xcnn.Trainer(self._model, optimizer, loss="cross_entropy", **chosen)
        self._data = batches(job, self._backend.asarray)

    def step(self) -> None:
        self._trainer.train_step(*next(self._data))

    def synchronize(self) -> None:
        self._backend.synchronize()

    def peak(self) -> int | None:
        """The pool gives nothing back by itself: what it holds is what it held at most."""
        if self._cupy is None:
            return None
        return self._cupy.get_default_memory_pool().total_bytes()

    def parameters(self) -> int:
        return sum(math.prod(p.shape) for p in self._model.parameters())

    @staticmethod
    def runs_on(device: str) -> dict[str, Any]:
        import xcnn

        return {"xcnn": xcnn.__version__, "device": xcnn.backends.get(device).device}


class TorchJob:
    """The same training in eager PyTorch, as its tutorials write it."""

    def __init__(self, job: Job, device: str) -> None:
        import torch

        net = NETS[job.net]
        self._torch, self._device, self._on_gpu = torch, device, device.startswith("cuda")
        torch.backends.cuda.matmul.allow_tf32 = job.precision == "tf32"
        torch.backends.cudnn.allow_tf32 = job.precision == "tf32"
        if self._on_gpu:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        self.clock = self._seconds if self._on_gpu else None
        torch.manual_seed(0)
        self._model = net.torch().to(device)
        kind = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}[net.optimizer]
        self._optimizer = kind(self._model.parameters(), **LEARNING_RATES[net.optimizer])
        self._data = batches(job, lambda array: torch.from_numpy(array).to(device))
        self._scaler = torch.amp.GradScaler(device) if job.precision == "float16" else None
        self.step = self._step if self._scaler is None else self._scaled_step

    def _loss(self) -> Any:
        x, y = next(self._data)
        return self._torch.nn.functional.cross_entropy(self._model(x), y)

    def _step(self) -> None:
        self._optimizer.zero_grad()
        self._loss().backward()
        self._optimizer.step()

    def _scaled_step(self) -> None:
        """In mixed precision: float16 where it is safe, float32 weights, a scaled loss."""
        self._optimizer.zero_grad()
        with self._torch.autocast(self._device, self._torch.float16):
            loss = self._loss()
        self._scaler.scale(loss).backward()
        self._scaler.step(self._optimizer)
        self._scaler.update()

    def synchronize(self) -> None:
        if self._on_gpu:
            self._torch.cuda.synchronize()

    def _seconds(self, call: Call) -> float:
        """GPU seconds of a call, its launches queued behind a wait as in EventClock."""
        start, end = (self._torch.cuda.Event(enable_timing=True) for _ in range(2))
        self._torch.cuda._sleep(int(0.02 * 2e9))  # cycles
        start.record()
        call()
        end.record()
        end.synchronize()
        return start.elapsed_time(end) / 1e3

    def peak(self) -> int | None:
        return self._torch.cuda.max_memory_reserved() if self._on_gpu else None

    def parameters(self) -> int:
        return sum(p.numel() for p in self._model.parameters())

    @staticmethod
    def runs_on(device: str) -> dict[str, Any]:
        """Versions, and the settings that matter for speed.

        Raises
        ------
        Skipped
            There is no PyTorch that can use the device.
        """
        if importlib.util.find_spec("torch") is None:
            raise Skipped("PyTorch is not installed")
        import torch

        if device.startswith("cuda") and not torch.cuda.is_available():
            raise Skipped(f"PyTorch {torch.__version__} finds no GPU")
        cudnn = torch.backends.cudnn
        return {"torch": torch.__version__, "cudnn": cudnn.version(), "benchmark": cudnn.benchmark}


JOBS = {"xcnn": XcnnJob, "torch": TorchJob}
