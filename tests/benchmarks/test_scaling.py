"""The model of step times on several processes, against closed forms and a clock that ticks."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.distributed import model
from benchmarks.distributed.model import Link, Piece, Step

LINK = Link(latency=5e-6, bandwidth=2e9)
TICKS = st.integers(0, 6)
PIECES = st.lists(st.builds(Piece, TICKS, TICKS, TICKS), min_size=1, max_size=8)


def cost(size):
    """A network on which an all-reduce takes 2 ticks, and one for each byte."""
    return 2 + size


# -- all-reduces -----------------------------------------------------------------------------


@pytest.mark.parametrize("ranks", [2, 4, 8, 64])
def test_costs_of_an_all_reduce(ranks):
    n, messages = 1e6, {"ring": 2 * (ranks - 1), "halving": 2 * math.log2(ranks)}
    for name, count in messages.items():
        expected = count * 5e-6 + 2 * (ranks - 1) / ranks * n / 2e9
        assert getattr(model, name)(ranks, LINK)(n) == pytest.approx(expected, rel=1e-12)


def test_one_rank_sends_nothing_and_an_odd_one_gives_its_array_away():
    assert model.ring(1, LINK)(1e6) == model.halving(1, LINK)(1e6) == 0
    odd = model.halving(4, LINK)(1e6) + 2 * (5e-6 + 1e6 / 2e9)
    assert model.halving(5, LINK)(1e6) == pytest.approx(odd, rel=1e-12)


def test_an_all_reduce_of_nodes():
    """8 ranks on 3 nodes: 7/8 of the array twice within, 2/3 of an eighth twice between."""
    fast, slow = Link(1e-6, 1e11), Link(1e-5, 1e10)
    seconds = model.hierarchical(3, 8, fast, model.ring(3, slow))(8e6)
    expected = 14e-6 + 2 * 7 / 8 * 8e6 / 1e11 + 4e-5 + 2 * 2 / 3 * 1e6 / 1e10
    assert seconds == pytest.approx(expected, rel=1e-12)
    assert model.hierarchical(1, 8, fast, model.ring(1, slow))(8e6) == model.ring(8, fast)(8e6)


def test_latency_and_bandwidth_are_found_again():
    sizes = 4.0 ** np.arange(1, 12)
    start, slope = model.fit(sizes, 3e-5 + 2e-9 * sizes)
    assert (start, slope) == (pytest.approx(3e-5), pytest.approx(2e-9))


# -- steps -------------------------------------------------------------------------------------


STEP = Step([Piece(10), Piece(4, 3), Piece(5, 2), Piece(6, 7)], 2)  # computes for 27 ticks


def test_closed_forms():
    at_once, each = math.inf, 1  # bytes of a bucket
    one_rank = model.ring(1, LINK)
    assert model.simulate(STEP, one_rank, each) == (27, 0)
    assert model.simulate(STEP, cost, each, overlap=False) == (27 + 5 + 4 + 9, 18)
    assert model.simulate(STEP, cost, at_once) == (27 + 14, 14)
    assert model.simulate(STEP, cost, each) == (27 + 9, 18)  # only the last bucket is not hidden
    assert model.simulate(STEP, cost, each, taken=1) == (27 + 18, 18)  # one thread does both
    assert model.simulate(STEP, lambda size: 100, each) == (10 + 4 + 300 + 2, 300)
    assert model.hidden(model.simulate(STEP, cost, each), STEP.compute) == 0.5
    assert model.hidden(model.simulate(STEP, one_rank, each), STEP.compute) == 1


def ticking(step, bucket, overlap, taken):
    """The same as ``simulate``, tick by tick: what is to compute, to send, and to wait for."""
    clock = sending = waiting = spent = 0
    queue, todo = [], []
    for p in step.pieces:
        todo += [("sync", p.synced)] * bool(p.synced)
        todo += [("work", 1)] * p.seconds + [("ready", p.bytes)]
    left = len(step.pieces)
    while todo or queue or sending:
        kind, size = todo[0] if todo else ("end", 0)
        is_sending = bool(sending or queue) and (overlap or not todo)
        if kind == "sync" and not is_sending:  # else after the buckets before it
            clock += cost(size)
            del todo[0]
            continue
        if kind == "ready" and not (taken and is_sending):
            del todo[0]
            left, waiting = left - 1, waiting + size
            if waiting and (waiting >= bucket or not left):
                queue.append(cost(waiting))
                spent, waiting = spent + cost(waiting), 0
            continue
        if is_sending and not sending:
            sending = queue.pop(0)
        if kind == "work" and not (taken and sending):
            del todo[0]
        sending = max(0, sending - 1)
        clock += 1
    return clock + step.update, spent


@given(PIECES, TICKS, st.integers(1, 12), st.sampled_from([0, 1]), st.booleans())
def test_against_a_clock_that_ticks(pieces, update, bucket, taken, overlap):
    step, taken = Step(pieces, update), taken * overlap
    expected = ticking(step, bucket, overlap, taken)
    assert model.simulate(step, cost, bucket, overlap, taken) == expected


def test_the_slowest_rank():
    """The mean of the maximum of normal numbers, drawn."""
    drawn = np.random.default_rng(0).standard_normal((20_000, 64)).max(axis=1).mean()
    assert model.slowest(64, 0.1) == pytest.approx(1 + 0.1 * drawn, abs=5e-3)
    assert model.slowest(1, 0.1) == model.slowest(100, 0) == 1
