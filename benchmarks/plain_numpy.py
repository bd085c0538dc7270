"""A training step of LeNet-5 beside another library of plain NumPy: PyDyNet.

    python -m benchmarks.plain_numpy [--batch N] [--processes N]

Each a process of its own, in turns, float32, Adam, fresh random images. PyDyNet (``pip install
pydynet``) is the one found that installs and trains a CNN on NumPy 2.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import itertools
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks import harness

Made = tuple[Callable[[], Any], dict[str, Any]]  # a step, and what it runs on


def xcnn_step(batch: int) -> Made:
    """A step of the library's LeNet-5."""
    import xcnn

    model = xcnn.models.create("lenet5")
    optimizer = xcnn.optim.Adam(model.parameters(), lr=1e-3)
    data = _batches(batch)

    def step() -> Any:
        x, y = next(data)
        optimizer.zero_grad()
        loss = xcnn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step, {"xcnn": xcnn.__version__, **harness.numpy_runs_on()}


def pydynet_step(batch: int) -> Made:
    """The same network and step in PyDyNet."""
    import pydynet
    from pydynet import nn, optim
    from pydynet.nn import functional as F

    class LeNet5(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(1, 6, 5, padding=2, dtype=np.float32)
            self.conv2 = nn.Conv2d(6, 16, 5, dtype=np.float32)
            self.pool = nn.MaxPool2d(2, 2, 0)
            self.fc1 = nn.Linear(400, 120, dtype=np.float32)
            self.fc2 = nn.Linear(120, 84, dtype=np.float32)
            self.fc3 = nn.Linear(84, 10, dtype=np.float32)

        def forward(self, x: Any) -> Any:
            x = self.pool(F.relu(self.conv1(x)))
            x = self.pool(F.relu(self.conv2(x))).reshape(batch, 400)
            return self.fc3(F.relu(self.fc2(F.relu(self.fc1(x)))))

    model = LeNet5()
    optimizer = optim.Adam(model.parameters(), lr=1e-3)
    data = _batches(batch)

    def step() -> Any:
        x, y = next(data)
        logits = model(pydynet.Tensor(x, dtype=np.float32))
        loss = F.cross_entropy_loss(logits, pydynet.Tensor(y, dtype=int))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step, {"pydynet": importlib.metadata.version("pydynet"), **harness.numpy_runs_on()}


def _batches(batch: int) -> Any:
    rng = np.random.default_rng(0)
    images = rng.standard_normal((4, batch, 1, 28, 28), dtype=np.float32)
    return itertools.cycle(list(zip(images, rng.integers(0, 10, (4, batch)), strict=True)))


def main(arguments: list[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--batch", type=int, default=128, help="images of a step (128)")
    parser.add_argument("--processes", type=int, default=2, help="processes of each peer (2)")
    options = parser.parse_args(arguments)
    if importlib.util.find_spec("pydynet") is None:
        print("PyDyNet is not installed: pip install pydynet", file=sys.stderr)
        return 2
    makers = {
        "xcnn": "benchmarks.plain_numpy:xcnn_step",
        "pydynet": "benchmarks.plain_numpy:pydynet_step",
    }
    found = harness.compare(makers, 5, 5, 3, options.processes, batch=options.batch)
    ours, theirs = found["xcnn"], found["pydynet"]
    for name, result in found.items():
        print(f"{name:8} {1e3 * result['seconds']:8.1f} ms {result['memory'] / 2**20:8.0f} MiB")
    seconds, memory = ours["seconds"] / theirs["seconds"], ours["memory"] / theirs["memory"]
    print(f"ratio    {seconds:8.2f}    {memory:8.2f}     training step, batch {options.batch}")
    print(", ".join(f"{k} {v}" for k, v in {**theirs["runs_on"], **ours["runs_on"]}.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
