"""The model of step times on several processes, what is measured beside it, and docs/scaling.md."""

import json
import math
import re
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import ROOT
from benchmarks.__main__ import main
from benchmarks.distributed import measure, model, plan, rank
from benchmarks.distributed.model import Link, Piece, Step
from xcnn.communicator import SINGLE, Communicator

STORED = ROOT / "benchmarks/results/distributed.json"
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


# -- ResNet-50 on paper ------------------------------------------------------------------------


def test_resnet50():
    """25.56 million parameters (torchvision), 4.09 billion multiply-adds, 53 batch norms."""
    products, parameters, channels = zip(*plan.layers(), strict=True)
    assert sum(parameters) == 25_557_032
    assert sum(products) == pytest.approx(4.09e9, rel=1e-2)
    assert sum(c > 0 for c in channels) == 53
    setting = plan.Setting(8, 2048)
    step = plan.step(setting)
    assert step.compute == pytest.approx(256 / 2470)
    assert sum(piece.bytes for piece in step.pieces) == 4 * 25_557_032
    assert sum(piece.seconds for piece in step.pieces if piece.bytes) > 2 / 3 * 0.9 * step.compute
    synced = plan.step(setting._replace(synced=True))
    assert sum(piece.synced > 0 for piece in synced.pieces) == 2 * 53 + plan.VOTES


def test_the_plan_and_the_picture(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    assert main(["scaling", "--plot", str(tmp_path / "s.png")]) == 0
    assert (tmp_path / "s.png").read_bytes().startswith(b"\x89PNG")
    assert "\n\n".join(published()[1:]) == capsys.readouterr().out.strip()


def published():
    """The tables of docs/scaling.md: what was measured, then those of the plan."""
    text = (ROOT / "docs/scaling.md").read_text()
    return [block.strip("\n") for block in re.findall(r"```text\n(.*?)```", text, re.DOTALL)]


# -- measured ----------------------------------------------------------------------------------


class Counting(Communicator):
    """Two ranks that both have the same array."""

    size = 2

    def __init__(self):
        self.calls = 0

    def all_reduce(self, array):
        self.calls += 1
        array *= 2

    start_all_reduce = None  # must not be called


def test_an_all_reduce_can_be_put_off_left_out_or_slowed_down():
    inner, array = Counting(), np.ones(2500, np.float32)
    watched = rank.Watched(inner)
    watched.way = "none"
    watched.start_all_reduce(array).wait()
    assert (inner.calls, array[0]) == (0, 1)
    watched.way = "after"
    work = watched.start_all_reduce(array)
    assert inner.calls == 0
    work.wait()
    assert (inner.calls, array[0]) == (1, 2)
    watched.way, start = "slow", time.perf_counter()
    works = [watched.start_all_reduce(array) for _ in range(3)]
    assert inner.calls == 1
    for work in works:
        work.wait()
    assert time.perf_counter() - start >= 3 * (2 * 50e-6 + 10_000 / 125e6)
    assert [size for _, size in watched.log] == [10_000] * 5


def test_steps_of_one_process():
    blocks = [("all", "alone", 1), ("share", "alone", 0.5)]
    found = rank.steps("lenet", blocks, "cpu", rank.Watched(SINGLE), 0)
    assert found["gradients"] == 4 * 61_706
    assert found["steps"] == 2
    for title, _, _ in blocks:
        assert 1e-5 < found[title]["seconds"] < 10
        assert found[title]["bytes"] == []


def test_the_model_of_what_was_measured():
    """Two buckets, after 3 and 5 s; an all-reduce takes 1 s and 1 for each byte."""
    blocks = {"none": {"seconds": 6.0, "ready": [3.0, 5.0], "bytes": [1, 2]}}
    assert measure.observed(blocks["none"]) == Step([Piece(3, 1), Piece(2, 2)], 1)
    times = measure.predicted(blocks, (1, 1), 2)
    assert times["none"] == [6]
    assert times["after"] == [6 + 5]
    assert times["overlap"] == [6 + 3, 6 + 5]


def test_the_best_round():
    turns = [{"a": {"seconds": s, "ready": [s, 1], "bytes": [4]}} for s in (3.0, 1.0, 2.0)]
    (found,) = measure.merged(turns).values()
    assert found == {"seconds": 1, "ready": [1, 1], "bytes": [4], "spread": [3, 1, 2]}


def test_published_figures_are_those_of_the_stored_report(capsys):
    assert main(["distributed", "--show", str(STORED)]) == 0
    assert published()[0] == capsys.readouterr().out.strip()
    report = json.loads(STORED.read_text())
    for network in rank.NETWORKS:
        for lane in ("ranks", "tcp"):
            blocks = report["lanes"][lane][network]
            assert (
                blocks["gradients"] <= sum(blocks["overlap"]["bytes"]) < 1.02 * blocks["gradients"]
            )


@pytest.mark.exhaustive
def test_the_command(tmp_path, capsys):
    pytest.importorskip("mpi4py")
    if measure.mpiexec() is None:
        pytest.skip("mpiexec is not installed")
    path = tmp_path / "d.json"
    assert main(["distributed", "--quick", "--network", "lenet", "--json", str(path)]) == 0
    printed = capsys.readouterr().out
    assert main(["distributed", "--show", str(path)]) == 0
    assert capsys.readouterr().out == printed
    assert "2 ranks of 1 thread" in printed
    wire = json.loads(path.read_text())["lanes"]["tcp"]["lenet"]["overlap"]["wire"]
    assert 0.9 < wire / (4 * 61_706) < 1.5  # 2 (P - 1) / P of the gradients, and headers
