"""Communication over MPI, in real processes."""

import pytest

from . import launch


@pytest.mark.parametrize(
    "ranks",
    [
        2,
        pytest.param(3, marks=pytest.mark.exhaustive),
        pytest.param(4, marks=pytest.mark.exhaustive),
    ],
)
def test_collective_calls(ranks):
    values = launch.run("tests.distributed.checks", ranks)
    assert values["check_ranks"] == [[rank, ranks] for rank in range(ranks)]
