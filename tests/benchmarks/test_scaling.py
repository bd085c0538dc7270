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


STEP = Step(10, [Piece(4, 3), Piece(5, 2), Piece(6, 7)], 2)  # computes for 27 ticks


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
    clock = step.forward + sum(cost(p.synced) for p in step.backward if p.synced)
    sending, queue, waiting, spent = 0, [], 0, 0
    todo = [list(item) for p in step.backward for item in (("sync", p.synced), ("work", p))]
    left = {id(p): p.seconds for p in step.backward}
    last = step.backward[-1]
    while todo or queue or sending:
        kind, item = todo[0] if todo else ("end", None)
        if kind == "sync":
            if item and (queue or sending):
                pass  # statistics are summed after the buckets before them
            elif item:
                clock += cost(item)
                todo.pop(0)
                continue
            else:
                todo.pop(0)
                continue
        if kind == "work" and left[id(item)] == 0 and not (taken and (sending or queue)):
            todo.pop(0)
            waiting += item.bytes
            if waiting and (waiting >= bucket or item is last):
                queue.append(cost(waiting))
                spent, waiting = spent + cost(waiting), 0
            continue
        if not sending and queue and (overlap or not todo):
            sending = queue.pop(0)
            continue
        if kind == "work" and not (taken and sending):
            left[id(item)] -= 1
        sending = max(0, sending - 1)
        clock += 1
    return clock + step.update, spent


@given(PIECES, TICKS, TICKS, st.integers(1, 12), st.sampled_from([0, 1]))
def test_against_a_clock_that_ticks(pieces, forward, update, bucket, taken):
    pieces = [Piece(p.seconds, p.bytes, p.synced) for p in pieces]  # different objects
    step = Step(forward, pieces, update)
    assert model.simulate(step, cost, bucket, True, taken) == ticking(step, bucket, True, taken)


@given(PIECES, TICKS, TICKS, st.integers(1, 12))
def test_communication_after_backward(pieces, forward, update, bucket):
    """Without statistics, which go first, it adds its whole time."""
    pieces = [Piece(p.seconds, p.bytes) for p in pieces]
    step = Step(forward, pieces, update)
    assert model.simulate(step, cost, bucket, False) == ticking(step, bucket, False, 0)


def test_the_slowest_rank():
    """The mean of the maximum of normal numbers, drawn."""
    drawn = np.random.default_rng(0).standard_normal((20_000, 64)).max(axis=1).mean()
    assert model.slowest(64, 0.1) == pytest.approx(1 + 0.1 * drawn, abs=5e-3)
    assert model.slowest(1, 0.1) == model.slowest(100, 0) == 1
    assert STEP.scaled(2).compute == 54
