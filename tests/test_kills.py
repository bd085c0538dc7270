"""A short form of ``python -m tests.kills``."""

import os
import signal

import pytest

from . import kills

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


@pytest.mark.parametrize(
    ("number", "count"),
    [(signal.SIGKILL, 6), pytest.param(signal.SIGTERM, 6, marks=pytest.mark.exhaustive)],
)
def test_a_run_that_is_killed_loses_nothing(tmp_path, number, count):
    found = kills.try_kills(count, number, seed=0, where=tmp_path)
    assert found["kills"] == count
    assert found["finished"] > 0
    assert {name: found[name] for name in ("inconsistent", "lost", "different", "left")} == {
        "inconsistent": 0,
        "lost": 0,
        "different": 0,
        "left": 0,
    }
