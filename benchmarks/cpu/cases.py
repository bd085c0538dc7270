"""What is timed: a table of cases, each made for either peer from the same random numbers."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from benchmarks.cpu.peers import Peer, Step
from benchmarks.gpu import nets
from benchmarks.gpu.outcome import Skipped

OPTIMIZERS: dict[str, dict[str, float]] = {
    "Adam": {"lr": 1e-3},
    "SGD": {"lr": 1e-2, "momentum": 0.9},
}


class Work(NamedTuple):
    """A case in one process: what a step does, and how many parameters it trains."""

    step: Step
    parameters: int = 0


@dataclass(frozen=True)
class Case:
    """One line of the table."""

    name: str
    title: str
    make: Callable[[Peer, int], Work]
    batch: int
    steps: int  # per turn, some 0.2 s
    mean: str = ""  # the geometric mean that its ratio belongs to


# -- networks ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Network:
    """A network for ten classes, by the peer's layers."""

    image: tuple[int, int, int]
    build: Callable[[Peer], Any]
    optimizer: str

    def training(self, peer: Peer, batch: int) -> Work:
        """Forward, loss, backward and an update of the weights."""
        model = self.build(peer)
        kind = getattr(peer.optim, self.optimizer)
        optimizer = kind(model.parameters(), **OPTIMIZERS[self.optimizer])
        data = self._batches(peer, batch)

        def step() -> Any:
            x, y = next(data)
            optimizer.zero_grad()
            loss = peer.F.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            return loss

        return Work(step, count(model.parameters()))

    def forward(self, peer: Peer, batch: int) -> Work:
        """Logits in evaluation mode, nothing kept for a backward pass."""
        model = self.build(peer)
        model.eval()
        data = self._batches(peer, batch)

        def step() -> Any:
            with peer.no_grad():
                return model(next(data)[0])

        return Work(step, count(model.parameters()))

    def _batches(self, peer: Peer, batch: int) -> Iterator[tuple[Any, Any]]:
        """An endless round of four random batches, as a user has them."""
        rng = np.random.default_rng(0)
        images = rng.standard_normal((4, batch, *self.image), dtype=np.float32)
        labels = rng.integers(0, 10, (4, batch))
        pairs = [(peer.user(x), peer.user(y)) for x, y in zip(images, labels, strict=True)]
        return itertools.cycle(pairs)


def count(parameters: Any) -> int:
    """Numbers in all of them."""
    return sum(math.prod(p.shape) for p in parameters)


LENET = Network((1, 28, 28), lambda peer: nets.lenet5(peer.nn), "Adam")
VGG = Network((3, 32, 32), lambda peer: nets.vgg(peer.nn), "SGD")
RESNET = Network((3, 32, 32), lambda peer: peer.resnet20(), "SGD")


# -- single operations ---------------------------------------------------------------------


@dataclass(frozen=True)
class Operation:
    """A function of both peers: of an input without its batch, and of weights or class numbers."""

    function: str
    input: tuple[int, ...]
    weight: tuple[int, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)

    def forward(self, peer: Peer, batch: int) -> Work:
        call, arrays = self._prepare(peer, batch)

        def step() -> Any:
            with peer.no_grad():
                return call(*arrays)

        return Work(step)

    def both(self, peer: Peer, batch: int) -> Work:
        """Forward and backward, for the input and the weight."""
        return Work(peer.both(*self._prepare(peer, batch)))

    def _prepare(self, peer: Peer, batch: int) -> tuple[Any, list[Any]]:
        rng = np.random.default_rng(0)
        arrays = [peer.native(rng.standard_normal((batch, *self.input), dtype=np.float32))]
        if self.weight:
            weight = rng.standard_normal(self.weight, dtype=np.float32)
            arrays.append(peer.user(weight / np.sqrt(np.float32(math.prod(self.weight[1:])))))
        elif self.function == "cross_entropy":
            arrays.append(peer.user(rng.integers(0, self.input[0], batch)))
        return partial(getattr(peer.F, self.function), **self.settings), arrays


def conv(channels: int, filters: int, size: int, kernel: int, **settings: Any) -> Operation:
    """A convolution of ``size`` × ``size`` pixels, padded to keep them at stride 1."""
    weight = (filters, channels // settings.get("groups", 1), kernel, kernel)
    settings = {"padding": kernel // 2, **settings}
    return Operation("conv2d", (channels, size, size), weight, settings)


def pool(function: str, kernel: int, **settings: Any) -> Operation:
    return Operation(function, (64, 32, 32), settings={"kernel_size": kernel, **settings})


MAX_POOL_2 = pool("max_pool2d", 2)
MAX_POOL_3 = pool("max_pool2d", 3, stride=2, padding=1)
AVG_POOL_2 = pool("avg_pool2d", 2)
ENTROPY_10, ENTROPY_1000 = (Operation("cross_entropy", (n,)) for n in (10, 1000))


def batch_norm(peer: Peer, batch: int) -> Work:
    """In training mode, forward and backward, for the input and the parameters."""
    if not hasattr(peer.nn, "BatchNorm2d"):
        raise Skipped("xcnn has no BatchNorm2d")
    layer = peer.nn.BatchNorm2d(64)
    images = np.random.default_rng(0).standard_normal((batch, 64, 32, 32), dtype=np.float32)
    return Work(peer.both(layer, [peer.native(images)], layer), count(layer.parameters()))


SHAPES: list[tuple[int, ...]] = [
    *[(64, 64, 3, 3)] * 4, *[(128, 64, 3, 3)] * 4, *[(128, 128, 3, 3)] * 4,
    *[(64,)] * 4, *[(128,)] * 8, (130, 1280),
]  # fmt: skip


def adam(peer: Peer, batch: int) -> Work:
    """An update of 25 tensors, 1.2 million numbers; there is no batch."""
    rng = np.random.default_rng(0)
    pairs = [[rng.standard_normal(s, dtype=np.float32) for _ in range(2)] for s in SHAPES]
    parameters = [peer.parameter(*pair) for pair in pairs]
    return Work(peer.optim.Adam(parameters, **OPTIMIZERS["Adam"]).step, count(parameters))


# -- the table -----------------------------------------------------------------------------

# name, operation, batch, steps of forward and of both
CONVOLUTIONS = {
    "conv-32": (conv(32, 32, 32, 3), 64, 8, 3),
    "conv-64": (conv(64, 64, 32, 3), 32, 6, 2),
    "conv-128": (conv(128, 128, 16, 3), 32, 8, 3),
    "conv-256": (conv(256, 256, 8, 3), 32, 8, 3),
    "conv-5x5": (conv(16, 32, 16, 5), 64, 20, 8),
    "conv-1x1": (conv(64, 128, 16, 1), 64, 30, 10),
    "conv-depthwise": (conv(64, 64, 32, 3, groups=64), 32, 10, 4),
    "conv-stride2": (conv(64, 128, 32, 3, stride=2), 32, 10, 4),
}
MEANS = ("conv-32", "conv-64", "conv-128", "conv-256")


def convolutions() -> Iterator[Case]:
    for name, (operation, batch, *steps) in CONVOLUTIONS.items():
        channels, size, _ = operation.input
        filters, _, kernel, _ = operation.weight
        text = f"{kernel}×{kernel} {channels}→{filters} at {size}×{size}, batch {batch}"
        for way, n in zip(("forward", "both"), steps, strict=True):
            mean = f"conv-{way}" if name in MEANS else ""
            make = getattr(operation, way)
            yield Case(f"{name}-{way}", f"convolution {text}: {way}", make, batch, n, mean)


IMAGES = "64 at 32×32, batch 32: both"
CASES = [
    Case("lenet-32", "LeNet-5, training step, batch 32", LENET.training, 32, 40),
    Case("lenet-128", "LeNet-5, training step, batch 128", LENET.training, 128, 20),
    Case("lenet-512", "LeNet-5, training step, batch 512", LENET.training, 512, 5),
    Case("lenet-forward-1", "LeNet-5, forward, batch 1", LENET.forward, 1, 300),
    Case("lenet-forward-128", "LeNet-5, forward, batch 128", LENET.forward, 128, 50),
    Case("vgg-64", "VGG-like net 3×32×32, training step, batch 64", VGG.training, 64, 2),
    Case("resnet20-128", "ResNet-20 3×32×32, training step, batch 128", RESNET.training, 128, 1),
    *convolutions(),
    Case("max-pool-2x2", f"2×2 max-pooling, {IMAGES}", MAX_POOL_2.both, 32, 20),
    Case("max-pool-3x3", f"3×3 max-pooling, stride 2, {IMAGES}", MAX_POOL_3.both, 32, 15),
    Case("avg-pool-2x2", f"2×2 mean-pooling, {IMAGES}", AVG_POOL_2.both, 32, 20),
    Case("batch-norm", f"batch-norm in training, {IMAGES}", batch_norm, 32, 15),
    Case("cross-entropy-10", "softmax cross-entropy, 128×10: both", ENTROPY_10.both, 128, 300),
    Case("cross-entropy-1000", "the same, 128×1000: both", ENTROPY_1000.both, 128, 100),
    Case("adam", "Adam's update of 25 tensors, 1.2 million parameters", adam, 0, 60),
]
BY_NAME = {case.name: case for case in CASES}
OTHERS = {
    "memory": "peak memory of training LeNet-5 at batch 128",
    "import": "time of importing the library",
    "growth": "time and memory of xcnn's step as batch, channels, image and depth double",
}
NAMES = [*BY_NAME, *OTHERS]


def select(patterns: Sequence[str]) -> list[str]:
    """The names that a pattern means, in the table's order; all without patterns.

    A pattern is a name, or else a prefix of names, or a glob such as ``conv-*-both``.

    Raises
    ------
    ValueError
        A pattern means nothing.
    """
    chosen: set[str] = set()
    for pattern in patterns:
        found = {n for n in NAMES if n.startswith(pattern) or fnmatchcase(n, pattern)}
        if not found:
            raise ValueError(f"{pattern}: no case is called so; --list tells what there is")
        chosen |= {pattern} if pattern in found else found
    return [name for name in NAMES if name in chosen or not patterns]
