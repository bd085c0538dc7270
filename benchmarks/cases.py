"""The cases that are timed, built for any peer from the same random numbers."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from benchmarks import nets
from benchmarks.peers import Step

SETTINGS = {"Adam": {"lr": 1e-3}, "SGD": {"lr": 1e-2, "momentum": 0.9}}


class Work(NamedTuple):
    """A case in one process: its step, and the number of parameters that it trains."""

    step: Step
    parameters: int = 0


@dataclass(frozen=True)
class Case:
    """One row of the table."""

    name: str
    title: str
    make: Callable[[Any], Work]
    mean: str = ""  # the geometric mean that includes its ratio


# -- networks ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Network:
    """A network built from a peer's layers."""

    title: str
    image: tuple[int, int, int]
    build: Callable[[Any], Any]
    optimizer: str
    classes: int = 10

    def training(self, peer: Any, batch: int, precision: str = "float32") -> Work:
        """Forward, loss, backward and weight update."""
        model, kind = self.build(peer).to(peer.device), getattr(peer.optim, self.optimizer)
        optimizer = kind(model.parameters(), **SETTINGS[self.optimizer])
        step = peer.training(model, optimizer, self._batches(peer, batch), precision)
        return Work(step, count(model.parameters()))

    def forward(self, peer: Any, batch: int) -> Work:
        """Logits in evaluation mode, with nothing saved for backward."""
        model, batches = self.build(peer).to(peer.device), self._batches(peer, batch)
        model.eval()
        step = peer.no_grad()(lambda: model(next(batches)[0]))
        return Work(step, count(model.parameters()))

    def _batches(self, peer: Any, batch: int) -> Iterator[tuple[Any, Any]]:
        """Four random batches, repeated endlessly."""
        rng = np.random.default_rng(0)
        images = rng.standard_normal((4, batch, *self.image), dtype=np.float32)
        labels = rng.integers(0, self.classes, (4, batch))
        pairs = [(peer.user(x), peer.user(y)) for x, y in zip(images, labels, strict=True)]
        return itertools.cycle(pairs)


def count(parameters: Any) -> int:
    """Total number of elements."""
    return sum(math.prod(p.shape) for p in parameters)


LENET = Network("LeNet-5", (1, 28, 28), lambda peer: nets.lenet5(peer.nn), "Adam")
VGG = Network("VGG-like net", (3, 32, 32), lambda peer: nets.vgg(peer.nn), "SGD")
RESNET20 = Network("ResNet-20", (3, 32, 32), lambda peer: peer.resnet("resnet20"), "SGD")
RESNET18 = Network("ResNet-18", (3, 224, 224), lambda peer: peer.resnet("resnet18"), "SGD", 1000)


# -- single operations ---------------------------------------------------------------------


@dataclass(frozen=True)
class Operation:
    """A function of an input (shape without the batch) and, if any, a weight or class indices."""

    function: str
    input: tuple[int, ...]
    weight: tuple[int, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)

    def forward(self, peer: Any, batch: int) -> Work:
        call, arrays = self._prepare(peer, batch)
        return Work(peer.no_grad()(lambda: call(*arrays)))

    def both(self, peer: Any, batch: int) -> Work:
        """Forward and backward, with gradients of the input and the weight."""
        return Work(peer.both(*self._prepare(peer, batch)))

    def _prepare(self, peer: Any, batch: int) -> tuple[Any, list[Any]]:
        rng = np.random.default_rng(0)
        arrays = [peer.native(rng.standard_normal((batch, *self.input), dtype=np.float32))]
        if self.weight:
            weight = rng.standard_normal(self.weight, dtype=np.float32)
            arrays.append(peer.user(weight / np.sqrt(np.float32(math.prod(self.weight[1:])))))
        elif self.function == "cross_entropy":
            arrays.append(peer.user(rng.integers(0, self.input[0], batch)))
        return partial(getattr(peer.F, self.function), **self.settings), arrays


def conv(channels: int, filters: int, size: int, kernel: int, **settings: Any) -> Operation:
    """A convolution of ``size`` × ``size`` images, padded to keep their size at stride 1."""
    weight = (filters, channels // settings.get("groups", 1), kernel, kernel)
    settings = {"padding": kernel // 2, **settings}
    return Operation("conv2d", (channels, size, size), weight, settings)


def batch_norm(peer: Any, batch: int) -> Work:
    """Forward and backward in training mode, with gradients of the input and the parameters."""
    layer = peer.nn.BatchNorm2d(64).to(peer.device)
    images = np.random.default_rng(0).standard_normal((batch, 64, 32, 32), dtype=np.float32)
    return Work(peer.both(layer, [peer.native(images)], layer))


SHAPES = [(64, 64, 3, 3), (128, 64, 3, 3), (128, 128, 3, 3), (64,), (128,), (128,)] * 4
SHAPES += [(130, 1280)]


def adam(peer: Any) -> Work:
    """An update of 25 tensors with 1.2 million elements."""
    rng = np.random.default_rng(0)
    pairs = [[rng.standard_normal(s, dtype=np.float32) for _ in range(2)] for s in SHAPES]
    parameters = [peer.parameter(*pair) for pair in pairs]
    return Work(peer.optim.Adam(parameters, **SETTINGS["Adam"]).step, count(parameters))


# -- the table -----------------------------------------------------------------------------

CONVOLUTIONS = {  # name: operation, batch; the first four enter the means
    "conv-32": (conv(32, 32, 32, 3), 64),
    "conv-64": (conv(64, 64, 32, 3), 32),
    "conv-128": (conv(128, 128, 16, 3), 32),
    "conv-256": (conv(256, 256, 8, 3), 32),
    "conv-5x5": (conv(16, 32, 16, 5), 64),
    "conv-1x1": (conv(64, 128, 16, 1), 64),
    "conv-depthwise": (conv(64, 64, 32, 3, groups=64), 32),
    "conv-stride2": (conv(64, 128, 32, 3, stride=2), 32),
}
POOLS = {
    "max-pool-2x2": ("max_pool2d", {"kernel_size": 2}),
    "max-pool-3x3": ("max_pool2d", {"kernel_size": 3, "stride": 2, "padding": 1}),
    "avg-pool-2x2": ("avg_pool2d", {"kernel_size": 2}),
}


def operations() -> Iterator[Case]:
    for number, (name, (operation, batch)) in enumerate(CONVOLUTIONS.items()):
        (channels, size, _), (filters, _, kernel, _) = operation.input, operation.weight
        text = f"{kernel}×{kernel} {channels}→{filters} at {size}×{size}, batch {batch}"
        for direction in ("forward", "both"):
            make = partial(getattr(operation, direction), batch=batch)
            mean = f"conv-{direction}" if number < 4 else ""
            yield Case(f"{name}-{direction}", f"convolution {text}: {direction}", make, mean)
    images = "64 at 32×32, batch 32: both"
    for name, (function, settings) in POOLS.items():
        operation = Operation(function, (64, 32, 32), settings=settings)
        yield Case(name, f"{function}, {images}", partial(operation.both, batch=32))
    yield Case("batch-norm", f"batch-norm in training, {images}", partial(batch_norm, batch=32))
    for n in (10, 1000):
        make = partial(Operation("cross_entropy", (n,)).both, batch=128)
        yield Case(f"cross-entropy-{n}", f"softmax cross-entropy, 128×{n}: both", make)
    yield Case("adam", "Adam's update of 25 tensors, 1.2 million parameters", adam)


def training(name: str, network: Network, batch: int, precision: str = "float32") -> Case:
    suffix = "" if precision == "float32" else f"-{precision}"
    make = partial(network.training, batch=batch, precision=precision)
    title = f"{network.title}, training step, batch {batch}, {precision}"
    return Case(f"{name}-{batch}{suffix}", title, make)


CASES: dict[str, list[Case]] = {
    "cpu": [
        *(training("lenet", LENET, batch) for batch in (32, 128, 512)),
        Case("lenet-forward-1", "LeNet-5, forward, one image", partial(LENET.forward, batch=1)),
        Case("lenet-forward-128", "LeNet-5, forward, batch 128", partial(LENET.forward, batch=128)),
        training("vgg", VGG, 64),
        training("resnet20", RESNET20, 128),
        *operations(),
    ],
    "cuda": [
        training(*network, precision)
        for precision in ("float32", "tf32", "float16")
        for network in (
            *(("lenet", LENET, batch) for batch in (128, 1024)),
            ("vgg", VGG, 128),
            ("resnet18", RESNET18, 32),
        )
    ],
}


class Size(NamedTuple):
    """Sizes of a network and its input, of which one doubles at a time."""

    batch: int
    channels: int
    image: int
    depth: int

    @property
    def name(self) -> str:
        return "growth-" + "-".join(map(str, self))

    @property
    def work(self) -> int:
        """Multiply-adds of a step; the first layer has no input gradient."""
        layer = self.batch * self.image**2 * self.channels**2 * 9
        return layer * (3 * self.depth - 1) + 3 * self.batch * self.channels * 10

    def case(self) -> Case:
        shape = (self.channels, self.image, self.image)
        network = Network("plain", shape, lambda peer: nets.plain(peer.nn, *self[1:]), "SGD")
        return Case(self.name, "plain network", partial(network.training, batch=self.batch))


def find(name: str) -> Case:
    """Look up a case by name, on any device.

    Raises
    ------
    KeyError
        No such case.
    """
    if name.startswith("growth-"):
        return Size(*map(int, name.split("-")[1:])).case()
    return {case.name: case for cases in CASES.values() for case in cases}[name]


def select(patterns: Sequence[str], names: Sequence[str]) -> list[str]:
    """The names that match any of the patterns, in order; all if there are no patterns.

    A pattern is a name, or else a prefix of names, or a glob such as ``conv-*-both``.

    Raises
    ------
    ValueError
        A pattern matches nothing.
    """
    chosen: set[str] = set()
    for pattern in patterns:
        matches = {n for n in names if n.startswith(pattern) or fnmatchcase(n, pattern)}
        if not matches:
            raise ValueError(f"{pattern}: matches none of {', '.join(names)}")
        chosen |= {pattern} if pattern in matches else matches
    return [name for name in names if name in chosen or not patterns]
