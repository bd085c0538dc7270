"""Rounding errors, and training curves with and without Winograd and the compiled kernels.

``python -m benchmarks accuracy`` prints the largest difference from float64 relative to the largest
value, for activations and gradients of unit scale. ``--curves`` trains a VGG-like net on CIFAR-10
from the same weights and batches, each time in a new process; the data is searched for as in
``xcnn train``.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import os
from collections.abc import Callable
from typing import Any

import numpy as np

import xcnn
from benchmarks import nets
from benchmarks.methods import passes
from xcnn import data, nn, optim

STEPS, EVERY, BATCH = 150, 30, 64


def errors(method: str, channels: int, size: int = 16, batch: int = 4) -> list[float]:
    """Relative errors of y, dx and dweight in float32."""
    rng = np.random.default_rng(0)
    x, dy = (rng.standard_normal((channels, size, size, batch)) for _ in range(2))
    weight = rng.standard_normal((channels, channels, 3, 3)) / np.sqrt(9 * channels)
    exact = passes("im2col", x, weight, dy, padding=1)
    single = passes(method, *(a.astype(np.float32) for a in (x, weight, dy)), padding=1)
    return [
        float(np.abs(s - e).max() / np.abs(e).max()) for s, e in zip(single, exact, strict=True)
    ]


def apart(native: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """A function's result in a process with this ``XCNN_NATIVE``, which xcnn reads on import."""
    os.environ["XCNN_NATIVE"] = native
    with multiprocessing.get_context("spawn").Pool(1) as process:
        return process.apply(function, arguments)


def losses(method: str) -> list[float]:
    """Training loss, averaged over every EVERY steps."""
    xcnn.config.convolution = method
    xcnn.manual_seed(0)
    model = nets.vgg(nn)
    trainer = xcnn.Trainer(model, optim.SGD(model.parameters(), lr=0.02, momentum=0.9))
    dataset = data.load("cifar10", limit=STEPS * BATCH)
    loader = data.DataLoader(
        dataset.train, batch_size=BATCH, shuffle=True, transform=dataset.normalize()
    )
    steps = [trainer.train_step(*batch)[0].item() for batch in list(loader)[:STEPS]]
    return [float(np.mean(steps[i : i + EVERY])) for i in range(0, STEPS, EVERY)]


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--curves", action="store_true", help="also train")


def main(options: argparse.Namespace) -> int:
    print(f"{'3×3, float32':<14}{'channels':>9}{'y':>10}{'dx':>10}{'dweight':>10}")
    for name in ("im2col", "mec", "direct", "winograd"):
        for channels in (16, 64, 256):
            row = "".join(f"{error:>10.1e}" for error in errors(name, channels))
            print(f"{name:<14}{channels:>9}{row}")
    if options.curves:
        print(f"loss of a VGG-like net, mean of each {EVERY} steps of {BATCH} images")
        for native, method in itertools.product(("1", "0"), ("auto", "im2col")):
            label = f"XCNN_NATIVE={native} {method}"
            points = " ".join(f"{loss:.4f}" for loss in apart(native, losses, method))
            print(f"{label:<23}{points}", flush=True)
    return 0
