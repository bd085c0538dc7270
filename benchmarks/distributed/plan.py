"""The command ``scaling``: ResNet-50 on ImageNet on 8 to 1,024 GPUs, by the model.

Nothing here was measured: it follows from the constants below. docs/scaling.md explains the tables.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.distributed.model import (
    Cost,
    Link,
    Piece,
    Step,
    Times,
    halving,
    hierarchical,
    ring,
    simulate,
    slowest,
)

RANKS = (8, 16, 32, 64, 128, 256, 512, 1024)
PER_NODE = 8
IMAGES, EPOCHS, IMAGE_BYTES = 1_281_167, 90, 110e3  # ImageNet: 138 GB of JPEG files
GOYAL, YOU = 8192, 32_768  # the largest batches without a loss of accuracy: SGD, LARS
BUCKET, VOTES = 2**22, 3  # bytes; all-reduces of a few numbers in a step: what the Trainer does
FLOAT, SPREAD = 4, 0.02

# Images per second of one GPU. A100: NVIDIA's DeepLearningExamples, ResNet-50 v1.5 for PyTorch, NGC
# container 21.03. P100: 32 images, of which backward takes 120 ms (Goyal et al. 2017, section 4)
SPEED = {"TF32": 938.0, "float16": 2470.0, "P100": 32 / 0.18}
PUBLISHED = (  # by the same: title, GPUs, batch, network, speed, efficiency relative to GPUs
    ("8 A100, TF32", 8, 8 * 256, "HDR", "TF32", 7248 / 938 / 8, 1),
    ("8 A100, float16", 8, 8 * 256, "HDR", "float16", 16621 / 2470 / 8, 1),
    ("256 P100, float32", 256, 8192, "50GbE", "P100", 0.9, 8),
)
# Latencies and NVLink: what NCCL assumes to choose an algorithm (src/graph/tuning.cc, "Simple")
NVLINK, WIRE = Link(3.4e-6, 235e9), 9.6e-6
NETWORKS = {  # bytes per second for each GPU, at 90 % of the nominal rate
    "NDR": 0.9 * 400e9 / 8,  # InfiniBand, an adapter for each GPU
    "HDR": 0.9 * 200e9 / 8,
    "100GbE": 0.9 * 100e9 / 8 / PER_NODE,  # one adapter for a node of 8 GPUs
    "50GbE": 0.9 * 50e9 / 8 / PER_NODE,
}


class Setting(NamedTuple):
    """How a training is spread over GPUs."""

    ranks: int
    batch: int  # of all ranks
    network: str = "HDR"
    algorithm: str = "ring"
    precision: str = "float16"
    bucket: float = BUCKET
    sent: int = FLOAT  # bytes for each number of a gradient
    spread: float = 0.0
    synced: bool = False  # whether batch norms are, over all ranks
    votes: int = VOTES


@cache
def layers() -> list[tuple[int, int, int]]:
    """Of ResNet-50: multiply-adds of each layer, its parameters, and channels of its batch norm."""
    from xcnn import models, nn

    model, found = models.resnet50(), []

    def hook(module: Any, inputs: tuple, output: Any) -> None:
        parameters = sum(math.prod(p.shape) for p in module.parameters())
        is_norm = isinstance(module, nn.BatchNorm2d)
        found.append(
            (module.multiply_adds(output.shape), parameters, output.shape[1] if is_norm else 0)
        )

    hooks = [(m, hook) for m in model.modules() if not list(m.children())]
    with nn.evaluating(model), nn.hooked(hooks):
        model(np.zeros((1, 3, 224, 224), np.float32))
    return found


def step(setting: Setting) -> Step:
    """The computation of one rank; backward takes twice as long as forward, as it multiplies."""
    seconds = setting.batch / setting.ranks / SPEED[setting.precision]
    seconds *= slowest(setting.ranks, setting.spread)
    work = sum(products for products, _, _ in layers())
    statistics = 2 * FLOAT if setting.synced else 0
    parts = [
        (seconds / 3 * products / work, setting.sent * parameters, statistics * channels)
        for products, parameters, channels in layers()
    ]
    forward = [Piece(0, 0, FLOAT)] * setting.votes + [Piece(s, 0, synced) for s, _, synced in parts]
    return Step(forward + [Piece(2 * s, size, synced) for s, size, synced in reversed(parts)])


def cost(setting: Setting) -> Cost:
    """Seconds of an all-reduce."""
    nodes, per_node = max(1, setting.ranks // PER_NODE), min(PER_NODE, setting.ranks)
    wire = Link(WIRE, NETWORKS[setting.network])
    if setting.algorithm == "ring":  # one ring for each adapter; most of its hops are in a node
        inside, between = setting.ranks - nodes, nodes - 1
        hops = max(1, setting.ranks - 1)
        latency = (inside * NVLINK.latency + between * wire.latency) / hops
        rate = min(NVLINK.bandwidth, per_node * wire.bandwidth) if between else NVLINK.bandwidth
        return ring(setting.ranks, Link(latency, rate))
    return hierarchical(nodes, per_node, NVLINK, halving(nodes, wire))


def times(setting: Setting) -> Times:
    """Seconds of a step, and of its all-reduces."""
    return simulate(step(setting), cost(setting), setting.bucket)


def efficiency(setting: Setting) -> float:
    """Images per second on each GPU, relative to one GPU alone."""
    alone = setting.batch / setting.ranks / SPEED[setting.precision]
    return alone / times(setting).step


def dominated(setting: Setting) -> int | None:
    """The number of GPUs, doubled from 8 on, at which half of the time is lost; None: not here."""
    found = (n for n in RANKS if efficiency(setting._replace(ranks=n)) < 0.5)
    return next(found, None)


# -- tables ----------------------------------------------------------------------------------


def report() -> Iterator[str]:
    """All lines that the command prints."""
    speeds = ", ".join(f"{rate:,.0f} ({name})" for name, rate in SPEED.items())
    rates = ", ".join(f"{name} {rate / 1e9:.2f}" for name, rate in NETWORKS.items())
    yield f"images/s of a GPU alone: {speeds}; at any batch size"
    inside = f"{NVLINK.latency * 1e6:.1f} µs, {NVLINK.bandwidth / 1e9:.0f} GB/s"
    yield f"nodes of {PER_NODE} GPUs; within: {inside}; between: {WIRE * 1e6:.1f} µs"
    yield f"GB/s of each GPU between nodes: {rates}"
    calls: list[float] = []
    simulate(step(Setting(8, GOYAL, votes=0)), lambda size: calls.append(size) or 0.0, BUCKET)
    yield f"a step sends {len(calls)} buckets of about {BUCKET >> 20} MiB, and {VOTES} small arrays"
    counts = [sum(column) for column in zip(*layers(), strict=True)]
    yield (
        f"ResNet-50: {counts[1]:,} parameters, {FLOAT * counts[1] / 1e6:.1f} MB of gradients, "
        f"{counts[0] / 1e9:.2f} G multiply-adds forward"
    )
    for part in (published, growth, limits, changes, reading):
        yield ""
        yield from part()


def published() -> Iterator[str]:
    """The model beside figures of others."""
    yield "images/s of each GPU, relative to fewer       the model   published"
    for title, ranks, batch, network, precision, expected, base in PUBLISHED:
        setting = Setting(ranks, batch, network, "hierarchical", precision)
        before = efficiency(setting._replace(ranks=base, batch=batch * base // ranks))
        text = f"{title}, relative to {base}"
        yield f"{text:<42}{efficiency(setting) / before:>13.0%}{expected:>12.0%}"


def growth() -> Iterator[str]:
    """Steps of more and more GPUs: each with the same share of the batch, or the same batch."""
    yield f"float16, HDR       {'256 images each':^34}  {'8,192 images in all':^34}"
    yield "  GPUs" + f"{'ring':>19}{'hierarchical':>17}" * 2 + "    images/s"
    for ranks in RANKS:
        line = f"{ranks:>6,}  "
        for batch in (256 * ranks, GOYAL):
            for algorithm in ("ring", "hierarchical"):
                setting = Setting(ranks, batch, algorithm=algorithm)
                seconds, share = times(setting).step, efficiency(setting)
                line += f"{seconds * 1e3:>8.1f} ms {share:>4.0%} "
            line += "   "
        yield f"{line}{GOYAL / seconds:>10,.0f}"


def limits() -> Iterator[str]:
    """From how many GPUs on communication takes half of the time."""
    yield "half of the time is lost from so many GPUs on, with 8,192 images in all"
    names = [name for name in NETWORKS if name != "50GbE"]
    yield f"{'':<24}" + "".join(f"{name:>10}" for name in names)
    for precision in ("TF32", "float16"):
        for algorithm in ("ring", "hierarchical"):
            settings = [Setting(0, GOYAL, name, algorithm, precision) for name in names]
            found = [dominated(setting) for setting in settings]
            cells = "".join(f"{f'{n:,}' if n else f'> {RANKS[-1]:,}':>10}" for n in found)
            yield f"{precision:<9}{algorithm:<15}{cells}"


def variants() -> dict[str, Setting]:
    """What changes at 1,024 GPUs, one thing after the other."""
    ring = Setting(RANKS[-1], GOYAL)
    tree = ring._replace(algorithm="hierarchical")
    few = tree._replace(bucket=25 * 2**20)
    once = few._replace(votes=1)
    half = once._replace(sent=2, bucket=25 * 2**19)
    large = half._replace(batch=YOU)
    return {
        "ring": ring,
        "hierarchical": tree,
        "and buckets of 25 MiB": few,
        "and one small all-reduce, not three": once,
        "and gradients sent as float16": half,
        "and 32,768 images (LARS)": large,
        "and speeds that differ by 2 %": large._replace(spread=SPREAD),
        "and SyncBatchNorm over all GPUs": large._replace(synced=True),
    }


def changes() -> Iterator[str]:
    """What helps where communication dominates."""
    heads = "step  all-reduces    waiting  efficiency    images/s"
    yield f"{f'{RANKS[-1]:,} GPUs, float16, HDR':<41}{heads}"
    for name, setting in variants().items():
        t = times(setting)
        milliseconds = [1e3 * s for s in (*t, t.step - step(setting).compute)]
        cells = "{:>7.1f} ms{:>10.1f} ms{:>8.1f} ms".format(*milliseconds)
        yield f"{name:<35}{cells}{efficiency(setting):>12.0%}{setting.batch / t.step:>12,.0f}"


def reading() -> Iterator[str]:
    """What the data must deliver, and how long 90 epochs take."""
    yield f"reading, float16, HDR, hierarchical; {IMAGE_BYTES / 1e3:.0f} kB an image"
    yield "  GPUs   images/s   per node      GB/s   per node   90 epochs"
    for ranks in RANKS[::2] + RANKS[-1:]:
        setting = Setting(ranks, min(256 * ranks, YOU), algorithm="hierarchical")
        rate, nodes = setting.batch / times(setting).step, ranks // PER_NODE
        size = rate * IMAGE_BYTES / 1e9
        yield (
            f"{ranks:>6,}{rate:>11,.0f}{rate / nodes:>11,.0f}{size:>10.2f}{size / nodes:>11.2f}"
            f"{IMAGES * EPOCHS / rate / 60:>9,.1f} min"
        )


# -- the command --------------------------------------------------------------------------------


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw efficiency over GPUs")


def main(options: argparse.Namespace) -> int:
    """Print the tables."""
    print("\n".join(line.rstrip() for line in report()))
    if options.plot:
        draw(options.plot)
    return 0


def draw(path: Path) -> None:
    """Draw the efficiency over GPUs, for both algorithms and each network."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.4), layout="constrained")
    both = FigureCanvasAgg(figure).figure.subplots(1, 2, sharey=True)
    for axes, (title, batch) in zip(
        both, (("256 images each", 0), ("8,192 in all", GOYAL)), strict=True
    ):
        for color, network in (("C0", "HDR"), ("C3", "100GbE")):
            for line, algorithm in (("--", "ring"), ("-", "hierarchical")):
                settings = [Setting(n, batch or 256 * n, network, algorithm) for n in RANKS]
                values = [100 * efficiency(setting) for setting in settings]
                label = f"{network}, {algorithm}"
                axes.plot(RANKS, values, line, color=color, marker="o", ms=3, label=label)
        axes.set(xscale="log", title=title, xlabel="GPUs", ylim=(0, 103))
        axes.set_xticks(RANKS, [f"{n:,}" for n in RANKS], fontsize=8)
        axes.set_xticks([], minor=True)
        axes.axhline(50, color="black", linewidth=0.5)
        axes.grid(alpha=0.3)
    both[0].set_ylabel("efficiency, %")
    both[0].legend(fontsize=8)
    figure.savefig(path, dpi=100)
