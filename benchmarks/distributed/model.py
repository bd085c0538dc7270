"""A model of the time of a training step on several processes with equal shares of the batch.

A step computes forward, backward and the update. Gradients are summed over the ranks in buckets, as
soon as backward has computed those of a bucket, one bucket after the other (Li et al. 2020,
"PyTorch Distributed", arXiv:2006.15704, section 3.2). A message of n bytes takes
``latency + n / bandwidth`` seconds (Hockney 1994); the costs of an all-reduce are sums of those.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

Cost = Callable[[float], float]  # seconds of an all-reduce, given the bytes on each rank


@dataclass(frozen=True)
class Link:
    """A connection that every rank has.

    Attributes
    ----------
    latency
        Seconds per message (α).
    bandwidth
        Bytes per second, in each direction (1/β).
    """

    latency: float
    bandwidth: float


def ring(ranks: int, link: Link) -> Cost:
    """Reduce-scatter and all-gather around a ring: optimal in bytes (Patarasuk and Yuan 2009)."""
    return _cost(2 * (ranks - 1), ranks, link)


def halving(ranks: int, link: Link) -> Cost:
    """Recursive halving, then doubling: as few bytes, fewer messages (Thakur et al. 2005).

    If the number of ranks is not a power of two, the ranks beyond it first give their array to
    another one, and get the sum at the end.
    """
    rounds = ranks.bit_length() - 1
    cost = _cost(2 * rounds, 1 << rounds, link)
    if ranks == 1 << rounds:
        return cost
    return lambda size: cost(size) + 2 * (link.latency + size / link.bandwidth)


def hierarchical(nodes: int, ranks: int, inside: Link, between: Cost) -> Cost:
    """Reduce-scatter within a node, all-reduce of each part among nodes, all-gather within.

    Parameters
    ----------
    ranks
        In each node.
    between
        Of an all-reduce with one rank in each node; the ranks of a node do this at the same time.
    """
    within = ring(ranks, inside)
    return lambda size: within(size) + (between(size / ranks) if nodes > 1 else 0)


def _cost(messages: int, ranks: int, link: Link) -> Cost:
    sent = 2 * (ranks - 1) / ranks  # arrays
    return lambda size: messages * link.latency + sent * size / link.bandwidth


class Piece(NamedTuple):
    """A part of forward or backward.

    Attributes
    ----------
    seconds
        Of computation.
    bytes
        Of the gradient that is ready at its end.
    synced
        Bytes of statistics that all ranks must sum before, as ``SyncBatchNorm`` does.
    """

    seconds: float
    bytes: int = 0
    synced: int = 0


class Step(NamedTuple):
    """What one rank computes in a step: forward and backward in order, then the update."""

    pieces: Sequence[Piece]
    update: float = 0.0

    @property
    def compute(self) -> float:
        """Seconds of a step that waits for nobody."""
        return sum(piece.seconds for piece in self.pieces) + self.update


class Times(NamedTuple):
    """Seconds of a step, and of the all-reduces of gradients in it."""

    step: float
    communication: float


def simulate(
    step: Step, cost: Cost, bucket: float, overlap: bool = True, taken: float = 0.0
) -> Times:
    """The time of a step with all-reduces of buckets.

    Parameters
    ----------
    bucket
        A bucket is sent when it has at least so many bytes, and the last one after backward.
    overlap
        Whether buckets are sent during backward; otherwise after it.
    taken
        The share of its processor that communication takes away from computation: 0 if the network
        does it alone, 1 for a single thread that does both.
    """
    now, free = 0.0, 0.0  # when the computation gets here, and when the network is free
    total, waiting = 0.0, 0  # seconds of communication; bytes to send
    for number, piece in enumerate(step.pieces, 1):
        if piece.synced:
            now = free = max(now, free) + cost(piece.synced)
        now = _advance(now, piece.seconds, free, 1 - taken)
        waiting += piece.bytes
        if waiting and (waiting >= bucket or number == len(step.pieces)):
            seconds = cost(waiting)
            total, waiting = total + seconds, 0
            if overlap:
                free = max(now, free) + seconds
    return Times((max(now, free) if overlap else now + total) + step.update, total)


def _advance(now: float, work: float, free: float, rate: float) -> float:
    """When ``work`` is done that starts now and progresses at ``rate`` until ``free``."""
    slow = max(0.0, free - now)
    return now + work / rate if work < slow * rate else now + slow * (1 - rate) + work


def slowest(ranks: int, spread: float) -> float:
    """The expected time of the slowest rank, relative to the mean.

    Parameters
    ----------
    spread
        Standard deviation of a rank's time, relative to the mean. The expected maximum of
        ``ranks`` normal numbers is approximated as in Blom 1958.
    """
    if ranks == 1:
        return 1.0
    return 1 + spread * NormalDist().inv_cdf((ranks - 0.375) / (ranks + 0.25))


def fit(sizes: Sequence[float], seconds: Sequence[float]) -> tuple[float, float]:
    """The α and β of ``seconds ≈ α + β·size``, with the least sum of squared relative errors."""
    slope, start = np.polyfit(sizes, seconds, 1, w=1 / np.array(seconds))
    return float(start), float(slope)
