"""The same training twice on the GPU: are all parameters equal, bit by bit?"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

import xcnn
from benchmarks.gpu.outcome import Deadline

STEPS, BATCH = 30, 64


def run(deadline: Deadline, save: Callable[[dict], None]) -> None:
    first, second = train("cuda", STEPS, BATCH), train("cuda", STEPS, BATCH)
    save({"steps": STEPS, **compare(first, second)})


def train(device: str, steps: int, batch: int) -> dict[str, np.ndarray]:
    """LeNet-5's parameters after some steps from a fixed seed."""
    xcnn.manual_seed(0)
    backend = xcnn.backends.get(device)
    model = xcnn.models.create("lenet5").to(backend)
    trainer = xcnn.Trainer(model, xcnn.optim.Adam(model.parameters(), lr=1e-3))
    rng = np.random.default_rng(0)
    for _ in range(steps):
        images = rng.standard_normal((batch, 1, 28, 28), dtype=np.float32)
        trainer.train_step(images, rng.integers(0, 10, batch))
    return {name: backend.to_host(p.data) for name, p in model.named_parameters()}


def compare(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> dict:
    """How many parameter arrays differ in a bit, and their names."""
    differing = [name for name in first if first[name].tobytes() != second[name].tobytes()]
    return {"parameters": len(first), "equal": not differing, "differing": differing}
