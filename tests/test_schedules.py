"""Learning-rate schedules against their formulas and PyTorch."""

import math

import numpy as np
import pytest

import xcnn
from xcnn import optim
from xcnn.errors import ArgumentError
from xcnn.schedules import CosineAnnealingLR


def optimizer(lr=0.1):
    return optim.SGD([xcnn.Parameter(np.zeros(2, np.float32))], lr=lr)


def rates(schedule, steps):
    found = [schedule.optimizer.lr]
    for _ in range(steps):
        schedule.step()
        found.append(schedule.optimizer.lr)
    return found


def test_cosine_goes_from_the_first_rate_to_the_lowest():
    found = rates(CosineAnnealingLR(optimizer(), 4, eta_min=0.02), 4)
    half = 0.08 / 2
    expected = [0.1, 0.06 + half / math.sqrt(2), 0.06, 0.06 - half / math.sqrt(2), 0.02]
    assert found == pytest.approx(expected, rel=1e-12)


def test_cosine_equals_pytorch():
    torch = pytest.importorskip("torch")
    theirs = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.3)
    peer = torch.optim.lr_scheduler.CosineAnnealingLR(theirs, 7, eta_min=0.01)
    expected = [0.3]
    for _ in range(10):
        theirs.step()
        peer.step()
        expected.append(peer.get_last_lr()[0])
    found = rates(CosineAnnealingLR(optimizer(0.3), 7, eta_min=0.01), 10)
    assert found == pytest.approx(expected, rel=1e-9)


def test_no_steps_are_refused():
    with pytest.raises(ArgumentError, match="T_max=0"):
        CosineAnnealingLR(optimizer(), 0)
