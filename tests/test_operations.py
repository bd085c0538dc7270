"""How many operations a training step queues on a GPU, counted on the stand-in.

A small network's step takes as long as the host needs to queue them, and that is proportional to
their number.
"""

import numpy as np
import pytest

import xcnn
from benchmarks import nets
from xcnn import models, nn, optim
from xcnn.backends import cuda
from xcnn.models import resnet
from xcnn.training.prefetch import on_device
from xcnn.training.totals import Totals

from . import shim
from .conftest import normal
from .strict import count_operations

pytestmark = pytest.mark.skipif(shim.available() is not True, reason=str(shim.available()))


@pytest.fixture(autouse=True)
def as_of_large_batches(monkeypatch):
    """Sums over several blocks, as large arrays need."""
    monkeypatch.setattr(cuda, "BLOCK", 32)


def step_of(strict, model, shape, average=False, before=lambda: None, **settings):
    """What the third of a few training steps queues, with the sums for its loss and accuracy."""
    model.to(strict)
    optimizer = optim.SGD(model.parameters(), lr=0.01)
    trainer = xcnn.Trainer(model, optimizer, **settings)
    totals, means = Totals(trainer.loss, {}), optim.EMA(model)
    batch = normal(2, *shape, dtype="float32"), np.arange(2) % 10
    with strict.active():
        copied = on_device([batch] * 3, strict, "float32", strict.slots())
        for number, ((_, labels), (x, y)) in enumerate(copied):
            before()
            with count_operations() as operations:
                totals.add(trainer.train_step(x, y, labels))
                if average:
                    means.update()
            assert number < 2 or not {"to device", "to host"} & set(operations)
    return operations


def narrow_resnet18():
    """With an eighth of the channels, which changes no operation; all take 12 s here."""
    conv1 = nn.Conv2d(3, 8, 7, stride=2, padding=3, bias=False)
    pool = nn.MaxPool2d(3, stride=2, padding=1)
    stages = resnet._stages(conv1, resnet.BasicBlock, (2, 2, 2, 2), maxpool=pool)
    return resnet._with_classifier(*stages, 10)


@pytest.mark.parametrize(
    ("network", "shape", "limit"),
    [
        (lambda: models.lenet5(), (1, 28, 28), 45),
        (lambda: nets.vgg(nn), (3, 32, 32), 70),
        (narrow_resnet18, (3, 32, 32), 265),
    ],
    ids=["LeNet-5", "VGG-like", "ResNet-18"],
)
def test_a_warm_step_keeps_its_budget(strict, network, shape, limit):
    operations = step_of(strict, network(), shape)
    assert sum(operations.values()) <= limit, operations


def test_float16_takes_a_few_more(strict):
    """The images, the weights and the output are cast, the gradients all at once."""
    single, half = (
        step_of(strict, models.lenet5(), (1, 28, 28), precision=p) for p in ("float32", "float16")
    )
    assert half["widen_gradients"] == 1
    more = sum(half.values()) - sum(single.values())
    assert more <= 25, half - single


def test_clipping_and_averages_do_not_depend_on_the_number_of_parameters(strict):
    plain = step_of(strict, models.lenet5(), (1, 28, 28))
    both = step_of(strict, models.lenet5(), (1, 28, 28), clip_norm=1.0, average=True)
    assert dict(both - plain) == {"square_sums": 1, "sum": 1, "clip_norm": 1, "average": 1}
