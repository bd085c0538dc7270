"""Several ranks train as one process, to rounding, and go on as if they had never stopped."""

import os

import numpy as np
import pytest

from xcnn import Trainer, nn
from xcnn.communicator import Communicator, Work, using
from xcnn.errors import ArgumentError
from xcnn.training.ranks import Ranks
from xcnn.training.totals import Totals

from . import launch, trainings

TRAININGS = ["check_lenet", "check_resnet", "check_function", "check_streamed", "check_whole"]
TRAININGS += ["check_finished", "check_evaluated"]
RANKS = [2, pytest.param(3, marks=pytest.mark.exhaustive)]
OF_FOUR = ["check_lenet", "check_resnet", "check_resumed_elsewhere"]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """The results of ``ranks`` ranks, by check and rank; the numbers of ranks in their order."""
    folder = tmp_path_factory.getbasetemp()
    folder = (folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder) / "trainings"
    folder.mkdir(exist_ok=True)
    settings = {"variables": {"XCNN_TEST_FOLDER": str(folder)}, "timeout": 120}

    def find(ranks):
        for count in range(2, ranks + 1):  # each goes on where the one before it left off
            checks = OF_FOUR if count == 4 else ()
            found = launch.run_once(
                folder, "tests.distributed.trainings", count, checks=checks, **settings
            )
        return found

    return find


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The results of one process, by check."""
    known = {}

    def find(check):
        if check not in known:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(trainings, "FOLDER", tmp_path_factory.mktemp("alone"))
                known[check] = getattr(trainings, check)(Communicator())
        return known[check]

    return find


def assert_close(found, expected, tolerance=1e-6):
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        values, own = np.array(values, float), np.array(found[name], float)
        assert own.shape == values.shape, name
        assert np.abs(own - values).max() <= tolerance * np.abs(values).max(), name


@pytest.mark.parametrize("check", TRAININGS)
@pytest.mark.parametrize("ranks", RANKS)
def test_ranks_train_as_one(outcomes, alone, check, ranks):
    for found in outcomes(ranks)[check]:  # the same on all
        assert found == outcomes(ranks)[check][0]
        assert_close(found, alone(check))
        if check in ("check_lenet", "check_resnet", "check_streamed"):
            assert found["steps"] >= 50


def test_rank_0_prints_a_line_for_each_epoch(outcomes):
    first, second = outcomes(2)["check_shown"]
    assert [line.split(":")[0] for line in first.splitlines()] == ["epoch 1/2", "epoch 2/2"]
    assert second == ""


@pytest.mark.parametrize("ranks", RANKS)
def test_repeated_bit_for_bit(outcomes, ranks):
    results = outcomes(ranks)
    assert results["check_again"] == results["check_lenet"]


@pytest.mark.parametrize("ranks", RANKS)
def test_resumed_bit_for_bit(outcomes, ranks):
    whole, resumed = outcomes(ranks)["check_whole"][0], outcomes(ranks)["check_resumed"][0]
    assert len(resumed.pop("losses")) < len(whole["losses"])  # of this fit
    assert resumed == {k: v for k, v in whole.items() if k != "losses"}


@pytest.mark.exhaustive
def test_four_ranks(outcomes, alone):
    for check in OF_FOUR[:2]:
        for found in outcomes(4)[check]:
            assert_close(found, alone(check))


@pytest.mark.exhaustive
@pytest.mark.parametrize("ranks", [3, 4])
def test_resumed_by_another_number_of_ranks(outcomes, alone, ranks):
    for found in outcomes(ranks)["check_resumed_elsewhere"]:
        found.pop("losses")
        whole = {k: v for k, v in alone("check_whole").items() if k != "losses"}
        assert_close(found, whole)


@pytest.mark.parametrize("ranks", RANKS)
def test_ranks_that_differ(outcomes, ranks):
    last = ranks - 1
    first = "ranks 0, 1" if ranks == 3 else "rank 0"
    for found in outcomes(ranks)["check_refused"]:
        assert "CommunicationError: the ranks differ in the settings of the loader" in found["seed"]
        assert "the ranks differ in the data: " in found["data"]
        assert f"rank {last}: " in found["data"]
        if ranks < 4:
            assert f"{first}: 40 items, " in found["data"]
        assert "the ranks differ in the validation data: " in found["validation"]
        assert "the ranks differ in the loss" in found["loss"]
        assert "the ranks differ in the callbacks" in found["callbacks"]
        assert f"pass at least {ranks}" in found["batch"]
        assert found["nan"].startswith("DivergenceError")
        assert f"the loss is nan on rank {last} in batch 3 of epoch 1" in found["nan"]
        assert "the ranks differ in the weight" in found["weights"]
        assert "some ranks have fewer batches than others" in found["length"]


class Pair(Communicator):
    """Rank 0 of 2; the other rank, which does not exist, has three examples of each batch."""

    size = 2
    calls = 0

    def start_all_reduce(self, array):
        self.calls += 1
        array[1] = 3
        return Work()


def test_empty_part_is_explained():
    part = Ranks(Pair()).part(np.zeros((0, 4)), np.zeros(0))
    with pytest.raises(ValueError, match="of size 0") as caught, part:
        np.zeros((0, 4)).reshape(0, -1)
    assert "rank 0 has none of the 3 examples of this batch" in caught.value.__notes__[0]


def test_trainings_of_one_rank():
    """Beside a distributed one: its batch norm is not that of all ranks."""
    model = nn.Sequential(nn.Linear(3, 4), nn.SyncBatchNorm(4))
    x, y = np.random.default_rng(0).standard_normal((6, 3)), np.arange(6) % 4
    pair = Pair()
    with using(pair):
        Trainer(model, "sgd").train_step(x, y)
    assert pair.calls == 0


def test_no_checkpoint_of_one_rank(tmp_path):
    trainer = Trainer(nn.Linear(3, 4), "sgd", distributed=Pair())
    trainer._totals = Totals(trainer.loss, {})
    with trainer.ranks.alone(), pytest.raises(ArgumentError, match="without main_only"):
        trainer.save(tmp_path / "a.safetensors")
