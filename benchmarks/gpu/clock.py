"""The time of work on a GPU, by CUDA events."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Call = Callable[[], Any]

SPIN = r"""
extern "C" __global__ void spin(unsigned long long nanoseconds) {
    unsigned long long start, now;
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(start));
    do {
        asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now));
    } while (now - start < nanoseconds);
}
"""


class EventClock:
    """GPU seconds of a call.

    The GPU is first kept busy for ``hold`` seconds, in which the host queues the call's launches:
    what the host needs for that does not count.
    """

    def __init__(self, cupy: Any, hold: float = 2e-3) -> None:
        self._cuda = cupy.cuda
        self._spin = cupy.RawKernel(SPIN, "spin")
        self.hold = hold

    def __call__(self, call: Call) -> float:
        start, end = self._cuda.Event(), self._cuda.Event()
        self._spin((1,), (1,), (np.uint64(self.hold * 1e9),))
        start.record()
        call()
        end.record()
        end.synchronize()
        return self._cuda.get_elapsed_time(start, end) / 1e3


def median_seconds(
    calls: Sequence[Call], clock: Callable[[Call], float], repeats: int = 21, warmup: int = 3
) -> float:
    """Median seconds of one call, taking turns among ``calls``, each run before the clock."""
    turns = itertools.cycle(calls)
    for _ in range(max(warmup, len(calls))):
        next(turns)()
    return statistics.median(clock(next(turns)) for _ in range(repeats))
