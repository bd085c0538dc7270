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
    trains: tuple[Network, int] | None = None  # the network and batch of a training step


# -- networks ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Network:
    """A network built from a peer's layers."""

    title: str
    image: tuple[int, int, int]
    build: Callable[[Any], Any]
    optimizer: str
    classes: int = 10
    pixels: tuple[int, ...] = ()  # shape of an image's labels

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
        labels = rng.integers(0, self.classes, (4, batch, *self.pixels))
        pairs = [(peer.user(x), peer.user(y)) for x, y in zip(images, labels, strict=True)]
        return itertools.cycle(pairs)


def count(parameters: Any) -> int:
    """Total number of elements."""
    return sum(math.prod(p.shape) for p in parameters)


def mobilenet(peer: Any) -> Any:
    """MobileNetV2 without dropout, as libraries draw different masks."""
    return peer.model("mobilenet_v2", dropout=0.0)


def unet(peer: Any, width: int = 32) -> Any:
    """U-Net, by default half as wide as in the paper."""
    return peer.model("unet", width=width)


LENET = Network("LeNet-5", (1, 28, 28), lambda peer: nets.lenet5(peer.nn), "Adam")
VGG = Network("VGG-like net", (3, 32, 32), lambda peer: nets.vgg(peer.nn), "SGD")
RESNET20 = Network("ResNet-20", (3, 32, 32), lambda peer: peer.model("resnet20"), "SGD")
RESNET18 = Network("ResNet-18", (3, 224, 224), lambda peer: peer.model("resnet18"), "SGD", 1000)
MOBILENET = Network("MobileNetV2", (3, 64, 64), mobilenet, "SGD", 1000)
UNET = Network("U-Net of width 32", (3, 128, 128), unet, "Adam", 2, (128, 128))


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


def norm(layer: str, shape: Sequence[Any], peer: Any, batch: int) -> Work:
    """Forward and backward in training mode, with gradients of the input and the parameters."""
    built = getattr(peer.nn, layer)(*shape).to(peer.device)
    images = np.random.default_rng(0).standard_normal((batch, 64, 32, 32), dtype=np.float32)
    return Work(peer.both(built, [peer.native(images)], built))


def adam(peer: Any) -> Work:
    """An update of all parameters of ResNet-20."""
    rng, parameters = np.random.default_rng(0), list(peer.model("resnet20").parameters())
    for parameter in parameters:
        parameter.grad = peer.user(rng.standard_normal(tuple(parameter.shape), dtype=np.float32))
    return Work(peer.optim.Adam(parameters, **SETTINGS["Adam"]).step, count(parameters))


# -- the table -----------------------------------------------------------------------------

AIMS: dict[str, float] = {  # the ratio to reach, by case or mean
    **dict.fromkeys(("lenet-32", "lenet-128", "lenet-512"), 0.6),
    **dict.fromkeys(("lenet-forward-1", "vgg-64", "resnet20-128"), 0.8),
    **{"mobilenet-16": 0.5, "unet-4": 1.0},
    **dict.fromkeys(("conv-both", "conv-5x5-both", "conv-stride2-both"), 0.8),
    "conv-depthwise-both": 1.0,
    **dict.fromkeys(("batch-norm", "layer-norm", "group-norm"), 0.8),
    **dict.fromkeys(("cross-entropy-10", "cross-entropy-1000"), 0.8),
    **{"memory": 0.2, "memory-resnet20": 0.5, "import": 0.13},
}
CONVOLUTIONS = {  # name: operation, batch; the first five also run forward and enter the means
    "conv-16": (conv(16, 16, 32, 3), 64),
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
    "max-pool-2x2": {"kernel_size": 2},
    "max-pool-3x3": {"kernel_size": 3, "stride": 2, "padding": 1},
}
NORMS = {
    "batch-norm": ("BatchNorm2d", (64,)),
    "layer-norm": ("LayerNorm", ((64, 32, 32),)),
    "group-norm": ("GroupNorm", (8, 64)),
}


def operations() -> Iterator[Case]:
    for number, (name, (operation, batch)) in enumerate(CONVOLUTIONS.items()):
        (channels, size, _), (filters, _, kernel, _) = operation.input, operation.weight
        text = f"{kernel}×{kernel} {channels}→{filters} at {size}×{size}, batch {batch}"
        for direction in ("forward", "both") if number < 5 else ("both",):
            make = partial(getattr(operation, direction), batch=batch)
            mean = f"conv-{direction}" if number < 5 else ""
            yield Case(f"{name}-{direction}", f"convolution {text}: {direction}", make, mean)
    images = "64 at 32×32, batch 32: both"
    for name, settings in POOLS.items():
        operation = Operation("max_pool2d", (64, 32, 32), settings=settings)
        yield Case(name, f"max_pool2d, {images}", partial(operation.both, batch=32))
    for name, (layer, shape) in NORMS.items():
        make = partial(norm, layer, shape, batch=32)
        yield Case(name, f"{layer} in training, {images}", make)
    for n in (10, 1000):
        make = partial(Operation("cross_entropy", (n,)).both, batch=128)
        yield Case(f"cross-entropy-{n}", f"softmax cross-entropy, 128×{n}: both", make)
    yield Case("adam", "Adam's update of all parameters of ResNet-20", adam)


def training(name: str, network: Network, batch: int, precision: str = "float32") -> Case:
    suffix = "" if precision == "float32" else f"-{precision}"
    make = partial(network.training, batch=batch, precision=precision)
    title = f"{network.title}, training step, batch {batch}, {precision}"
    return Case(f"{name}-{batch}{suffix}", title, make, trains=(network, batch))


CASES: dict[str, list[Case]] = {
    "cpu": [
        *(training("lenet", LENET, batch) for batch in (32, 128, 512)),
        Case("lenet-forward-1", "LeNet-5, forward, one image", partial(LENET.forward, batch=1)),
        Case("lenet-forward-128", "LeNet-5, forward, batch 128", partial(LENET.forward, batch=128)),
        training("vgg", VGG, 64),
        training("resnet20", RESNET20, 128),
        training("mobilenet", MOBILENET, 16),
        training("unet", UNET, 4),
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
