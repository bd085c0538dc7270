"""LeNet-5 beside PyTorch: training step, peak memory, import time.

    python -m benchmarks.lenet [--json FILE]

needs PyTorch (a CPU build is enough). Prints ratios xcnn / PyTorch: below 1 is faster or smaller.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import harness

BATCHES = (64, 128)
MAKERS = {"xcnn": "benchmarks.lenet:xcnn_step", "torch": "benchmarks.lenet:torch_step"}


def batches(batch: int) -> Any:
    """An endless round of 16 random batches, made before the clock starts."""
    import numpy as np

    rng = np.random.default_rng(0)
    images = rng.standard_normal((16, batch, 1, 28, 28), dtype=np.float32)
    labels = rng.integers(0, 10, (16, batch))
    return itertools.cycle(list(zip(images, labels, strict=True)))


def xcnn_step(batch: int) -> tuple[Callable[[], Any], dict[str, Any]]:
    """One training step of xcnn."""
    import xcnn

    model = xcnn.models.create("lenet5")
    trainer = xcnn.Trainer(model, xcnn.optim.Adam(model.parameters(), lr=1e-3))
    data = batches(batch)
    return lambda: trainer.train_step(*next(data)), harness.numpy_runs_on()


def torch_step(batch: int) -> tuple[Callable[[], Any], dict[str, Any]]:
    """The same step of PyTorch, eager, as its tutorials write it."""
    import torch
    from torch import nn

    model = nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10),
    )  # fmt: skip
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    data = batches(batch)

    def step() -> None:
        images, labels = next(data)
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(
            model(torch.from_numpy(images)), torch.from_numpy(labels)
        )
        loss.backward()
        optimizer.step()

    return step, {"torch": torch.__version__, "threads": torch.get_num_threads()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", metavar="FILE", help="also write all figures to FILE")
    parser.add_argument("--processes", type=int, default=5, help="of each peer; the best counts")
    parser.add_argument("--rounds", type=int, default=10, help="turns of each process")
    parser.add_argument("--steps", type=int, default=30, help="per turn")
    options = parser.parse_args()

    report: dict[str, Any] = {"machine": harness.machine(), "steps": {}}
    print(f"{'':<26}{'xcnn':>10}{'PyTorch':>10}{'ratio':>8}")
    for batch in BATCHES:
        found = harness.compare(
            MAKERS,
            options.rounds,
            options.steps,
            warmup=30,
            processes=options.processes,
            batch=batch,
        )
        report["steps"][batch] = found
        ours, theirs = (found[name]["seconds"] * 1e3 for name in MAKERS)
        line(f"step, batch {batch}", ours, theirs, "ms")
        for name in MAKERS:
            medians = ", ".join(f"{seconds * 1e3:.1f}" for seconds in found[name]["spread"])
            print(f"  {name}: {medians} ms, the median of each process")
    memory = [found[name]["memory"] / 2**20 for name in MAKERS]
    line(f"peak memory, batch {BATCHES[-1]}", *memory, "MiB")
    report["import"] = {name: harness.import_seconds(name) for name in MAKERS}
    line("import", *(seconds * 1e3 for seconds in report["import"].values()), "ms")
    for name in MAKERS:
        report[name] = report["steps"][BATCHES[-1]][name]["runs_on"]
        print(f"{name}: {', '.join(f'{k} {v}' for k, v in report[name].items())}")
    print(", ".join(f"{k} {v}" for k, v in report["machine"].items()))
    if options.json:
        Path(options.json).write_text(json.dumps(report, indent=2) + "\n")


def line(title: str, ours: float, theirs: float, unit: str) -> None:
    print(
        f"{title:<26}{ours:>7.1f} {unit:<3}{theirs:>6.1f} {unit:<3}{ours / theirs:>7.2f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
