"""Sums of an epoch: those of several processes are those of one."""

import math

import numpy as np
import pytest

from xcnn import metrics, nn
from xcnn.communicator import Communicator
from xcnn.errors import StateDictError
from xcnn.tasks.generative import ELBOLoss
from xcnn.tensor import Tensor
from xcnn.training import Trainer
from xcnn.training.arguments import CustomLoss
from xcnn.training.ranks import Ranks
from xcnn.training.totals import Step, Totals

from .conftest import normal, through_json

N = 17
LOGITS, IMAGES = normal(N, 4, 3), normal(N, 3, 2, 2)
LABELS = np.random.default_rng(1).integers(0, 4, (N, 3))
LABELS[LABELS == 2] = -100
WEIGHT = np.array([0.5, 0, 2, 1.25])
CODE = {"logits": IMAGES, "mean": normal(N, 5, seed=1), "logvar": normal(N, 5, seed=2)}
CASES = {
    "classes": (nn.CrossEntropyLoss, LOGITS, LABELS, ["f1", "auroc", "loss"]),
    "weighted": (lambda w: nn.CrossEntropyLoss(weight=w), LOGITS, LABELS, ["accuracy"]),
    "sum": (lambda: nn.CrossEntropyLoss(reduction="sum"), LOGITS, LABELS, []),
    "binary": (nn.BCEWithLogitsLoss, LOGITS[:, 0], (LABELS > 0) * 1.0, ["iou"]),
    "values": (nn.MSELoss, IMAGES, normal(N, 3, 2, 2, seed=3), ["r2", "mae"]),
    "custom": (
        lambda: CustomLoss(lambda x, y: (x["a"] - y[0]).abs().mean() + (x["b"] * y[1]).mean()),
        {"a": IMAGES, "b": LOGITS},
        (IMAGES[::-1], LOGITS[::-1]),
        [],
    ),
    "pictures": (ELBOLoss, CODE, 1 / (1 + np.exp(-IMAGES)), ["kl"]),
}


class Together(Communicator):
    """Gives each call of gather the values of all ranks, which were collected before."""

    def __init__(self, values):
        self.values, self.size = values, len(values)

    def gather(self, value):
        np.testing.assert_equal(value, self.values[self.rank])
        return self.values


def each(function, value):
    """A function of all arrays in dicts and tuples."""
    if isinstance(value, dict):
        return {k: each(function, v) for k, v in value.items()}
    return tuple(each(function, v) for v in value) if isinstance(value, tuple) else function(value)


def measured(backend, case, slices):
    """The totals of some slices of the examples, each a batch."""
    make, output, target, names = case
    loss = make(backend.asarray(WEIGHT)) if case is CASES["weighted"] else make()
    found = {n: metrics.create(n, loss) for n in names}
    totals = Totals(loss, {"own" if n == "accuracy" else n: m for n, m in found.items()})
    for rows in slices:
        x = each(lambda a, r=rows: Tensor(backend.asarray(a[r])), output)
        y = each(lambda a, r=rows: backend.asarray(a[r]), target)
        with backend.active(), np.errstate(all="ignore"):
            totals.add(Step(loss(x, y), x, y, len(range(N)[rows])))
    return totals


def close(found, expected):
    names = [found.loss(), found.accuracy() or 0, *found.values("").values()]
    others = [expected.loss(), expected.accuracy() or 0, *expected.values("").values()]
    assert np.isfinite(names).all()
    np.testing.assert_allclose(names, others, rtol=1e-12)


BATCHES = [(0, 6), (6, 7), (7, 12), (12, 15), (15, 17)]


@pytest.mark.parametrize("name", CASES)
def test_totals_of_several_processes(backend, name):
    """Each has a contiguous slice of every batch, sometimes an empty one."""
    case = CASES[name]
    expected = measured(backend, case, [slice(0, N)])
    for count in (2, 5):
        parts = []
        for k in range(count):
            slices = [
                slice(a + k * (b - a) // count, a + (k + 1) * (b - a) // count) for a, b in BATCHES
            ]
            parts.append(measured(backend, case, slices))
        states = [part.states(Communicator())[0] for part in parts]
        merged = parts[0].merged(Together(states))
        close(merged, expected)
        again = measured(backend, case, [])
        again.load_state_dict(merged.state_dict(), backend.asarray)
        close(again, expected)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_going_on_with_another_number_of_processes(backend, count):
    """With the same number, each has its own sums again, bit for bit."""
    case = CASES["values"]
    parts = [measured(backend, case, [slice(k, N, 2)]) for k in range(2)]
    saved = Ranks(Together([part.states(Communicator())[0] for part in parts])).states(parts[0])
    saved = through_json(saved)
    loaded = []
    for rank in range(count):
        totals, communicator = measured(backend, case, []), Together([{}] * count)
        communicator.rank = rank
        Ranks(communicator).load(totals, saved, backend.asarray)
        loaded.append(totals.states(Communicator())[0])
    if count == 2:
        np.testing.assert_equal(loaded, saved)
    whole = measured(backend, case, [])
    whole.load_states(loaded)
    close(whole, measured(backend, case, [slice(0, N)]))


def test_metrics_that_cannot_be_merged_are_refused_before_the_training():
    class Counting(metrics.Metric):
        name = "counting"

        def reset(self):
            self.seen = 0

    settings = {"loss": "mse", "metrics": [Counting(), "r2", "mae"]}
    del metrics.metric.BY_NAME["counting"]
    assert Trainer(nn.Linear(2, 1), **settings).ranks.is_alone
    with pytest.raises(StateDictError, match="'counting' cannot be merged: Counting has its own"):
        Trainer(nn.Linear(2, 1), **settings, distributed=Together([{}] * 2))


def test_processes_without_examples(backend):
    empty = measured(backend, CASES["classes"], [slice(3, 3)])
    states = empty.states(Communicator()) * 2
    empty.load_states(states)
    assert math.isnan(empty.loss())
    assert math.isnan(empty.accuracy())
    assert all(map(math.isnan, empty.values("").values()))


def test_going_on_does_not_lose_small_terms(backend):
    """Sums of the processes before are in float64, the next batches' in float32 of their own."""
    totals = measured(backend, CASES["values"], [])
    totals.load_states([{"batches": 1, "sums": [{"loss": 2.0**30, "divisor": 1}], "metrics": {
        name: {} for name in ("r2", "mae")}}])  # fmt: skip
    one = np.ones((1, 1), "float32")
    x, y = Tensor(backend.asarray(one)), backend.asarray(0 * one)
    totals.add(Step(nn.MSELoss()(x, y), x, y, 1))
    assert totals.loss() == (2.0**30 + 1) / 2


@pytest.mark.parametrize(("last", "expected"), [(-math.inf, math.nan), (math.inf, math.inf)])
def test_losses_that_are_not_finite(last, expected):
    totals = measured(Tensor([0.0]).backend, CASES["sum"], [])
    sums = [{"loss": v, "divisor": 1} for v in (math.inf, last)]
    totals.load_states([{"batches": 1, "sums": [own], "metrics": {}} for own in sums])
    np.testing.assert_equal(totals.loss(), expected)
