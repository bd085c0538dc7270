"""``python -m benchmarks.plain_numpy``."""

import importlib.util
import math

import pytest

from benchmarks import plain_numpy


@pytest.mark.parametrize("make", [plain_numpy.xcnn_step, plain_numpy.pydynet_step])
def test_a_step_learns(make):
    if make is plain_numpy.pydynet_step:
        pytest.importorskip("pydynet")
    step, runs_on = make(batch=4)
    losses = [step() for _ in range(24)]
    assert all(math.isfinite(loss) for loss in losses)
    assert sum(losses[-4:]) < sum(losses[:4])
    assert "numpy" in runs_on


def test_without_the_peer(monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert plain_numpy.main([]) == 2
    assert "pip install pydynet" in capsys.readouterr().err
