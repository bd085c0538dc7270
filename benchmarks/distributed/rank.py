"""A process of ``python -m benchmarks distributed``: times steps and prints the figures as JSON.

Started as ``python -m benchmarks.distributed.rank MESSAGE``, on several ranks with ``mpiexec``.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import cases, nets
from benchmarks.distributed.model import Link, ring
from benchmarks.machine import numpy_runs_on
from xcnn import Trainer, communicator, models, nn, optim
from xcnn.arrays import Array
from xcnn.communicator import SINGLE, Communicator, Work

SLOW = Link(latency=50e-6, bandwidth=125e6)  # 1 Gbit/s
REPEATS, WARM_UP = 30, 3
FAST = 0.1  # the quantile that counts: other processes may take the processor meanwhile


def wide() -> Any:
    """The VGG-like net with a linear layer of 1,024 units before the last: 2.4 million weights."""
    *layers, last = nets.vgg(nn)
    return nn.Sequential(*layers, nn.Linear(last.in_features, 1024), nn.ReLU(), nn.Linear(1024, 10))


NETWORKS: dict[str, tuple[str, tuple[int, int, int], int, Callable[[], Any]]] = {
    "lenet": ("LeNet-5", cases.LENET.image, 128, lambda: nets.lenet5(nn)),
    "resnet20": ("ResNet-20", cases.RESNET20.image, 16, models.resnet20),
    "wide": ("VGG-like net, 2.4 M weights", cases.VGG.image, 16, wide),
}


class Later(Work):
    """Work that is done while it is waited for."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self.wait = work  # type: ignore[method-assign]


class Watched(Communicator):
    """Another communicator, whose started all-reduces are logged and may be treated otherwise.

    Attributes
    ----------
    way
        "overlap": they run while backward goes on; "after": when they are waited for; "none": not
        at all; "slow": no faster than over ``SLOW``.
    log
        When each was started, in ``time.perf_counter`` seconds, and its bytes.
    """

    def __init__(self, inner: Communicator) -> None:
        self._inner, self._slow = inner, ring(inner.size, SLOW)
        self.engine, self.rank, self.size = inner.engine, inner.rank, inner.size
        self.local_rank, self.local_size = inner.local_rank, inner.local_size
        for name in ("all_reduce", "broadcast", "gather", "share", "barrier"):
            setattr(self, name, getattr(inner, name))
        self.way, self.log = "overlap", list[tuple[float, int]]()
        self._free = 0.0  # when the slow network is

    def start_all_reduce(self, array: Array) -> Work:
        now = time.perf_counter()
        self.log.append((now, array.nbytes))
        if self.way == "none":
            return Work()
        if self.way == "after":
            return Later(lambda: self._inner.all_reduce(array))
        if self.way == "slow":
            end = self._free = max(now, self._free) + self._slow(array.nbytes)
            return Later(lambda: self._sleep(end, array))
        return self._inner.start_all_reduce(array)

    def _sleep(self, end: float, array: Array) -> None:
        time.sleep(max(0.0, end - time.perf_counter()))
        self._inner.all_reduce(array)


class Network:
    """A network that is trained, alone or with the other ranks."""

    def __init__(self, name: str, device: str, is_distributed: bool) -> None:
        _, self.image, _, build = NETWORKS[name]
        self.model = build().to(device)
        optimizer = optim.SGD(self.model.parameters(), lr=1e-2, momentum=0.9)
        settings = {"distributed": True} if is_distributed else {}
        self.trainer = Trainer(self.model, optimizer, **settings)
        self.trainer.model.train()
        self.rng = np.random.default_rng(0)

    def step(self, batch: int) -> Callable[[], Any]:
        """A step with ``batch`` images."""
        backend = self.model.backend
        images = self.rng.standard_normal((batch, *self.image), dtype=np.float32)
        labels = self.rng.integers(0, 10, batch)
        x, y = backend.asarray(images), backend.asarray(labels)
        return lambda: (self.trainer.train_step(x, y, labels), backend.synchronize())


Block = tuple[str, str, float]  # title, way, images of each rank relative to the batch


def steps(name: str, blocks: Sequence[Block], device: str, watched: Watched, seconds: float) -> Any:
    """By title, seconds of a fast step, which ends on the slowest rank, and what was sent in it.

    The blocks take turns, step by step; all ranks start a step together.
    """
    built = {b: Network(name, device, b) for b in {way != "alone" for _, way, _ in blocks}}
    batch, calls = NETWORKS[name][2], {}
    for title, way, share in blocks:
        calls[title] = way, built[way != "alone"].step(round(batch * share))

    def turn() -> dict[str, tuple[float, list[float], list[int], int]]:
        """Of each block: seconds, when each all-reduce started, its bytes, bytes on the wire."""
        found = {}
        for title, (watched.way, step) in calls.items():
            watched.log.clear()
            watched.barrier()
            before, start = loopback(), time.perf_counter()
            step()
            seconds = time.perf_counter() - start
            watched.barrier()
            ready, sizes = ([when - start for when, _ in watched.log], [n for _, n in watched.log])
            found[title] = seconds, ready, sizes, loopback() - before
        return found

    for _ in range(WARM_UP):
        turn()
    start = time.perf_counter()
    turn()
    count = max(watched.gather(max(2, round(seconds / (time.perf_counter() - start)))))
    turns, figures = [turn() for _ in range(count)], {}
    for title in calls:
        times, ready, sizes, wire = zip(*(t[title] for t in turns), strict=True)
        last = np.max(watched.gather(np.array(ready)), axis=0)  # of all ranks
        figures[title] = {
            "seconds": float(np.quantile(np.max(watched.gather(np.array(times)), axis=0), FAST)),
            "ready": np.quantile(last, FAST, axis=0).tolist(),
            "bytes": sizes[-1],
            "wire": float(np.quantile(wire, FAST)) / watched.size,
        }
    parameters = next(iter(built.values())).model.parameters()
    return {**figures, "steps": count, "gradients": 4 * cases.count(parameters)}


def loopback() -> int:
    """Bytes that were sent to this machine itself, by all processes; 0 if nobody counts them."""
    table = Path("/proc/net/dev")
    lines = table.read_text().splitlines() if table.exists() else []
    return sum(
        int(line.split(":")[1].split()[8]) for line in lines if line.strip().startswith("lo:")
    )


def all_reduces(inner: Communicator, device: str, sizes: Sequence[int]) -> list[float]:
    """Seconds of a fast all-reduce of each number of bytes."""
    from xcnn import backends

    backend, found = backends.get(device), []
    for size in sizes:
        array, times = backend.asarray(np.ones(size // 4, np.float32)), []
        for _ in range(WARM_UP + REPEATS):
            array.fill(1)
            inner.barrier()
            backend.synchronize()
            start = time.perf_counter()
            inner.all_reduce(array)
            backend.synchronize()
            times.append(time.perf_counter() - start)
        slowest = np.max(inner.gather(np.array(times[WARM_UP:])), axis=0)
        found.append(float(np.quantile(slowest, FAST)))
    return found


def measure(message: dict[str, Any]) -> dict[str, Any]:
    """The figures of one turn.

    Parameters
    ----------
    message
        "engine": None for a single process; "networks"; "blocks"; "sizes" of all-reduces;
        "seconds" for each network.
    """
    engine, device = message["engine"], "cuda" if message["device"] == "cuda" else "cpu"
    inner = SINGLE
    if engine:
        from xcnn.distributed import init

        inner = init(engine=engine)
    watched = Watched(inner)
    communicator.set_current(watched)
    found: dict[str, Any] = {"runs_on": {**numpy_runs_on(), "engine": inner.engine}}
    found["sizes"] = all_reduces(inner, device, message["sizes"])
    for name in message["networks"]:
        found[name] = steps(name, message["blocks"], device, watched, message["seconds"])
    return found if inner.is_main else {}


if __name__ == "__main__":
    if figures := measure(json.loads(sys.argv[1])):
        print(json.dumps(figures))
