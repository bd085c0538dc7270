"""GPU time, measured with CUDA events."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from benchmarks.outcome import Failed

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


class Clock(NamedTuple):
    """Times a call with the CUDA events of one library."""

    event: Callable[[], Any]
    spin: Callable[[float], Any]  # keeps the GPU busy for a number of seconds
    is_done: Callable[[Any], bool]
    milliseconds: Callable[[Any, Any], float]

    def __call__(self, call: Call, hold: float = 2e-3) -> float | None:
        """GPU seconds of a call.

        The GPU is kept busy for ``hold`` seconds while the host queues the call, so that host time
        is not counted. None if queueing took longer, for instance because CUDA's queue was full
        (about 1,000 launches): the call is host-bound.
        """
        start, end = self.event(), self.event()
        self.spin(hold)
        start.record()
        call()
        end.record()
        is_late = self.is_done(start)
        end.synchronize()
        return None if is_late else self.milliseconds(start, end) / 1e3


def of_cupy(cupy: Any) -> Clock:
    spin = cupy.RawKernel(SPIN, "spin")
    return Clock(
        cupy.cuda.Event,
        lambda seconds: spin((1,), (1,), (np.uint64(seconds * 1e9),)),
        lambda event: event.done,
        cupy.cuda.get_elapsed_time,
    )


def of_torch(torch: Any) -> Clock:
    return Clock(
        partial(torch.cuda.Event, enable_timing=True),
        lambda seconds: torch.cuda._sleep(int(seconds * 2e9)),  # in cycles
        lambda event: event.query(),
        lambda start, end: start.elapsed_time(end),
    )


def median_seconds(
    calls: Sequence[Call], clock: Callable[[Call], float | None], repeats: int = 21, warmup: int = 3
) -> float:
    """Median seconds of one call, alternating between ``calls`` after a warm-up of each."""
    turns = itertools.cycle(calls)
    for _ in range(max(warmup, len(calls))):
        next(turns)()
    times = [clock(next(turns)) for _ in range(repeats)]
    known = [seconds for seconds in times if seconds is not None]
    if not known:
        raise Failed("host-bound: the GPU finishes before the host has queued the call")
    return statistics.median(known)
