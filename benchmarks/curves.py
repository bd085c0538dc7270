"""ResNet-20 on CIFAR-10, compared with PyTorch: the same weights, batches and recipe.

SGD with momentum 0.9, weight decay 1e-4, a one-cycle learning rate up to 0.1, batches of 128 images
in the same order with the same flips and shifts. Both networks start from xcnn's initial weights.
``python -m benchmarks curves`` prints the mean loss of every 20 steps and the test accuracy after
each epoch. CIFAR-10 is searched for as in ``xcnn train`` (``$XCNN_DATA``). The curves slowly
diverge because float32 rounding differs.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import xcnn
from benchmarks import peers
from xcnn import data

BATCH, EVERY, PEAK = 128, 20, 0.1


class Images:
    """Normalised images, in the same augmented batches for both libraries."""

    def __init__(self, limit: int | None = None) -> None:
        dataset = data.load("cifar10", limit=limit)
        normalize = dataset.normalize()
        self.train, self.test = (
            (np.ascontiguousarray(normalize(split.arrays[0])), split.arrays[1].astype(np.int64))
            for split in (dataset.train, dataset.test)
        )

    def epoch(self, rng: np.random.Generator) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Shuffled batches, each flipped with probability 1/2 and shifted by up to 4 pixels."""
        x, y = self.train
        order = rng.permutation(len(x))
        for start in range(0, self.steps() * BATCH, BATCH):
            indices = order[start : start + BATCH]
            yield augmented(x[indices], rng), y[indices]

    def steps(self) -> int:
        """Steps per epoch."""
        return len(self.train[0]) // BATCH


def augmented(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A batch (N, 3, 32, 32), flipped and shifted as a whole."""
    if rng.random() < 0.5:
        x = x[..., ::-1]
    down, right = rng.integers(0, 9, 2)
    padded = np.pad(x, ((0, 0), (0, 0), (4, 4), (4, 4)))
    return np.ascontiguousarray(padded[..., down : down + 32, right : right + 32])


def rate(step: int, steps: int) -> float:
    """One cycle: rises for 30 % of the steps, then falls to zero, both along a cosine."""
    up = 0.3 * steps
    fraction = step / up if step < up else 1 - (step - up) / (steps - up)
    return PEAK * (1 - math.cos(math.pi * fraction)) / 2


class Learner:
    """ResNet-20 and its optimiser in one library."""

    def __init__(self, peer: Any, weights: dict[str, np.ndarray] | None = None) -> None:
        self._peer, self.model = peer, peer.model("resnet20")
        if weights:
            self.model.load_state_dict({k: peer.user(a.copy()) for k, a in weights.items()})
        settings = {"lr": PEAK, "momentum": 0.9, "weight_decay": 1e-4}
        self._optimizer = peer.optim.SGD(self.model.parameters(), **settings)

    def step(self, x: np.ndarray, y: np.ndarray, lr: float) -> float:
        self.model.train()
        self._optimizer.param_groups[0]["lr"] = lr
        batch = iter([(self._peer.user(x), self._peer.user(y))])
        return peers.plain_step(self._peer, self.model, self._optimizer, batch)().item()

    def accuracy(self, x: np.ndarray, y: np.ndarray) -> float:
        """Fraction of images classified correctly."""
        self.model.eval()
        with self._peer.no_grad():
            outputs = [self.model(self._peer.user(x[i : i + 500])) for i in range(0, len(x), 500)]
        classes = np.concatenate([self._peer.host(output).argmax(axis=1) for output in outputs])
        return float((classes == y).mean())


def learners(seed: int) -> dict[str, Learner]:
    """Both networks, with the same initial weights."""
    peer = peers.Xcnn()
    xcnn.manual_seed(seed)
    first = Learner(peer)
    return {"xcnn": first, "torch": Learner(peers.Torch(), first.model.state_dict())}


def train(name: str, learner: Learner, images: Images, epochs: int, seed: int) -> dict[str, Any]:
    """The loss of each step, the test accuracy of each epoch, and the total time of the steps."""
    rng, steps = np.random.default_rng(seed), epochs * images.steps()
    losses: list[float] = []
    accuracies, seconds = [], 0.0
    for _ in range(epochs):
        for x, y in images.epoch(rng):
            start = time.perf_counter()
            losses.append(learner.step(x, y, rate(len(losses), steps)))
            seconds += time.perf_counter() - start
        accuracies.append(learner.accuracy(*images.test))
        print(f"{name:6} test accuracy {accuracies[-1]:.4f}", flush=True)
    return {"losses": losses, "accuracies": accuracies, "seconds": seconds}


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=int, help="use only the first N training images")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all losses to FILE")


def main(options: argparse.Namespace) -> int:
    """Train one after the other, as their thread pools would compete, and print the curves."""
    images = Images(options.limit)
    runs = {
        name: train(name, learner, images, options.epochs, options.seed)
        for name, learner in learners(options.seed).items()
    }
    for name, run in runs.items():
        losses = run["losses"]
        means = [np.mean(losses[i : i + EVERY]) for i in range(0, len(losses), EVERY)]
        print(f"{name:6} loss {' '.join(f'{mean:.3f}' for mean in means)}")
        print(f"{name:6} {run['seconds']:.1f} s for {len(losses)} steps")
    if options.json:
        options.json.write_text(json.dumps(runs) + "\n")
    return 0
