"""ResNet-20 on CIFAR-10 images beside PyTorch: the same weights, the same batches, the same recipe.

    python -m benchmarks.curves [--epochs 3] [--seed 0] [--limit N] [--json FILE]

SGD with momentum 0.9, weight decay 1e-4, a one-cycle rate up to 0.1, batches of 128 images in
the same order, flipped and shifted alike. Both networks start from the weights that xcnn draws.
Prints the mean loss of every 20 steps and the test accuracy after each epoch. CIFAR-10 is found as
by ``xcnn train`` (``$XCNN_DATA``); float32 rounding makes the curves part slowly, as any two runs'.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import xcnn
from xcnn import data, optim
from xcnn import functional as F

BATCH, EVERY, PEAK = 128, 20, 0.1
SETTINGS = {"lr": PEAK, "momentum": 0.9, "weight_decay": 1e-4}


class Images:
    """Standardised images, the same augmented batches for both peers."""

    def __init__(self, limit: int | None = None) -> None:
        found = data.load("cifar10", limit=limit)
        normalize = found.normalize()
        self.train, self.test = (
            [np.ascontiguousarray(normalize(part.arrays[0])), part.arrays[1]]
            for part in (found.train, found.test)
        )

    def epoch(self, rng: np.random.Generator) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Shuffled batches, each flipped with probability 1/2 and shifted by up to 4 pixels."""
        x, y = self.train
        order = rng.permutation(len(x))
        for start in range(0, len(x) - BATCH + 1, BATCH):
            chosen = order[start : start + BATCH]
            yield augmented(x[chosen], rng), y[chosen].astype(np.int64)

    def steps(self) -> int:
        """Of an epoch."""
        return len(self.train[0]) // BATCH


def augmented(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A batch (N, 3, 32, 32), flipped and shifted as a whole: quick, and the same for both."""
    if rng.random() < 0.5:
        x = x[..., ::-1]
    down, right = rng.integers(0, 9, 2)
    padded = np.pad(x, ((0, 0), (0, 0), (4, 4), (4, 4)))
    return np.ascontiguousarray(padded[..., down : down + 32, right : right + 32])


def rate(step: int, steps: int) -> float:
    """One cycle: up for 30 % of the steps, then down to zero, both along a cosine."""
    up = 0.3 * steps
    share = step / up if step < up else 1 - (step - up) / (steps - up)
    return PEAK * (1 - math.cos(math.pi * share)) / 2


class Ours:
    """xcnn's network and optimiser."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.optimizer = optim.SGD(model.parameters(), **SETTINGS)

    def step(self, x: np.ndarray, y: np.ndarray, lr: float) -> float:
        self.optimizer.lr = lr
        self.optimizer.zero_grad()
        loss = F.cross_entropy(self.model.train()(x), y)
        loss.backward()
        self.optimizer.step()
        return float(loss.item())

    def classes(self, x: np.ndarray) -> np.ndarray:
        with xcnn.nn.evaluating(self.model):
            return self.model(x).numpy().argmax(axis=1)


class Theirs:
    """PyTorch's, from the same weights."""

    def __init__(self, weights: dict[str, np.ndarray]) -> None:
        import torch

        from benchmarks.cpu.resnet import torch_resnet20

        self.torch, self.model = torch, torch_resnet20()
        self.model.load_state_dict({k: torch.from_numpy(a.copy()) for k, a in weights.items()})
        self.optimizer = torch.optim.SGD(self.model.parameters(), **SETTINGS)

    def step(self, x: np.ndarray, y: np.ndarray, lr: float) -> float:
        self.optimizer.param_groups[0]["lr"] = lr
        self.optimizer.zero_grad()
        logits = self.model.train()(self.torch.from_numpy(x))
        loss = self.torch.nn.functional.cross_entropy(logits, self.torch.from_numpy(y))
        loss.backward()
        self.optimizer.step()
        return float(loss.item())

    def classes(self, x: np.ndarray) -> np.ndarray:
        with self.torch.no_grad():
            return self.model.eval()(self.torch.from_numpy(x)).argmax(dim=1).numpy()


def peers(seed: int) -> dict[str, Any]:
    """Both networks, with the same weights."""
    xcnn.manual_seed(seed)
    model = xcnn.models.create("resnet20")
    return {"xcnn": Ours(model), "torch": Theirs(model.state_dict())}


def accuracy(peer: Any, x: np.ndarray, y: np.ndarray) -> float:
    """Share of right classes."""
    found = [peer.classes(np.ascontiguousarray(x[i : i + 500])) for i in range(0, len(x), 500)]
    return float((np.concatenate(found) == y).mean())


def train(name: str, peer: Any, images: Images, epochs: int, seed: int) -> dict[str, Any]:
    """Losses of all steps, accuracies of all epochs, and the seconds of the steps."""
    rng, steps = np.random.default_rng(seed), epochs * images.steps()
    losses: list[float] = []
    accuracies, seconds = [], 0.0
    for _ in range(epochs):
        for x, y in images.epoch(rng):
            start = time.perf_counter()
            losses.append(peer.step(x, y, rate(len(losses), steps)))
            seconds += time.perf_counter() - start
        accuracies.append(accuracy(peer, *images.test))
        print(f"{name:6} test accuracy {accuracies[-1]:.4f}", flush=True)
    return {"losses": losses, "accuracies": accuracies, "seconds": seconds}


def main(arguments: list[str] | None = None) -> int:
    """Train both, print the curves."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=int, help="take the first N training images only")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all losses to FILE")
    options = parser.parse_args(arguments)
    images = Images(options.limit)
    found = {  # one after the other: two pools of threads in one process would hinder each other
        name: train(name, peer, images, options.epochs, options.seed)
        for name, peer in peers(options.seed).items()
    }
    for name, run in found.items():
        losses = run["losses"]
        means = [np.mean(losses[i : i + EVERY]) for i in range(0, len(losses), EVERY)]
        print(f"{name:6} loss {' '.join(f'{mean:.3f}' for mean in means)}")
        print(f"{name:6} {run['seconds']:.1f} s for {len(losses)} steps")
    if options.json:
        options.json.write_text(json.dumps(found) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
