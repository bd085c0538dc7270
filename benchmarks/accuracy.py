"""What the methods of convolution round away: errors against float64, and training curves.

    python -m benchmarks.accuracy [--curves]

Errors are the largest difference from float64, relative to the largest value, for activations and
gradients of unit scale. ``--curves`` trains a VGG-like net on CIFAR-10 (found as by ``xcnn train``)
with and without Winograd from the same weights and batches.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

import numpy as np

import xcnn
from benchmarks.gpu.nets import NETS
from xcnn import backends, convolution, data, optim
from xcnn.geometry import windows

STEPS, EVERY, BATCH = 150, 30, 64


def errors(name: str, channels: int, size: int = 16, batch: int = 4) -> list[float]:
    """Relative errors of y, dx and dweight of one method in float32."""
    rng, cpu = np.random.default_rng(0), backends.get("cpu")
    geometry = windows((size, size), 3, padding=1)
    x, dy = (rng.standard_normal((channels, size, size, batch)) for _ in range(2))
    weight = rng.standard_normal((channels, channels, 3, 3)) / np.sqrt(9 * channels)
    exact = results(convolution.im2col, cpu, x, weight, dy, geometry)
    single = [a.astype(np.float32) for a in (x, weight, dy)]
    found = results(convolution.METHODS[name], cpu, *single, geometry)
    return [float(np.abs(f - e).max() / np.abs(e).max()) for f, e in zip(found, exact, strict=True)]


def results(method: Any, cpu: Any, x: Any, weight: Any, dy: Any, geometry: Any) -> list[Any]:
    """(y, dx, dweight)."""
    y = method.forward(cpu, x, weight, geometry, 1, None)
    return [y, *method.backward(cpu, dy, x, weight, geometry, 1, (True, True))]


def losses(method: str) -> list[float]:
    """Mean loss of each EVERY steps of training."""
    xcnn.config.convolution = method
    xcnn.manual_seed(0)
    model = NETS["vgg"].xcnn()
    trainer = xcnn.Trainer(model, optim.SGD(model.parameters(), lr=0.02, momentum=0.9))
    found = [float(trainer.train_step(*batch)[0].data) for batch in batches()]
    return [float(np.mean(found[i : i + EVERY])) for i in range(0, STEPS, EVERY)]


def batches() -> Iterator[tuple[Any, Any]]:
    dataset = data.load("cifar10", limit=STEPS * BATCH)
    loader = data.DataLoader(
        dataset.train, batch_size=BATCH, shuffle=True, transform=dataset.normalize()
    )
    yield from list(loader)[:STEPS]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--curves", action="store_true", help="train with and without Winograd")
    options = parser.parse_args()
    print(f"{'3×3, float32':<14}{'channels':>9}{'y':>10}{'dx':>10}{'dweight':>10}")
    for name in ("im2col", "mec", "winograd"):
        for channels in (16, 64, 256):
            row = "".join(f"{error:>10.1e}" for error in errors(name, channels))
            print(f"{name:<14}{channels:>9}{row}")
    if options.curves:
        print(f"loss of a VGG-like net, mean of each {EVERY} steps of {BATCH} images")
        for method in ("auto", "im2col"):
            print(f"{method:<14}" + " ".join(f"{loss:.4f}" for loss in losses(method)))


if __name__ == "__main__":
    main()
