"""How time and memory of xcnn's training step grow with the work.

The net is ``depth`` convolutions 3×3 with ReLU, all of ``channels`` channels, then a mean over
the image and a dense layer. One of its four sizes doubles, the others stay as in ``BASE``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from benchmarks import harness
from benchmarks.cpu.turns import Effort, Say

CLASSES = 10
ROUNDS, STEPS = 2, 5  # at most; a step takes up to 0.3 s


class Size(NamedTuple):
    """Of the net and its input."""

    batch: int
    channels: int
    image: int
    depth: int

    @property
    def work(self) -> int:
        """Multiply-adds of a step: output, weight gradient, and input gradient but of the first."""
        layer = self.batch * self.image**2 * self.channels**2 * 9
        return layer * (3 * self.depth - 1) + 3 * self.batch * self.channels * CLASSES


BASE = Size(batch=32, channels=16, image=32, depth=2)
LEAST = Size(batch=1, channels=1, image=4, depth=1)
AXES = {
    "batch": (32, 64, 128, 256),
    "channels": (16, 32, 64),
    "image": (16, 32, 64),
    "depth": (2, 4, 8),
}


def make_step(
    batch: int, channels: int, image: int, depth: int
) -> tuple[Callable[[], Any], dict[str, Any]]:
    """A training step, and what it runs on."""
    import numpy as np

    import xcnn
    from xcnn import nn

    rng = np.random.default_rng(0)
    x = rng.standard_normal((batch, channels, image, image), dtype=np.float32)
    y = rng.integers(0, CLASSES, batch)
    model = network(nn, Size(batch, channels, image, depth))
    optimizer = xcnn.optim.SGD(model.parameters(), lr=1e-2, momentum=0.9)

    def step() -> Any:
        optimizer.zero_grad()
        loss = xcnn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return step, harness.numpy_runs_on()


def network(nn: Any, size: Size) -> Any:
    layers: list[Any] = []
    for _ in range(size.depth):
        layers += [nn.Conv2d(size.channels, size.channels, 3, padding=1), nn.ReLU()]
    head = [nn.AvgPool2d(size.image), nn.Flatten(), nn.Linear(size.channels, CLASSES)]
    return nn.Sequential(*layers, *head)


def run(effort: Effort, say: Say) -> dict[str, Any]:
    """Measure all axes.

    Returns
    -------
    dict
        "least": peak bytes of a process that trains the least net; "axes": axis to a list of
        sizes, each with its work, seconds, bytes above the least, and their factors.
    """
    least = _compare([LEAST], Effort(1, 1, 1))[LEAST]["memory"]
    axes = {}
    for axis, values in AXES.items():
        sizes = [BASE._replace(**{axis: value}) for value in values]
        found = _compare(sizes, effort)
        axes[axis] = with_factors(
            [
                {
                    "value": getattr(size, axis),
                    "work": size.work,
                    "seconds": found[size]["seconds"],
                    "spread": found[size]["spread"],
                    "memory": found[size]["memory"] - least,
                }
                for size in sizes
            ]
        )
        times = ", ".join(f"{found[size]['seconds'] * 1e3:.1f}" for size in sizes)
        say(f"growth, {axis} {', '.join(map(str, values))}: {times} ms")
    return {"base": BASE._asdict(), "least": least, "axes": axes}


def _compare(sizes: Sequence[Size], effort: Effort) -> dict[Size, dict[str, Any]]:
    """Each size in processes of its own, which take turns."""
    found = harness.compare(
        {str(i): f"{__name__}:{make_step.__name__}" for i in range(len(sizes))},
        rounds=min(effort.rounds, ROUNDS),
        steps=min(effort.steps or STEPS, STEPS),
        warmup=2,
        processes=effort.processes,
        each={str(i): size._asdict() for i, size in enumerate(sizes)},
    )
    return {size: found[str(i)] for i, size in enumerate(sizes)}


def with_factors(points: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The points, each with what time and memory are multiplied by as the work doubles once."""
    made = []
    for before, point in zip([None, *points], points, strict=False):
        factors = {
            f"{key}_factor": before and factor(before, point, key) for key in ("seconds", "memory")
        }
        made.append({**point, **factors})
    return made


def factor(before: dict[str, Any], point: dict[str, Any], key: str) -> float | None:
    """Growth of ``key`` per doubling of the work; None where it is not positive."""
    if min(before[key], point[key]) <= 0:  # too small to tell from the least net
        return None
    doublings = math.log2(point["work"] / before["work"])
    return (point[key] / before[key]) ** (1 / doublings)
